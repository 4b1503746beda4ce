package ratelimit_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/ratelimit"
	"github.com/c1proxy/c1proxy/internal/redistest"
)

// eventually waits for a condition.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never came about: ", what)
		}
	}
}

// setOf is a set of one rule, of the tenant acme.
func setOf(rule ratelimit.Rule) *ratelimit.Set {
	return &ratelimit.Set{Tenant: "acme", Lease: time.Minute, Rules: []ratelimit.Rule{rule}}
}

func hourly(burst int64) ratelimit.Rule {
	return ratelimit.Rule{Scope: "team", Key: "payments", Limit: ratelimit.Limit{Rate: 1, Per: time.Hour, Burst: burst}}
}

// spend spends, and fails the test on an error.
func spend(t testing.TB, f *ratelimit.Fleet, set *ratelimit.Set) ratelimit.Verdict {
	t.Helper()
	v, err := f.Spend(set)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// drain spends until it is refused, and returns how often it was not.
func drain(t testing.TB, f *ratelimit.Fleet, set *ratelimit.Set) (n int) {
	t.Helper()
	for spend(t, f, set).Allowed {
		n++
	}
	return n
}

// cutOff kills Redis, and waits until the replicas go on alone.
func cutOff(t testing.TB, server *redistest.Server, fleets ...*ratelimit.Fleet) {
	t.Helper()
	server.Kill()
	nothing := setOf(ratelimit.Rule{Scope: "team", Key: "other", Limit: ratelimit.Limit{Rate: 1000, Per: time.Second, Burst: 1000}})
	for _, f := range fleets {
		eventually(t, "the replica gives Redis up", func() bool { spend(t, f, nothing); return f.State().Down })
	}
}

func back(t testing.TB, f *ratelimit.Fleet) {
	t.Helper()
	eventually(t, "the replica comes back to Redis", func() bool { return !f.State().Down })
}

// TestFleetHolds is P10: three replicas together accept at most burst + rate *
// time, give or take 5%, though Redis is killed and comes back empty on the way.
func TestFleetHolds(t *testing.T) {
	server := redistest.Start(t)
	rule := ratelimit.Rule{Scope: "tenant", Key: "acme", Limit: ratelimit.Limit{Rate: 300, Per: time.Second, Burst: 550}}
	set := setOf(rule)
	var fleets []*ratelimit.Fleet
	for range 3 {
		fleets = append(fleets, openFleet(t, server, nil))
	}
	var accepted, local atomic.Int64
	stop := make(chan struct{})
	var group sync.WaitGroup
	begun := time.Now()
	for _, f := range fleets {
		for range 4 {
			group.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
					v, err := f.Spend(set)
					if err != nil {
						t.Error(err)
						return
					}
					if v.Allowed {
						accepted.Add(1)
						if v.Local {
							local.Add(1)
						}
					}
				}
			})
		}
	}
	time.Sleep(1200 * time.Millisecond) // the burst is used up by then, and the rate is what is left
	server.Kill()
	time.Sleep(1200 * time.Millisecond)
	server.Restart()
	for _, f := range fleets {
		back(t, f)
	}
	time.Sleep(1200 * time.Millisecond)
	close(stop)
	group.Wait()
	took := time.Since(begun)
	most := 550 + 300*took.Seconds()
	got := float64(accepted.Load())
	t.Logf("accepted %.0f of %.0f in %v (%+.2f%%), %d of them alone; burst %.0f%%", got, most, took, 100*(got/most-1), local.Load(), 100*550/most)
	if got > 1.05*most || got < 0.8*most {
		t.Errorf("accepted %.0f, want burst + rate * time = %.0f, 5%% more at most and 20%% less", got, most)
	}
	if local.Load() == 0 {
		t.Error("no replica ever went on alone: the test has not tested")
	}
}

// TestFleetShares: what one replica spends, the others do not have.
func TestFleetShares(t *testing.T) {
	server := redistest.Start(t)
	a, b := openFleet(t, server, nil), openFleet(t, server, nil)
	set := setOf(hourly(10))
	for range 4 {
		spend(t, a, set)
	}
	if n := drain(t, b, set); n != 6 {
		t.Errorf("the second replica got %d, want 10 - 4", n)
	}
	if v := spend(t, a, set); v.Allowed || v.Local || v.RetryAfter > time.Hour || v.RetryAfter < 59*time.Minute {
		t.Errorf("then the first got %+v, want a refusal of Redis with a wait of an hour", v)
	}
	levels, shared := a.Peek(set)
	if !shared || levels[0].Remaining != 0 || levels[0].ResetAfter < 9*time.Hour {
		t.Errorf("Peek = %+v, %v, want nothing left, by Redis", levels, shared)
	}
}

// TestFleetCarries: a replica that is cut off goes on from what it last saw, with
// its share; and an empty Redis learns from it what was spent, before and after.
func TestFleetCarries(t *testing.T) {
	server := redistest.Start(t)
	a := openFleet(t, server, nil)
	set := setOf(hourly(30))
	for range 12 {
		spend(t, a, set)
	}
	cutOff(t, server, a)
	if n := drain(t, a, set); n != 6 {
		t.Errorf("alone it spent %d, want a third of the 18 that were left", n)
	}
	server.Restart()
	back(t, a)
	b := openFleet(t, server, nil)
	if n := drain(t, b, set); n != 0 {
		t.Errorf("another replica got %d from a Redis that had forgotten all, want none", n)
	}
}

// TestFleetRemembers: Redis forgets without anybody noticing, and is reminded.
func TestFleetRemembers(t *testing.T) {
	server := redistest.Start(t)
	a, b := openFleet(t, server, nil), openFleet(t, server, nil)
	set := setOf(hourly(10))
	drain(t, a, set)
	server.Do("FLUSHALL\r\n")
	if v := spend(t, a, set); v.Allowed || v.Local {
		t.Errorf("after the flush: %+v, want refused by Redis", v)
	}
	if v := spend(t, b, set); v.Allowed {
		t.Errorf("and at another replica: %+v, want refused: the first has reminded Redis", v)
	}
	server.Do("SCRIPT FLUSH\r\n")
	if v := spend(t, a, set); v.Allowed || v.Local || a.State().Failures != 0 {
		t.Errorf("without its script: %+v, %+v, want Redis to decide", v, a.State())
	}
}

// TestFleetFailover: a Redis that has become a replica of another answers all
// but writes, which is no answer.
func TestFleetFailover(t *testing.T) {
	server := redistest.Start(t)
	var mu sync.Mutex
	var told []bool
	a := openFleet(t, server, func(cfg *ratelimit.RedisConfig) {
		cfg.Switched = func(s ratelimit.State) { mu.Lock(); defer mu.Unlock(); told = append(told, s.Down) }
	})
	set := setOf(hourly(300))
	spend(t, a, set)
	server.Do("REPLICAOF 127.0.0.1 1\r\n")
	for range 3 {
		if v := spend(t, a, set); !v.Allowed || !v.Local {
			t.Errorf("of a demoted Redis: %+v, want this replica alone to decide", v)
		}
	}
	state := a.State()
	if !state.Down || state.Why == nil || state.Failures != 3 || state.Switches != 1 {
		t.Errorf("state %+v, want down after 3 failures", state)
	}
	server.Do("REPLICAOF NO ONE\r\n")
	back(t, a)
	if v := spend(t, a, set); v.Local {
		t.Errorf("after its promotion: %+v, want Redis to decide", v)
	}
	eventually(t, "both switches are told", func() bool { mu.Lock(); defer mu.Unlock(); return len(told) == 2 })
	if !told[0] || told[1] {
		t.Errorf("told %v, want down and then up", told)
	}
}

// TestFleetBudget: a Redis that hangs costs three calls the budget, and no other
// call anything; refuse has them refused.
func TestFleetBudget(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		server := redistest.Start(t)
		const budget = 200 * time.Millisecond
		a := openFleet(t, server, func(cfg *ratelimit.RedisConfig) { cfg.Budget, cfg.Refuse = budget, refuse })
		set := setOf(hourly(1000))
		spend(t, a, set)
		server.Signal(syscall.SIGSTOP)
		var took []time.Duration
		for i := range 100 {
			begun := time.Now()
			v, err := a.Spend(set)
			took = append(took, time.Since(begun))
			switch {
			case refuse && (err == nil || fault.Of(err).Reason != fault.LimiterUnavailable):
				t.Errorf("call %d: %+v, %v, want refused", i, v, err)
			case !refuse && (err != nil || !v.Allowed || !v.Local):
				t.Errorf("call %d: %+v, %v, want allowed here alone", i, v, err)
			}
		}
		// Single calls may be held up by the machine.
		first, others := took[:3], took[3:]
		slices.Sort(others)
		if n := a.State().Failures; n != 3 || slices.Min(first) < budget || slices.Min(first) > 4*budget || others[len(others)/2] > budget/2 {
			t.Errorf("%d calls waited for Redis, the first three took %v and half of the others up to %v; want 3 and a budget of %v", n, first, others[len(others)/2], budget)
		}
		server.Signal(syscall.SIGCONT)
		back(t, a)
	}
}

// TestFleetStartsAlone: a Redis that is not there keeps no replica from starting.
func TestFleetStartsAlone(t *testing.T) {
	server := redistest.Start(t)
	server.Kill()
	a := openFleet(t, server, nil)
	set := setOf(hourly(30))
	if n := drain(t, a, set); n != 10 || !a.State().Down {
		t.Errorf("alone from the start it spent %d, %+v; want its third", n, a.State())
	}
	server.Restart()
	back(t, a)
	if v := spend(t, a, set); v.Allowed || v.Local {
		t.Errorf("with Redis: %+v, want refused there", v)
	}
}

// TestFleetPlaces: a cap counts the calls of all replicas. A call that ends gives
// its place back, a replica that dies loses its places in time, and a Redis that
// has forgotten them learns of those that are still taken.
func TestFleetPlaces(t *testing.T) {
	server := redistest.Start(t)
	a, b, dies := openFleet(t, server, nil), openFleet(t, server, nil), openFleet(t, server, nil)
	set := setOf(ratelimit.Rule{Scope: "team", Key: "payments", Most: 2})
	first := spend(t, a, set)
	short := *set
	short.Lease = 3 * time.Second
	spend(t, dies, &short)
	dies.Close()
	if v := spend(t, b, set); v.Allowed || !v.Full || v.Local {
		t.Errorf("the third call of two: %+v, want refused by Redis", v)
	}
	if levels, _ := b.Peek(set); levels[0].InFlight != 2 {
		t.Errorf("Peek = %+v, want 2 calls under way", levels)
	}
	var second ratelimit.Verdict
	eventually(t, "the place of the dead is free", func() bool { second = spend(t, b, set); return second.Allowed })
	cutOff(t, server, a, b)
	server.Restart()
	back(t, a)
	back(t, b)
	if v := spend(t, a, set); v.Allowed {
		t.Errorf("after the restart: %+v, want both places still taken", v)
	}
	a.Release(set, first)
	eventually(t, "the place that was given back is free", func() bool { v := spend(t, b, set); return v.Allowed && !v.Local })
	b.Release(set, second)
}

// TestFleetPlacesEnd: a call that ends while Redis hangs leaves no place taken.
func TestFleetPlacesEnd(t *testing.T) {
	server := redistest.Start(t)
	a, b := openFleet(t, server, hasty), openFleet(t, server, nil)
	set := setOf(ratelimit.Rule{Scope: "team", Key: "payments", Most: 1})
	v := spend(t, a, set)
	server.Signal(syscall.SIGSTOP)
	for !a.State().Down {
		spend(t, a, setOf(hourly(1000)))
	}
	a.Release(set, v)
	server.Signal(syscall.SIGCONT)
	back(t, a)
	eventually(t, "the place is free", func() bool { return spend(t, b, set).Allowed })
}

// TestFleetKeys: keys are of names from the configuration only, lie in the
// tenant's slot, and go by themselves.
func TestFleetKeys(t *testing.T) {
	server := redistest.Start(t)
	a := openFleet(t, server, nil)
	set := setOf(ratelimit.Rule{Scope: "team", Key: "payments", Limit: ratelimit.Limit{Rate: 1, Per: time.Millisecond, Burst: 5}, Most: 5})
	a.Release(set, spend(t, a, set))
	eventually(t, "the call's place is given back", func() bool { return server.Do("EXISTS c1proxy:{acme}:team:payments:places\r\n") == ":0\r\n" })
	eventually(t, "nothing is left", func() bool { return server.Do("DBSIZE\r\n") == ":0\r\n" })
}

// TestFleetShare: a share is rounded down, holds at least one call, and at least
// the dearest.
func TestFleetShare(t *testing.T) {
	server := redistest.Start(t)
	a := openFleet(t, server, nil)
	cutOff(t, server, a)
	for most, want := range map[int64]int{1: 1, 2: 1, 3: 1, 7: 2, 9: 3} {
		if n := drain(t, a, setOf(ratelimit.Rule{Scope: "team", Key: string(rune('a' + most)), Most: most})); n != want {
			t.Errorf("alone it let %d calls through at once of %d, want %d", n, most, want)
		}
	}
	for burst, want := range map[int64]int{1: 1, 2: 1, 3: 1, 7: 2, 9: 3} {
		rule := hourly(burst)
		rule.Key = string(rune('a' + burst))
		if n := drain(t, a, setOf(rule)); n != want {
			t.Errorf("alone it let %d calls through of a burst of %d, want %d", n, burst, want)
		}
	}
	dear := hourly(9)
	dear.Key, dear.Dearest = "dear", 5
	if v := spend(t, a, &ratelimit.Set{Tenant: "acme", Cost: 5, Rules: []ratelimit.Rule{dear}}); !v.Allowed {
		t.Errorf("a call of 5, with a share of 3: %+v, want allowed: a share holds the dearest call", v)
	}
}

// BenchmarkRedis is a decision over three rules by a Redis on a socket, and on
// the loopback.
func BenchmarkRedis(b *testing.B) {
	for name, server := range map[string]*redistest.Server{"socket": redistest.Start(b), "loopback": redistest.StartTCP(b)} {
		fleet := openFleet(b, server, nil)
		set := &ratelimit.Set{Tenant: "acme", Rules: threeRules("sync-bot", "payments")}
		run := func(b *testing.B, one func()) {
			b.ReportAllocs()
			before := fleet.State().Local
			one()
			if n := fleet.State().Local - before; n > 0 {
				b.Errorf("%d decisions were not Redis's", n)
			}
		}
		b.Run(name, func(b *testing.B) {
			run(b, func() {
				for b.Loop() {
					spend(b, fleet, set)
				}
			})
		})
		b.Run(name+"/64callers", func(b *testing.B) {
			b.SetParallelism(32)
			run(b, func() {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						spend(b, fleet, set)
					}
				})
			})
		})
	}
}
