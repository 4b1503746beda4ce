// Package ratelimit says whether a call may pass now, by the limits of its
// caller, its team and its tenant together.
//
// The algorithm is GCRA: a bucket's whole state is one moment, the time at
// which it is full again. Within any span of time t a bucket accepts at most
// Burst + t * Rate/Per units, exactly: the arithmetic is in whole nanoseconds
// and rounds against the caller. Time is the process's monotonic clock, so
// that a step of the wall clock changes nothing. A restart forgets all debts.
//
// Memory is bounded, and stays within the promise when there are more buckets
// than memory: see table.
package ratelimit

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"time"
)

// never is the RetryAfter of a call that costs more than the bucket ever
// holds. No wait helps it, yet it must not come back at once.
const never = 24 * time.Hour

// A Rule is one limit that a call is held to.
type Rule struct {
	// Scope is whose limit this is: "caller", "team" or "tenant". It is also
	// the policy's name in the RateLimit fields.
	Scope string
	// Key names the bucket, uniquely within its scope, such as
	// "payments/sync-bot".
	Key string
	// Limit is the bucket's limit. It may change between two calls: a bucket
	// that owes more than the new limit can hold counts as just emptied. The
	// zero Limit never refuses.
	Limit Limit
}

// A Decision says whether a call may pass, and what the caller should know.
type Decision struct {
	// Allowed is true if the call was charged to every rule, and false if it
	// was charged to none.
	Allowed bool
	// Rule is the rule with the longest wait if the call is refused, and the
	// one with the least left if it is allowed. It is the zero Rule if there
	// was nothing to limit.
	Rule Rule
	// Remaining is how many units Rule has left, after this call.
	Remaining int64
	// RetryAfter is how long the same call has to wait, if nobody else spends
	// meanwhile. It is 0 for an allowed call. It is 24 hours for one that
	// costs more than the burst, which stays refused.
	RetryAfter time.Duration
	// ResetAfter is how long it takes Rule to be full again.
	ResetAfter time.Duration
}

// A Limiter holds the buckets of one process. It is safe for concurrent use.
//
// One lock guards it all. The calls of a tenant meet in the tenant's bucket in
// any case, and the lock is held for some tens of nanoseconds.
type Limiter struct {
	start time.Time
	seed  maphash.Seed

	mu    sync.Mutex
	table table // guarded by mu
	last  int64 // guarded by mu: the latest now that was used
}

// New returns a Limiter for about maxBuckets buckets that are in use, which
// means not full. It takes 35 bytes for each, at once and for good, of which
// the system lends only what is touched.
//
// More buckets than that cost their callers, never the limits: they begin to
// share what others owe, and Evicted counts. Keys that a stranger can make up
// belong in a Limiter of their own.
func New(maxBuckets int) *Limiter {
	return &Limiter{start: time.Now(), seed: maphash.MakeSeed(), table: newTable(maxBuckets)}
}

// A claim is one rule's part in one call.
type claim struct {
	rule *Rule // nil if the rule has no limit
	hash uint64
	pace pace

	// What pace.spend answered.
	next, wait int64
	// stored is the bucket's place in the table, or nil if it has none.
	stored *int64
}

// Spend charges cost to every rule, or to none if any of them refuses. A cost
// below 1 counts as 1. Two rules with the same scope and key are charged as
// one. It does not allocate for up to four rules.
func (l *Limiter) Spend(rules []Rule, cost int64) Decision {
	var space [4]claim
	claims := space[:0]
	for i := range rules {
		claims = append(claims, l.claim(&rules[i]))
	}
	now := l.settle(claims, int64(time.Since(l.start)), max(1, cost))

	var told *claim // the one that the decision is about
	for i := range claims {
		if c := &claims[i]; c.rule != nil && (told == nil || c.tighter(told, now)) {
			told = c
		}
	}
	if told == nil {
		return Decision{Allowed: true}
	}
	return told.decision(now)
}

// Evicted returns how many buckets were pushed out before they were full. A
// number that grows means that there are more buckets than New was told.
func (l *Limiter) Evicted() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.table.evicted
}

// claim prepares what needs no lock. A hash is never 0, as an unused slot's is.
func (l *Limiter) claim(r *Rule) claim {
	if r.Limit.Rate == 0 {
		return claim{}
	}
	scope := maphash.String(l.seed, r.Scope)
	key := maphash.String(l.seed, r.Key)
	return claim{rule: r, hash: bits.RotateLeft64(scope, 32) ^ key | 1, pace: r.Limit.pace()}
}

// settle asks every bucket and, if all agree, charges them. It returns the
// moment it did so at: elapsed, or the latest one before if that is later,
// since callers reach the lock in another order than they read the clock.
func (l *Limiter) settle(claims []claim, elapsed, cost int64) (now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = max(elapsed, l.last)
	l.last = now
	allowed := true
	for i := range claims {
		if c := &claims[i]; c.rule != nil {
			c.next, c.wait = c.pace.spend(now, l.tat(c, now), cost)
			allowed = allowed && c.wait == 0
		}
	}
	if allowed {
		l.charge(claims, now)
	}
	return now
}

// tat returns the time of a claim's bucket. One that is further from full than
// its pace allows, because its limit was tightened, is set to empty: it would
// otherwise wait out the debts of the old limit.
func (l *Limiter) tat(c *claim, now int64) int64 {
	stored, floor := l.table.find(c.hash)
	if c.stored = stored; stored == nil {
		return floor
	}
	if c.pace.capacity > 0 {
		*stored = min(*stored, now+c.pace.capacity)
	}
	return *stored
}

// charge stores what all have allowed. The buckets that have a place come
// first, because making a place for another may take theirs.
func (l *Limiter) charge(claims []claim, now int64) {
	for i := range claims {
		if c := &claims[i]; c.stored != nil {
			*c.stored = c.next
		}
	}
	for i := range claims {
		if c := &claims[i]; c.rule != nil && c.stored == nil {
			l.table.store(c.hash, now, c.next)
		}
	}
}

// decision is what a claim alone amounts to.
func (c *claim) decision(now int64) Decision {
	d := Decision{
		Allowed:    c.wait == 0,
		Rule:       *c.rule,
		Remaining:  c.pace.remaining(now, c.next),
		RetryAfter: time.Duration(c.wait),
		ResetAfter: time.Duration(max(0, c.next-now)),
	}
	if c.wait < 0 {
		d.RetryAfter = never
	}
	return d
}

// tighter reports whether c says more to the caller than other does: a refusal
// more than a permission, a longer wait, or less that remains.
func (c *claim) tighter(other *claim, now int64) bool {
	if c.wait == 0 && other.wait == 0 {
		return c.pace.remaining(now, c.next) < other.pace.remaining(now, other.next)
	}
	// As an unsigned number, the -1 of a refusal for good is the longest wait.
	return uint64(c.wait) > uint64(other.wait)
}
