package ratelimit_test

import (
	"fmt"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

// bubble hides the Deadline of a *testing.T, which cannot be asked for in a
// synctest bubble, and which rapid would ask for.
type bubble struct{ rapid.TB }

// A history is every accepted call of one bucket. It is the naive model: it
// knows no arrival time, only the promise.
type history []accepted

type accepted struct {
	at   time.Time
	cost int64
}

// allows reports whether one more call now keeps the promise in every window
// that ends now: accepted <= burst + time/interval, where an interval is the
// time of one unit, rounded up to a nanosecond.
func (h history) allows(limit ratelimit.Limit, cost int64, now time.Time) bool {
	interval := (int64(limit.Per) + limit.Rate - 1) / limit.Rate
	if cost > limit.Burst {
		return false
	}
	sum := cost
	for i := len(h) - 1; i >= 0; i-- {
		sum += h[i].cost
		if (sum-limit.Burst)*interval > int64(now.Sub(h[i].at)) {
			return false
		}
	}
	return true
}

// check asserts accepted <= burst + rate * time in every window, in exact
// fractions: what an operator wrote, not what the arithmetic made of it.
func (h history) check(t *rapid.T, rule ratelimit.Rule) {
	limit := rule.Limit
	for i := range h {
		sum := int64(0)
		for j := i; j < len(h); j++ {
			sum += h[j].cost
			over := new(big.Int).Mul(big.NewInt(sum-limit.Burst), big.NewInt(int64(limit.Per)))
			given := new(big.Int).Mul(big.NewInt(limit.Rate), big.NewInt(int64(h[j].at.Sub(h[i].at))))
			if over.Cmp(given) > 0 {
				t.Fatalf("%s %s accepted %d in %v, over %+v", rule.Scope, rule.Key, sum, h[j].at.Sub(h[i].at), limit)
			}
		}
	}
}

func drawLimit(t *rapid.T, name string) ratelimit.Limit {
	return ratelimit.Limit{
		Rate:  rapid.Int64Range(1, 20).Draw(t, name+" rate"),
		Per:   time.Duration(rapid.Int64Range(1, int64(10*time.Second)).Draw(t, name+" per")),
		Burst: rapid.Int64Range(1, 10).Draw(t, name+" burst"),
	}
}

func drawPause(t *rapid.T, last time.Duration) time.Duration {
	return time.Duration(rapid.OneOf(
		rapid.Just(int64(0)),
		rapid.Just(int64(last)),
		rapid.Int64Range(0, int64(time.Second)),
		rapid.Int64Range(0, int64(time.Minute)),
	).Draw(t, "pause"))
}

// TestModel compares every decision over several rules with the naive model:
// allowed exactly if every rule's history allows it, charged to all or none.
// Refused calls are in no history, so they delay nobody.
func TestModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubble{t}, func(t *rapid.T) {
			limiter := ratelimit.New(1000)
			var buckets []ratelimit.Rule
			histories := make(map[string]*history)
			for i := range rapid.IntRange(1, 5).Draw(t, "buckets") {
				key := fmt.Sprint(i)
				buckets = append(buckets, ratelimit.Rule{Scope: "team", Key: key, Limit: drawLimit(t, key)})
				histories[key] = new(history)
			}
			var wait time.Duration
			for range rapid.IntRange(1, 60).Draw(t, "calls") {
				time.Sleep(drawPause(t, wait))
				rules := rapid.SliceOfNDistinct(rapid.SampledFrom(buckets), 1, len(buckets),
					func(r ratelimit.Rule) string { return r.Key }).Draw(t, "rules")
				cost := rapid.Int64Range(1, 4).Draw(t, "cost")
				want := true
				for _, r := range rules {
					want = want && histories[r.Key].allows(r.Limit, cost, time.Now())
				}
				d := limiter.Spend(rules, cost)
				if d.Allowed != want {
					t.Fatalf("Spend = %+v, the model says %v", d, want)
				}
				if wait = d.RetryAfter; d.Allowed {
					for _, r := range rules {
						*histories[r.Key] = append(*histories[r.Key], accepted{time.Now(), cost})
					}
				}
			}
			for _, b := range buckets {
				histories[b.Key].check(t, b)
			}
		})
	})
}

// TestFlood has far more live buckets than memory. Each bucket still keeps its
// promise, and whoever waits as told, while nobody else spends, gets through.
func TestFlood(t *testing.T) {
	var evicted uint64
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubble{t}, func(t *rapid.T) {
			limiter := ratelimit.New(1)
			limits := []ratelimit.Limit{drawLimit(t, "a"), drawLimit(t, "b"), {Rate: 1, Per: time.Hour, Burst: 3}}
			rule := func(n int) ratelimit.Rule {
				return ratelimit.Rule{Scope: "caller", Key: fmt.Sprint(n), Limit: limits[n%len(limits)]}
			}
			histories := make(map[int]*history)
			for range rapid.IntRange(20, 200).Draw(t, "calls") {
				time.Sleep(time.Duration(rapid.Int64Range(0, int64(200*time.Millisecond)).Draw(t, "pause")))
				n := rapid.IntRange(0, 60).Draw(t, "key")
				d := limiter.Spend([]ratelimit.Rule{rule(n)}, 1)
				if !d.Allowed && rapid.IntRange(0, 9).Draw(t, "patience") == 0 {
					time.Sleep(d.RetryAfter)
					if d = limiter.Spend([]ratelimit.Rule{rule(n)}, 1); !d.Allowed {
						t.Fatalf("refused after waiting as told: %+v", d)
					}
				}
				if d.Allowed {
					if histories[n] == nil {
						histories[n] = new(history)
					}
					*histories[n] = append(*histories[n], accepted{time.Now(), 1})
				}
			}
			for n, h := range histories {
				h.check(t, rule(n))
			}
			evicted += limiter.Evicted()
		})
	})
	if evicted == 0 {
		t.Error("no bucket was ever pushed out: the test has not tested")
	}
}

// TestFloor: a bucket that was pushed out long ago comes back with its debt,
// even if a bucket with less was pushed out since.
func TestFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := ratelimit.New(1) // one group, of 15 places
		spend := func(key string, per time.Duration, burst int64) ratelimit.Decision {
			return limiter.Spend([]ratelimit.Rule{{Scope: "caller", Key: key,
				Limit: ratelimit.Limit{Rate: 1, Per: per, Burst: burst}}}, 1)
		}
		spend("debtor", time.Minute, 1)
		for i := range 14 {
			spend(fmt.Sprint(i), time.Hour, 1)
		}
		spend("pushes debtor out", time.Second, 1)
		spend("pushes that out", time.Hour, 2)
		if got := limiter.Evicted(); got != 2 {
			t.Fatalf("%d buckets were pushed out, want 2", got)
		}
		time.Sleep(59 * time.Second)
		if d := spend("debtor", time.Minute, 1); d.Allowed || d.RetryAfter != time.Second {
			t.Errorf("the debtor after 59 s of 60: %+v, want a wait of 1 s", d)
		}
	})
}
