package proxy

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/telemetry"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// A destination is where a procedure's calls go. prepare does all that can
// fail without anything being sent, notes the path values in c, and returns
// the exchange that sends the call.
type destination interface {
	prepare(ctx context.Context, c *call, request connect.AnyRequest, message proto.Message) (exchange, error)
}

// upstreams is the destination of a mirrored procedure: the C1 of the
// caller's tenant.
type upstreams struct {
	route    *route.Route
	byTenant map[string]*tenant
}

// A tenant is one C1.
type tenant struct {
	name     string
	upstream *forward.Upstream
	metrics  *telemetry.Tenant
}

func (u *upstreams) prepare(ctx context.Context, c *call, _ connect.AnyRequest, message proto.Message) (exchange, error) {
	target, err := transcode.Request(u.route, message)
	c.path = make(audit.Fields, 0, len(target.Values))
	for _, value := range target.Values {
		c.path = append(c.path, audit.Field{Name: value.Field, Value: value.Text})
	}
	if err != nil {
		return nil, err
	}
	t := u.byTenant[c.who.Tenant]
	ready, err := t.upstream.Prepare(ctx, u.route, target, c.id)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) answer { return u.send(ctx, t, ready) }, nil
}

// send makes the exchange and says what became of it.
func (u *upstreams) send(ctx context.Context, t *tenant, ready *forward.Exchange) answer {
	result, err := ready.Send(ctx)
	for _, status := range result.Attempts {
		t.metrics.Sent(status)
	}
	a := answer{status: result.Status, attempts: result.Attempts}
	if err == nil {
		if a.message, a.strays, err = transcode.Answer(result.Body, u.route.Output); err != nil {
			err = fault.Unusable(u.route.ReadOnly, result.Status, "C1's answer is not the JSON that it should be").Because(err)
		}
	}
	a.fault = fault.Of(err)
	a.outcome = outcomeOf(result.Sent, a.fault)
	return a
}

// outcomeOf says what the record says: an outcome is known, or it is
// indeterminate, and it is never guessed.
func outcomeOf(sent bool, f *fault.Fault) audit.Outcome {
	switch {
	case f == nil:
		return audit.OutcomeOK
	case !sent:
		return audit.OutcomeNotSent
	case f.Reason == fault.OutcomeUnknown || f.Reason == fault.DeadlineExceeded:
		return audit.OutcomeIndeterminate
	}
	return audit.OutcomeFailed
}

// A Local is a procedure that c1proxy answers itself, on the same line as
// every other.
type Local struct {
	// Method is the procedure's descriptor. It must be unary.
	Method protoreflect.MethodDescriptor
	// Handle answers a call, within the caller's own context: what is local has
	// nothing to finish once its caller has gone. It gets the request's headers with request and
	// its message decoded. header and trailer may be nil. An error that is no
	// *connect.Error is internal, and its text stays in the log.
	Handle func(ctx context.Context, request connect.AnyRequest, message proto.Message) (response proto.Message, header, trailer http.Header, err error)
}

func (l Local) prepare(caller context.Context, _ *call, request connect.AnyRequest, message proto.Message) (exchange, error) {
	return func(context.Context) answer {
		a := answer{outcome: audit.OutcomeOK}
		a.message, a.header, a.trailer, a.err = l.Handle(caller, request, message)
		if a.err != nil {
			a.outcome = audit.OutcomeFailed
			if asConnect(a.err) == nil {
				a.fault, a.err = fault.Of(a.err), nil
			}
		}
		return a
	}, nil
}
