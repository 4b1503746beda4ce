package ratelimit

import "time"

// known tells what the buckets owe and how many calls are under way, as this
// replica knows, and the moment at which it does.
func (l *Limiter) known(claims []claim) (debts, mine []int64, now int64) {
	numbers := make([]int64, 2*len(claims))
	debts, mine = numbers[:len(claims)], numbers[len(claims):]
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.moment(int64(time.Since(l.start)))
	for i := range claims {
		c := &claims[i]
		if c.limited {
			// The floor of a bucket that was pushed out is another's debt.
			if tat := l.tat(c, now); c.stored != nil {
				debts[i] = max(0, tat-now)
			}
		}
		if c.most != 0 {
			mine[i] = l.flights[flight{c.rule.Scope, c.rule.Key}]
		}
	}
	return debts, mine, now
}

// learn remembers what the buckets owed by Redis's own account, once it had
// decided, as of when it was asked: so what is remembered is never more than what
// is owed, but for the drift of two clocks. It takes the places that the call
// took there.
func (l *Limiter) learn(claims []claim, opinions []opinion, asked int64, allowed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.moment(asked)
	for i := range claims {
		c, passed := &claims[i], allowed && !opinions[i].refuses
		if c.limited {
			debt := opinions[i].debt
			if passed {
				debt = c.next // as of 0
			}
			if tat := asked + debt; tat > max(now, l.tat(c, now)) {
				l.table.store(c.hash, now, tat)
			}
		}
		if c.most != 0 && passed {
			l.flights[flight{c.rule.Scope, c.rule.Key}]++
		}
	}
}
