package audit

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// How often run does what it does unasked.
const (
	tickEvery = time.Second
	minRetry  = 100 * time.Millisecond // after a failure, then twice as long
	maxRetry  = time.Second
	signEvery = time.Second
)

// run is the goroutine of commits. It alone uses the writer.
//
// It takes one batch at a time, so that under load, where there is always
// another one, its other duties come about too: select is fair.
func (l *Log) run() {
	defer close(l.stopped)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.wake:
			if l.next() {
				poke(l.wake)
			}
		case <-l.flood.window.C:
			if l.next() {
				poke(l.wake)
			}
		case <-tick.C:
			l.tick()
		case <-l.retry.C:
			l.heal()
		case done := <-l.seals:
			done <- l.seal()
		case <-l.stop:
			l.closeErr = l.finish()
			return
		}
	}
}

// next writes the next batch, and returns whether there was one.
func (l *Log) next() bool {
	// Let those who were just released come back with their next record, so
	// that it shares this sync.
	runtime.Gosched()
	b := l.take()
	if b == nil {
		return false
	}
	l.write(b)
	return true
}

// take takes the next batch, and what was kept with it: first what was kept,
// which is older. It returns nil if there is nothing to write, or no disk to
// write to. What Append has given up on is left out.
func (l *Log) take() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	counts, due := l.countsDue(now), l.crowdsDue(now)
	if l.gap.err != nil || len(l.queue) == 0 && l.kept.empty(counts) && !due {
		return nil
	}
	b := &batch{done: make(chan struct{})}
	if len(l.queue) > 0 {
		b = l.queue[0]
		l.queue = slices.Delete(l.queue, 0, 1)
		l.dequeue(b)
	}
	b.taken = true
	if kept := l.kept.take(now, counts); kept != nil {
		b.entries = append(kept, b.entries...)
	}
	if due {
		l.takeCrowds(b, now)
	}
	return b
}

// dequeue frees the places of a batch, and leaves out of it what Append has
// given up on. l.mu is held.
func (l *Log) dequeue(b *batch) {
	l.queued -= len(b.entries)
	for _, e := range b.entries {
		if e.faceless != nil {
			l.flood.queued--
		}
	}
	b.entries = slices.DeleteFunc(b.entries, func(e *entry) bool { return e.cancelled })
}

// write puts a batch on disk, settles it and releases those who wait for it.
// After that it begins a new segment if this one is full, so that nobody who
// waits now waits for that.
func (l *Log) write(b *batch) {
	l.begin()
	defer l.end()
	err := l.look()
	if err == nil {
		err = l.writer.commit(b.entries)
	}
	if err != nil {
		// Heal first: if that succeeds, nobody but this batch is refused.
		l.lose(b, err)
		l.heal()
		b.release()
		return
	}
	l.mu.Lock()
	l.note()
	l.settle(b, nil)
	l.mu.Unlock()
	b.release()
	poke(l.grown)
	if l.writer.file.Size() >= l.cfg.SegmentBytes {
		_ = l.roll() // it says so itself
	}
}

// begin and end stand around everything that may wait for the disk, so that
// others can tell for how long it has not answered.
func (l *Log) begin() { l.busy.Store(time.Now().UnixNano()) }
func (l *Log) end()   { l.busy.Store(0) }

// look raises the alarm if someone else has touched the files.
func (l *Log) look() error {
	err := l.writer.check(time.Now())
	if err == nil {
		return nil
	}
	l.alarm = map[string]string{"saw": err.Error()}
	if l.writer.file != nil {
		l.alarm["segment"] = filepath.Base(l.writer.file.Path())
	}
	l.mu.Lock()
	l.stats.Alarms++
	l.complain("someone else has touched the audit log", err)
	l.mu.Unlock()
	return err
}

// note brings the counts up to date after a commit. l.mu is held.
func (l *Log) note() {
	l.stats.Batches++
	l.noteSize()
}

// noteSize is the part of note that is true of a new segment too: its header is
// a record, but nobody's batch. l.mu is held.
func (l *Log) noteSize() {
	size := l.writer.tree.size
	l.stats.Records += size - l.stats.Size
	l.stats.Size, l.stats.Syncs, l.stats.OpenIntents = size, l.writer.syncs, len(l.writer.open)
}

// tick looks at the files and the space while nobody appends, and tells of gaps
// that had other causes than the disk.
func (l *Log) tick() {
	l.begin()
	defer l.end()
	l.measure()
	if l.failure() != nil {
		return // heal is on its way
	}
	err := l.look()
	if err == nil {
		err = l.tell()
	}
	if err != nil {
		l.heal()
	}
}

// roll begins a new segment. If that fails the old one stays in use, or, if
// that is no longer possible, the log fails until it heals.
func (l *Log) roll() error {
	err := l.newSegment()
	if err == nil {
		return nil
	}
	l.mu.Lock()
	l.complain("the audit log cannot begin a new segment", err)
	l.mu.Unlock()
	if l.writer.file == nil {
		l.heal()
	}
	return err
}

// seal is what run does for Seal. A log that fails cannot be sealed: it begins
// a new segment by itself when it can.
func (l *Log) seal() error {
	if err := l.Healthy(); err != nil {
		return fmt.Errorf("seal audit segment: %w", err)
	}
	if l.writer.records <= 1 {
		return nil
	}
	l.begin()
	defer l.end()
	if err := l.roll(); err != nil {
		return fmt.Errorf("seal audit segment: %w: %w", ErrUnavailable, err)
	}
	return nil
}

// Seal closes the current segment, begins a new one and signs the head. A
// segment without a record but its header stays as it is. It waits until ctx
// is done, or for [Config.MaxWait]; the segment may still be sealed after that.
func (l *Log) Seal(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.cfg.MaxWait, ErrUnavailable)
	defer cancel()
	done := make(chan error, 1)
	select {
	case l.seals <- done:
	case <-l.stop:
		return fmt.Errorf("seal audit segment: %w", ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("seal audit segment: %w", context.Cause(ctx))
	}
	select {
	case err := <-done:
		if err != nil {
			return err
		}
		return l.signHead()
	case <-ctx.Done():
		return fmt.Errorf("seal audit segment: %w", context.Cause(ctx))
	}
}
