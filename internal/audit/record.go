package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A Kind says what a record is. Of each call there is exactly one final
// record, an outcome or a denied.
type Kind string

// The kinds.
const (
	// KindIntent is written before a call is sent upstream.
	KindIntent Kind = "intent"
	// KindOutcome is final: it says what became of a call. It names its
	// intent, unless the call was answered without one.
	KindOutcome Kind = "outcome"
	// KindDenied is final: the call was refused, and has no intent.
	KindDenied Kind = "denied"
	// KindEvent is about the log or the process, not about a call.
	KindEvent Kind = "event"
)

// An Outcome says in a final record what is known of the call's effect.
type Outcome string

// The outcomes.
const (
	OutcomeOK     Outcome = "ok"
	OutcomeFailed Outcome = "failed"
	// OutcomeIndeterminate: the call was sent, and may or may not have acted.
	OutcomeIndeterminate Outcome = "indeterminate"
	// OutcomeNotSent: the call never left, so it has not acted.
	OutcomeNotSent Outcome = "not_sent"
)

// The events that the log writes by itself. Users may write others.
const (
	// EventSegment is the first record of each segment. Its detail says what
	// came before: see header.
	EventSegment = "segment_opened"
	// EventStarted and EventStopped are the first and last of a process.
	EventStarted = "started"
	EventStopped = "stopped"
	// EventRecovered: the last segment of a process that crashed ended in a
	// torn write, which was moved to a file of its own.
	EventRecovered = "recovered"
	// EventGap: appends were refused, such as on a full disk. It says how many,
	// since when and why, and how many final records were lost for good.
	EventGap = "gap"
	// EventScarce: so little space is left that refusals without a caller are
	// only counted, until EventAmple. A process that dies in between loses the
	// count of the last ten seconds.
	EventScarce = "space_scarce"
	EventAmple  = "space_ample"
	// EventAlarm: someone else has touched the log's files.
	EventAlarm = "alarm"
	// EventRemoved: retention is about to remove the oldest segment. Its detail
	// says which, and where it is archived: see removal.
	EventRemoved = "segment_removed"
)

// A Record is one line of the log. In JSON it has no key for what is empty,
// except seq, id, time and kind.
//
// Whatever a caller can influence is bounded: see the limits of the package.
type Record struct {
	// Seq counts the records from 0 without a gap. It is the index of the leaf
	// in the Merkle tree. The log sets it.
	Seq uint64 `json:"seq"`
	// ID is unique. The log makes one if it is empty.
	ID string `json:"id"`
	// Time is set by the log if it is zero. The log stands in the order of Seq;
	// times may be slightly out of order.
	Time time.Time `json:"time"`
	Kind Kind      `json:"kind"`

	// RequestID is the server's own name for the call, ClientRequestID its
	// caller's.
	RequestID string `json:"request_id,omitempty"`
	// Intent of an outcome is the ID of its intent. It is empty for a call that
	// was never sent upstream, such as a reflection stream.
	Intent          string `json:"intent,omitempty"`
	ClientRequestID string `json:"client_request_id,omitempty"`
	Caller          string `json:"caller,omitempty"`
	Team            string `json:"team,omitempty"`
	Tenant          string `json:"tenant,omitempty"`
	Credential      string `json:"credential,omitempty"`
	// Procedure is "/package.Service/Method", with or without the first slash.
	Procedure string `json:"procedure,omitempty"`
	Door      string `json:"door,omitempty"`
	Peer      string `json:"peer,omitempty"`
	// PolicyRevision and Rule say which policy decided, and which rule of it.
	PolicyRevision string `json:"policy_revision,omitempty"`
	Rule           string `json:"rule,omitempty"`
	// Path holds the path values, in the order of the template; Request holds
	// other fields of the request. What of them, and whether in clear, is for the
	// configuration to say.
	Path    Fields `json:"path,omitempty"`
	Request Fields `json:"request,omitempty"`
	// Reason is what the caller states in C1proxy-Reason.
	Reason string `json:"reason,omitempty"`

	// Error is the machine-readable reason of a refusal or failure, and Field
	// the request field that it is about.
	Error string `json:"error,omitempty"`
	Field string `json:"field,omitempty"`
	// UpstreamCredential names the credential of c1proxy's with which the call
	// goes, or went, upstream. It is no secret.
	UpstreamCredential string `json:"upstream_credential,omitempty"`
	// UpstreamStatus is the last HTTP status from upstream. Attempts holds that
	// of each exchange, 0 for one that got none.
	UpstreamStatus int   `json:"upstream_status,omitempty"`
	Attempts       []int `json:"attempts,omitempty"`
	// Code is the name of the RPC code that was answered, "ok" included.
	Code string `json:"code,omitempty"`
	// Outcome is set in final records only.
	Outcome Outcome `json:"outcome,omitempty"`
	// ClientGone: the caller left before the answer.
	ClientGone bool `json:"client_gone,omitempty"`
	// Duration is encoded as duration_us, in whole microseconds.
	Duration time.Duration `json:"-"`

	// Event names an event. Detail may go with any record, such as the count
	// of a record that stands for several refusals.
	Event  string            `json:"event,omitempty"`
	Detail map[string]string `json:"detail,omitempty"`
	// Truncated names the fields that were cut; a caller may name those that it
	// has cut itself. What a cut looks like: see the limits of the package.
	Truncated []string `json:"truncated,omitempty"`
}

// A Field is a named value.
type Field struct{ Name, Value string }

// Fields are encoded as one JSON object, in their order.
type Fields []Field

// MarshalJSON writes the object.
func (f Fields) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, field := range f {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, field.Name), ':')
		b = appendQuoted(b, field.Value)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads the object in its order.
func (f *Fields) UnmarshalJSON(data []byte) error {
	*f = nil
	dec := json.NewDecoder(bytes.NewReader(data))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return errors.Join(errors.New("read fields: not an object"), err)
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return fmt.Errorf("read fields: %w", err)
		}
		var value string
		if err := dec.Decode(&value); err != nil {
			return fmt.Errorf("read fields: %w", err)
		}
		*f = append(*f, Field{Name: name.(string), Value: value})
	}
	return nil
}

// MarshalJSON writes the record as it stands in the log.
func (r Record) MarshalJSON() ([]byte, error) { return appendRecord(make([]byte, 0, 1024), &r), nil }

// UnmarshalJSON reads a record with its keys in any order.
func (r *Record) UnmarshalJSON(data []byte) error {
	type plain Record
	aux := struct {
		*plain
		Microseconds int64 `json:"duration_us"`
	}{plain: (*plain)(r)}
	if err := json.Unmarshal(data, &aux); err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	r.Duration = time.Duration(aux.Microseconds) * time.Microsecond
	return nil
}

// check returns an error, an [ErrInvalid], for a record that would break what
// the log promises to its readers. Only a mistake in the program makes one.
func (r *Record) check() error {
	switch {
	case r.Kind != KindIntent && r.Kind != KindOutcome && r.Kind != KindDenied && r.Kind != KindEvent:
		return fmt.Errorf("%w: kind %q", ErrInvalid, r.Kind)
	case r.ID != "" && !isName(r.ID, maxID) || r.Intent != "" && !isName(r.Intent, maxID):
		return fmt.Errorf("%w: id %.200q, intent %.200q", ErrInvalid, r.ID, r.Intent)
	case r.Intent != "" && r.Kind != KindOutcome:
		return fmt.Errorf("%w: only an outcome names an intent", ErrInvalid)
	case (r.Kind == KindOutcome) != (r.Outcome != "") && r.Kind != KindDenied:
		return fmt.Errorf("%w: kind %s with outcome %q", ErrInvalid, r.Kind, r.Outcome)
	case r.Outcome != "" && r.Outcome != OutcomeOK && r.Outcome != OutcomeFailed && r.Outcome != OutcomeIndeterminate && r.Outcome != OutcomeNotSent:
		return fmt.Errorf("%w: outcome %q", ErrInvalid, r.Outcome)
	case (r.Kind == KindEvent) != (r.Event != ""):
		return fmt.Errorf("%w: kind %s with event %q", ErrInvalid, r.Kind, r.Event)
	case r.Duration < 0:
		return fmt.Errorf("%w: duration %v", ErrInvalid, r.Duration)
	case !r.Time.IsZero() && (r.Time.UTC().Year() < 1 || r.Time.UTC().Year() > 9999):
		return fmt.Errorf("%w: year %d", ErrInvalid, r.Time.UTC().Year())
	}
	return r.checkNames()
}

// checkNames checks the names that become keys, which nothing may cut.
func (r *Record) checkNames() error {
	for _, fields := range []Fields{r.Path, r.Request} {
		for _, f := range fields {
			if !isName(f.Name, maxName) {
				return fmt.Errorf("%w: path or request name %.200q", ErrInvalid, f.Name)
			}
		}
	}
	for name := range r.Detail {
		if !isName(name, maxName) {
			return fmt.Errorf("%w: detail name %.200q", ErrInvalid, name)
		}
	}
	for _, name := range r.Truncated {
		if !isName(name, maxTruncatedName) {
			return fmt.Errorf("%w: truncated name %.200q", ErrInvalid, name)
		}
	}
	return nil
}

// isName tells whether s has 1 to most bytes that need no escape in JSON and
// show in a terminal.
func isName(s string, most int) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return 0 < len(s) && len(s) <= most
}

// identity returns a record with what r says of its call's identity, and
// nothing of its fate.
func (r *Record) identity() *Record {
	return &Record{
		RequestID: r.RequestID, ClientRequestID: r.ClientRequestID,
		Caller: r.Caller, Team: r.Team, Tenant: r.Tenant, Credential: r.Credential,
		Procedure: r.Procedure, Door: r.Door, Peer: r.Peer,
		PolicyRevision: r.PolicyRevision, Rule: r.Rule,
		Path: append(Fields(nil), r.Path...), Request: append(Fields(nil), r.Request...), Reason: r.Reason,
		UpstreamCredential: r.UpstreamCredential,
		Truncated:          append([]string(nil), r.Truncated...),
	}
}
