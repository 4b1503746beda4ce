package ratelimit_test

import (
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

func TestPolicy(t *testing.T) {
	for _, tt := range []struct {
		limit ratelimit.Limit
		want  string
	}{
		{ratelimit.Limit{Rate: 100, Per: time.Second, Burst: 100}, `"team";q=100;w=1`},
		{ratelimit.Limit{Rate: 100, Per: time.Second, Burst: 200}, `"team";q=100;w=1;c1proxy-burst=200`},
		{ratelimit.Limit{Rate: 1000, Per: time.Hour, Burst: 50}, `"team";q=1000;w=3600;c1proxy-burst=50`},
		{ratelimit.Limit{Rate: 3, Per: 200 * time.Millisecond, Burst: 15}, `"team";q=15;w=1`},
		{ratelimit.Limit{Rate: 1, Per: 1500 * time.Millisecond, Burst: 1}, `"team";q=1;w=2`},
		{ratelimit.Limit{Rate: math.MaxInt64, Per: 1, Burst: math.MaxInt64}, `"team";q=999999999999999;w=1;c1proxy-burst=999999999999999`},
		{ratelimit.Limit{Rate: math.MaxInt64, Per: math.MaxInt64, Burst: 1}, `"team";q=999999999999999;w=9223372037;c1proxy-burst=1`},
		{ratelimit.Limit{Rate: 1, Per: time.Second}, `"team";q=0;w=1`},
		{ratelimit.Limit{}, ""},
	} {
		if got := ratelimit.Policy([]ratelimit.Rule{{Scope: "team", Limit: tt.limit}}); got != tt.want {
			t.Errorf("Policy of %+v = %s, want %s", tt.limit, got, tt.want)
		}
	}
	second := ratelimit.Limit{Rate: 1, Per: time.Second, Burst: 1}
	got := ratelimit.Policy([]ratelimit.Rule{{Scope: "caller", Limit: second}, {Scope: "free"}, {Scope: "a\"b\\c\nd\xff", Limit: second}})
	if want := `"caller";q=1;w=1, "a\"b\\cd";q=1;w=1`; got != want {
		t.Errorf("Policy of three rules = %s, want %s", got, want)
	}
}

// TestField: a caller that obeys r and t is never refused, and Retry-After is
// never before the end of the window t.
func TestField(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := ratelimit.New(1)
		rules := []ratelimit.Rule{{Scope: "team", Key: "k", Limit: ratelimit.Limit{Rate: 2, Per: 3 * time.Second, Burst: 3}}}
		field := func(why, want string) {
			t.Helper()
			d := limiter.Spend(rules, 1)
			if got := d.Field(); got != want {
				t.Errorf("%s: %s, want %s", why, got, want)
			}
			if f := d.Fault(); f != nil && f.RetryAfter != d.RetryAfter {
				t.Errorf("%s: Retry-After %v, window %v", why, f.RetryAfter, d.RetryAfter)
			}
		}
		field("two left, full again in 1.5 s", `"team";r=2;t=2`)
		field("one left, full again in 3 s", `"team";r=1;t=3`)
		field("none left, one is back in 1.5 s", `"team";r=0;t=2`)
		field("refused for 1.5 s", `"team";r=0;t=2`)
		time.Sleep(2 * time.Second)
		field("waited t", `"team";r=0;t=1`)
		time.Sleep(time.Second)
		field("waited t again", `"team";r=0;t=2`)
		time.Sleep(2 * time.Second)
		d := limiter.Spend(rules, 3)
		if got, want := d.Field(), `"team";r=1;t=3`; got != want || d.RetryAfter != 2500*time.Millisecond {
			t.Errorf("a refused call that costs 3: %s with a wait of %v, want %s", got, d.RetryAfter, want)
		}
		limiter.Spend(rules, 1)

		header := http.Header{}
		limiter.Spend(rules, 1).SetHeader(header, ratelimit.Policy(rules))
		want := http.Header{}
		want.Set("RateLimit", `"team";r=0;t=1`)
		want.Set("RateLimit-Policy", `"team";q=2;w=3;c1proxy-burst=3`)
		if diff := cmp.Diff(want, header); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		header = http.Header{}
		ratelimit.Decision{Allowed: true}.SetHeader(header, "")
		if len(header) != 0 {
			t.Errorf("header of a call without a limit: %v", header)
		}
	})
}
