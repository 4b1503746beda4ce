package ratelimit_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

// TestCap: a place is taken with the spending, and a refusal takes neither.
func TestCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := ratelimit.New(100)
		team := ratelimit.Rule{Scope: "team", Key: "payments", Limit: ratelimit.Limit{Rate: 1, Per: time.Hour, Burst: 10}, Most: 2}
		tenant := ratelimit.Rule{Scope: "tenant", Key: "acme", Most: 3}
		rules := []ratelimit.Rule{team, tenant}
		var held []uint64
		for range 2 {
			d := limiter.Spend(rules, 1)
			if !d.Allowed || d.Held != 0b11 {
				t.Fatalf("Spend = %+v, want allowed, with a place of both", d)
			}
			held = append(held, d.Held)
		}
		d := limiter.Spend(rules, 1)
		want := ratelimit.Decision{Full: true, Rule: team, Remaining: 7, RetryAfter: time.Second, ResetAfter: 3 * time.Hour}
		if diff := cmp.Diff(want, d); diff != "" {
			t.Errorf("the third at once (-want +got):\n%s", diff)
		}
		want = ratelimit.Decision{Allowed: true, Held: 1}
		if diff := cmp.Diff(want, limiter.Spend([]ratelimit.Rule{tenant}, 1)); diff != "" {
			t.Errorf("the tenant's third (-want +got):\n%s", diff)
		}
		limiter.Release(rules, held[0])
		if d := limiter.Spend(rules, 1); !d.Allowed || d.Remaining != 7 {
			t.Errorf("after one has ended: %+v, want allowed with 7 left: refusals cost nothing", d)
		}
		levels := limiter.Peek(rules)
		if levels[0].InFlight != 2 || levels[1].InFlight != 3 || levels[0].Remaining != 7 {
			t.Errorf("Peek = %+v, want 2 and 3 calls under way and 7 left", levels)
		}
	})
}

// TestCapAfterRate: a place is not taken by a call that the rate refuses.
func TestCapAfterRate(t *testing.T) {
	limiter := ratelimit.New(100)
	rules := []ratelimit.Rule{
		{Scope: "tenant", Key: "acme", Most: 2},
		{Scope: "team", Key: "a", Limit: ratelimit.Limit{Rate: 1, Per: time.Hour, Burst: 1}},
	}
	limiter.Spend(rules, 1)
	for range 10 {
		if d := limiter.Spend(rules, 1); d.Allowed || d.Held != 0 {
			t.Fatalf("Spend = %+v, want refused, and no place", d)
		}
	}
	if n := limiter.Peek(rules)[0].InFlight; n != 1 {
		t.Errorf("%d calls under way, want 1", n)
	}
}

// TestShadow: a rule in shadow refuses nothing and hides no real one, tells what
// it would have refused, and is not charged for it.
func TestShadow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := ratelimit.New(100)
		limit := ratelimit.Limit{Rate: 1, Per: time.Minute, Burst: 2}
		shadow := ratelimit.Rule{Scope: "team", Key: "a", Limit: limit, Most: 1, Shadow: true}
		real := ratelimit.Rule{Scope: "caller", Key: "a/b", Limit: ratelimit.Limit{Rate: 1, Per: time.Hour, Burst: 4}}
		rules := []ratelimit.Rule{shadow, real}
		spend := func(remaining int64, shadowed, held uint64) {
			t.Helper()
			d := limiter.Spend(rules, 1)
			if !d.Allowed || d.Rule != real || d.Remaining != remaining || d.Shadowed != shadowed || d.Held != held {
				t.Errorf("Spend = %+v, want allowed by the caller's rule with %d left, shadowed %b, held %b", d, remaining, shadowed, held)
			}
		}
		spend(3, 0, 1)
		spend(2, 1, 0) // one is under way
		limiter.Release(rules, 1)
		spend(1, 0, 1)
		limiter.Release(rules, 1)
		spend(0, 1, 0) // and now its rate is used up
		if got := limiter.Peek(rules)[0]; got.ResetAfter != 2*time.Minute || got.InFlight != 0 {
			t.Errorf("the shadow stands at %+v, want two calls spent and none under way", got)
		}
		if d := limiter.Spend(rules, 1); d.Allowed || d.Rule != real || d.Shadowed != 1 {
			t.Errorf("Spend = %+v, want refused by the real rule, and told that the shadow would too", d)
		}
		if policy := ratelimit.Policy(rules); strings.Contains(policy, "team") {
			t.Errorf("policy %s states the shadow", policy)
		}
	})
}

// TestCapFields: callers are told of caps in the draft's own unit.
func TestCapFields(t *testing.T) {
	rule := ratelimit.Rule{Scope: "team", Key: "a", Limit: ratelimit.Limit{Rate: 5, Per: time.Second, Burst: 5}, Most: 1}
	want := `"team-in-flight";q=1;qu="concurrent-requests", "team";q=5;w=1`
	if got := ratelimit.Policy([]ratelimit.Rule{rule}); got != want {
		t.Errorf("policy %s, want %s", got, want)
	}
	limiter := ratelimit.New(1)
	limiter.Spend([]ratelimit.Rule{rule}, 1)
	d := limiter.Spend([]ratelimit.Rule{rule}, 1)
	if got, want := d.Field(), `"team-in-flight";r=0;t=1`; got != want {
		t.Errorf("field %s, want %s", got, want)
	}
	f := d.Fault()
	if want := "the team has 1 calls under way, as many as it may: wait until one is answered"; f == nil || f.Message != want {
		t.Errorf("fault %v, want %q", f, want)
	}
}
