package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/c1proxy/c1proxy/internal/durable"
)

// A part is the search of one segment, by a goroutine of its own.
type part struct {
	search  *Search
	matcher *matcher
	segment segment
	next    *segment // nil for the newest segment
	// found carries the records that match, and is closed after the last one;
	// then err says whether there was an error.
	found chan []Record
	err   error

	batch []Record
	// last is the number of the record last emitted; nil before the first.
	last *uint64
	// done is how many bytes of the segment are counted in the search's.
	done int64
}

// partBatch is how many records are handed over at once.
const partBatch = 128

// run searches the segment and closes found.
func (p *part) run(ctx context.Context) {
	defer close(p.found)
	err := p.look(ctx)
	if err == nil {
		err = p.flush(ctx)
	}
	if errors.Is(err, fs.ErrNotExist) && p.removed() {
		err = nil
	}
	p.err = err
	if info, statErr := os.Stat(p.segment.path()); statErr == nil {
		p.progress(info.Size())
	}
}

// removed tells whether the log begins later by now: what was its oldest
// segment when the search began has been removed since.
func (p *part) removed() bool {
	segments, err := listSegments(p.segment.dir)
	return err == nil && len(segments) > 0 && segments[0].first > p.segment.first
}

// look searches by the index if it may and if there is one that fits, and reads
// the segment otherwise.
func (p *part) look(ctx context.Context) error {
	useful := p.matcher.selective() || p.search.Reverse
	if p.next == nil || p.search.NoIndex || !useful {
		return p.scan(ctx, nil)
	}
	h, err := readHeader(*p.next)
	if err != nil {
		return p.scan(ctx, nil) // that segment's own part tells of it
	}
	if x, f, err := openIndex(p.segment, h); err == nil {
		err = p.follow(ctx, x)
		_ = f.Close()
		if !errors.Is(err, errIndex) {
			return err
		}
	}
	return p.scan(ctx, newIndexBuilder(p.segment, h))
}

// follow reads the records that an index leads to. The error is an errIndex
// where it does not lead to a record: then either of them is not as it was.
func (p *part) follow(ctx context.Context, x *index) error {
	found, err := x.find(p.matcher)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		p.search.skipped.Add(1)
		return nil
	}
	f, err := os.Open(p.segment.path())
	if err != nil {
		return fmt.Errorf("read audit segment: %w", err)
	}
	defer f.Close()
	if p.search.Reverse {
		slices.Reverse(found)
	}
	lines := lineReader{f: f, scratch: newScratch(), ahead: len(found) > int(x.count/256)}
	for i, ordinal := range found {
		begin, end, err := x.place(ordinal)
		if err != nil {
			return err
		}
		if err := p.read(ctx, &lines, begin, end, p.segment.first+uint64(ordinal)); err != nil {
			return err
		}
		if err := cancelled(ctx, uint64(i)); err != nil {
			return err
		}
	}
	p.search.indexed.Add(1)
	return nil
}

// read reads the record seq, whose line is from begin to before end, and emits
// it if it matches.
func (p *part) read(ctx context.Context, lines *lineReader, begin, end int64, seq uint64) error {
	line, err := lines.read(begin, end)
	if err != nil {
		return err
	}
	var r Record
	if parse(line, &r, lines.scratch) != nil || r.Seq != seq {
		return errIndex
	}
	p.search.records.Add(1)
	return p.emit(ctx, &r)
}

// A place is where a record's line is.
type place struct {
	seq        uint64
	begin, end int64
}

// scan reads the segment up to where the next one begins: what follows there is
// void. builder may be nil, and otherwise makes the index that is missing.
func (p *part) scan(ctx context.Context, builder *indexBuilder) error {
	c, err := openCursor(p.segment)
	if err != nil {
		return err
	}
	defer c.close()
	var matching []place // of a search in reverse
	var r Record
	for c.seq < p.segment.end {
		line, err := c.read(&r)
		if err != nil && c.ended(err) {
			break
		}
		if err == nil && r.Seq == p.segment.first {
			_, err = c.header(&r)
		}
		if err != nil {
			return c.missing(err)
		}
		if builder != nil {
			builder.add(&r, len(line)+1)
		}
		if !p.search.Reverse {
			err = p.emit(ctx, &r)
		} else if p.matcher.match(&r) {
			matching = append(matching, place{r.Seq, c.offset, c.next})
		}
		if err == nil && r.Seq%1024 == 0 {
			p.progress(c.next)
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		p.search.records.Add(1)
	}
	if builder != nil {
		builder.save()
	}
	return p.backwards(ctx, c.f, matching)
}

// backwards emits the records at the places, from the last one on.
func (p *part) backwards(ctx context.Context, f *os.File, places []place) error {
	lines := lineReader{f: f, scratch: newScratch(), ahead: true}
	for _, at := range slices.Backward(places) {
		err := p.read(ctx, &lines, at.begin, at.end, at.seq)
		if errors.Is(err, errIndex) {
			return fmt.Errorf("read audit segment: %s changed while it was read, at record %d", p.segment.name(), at.seq)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// emit hands a record over if it matches. One that an index had led to before it
// turned out to be wrong is not handed over again.
func (p *part) emit(ctx context.Context, r *Record) error {
	if !p.matcher.match(r) || p.last != nil && (r.Seq == *p.last || r.Seq < *p.last != p.search.Reverse) {
		return nil
	}
	seq := r.Seq
	p.last = &seq
	p.batch = append(p.batch, *r)
	if len(p.batch) < partBatch {
		return nil
	}
	return p.flush(ctx)
}

// flush hands over what was emitted.
func (p *part) flush(ctx context.Context) error {
	if len(p.batch) == 0 {
		return nil
	}
	select {
	case p.found <- p.batch:
		p.batch = nil
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// progress counts the bytes of the segment up to bytes.
func (p *part) progress(bytes int64) {
	if bytes > p.done {
		p.search.bytesDone.Add(bytes - p.done)
		p.done = bytes
	}
}

// A lineReader reads lines of a segment at places that an index tells.
type lineReader struct {
	f *os.File
	// ahead: the lines are so close that it pays to read what is around them.
	ahead bool
	buf   []byte
	at    int64 // where buf is in the file
	// scratch is for those who parse the lines.
	scratch *scratch
}

// lineWindow is what a lineReader reads at once, in bytes.
const lineWindow = 64 << 10

// read returns the line, without its newline, that is from begin to before end,
// valid until the next read. The error is an errIndex if no line ends there.
func (l *lineReader) read(begin, end int64) ([]byte, error) {
	if begin < l.at || end > l.at+int64(len(l.buf)) {
		at, size := begin, end-begin
		if l.ahead {
			at = begin &^ (lineWindow - 1)
			size = lineWindow + MaxRecord + 1
		}
		l.buf = slices.Grow(l.buf[:0], int(size))[:size]
		n, err := l.f.ReadAt(l.buf, at)
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("read audit segment: %w", err)
		}
		l.at, l.buf = at, l.buf[:n]
	}
	if end > l.at+int64(len(l.buf)) || begin >= end {
		return nil, errIndex
	}
	line := l.buf[begin-l.at : end-l.at]
	if line[len(line)-1] != '\n' {
		return nil, errIndex
	}
	return line[:len(line)-1], nil
}

// save writes the index, if the directory can be written. Whoever needs it and
// does not find it makes it again.
func (b *indexBuilder) save() {
	if data := b.file(); data != nil {
		_ = durable.WriteCache(b.segment.indexPath(), data, fileMode)
	}
}
