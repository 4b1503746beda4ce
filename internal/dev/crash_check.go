package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// crashFound is what a check has found in one log.
type crashFound struct {
	records, reached, indeterminate int
	misses                          []string
	torn                            bool
	// archived counts the segments in the archive.
	archived int
	// next is the number after the record last taken.
	next uint64

	intents map[string][]audit.Record // by request id
	finals  map[string]int            // by request id
	strange int                       // refusals on record without a caller
}

func (f *crashFound) miss(format string, args ...any) {
	f.misses = append(f.misses, fmt.Sprintf(format, args...))
}

// check holds all that was seen so far against all that the log has. Nothing
// may be writing to it. A miss or a false alarm is an error.
func (r *rig) check(ctx context.Context) (*crashFound, error) {
	requests := r.c1.Requests()
	segments, err := filepath.Glob(filepath.Join(r.dir, "*.jsonl"))
	if err != nil {
		return nil, err
	}
	if len(segments) == 0 && len(requests)+len(r.answered) == 0 {
		return new(crashFound), nil // no start has come as far as to make a log
	}
	f, err := r.held(ctx, requests)
	if err != nil {
		return nil, err
	}
	return f, crashMisses(f.misses)
}

// held is check, of the requests that C1 has seen.
func (r *rig) held(ctx context.Context, requests []sandbox.Request) (*crashFound, error) {
	f := &crashFound{intents: map[string][]audit.Record{}, finals: map[string]int{}}
	if r.vkey != "" {
		report, err := audit.Verify(ctx, r.dir, r.vkey)
		if err != nil {
			f.miss("false alarm: %v", err)
		}
		f.torn = report.TornBytes > 0
	}
	places, err := r.places(f)
	if err != nil {
		return nil, err
	}
	for _, dir := range places {
		if err := audit.Query(ctx, dir, audit.Filter{}, f.take); err != nil {
			f.miss("false alarm: %v", err)
		}
	}
	f.reach(requests)
	r.mu.Lock()
	defer r.mu.Unlock()
	f.answers(r)
	r.excused = 0
	return f, ctx.Err()
}

// places are the directories with records, in the order of these. It counts what
// is archived.
func (r *rig) places(f *crashFound) ([]string, error) {
	if r.archive == "" {
		return []string{r.dir}, nil
	}
	archived, err := filepath.Glob(filepath.Join(r.archive, "*.jsonl"))
	if err != nil || len(archived) == 0 {
		return []string{r.dir}, err
	}
	f.archived = len(archived)
	return []string{r.archive, r.dir}, nil
}

// take counts a record. One that is archived may still be in the log's directory
// too.
func (f *crashFound) take(r audit.Record) error {
	if r.Seq < f.next {
		return nil
	}
	if r.Seq > f.next {
		f.miss("P2: the records %d to %d are neither in the log nor in its archive", f.next, r.Seq-1)
	}
	f.next = r.Seq + 1
	f.records++
	switch r.Kind {
	case audit.KindIntent:
		f.intents[r.RequestID] = append(f.intents[r.RequestID], r)
	case audit.KindOutcome:
		f.finals[r.RequestID]++
		if r.Outcome == audit.OutcomeIndeterminate {
			f.indeterminate++
		}
	case audit.KindDenied:
		if r.RequestID != "" { // otherwise it only counts
			f.finals[r.RequestID]++
		}
		if r.Caller == "" {
			// One record may stand for several refusals of nobody in particular.
			count, _ := strconv.Atoi(r.Detail["count"])
			f.strange += max(1, count)
		}
	}
	return nil
}

// reach holds to P1: what C1 saw has one intent, and an earlier one.
func (f *crashFound) reach(requests []sandbox.Request) {
	f.reached = len(requests)
	for _, request := range requests {
		id := request.Header.Get("X-Request-Id")
		intents := f.intents[id]
		if len(intents) != 1 {
			f.miss("P1: C1 saw %s (%s), which has %d intents", id, request.URI, len(intents))
		} else if intents[0].Time.After(request.Time) {
			f.miss("P1: C1 saw %s at %v, its intent is of %v", id, request.Time, intents[0].Time)
		}
	}
}

// answers holds to P2: what was answered has one final record, and nothing has
// two. Refusals without a caller are counted together, since one record may
// stand for many. r.mu is held.
func (f *crashFound) answers(r *rig) {
	strangers := -f.strange
	for id, known := range r.answered {
		switch n := f.finals[id]; {
		case !known:
			strangers++
		case n == 0 && r.excused > 0:
			r.excuse(1)
			delete(r.answered, id)
		case n != 1:
			f.miss("P2: %s was answered and has %d final records", id, n)
		}
	}
	for id, n := range f.finals {
		if n > 1 {
			f.miss("P2: %s has %d final records", id, n)
		}
	}
	if f.strange > r.nameless {
		f.miss("P2: %d refusals without a caller are on record, %d such calls were made", f.strange, r.nameless)
	}
	missing := strangers - r.lostNameless
	if n := min(missing, r.excused); n > 0 {
		r.excuse(n)
		r.lostNameless += n
		missing -= n
	}
	if missing > 0 {
		f.miss("P2: %d refusals without a caller were answered and are not on record", missing)
	}
}

// excuse takes n final records for lost.
func (r *rig) excuse(n int) {
	r.excused -= n
	r.lost += n
}

// closed holds a log that a clean stop has ended to the other half of P2: no
// intent is left without its final record.
func (f *crashFound) closed() {
	for id := range f.intents {
		if f.finals[id] != 1 {
			f.miss("P2: the intent of %s has %d final records", id, f.finals[id])
		}
	}
}
