package proxy

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/telemetry"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// An inbound is a request, decoded. Each door makes one in its own way; from
// here on they are alike.
type inbound struct {
	message proto.Message
	// request has the headers, for a local destination; nil on C1's own paths.
	request connect.AnyRequest
	// raw is what goes up as it came, and is answered as it comes; nil where the
	// message is encoded.
	raw *raw
	// remade has the message encoded all the same, and only the answer is passed
	// on as it comes.
	remade bool
}

// raw is a query and a body, byte for byte.
type raw struct {
	query string
	body  []byte
}

// travel is the line of a call from the policy's second look on, and reads like
// the promise that it keeps: nothing reaches C1 before the intent is durable, and
// nothing is answered before the outcome is. The answer is ready to be encoded,
// and the call has its final record.
func (b *binding) travel(ctx context.Context, c *call, in inbound) answer {
	if c.pending {
		if err := b.permitRequest(c, &in); err != nil {
			return answer{fault: b.deny(ctx, c, err)}
		}
	}
	prepared, err := b.destination.prepare(ctx, c, in)
	if err != nil {
		return answer{fault: b.deny(ctx, c, err)}
	}
	delivered := false
	defer func() {
		if !delivered {
			prepared.drop()
		}
	}()
	c.span.Mark(telemetry.Prepared)

	// Either way the call has its final record: of an intent that fails, the
	// log itself writes it.
	intent := c.record(audit.KindIntent)
	intent.UpstreamCredential = prepared.credential()
	c.recorded = true
	if err := b.gateway.log.Append(ctx, intent); err != nil {
		return answer{fault: auditUnavailable(ctx, err)}
	}
	c.span.Mark(telemetry.IntentDurable)
	if err := ctx.Err(); err != nil {
		return b.conclude(ctx, c, intent, answer{fault: fault.Of(err), outcome: audit.OutcomeNotSent})
	}

	// From here on a call that has side effects no longer depends on its caller,
	// who is answered early only if it set a deadline: one that just leaves needs
	// no answer.
	delivered = true
	deadline, hurried := ctx.Deadline()
	if !hurried {
		return b.deliver(ctx, c, intent, prepared)
	}
	caller, cancel := context.WithDeadline(ctx, deadline.Add(-margin(time.Until(deadline))))
	defer cancel()
	finished := make(chan answer, 1)
	c.detached = true
	go func() {
		defer b.gateway.load.leave()
		defer c.edition.unpin()
		defer c.giveBack()
		finished <- b.deliver(caller, c, intent, prepared)
	}()
	select {
	case a := <-finished:
		return a
	case <-caller.Done():
		f := fault.Of(caller.Err())
		f.Uncertain = !b.route.ReadOnly
		return answer{fault: f}
	}
}

// margin is how long before its deadline a caller is answered that C1 has not
// answered yet: an answer in the very moment of the deadline would race with
// the caller's own clock, and arrive as half of one.
func margin(left time.Duration) time.Duration { return min(left/8, 50*time.Millisecond) }

// An exchange is a prepared call, of which one of two things becomes.
type exchange interface {
	// send sends it, within the context's life, and returns what became of it.
	send(context.Context) answer
	// drop gives it up: nothing was sent.
	drop()
	// credential names the one of C1's with which it goes; "" if it stays here.
	credential() string
}

// An answer is what became of a call.
type answer struct {
	// message is the response; nil with a fault or an error.
	message proto.Message
	// body is the response where it is answered as it came, instead of message.
	body []byte
	// header and trailer go with a local destination's response.
	header, trailer http.Header
	// fault is what C1, or c1proxy on C1's behalf, answered instead.
	fault *fault.Fault
	// err is a local destination's own error, passed on as it is.
	err error
	// strays are what C1's answer held and message does not.
	strays transcode.Strays
	// outcome, status, attempts and credential are for the record. The last is
	// that of the intent if it is "".
	outcome    audit.Outcome
	status     int
	attempts   []int
	credential string
}

// deliver sends the call and writes its outcome. If it has side effects it goes
// on to its end, whatever becomes of its caller, so that its true outcome is
// known; if it has none, nobody waits for it any more, and it ends. A panic on
// the way is an outcome too, and nobody knows which.
func (b *binding) deliver(caller context.Context, c *call, intent *audit.Record, prepared exchange) (a answer) {
	defer func() {
		if value := recover(); value != nil {
			a = b.conclude(caller, c, intent, answer{fault: b.gateway.panicked(c), outcome: audit.OutcomeIndeterminate})
		}
	}()
	ctx := caller
	if !b.route.ReadOnly {
		ctx = context.WithoutCancel(caller)
	}
	return b.conclude(caller, c, intent, prepared.send(ctx))
}

// conclude writes the outcome. The caller's context only tells whether it is
// still there. An outcome that cannot be made durable is told to the caller
// as unknown: it was sent, and must not be repeated blindly. One of c1proxy's own
// methods was not, and may be.
func (b *binding) conclude(caller context.Context, c *call, intent *audit.Record, a answer) answer {
	r := c.record(audit.KindOutcome)
	r.Intent, r.Outcome = intent.ID, a.outcome
	r.UpstreamStatus, r.Attempts = a.status, a.attempts
	r.UpstreamCredential = cmp.Or(a.credential, intent.UpstreamCredential)
	r.Code = "ok"
	switch {
	case a.fault != nil:
		a.fault = scrubbed(a.fault)
		blame(r, a.fault)
		b.gateway.logFault(c, a.fault)
	case a.err != nil:
		r.Code = connect.CodeOf(a.err).String()
	}
	b.countStrays(c, &a)
	r.Duration = time.Since(c.begun)
	r.ClientGone = caller.Err() != nil
	if err := b.append(r); err != nil && a.outcome != audit.OutcomeNotSent {
		if b.own() {
			return answer{fault: auditUnavailable(context.Background(), err)}
		}
		return answer{fault: fault.New(connect.CodeUnknown, fault.AuditNotDurable,
			"the request was sent, but its outcome could not be recorded: look at C1 before you repeat it").Because(err)}
	}
	c.span.Mark(telemetry.OutcomeDurable)
	return a
}

// countStrays measures and logs, in one line a call, what its bodies held and
// their messages have no place for. Of a call that was refused before it was
// sent nothing was lost, and nothing is said.
func (b *binding) countStrays(c *call, a *answer) {
	if !c.strays.Any() && !a.strays.Any() {
		return
	}
	direction := telemetry.Request
	if b.rest {
		direction = telemetry.Forwarded // C1 gets them all the same
	}
	for kind, n := range c.strays.All() {
		b.metrics.Strayed(direction, kind.String(), n)
	}
	for kind, n := range a.strays.All() {
		b.metrics.Strayed(telemetry.Answer, kind.String(), n)
	}
	b.gateway.logger.Info("a call held what the mirror has no place for",
		append(c.names(), string(direction), authn.Scrub(c.strays.String()), string(telemetry.Answer), authn.Scrub(a.strays.String()))...)
}

// append writes a final record. It does not wait for the caller: the log
// bounds the wait by itself. If it fails the log says so, keeps the record,
// and writes it as soon as it can.
func (b *binding) append(r *audit.Record) error {
	return b.gateway.log.Append(context.Background(), r)
}

// auditUnavailable is the fault of a call whose intent could not be recorded.
func auditUnavailable(ctx context.Context, err error) *fault.Fault {
	if ctx.Err() != nil {
		return fault.Of(ctx.Err())
	}
	f := fault.New(connect.CodeUnavailable, fault.AuditUnavailable,
		"the audit could not record the call, so nothing was sent: an operator must look at the audit's disk")
	f.RetryAfter = time.Second
	return f.Because(err)
}
