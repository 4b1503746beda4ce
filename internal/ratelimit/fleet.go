package ratelimit

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// A Set is the rules that some calls are held to together. It is not changed
// once it is in use.
type Set struct {
	// Tenant is the C1 tenant that the calls go to: in Redis all its rules lie
	// in one slot.
	Tenant string
	// Rules are at most MaxRules, each with a key of its own.
	Rules []Rule
	// Cost is what a call is charged. Below 1 it counts as 1.
	Cost int64
	// Lease is the longest that a call can be under way. The places of a replica
	// that died are free after it.
	Lease time.Duration
}

// A Fleet limits the calls of one replica, together with the other replicas
// where there is a Redis. It is safe for concurrent use.
//
// Redis decides, by its own clock, in one step over all rules of a call. The
// replica remembers what each bucket owed when it last saw it, and tells Redis
// with every call: what Redis has forgotten, by a restart, a failover or an
// eviction, is restored by whoever calls next. While Redis does not answer in
// time, the replica goes on with its share of each limit, from what it last
// saw; and when Redis is back, what was spent meanwhile counts there.
//
// What the replicas together may then accept beyond a limit: what others spent
// that a replica had not seen when it was cut off, and, if a replica alone is cut
// off, its share.
type Fleet struct {
	local *Limiter
	// store is nil without Redis.
	store *store
}

// NewFleet returns a Fleet of one replica, for about maxBuckets buckets: see New.
func NewFleet(maxBuckets int) *Fleet { return &Fleet{local: New(maxBuckets)} }

// A Verdict is a decision, and by whom it was made.
type Verdict struct {
	Decision
	// Local says that this replica decided by itself, with its share, because
	// Redis did not answer.
	Local bool
	// ID names the call's places in Redis; 0 if it has none.
	ID uint64
}

// Spend decides over a call: see Limiter.Spend. With Redis it waits for at most
// the budget. It fails only where it must not decide without Redis. A call that
// was allowed is given to Release when it has ended.
func (f *Fleet) Spend(set *Set) (Verdict, error) {
	s := f.store
	if s == nil || len(set.Rules) == 0 {
		return Verdict{Decision: f.local.Spend(set.Rules, set.Cost)}, nil
	}
	if s.up.Load() {
		v, err := s.spend(set)
		if err == nil {
			s.failures.Store(0)
			s.shared.Add(1)
			return v, nil
		}
		s.failed(err, set.Tenant)
	}
	if s.config.Refuse {
		s.refused.Add(1)
		f := fault.New(connect.CodeUnavailable, fault.LimiterUnavailable,
			"c1proxy cannot reach the Redis that holds its limits: nothing was sent")
		f.RetryAfter = time.Second
		return Verdict{}, f
	}
	s.alone.Add(1)
	v := Verdict{Decision: f.local.spend(set.Rules, set.Cost, s.config.Replicas), Local: true}
	if v.Allowed {
		s.touch(set)
		v.ID = s.hold(set, v.Held)
	}
	return v, nil
}

// Release gives back the places of a call that was allowed. It does not wait.
func (f *Fleet) Release(set *Set, v Verdict) {
	if v.Held == 0 {
		return
	}
	f.local.Release(set.Rules, v.Held)
	if f.store != nil {
		f.store.release(v.ID)
	}
}

// Peek tells where the rules of a set stand for the whole fleet, and spends
// nothing. Where Redis does not answer, it is what this replica knows, with its
// share of each limit, and shared is false.
func (f *Fleet) Peek(set *Set) (levels []Level, shared bool) {
	s := f.store
	if s == nil {
		return f.local.Peek(set.Rules), false
	}
	if s.up.Load() {
		if levels, err := s.peek(set); err == nil {
			return levels, true
		}
	}
	return f.local.peek(set.Rules, s.config.Replicas), false
}

// State returns how it stands with Redis; the zero State without one.
func (f *Fleet) State() State {
	if f.store == nil {
		return State{}
	}
	return f.store.state()
}

// Close lets go of Redis. Spend goes on alone.
func (f *Fleet) Close() {
	if f != nil && f.store != nil {
		f.store.close()
	}
}

// A place is a call's, in each of some sets of places, until its deadline.
type place struct {
	keys  []string
	until time.Time
}

// A bucket names a bucket in Redis.
type bucket struct{ tenant, scope, key string }

// memory is what a replica keeps so as to tell Redis.
type memory struct {
	next atomic.Uint64

	mu sync.Mutex
	// places are those of the calls under way. Guarded by mu.
	places map[uint64]place
	// ended are places that Redis may still count. Guarded by mu.
	ended []place
	// endedIDs has the call of each place in ended. Guarded by mu.
	endedIDs []uint64
	// touched are the rules that were charged here alone, with their tenants.
	// Guarded by mu.
	touched map[bucket]Rule
}

// maxEnded bounds what is remembered of calls that ended while Redis was away.
// What is forgotten ends in Redis at its deadline.
const maxEnded = 1 << 16

// touch remembers which buckets were charged here alone.
func (s *store) touch(set *Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range set.Rules {
		if r := &set.Rules[i]; r.Limit.Rate != 0 {
			s.touched[bucket{set.Tenant, r.Scope, r.Key}] = *r
		}
	}
}

// hold remembers the places of a call that was allowed. It returns its id.
func (s *store) hold(set *Set, held uint64) uint64 {
	if held == 0 {
		return 0
	}
	id := s.next.Add(1)
	s.remember(id, set, held)
	return id
}

func (s *store) remember(id uint64, set *Set, held uint64) {
	p := place{until: time.Now().Add(set.Lease)}
	for i := range set.Rules {
		if held>>i&1 != 0 {
			p.keys = append(p.keys, s.placesKey(set.Tenant, &set.Rules[i]))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places[id] = p
}

// disown ends the places that Redis may have given, or may give yet, by an answer
// that nobody waits for any more.
func (s *store) disown(id uint64, set *Set) {
	var capped uint64
	for i := range set.Rules {
		if set.Rules[i].Most != 0 {
			capped |= 1 << i
		}
	}
	if capped != 0 {
		s.remember(id, set, capped)
		s.release(id)
	}
}

// member is the name of a call among the places: the replica, and a number.
func (s *store) member(id uint64) string { return s.name + strconv.FormatUint(id, 36) }
