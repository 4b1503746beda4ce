package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strconv"
	"time"
)

// maxKept bounds the outcomes that wait for the disk to recover, and likewise
// the refusals.
const maxKept = 10_000

// kept holds final records in the order in which they came. The outcomes are
// apart, so that a flood of refusals never pushes out what was sent: of those
// there are no more than there were calls in flight.
type kept struct{ outcomes, refusals []*entry }

func (k *kept) len() int { return len(k.outcomes) + len(k.refusals) }

// add returns whether the oldest entry was dropped for the new one.
func (k *kept) add(e *entry) (dropped bool) {
	list := &k.refusals
	if e.kind == KindOutcome {
		list = &k.outcomes
	}
	if dropped = len(*list) >= maxKept; dropped {
		*list = slices.Delete(*list, 0, 1)
	}
	*list = append(*list, e)
	return dropped
}

// take takes the outcomes first, up to about maxBatch bytes in all.
func (k *kept) take() (taken []*entry) {
	bytes := 0
	for _, list := range []*[]*entry{&k.outcomes, &k.refusals} {
		n := 0
		for ; n < len(*list) && bytes < maxBatch; n++ {
			bytes += len((*list)[n].body)
		}
		taken = append(taken, (*list)[:n]...)
		*list = slices.Delete(*list, 0, n)
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
	if l.kept.add(e) {
		l.stats.Lost++
		l.gap.lost++
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
	} else if b.left {
		for _, e := range b.entries {
			if e.owed != nil && e.err == nil {
				l.keep(notSent(e.owed, e.why))
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
	case e.owed != nil:
		l.keep(denied(e.owed, e.why)) // leave has counted it
	case e.record != nil:
		l.refuse(e, err)
	case e.final():
		l.keep(e)
	}
}
