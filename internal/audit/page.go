package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"sort"
	"time"
)

// A Page is a search that goes back from a record and stops early: a part of
// what [Query] finds, the newest first. It reads one segment at a time, in the
// goroutine that asks, by its index if there is one. It makes none: the log does.
type Page struct {
	// Dir is the log's directory. It may be in use, and read-only.
	Dir    string
	Filter Filter
	// Before is the number before which it looks: [Found.Next] of the page before,
	// or how many records there are, which must be on disk. math.MaxUint64 stands
	// for those that are.
	Before uint64
	// Most bounds the records, and Bytes their lines: at least one record is
	// returned however long it is.
	Most, Bytes int
	// Time bounds how long it looks, roughly; 0 for no bound.
	Time time.Duration
	// NoIndex: read every record, as in [Search].
	NoIndex bool
}

// Found is what a [Page] holds.
type Found struct {
	// Records are the newest first.
	Records []Record
	// Next is the number before which the next page looks. Without More there is
	// none: all that the log has was looked at.
	Next uint64
	More bool
}

// errEnough is the error of a page that is full or has taken its time.
var errEnough = errors.New("the page ends here")

// Read reads the page. Records that retention removes meanwhile are left out.
func (p Page) Read(ctx context.Context) (Found, error) {
	b := &backward{page: p, next: p.Before, scratch: newScratch()}
	if p.Time > 0 {
		b.end = time.Now().Add(p.Time)
	}
	var err error
	if b.matcher, err = newMatcher(p.Filter); err != nil {
		return Found{}, fmt.Errorf("query audit log: %w", err)
	}
	segments, err := listSegments(p.Dir)
	if err == nil && len(segments) == 0 {
		err = fmt.Errorf("read %s: %w", p.Dir, errNoLog)
	}
	if err == nil {
		err = b.run(ctx, segments)
	}
	more := errors.Is(err, errEnough)
	if err != nil && !more {
		return Found{}, fmt.Errorf("query audit log: %w", err)
	}
	return Found{Records: b.found, Next: b.next, More: more && b.next > segments[0].first}, nil
}

// A backward is a page that is being read.
type backward struct {
	page    Page
	matcher *matcher
	end     time.Time
	// next is the number of the record last looked at: those before it are still
	// to be looked at.
	next    uint64
	found   []Record
	bytes   int
	looked  int
	scratch *scratch
}

// run looks through the segments, the newest first.
func (b *backward) run(ctx context.Context, segments []segment) error {
	for i, s := range slices.Backward(segments) {
		if s.first >= b.next {
			continue
		}
		var after *segment
		if i+1 < len(segments) {
			after = &segments[i+1]
		}
		err := b.segment(ctx, s, after)
		if errors.Is(err, fs.ErrNotExist) && gone(s) {
			return nil // and so are those before it
		}
		if err != nil {
			return err
		}
		b.next = s.first
		if err := b.pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// gone tells whether retention has removed a segment since it was listed.
func gone(s segment) bool {
	segments, err := listSegments(s.dir)
	return err == nil && len(segments) > 0 && segments[0].first > s.first
}

// pause says whether to go on.
func (b *backward) pause(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if !b.end.IsZero() && !time.Now().Before(b.end) {
		return errEnough
	}
	return nil
}

// segment looks through s, by its index if it has one that fits; after is the
// segment behind it, nil for the newest.
func (b *backward) segment(ctx context.Context, s segment, after *segment) error {
	bytes := int64(math.MaxInt64)
	if after != nil {
		h, err := readHeader(*after)
		if err != nil {
			return err
		}
		bytes = h.previousBytes
		if b.matcher.selective() && !b.page.NoIndex {
			if x, f, err := openIndex(s, h); err == nil {
				err = b.follow(ctx, s, x)
				_ = f.Close()
				if !errors.Is(err, errIndex) {
					return err
				}
			}
		}
	}
	return b.scan(ctx, s, bytes)
}

// follow looks at the records of s that its index leads to. The error is an
// errIndex where it does not lead to a record.
func (b *backward) follow(ctx context.Context, s segment, x *index) error {
	found, err := x.find(b.matcher)
	if err != nil {
		return err
	}
	found = found[:sort.Search(len(found), func(i int) bool { return s.first+uint64(found[i]) >= b.next })]
	if len(found) == 0 {
		return nil
	}
	lines, err := openReverse(s)
	if err != nil {
		return err
	}
	defer lines.close()
	reader := lineReader{f: lines.f, scratch: b.scratch, ahead: len(found) > int(x.count/256)}
	for _, ordinal := range slices.Backward(found) {
		begin, end, err := x.place(ordinal)
		if err != nil {
			return err
		}
		line, err := reader.read(begin, end)
		if err != nil {
			return err
		}
		var r Record
		if seq := s.first + uint64(ordinal); parse(line, &r, b.scratch) != nil || r.Seq != seq {
			return errIndex
		}
		if err := b.look(ctx, &r, len(line)); err != nil {
			return err
		}
	}
	return nil
}

// scan looks at all records of s, which has this many bytes, from the last one
// before b.next on.
func (b *backward) scan(ctx context.Context, s segment, bytes int64) error {
	lines, err := openReverse(s)
	if err != nil {
		return err
	}
	defer lines.close()
	if err := lines.seek(b.next, bytes); err != nil {
		return err
	}
	if want := min(b.next, s.end); lines.seq != want && want != math.MaxUint64 {
		return &CorruptError{File: s.file(), Offset: lines.end, Seq: lines.seq, Finding: FindingMissing, Reason: "the record is missing"}
	}
	for lines.seq > s.first {
		line, err := lines.previous()
		if err != nil {
			return err
		}
		var r Record
		if err := parse(line, &r, b.scratch); err != nil || r.Seq != lines.seq {
			return lines.corrupt("the line is not the record that should be here")
		}
		if err := b.look(ctx, &r, len(line)); err != nil {
			return err
		}
	}
	return nil
}

// look takes a record if it matches, and says whether the page ends with it.
func (b *backward) look(ctx context.Context, r *Record, bytes int) error {
	if b.matcher.match(r) {
		if b.bytes += bytes; len(b.found) > 0 && b.page.Bytes > 0 && b.bytes > b.page.Bytes {
			return errEnough // before it
		}
		b.found = append(b.found, *r)
	}
	b.next = r.Seq
	if b.looked++; b.page.Most > 0 && len(b.found) >= b.page.Most {
		return errEnough
	}
	if b.looked%256 == 0 {
		return b.pause(ctx)
	}
	return nil
}
