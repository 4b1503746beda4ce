package fault

import (
	"context"
	"errors"

	"connectrpc.com/connect"
)

// fromContext returns the Fault of a context's error, and nil for any other.
// It is the caller's own doing, which needs no explanation in details.
func fromContext(err error) *Fault {
	var f *Fault
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		f = New(connect.CodeDeadlineExceeded, DeadlineExceeded, "the time allowed for this call ran out")
	case errors.Is(err, context.Canceled):
		f = New(connect.CodeCanceled, Canceled, "the caller gave up")
	default:
		return nil
	}
	f.plain = true
	return f.Because(err)
}
