package proxy

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
	"github.com/c1proxy/c1proxy/internal/ratelimit"
	"github.com/c1proxy/c1proxy/internal/telemetry"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// A call is what is known of one request as it travels down the line. One
// goroutine writes it: the stages and serve, in their order. From the intent
// on it is only read, so that a call can be finished after its caller has gone.
//
// It is also the call's ResponseWriter, so as to see the HTTP status.
type call struct {
	http.ResponseWriter
	// binding is the procedure's own, set by the first stage.
	binding *binding
	// edition is the one in which the call began, and to which it is pinned.
	edition *edition
	// id is this server's own name for the call; clientID is the caller's.
	id, clientID string
	// reason is what the caller states in C1proxy-Reason.
	reason string
	// origin is that of the web page that calls, as it says; "" of none.
	origin string
	peer   peer
	door   telemetry.Door
	begun  time.Time
	// who is nil until the caller is authenticated.
	who *principal.Principal
	// rule is the policy's rule that let the call through.
	rule string
	// pending says that the policy must see the request, too.
	pending bool
	// shadow is why the policy would refuse the call, if no rule were in shadow.
	shadow string
	// path holds the path values, once the request has been decoded.
	path audit.Fields
	// request holds what else of the request the records are to hold.
	request audit.Fields
	// strays are what the request held and its message does not.
	strays transcode.Strays
	// quota is what the call is held to, nil for nothing; limited is the verdict.
	quota   *quota
	limited ratelimit.Verdict
	// given says that the call's places have been given back.
	given atomic.Bool
	// status is the HTTP status of the answer; 0 until it is written.
	status int
	// fault is what the call was refused with or failed with; nil if it was not.
	fault *fault.Fault
	// stream is an answer of c1proxy's own that lasts; nil of any other.
	stream *stream
	// span is the call's trace; nil if it is not traced.
	span *telemetry.Span
	// recorded says that the call has, or will have, its final record.
	recorded bool
	// detached says that the call's exchange may outlive its handler, and leaves
	// the load and the edition by itself.
	detached bool
}

// callKey is the context key of the call.
type callKey struct{}

func callFrom(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// WriteHeader notes the status and passes it on.
func (c *call) WriteHeader(status int) {
	if c.status == 0 && status >= 200 {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write passes on. A status that was never written is 200.
func (c *call) Write(data []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	return c.ResponseWriter.Write(data)
}

// Flush sends what has been written, of a stream. The answer of a unary call
// goes out in one piece when the handler returns, and not before: record may
// still have to write a record first.
func (c *call) Flush() {
	if flusher, ok := c.ResponseWriter.(http.Flusher); ok && c.binding.stream {
		flusher.Flush()
	}
}

// Unwrap lets an http.ResponseController reach the connection.
func (c *call) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// record returns a record of the kind with all that is known of the call.
func (c *call) record(kind audit.Kind) *audit.Record {
	r := &audit.Record{
		Kind:            kind,
		RequestID:       c.id,
		ClientRequestID: c.clientID,
		Procedure:       c.binding.route.Method(),
		Door:            c.door.String(),
		Peer:            c.peer.address,
		PolicyRevision:  c.edition.revision,
		Rule:            c.rule,
		Path:            c.path,
		Request:         c.request,
		Reason:          c.reason,
	}
	if c.who != nil {
		r.Caller, r.Team, r.Tenant, r.Credential = c.who.Caller, c.who.Team, c.who.Tenant, c.who.Credential
		detail(r, "subject", c.who.Subject)
	}
	detail(r, "origin", c.origin)
	detail(r, "proxy", c.peer.proxy)
	detail(r, "shadow", c.shadow)
	c.explain(r)
	return r
}

// detail adds a detail to a record, unless it is "".
func detail(r *audit.Record, key, value string) {
	if value == "" {
		return
	}
	if r.Detail == nil {
		r.Detail = make(map[string]string, 1)
	}
	r.Detail[key] = value
}

// names are the words by which log lines name the call.
func (c *call) names() []any {
	names := []any{"request_id", c.id, "procedure", c.binding.route.Method()}
	if c.span != nil {
		names = append(names, "trace_id", c.span.TraceID())
	}
	return names
}

// blame fills in what a final record says of a fault.
func blame(r *audit.Record, f *fault.Fault) {
	r.Code = f.Code.String()
	r.Error = string(f.Reason)
	r.Field = f.Metadata["field"]
	detail(r, "check", f.Metadata["check"])
	detail(r, "rules", f.Metadata["rules"])
}

// idEncoding is RFC 4648's base32 in lower case, without padding.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newID returns a new request id: 128 random bits in 26 letters and digits.
func newID() string {
	var bits [16]byte
	rand.Read(bits[:]) // never fails: crypto/rand
	return idEncoding.EncodeToString(bits[:])
}

// doorOf tells the protocol from the media type, as connect does.
func doorOf(r *http.Request) telemetry.Door {
	media := r.Header.Get("Content-Type")
	switch {
	case !strings.HasPrefix(media, "application/grpc"):
		return telemetry.Connect
	case strings.HasPrefix(media, "application/grpc-web"):
		return telemetry.GRPCWeb
	}
	return telemetry.GRPC
}

// answeredCode reads the code of an answer that connect has written by itself.
func (c *call) answeredCode() connect.Code {
	header := c.Header()
	for _, key := range []string{"Grpc-Status", http.TrailerPrefix + "Grpc-Status"} {
		if text := header.Get(key); text != "" {
			code, err := strconv.ParseUint(text, 10, 8)
			if err != nil || code > uint64(connect.CodeUnauthenticated) {
				return connect.CodeUnknown
			}
			return connect.Code(code)
		}
	}
	if c.status == 0 || c.status/100 == 2 {
		return 0
	}
	switch c.status {
	case http.StatusBadRequest:
		return connect.CodeInvalidArgument
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType,
		http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return connect.CodeUnimplemented
	case http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
		return connect.CodeResourceExhausted
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return connect.CodeDeadlineExceeded
	case http.StatusServiceUnavailable:
		return connect.CodeUnavailable
	case 499:
		return connect.CodeCanceled
	}
	return connect.CodeUnknown
}
