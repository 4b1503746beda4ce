package audit

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Query calls yield for each record of the log in dir that matches f, in their
// order, until yield returns an error, which it then returns. It checks the
// form of what it reads, not that it is genuine: see [Verify]. The log may be
// in use; what is not yet on disk is left out.
func Query(ctx context.Context, dir string, f Filter, yield func(Record) error) error {
	return (&Search{Dir: dir, Filter: f}).Run(ctx, yield)
}

// A Search is a query with a choice of how it is made. It is run once.
type Search struct {
	// Dir is the log's directory. It may be in use, and read-only.
	Dir    string
	Filter Filter
	// Reverse: the newest record first.
	Reverse bool
	// NoIndex: read every record. An index that someone has tampered with can
	// hide records, though it cannot show wrong ones; [Verify] finds it.
	NoIndex bool

	segments, skipped, indexed    atomic.Int64
	records, bytesDone, bytesHeld atomic.Int64
	began                         atomic.Pointer[Beginning]
}

// SearchStats say how far a search is, and in the end what it took.
type SearchStats struct {
	// Segments are those of the log: of these Skipped hold nothing that is
	// wanted, and in Indexed the index led to the records. The others were read.
	Segments, Skipped, Indexed int64
	// Records counts those that were read, wanted or not.
	Records int64
	// Bytes is how much of the log's Total is done with, read or not.
	Bytes, Total int64
	// Began is nil if the log is there from its first record on.
	Began *Beginning
}

// A Beginning is the first record of a log whose older segments were removed.
type Beginning struct {
	Seq uint64
	// Time is zero if the record cannot be read.
	Time time.Time
}

// Stats may be called at any time.
func (s *Search) Stats() SearchStats {
	return SearchStats{Segments: s.segments.Load(), Skipped: s.skipped.Load(), Indexed: s.indexed.Load(),
		Records: s.records.Load(), Bytes: s.bytesDone.Load(), Total: s.bytesHeld.Load(), Began: s.began.Load()}
}

// Run calls yield as [Query] does, from the goroutine that calls it, while the
// next segments are searched by others, as many as there are processors. It
// holds a few hundred records of each; with Reverse, also where each record is
// that is wanted of a segment without an index.
//
// A sealed segment that has no index, and that has to be read for a filter that
// leaves something out, gets one, if the directory can be written.
func (s *Search) Run(ctx context.Context, yield func(Record) error) error {
	m, err := newMatcher(s.Filter)
	if err != nil {
		return fmt.Errorf("query audit log: %w", err)
	}
	segments, err := listSegments(s.Dir)
	if err != nil {
		return fmt.Errorf("query audit log: %w", err)
	}
	if len(segments) == 0 {
		return fmt.Errorf("query audit log: read %s: %w", s.Dir, errNoLog)
	}
	s.measure(segments)
	within, cancel := context.WithCancel(ctx)
	var searching sync.WaitGroup
	defer searching.Wait()
	defer cancel()
	// One part is being taken and the others wait here, so that this many run.
	parts := make(chan *part, runtime.GOMAXPROCS(0)-1)
	searching.Go(func() {
		defer close(parts)
		for i := range segments {
			p := s.part(m, segments, i)
			select {
			case parts <- p:
				searching.Go(func() { p.run(within) })
			case <-within.Done():
				return
			}
		}
	})
	for p := range parts {
		for records := range p.found {
			for _, r := range records {
				if err := yield(r); err != nil {
					return err
				}
			}
		}
		if p.err != nil {
			return fmt.Errorf("query audit log: %w", p.err)
		}
	}
	return ctx.Err()
}

// part is the i-th part of the search, in the order in which it yields.
func (s *Search) part(m *matcher, segments []segment, i int) *part {
	if s.Reverse {
		i = len(segments) - 1 - i
	}
	p := &part{search: s, matcher: m, segment: segments[i], found: make(chan []Record, 2)}
	if i+1 < len(segments) {
		p.next = &segments[i+1]
	}
	return p
}

// measure notes how large the log is and where it begins.
func (s *Search) measure(segments []segment) {
	s.segments.Store(int64(len(segments)))
	for _, segment := range segments {
		if info, err := os.Stat(segment.path()); err == nil {
			s.bytesHeld.Add(info.Size())
		}
	}
	oldest := segments[0]
	if oldest.first == 0 {
		return
	}
	began := &Beginning{Seq: oldest.first}
	if c, err := openCursor(oldest); err == nil {
		var r Record
		if _, err := c.read(&r); err == nil {
			began.Time = r.Time
		}
		c.close()
	}
	s.began.Store(began)
}
