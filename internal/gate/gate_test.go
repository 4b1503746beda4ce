package gate_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/gate"
)

// enter enters for an operation that never fails.
func enter(t *testing.T, g *gate.Gate, team string) *gate.Pass {
	t.Helper()
	p, err := g.Enter(t.Context(), team, "op")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// refused checks a refusal of the gate's own.
func refused(t *testing.T, err error, reason fault.Reason) {
	t.Helper()
	f := fault.Of(err)
	if f == nil || f.Code != connect.CodeUnavailable || f.Reason != reason || f.RetryAfter <= 0 || f.RetryAfter > 10*time.Second {
		t.Errorf("got %v, want unavailable %s with a time to return", err, reason)
	}
}

// However many calls come and from whichever teams, no more are in than there
// are slots; each team always has its share; and all slots are used.
func TestSlots(t *testing.T) {
	for _, tt := range []struct {
		slots, teams, share int
	}{{1, 1, 1}, {8, 1, 4}, {8, 2, 2}, {10, 3, 1}, {3, 3, 1}, {100, 4, 12}} {
		synctest.Test(t, func(t *testing.T) {
			var teams []string
			for i := range tt.teams {
				teams = append(teams, fmt.Sprint("team", i))
			}
			g := gate.New(gate.Config{Slots: tt.slots, Teams: teams})
			var held []*gate.Pass
			for len(held) <= tt.slots {
				p, err := g.Enter(t.Context(), teams[0], "op")
				if err != nil {
					refused(t, err, fault.Overloaded)
					break
				}
				held = append(held, p)
			}
			if want := tt.slots - (tt.teams-1)*tt.share; len(held) != want {
				t.Errorf("%+v: one team alone has %d slots, want %d", tt, len(held), want)
			}
			for _, team := range teams[1:] {
				for range tt.share {
					held = append(held, enter(t, g, team))
				}
			}
			if len(held) != tt.slots || g.State().InFlight != tt.slots {
				t.Errorf("%+v: %d calls are in, want %d", tt, len(held), tt.slots)
			}
			for _, p := range held {
				p.Leave()
				p.Leave() // once is enough
			}
			if state := g.State(); state.InFlight != 0 || state.Waiting != 0 {
				t.Errorf("%+v: %+v when all have left", tt, state)
			}
		})
	}
}

// A call waits for a slot while its team's calls end, in the order of arrival;
// not if none does; not longer than five seconds; and not in a line of any
// length.
func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 2, Teams: []string{"a"}})
		first, second := enter(t, g, "a"), enter(t, g, "a")
		order := make(chan int, 2)
		for i := range 2 {
			go func() { order <- i; enter(t, g, "a").Leave(); order <- i }()
			synctest.Wait()
		}
		begun := time.Now()
		_, err := g.Enter(t.Context(), "a", "op")
		refused(t, err, fault.Overloaded) // two wait: as many as there are slots
		if took := time.Since(begun); took != 0 || g.State().Waiting != 2 {
			t.Errorf("refused after %v, %d wait", took, g.State().Waiting)
		}
		<-order
		<-order
		first.Leave()
		if got := <-order; got != 0 {
			t.Error("the second in line came first")
		}
		<-order
		// A line that stands: half a second, and from then on no time at all.
		third := enter(t, g, "a")
		begun = time.Now()
		_, err = g.Enter(t.Context(), "a", "op")
		refused(t, err, fault.Overloaded)
		if took := time.Since(begun); took != 500*time.Millisecond {
			t.Errorf("waited %v in a line that stands", took)
		}
		begun = time.Now()
		_, err = g.Enter(t.Context(), "a", "op")
		refused(t, err, fault.Overloaded)
		if took := time.Since(begun); took != 0 {
			t.Errorf("waited %v in a line that has stood", took)
		}
		third.Leave()
		second.Leave()
	})
	// A line that moves, but for others: it is left after five seconds.
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 1, Teams: []string{"a"}})
		held := enter(t, g, "a")
		stop := make(chan struct{})
		go func() { // gives back and takes again at once, ahead of the line
			for {
				select {
				case <-time.After(300 * time.Millisecond):
					gate.Touch(g, "a")
				case <-stop:
					return
				}
			}
		}()
		begun := time.Now()
		_, err := g.Enter(t.Context(), "a", "op")
		refused(t, err, fault.Overloaded)
		if took := time.Since(begun); took < 4500*time.Millisecond || took > 5500*time.Millisecond {
			t.Errorf("waited %v in a line that moves", took)
		}
		close(stop)
		held.Leave()
	})
}

// A caller that leaves the line leaves nothing behind, and gets its own error.
func TestLeavingTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 1, Teams: []string{"a"}})
		held := enter(t, g, "a")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := g.Enter(ctx, "a", "op")
		if f := fault.Of(err); f.Code != connect.CodeDeadlineExceeded || time.Since(begun) != 100*time.Millisecond {
			t.Errorf("got %v after %v", err, time.Since(begun))
		}
		if g.State().Waiting != 0 {
			t.Error("it still waits")
		}
		held.Leave()
		enter(t, g, "a").Leave()
	})
}

// E9: whatever one team does, the other's calls are let in at once.
func TestTeamsDoNotStarve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 8, Teams: []string{"slow", "other"}})
		var group sync.WaitGroup
		for range 1000 {
			group.Go(func() {
				if p, err := g.Enter(t.Context(), "slow", "op"); err == nil {
					time.Sleep(time.Minute)
					p.Leave()
				}
			})
		}
		synctest.Wait()
		for range 100 {
			begun := time.Now()
			p, err := g.Enter(t.Context(), "other", "op")
			if err != nil || time.Since(begun) != 0 {
				t.Fatalf("the other team: %v after %v", err, time.Since(begun))
			}
			p.Leave()
		}
		group.Wait()
	})
}

// Teams that want more than there is take turns at what is spare.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 4, Teams: []string{"a", "b"}})
		served := map[string]int{}
		var mu sync.Mutex
		stop := time.Now().Add(10 * time.Second)
		var group sync.WaitGroup
		for _, team := range []string{"a", "b"} {
			for range map[string]int{"a": 30, "b": 3}[team] {
				group.Go(func() {
					for time.Now().Before(stop) {
						p, err := g.Enter(t.Context(), team, "op")
						if err != nil {
							time.Sleep(100 * time.Millisecond)
							continue
						}
						time.Sleep(100 * time.Millisecond)
						p.Leave()
						mu.Lock()
						served[team]++
						mu.Unlock()
					}
				})
			}
		}
		group.Wait()
		if served["b"] < 150 || served["a"] < 150 {
			t.Errorf("served %v: a team with a tenth of the callers got less than its half", served)
		}
	})
}

// A thousand random steps: never more calls than slots, and nobody waits while
// there is a slot for it.
func TestSlotsAtRandom(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	synctest.Test(t, func(t *testing.T) {
		const slots = 7
		g := gate.New(gate.Config{Slots: slots, Teams: []string{"a", "b", "c"}})
		var mu sync.Mutex
		in, most := 0, 0
		var group sync.WaitGroup
		for range 1000 {
			team, stay := string('a'+rune(random.IntN(3))), time.Duration(random.IntN(400))*time.Millisecond
			patience := time.Duration(random.IntN(1000)) * time.Millisecond
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				p, err := g.Enter(ctx, team, "op")
				if err != nil {
					return
				}
				mu.Lock()
				in++
				most = max(most, in)
				mu.Unlock()
				time.Sleep(stay)
				mu.Lock()
				in--
				mu.Unlock()
				p.Leave()
			})
			time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
			if problem := gate.Invariant(g); problem != "" {
				t.Fatalf("seed %d: %s", seed, problem)
			}
		}
		group.Wait()
		if state := g.State(); most > slots || state.InFlight != 0 || state.Waiting != 0 {
			t.Errorf("seed %d: %d at once of %d; in the end %+v", seed, most, slots, state)
		}
	})
}

// The budget: ten at once, then one for each ten first attempts.
func TestBudget(t *testing.T) {
	g := gate.New(gate.Config{Slots: 1})
	p := enter(t, g, "")
	defer p.Leave()
	again := func() (n int) {
		for n < 1000 && p.Again() {
			n++
		}
		return n
	}
	if got := again(); got != 10 {
		t.Errorf("%d attempts at once, want 10", got)
	}
	for range 1005 {
		p.First()
	}
	if got := again(); got != 10 {
		t.Errorf("%d attempts after a long time, want 10", got)
	}
	for range 35 {
		p.First()
	}
	if got := again(); got != 3 || g.State().Retries != 23 {
		t.Errorf("%d attempts for 35 reads, want 3; %d counted, want 23", got, g.State().Retries)
	}
}
