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
	// flights counts the calls under way, of the rules with a cap that have any.
	// Guarded by mu.
	flights map[flight]int64
}

// A flight names what calls are under way of.
type flight struct{ scope, key string }

// New returns a Limiter for about maxBuckets buckets that are in use, which
// means not full. It takes 35 bytes for each, at once and for good, of which
// the system lends only what is touched.
//
// More buckets than that cost their callers, never the limits: they begin to
// share what others owe, and Evicted counts. Keys that a stranger can make up
// belong in a Limiter of their own.
func New(maxBuckets int) *Limiter {
	return &Limiter{start: time.Now(), seed: maphash.MakeSeed(), table: newTable(maxBuckets), flights: make(map[flight]int64)}
}

// A claim is one rule's part in one call.
type claim struct {
	rule *Rule
	// limited is false if the rule has no rate.
	limited bool
	hash    uint64
	pace    pace
	// most is the cap on the calls at once, 0 for none.
	most int64

	// What pace.spend answered.
	next, wait int64
	// full says that the cap refuses.
	full bool
	// stored is the bucket's place in the table, or nil if it has none.
	stored *int64
}

// refuses says whether the rule would not let the call pass.
func (c *claim) refuses() bool { return c.wait != 0 || c.full }

// Spend charges cost to every rule and takes a place of each that has a cap, or
// does neither if any of them refuses. A cost below 1 counts as 1. Two rules
// with the same scope and key are charged as one, but each takes its place.
// There are at most MaxRules. It does not allocate for up to four of them.
//
// A call that was allowed gives its places back by Release.
func (l *Limiter) Spend(rules []Rule, cost int64) Decision { return l.spend(rules, cost, 1) }

// spend is Spend with this replica's share of each limit.
func (l *Limiter) spend(rules []Rule, cost, replicas int64) Decision {
	var space [4]claim
	claims := l.claims(space[:0], rules, replicas)
	now, allowed := l.settle(claims, int64(time.Since(l.start)), max(1, cost))
	return decide(claims, now, allowed)
}

// Release gives back the places of a call that was allowed: rules and held are
// what it was decided by, and what Decision.Held said. It must be called once.
func (l *Limiter) Release(rules []Rule, held uint64) {
	if held == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range rules {
		if held>>i&1 == 0 {
			continue
		}
		name := flight{rules[i].Scope, rules[i].Key}
		if l.flights[name]--; l.flights[name] <= 0 {
			delete(l.flights, name)
		}
	}
}

// Peek tells where the rules stand, and spends nothing.
func (l *Limiter) Peek(rules []Rule) []Level { return l.peek(rules, 1) }

func (l *Limiter) peek(rules []Rule, replicas int64) []Level {
	claims := l.claims(nil, rules, replicas)
	levels := make([]Level, len(rules))
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.moment(int64(time.Since(l.start)))
	for i := range claims {
		c := &claims[i]
		levels[i].Rule = rules[i]
		if c.limited {
			tat := l.tat(c, now)
			levels[i].Remaining, levels[i].ResetAfter = c.pace.remaining(now, tat), time.Duration(max(0, tat-now))
		}
		if c.most != 0 {
			levels[i].InFlight = l.flights[flight{c.rule.Scope, c.rule.Key}]
		}
	}
	return levels
}

// Evicted returns how many buckets were pushed out before they were full. A
// number that grows means that there are more buckets than New was told.
func (l *Limiter) Evicted() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.table.evicted
}

// claims prepares what needs no lock. A hash is never 0, as an unused slot's is.
func (l *Limiter) claims(space []claim, rules []Rule, replicas int64) []claim {
	for i := range rules {
		r := &rules[i]
		c := claim{rule: r, most: shareOf(r.Most, replicas)}
		if r.Limit.Rate != 0 {
			scope, key := maphash.String(l.seed, r.Scope), maphash.String(l.seed, r.Key)
			c.limited, c.hash = true, bits.RotateLeft64(scope, 32)^key|1
			c.pace = r.Limit.share(replicas, r.Dearest).pace()
		}
		space = append(space, c)
	}
	return space
}

// moment is what counts as now: elapsed, or the latest moment before if that is
// later, since callers reach the lock in another order than they read the clock.
// Called with mu held.
func (l *Limiter) moment(elapsed int64) int64 {
	l.last = max(elapsed, l.last)
	return l.last
}

// settle asks every rule and, if all agree, charges them. It returns the moment
// that it did so at.
func (l *Limiter) settle(claims []claim, elapsed, cost int64) (now int64, allowed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, allowed = l.moment(elapsed), true
	for i := range claims {
		c := &claims[i]
		if c.limited {
			c.next, c.wait = c.pace.spend(now, l.tat(c, now), cost)
		}
		if c.most != 0 {
			c.full = l.flights[flight{c.rule.Scope, c.rule.Key}] >= c.most
		}
		allowed = allowed && (c.rule.Shadow || !c.refuses())
	}
	if allowed {
		l.charge(claims, now)
	}
	return now, allowed
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
		if c := &claims[i]; c.stored != nil && !c.refuses() {
			*c.stored = c.next
		}
	}
	for i := range claims {
		c := &claims[i]
		if c.refuses() {
			continue // in shadow
		}
		if c.limited && c.stored == nil {
			l.table.store(c.hash, now, c.next)
		}
		if c.most != 0 {
			l.flights[flight{c.rule.Scope, c.rule.Key}]++
		}
	}
}
