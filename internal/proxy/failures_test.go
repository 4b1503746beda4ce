package proxy_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/c1proxy/c1proxy/internal/proxy"
	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

// A peer may fail as often as its burst says, and then as its rate says, and is
// refused for as long as it is told, to the nanosecond.
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, limit := proxy.NewFailures(), ratelimit.Limit{Rate: 6, Per: time.Minute, Burst: 3}
		for i := range 3 {
			if f.Over("192.0.2.1:1", limit) != 0 || f.Count(fmt.Sprintf("192.0.2.1:%d", i), limit) != 0 {
				t.Fatalf("over after %d failures", i)
			}
		}
		for range 5 { // asking counts nothing
			if got := f.Over("192.0.2.1:9", limit); got != 10*time.Second {
				t.Errorf("over for %v, want 10s", got)
			}
		}
		if f.Over("192.0.2.2:1", limit) != 0 || f.Count("192.0.2.1:1", limit) != 10*time.Second {
			t.Error("another is over, or the same is not")
		}
		time.Sleep(10*time.Second - time.Nanosecond)
		if f.Over("192.0.2.1:1", limit) != 1 {
			t.Error("not over just before the time")
		}
		time.Sleep(time.Nanosecond)
		if f.Over("192.0.2.1:1", limit) != 0 || f.Count("192.0.2.1:1", limit) != 0 || f.Over("[::ffff:192.0.2.1]:1", limit) == 0 {
			t.Error("one failure more is not allowed, or too many")
		}
		if limit.Rate = 0; f.Over("192.0.2.1:1", limit) != 0 || f.Count("192.0.2.1:1", limit) != 0 {
			t.Error("without a limit there is one")
		}
	})
}

// E3, P10: a million peers that a stranger makes up take less than 64 MiB, and free
// nobody of what it owes.
func TestMillionPeers(t *testing.T) {
	limit := ratelimit.Limit{Rate: 1, Per: time.Hour, Burst: 5}
	before := heap()
	f := proxy.NewFailures()
	for range 5 {
		f.Count("203.0.113.7:1", limit)
	}
	for i := range 1_000_000 {
		f.Count(fmt.Sprintf("[2001:db8:%x:%x::1]:443", i>>16, i&0xffff), limit)
	}
	grown := int64(heap()) - int64(before)
	t.Logf("a million peers: %.1f MiB", float64(grown)/(1<<20))
	if grown > 64<<20 {
		t.Errorf("a million peers take %d MiB", grown>>20)
	}
	if f.Over("203.0.113.7:1", limit) == 0 {
		t.Error("a flood of others has freed a peer")
	}
	runtime.KeepAlive(f)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
