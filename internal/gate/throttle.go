package gate

import (
	"math/rand/v2"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
)

const (
	// firstRest and maxRest bound the rest after a refusal for which C1 names no
	// time. Each that follows another, with no answer in between, doubles it.
	firstRest, maxRest = time.Second, time.Minute
	// restJitter is the part of a rest, at most, by which it is longer than C1
	// asked for, so that many gateways do not all come back at once.
	restJitter = 10
)

// A throttle knows when C1 wants no calls, because it said that there were too
// many (429). It is one for all teams: C1 counts the calls of a tenant, and
// whoever goes on calling makes the others wait longer.
//
// It closes the slots with itself, under its own lock, so that no call comes
// between the two.
type throttle struct {
	slots *slots

	mu       sync.Mutex // guards what follows
	until    time.Time  // the end of the rest
	rest     time.Duration
	closings uint64
	epoch    uint64 // grows whenever C1 refuses
	answered bool   // C1 has answered a call of this epoch
}

// wait is how long C1 wants no calls yet; 0 if it may be called.
func (t *throttle) wait() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(0, time.Until(t.until))
}

// close has C1 left alone for as long as it asked, or, if that is 0, for a time
// that grows. Of the calls that were under way when another one closed the
// throttle, none makes that time grow. It returns how long C1 is left alone, and
// whether it was not before.
func (t *throttle) close(asked time.Duration) (wait time.Duration, news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if news = !t.until.After(now); news {
		t.closings++
	}
	rest := asked
	if rest <= 0 {
		if !news {
			return t.until.Sub(now), false
		}
		if t.answered {
			t.rest = 0
		}
		t.rest = min(max(2*t.rest, firstRest), maxRest)
		rest = t.rest
	}
	if until := now.Add(rest + rand.N(rest/restJitter+1)); until.After(t.until) {
		t.until = until
	}
	t.epoch++
	t.answered = false
	t.slots.restart(t.epoch, t.until)
	return t.until.Sub(now), news
}

// relax notes an answer to a call of an epoch: there is room for one more.
func (t *throttle) relax(epoch uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if epoch == t.epoch {
		t.answered = true
		t.slots.widen()
	}
}

func (t *throttle) state() (until time.Time, closings uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.until, t.closings
}

// throttled is the refusal of a call while C1 wants none.
func throttled(wait time.Duration) *fault.Fault {
	f := fault.New(connect.CodeResourceExhausted, fault.UpstreamRateLimited,
		"C1's own rate limit is used up, for all teams of the tenant; nothing was sent: wait %s s, then go on more slowly", fault.Seconds(wait))
	f.RetryAfter = wait
	return f
}
