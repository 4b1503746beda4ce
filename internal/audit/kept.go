package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"time"
)

// What waits for the disk to recover is bounded: the outcomes by maxKept and
// maxKeptBytes, the refusals by maxKept and by what the outcomes leave of
// maxKeptBytes, at most half. Those without a caller are merged beyond that.
const (
	maxKept      = 10_000
	maxKeptBytes = 64 << 20
)

// kept holds final records in the order in which they came. The outcomes are
// apart, so that a flood of refusals never pushes out what was sent: of those
// there are no more than there were calls in flight.
type kept struct {
	outcomes, refusals list
	// crowds are the refusals without a caller that share a record, told when
	// some of them were last written.
	crowds crowds
	told   time.Time
}

// A list is a queue of entries.
type list struct {
	entries []*entry
	bytes   int // of all of them, about
}

func (l *list) push(e *entry) {
	l.entries = append(l.entries, e)
	l.bytes += e.memory()
}

func (l *list) shift() *entry {
	e := l.entries[0]
	l.entries[0] = nil // append moves the rest to a new array, now and then
	l.entries = l.entries[1:]
	l.bytes -= e.memory()
	return e
}

// memory is what an entry that is kept takes, in bytes, about.
func (e *entry) memory() int { return cap(e.body) + 512 }

// count is the number of refusals and outcomes that are kept.
func (k *kept) count() int {
	return len(k.outcomes.entries) + len(k.refusals.entries) + int(k.crowds.count())
}

// empty tells whether nothing is kept that may be written now: crowds if the
// argument says so.
func (k *kept) empty(crowds bool) bool {
	return len(k.outcomes.entries) == 0 && len(k.refusals.entries) == 0 && (!crowds || len(k.crowds) == 0)
}

// add returns how many calls have lost their final record for it.
func (k *kept) add(e *entry) (lost uint64) {
	switch {
	case e.crowd != nil:
		k.crowds.merge(&e.crowd.tally, always)
	case e.kind == KindOutcome:
		k.outcomes.push(e)
	default:
		k.refusals.push(e)
	}
	for len(k.outcomes.entries) > maxKept || k.outcomes.bytes > maxKeptBytes {
		k.outcomes.shift()
		lost++
	}
	for len(k.refusals.entries) > maxKept || k.refusals.bytes > min(maxKeptBytes/2, maxKeptBytes-k.outcomes.bytes) {
		if old := k.refusals.shift(); old.faceless != nil {
			k.crowds.merge(old.faceless, always)
		} else {
			lost++
		}
	}
	return lost
}

// take takes the outcomes first, up to about maxBatch bytes in all, and then
// the crowds if it is told to.
func (k *kept) take(now time.Time, crowds bool) (taken []*entry) {
	bytes := 0
	for _, list := range []*list{&k.outcomes, &k.refusals} {
		for len(list.entries) > 0 && bytes < maxBatch {
			e := list.shift()
			bytes += len(e.body)
			taken = append(taken, e)
		}
	}
	if crowds && len(k.crowds) > 0 {
		k.told = now
		for _, c := range k.crowds.take() {
			taken = append(taken, c.entry())
		}
	}
	return taken
}

// denied is the final record of a call whose intent is not on disk, because
// Append failed with err.
func denied(intent *Record, err error) *entry {
	r := unsent(intent, err)
	r.Kind = KindDenied
	return newEntry(r)
}

// notSent is the final record of a call whose intent is on disk although
// Append failed with err, so that it was not sent.
func notSent(intent *Record, err error) *entry {
	r := unsent(intent, err)
	r.Kind, r.Intent = KindOutcome, intent.ID
	return newEntry(r)
}

// unsent says of an intent what its caller is told. The codes and errors are
// those that the gateway answers with.
func unsent(intent *Record, err error) *Record {
	r := intent.identity()
	r.ID, r.Time, r.Outcome = rand.Text(), time.Now().UTC(), OutcomeNotSent
	r.Duration = max(0, r.Time.Sub(intent.Time))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		r.Code, r.Error = "deadline_exceeded", "DEADLINE_EXCEEDED"
	case errors.Is(err, context.Canceled):
		r.Code, r.Error, r.ClientGone = "canceled", "CANCELED", true
	default:
		r.Code, r.Error = "unavailable", "AUDIT_UNAVAILABLE"
	}
	return r
}

// keep remembers a final record, to be written as soon as it can be. l.mu is
// held.
func (l *Log) keep(e *entry) {
	if lost := l.kept.add(e); lost > 0 {
		l.stats.Lost += lost
		l.gap.lost += lost
		l.gap.begin(errors.New("too many final records to keep"))
	}
	poke(l.wake)
}

// refuse gives up on an entry that is not in the queue. l.mu is held.
func (l *Log) refuse(e *entry, err error) {
	l.count(err)
	switch {
	case e.final():
		e.record = nil
		l.keep(e)
	case e.kind == KindIntent:
		l.keep(denied(e.record, err))
	}
}

// count counts an append that fails with err. Those whose own caller gave up are
// no gap. l.mu is held.
func (l *Log) count(err error) {
	l.stats.Refused++
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOverloaded) {
		l.gap.refused++
		l.gap.begin(err)
	}
}

// begin notes the time and cause of the first refusal. Later ones only count.
func (g *gap) begin(err error) {
	if g.since.IsZero() {
		g.since, g.cause = time.Now(), err.Error()
	}
}

// event tells of a gap; nil if there is nothing to tell.
func (g *gap) event() *entry {
	if g.refused == 0 && g.lost == 0 {
		return nil
	}
	return newEntry(newEvent(EventGap, map[string]string{
		"since":   g.since.UTC().Format(time.RFC3339Nano),
		"cause":   g.cause,
		"refused": strconv.FormatUint(g.refused, 10),
		"lost":    strconv.FormatUint(g.lost, 10),
	}))
}

// told takes off what an event has told of, which before was a copy of. More
// may have come since.
func (g *gap) told(before gap) {
	g.refused -= before.refused
	g.lost -= before.lost
	if g.refused == 0 && g.lost == 0 {
		g.since, g.cause = time.Time{}, ""
	}
}

// settle says what became of a batch, and keeps of it what must not be lost.
// Closing done, by the caller, releases those who wait. l.mu is held.
func (l *Log) settle(b *batch, err error) {
	if err != nil {
		for _, e := range b.entries {
			l.failed(e, err)
		}
	} else if b.left || b.crowds != nil {
		for _, e := range b.entries {
			if e.owed != nil && e.err == nil {
				l.keep(notSent(e.owed, e.why))
			}
			if e.crowd != nil {
				e.crowd.seq, e.crowd.settled = e.seq, true
			}
		}
	}
	b.err, b.settled = err, true
}

// failed gives up on an entry whose batch failed. It is one that somebody waits
// for (record), that Append has given up on while it was being written (owed),
// or that nobody waits for. l.mu is held.
func (l *Log) failed(e *entry, err error) {
	switch {
	case e.crowd != nil:
		l.disband(e.crowd, err)
	case e.owed != nil:
		l.keep(denied(e.owed, e.why)) // leave has counted it
	case e.record != nil:
		l.refuse(e, err)
	case e.final():
		l.keep(e)
	}
}
