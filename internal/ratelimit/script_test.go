package ratelimit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/c1proxy/c1proxy/internal/ratelimit"
	"github.com/c1proxy/c1proxy/internal/redistest"
)

// openFleet is a replica on a Redis, which has the time to answer that a busy machine
// may need.
func openFleet(t testing.TB, server *redistest.Server, change func(*ratelimit.RedisConfig)) *ratelimit.Fleet {
	t.Helper()
	cfg := ratelimit.RedisConfig{Addresses: []string{server.Address}, Prefix: "c1proxy:", Budget: 2 * time.Second, Replicas: 3}
	if change != nil {
		change(&cfg)
	}
	fleet := ratelimit.OpenFleet(1000, cfg)
	t.Cleanup(fleet.Close)
	return fleet
}

// hasty has a replica soon give up a Redis that hangs.
func hasty(cfg *ratelimit.RedisConfig) { cfg.Budget = 100 * time.Millisecond }

// drawRule draws a limit of any size: a rate, a cap, or both.
func drawRule(t *rapid.T, key string) ratelimit.Rule {
	r := ratelimit.Rule{Scope: "team", Key: key, Shadow: rapid.IntRange(0, 3).Draw(t, key+" shadow") == 0}
	if rapid.Bool().Draw(t, key+" cap") {
		r.Most = rapid.Int64Range(1, 3).Draw(t, key+" most")
	}
	if r.Most == 0 || rapid.Bool().Draw(t, key+" rate too") {
		r.Limit = ratelimit.Limit{
			Rate:  rapid.Int64Range(1, 1_000_000).Draw(t, key+" rate"),
			Per:   time.Duration(rapid.OneOf(rapid.Int64Range(1, 1000), rapid.Int64Range(1, int64(24*time.Hour))).Draw(t, key+" per")),
			Burst: rapid.OneOf(rapid.Int64Range(1, 10), rapid.Int64Range(1, 1_000_000)).Draw(t, key+" burst"),
		}
	}
	return r
}

// TestScriptAgrees: on a real Redis, the script decides as the core in Go does,
// to the nanosecond and in all that a decision says.
func TestScriptAgrees(t *testing.T) {
	fleet, run := openFleet(t, redistest.Start(t), nil), 0
	var allowed, refused, full, shadowed int
	rapid.Check(t, func(t *rapid.T) {
		run++
		limiter := ratelimit.New(1000)
		var rules []ratelimit.Rule
		for i := range rapid.IntRange(1, 4).Draw(t, "rules") {
			rules = append(rules, drawRule(t, fmt.Sprintf("%d-%d", run, i)))
		}
		now := int64(1_790_000_000_000_000_000) + rapid.Int64Range(0, 1e9).Draw(t, "start")
		type call struct {
			set      *ratelimit.Set
			held, id uint64
		}
		var under []call
		var wait time.Duration
		for id := range uint64(rapid.IntRange(1, 25).Draw(t, "calls")) {
			now += int64(drawPause(t, wait))
			if len(under) > 0 && rapid.Bool().Draw(t, "one ends") {
				limiter.Release(under[0].set.Rules, under[0].held)
				fleet.EndAt(under[0].set, under[0].held, under[0].id)
				under = under[1:]
			}
			set := &ratelimit.Set{Tenant: "acme", Lease: 1000 * time.Hour, Cost: rapid.Int64Range(1, 4).Draw(t, "cost"),
				Rules: rapid.SliceOfNDistinct(rapid.SampledFrom(rules), 1, len(rules),
					func(r ratelimit.Rule) string { return r.Key }).Draw(t, "asked")}
			got, err := fleet.SpendAt(now, set, uint64(run)<<20|id)
			if err != nil {
				t.Fatal(err)
			}
			want := limiter.SpendAt(now, set.Rules, set.Cost)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("at %d (-Go +Lua):\n%s", now, diff)
			}
			wait = 0
			switch {
			case got.Allowed:
				allowed++
			case got.Full:
				full++
			default:
				refused++
				wait = min(got.RetryAfter, time.Hour)
			}
			if got.Shadowed != 0 {
				shadowed++
			}
			if got.Held != 0 {
				under = append(under, call{set, got.Held, uint64(run)<<20 | id})
			}
		}
	})
	t.Logf("%d allowed, %d refused, %d of a full cap, %d told in shadow", allowed, refused, full, shadowed)
	if min(allowed, refused, full, shadowed) == 0 {
		t.Error("something was never decided: the test has not tested")
	}
}
