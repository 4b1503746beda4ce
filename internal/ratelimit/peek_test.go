package ratelimit_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

// Peek says what Spend would, and charges nothing.
func TestPeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ratelimit.New(10)
		rule := ratelimit.Rule{Scope: "peer", Key: "a", Limit: ratelimit.Limit{Rate: 1, Per: time.Minute, Burst: 2}}
		for i := range 4 {
			for range 3 {
				want := l.Peek(rule)
				if again := l.Peek(rule); again != want || want.Allowed != (i < 2) {
					t.Fatalf("spent %d: %+v, and then %+v", i, want, again)
				}
			}
			want := l.Peek(rule)
			if got := l.Spend([]ratelimit.Rule{rule}, 1); got != want {
				t.Errorf("spent %d: Spend says %+v, Peek said %+v", i, got, want)
			}
			time.Sleep(time.Second)
		}
		if got := l.Peek(ratelimit.Rule{Scope: "peer", Key: "a"}); !got.Allowed {
			t.Errorf("without a limit: %+v", got)
		}
	})
}
