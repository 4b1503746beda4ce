package proxy

import (
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

// maxFailing bounds the peers whose failures are counted at once, and so the
// memory that strangers can have used: 35 bytes each.
const maxFailing = 1 << 16

// failures counts, by peer, how often calls fail to authenticate. Its peers are
// whatever strangers make up, so it has a limiter of its own. It is safe for
// concurrent use.
type failures struct {
	begun   time.Time
	limiter *ratelimit.Limiter
	// until is when no peer is over the limit any more, at the latest, since
	// begun. Before that, and only then, each call is looked at.
	until atomic.Int64
}

func newFailures() *failures {
	return &failures{begun: time.Now(), limiter: ratelimit.New(maxFailing)}
}

// rule is the limit of one peer.
func (f *failures) rule(p peer, limit ratelimit.Limit) ratelimit.Rule {
	return ratelimit.Rule{Scope: "peer", Key: p.network(), Limit: limit}
}

// over is how long a peer is over its limit yet; 0 if it is not. It counts
// nothing.
func (f *failures) over(p peer, limit ratelimit.Limit) time.Duration {
	if int64(time.Since(f.begun)) >= f.until.Load() {
		return 0
	}
	return f.limiter.Wait(f.rule(p, limit))
}

// count counts a failure, and returns how long the peer is over its limit with it;
// 0 if it is not.
func (f *failures) count(p peer, limit ratelimit.Limit) time.Duration {
	d := f.limiter.Spend([]ratelimit.Rule{f.rule(p, limit)}, 1)
	if d.Rule.Limit.Rate > 0 && d.Remaining == 0 {
		// The next unit comes back within one interval.
		interval := limit.Per/time.Duration(limit.Rate) + 1
		f.shut(int64(time.Since(f.begun) + max(d.RetryAfter, interval)))
	}
	return d.RetryAfter
}

// shut raises until.
func (f *failures) shut(until int64) {
	for old := f.until.Load(); old < until && !f.until.CompareAndSwap(old, until); old = f.until.Load() {
	}
}

// limitFailures refuses calls of a peer whose calls have failed to authenticate
// too often, before anything is verified of them. A credential that has been found
// good passes: behind one address there may be many callers, and who has a good
// one must not suffer from a neighbour. To find that out costs a hash.
func limitFailures(b *binding, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := w.(*call)
		callers := c.edition.callers
		if b.admin {
			callers = c.edition.operators.callers
		}
		if wait := b.gateway.failures.over(c.peer, c.edition.failedAuth); wait > 0 && !callers.Knows(r) {
			b.refuse(c, r, tooManyFailures(wait))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// countFailure counts a call that failed to authenticate, and returns the fault to
// answer with: that of a peer over its limit learns nothing of its credential. An
// issuer that does not answer, or a team that was not chosen, is no failure.
func (g *gateway) countFailure(c *call, f *fault.Fault) *fault.Fault {
	if f.Code != connect.CodeUnauthenticated && f.Reason != fault.CallerUnknown {
		return f
	}
	if wait := g.failures.count(c.peer, c.edition.failedAuth); wait > 0 {
		return tooManyFailures(wait)
	}
	return f
}

func tooManyFailures(wait time.Duration) *fault.Fault {
	f := fault.New(connect.CodeResourceExhausted, fault.TooManyFailures,
		"too many calls from your address failed to authenticate: mend the credential, wait %s s, then go on more slowly", fault.Seconds(wait))
	f.RetryAfter = wait
	return f
}
