package proxy

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/telemetry"
)

// A stage wraps the next one for one procedure.
type stage struct {
	name string
	wrap func(*binding, http.Handler) http.Handler
}

// stages is the line of a call before it is decoded, outermost first. Each is
// bound to one procedure when the handlers are made, so that none ever infers
// a procedure from a URL. What follows them is the door's own decoding, and then
// binding.travel.
var stages = []stage{
	{"identify", identify},            // first, so that every refusal carries a request id
	{"observe", observe},              // outside all that can refuse, so that refusals are measured and traced
	{"record", record},                // outside all that can refuse, so that no answer goes unrecorded
	{"recover", recoverPanic},         // inside record, so that a panic is an answer with a record
	{"check origin", checkOrigin},     // before all that costs: a page that may not call is nobody's caller
	{"limit body", limitBody},         // before anything reads the body
	{"limit failures", limitFailures}, // before anything is verified
	{"authenticate", authenticate},    // nothing is decompressed or decoded for a stranger
	{"trace", begin},                  // only who is known may name a trace to be part of
	{"authorize", authorize},          // before the limit, so that a denied call costs the team nothing
	{"limit rate", limitRate},         // a call that passes is charged, whatever comes of it
	{"limit load", limitLoad},         // last, so that only who may call can take a place
}

// line puts the stages around a handler.
func line(b *binding, inner http.Handler) http.Handler {
	for i := len(stages) - 1; i >= 0; i-- {
		inner = stages[i].wrap(b, inner)
	}
	return inner
}

const (
	maxClientID = 128
	maxReason   = 512
)

// Header values that are the same on every answer, shared and read only: an
// answer is for the caller alone, and is never to be taken for a page.
var (
	noStore = []string{"no-store"}
	noSniff = []string{"nosniff"}
)

// identify makes the call and gives it an id of its own. The caller's
// X-Request-Id and C1proxy-Reason are kept, capped, for the record alone.
func identify(b *binding, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{ResponseWriter: w, binding: b, edition: b.gateway.pinned(), id: newID(), begun: time.Now(), door: telemetry.REST}
		c.peer = c.edition.peerOf(r)
		defer func() {
			if !c.detached {
				c.edition.unpin()
			}
		}()
		if c.edition.longest > b.gateway.longest {
			// The server knows of the longest call at start. Where there is nothing to set, that stays.
			_ = http.NewResponseController(w).SetWriteDeadline(c.begun.Add(c.edition.longest + writeSlack))
		}
		if !b.rest {
			c.door = doorOf(r)
		}
		if values := r.Header["X-Request-Id"]; len(values) > 0 {
			id := authn.Scrub(values[0])
			c.clientID = id[:min(len(id), maxClientID)]
		}
		if values := r.Header["C1proxy-Reason"]; len(values) > 0 {
			c.reason = statedReason(values[0])
		}
		header := w.Header()
		header["X-Request-Id"] = []string{c.id}
		if c.door != telemetry.GRPC { // which no browser or cache understands
			header["Cache-Control"] = noStore
			header["X-Content-Type-Options"] = noSniff
		}
		next.ServeHTTP(c, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
	})
}

// statedReason decodes C1proxy-Reason: percent-encoded UTF-8 of at most 512
// bytes. What does not decode is kept as it came.
func statedReason(text string) string {
	if decoded, err := url.PathUnescape(text); err == nil {
		text = decoded
	}
	text = authn.Scrub(text)
	return strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
}

func observe(b *binding, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := w.(*call)
		b.metrics.Begin()
		defer func() {
			code := c.answeredCode()
			if c.fault != nil {
				code = c.fault.Code
				b.gateway.metrics.Fault(string(c.fault.Reason))
			}
			b.metrics.Answered(c.door, code, time.Since(c.begun))
			b.endSpan(c, code)
		}()
		next.ServeHTTP(w, r)
	})
}

// refusals are the reasons for what connect itself refuses; what is not
// listed is a request that does not read.
var refusals = map[connect.Code]fault.Reason{
	connect.CodeResourceExhausted: fault.TooLarge,
	connect.CodeDeadlineExceeded:  fault.DeadlineExceeded,
	connect.CodeCanceled:          fault.Canceled,
	connect.CodeUnavailable:       fault.Overloaded,
}

// record writes a final record for a call that has none on its way out: one
// that connect itself has refused, or a reflection stream. The answer, being
// small, is still in net/http's buffer then.
func record(b *binding, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := w.(*call)
		next.ServeHTTP(w, r)
		if c.recorded {
			return
		}
		code := c.answeredCode()
		if code == 0 && c.stream != nil {
			code = cmp.Or(c.stream.code, connect.CodeInvalidArgument) // streams say so behind a status of 200
		}
		if code != 0 {
			// The answer is connect's; only the record and the metrics need a fault.
			reason := cmp.Or(refusals[code], fault.BadRequest)
			_ = b.deny(r.Context(), c, fault.New(code, reason, "connect refused it with HTTP status %d", c.status))
			return
		}
		final := c.record(audit.KindOutcome)
		final.Code, final.Outcome, final.Duration = "ok", audit.OutcomeOK, time.Since(c.begun)
		_ = b.append(final) // as in deny
	})
}

// recoverPanic answers a panic as an internal error.
func recoverPanic(b *binding, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch value := recover(); value {
			case nil:
			case http.ErrAbortHandler:
				panic(value)
			default:
				b.refuse(w.(*call), r, b.gateway.panicked(w.(*call)))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// panicked logs where a call panicked, and returns the fault to answer. The
// panic's value is not logged: it could hold anything.
func (g *gateway) panicked(c *call) *fault.Fault {
	g.logger.Error("a call panicked", append(c.names(), "stack", string(debug.Stack()))...)
	return fault.Of(errors.New("panic"))
}

// limitBody bounds what is read of a body. connect's own limit on messages
// bounds memory, but reads an endless body to its end.
func limitBody(b *binding, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if memory := &b.gateway.load.memory; memory.limited() {
			r.Body = frugalBody{r.Body, memory}
		}
		r.Body = http.MaxBytesReader(w, r.Body, int64(b.gateway.maxMessage)+bodySlack)
		next.ServeHTTP(w, r)
	})
}

func authenticate(b *binding, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := w.(*call)
		who, err := c.known().Authenticate(r)
		c.who = who // of a refused one, what was proven
		if err != nil {
			f := b.gateway.countFailure(c, fault.Of(err))
			if f.Code == connect.CodeUnauthenticated {
				// RFC 9110, section 11.6.1: a 401 names a scheme that would do.
				w.Header().Set("WWW-Authenticate", `Bearer realm="c1proxy"`)
			}
			b.refuse(c, r, f)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// known are those who may make the call.
func (c *call) known() *authn.Authenticator {
	if c.binding.admin {
		return c.edition.operators.callers
	}
	return c.edition.callers
}

func authorize(b *binding, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := w.(*call)
		if err := b.allow(c); err != nil {
			b.refuse(c, r, fault.Of(err))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allow notes the rule that lets a call through, so far.
func (b *binding) allow(c *call) (err error) {
	switch {
	case b.admin:
		c.rule, err = c.edition.operators.allow(c.who, b.local.scope)
	case b.open != "":
		if c.rule = b.open; c.granted(b.local.grant) {
			c.rule = b.local.grant
		}
	default:
		_, err = b.permit(c, nil, "")
	}
	return err
}

// limitLoad takes a call on, or refuses it before its body is read. A stream has
// its place until it ends: it takes memory as others do, and is waited for when
// c1proxy stops. Those that last are bounded so that others have places left.
func limitLoad(b *binding, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, load := w.(*call), &b.gateway.load
		if f := load.enter(); f != nil {
			b.refuse(c, r, f)
			return
		}
		defer func() {
			if !c.detached {
				load.leave()
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// refuse records a refusal and then answers it, in the caller's protocol.
func (b *binding) refuse(c *call, r *http.Request, f *fault.Fault) {
	f = b.deny(r.Context(), c, f)
	if c.status == 0 {
		// A failed write means that the caller has gone.
		_ = b.errors.Write(c, r, f.Connect())
	}
}

// deny writes the final record of a call of which nothing was sent, and
// returns the fault to answer with.
func (b *binding) deny(ctx context.Context, c *call, err error) *fault.Fault {
	f := scrubbed(fault.Of(err))
	c.fault, c.recorded = f, true
	r := c.record(audit.KindDenied)
	r.Outcome = audit.OutcomeNotSent
	blame(r, f)
	if f.Reason == fault.RateLimited {
		r.Rule = f.Metadata["rule"]
	}
	r.Duration = time.Since(c.begun)
	// net/http cancels too when a body is late, and its caller is still there.
	r.ClientGone = errors.Is(ctx.Err(), context.Canceled) && f.Code != connect.CodeDeadlineExceeded
	_ = b.append(r) // see append: the log keeps it
	b.gateway.logFault(c, f)
	return f
}
