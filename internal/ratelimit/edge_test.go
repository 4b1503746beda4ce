package ratelimit_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/ratelimit"
	"github.com/c1proxy/c1proxy/internal/redistest"
)

// TestScriptCarries: nanoseconds that add up to a whole microsecond are one.
func TestScriptCarries(t *testing.T) {
	fleet, limiter := openFleet(t, redistest.Start(t), nil), ratelimit.New(10)
	set := setOf(ratelimit.Rule{Scope: "team", Key: "a", Limit: ratelimit.Limit{Rate: 1, Per: 1500, Burst: 10}})
	for i := range int64(30) {
		now := 1_790_000_000_000_000_500 + i*250
		got, err := fleet.SpendAt(now, set, 1)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(limiter.SpendAt(now, set.Rules, 1), got); diff != "" {
			t.Fatalf("at %d (-Go +Lua):\n%s", now, diff)
		}
	}
}

// TestFleetTightened: as TestTightened, in Redis, by a replica that has not seen
// the old limit.
func TestFleetTightened(t *testing.T) {
	server := redistest.Start(t)
	set := setOf(hourly(10))
	drain(t, openFleet(t, server, nil), set)
	set.Rules[0].Limit = ratelimit.Limit{Rate: 10, Per: time.Second, Burst: 10}
	if v := spend(t, openFleet(t, server, nil), set); v.Allowed || v.RetryAfter > 100*time.Millisecond {
		t.Errorf("at once after the change: %+v, want a wait of 100 ms at most", v)
	}
}

// TestFleetOwnPlaces: a replica knows its own calls, whatever Redis has forgotten.
func TestFleetOwnPlaces(t *testing.T) {
	server := redistest.Start(t)
	a := openFleet(t, server, nil)
	set := setOf(ratelimit.Rule{Scope: "team", Key: "payments", Most: 1})
	spend(t, a, set)
	server.Do("FLUSHALL\r\n")
	if v := spend(t, a, set); v.Allowed || v.Local {
		t.Errorf("after the flush: %+v, want refused by Redis", v)
	}
}

// TestFleetLate: a place that Redis gives when nobody waits for it any more is
// given back.
func TestFleetLate(t *testing.T) {
	server := redistest.Start(t)
	a, b := openFleet(t, server, hasty), openFleet(t, server, nil)
	set := setOf(ratelimit.Rule{Scope: "team", Key: "payments", Most: 1})
	server.Signal(syscall.SIGSTOP)
	v := spend(t, a, set)
	if !v.Allowed || !v.Local {
		t.Fatalf("while Redis hangs: %+v, want allowed here alone", v)
	}
	a.Release(set, v)
	server.Signal(syscall.SIGCONT)
	eventually(t, "the place is free", func() bool { return spend(t, b, set).Allowed })
	eventually(t, "this replica has none taken", func() bool { return a.Local().Peek(set.Rules)[0].InFlight == 0 })
}

// TestFleetUnanswered: a place that Redis gives after the replica has given up the
// question is given back too, long before its lease ends.
func TestFleetUnanswered(t *testing.T) {
	server := redistest.Start(t)
	a, b := openFleet(t, server, hasty), openFleet(t, server, nil)
	set := setOf(ratelimit.Rule{Scope: "team", Key: "payments", Most: 1})
	spend(t, a, setOf(hourly(1000))) // so that Redis has the script
	server.Signal(syscall.SIGSTOP)
	for !a.State().Down {
		a.Release(set, spend(t, a, set))
	}
	eventually(t, "the last question is given up", func() bool { return a.Ended() >= 2 }) // and the last call has ended
	server.Signal(syscall.SIGCONT)
	eventually(t, "the place is free", func() bool { v := spend(t, b, set); return v.Allowed && !v.Local })
}
