package proxy

import (
	"context"
	"fmt"
	"io"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// A load is what the gateway carries at once: calls, and the memory that they
// take. Its methods may be called at any time, from any goroutine.
type load struct {
	most   int64
	calls  atomic.Int64
	memory memory
}

// enter takes a call on, or says why not. One that is taken on leaves when its
// answer is written and its outcome is on record, whichever comes last.
func (l *load) enter() *fault.Fault {
	if l.calls.Add(1) > l.most {
		l.calls.Add(-1)
		return overloaded("c1proxy has as many calls under way as it accepts: nothing was sent")
	}
	if l.memory.full() {
		l.calls.Add(-1)
		return overloaded(outOfMemory)
	}
	return nil
}

func (l *load) leave() { l.calls.Add(-1) }

// wait returns when no call is under way, or with an error when ctx ends.
func (l *load) wait(ctx context.Context) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		left := l.calls.Load()
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("drain: %d calls are still under way; their outcomes will be recorded as indeterminate", left)
		case <-ticker.C:
		}
	}
}

const outOfMemory = "c1proxy has as much in memory as it accepts: nothing was sent"

// overloaded is a refusal that another replica, or this one a second later,
// may not make.
func overloaded(why string) *fault.Fault {
	f := fault.New(connect.CodeUnavailable, fault.Overloaded, "%s", why)
	f.RetryAfter = time.Second
	return f
}

const (
	// memoryShare is how much of the memory limit may be in use for calls to
	// be taken on. What is left is for the garbage between two collections.
	memoryShare = 0.8
	// memoryPeriod is how long a look at the memory counts.
	memoryPeriod = 20 * time.Millisecond
)

// A memory tells whether the process nears its memory limit, GOMEMLIMIT.
type memory struct {
	limit  int64 // in bytes; math.MaxInt64 for none
	isFull atomic.Bool
	until  atomic.Int64 // when to look again, in Unix nanoseconds
	mu     sync.Mutex
	sample [2]metrics.Sample // guarded by mu
}

// open reads the limit.
func (m *memory) open() {
	m.limit = debug.SetMemoryLimit(-1)
	m.sample[0].Name, m.sample[1].Name = "/gc/heap/live:bytes", "/memory/classes/heap/stacks:bytes"
}

func (m *memory) limited() bool { return m.limit < math.MaxInt64 }

// full says whether what the last collection left, and the stacks, are close
// to the limit. Without a limit it is always false.
func (m *memory) full() bool {
	if !m.limited() {
		return false
	}
	now := time.Now().UnixNano()
	if now >= m.until.Load() && m.mu.TryLock() {
		defer m.mu.Unlock()
		metrics.Read(m.sample[:])
		used := m.sample[0].Value.Uint64() + m.sample[1].Value.Uint64()
		m.isFull.Store(float64(used) > memoryShare*float64(m.limit))
		m.until.Store(now + int64(memoryPeriod))
	}
	return m.isFull.Load()
}

// A frugalBody is not read on when memory is short: calls that were taken on
// in better times must not bring the process down.
type frugalBody struct {
	io.ReadCloser
	memory *memory
}

// Read fails with a refusal in connect's form, in whose chain the fault is.
func (b frugalBody) Read(p []byte) (int, error) {
	if b.memory.full() {
		return 0, overloaded(outOfMemory).Connect()
	}
	return b.ReadCloser.Read(p)
}
