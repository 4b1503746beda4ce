package gate_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/c1proxy/c1proxy/internal/gate"
)

// After any resizing a call is let in exactly if its team's share, or what is
// spare now, has room, counting those that were let in before; and no slot is
// lost or made.
func TestResize(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // who finds no slot does not wait
	rapid.Check(t, func(t *rapid.T) {
		all := []string{"a", "b", "c", "d"}
		config := func() gate.Config {
			teams := all[:rapid.IntRange(0, len(all)).Draw(t, "teams")]
			return gate.Config{Slots: rapid.IntRange(max(1, len(teams)), 12).Draw(t, "slots"), Teams: teams}
		}
		cfg := config()
		g := gate.New(cfg)
		held := map[string][]*gate.Pass{}
		t.Repeat(map[string]func(*rapid.T){
			"resize": func(*rapid.T) { cfg = config(); g.Resize(cfg) },
			"enter": func(t *rapid.T) {
				team := rapid.SampledFrom(append([]string{"unnamed"}, all...)).Draw(t, "team")
				want := room(cfg, held, team)
				p, err := g.Enter(ctx, team, "op")
				if (err == nil) != want {
					t.Fatalf("%s of %+v, %v held: %v", team, cfg, lengths(held), err)
				}
				if err == nil {
					held[team] = append(held[team], p)
				}
			},
			"leave": func(t *rapid.T) {
				team := rapid.SampledFrom(append([]string{"unnamed"}, all...)).Draw(t, "team")
				if n := len(held[team]); n > 0 {
					held[team][n-1].Leave()
					held[team] = held[team][:n-1]
				}
			},
		})
		for _, passes := range held {
			for _, p := range passes {
				p.Leave()
			}
		}
		if wrong := gate.Invariant(g); wrong != "" || g.State().InFlight != 0 {
			t.Fatalf("when all have left: %+v, %s", g.State(), wrong)
		}
	})
}

// room is the rule: half of the slots is divided among the teams, the rest is
// for whoever comes first.
func room(cfg gate.Config, held map[string][]*gate.Pass, team string) bool {
	shares, spare := map[string]int{}, cfg.Slots
	for _, name := range cfg.Teams {
		shares[name] = max(1, cfg.Slots/2/len(cfg.Teams))
		spare -= shares[name]
	}
	for name, passes := range held {
		spare -= max(0, len(passes)-shares[name])
	}
	return len(held[team]) < shares[team] || spare > 0
}

func lengths(held map[string][]*gate.Pass) map[string]int {
	n := map[string]int{}
	for team, passes := range held {
		n[team] = len(passes)
	}
	return n
}

// A call that waits gets the slot that a resizing makes; that C1 is down is not
// forgotten.
func TestResizeWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 2, Teams: []string{"a"}})
		first, other := enter(t, g, "a"), enter(t, g, "a")
		defer other.Leave()
		got := make(chan error, 2)
		for range 2 {
			go func() {
				p, err := g.Enter(t.Context(), "a", "op")
				if err == nil {
					defer p.Leave()
				}
				got <- err
			}()
		}
		synctest.Wait()
		begun := time.Now()
		g.Resize(gate.Config{Slots: 4, Teams: []string{"a"}})
		for range 2 {
			if err := <-got; err != nil || time.Since(begun) > 0 {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
		}
		for range 5 {
			first.Report(gate.Unreachable)
		}
		g.Resize(gate.Config{Slots: 2, Teams: []string{"b"}})
		if !g.State().Down {
			t.Error("the breaker was forgotten")
		}
		first.Leave()
	})
}
