// Package forward makes the HTTP exchange of a call with C1.
//
// It works in two steps, so that the audit can stand between them. Prepare
// does everything that can fail without C1 knowing. Send then delivers the
// request. One that has side effects is delivered at most once: an answer of
// 401, which C1 gives before it acts, is the only thing that makes Send try
// again, with a new token or, if C1 asks for no more, with the nonce that its
// DPoP proof is to have. One that has none is tried again, up to twice, where C1
// was not there to answer.
//
// No header of the caller is copied: the request's headers are a fixed list.
// Redirects are not followed, and net/http is kept from resending by itself.
package forward

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/gate"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/telemetry"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

const (
	// maxAnswer bounds C1's answer in bytes, after decompression.
	maxAnswer = 4 << 20
	// tooShort is what a caller's deadline must leave for a call to be sent: less
	// is not enough for any answer to come back.
	tooShort = 5 * time.Millisecond
)

// A Config describes one tenant's C1.
type Config struct {
	// Tenant is the tenant's name, for messages.
	Tenant string
	// URL is the scheme and host of the tenant's C1. Required.
	URL *url.URL
	// Tokens gives the tenant's access tokens, with which calls go that bring none
	// of their own. Required.
	Tokens *credential.Source
	// Transport makes the connections. It must neither follow redirects nor
	// resend, as a Transport does not. Required.
	Transport http.RoundTripper
	// Gate decides which calls may be sent now. Required.
	Gate *gate.Gate
	// Logger is told when C1 no longer answers, and when it does again. Required.
	Logger *slog.Logger
	// UserAgent names this program to C1.
	UserAgent string
	// Timeout bounds one call's exchange, from Send to the last byte of the
	// answer, further attempts included. Required.
	Timeout time.Duration
	// ResendOn401 says whether C1 may be trusted to answer 401 only before it
	// acts, so that the request is sent once more with a new token. Otherwise
	// only what has no side effects is, and of the rest the outcome is unknown.
	ResendOn401 bool
}

// An Upstream is one tenant's C1. It is safe for concurrent use.
type Upstream struct {
	cfg   Config
	agent []string
}

// New returns an Upstream. It does no I/O.
func New(cfg Config) *Upstream {
	return &Upstream{cfg: cfg, agent: []string{cfg.UserAgent}}
}

// State tells of the calls under way and whether C1 answers.
func (u *Upstream) State() gate.State { return u.cfg.Gate.State() }

// A Call is what is to be sent.
type Call struct {
	Route  *route.Route
	Target transcode.Target
	// RequestID goes up in X-Request-Id.
	RequestID string
	// Team is whose call it is: it has a share of the tenant's slots.
	Team string
	// Tokens gives the access tokens of the call; nil for the tenant's.
	Tokens *credential.Source
}

// An Exchange is a request that is ready to be sent, once. It holds a slot of
// the tenant's until it is sent or dropped.
type Exchange struct {
	upstream  *Upstream
	route     *route.Route
	target    transcode.Target
	requestID []string
	tokens    *credential.Source
	token     credential.Token
	pass      *gate.Pass
	attempts  int // so far
}

// Prepare does everything for the exchange that can fail without C1 knowing: it
// waits for a slot and a token, no longer than ctx lives. The error is a
// *fault.Fault, and says that nothing was sent.
func (u *Upstream) Prepare(ctx context.Context, call Call) (*Exchange, error) {
	if err := worth(ctx); err != nil {
		return nil, fault.Of(err)
	}
	pass, err := u.cfg.Gate.Enter(ctx, call.Team, call.Route.Procedure)
	if err != nil {
		return nil, err
	}
	tokens := cmp.Or(call.Tokens, u.cfg.Tokens)
	token, err := tokens.Token(ctx)
	if err == nil {
		err = worth(ctx)
	}
	if err != nil {
		pass.Leave()
		return nil, fault.Of(err)
	}
	return &Exchange{upstream: u, route: call.Route, target: call.Target, requestID: []string{call.RequestID}, tokens: tokens, token: token, pass: pass}, nil
}

// worth says whether a call that ends with ctx is worth being sent.
func worth(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < tooShort {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// Drop gives up an exchange that is not sent. It may follow Send.
func (x *Exchange) Drop() { x.pass.Leave() }

// Credential names the credential with which the request goes, or last went: its
// client id, or that it is a static token.
func (x *Exchange) Credential() string { return x.token.Credential() }

// A Result tells what became of a sent request. It has a value with an error
// too: how far the exchange came.
type Result struct {
	// Body is C1's answer to a successful request, at most 4 MiB.
	Body []byte
	// Status is the last attempt's HTTP status; 0 if none came.
	Status int
	// Attempts are the HTTP statuses of every attempt, 0 for none: [200], or
	// [401, 200] after a token was refused, or [0, 503, 200] after a read was
	// tried again.
	Attempts []int
	// Sent is false only if it is proven that nothing reached C1.
	Sent bool
	// nonce says that C1 turned the attempt away for the want of a DPoP nonce.
	nonce bool
	// rest is how long C1 asked, with a 429, to be left alone; 0 for no time.
	rest time.Duration
}

// Send delivers the request and reads the answer, within the configured
// timeout or ctx's life, whichever is shorter. The error is a *fault.Fault; that
// of a read whose ctx was canceled is canceled.
func (x *Exchange) Send(ctx context.Context) (Result, error) {
	defer x.Drop()
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, x.upstream.cfg.Timeout)
	defer cancel()
	result, err := x.authorized(ctx)
	if !x.route.ReadOnly {
		x.report(result, err, time.Since(begun))
		return result, err
	}
	x.pass.First()
	for n := 0; ; n++ {
		x.report(result, err, time.Since(begun))
		if !x.pauses(ctx, n, result, err) {
			return result, err
		}
		before := result
		begun = time.Now()
		result, err = x.authorized(ctx)
		result.Attempts = append(before.Attempts, result.Attempts...)
		result.Sent = result.Sent || before.Sent
	}
}

// authorized is one attempt, and another with a new token if C1 refuses the
// old one.
func (x *Exchange) authorized(ctx context.Context) (Result, error) {
	result, err := x.deliver(ctx)
	if result.Status != http.StatusUnauthorized {
		return result, err
	}
	x.tokens.Invalidate(x.token)
	if !x.resends() {
		return result, x.distrusted()
	}
	fresh, tokenErr := x.tokens.Token(ctx)
	if tokenErr != nil {
		// A 401 was not acted on: nothing was delivered.
		return result, fault.Of(tokenErr)
	}
	if fresh.Authorization() == x.token.Authorization() {
		return result, err
	}
	x.token = fresh
	first := result.Attempts
	result, err = x.deliver(ctx)
	result.Attempts = append(first, result.Attempts...)
	result.Sent = true
	if result.Status == http.StatusUnauthorized {
		x.tokens.Invalidate(fresh)
	}
	return result, err
}

// attempt is one HTTP exchange, with a span of its own if the call has one. There
// is none while C1 wants no calls, which it may have said since Prepare.
func (x *Exchange) attempt(ctx context.Context) (result Result, err error) {
	if err := x.pass.May(); err != nil {
		return Result{}, err
	}
	before := x.attempts
	x.attempts++
	var span *telemetry.Span
	if call := telemetry.SpanOf(ctx); call != nil {
		span = call.Attempt(telemetry.Attempt{Verb: x.route.Verb, Template: x.route.Template,
			Tenant: x.upstream.cfg.Tenant, Base: x.upstream.cfg.URL, Before: before})
		defer func() { span.Sent(result.Status, reasonOf(err)) }()
	}
	return x.exchange(ctx, span)
}

// reasonOf is the reason of an attempt's fault; "" if there is none.
func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return string(fault.Of(err).Reason)
}

func (x *Exchange) exchange(ctx context.Context, span *telemetry.Span) (Result, error) {
	var flight flight
	request, err := x.request(flight.trace(ctx), span)
	if err != nil {
		return Result{}, fault.Of(err)
	}
	response, err := x.upstream.cfg.Transport.RoundTrip(request)
	if err != nil {
		return Result{Attempts: flight.attempts(x.route.ReadOnly, 0), Sent: flight.departed()}, x.broken(ctx, flight.departed(), err)
	}
	result := Result{Status: response.StatusCode, Attempts: flight.attempts(x.route.ReadOnly, response.StatusCode), Sent: true}
	result.nonce = x.token.Answered(response.StatusCode, response.Header)
	if result.Status == http.StatusTooManyRequests {
		result.rest = fault.RetryAfter(response.Header, 0)
	}
	body, err := read(response)
	switch {
	case response.StatusCode/100 != 2:
		return result, x.redact(fault.FromAnswer(x.route.ReadOnly, response.StatusCode, response.Header, body))
	case err != nil:
		return result, x.unreadable(ctx, response.StatusCode, err)
	case response.StatusCode == http.StatusNoContent:
		body = []byte("{}")
	case x.token.In(body):
		return result, fault.Unusable(x.route.ReadOnly, response.StatusCode, "C1's answer holds c1proxy's own access token")
	}
	result.Body = body
	return result, nil
}

// broken is the fault of an exchange without an answer. The context's error
// goes first if that is why, since net/http names it in many ways. Of C1's own
// bytes nothing is in it.
func (x *Exchange) broken(ctx context.Context, sent bool, err error) error {
	done := ctx.Err()
	if x.route.ReadOnly && errors.Is(done, context.Canceled) {
		return fault.Of(done)
	}
	err = fault.Speakable(err)
	if done != nil {
		err = errors.Join(done, err)
	}
	return fault.FromExchange(x.route.ReadOnly, sent, err)
}

// unreadable is the fault of a success whose body could not be read.
func (x *Exchange) unreadable(ctx context.Context, status int, err error) error {
	if errors.Is(err, errTooLarge) {
		return fault.Unusable(x.route.ReadOnly, status, "C1's answer is larger than c1proxy accepts").Because(err)
	}
	if ctx.Err() != nil {
		return x.broken(ctx, true, err)
	}
	return fault.Unusable(x.route.ReadOnly, status, "C1's answer was cut off").Because(errors.Join(errCut, fault.Speakable(err)))
}
