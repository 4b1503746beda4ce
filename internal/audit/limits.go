package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"unicode/utf8"
)

// The limits of a record. They hold whatever bytes a caller sends, because
// they count encoded bytes: a control character takes six.
//
// A value that is too long is cut at the end of a character, and this is put
// after it:
//
//	…[sha256:<64 hex digits of the whole value>,<its length> bytes]
//
// The value with that mark fits its limit, and its name stands in truncated:
// "reason", "path.app_id", "detail.cause". Only that list tells a mark from a
// value that looks like one. Of a list that is too long the rest is left out,
// and "path", "request", "detail" or "attempts" stands in truncated.
const (
	// MaxRecord bounds an encoded record, in bytes, without the newline.
	MaxRecord = 16 << 10
	// MaxName bounds a name in path, request or detail.
	MaxName = 48

	maxText     = 256  // each string value that has no limit of its own
	maxUpstream = 128  // of the credential that goes upstream, so that a record has room for it
	maxReason   = 1024 // of C1proxy-Reason, which may have 512 bytes before they are encoded
	maxPath     = 6
	maxRequest  = 8
	maxDetail   = 12
	maxAttempts = 16

	// Longer ones of these are refused, not cut.
	maxID            = 64 // id and intent, which must match
	maxName          = MaxName
	maxTruncated     = 16 // names in truncated that a record may come with
	maxTruncatedName = maxName + len("request.")
)

// A text is one string field: its key, its limit and its place. The tables of
// texts are the order of the encoding, for the encoder and the parser alike.
type text struct {
	key   string // `,"team":`
	name  string
	limit int
	of    func(*Record) *string
	// unique: other records rarely have the same.
	unique bool
}

func newText(name string, limit int, of func(*Record) *string) text {
	return text{key: `,"` + name + `":`, name: name, limit: limit, of: of}
}

// newUniqueText is newText for one that rarely stands in two records.
func newUniqueText(name string, limit int, of func(*Record) *string) text {
	t := newText(name, limit, of)
	t.unique = true
	return t
}

var (
	// textsOfCall stand after kind, before path.
	textsOfCall = []text{
		newUniqueText("request_id", maxText, func(r *Record) *string { return &r.RequestID }),
		newUniqueText("intent", maxID, func(r *Record) *string { return &r.Intent }),
		newUniqueText("client_request_id", maxText, func(r *Record) *string { return &r.ClientRequestID }),
		newText("caller", maxText, func(r *Record) *string { return &r.Caller }),
		newText("team", maxText, func(r *Record) *string { return &r.Team }),
		newText("tenant", maxText, func(r *Record) *string { return &r.Tenant }),
		newText("credential", maxText, func(r *Record) *string { return &r.Credential }),
		newText("procedure", maxText, func(r *Record) *string { return &r.Procedure }),
		newText("door", maxText, func(r *Record) *string { return &r.Door }),
		newUniqueText("peer", maxText, func(r *Record) *string { return &r.Peer }),
		newText("policy_revision", maxText, func(r *Record) *string { return &r.PolicyRevision }),
		newText("rule", maxText, func(r *Record) *string { return &r.Rule }),
	}
	// textsOfRefusal stand after path, before upstream_status.
	textsOfRefusal = []text{
		newUniqueText("reason", maxReason, func(r *Record) *string { return &r.Reason }),
		newText("error", maxText, func(r *Record) *string { return &r.Error }),
		newText("field", maxText, func(r *Record) *string { return &r.Field }),
		newText("upstream_credential", maxUpstream, func(r *Record) *string { return &r.UpstreamCredential }),
	}
	// textsOfOutcome stand after attempts, before client_gone.
	textsOfOutcome = []text{
		newText("code", maxText, func(r *Record) *string { return &r.Code }),
		newText("outcome", maxText, func(r *Record) *string { return (*string)(&r.Outcome) }),
	}
	// textsOfEvent stand after duration_us, before detail.
	textsOfEvent = []text{
		newText("event", maxText, func(r *Record) *string { return &r.Event }),
	}
)

// appendCut appends what fits of s within limit encoded bytes, its mark
// included.
func appendCut(b []byte, s string, limit int) []byte {
	sum := sha256.Sum256([]byte(s))
	mark := "…[sha256:" + hex.EncodeToString(sum[:]) + "," + strconv.Itoa(len(s)) + " bytes]"
	end := len(b) + limit - len(mark)
	for i := 0; i < len(s); {
		_, n := utf8.DecodeRuneInString(s[i:])
		before := len(b)
		if b = appendEscaped(b, s[i:i+n]); len(b) > end {
			b = b[:before]
			break
		}
		i += n
	}
	return append(b, mark...)
}
