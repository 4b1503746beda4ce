package ratelimit

import (
	"math/bits"
	"time"
)

// horizon bounds every span of time in this package, in nanoseconds: about 73
// years. Two spans and a moment within it add up without overflow.
const horizon = int64(1) << 61

// A Limit is a sustained rate with a burst.
//
// A Rate of 0 means no limit. With any other field below 1, or a negative
// Rate, every call is refused: a mistake closes the door.
type Limit struct {
	// Rate is how many units each Per gives back. 0 means no limit.
	Rate int64
	// Per is the time in which Rate units come back.
	Per time.Duration
	// Burst is how many units can be spent at once, after a rest.
	Burst int64
}

// share is one replica's part of a limit: the shares of all never give back
// more than the limit does, and hold no more than its burst.
//
// There is one exception: a share holds at least dearest units, and at least 1,
// or what costs that much could never pass. Where a burst is below that much for
// each replica, the replicas together can let through more than the burst at
// once; over time they keep the rate all the same.
//
// A bucket that owes a share for some time owes the whole limit for that time
// too: both are full again at the same moment. So what is owed needs no
// conversion between the two.
func (l Limit) share(replicas, dearest int64) Limit {
	if replicas <= 1 || l.pace().capacity == 0 {
		return l
	}
	l.Per = time.Duration(product(int64(l.Per), replicas))
	l.Burst = max(l.Burst/replicas, min(max(1, dearest), l.Burst))
	return l
}

// shareOf is one replica's part of a cap on the calls at once, at least 1.
func shareOf(most, replicas int64) int64 {
	if most <= 0 || replicas <= 1 {
		return most
	}
	return max(1, most/replicas)
}

// A pace is a Limit in nanoseconds: the two parameters of the Generic Cell
// Rate Algorithm (ITU-T I.371, Annex A).
//
// A unit comes back every interval, and capacity is Burst intervals. Interval
// is rounded up, so that a pace is never faster than its Limit. It is at least
// 1 ns, so that no bucket gives more than 1e9 units a second, and at most the
// horizon. A capacity past the horizon is cut to it: a smaller burst.
type pace struct {
	interval int64
	capacity int64
}

// pace converts l. A Limit that is not sound has no capacity.
func (l Limit) pace() pace {
	if l.Rate < 1 || l.Per < 1 || l.Burst < 1 {
		return pace{interval: horizon}
	}
	interval := int64(l.Per) / l.Rate
	if int64(l.Per)%l.Rate != 0 {
		interval++
	}
	interval = min(interval, horizon)
	return pace{interval: interval, capacity: min(product(l.Burst, interval), horizon)}
}

// spend decides over one bucket and changes nothing.
//
// The whole state of a bucket is tat, its theoretical arrival time: the moment
// at which it is full again. At or before now it is full; at now + capacity it
// is empty. Now lies within [0, horizon] and tat within [0, 2*horizon].
//
// It returns the tat after the spending, and how long the same call has to
// wait: 0 when it is allowed now, and -1 when it costs more than the bucket
// ever holds.
func (p pace) spend(now, tat, cost int64) (next, wait int64) {
	need := product(cost, p.interval)
	if need > p.capacity {
		return tat, -1
	}
	next = max(tat, now) + need
	if wait = next - p.capacity - now; wait > 0 {
		return tat, wait
	}
	return next, 0
}

// remaining is how many units can be spent at once at now.
func (p pace) remaining(now, tat int64) int64 {
	return max(0, p.capacity-max(0, tat-now)) / p.interval
}

// product multiplies two numbers that are not negative. What passes the
// horizon becomes horizon + 1, which is more than any capacity.
func product(a, b int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi != 0 || lo > uint64(horizon) {
		return horizon + 1
	}
	return int64(lo)
}
