package forward

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/gate"
)

const (
	// maxAgain is how many attempts follow the first at a read.
	maxAgain = 2
	// firstPause is the longest pause before the first of them; it doubles.
	firstPause = 100 * time.Millisecond
	// shortWait is the longest wait that C1 may ask for and be obeyed; with a
	// longer one it is the caller who decides.
	shortWait = time.Second
	// silence is how long C1 may be silent before it counts against it, even if
	// it was the caller's deadline that passed.
	silence = 5 * time.Second
)

// errCut marks the fault of an answer that ended too early.
var errCut = errors.New("the answer was cut off")

// pauses says whether a read is to be tried again, the n-th time, and if so
// returns when it is time to. It is not if C1 has answered; if the tenant's
// budget is spent, or its breaker open; or if the context would end first.
func (x *Exchange) pauses(ctx context.Context, n int, result Result, err error) bool {
	if n >= maxAgain || ctx.Err() != nil || verdict(result, err) < gate.Failed {
		return false
	}
	pause := rand.N(firstPause << n)
	if asked := fault.Of(err).RetryAfter; asked > shortWait {
		return false
	} else if asked > pause {
		pause = asked
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < pause+tooShort {
		return false
	}
	if !x.pass.Again() {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// report tells the gate what an attempt that took so long says of C1. Of one
// that ended with the caller's deadline it says nothing, unless C1 was silent
// for so long that it counts all the same.
func (x *Exchange) report(result Result, err error, took time.Duration) {
	v := verdict(result, err)
	f := fault.Of(err)
	if f != nil && f.Reason == fault.DeadlineExceeded && took >= min(silence, x.upstream.cfg.Timeout) {
		v = gate.Failed
	}
	cfg, change := &x.upstream.cfg, gate.Same
	if result.Status == http.StatusTooManyRequests {
		var wait time.Duration
		var news bool
		change, wait, news = x.pass.Throttle(result.rest)
		f.RetryAfter = max(f.RetryAfter, wait) // before that, no call of the tenant's is let in
		if news {
			cfg.Logger.Warn("C1's own rate limit is used up: calls to it are refused for a while", "tenant", cfg.Tenant, "for", wait.Round(time.Millisecond).String())
		}
	} else {
		change = x.pass.Report(v)
	}
	switch change {
	case gate.Opened:
		cfg.Logger.Warn("C1 does not answer: calls to it are refused", "tenant", cfg.Tenant, "last", f)
	case gate.Closed:
		cfg.Logger.Info("C1 answers again", "tenant", cfg.Tenant)
	}
}

// verdict is what an attempt says of C1, whatever it says to the caller. A
// deadline, which may be the caller's own, is left to report.
func verdict(result Result, err error) gate.Verdict {
	f := fault.Of(err)
	switch {
	case f == nil:
		return gate.Alive
	case f.Reason == fault.Canceled || f.Reason == fault.DeadlineExceeded:
		return gate.Unclear
	case len(result.Attempts) == 0: // it was not even tried
		return gate.Unclear
	case result.Status == 0 && f.Reason == fault.UpstreamRateLimited: // nor was it again
		return gate.Unclear
	case result.Status == http.StatusBadGateway, result.Status == http.StatusServiceUnavailable, result.Status == http.StatusGatewayTimeout:
		return gate.Failed
	case result.Status == 0 && f.Reason == fault.UpstreamUnreachable:
		return gate.Unreachable
	case result.Status == 0, errors.Is(f.Cause, errCut):
		return gate.Failed
	}
	return gate.Alive
}
