package ratelimit

import "time"

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
