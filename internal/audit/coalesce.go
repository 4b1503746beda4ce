package audit

import (
	"context"
	"fmt"
	"time"
)

// Refusals without a caller cost nothing to provoke. So that a flood of them
// neither fills the disk nor keeps out those who have a caller, only so many get
// a record of their own; the others share one that counts them. What stands in
// it: see [tally]. No answer is given before its record is on disk, shared or
// not, and none is counted twice.
const (
	// ownRate is how many such refusals a second, and at once, get a record of
	// their own.
	ownRate = 100
	// crowdRate is how many shared records a second are begun for one reason and
	// network; crowdBurst is how many at once. What comes beyond them shares one
	// record without these.
	crowdRate  = 100
	crowdBurst = maxCrowds
	// maxCrowds bounds the shared records that are open at once, but for the one
	// of all others.
	maxCrowds = 64
	// crowdEvery is how often, at most, shared records are written, which is how
	// long a refusal waits for others that are to share its record.
	crowdEvery = 100 * time.Millisecond
	// scarceEvery is how often they are written while space is scarce.
	scarceEvery = 10 * time.Second
)

// A bucket holds tokens, which come back with time.
type bucket struct {
	tokens float64
	at     time.Time // of tokens
}

// take takes a token, of burst that come back at rate a second, if there is one.
func (b *bucket) take(now time.Time, rate, burst float64) bool {
	b.tokens = min(burst, b.tokens+rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// A flood is the refusals without a caller that share records, and what limits
// the others. Log.mu guards it.
type flood struct {
	own, begun bucket
	// pending are the crowds that somebody waits for, written when the last ones
	// were.
	pending crowds
	written time.Time
	// window wakes run when pending may be written.
	window *time.Timer
	// queued counts the records in the queue that are such a refusal's own.
	queued int
}

// faceless tells whether r is a refusal without a caller.
func faceless(r *Record) bool { return r.Kind == KindDenied && r.Caller == "" }

// join counts a refusal without a caller. It returns the crowd whose record it
// shares, or nil if it may have a record of its own, for which it has taken a
// place in the queue. After an error it is counted and kept, except after
// ErrClosed.
func (l *Log) join(t *tally) (*crowd, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("append record: %w", ErrClosed)
	}
	if l.space.scarce {
		t.peer = "" // few crowds: there is no space for more
		l.stats.Refused++
		l.stats.Merged++
		l.kept.crowds.merge(t, always)
		return nil, fmt.Errorf("append record: %w", ErrDeferred)
	}
	now, f := time.Now(), &l.flood
	if f.queued < l.cfg.MaxQueue/2 && f.own.take(now, ownRate, ownRate) {
		f.queued++
		return nil, nil
	}
	l.stats.Merged++
	if err := l.failing(); err != nil {
		l.count(err)
		l.kept.crowds.merge(t, always)
		return nil, err
	}
	if len(f.pending) == 0 {
		f.window.Reset(max(0, crowdEvery-now.Sub(f.written)))
	}
	c := f.pending.merge(t, func() bool { return f.begun.take(now, crowdRate, crowdBurst) })
	c.waiting++
	return c, nil
}

// await waits for the record of a crowd, as Append does for one of its own.
func (l *Log) await(ctx context.Context, c *crowd, r *Record) (err error) {
	late := time.NewTimer(l.cfg.MaxWait)
	defer late.Stop()
	select {
	case <-c.done:
	case <-ctx.Done():
		err = l.part(c, fmt.Errorf("append record: %w", context.Cause(ctx)))
	case <-late.C:
		err = l.part(c, fmt.Errorf("append record: %w: it is not on disk after %v", ErrUnavailable, l.cfg.MaxWait))
	}
	if err != nil {
		return err
	}
	r.ID, r.Seq = c.id, c.seq
	return c.err
}

// part gives up waiting for a crowd's record, which is written all the same,
// unless it is settled by now.
func (l *Log) part(c *crowd, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.settled {
		return nil
	}
	c.waiting--
	l.count(err)
	return err
}

// crowdsDue tells whether the pending crowds are to be written. l.mu is held.
func (l *Log) crowdsDue(now time.Time) bool {
	return len(l.flood.pending) > 0 && (l.closed || now.Sub(l.flood.written) >= crowdEvery)
}

// takeCrowds adds the pending crowds to a batch. l.mu is held.
func (l *Log) takeCrowds(b *batch, now time.Time) {
	b.crowds = l.flood.pending.take()
	l.flood.written = now
	for _, c := range b.crowds {
		b.entries = append(b.entries, c.entry())
	}
}

// disband gives up on a crowd whose record is not on disk, and keeps its count.
// Those who wait are released by the caller. l.mu is held.
func (l *Log) disband(c *crowd, err error) {
	for range c.waiting {
		l.count(err)
	}
	c.err, c.settled = err, true
	l.kept.crowds.merge(&c.tally, always)
	poke(l.wake)
}
