package ratelimit_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

func threeRules(caller, team string) []ratelimit.Rule {
	limit := ratelimit.Limit{Rate: 1e9, Per: time.Second, Burst: 1e12}
	return []ratelimit.Rule{{Scope: "caller", Key: team + "/" + caller, Limit: limit}, {Scope: "team", Key: team, Limit: limit}, {Scope: "tenant", Key: "acme", Limit: limit}}
}

// TestAllocations holds the hot path at none.
func TestAllocations(t *testing.T) {
	limiter, rules := ratelimit.New(1000), threeRules("sync-bot", "payments")
	if n := testing.AllocsPerRun(1000, func() { limiter.Spend(rules, 1) }); n != 0 {
		t.Errorf("Spend allocates %v times, want 0", n)
	}
	for i := range rules {
		rules[i].Most = 1e6
	}
	if n := testing.AllocsPerRun(1000, func() { limiter.Release(rules, limiter.Spend(rules, 1).Held) }); n != 0 {
		t.Errorf("with places, Spend and Release allocate %v times, want 0", n)
	}
}

// TestMemory floods a limiter with 1,000,000 distinct keys and prints what it
// cost. The limits hold all the same: nobody gets more than one burst.
func TestMemory(t *testing.T) {
	const keys, budget = 1_000_000, 64 << 20
	limit := ratelimit.Limit{Rate: 1, Per: 24 * time.Hour, Burst: 1}
	name := make([]byte, 0, 64)
	heapBefore, before := heap(), resident(t)
	limiter := ratelimit.New(keys)
	flood := func(from int) (accepted int) {
		rules := make([]ratelimit.Rule, 1)
		for i := range keys {
			name = strconv.AppendInt(append(name[:0], "2001:db8:hostile:"...), int64(from+i), 16)
			rules[0] = ratelimit.Rule{Scope: "peer", Key: string(name), Limit: limit}
			if limiter.Spend(rules, 1).Allowed {
				accepted++
			}
		}
		return accepted
	}
	first, again := flood(0), flood(0)
	heapGrown, grown := heap()-heapBefore, resident(t)-before
	t.Logf("%d distinct keys: heap %.1f MiB, resident %.1f MiB; accepted %d, then %d more of the same; %d pushed out",
		keys, float64(heapGrown)/(1<<20), float64(grown)/(1<<20), first, again, limiter.Evicted())
	if heapGrown > budget {
		t.Errorf("the heap grew by %d bytes, want at most %d", heapGrown, budget)
	}
	if grown > budget && !raceEnabled { // the race detector shadows memory several times over
		t.Errorf("the process grew by %d bytes, want at most %d", grown, budget)
	}
	if first < keys*99/100 {
		t.Errorf("a table made for %d keys accepted %d of them", keys, first)
	}
	if again != 0 {
		t.Errorf("%d keys got more than their burst", again)
	}
	runtime.KeepAlive(limiter)
}

// heap returns the bytes of live objects.
func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// resident returns the bytes of memory that the process holds, without the
// garbage of the test itself.
func resident(t *testing.T) int64 {
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	var kib int64
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal("read VmRSS: ", err)
	}
	return kib << 10
}

func BenchmarkSpend(b *testing.B) {
	limiter, rules := ratelimit.New(100_000), threeRules("sync-bot", "payments")
	b.ReportAllocs()
	for b.Loop() {
		limiter.Spend(rules, 1)
	}
}

// BenchmarkSpendParallel has 64 goroutines, each a caller, of one tenant.
func BenchmarkSpendParallel(b *testing.B) {
	limiter := ratelimit.New(100_000)
	b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		n := rand.IntN(1000)
		rules := threeRules("caller-"+strconv.Itoa(n), "team-"+strconv.Itoa(n%20))
		for pb.Next() {
			limiter.Spend(rules, 1)
		}
	})
}

// BenchmarkSpendFlood has a new key in each call, against a table that is full.
func BenchmarkSpendFlood(b *testing.B) {
	limiter := ratelimit.New(100_000)
	keys := make([]string, 1<<20)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
	}
	rules := []ratelimit.Rule{{Scope: "peer", Limit: ratelimit.Limit{Rate: 1, Per: time.Hour, Burst: 5}}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		rules[0].Key = keys[i&(1<<20-1)]
		limiter.Spend(rules, 1)
	}
}
