package gate_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"pgregory.net/rapid"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/gate"
)

// throttle has C1 refuse a call, and returns for how long it is left alone.
func throttle(t *testing.T, g *gate.Gate, asked time.Duration) time.Duration {
	t.Helper()
	p := enter(t, g, "a")
	defer p.Leave()
	change, wait, _ := p.Throttle(asked)
	if change != gate.Same {
		t.Errorf("the breaker changed: %d", change)
	}
	return wait
}

// tooMany checks a refusal while C1 wants no calls.
func tooMany(t *testing.T, err error) time.Duration {
	t.Helper()
	f := fault.Of(err)
	if f == nil || f.Code != connect.CodeResourceExhausted || f.Reason != fault.UpstreamRateLimited || f.RetryAfter <= 0 {
		t.Fatalf("got %v, want resource_exhausted %s with a time to return", err, fault.UpstreamRateLimited)
	}
	return f.RetryAfter
}

// G7: after a 429 no team's call is let in for as long as C1 asked, and at most a
// tenth more; each is refused at once, and told when to return.
func TestThrottle(t *testing.T) {
	for _, asked := range []time.Duration{time.Second, 7 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			g := gate.New(gate.Config{Slots: 10, Teams: []string{"a", "b"}})
			under := enter(t, g, "b") // way when it closes
			begun := time.Now()
			wait := throttle(t, g, asked)
			if wait < asked || wait > asked+asked/10 {
				t.Errorf("closed for %v, want from %v to a tenth more", wait, asked)
			}
			if state := g.State(); state.Throttled != 1 || state.Until != begun.Add(wait) {
				t.Errorf("%+v", state)
			}
			for _, team := range []string{"a", "b", "other"} {
				_, err := g.Enter(t.Context(), team, team)
				if got := tooMany(t, err); got != wait || time.Since(begun) != 0 {
					t.Errorf("team %s is told to wait %v, want %v; after %v", team, got, wait, time.Since(begun))
				}
			}
			if tooMany(t, under.May()) != wait || under.Again() {
				t.Error("a call that was let in before may make an attempt")
			}
			time.Sleep(wait - time.Nanosecond)
			_, err := g.Enter(t.Context(), "b", "op")
			tooMany(t, err)
			time.Sleep(time.Nanosecond)
			if err := under.May(); err != nil {
				t.Errorf("after the rest: %v", err)
			}
			under.Leave()
			enter(t, g, "b").Leave()
			if state := g.State(); state.InFlight != 0 || state.Waiting != 0 {
				t.Errorf("in the end %+v", state)
			}
		})
	}
}

// Gateways that were refused together do not come back together.
func TestThrottleJitter(t *testing.T) {
	waits := make(map[time.Duration]bool)
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			waits[throttle(t, gate.New(gate.Config{Slots: 1, Teams: []string{"a"}}), 10*time.Second)] = true
		}
	})
	if len(waits) < 90 {
		t.Errorf("100 gateways have %d different rests", len(waits))
	}
}

// Where C1 names no time, each 429 that follows another doubles the rest, up to a
// minute; those of calls that were under way do not; and an answer begins anew.
func TestThrottleBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 100, Teams: []string{"a"}})
		var under []*gate.Pass
		for range 50 {
			under = append(under, enter(t, g, "a"))
		}
		for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			want *= time.Second
			wait := throttle(t, g, 0)
			if i == 0 {
				for _, p := range under {
					if _, again, news := p.Throttle(0); again != wait || news {
						t.Errorf("one that was under way makes it %v of %v, news %v", again, wait, news)
					}
					p.Leave()
				}
			}
			if wait < want || wait > want+want/10 {
				t.Errorf("the rest %d is %v, want %v or a tenth more", i, wait, want)
			}
			time.Sleep(wait)
		}
		p := enter(t, g, "a")
		p.Report(gate.Alive)
		p.Leave()
		if wait := throttle(t, g, 0); wait > 1100*time.Millisecond {
			t.Errorf("the rest after an answer is %v", wait)
		}
		if got := g.State().Throttled; got != 9 {
			t.Errorf("closed %d times, want 9", got)
		}
	})
}

// A longer time that C1 asks for holds, and a shorter one does not cut it.
func TestThrottleLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 10, Teams: []string{"a"}})
		first, second, third := enter(t, g, "a"), enter(t, g, "a"), enter(t, g, "a")
		_, short, _ := first.Throttle(2 * time.Second)
		_, long, news := second.Throttle(20 * time.Second)
		_, same, _ := third.Throttle(time.Second)
		if short > 3*time.Second || long < 20*time.Second || same != long || news {
			t.Errorf("closed for %v, then %v (news %v), then %v", short, long, news, same)
		}
		for _, p := range []*gate.Pass{first, second, third} {
			p.Leave()
		}
		if got := g.State().Throttled; got != 1 {
			t.Errorf("closed %d times, want once", got)
		}
	})
}

// Who waits for a slot is not kept waiting for C1's rest.
func TestThrottleEmptiesTheLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 1, Teams: []string{"a"}})
		held := enter(t, g, "a")
		refusals := make(chan error, 1)
		go func() {
			_, err := g.Enter(t.Context(), "a", "op")
			refusals <- err
		}()
		synctest.Wait()
		begun := time.Now()
		held.Throttle(5 * time.Second)
		tooMany(t, <-refusals)
		if time.Since(begun) != 0 || g.State().Waiting != 0 {
			t.Errorf("refused after %v, %+v", time.Since(begun), g.State())
		}
		held.Leave()
	})
}

// After a rest each team begins with one call, and gets one more with each answer;
// where C1 answers nothing, twice as many each second, until all slots are had.
func TestThrottleSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots = 64
		g := gate.New(gate.Config{Slots: slots, Teams: []string{"a", "b"}})
		time.Sleep(throttle(t, g, time.Second))
		one, other := enter(t, g, "a"), enter(t, g, "b") // each team has its own
		in := func(team string) (more int) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			for {
				if _, err := g.Enter(ctx, team, "op"); err != nil {
					return more
				}
				more++
			}
		}
		if more := in("a"); more != 0 {
			t.Fatalf("%d more at once", more)
		}
		one.Report(gate.Alive)
		if more := in("a"); more != 1 {
			t.Errorf("%d more after an answer, want one", more)
		}
		time.Sleep(10 * time.Second) // nothing else is answered
		in("a")
		in("b")
		if got := g.State().InFlight; got != slots {
			t.Errorf("after a while %d slots are had, want all %d", got, slots)
		}
		one.Leave()
		other.Leave()
		if problem := gate.Invariant(g); problem != "" {
			t.Error(problem)
		}
	})
}

// For any number of teams, calls and refusals: no call reaches C1 while it wants
// none, each team is served, and of a herd that waits only as many come at once as
// C1 has answered, and one a team.
func TestThrottleProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		teams := rapid.IntRange(1, 4).Draw(rt, "teams")
		callers := rapid.IntRange(1, 30).Draw(rt, "callers of each")
		takes := time.Duration(rapid.IntRange(1, 400).Draw(rt, "ms that C1 takes")) * time.Millisecond
		every := rapid.IntRange(3, 60).Draw(rt, "each n-th call is refused")
		asks := time.Duration(rapid.IntRange(0, 5).Draw(rt, "s that C1 asks for")) * time.Second
		synctest.Test(t, func(t *testing.T) {
			var names []string
			for i := range teams {
				names = append(names, fmt.Sprint("team", i))
			}
			c := &countingC1{g: gate.New(gate.Config{Slots: 100, Teams: names}), takes: takes, every: every, asks: max(asks, time.Second), served: map[string]int{}, t: t}
			c.said = asks
			end := time.Now().Add(time.Minute)
			var group sync.WaitGroup
			for i := range teams * callers {
				group.Go(func() {
					for time.Now().Before(end) {
						c.call(names[i%teams])
					}
				})
			}
			group.Wait()
			for _, name := range names {
				if c.served[name] == 0 {
					t.Errorf("%s was not served: %v", name, c.served)
				}
			}
			if problem := gate.Invariant(c.g); problem != "" || c.g.State().InFlight != 0 {
				t.Errorf("%s, %+v", problem, c.g.State())
			}
		})
	})
}

// A countingC1 refuses each n-th call, and watches what comes meanwhile.
type countingC1 struct {
	t           *testing.T
	g           *gate.Gate
	takes       time.Duration
	every       int
	said, asks  time.Duration // what it says, and what holds at least
	mu          sync.Mutex
	n           int
	until       time.Time
	answered    int // since until
	served      map[string]int
	outstanding []time.Time // when the calls under way began
}

// call is one call of a team, as forward makes it.
func (c *countingC1) call(team string) {
	p, err := c.g.Enter(c.t.Context(), team, "op")
	c.mu.Lock()
	if err == nil {
		err = p.May()
		defer p.Leave()
	}
	if err != nil {
		c.mu.Unlock()
		time.Sleep(max(fault.Of(err).RetryAfter, time.Millisecond))
		return
	}
	now := time.Now()
	if now.Before(c.until) {
		c.t.Errorf("a call came %v before the end of the rest", c.until.Sub(now))
	}
	c.outstanding = append(c.outstanding, now)
	fresh := 0
	for _, began := range c.outstanding {
		if !began.Before(c.until) {
			fresh++
		}
	}
	// Each second that passes may double what is open to each of four teams.
	if since := now.Sub(c.until); !c.until.IsZero() && since < time.Second && fresh > 4*(1+c.answered) {
		c.t.Errorf("%v after the rest %d calls are under way, with %d answers", since, fresh, c.answered)
	}
	c.n++
	refuse := c.n%c.every == 0
	c.mu.Unlock()
	time.Sleep(c.takes)
	c.mu.Lock()
	at := slices.Index(c.outstanding, now)
	c.outstanding = slices.Delete(c.outstanding, at, at+1)
	if !refuse {
		c.served[team]++
		if !now.Before(c.until) {
			c.answered++
		}
		p.Report(gate.Alive)
	} else if _, _, news := p.Throttle(c.said); news || c.said > 0 {
		if until := time.Now().Add(c.asks); until.After(c.until) {
			c.until, c.answered = until, 0
		}
	}
	c.mu.Unlock()
}
