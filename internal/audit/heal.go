package audit

import (
	"fmt"
	"time"
)

// lose gives up on a batch that could not be written, and keeps of it what must
// not be lost. Those who wait for it are released by the caller.
func (l *Log) lose(b *batch, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.complain("the audit log cannot be written", err)
	l.stats.Failures++
	l.stats.Syncs = l.writer.syncs
	l.settle(b, fmt.Errorf("append record: %w: %w", ErrUnavailable, err))
}

// heal tries to write again after a failure. While it fails, every append is
// refused, and it is called again: soon, then less and less often.
func (l *Log) heal() {
	l.begin()
	err := l.resume()
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.refuseAll(err)
		l.retryAfter = min(max(2*l.retryAfter, minRetry), maxRetry)
		l.retry.Reset(l.retryAfter)
		return
	}
	if l.gap.err != nil {
		l.complain("the audit log can be written again", nil)
	}
	l.gap.err, l.retryAfter = nil, 0
	poke(l.wake)
}

// refuseAll refuses all that waits, and every append until heal succeeds. What
// must not be lost is kept. l.mu is held.
func (l *Log) refuseAll(err error) {
	l.complain("the audit log is unavailable", err)
	l.stats.Failures++
	l.stats.Syncs = l.writer.syncs
	l.gap.err = err
	err = fmt.Errorf("append record: %w: %w", ErrUnavailable, err)
	for _, b := range l.queue {
		l.dequeue(b)
		l.settle(b, err)
		b.release()
	}
	l.queue = nil
	for _, c := range l.flood.pending.take() {
		l.disband(c, err)
		close(c.done)
	}
}

// resume gets a segment that can be written to, and writes to it what has
// happened and the first of what was kept. That it could be written is the
// proof that the disk works again. Any of its steps may be repeated.
func (l *Log) resume() error {
	w := l.writer
	if err := w.relock(); err != nil {
		return err
	}
	if w.touched {
		l.alarm["outcome"] = w.rescue()
	}
	if w.file == nil || w.touched {
		if err := l.newSegment(); err != nil {
			return err
		}
	}
	return l.tell()
}

// newSegment opens a new segment, whose header is the first record in it.
func (l *Log) newSegment() error {
	end, root := l.writer.tree.size, l.writer.tree.root()
	l.mu.Lock()
	l.writer.removed = l.retention.announced
	l.mu.Unlock()
	if err := l.writer.roll(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retention.sealed(end, root, l.writer.oldestOpen)
	l.stats.Segments++
	l.noteSize()
	poke(l.grown)
	poke(l.rolled)
	poke(l.sealed)
	return nil
}

// tell writes the events that are pending, and the first of the kept records.
// What could not be told is told the next time, with what came since.
func (l *Log) tell() error {
	l.mu.Lock()
	before, now := l.gap, time.Now()
	kept := l.kept.take(now, l.countsDue(now))
	l.mu.Unlock()
	var entries []*entry
	if l.alarm != nil {
		entries = append(entries, newEntry(newEvent(EventAlarm, l.alarm)))
	}
	if e := before.event(); e != nil {
		entries = append(entries, e)
	}
	if l.spaceEvent != nil {
		entries = append(entries, newEntry(l.spaceEvent))
	}
	if entries = append(entries, kept...); len(entries) == 0 {
		return nil
	}
	err := l.writer.commit(entries)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		for _, e := range kept {
			l.keep(e)
		}
		return err
	}
	l.alarm, l.spaceEvent = nil, nil
	l.gap.told(before)
	l.note()
	poke(l.grown)
	return nil
}

// complain logs a failure, or its end if err is nil, each message at most every
// ten seconds. l.mu is held.
func (l *Log) complain(message string, err error) {
	now := time.Now()
	if now.Sub(l.complained[message]) < 10*time.Second {
		return
	}
	l.complained[message] = now
	if err == nil {
		l.cfg.Logger.Warn(message)
		return
	}
	l.cfg.Logger.Error(message, "error", err)
}
