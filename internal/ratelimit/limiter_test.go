package ratelimit_test

import (
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

// TestSpend tells the story of one caller of one team.
func TestSpend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := ratelimit.New(100)
		rule := ratelimit.Rule{Scope: "team", Key: "payments", Limit: ratelimit.Limit{Rate: 10, Per: time.Second, Burst: 20}}
		spend := func(why string, cost int64, want ratelimit.Decision) {
			t.Helper()
			want.Rule = rule
			if diff := cmp.Diff(want, limiter.Spend([]ratelimit.Rule{rule}, cost)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", why, diff)
			}
		}
		const tenth = 100 * time.Millisecond

		spend("The first call begins with a full bucket.", 1,
			ratelimit.Decision{Allowed: true, Remaining: 19, ResetAfter: tenth})
		spend("The rest of the burst can go at once.", 19,
			ratelimit.Decision{Allowed: true, Remaining: 0, ResetAfter: 20 * tenth})
		spend("Now there is nothing left.", 1,
			ratelimit.Decision{Remaining: 0, RetryAfter: tenth, ResetAfter: 20 * tenth})
		time.Sleep(tenth - 1)
		spend("One nanosecond of impatience is too much.", 1,
			ratelimit.Decision{Remaining: 0, RetryAfter: 1, ResetAfter: 19*tenth + 1})
		time.Sleep(time.Nanosecond)
		spend("Exactly as patient as we were told to be.", 1,
			ratelimit.Decision{Allowed: true, Remaining: 0, ResetAfter: 20 * tenth})
		spend("A dear call waits for all that it costs, and what there is stays.", 15,
			ratelimit.Decision{Remaining: 0, RetryAfter: 15 * tenth, ResetAfter: 20 * tenth})
		time.Sleep(14 * tenth)
		spend("Its wait goes down, whoever asked in between.", 15,
			ratelimit.Decision{Remaining: 14, RetryAfter: tenth, ResetAfter: 6 * tenth})
		time.Sleep(tenth)
		spend("Then it goes.", 15,
			ratelimit.Decision{Allowed: true, Remaining: 0, ResetAfter: 20 * tenth})
		time.Sleep(time.Hour)
		spend("A long rest gives back the burst, and no more than that.", 20,
			ratelimit.Decision{Allowed: true, Remaining: 0, ResetAfter: 20 * tenth})
		spend("What costs more than the burst is refused for good.", 21,
			ratelimit.Decision{Remaining: 0, RetryAfter: ratelimit.Never, ResetAfter: 20 * tenth})
		time.Sleep(time.Hour)
		spend("A cost below 1 is no way to earn.", -5,
			ratelimit.Decision{Allowed: true, Remaining: 19, ResetAfter: tenth})
	})
}

// TestAllOrNothing: the narrowest rule refuses, and no other rule pays for it.
func TestAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := ratelimit.New(100)
		per := func(scope, key string, burst int64) ratelimit.Rule {
			return ratelimit.Rule{Scope: scope, Key: key, Limit: ratelimit.Limit{Rate: 1, Per: time.Minute, Burst: burst}}
		}
		bot, team, tenant := per("caller", "payments/bot", 2), per("team", "payments", 3), per("tenant", "acme", 10)
		other := per("caller", "payments/ann", 2)
		for range 100 {
			limiter.Spend([]ratelimit.Rule{bot, team, tenant}, 1)
		}

		got := limiter.Spend([]ratelimit.Rule{other, team, tenant}, 1)
		want := ratelimit.Decision{Allowed: true, Rule: team, Remaining: 0, ResetAfter: 3 * time.Minute}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("98 refusals of bot cost its team (-want +got):\n%s", diff)
		}
		got = limiter.Spend([]ratelimit.Rule{other, team, tenant}, 1)
		want = ratelimit.Decision{Rule: team, RetryAfter: time.Minute, ResetAfter: 3 * time.Minute}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the fourth call of the team (-want +got):\n%s", diff)
		}
		got = limiter.Spend([]ratelimit.Rule{tenant}, 1)
		if got.Remaining != 6 {
			t.Errorf("the tenant has %d left, want 10 - 3 - 1", got.Remaining)
		}
	})
}

// TestLongestWait: of several refusals, the one to wait longest for is told.
func TestLongestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := ratelimit.New(100)
		quick := ratelimit.Rule{Scope: "caller", Key: "a", Limit: ratelimit.Limit{Rate: 1, Per: time.Second, Burst: 1}}
		slow := ratelimit.Rule{Scope: "tenant", Key: "a", Limit: ratelimit.Limit{Rate: 1, Per: time.Hour, Burst: 1}}
		for _, rules := range [][]ratelimit.Rule{{quick, slow}, {slow, quick}} {
			limiter.Spend(rules, 1)
			if d := limiter.Spend(rules, 1); d.Rule.Scope != "tenant" || d.RetryAfter != time.Hour {
				t.Errorf("told to wait %v for the %s, want 1h for the tenant", d.RetryAfter, d.Rule.Scope)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestNoLimit(t *testing.T) {
	limiter := ratelimit.New(0)
	free := ratelimit.Rule{Scope: "team", Key: "x"}
	for _, rules := range [][]ratelimit.Rule{nil, {}, {free}, {free, free}} {
		if diff := cmp.Diff(ratelimit.Decision{Allowed: true}, limiter.Spend(rules, 1)); diff != "" {
			t.Errorf("%d rules without a limit (-want +got):\n%s", len(rules), diff)
		}
	}
	tight := ratelimit.Rule{Scope: "caller", Key: "x", Limit: ratelimit.Limit{Rate: 1, Per: time.Hour, Burst: 1}}
	limiter.Spend([]ratelimit.Rule{free, tight, free}, 1)
	if d := limiter.Spend([]ratelimit.Rule{free, tight, free}, 1); d.Allowed {
		t.Error("a rule without a limit hid one with a limit")
	}
	wrong := ratelimit.Rule{Scope: "caller", Key: "y", Limit: ratelimit.Limit{Rate: 1, Per: time.Hour}}
	if d := limiter.Spend([]ratelimit.Rule{wrong}, 1); d.Allowed || d.RetryAfter <= 0 {
		t.Errorf("a limit without a burst: %+v, want a refusal with a wait", d)
	}
}

// TestTwice: a rule that is given twice is charged once, new or known.
func TestTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := ratelimit.New(1)
		rule := ratelimit.Rule{Scope: "team", Key: "a", Limit: ratelimit.Limit{Rate: 1, Per: time.Hour, Burst: 3}}
		for want := int64(2); want >= 0; want-- {
			if d := limiter.Spend([]ratelimit.Rule{rule, rule}, 1); !d.Allowed || d.Remaining != want {
				t.Errorf("Spend = %+v, want allowed with %d left", d, want)
			}
		}
	})
}

// TestTightened: a new, narrower limit starts from an empty bucket. It does
// not wait out an hour of the old limit's debts.
func TestTightened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := ratelimit.New(100)
		rule := ratelimit.Rule{Scope: "team", Key: "a", Limit: ratelimit.Limit{Rate: 1000, Per: time.Hour, Burst: 1000}}
		limiter.Spend([]ratelimit.Rule{rule}, 1000)
		rule.Limit = ratelimit.Limit{Rate: 10, Per: time.Second, Burst: 10}
		d := limiter.Spend([]ratelimit.Rule{rule}, 1)
		if d.Allowed || d.RetryAfter != 100*time.Millisecond {
			t.Fatalf("at once after the change: %+v, want a wait of 100 ms", d)
		}
		time.Sleep(d.RetryAfter)
		if d := limiter.Spend([]ratelimit.Rule{rule}, 1); !d.Allowed {
			t.Errorf("after that wait: %+v, want allowed", d)
		}
	})
}

// TestMonotonic: a Limiter counts on the monotonic clock, which no step of the
// wall clock moves. (A wall clock cannot be stepped in a test.)
func TestMonotonic(t *testing.T) {
	if !ratelimit.New(1).MonotonicStart() {
		t.Error("the limiter's start has no monotonic reading")
	}
}

// TestConcurrent has many goroutines spend from one tenant and from their own
// buckets. The whole never passes burst + rate * time, and all of it is given.
func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := ratelimit.New(1000)
		tenant := ratelimit.Rule{Scope: "tenant", Key: "acme", Limit: ratelimit.Limit{Rate: 100, Per: time.Second, Burst: 500}}
		const rounds = 20
		var accepted atomic.Int64
		var wg sync.WaitGroup
		for i := range 64 {
			caller := ratelimit.Rule{Scope: "caller", Key: strconv.Itoa(i), Limit: ratelimit.Limit{Rate: 1000, Per: time.Second, Burst: 100}}
			wg.Go(func() {
				for range rounds {
					for range 50 {
						if limiter.Spend([]ratelimit.Rule{caller, tenant}, 1).Allowed {
							accepted.Add(1)
						}
						runtime.Gosched()
					}
					time.Sleep(time.Second)
				}
			})
		}
		wg.Wait()
		if got, want := accepted.Load(), int64(500+100*(rounds-1)); got != want {
			t.Errorf("accepted %d, want exactly burst + rate * time = %d", got, want)
		}
	})
}

func TestFault(t *testing.T) {
	limiter := ratelimit.New(1)
	rule := ratelimit.Rule{Scope: "team", Key: "secret-key", Limit: ratelimit.Limit{Rate: 1, Per: time.Minute, Burst: 1}}
	if f := limiter.Spend([]ratelimit.Rule{rule}, 1).Fault(); f != nil {
		t.Fatalf("fault of an allowed call: %v", f)
	}
	got := ratelimit.Decision{Rule: rule, RetryAfter: 1500 * time.Millisecond}.Fault()
	want := &fault.Fault{
		Code: connect.CodeResourceExhausted, Reason: fault.RateLimited,
		Message:  "the team's limit of 1 calls per 1m0s is used up: wait 2 s, then go on more slowly",
		Metadata: map[string]string{"rule": "team"}, RetryAfter: 1500 * time.Millisecond,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(fault.Fault{})); diff != "" {
		t.Errorf("fault (-want +got):\n%s", diff)
	}
}
