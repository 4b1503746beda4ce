// Package fault is the one place where an answer of C1, a Go error or a
// context becomes an error that a caller sees.
//
// What is lost on the way is lost on purpose: a caller learns a code of
// gRPC's (1 to 16), a reason from one documented list, and words of our own.
// The text of a Go error and the bytes of an upstream body stay behind, save
// the message of a well-formed C1 error, capped. The cause is kept for logs.
package fault

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Domain is the domain of every google.rpc.ErrorInfo that this package makes.
const Domain = "c1proxy"

// A Fault is an error with a code, ready to be shown to a caller.
//
// A Fault is built by one goroutine and not changed after it has been
// returned.
type Fault struct {
	// Code is one of connect's sixteen codes, never 0.
	Code connect.Code
	// Reason says why, for machines.
	Reason Reason
	// Message says what was wrong and what to do, for people. It is sent to
	// the caller: no secret, no text of an upstream body or a Go error.
	Message string
	// Metadata refines Reason: the rule that refused, the field that was bad,
	// the upstream status. Nil is legal.
	Metadata map[string]string
	// RetryAfter is how long waiting helps; 0 where it is not known to help.
	RetryAfter time.Duration
	// Status is the HTTP status on C1's REST paths, where it is not the code's
	// own: a 4xx that C1 itself gave, or one for which gRPC has no code (405,
	// 408, 415). 0 is the code's own.
	Status int
	// Uncertain says that the request was sent, that its method has side
	// effects, and that nothing tells whether it acted. HTTPStatus then is none
	// that a client takes for an invitation to repeat.
	Uncertain bool
	// Cause is for our own log, never for the caller. Nil is legal.
	Cause error
	// plain says that Connect adds no details.
	plain bool
}

// New returns a Fault with a formatted message.
func New(code connect.Code, reason Reason, format string, args ...any) *Fault {
	return &Fault{Code: code, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// With sets one entry of the metadata and returns f.
func (f *Fault) With(key, value string) *Fault {
	if f.Metadata == nil {
		f.Metadata = make(map[string]string, 2)
	}
	f.Metadata[key] = value
	return f
}

// Because sets the cause, which is for logs alone, and returns f.
func (f *Fault) Because(cause error) *Fault {
	f.Cause = cause
	return f
}

// Error is the text for logs: code, reason, message and cause.
func (f *Fault) Error() string {
	text := f.Code.String() + " " + string(f.Reason) + ": " + f.Message
	if f.Cause != nil {
		text += ": " + f.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Cause }

// Connect returns f in the form that connect-go writes in each protocol: the
// code, the message, a google.rpc.ErrorInfo and, where waiting helps, a
// google.rpc.RetryInfo with a Retry-After header in seconds (RFC 9110,
// section 10.2.3). The faults of a caller's own context have no details. Of
// finds f in the result again, but its text is the message alone.
func (f *Fault) Connect() *connect.Error {
	out := connect.NewError(f.Code, shown{f})
	if f.plain {
		return out
	}
	attach(out, &errdetails.ErrorInfo{Reason: string(f.Reason), Domain: Domain, Metadata: maps.Clone(f.Metadata)})
	if f.RetryAfter > 0 {
		attach(out, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter)})
		out.Meta().Set("Retry-After", Seconds(f.RetryAfter))
	}
	return out
}

// shown is a Fault whose text is what a caller may see.
type shown struct{ fault *Fault }

// Error is the message.
func (s shown) Error() string { return s.fault.Message }

// Unwrap returns the Fault.
func (s shown) Unwrap() error { return s.fault }

// Seconds writes d as whole seconds, rounded up, as Retry-After and the
// RateLimit fields have it.
func Seconds(d time.Duration) string {
	return strconv.FormatInt(int64(math.Ceil(d.Seconds())), 10)
}

// attach adds a detail. Both messages that reach it marshal by construction.
func attach(out *connect.Error, detail proto.Message) {
	if d, err := connect.NewErrorDetail(detail); err == nil {
		out.AddDetail(d)
	}
}

// Of returns err as a Fault. A Fault in err's chain is returned as it is; a
// context's error becomes canceled or deadline_exceeded; anything else is an
// internal fault whose text stays in the log. Of(nil) is nil.
func Of(err error) *Fault {
	if err == nil {
		return nil
	}
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	if f := fromContext(err); f != nil {
		return f
	}
	return New(connect.CodeInternal, Internal, "c1proxy failed inside; its log has the cause under this request id").Because(err)
}

// Reasons returns every reason that c1proxy gives, sorted.
func Reasons() []Reason {
	return slices.Sorted(maps.Keys(explained))
}
