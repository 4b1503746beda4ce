package credential

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/oauth2"

	"github.com/c1proxy/c1proxy/internal/fault"
)

const (
	// maxRetryAfter caps how long the token endpoint can ask us to wait.
	maxRetryAfter = 30 * time.Second
	// maxHold caps how long a failure that will not pass by itself is answered
	// from memory, and quickHold the same for one that may.
	maxHold   = 5 * time.Second
	quickHold = 900 * time.Millisecond
	// maxSkew is how far the endpoint's clock may be from ours before it is
	// worth a word when the credential is refused.
	maxSkew = time.Minute
)

// A failure is why an exchange gave no token. It has no byte of the answer in
// it, since an answer can echo the secret.
type failure struct {
	// rejected is true if C1 refused the credential, false if no answer on it
	// could be had.
	rejected bool
	// own is true if the failure is that of the credential alone: another one
	// may do. What is rejected always is.
	own bool
	// slow is true if only an operator can help, or C1's: asking again soon
	// is of no use.
	slow bool
	// stalled is true if the time ran out.
	stalled bool
	// closed is true if the Source was closed.
	closed bool
	// what went wrong, in words that callers see.
	what string
	// status is the answer's, 0 if there was none.
	status int
	// code is the OAuth error, one of ours, or "" if there was none.
	code string
	// retryAfter is how long the endpoint asked us to wait, capped.
	retryAfter time.Duration
	// skew is how far the endpoint's clock is ahead of ours, where that may
	// explain the failure.
	skew time.Duration
	// cause is for the log. It is nil unless it is known to be free of secrets.
	cause error
}

// refusals are the OAuth errors by which an endpoint refuses a credential, and
// not just a request (RFC 6749, section 5.2; RFC 8693, section 2.2.2).
var refusals = []string{
	"invalid_client", "unauthorized_client", "invalid_grant", "access_denied",
	"invalid_request", "unsupported_grant_type", "invalid_scope", "invalid_target", badProof,
}

// troubles are the OAuth errors by which an endpoint says that it cannot serve,
// or not yet.
var troubles = []string{"temporarily_unavailable", "server_error", "slow_down", useNonce}

// failure reads what became of an exchange. Of err it takes the OAuth error,
// if it is one from the lists above: an endpoint can write anything there.
func (r *recorder) failure(ctx context.Context, err error) *failure {
	switch {
	case ctx.Err() != nil:
		return silence(r.status)
	case r.status == 0:
		return &failure{what: "the token endpoint could not be reached", cause: fault.Speakable(err)}
	}
	f := &failure{status: r.status, retryAfter: min(fault.RetryAfter(r.header, 0), maxRetryAfter)}
	var refused *oauth2.RetrieveError // its text has the answer's body: never wrapped, never printed
	if errors.As(err, &refused) {
		f.code = known(refused.ErrorCode)
	}
	switch {
	case slices.Contains(troubles, f.code), r.status == http.StatusTooManyRequests, r.status >= 500,
		r.status == http.StatusRequestTimeout:
		f.what = fmt.Sprintf("the token endpoint answered %d", r.status)
	case slices.Contains(refusals, f.code), r.status == http.StatusBadRequest,
		r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		f.rejected, f.own, f.slow = true, true, true
		f.what = "C1 refuses c1proxy's own credential: have its client id and its secret or federation checked"
		f.skew = worthy(r.skew)
	case r.status/100 == 3:
		f.slow = true
		f.what = fmt.Sprintf("the token endpoint answered %d, a redirect, which is never followed: check the tenant's URL", r.status)
	case r.status/100 == 2:
		f.slow = true
		f.what = "the token endpoint's answer could not be read"
	default:
		f.slow = true
		f.what = fmt.Sprintf("the token endpoint answered %d: check the tenant's URL", r.status)
	}
	return f
}

// silence is the failure of an endpoint that takes longer than we have.
func silence(status int) *failure {
	return &failure{what: "the token endpoint did not answer in time", status: status, stalled: true}
}

// known returns an OAuth error that is on our lists, "other" for one that is
// not, and "" for none.
func known(code string) string {
	if code == "" || slices.Contains(refusals, code) || slices.Contains(troubles, code) {
		return code
	}
	return "other"
}

// skew returns how far the clock of the answer's Date is ahead of ours, in
// whole seconds; 0 if there is none to read.
func skew(h http.Header, now time.Time) time.Duration {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return date.Sub(now).Round(time.Second)
}

// worthy returns a skew that may matter, and 0 for any other.
func worthy(skew time.Duration) time.Duration {
	if skew.Abs() > maxSkew {
		return skew
	}
	return 0
}

// unbound is the failure of a credential that C1 wants a proof of, and which is
// not set to give any.
func (f *failure) unbound() *failure {
	f.rejected, f.own, f.slow = true, true, true
	f.what = "C1 requires DPoP (RFC 9449) of the credential: set dpop: true beside it"
	return f
}

// backoff is how long callers are answered from memory after the nth failure
// in a row, counted from 1, and how long until the next attempt that no caller
// asks for. Both double and vary, so that proxies do not march in step.
//
// A failure that may pass by itself holds for 0.9 s at most, one that may not
// for 5 s; a Retry-After holds for as long as it says.
func (f *failure) backoff(n int) (hold, next time.Duration) {
	first, most := 100*time.Millisecond, quickHold
	if f.slow {
		first, most = 500*time.Millisecond, maxHold
	}
	n = min(n, 16) - 1
	hold = max(jitter(min(first<<n, most)), f.retryAfter)
	next = max(hold, jitter(min(time.Second<<n, 30*time.Second)))
	return hold, next
}

// jitter returns d less up to a quarter.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/4+1) }

// fault is what a caller of a tenant sees. Wait is how long the failure holds.
func (f *failure) fault(of *Config, wait time.Duration) *fault.Fault {
	if f.closed {
		return fault.New(connect.CodeUnavailable, fault.ShuttingDown, "c1proxy is stopping and gets no new tokens")
	}
	out := fault.New(connect.CodeUnavailable, fault.TokenUnavailable, "no access token for %s: %s", of.owner(), f.what)
	if f.rejected {
		out.Reason = fault.UpstreamCredentialRejected
	} else {
		out.RetryAfter = max(wait, 0)
	}
	out.With("tenant", of.Tenant)
	if f.status != 0 {
		out.With("upstream_status", strconv.Itoa(f.status))
	}
	if f.code != "" {
		out.With("oauth_error", f.code)
	}
	if f.cause != nil {
		out.Because(f.cause)
	}
	return out
}

// attributes are f for the log.
func (f *failure) attributes() []slog.Attr {
	attrs := []slog.Attr{slog.String("failure", f.what)}
	if f.status != 0 {
		attrs = append(attrs, slog.Int("status", f.status))
	}
	if f.code != "" {
		attrs = append(attrs, slog.String("oauth_error", f.code))
	}
	if f.cause != nil {
		attrs = append(attrs, slog.String("cause", f.cause.Error()))
	}
	if f.skew != 0 {
		attrs = append(attrs, slog.String("clock", fmt.Sprintf("clock skew %d s", int64(f.skew.Abs()/time.Second))))
	}
	return attrs
}
