package fault

import (
	"context"
	"errors"

	"connectrpc.com/connect"
)

// fromContext returns the Fault of a context's error, and nil for any other.
func fromContext(err error) *Fault {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return New(connect.CodeDeadlineExceeded, DeadlineExceeded, "the time allowed for this call ran out").Because(err)
	case errors.Is(err, context.Canceled):
		return New(connect.CodeCanceled, Canceled, "the caller gave up").Because(err)
	}
	return nil
}
