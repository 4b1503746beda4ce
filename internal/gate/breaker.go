package gate

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// tolerance is how many attempts in a row fail before C1 is taken to be down.
	tolerance = 5
	// firstPause and maxPause bound how long C1 is then left alone. Each time
	// that it is found to be down still, the pause doubles.
	firstPause, maxPause = time.Second, 10 * time.Second
	// probeWait is the wait that a caller is told while another's call finds out.
	probeWait = time.Second
)

// A breaker knows whether C1 answers. It is closed while it does; it opens when
// attempts fail in a row, whoever made them, and closes with the first that C1
// answers. While it is open calls are refused, except one after each pause.
//
// That one operation of C1's is broken is no reason to refuse the others: only
// operations that have failed themselves are refused, unless there was no
// connection, without which none can work. So an open breaker closes as soon as
// another operation is called and works.
type breaker struct {
	mu       sync.Mutex // guards what follows
	failures int        // in a row
	failed   map[string]bool
	nowhere  bool      // an attempt had no connection
	since    time.Time // when it opened; zero while it is closed
	until    time.Time // the end of the pause
	pause    time.Duration
	probing  bool
	opened   uint64
}

// refuses is how long to wait before calling the operation; 0 if it may be
// called now. It changes nothing.
func (b *breaker) refuses(operation string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wait(operation)
}

// admit is refuses for a call that is made if it may be: where the operation is
// one that has failed, the call is the probe, and Report must follow.
func (b *breaker) admit(operation string) (probe bool, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if wait := b.wait(operation); wait > 0 {
		return false, wait
	}
	probe = b.suspects(operation)
	b.probing = b.probing || probe
	return probe, 0
}

// suspects says that the breaker is open, and for the operation. Called with mu
// held.
func (b *breaker) suspects(operation string) bool {
	return !b.since.IsZero() && (b.nowhere || b.failed[operation])
}

// wait is refuses, called with mu held.
func (b *breaker) wait(operation string) time.Duration {
	if !b.suspects(operation) {
		return 0
	}
	if left := time.Until(b.until); left > 0 {
		return left
	}
	if b.probing {
		return probeWait
	}
	return 0
}

// report takes the verdict of an attempt, which was the probe or not, and says
// whether the breaker opened or closed with it.
func (b *breaker) report(operation string, v Verdict, probe bool) (change Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	switch v {
	case Alive:
		if !b.since.IsZero() {
			change = Closed
		}
		b.failures, b.nowhere = 0, false
		b.since, b.until, b.pause = time.Time{}, time.Time{}, 0
		clear(b.failed)
	case Failed, Unreachable:
		b.failures++
		b.failed[operation] = true
		b.nowhere = b.nowhere || v == Unreachable
		if b.since.IsZero() && b.failures >= tolerance {
			b.since = time.Now()
			b.opened++
			b.rest()
			change = Opened
		} else if probe {
			b.rest()
		}
	}
	return change
}

// rest begins a pause, twice as long as the last, less up to half of it at
// random, so that many gateways do not all knock at once. Called with mu held.
func (b *breaker) rest() {
	b.pause = min(max(2*b.pause, firstPause), maxPause)
	b.until = time.Now().Add(b.pause - rand.N(b.pause/2))
}

func (b *breaker) state() (down bool, since time.Time, opened uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.since.IsZero(), b.since, b.opened
}
