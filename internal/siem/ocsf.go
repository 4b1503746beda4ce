package siem

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/route"
)

// ocsfVersion is the version of the schema that the events are made by
// (https://schema.ocsf.io, 3 August 2026).
const ocsfVersion = "1.9.0"

const product = "c1proxy"

// An OCSF writes records as events of the Open Cybersecurity Schema Framework.
//
// Of a call, each record is an API Activity (6003). Its status is Success or
// Failure; Unknown (0) is what may or may not have acted; Other (99), "Intent",
// is a call that is about to be sent. So one call is one or two events, with
// the same metadata.correlation_uid, which is also the X-Request-Id that C1 got,
// and who wants one alone leaves the intents out.
//
// Of the log itself, "alarm" is a Detection Finding (2004), "gap" and
// "recovered" are Application Errors (6008), and everything else is Application
// Lifecycle (6002).
//
// metadata.uid is the record's id and metadata.sequence its number: an event
// that comes twice has the same uid, and a number that is missing is an event
// that is. What has no attribute of its own stands in unmapped under its name in
// the log: nothing of a record is lost.
type OCSF struct {
	origin, version string
	activities      map[string]activity // by procedure, without its first slash
}

// NewOCSF returns an encoder for the log of the origin, written by this version
// of the program. The routes say what the procedures do; of one that is not
// among them nothing is known but its name.
func NewOCSF(routes []*route.Route, origin, version string) *OCSF {
	o := &OCSF{origin: origin, version: version, activities: make(map[string]activity, len(routes))}
	for _, r := range routes {
		o.activities[r.Method()] = activityOf(r)
	}
	return o
}

// Encode implements [Encoder]. An error means that the record is none of a log.
func (o *OCSF) Encode(r *audit.Record) ([]byte, error) {
	e := event{Time: r.Time.UnixMilli(), Metadata: o.metadata(r)}
	s := severityOf(r)
	e.SeverityID, e.Severity = s, severityNames[s]
	if err := e.unmap(r); err != nil {
		return nil, fmt.Errorf("write OCSF event: %w", err)
	}
	if r.Kind == audit.KindEvent {
		o.ofLog(&e, r)
	} else {
		o.ofCall(&e, r)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(&e); err != nil {
		return nil, fmt.Errorf("write OCSF event: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte{'\n'}), nil
}

// metadata is what every event has.
func (o *OCSF) metadata(r *audit.Record) metadata {
	return metadata{
		Version:        ocsfVersion,
		Product:        ocsfProduct{Name: product, VendorName: product, Version: o.version},
		UID:            r.ID,
		Sequence:       r.Seq,
		EventCode:      string(r.Kind),
		LogName:        o.origin,
		OriginalTime:   r.Time.UTC().Format(time.RFC3339Nano),
		CorrelationUID: r.RequestID,
		TenantUID:      r.Tenant,
		IsTruncated:    len(r.Truncated) > 0,
	}
}

// mapped are the members of a record that have attributes of their own and are
// whole there.
var mapped = []string{"seq", "id", "time", "request_id", "tenant"}

// mappedOfCall are more of them, of a call.
var mappedOfCall = []string{"caller", "team", "credential", "procedure", "peer", "policy_revision", "rule", "path", "error", "code"}

// unmap keeps what of a record has no attribute of its own, as it stands in the
// log. So has what a later version of the log adds.
func (e *event) unmap(r *audit.Record) error {
	line, err := r.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(line, &e.Unmapped)
	}
	if err != nil {
		return err
	}
	for _, name := range mapped {
		delete(e.Unmapped, name)
	}
	if r.Kind != audit.KindEvent {
		for _, name := range mappedOfCall {
			delete(e.Unmapped, name)
		}
	}
	return nil
}

// ofCall completes the event of a call.
func (o *OCSF) ofCall(e *event, r *audit.Record) {
	procedure := strings.TrimPrefix(r.Procedure, "/")
	slash := strings.LastIndexByte(procedure, '/')
	method := procedure[slash+1:]
	a := cmp.Or(o.activities[procedure], activityOther)
	e.classify(classAPI, int(a), cmp.Or(activityNames[a], method, "Other"))
	e.API = &api{Operation: cmp.Or(method, "unknown"), Request: &apiRequest{UID: cmp.Or(r.RequestID, "unknown")}}
	if slash > 0 {
		e.API.Service = &named{Name: procedure[:slash]}
	}
	if r.Kind != audit.KindIntent {
		code := codeNumbers[r.Code]
		e.API.Response = &apiResponse{Code: &code, Error: r.Error}
		if r.Code != "" && r.Code != "ok" && code == 0 {
			e.API.Response.Code = nil
		}
	}
	status, name := statusOf(r)
	e.StatusID, e.Status, e.StatusCode, e.StatusDetail = &status, name, r.Code, r.Error
	e.Duration = r.Duration.Milliseconds()
	e.Actor = actorOf(r)
	e.SrcEndpoint = endpointOf(r.Peer)
	for _, f := range r.Path {
		e.Resources = append(e.Resources, resource{UID: f.Value, Type: f.Name})
	}
	e.Message = fmt.Sprintf("%s: %s: %s", e.Actor.User.label(), procedure, cmp.Or(r.Code, string(r.Kind)))
	if r.Error != "" {
		e.Message += " (" + r.Error + ")"
	}
}

// statusOf is what is known of a call's effect.
func statusOf(r *audit.Record) (id int, name string) {
	switch {
	case r.Kind == audit.KindIntent:
		return 99, "Intent"
	case r.Outcome == audit.OutcomeOK:
		return 1, "Success"
	case r.Outcome == audit.OutcomeIndeterminate:
		return 0, "Unknown"
	}
	return 2, "Failure"
}

// actorOf says who called. A user's uid is unique, its name only in its team;
// who was not authenticated has no uid.
func actorOf(r *audit.Record) *actor {
	a := &actor{User: user{Name: r.Caller, TypeID: 0, Type: "Unknown", CredentialUID: r.Credential}}
	if r.Team != "" {
		a.User.Groups = []group{{Name: r.Team, Type: "team"}}
	}
	if r.Caller != "" {
		a.User.UID = r.Team + "/" + r.Caller
	} else {
		a.User.Name = "unauthenticated"
	}
	if r.PolicyRevision != "" || r.Rule != "" {
		decision := ""
		switch {
		case r.Kind != audit.KindDenied:
			decision = "allowed"
		case r.Code == "permission_denied" || r.Code == "unauthenticated":
			decision = "denied"
		}
		a.Authorizations = []authorization{{Decision: decision, Policy: policy{Name: r.Rule, UID: r.PolicyRevision}}}
	}
	return a
}

// ofLog completes the event of the log itself.
func (o *OCSF) ofLog(e *event, r *audit.Record) {
	e.Message = "audit log: " + r.Event
	if strings.HasPrefix(r.Event, "config_") || strings.HasPrefix(r.Event, "limits_") { // of the gateway
		e.Message = product + ": " + r.Event
	}
	switch r.Event {
	case audit.EventAlarm:
		e.classify(classFinding, 1, "Create")
		newly := 1
		e.StatusID, e.Status, e.IsAlert = &newly, "New", true
		e.Finding = &finding{UID: r.ID, Title: "Someone else has touched the audit log's files", CreatedTime: e.Time}
	case audit.EventGap, audit.EventRecovered:
		e.classify(classError, 1, "General Error")
	case audit.EventStarted:
		e.classify(classLifecycle, 3, "Start")
	case audit.EventStopped:
		e.classify(classLifecycle, 4, "Stop")
	default:
		e.classify(classLifecycle, 99, r.Event)
	}
	if e.ClassUID == classLifecycle.uid {
		e.Application = &application{Name: product, UID: o.origin, Version: o.version}
	}
}
