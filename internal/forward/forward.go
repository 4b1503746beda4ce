// Package forward makes the one HTTP exchange of a call with C1.
//
// It works in two steps, so that the audit can stand between them. Prepare
// does everything that can fail without C1 knowing. Send then delivers the
// request at most once: an answer of 401, which C1 gives before it acts, is
// the only thing that makes it try again, with a new token or, if C1 asks for
// no more, with the nonce that its DPoP proof is to have.
//
// No header of the caller is copied: the request's headers are a fixed list.
// Redirects are not followed, and net/http is kept from resending by itself.
package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

const (
	// maxAnswer bounds C1's answer in bytes, after decompression.
	maxAnswer = 4 << 20
	// dialTimeout bounds the time to a connection, handshake included.
	dialTimeout = 10 * time.Second
	// idleTimeout closes upstream connections before most load balancers do.
	idleTimeout = 50 * time.Second
	// maxIdle bounds the idle connections kept to one tenant.
	maxIdle = 256
)

// A Config describes one tenant's C1.
type Config struct {
	// Tenant is the tenant's name, for messages.
	Tenant string
	// URL is the scheme and host of the tenant's C1. Required.
	URL *url.URL
	// Tokens gives the tenant's access tokens. Required.
	Tokens *credential.Source
	// UserAgent names this program to C1.
	UserAgent string
	// Timeout bounds one call's exchange, from Send to the last byte of the
	// answer. Required.
	Timeout time.Duration
	// TLS is the client's TLS configuration; nil for the defaults.
	TLS *tls.Config
	// ResendOn401 says whether C1 may be trusted to answer 401 only before it
	// acts, so that the request is sent once more with a new token. Otherwise
	// only what has no side effects is, and of the rest the outcome is unknown.
	ResendOn401 bool
}

// An Upstream is one tenant's C1. It is safe for concurrent use.
type Upstream struct {
	cfg       Config
	transport *http.Transport
	agent     []string
}

// New returns an Upstream. It does no I/O.
func New(cfg Config) *Upstream {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &Upstream{
		cfg:   cfg,
		agent: []string{cfg.UserAgent},
		transport: &http.Transport{
			Protocols:           protocols,
			TLSClientConfig:     cfg.TLS,
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout: dialTimeout,
			IdleConnTimeout:     idleTimeout,
			MaxIdleConns:        maxIdle,
			MaxIdleConnsPerHost: maxIdle,
		},
	}
}

// Close closes the idle connections. Exchanges under way go on.
func (u *Upstream) Close() { u.transport.CloseIdleConnections() }

// An Exchange is a request that is ready to be sent, once.
type Exchange struct {
	upstream  *Upstream
	route     *route.Route
	target    transcode.Target
	requestID []string
	token     credential.Token
}

// Prepare does everything for the exchange that can fail without C1 knowing:
// it fetches a token, waiting no longer than ctx lives. The error is a
// *fault.Fault, and says that nothing was sent.
func (u *Upstream) Prepare(ctx context.Context, r *route.Route, target transcode.Target, requestID string) (*Exchange, error) {
	token, err := u.cfg.Tokens.Token(ctx)
	if err != nil {
		return nil, fault.Of(err)
	}
	return &Exchange{upstream: u, route: r, target: target, requestID: []string{requestID}, token: token}, nil
}

// A Result tells what became of a sent request. It has a value with an error
// too: how far the exchange came.
type Result struct {
	// Body is C1's answer to a successful request, at most 4 MiB.
	Body []byte
	// Status is the last HTTP status; 0 if none came.
	Status int
	// Attempts are the HTTP statuses of every attempt, 0 for none: [200], or
	// [401, 200] after a token was refused.
	Attempts []int
	// Sent is false only if it is proven that nothing reached C1.
	Sent bool
	// nonce says that C1 turned the attempt away for the want of a DPoP nonce.
	nonce bool
}

// Send delivers the request and reads the answer, within the configured
// timeout or ctx's life, whichever is shorter. The error is a *fault.Fault.
func (x *Exchange) Send(ctx context.Context) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, x.upstream.cfg.Timeout)
	defer cancel()
	result, err := x.deliver(ctx)
	if result.Status != http.StatusUnauthorized {
		return result, err
	}
	x.upstream.cfg.Tokens.Invalidate(x.token)
	if !x.resends() {
		return result, x.distrusted()
	}
	fresh, tokenErr := x.upstream.cfg.Tokens.Token(ctx)
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
		x.upstream.cfg.Tokens.Invalidate(fresh)
	}
	return result, err
}

// attempt is one HTTP exchange.
func (x *Exchange) attempt(ctx context.Context) (Result, error) {
	var flight flight
	request, err := x.request(flight.trace(ctx))
	if err != nil {
		return Result{}, fault.Of(err)
	}
	response, err := x.upstream.transport.RoundTrip(request)
	if err != nil {
		return Result{Attempts: []int{0}, Sent: flight.departed()},
			fault.FromExchange(x.route.ReadOnly, flight.departed(), x.cause(ctx, err))
	}
	result := Result{Status: response.StatusCode, Attempts: []int{response.StatusCode}, Sent: true}
	result.nonce = x.token.Answered(response.StatusCode, response.Header)
	body, err := read(response)
	switch {
	case response.StatusCode/100 != 2:
		return result, x.redact(fault.FromAnswer(x.route.ReadOnly, response.StatusCode, response.Header, body))
	case err != nil:
		return result, x.unreadable(ctx, response.StatusCode, err)
	case response.StatusCode == http.StatusNoContent:
		body = []byte("{}")
	}
	result.Body = body
	return result, nil
}

// cause returns the context's error if that is why the exchange failed, since
// net/http names it in many ways.
func (x *Exchange) cause(ctx context.Context, err error) error {
	if done := ctx.Err(); done != nil {
		return errors.Join(done, err)
	}
	return err
}

// unreadable is the fault of a success whose body could not be read.
func (x *Exchange) unreadable(ctx context.Context, status int, err error) error {
	if errors.Is(err, errTooLarge) {
		return fault.Unusable(x.route.ReadOnly, status, "C1's answer is larger than c1proxy accepts").Because(err)
	}
	if ctx.Err() != nil {
		return fault.FromExchange(x.route.ReadOnly, true, ctx.Err())
	}
	return fault.Unusable(x.route.ReadOnly, status, "C1's answer was cut off").Because(err)
}
