package ratelimit_test

import (
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

func TestPace(t *testing.T) {
	type pace struct{ Interval, Capacity int64 }
	second := int64(time.Second)
	for _, tt := range []struct {
		name  string
		limit ratelimit.Limit
		want  pace
	}{
		{"plain", ratelimit.Limit{Rate: 100, Per: time.Second, Burst: 5}, pace{second / 100, second / 20}},
		{"rounds against the caller", ratelimit.Limit{Rate: 3, Per: time.Second, Burst: 3}, pace{333_333_334, 1_000_000_002}},
		{"faster than the clock", ratelimit.Limit{Rate: math.MaxInt64, Per: 1, Burst: 2}, pace{1, 2}},
		{"slower than the horizon", ratelimit.Limit{Rate: 1, Per: math.MaxInt64, Burst: 1}, pace{ratelimit.Horizon, ratelimit.Horizon}},
		{"burst past the horizon", ratelimit.Limit{Rate: 1, Per: time.Hour, Burst: math.MaxInt64}, pace{int64(time.Hour), ratelimit.Horizon}},
		{"no burst", ratelimit.Limit{Rate: 1, Per: 1}, pace{ratelimit.Horizon, 0}},
		{"no period", ratelimit.Limit{Rate: 1, Burst: 1}, pace{ratelimit.Horizon, 0}},
		{"negative rate", ratelimit.Limit{Rate: -1, Per: 1, Burst: 1}, pace{ratelimit.Horizon, 0}},
	} {
		interval, capacity := tt.limit.Pace()
		if diff := cmp.Diff(tt.want, pace{interval, capacity}); diff != "" {
			t.Errorf("%s: pace (-want +got):\n%s", tt.name, diff)
		}
	}
}

// FuzzGCRA holds the core against GCRA written in big integers, with rates,
// bursts, periods and moments as extreme as their types allow.
func FuzzGCRA(f *testing.F) {
	for _, rate := range []int64{1, 3, 1e9, math.MaxInt64, 0, -1} {
		for _, per := range []int64{1, 7, int64(time.Hour), math.MaxInt64, 0} {
			f.Add(rate, per, int64(5), int64(1), int64(1e9), int64(0))
			f.Add(rate, per, int64(math.MaxInt64), int64(math.MaxInt64), ratelimit.Horizon, ratelimit.Horizon)
		}
	}
	f.Fuzz(func(t *testing.T, rate, per, burst, cost, now, debt int64) {
		limit := ratelimit.Limit{Rate: rate, Per: time.Duration(per), Burst: burst}
		cost = max(1, cost)
		now &= ratelimit.Horizon - 1
		tat := now + debt%ratelimit.Horizon
		tat = max(0, tat)

		next, wait := limit.Ask(now, tat, cost)

		wantNext, wantWait := model(limit, now, tat, cost)
		if next != wantNext || wait != wantWait {
			t.Fatalf("Ask(%d, %d, %d) of %+v = %d, %d; want %d, %d", now, tat, cost, limit, next, wait, wantNext, wantWait)
		}
		if wait > 0 && now+wait <= ratelimit.Horizon {
			if _, again := limit.Ask(now+wait, tat, cost); again != 0 {
				t.Fatalf("after waiting %d as told: still %d", wait, again)
			}
			if _, early := limit.Ask(now+wait-1, tat, cost); early != 1 {
				t.Fatalf("1 ns before the wait of %d is over: wait %d, want 1", wait, early)
			}
		}
	})
}

// model is GCRA by the book, in numbers that cannot overflow.
func model(limit ratelimit.Limit, now, tat, cost int64) (next, wait int64) {
	if limit.Rate < 1 || limit.Per < 1 || limit.Burst < 1 {
		return tat, -1
	}
	b, horizon := big.NewInt, big.NewInt(ratelimit.Horizon)
	least := func(x, y *big.Int) *big.Int {
		if x.Cmp(y) < 0 {
			return x
		}
		return y
	}
	rate := b(limit.Rate)
	interval := new(big.Int).Add(b(int64(limit.Per)), new(big.Int).Sub(rate, b(1)))
	interval = least(interval.Quo(interval, rate), horizon)
	capacity := least(new(big.Int).Mul(b(limit.Burst), interval), horizon)
	need := new(big.Int).Mul(b(cost), interval)
	if need.Cmp(capacity) > 0 {
		return tat, -1
	}
	arrival := new(big.Int).Add(b(max(tat, now)), need)
	over := new(big.Int).Sub(new(big.Int).Sub(arrival, capacity), b(now))
	if over.Sign() > 0 {
		return tat, over.Int64()
	}
	return arrival.Int64(), 0
}
