package ratelimit

import (
	"context"
	"errors"
	"time"
)

// Horizon is opened to the tests of the core.
const Horizon = horizon

// Ask is the pure core: one bucket, no memory.
func (l Limit) Ask(now, tat, cost int64) (next, wait int64) { return l.pace().spend(now, tat, cost) }

// Pace returns the interval and the capacity of a limit in nanoseconds.
func (l Limit) Pace() (interval, capacity int64) {
	p := l.pace()
	return p.interval, p.capacity
}

// MonotonicStart reports whether the limiter's zero is on the monotonic clock.
func (l *Limiter) MonotonicStart() bool { return l.start != l.start.Round(0) }

// Never is the wait of a call that no wait helps.
const Never time.Duration = never

// SpendAt is Spend at a moment.
func (l *Limiter) SpendAt(now int64, rules []Rule, cost int64) Decision {
	claims := l.claims(nil, rules, 1)
	now, allowed := l.settle(claims, now, max(1, cost))
	return decide(claims, now, allowed)
}

// SpendAt has Redis decide at a moment, and remembers nothing. The call's places
// are those of id.
func (f *Fleet) SpendAt(now int64, set *Set, id uint64) (Decision, error) {
	cost := max(1, set.Cost)
	q, claims, _ := f.store.ask("spend", set, cost, id)
	q.now = span(now)
	client, err := f.store.reach()
	if err != nil {
		return Decision{}, err
	}
	allowed, opinions, err := f.store.exec(context.Background(), client, q)
	if err != nil {
		return Decision{}, err
	}
	d := judge(claims, opinions, cost, allowed)
	if d.Allowed != allowed {
		return d, errors.New("the script and the core disagree whether the call may pass")
	}
	return d, nil
}

// EndAt ends a call's places in Redis.
func (f *Fleet) EndAt(set *Set, held, id uint64) {
	f.store.remember(id, set, held)
	f.store.release(id)
	f.store.work.Wait()
}

// Local is what the replica itself knows.
func (f *Fleet) Local() *Limiter { return f.local }

// Ended counts the places of calls that have ended, and that Redis may still count.
func (f *Fleet) Ended() int {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	return len(f.store.ended)
}
