package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/gate"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/telemetry"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// A destination is where a procedure's calls go. prepare does all that can
// fail without anything being sent, notes the path values in c, and returns
// the exchange that sends the call, or drops it.
type destination interface {
	prepare(ctx context.Context, c *call, in inbound) (exchange, error)
}

// upstreams is the destination of a mirrored procedure: the C1 of the
// caller's tenant.
type upstreams struct{ route *route.Route }

// A tenant is one C1.
type tenant struct {
	name string
	// config is what made it.
	config *configv1.Tenant
	way    *way
	// own is the tenant's own credential, and ofTeams those of teams that have one.
	own      *access
	ofTeams  map[string]*access
	gate     *gate.Gate
	places   gate.Config // what the gate is to be once the edition is in force
	upstream *forward.Upstream
	metrics  *telemetry.Tenant
}

func (u *upstreams) prepare(ctx context.Context, c *call, in inbound) (exchange, error) {
	target, err := u.target(in)
	c.notePath(target.Values)
	c.noteRequest(in.message)
	if err == nil {
		err = keyInPath(target.Values)
	}
	if err != nil {
		return nil, err
	}
	t := c.edition.tenants[c.who.Tenant]
	ready, err := t.upstream.Prepare(ctx, forward.Call{Route: u.route, Target: target, RequestID: c.id, Team: c.who.Team, Tokens: t.tokensOf(c.who.Team)})
	if err != nil {
		return nil, err
	}
	return &delivery{Exchange: ready, tenant: t, route: u.route, asIs: in.raw != nil}, nil
}

// A delivery is a call that is ready to go to C1.
type delivery struct {
	*forward.Exchange
	tenant *tenant
	route  *route.Route
	// asIs leaves the answer as it came, if it is JSON at all.
	asIs bool
}

func (d *delivery) drop() { d.Drop() }

func (d *delivery) credential() string { return d.Credential() }

// target is what the request becomes on C1's side. The path is made anew on
// every door, of the values that were checked.
func (u *upstreams) target(in inbound) (target transcode.Target, err error) {
	if in.raw == nil || in.remade {
		return transcode.Request(u.route, in.message)
	}
	target.Query, target.Body = in.raw.query, in.raw.body
	target.Path, target.Values, err = u.route.Expand(in.message.ProtoReflect())
	return target, err
}

// send makes the exchange and says what became of it.
func (d *delivery) send(ctx context.Context) answer {
	result, err := d.Send(ctx)
	for _, status := range result.Attempts {
		d.tenant.metrics.Sent(status)
	}
	a := answer{status: result.Status, attempts: result.Attempts, credential: d.Credential()}
	if err == nil {
		if err = d.read(&a, result.Body); err != nil {
			err = fault.Unusable(d.route.ReadOnly, result.Status, "C1's answer is not the JSON that it should be").Because(err)
		}
	}
	a.fault = fault.Of(err)
	a.outcome = outcomeOf(result.Sent, a.fault)
	return a
}

// read reads C1's answer into a.
func (d *delivery) read(a *answer, body []byte) (err error) {
	if !d.asIs {
		a.message, a.strays, err = transcode.Answer(body, d.route.Output)
		return err
	}
	a.body = body
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) || !json.Valid(body) {
		return errors.New("it is no JSON object")
	}
	return nil
}

// outcomeOf says what the record says: an outcome is known, or it is
// indeterminate, and it is never guessed.
func outcomeOf(sent bool, f *fault.Fault) audit.Outcome {
	switch {
	case f == nil:
		return audit.OutcomeOK
	case !sent:
		return audit.OutcomeNotSent
	case f.Reason == fault.OutcomeUnknown || f.Reason == fault.DeadlineExceeded || f.Reason == fault.Canceled:
		return audit.OutcomeIndeterminate
	}
	return audit.OutcomeFailed
}

// A Local is a procedure that c1proxy answers itself, on the same line as
// every other.
type Local struct {
	// Method is the procedure's descriptor. It must be unary, or a stream of
	// c1proxy's own.
	Method protoreflect.MethodDescriptor
	// Open names the rule by which every authenticated caller may call the
	// procedure; "" where the policy decides.
	Open string
	// Handle answers a call, within the caller's own context: what is local has
	// nothing to finish once its caller has gone. It gets the request's headers with request and
	// its message decoded. header and trailer may be nil. An error that is no
	// *connect.Error is internal, and its text stays in the log.
	Handle func(ctx context.Context, request connect.AnyRequest, message proto.Message) (response proto.Message, header, trailer http.Header, err error)
	// stream answers, in place of Handle, with any number of messages until the
	// context ends.
	stream func(ctx context.Context, c *call, message proto.Message, send func(proto.Message) error) error
	// note keeps what of a request the records are to hold; nil for nothing.
	note func(*call, proto.Message)
	// scope is what an operator's key must have; "" if any will do.
	scope string
	// grant, if a caller has it, is the rule by which it calls, in place of Open.
	grant string
}

func (l Local) prepare(caller context.Context, c *call, in inbound) (exchange, error) {
	if l.note != nil {
		l.note(c, in.message)
	}
	return &visit{local: l, caller: caller, in: in}, nil
}

// A visit is a call that is ready to be answered here.
type visit struct {
	local  Local
	caller context.Context
	in     inbound
}

func (v *visit) drop() {}

func (v *visit) credential() string { return "" }

func (v *visit) send(context.Context) answer {
	a := answer{outcome: audit.OutcomeOK}
	a.message, a.header, a.trailer, a.err = v.local.Handle(v.caller, v.in.request, v.in.message)
	if a.err != nil {
		a.outcome = audit.OutcomeFailed
		if asConnect(a.err) == nil {
			a.fault, a.err = fault.Of(a.err), nil
		}
	}
	return a
}
