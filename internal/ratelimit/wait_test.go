package ratelimit_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

// Wait is what Spend would tell a call to wait, and charges nothing.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ratelimit.New(10)
		rule := ratelimit.Rule{Scope: "peer", Key: "a", Limit: ratelimit.Limit{Rate: 1, Per: time.Minute, Burst: 2}}
		for i := range 4 {
			want := l.Wait(rule)
			if again := l.Wait(rule); again != want || (want == 0) != (i < 2) {
				t.Fatalf("spent %d: %v, and then %v", i, want, again)
			}
			if got := l.Spend([]ratelimit.Rule{rule}, 1); got.RetryAfter != want {
				t.Errorf("spent %d: Spend says %v, Wait said %v", i, got.RetryAfter, want)
			}
			time.Sleep(time.Second)
		}
		if got := l.Wait(ratelimit.Rule{Scope: "peer", Key: "a"}); got != 0 {
			t.Errorf("without a limit: %v", got)
		}
	})
}
