package ratelimit

import "time"

// Wait is how long a call that costs 1 would have to wait under one rule; 0 if it
// would pass. It charges nothing, and does not look at caps.
func (l *Limiter) Wait(rule Rule) time.Duration {
	var space [1]claim
	c := &l.claims(space[:0], []Rule{rule}, 1)[0]
	if !c.limited {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.moment(int64(time.Since(l.start)))
	_, wait := c.pace.spend(now, l.tat(c, now), 1)
	if wait < 0 {
		return never
	}
	return time.Duration(wait)
}
