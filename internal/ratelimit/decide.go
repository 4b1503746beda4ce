package ratelimit

import "time"

// decide puts together what the rules have answered at now.
func decide(claims []claim, now int64, allowed bool) (d Decision) {
	var told *claim // the one that the decision is about
	var shadowed, held uint64
	for i := range claims {
		c := &claims[i]
		switch {
		case c.rule.Shadow && c.refuses():
			shadowed |= 1 << i
		case allowed && c.most != 0:
			held |= 1 << i
		}
		if !c.rule.Shadow && (c.limited || c.full) && (told == nil || c.tighter(told, now)) {
			told = c
		}
	}
	d.Allowed = true
	if told != nil {
		d = told.decision(now)
	}
	d.Shadowed, d.Held = shadowed, held
	return d
}

// decision is what a claim alone amounts to.
func (c *claim) decision(now int64) Decision {
	d := Decision{Allowed: !c.refuses(), Full: c.full && c.wait == 0, Rule: *c.rule, RetryAfter: time.Duration(c.patience())}
	if c.limited {
		d.Remaining, d.ResetAfter = c.pace.remaining(now, c.next), time.Duration(max(0, c.next-now))
	}
	if c.wait < 0 {
		d.RetryAfter = never
	}
	return d
}

// tighter reports whether c says more to the caller than other does: a refusal
// more than a permission, a longer wait, or less that remains.
func (c *claim) tighter(other *claim, now int64) bool {
	if !c.refuses() && !other.refuses() {
		return c.pace.remaining(now, c.next) < other.pace.remaining(now, other.next)
	}
	// As an unsigned number, the -1 of a refusal for good is the longest wait.
	return uint64(c.patience()) > uint64(other.patience())
}

// patience is how long the rule has the call wait; -1 for good.
func (c *claim) patience() int64 {
	if c.full && c.wait >= 0 {
		return max(c.wait, int64(busyWait))
	}
	return c.wait
}
