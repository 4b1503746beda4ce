package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	"golang.org/x/mod/sumdb/note"
)

const (
	// pollEvery is how often Follow looks for a newer head.
	pollEvery = 250 * time.Millisecond
	// maxYield is where what Follow yields at once is full, in bytes of lines.
	maxYield = 2 << 20
)

// A Range says which records [Follow] is to return.
type Range struct {
	// From is the number of the first record, End that after the last one. An
	// End of 0 stands for none.
	From, End uint64
	// Key is the log's [Key.VerifierKey]: no head is taken without its
	// signature. Without a Key heads are taken as they are.
	Key string
	// Wait waits for further records. Without it Follow returns after the last
	// one that the head covers.
	Wait bool
	// Removed is told which records, from number from to before oldest, are gone
	// because retention has removed their segments; Follow then goes on with the
	// oldest one that is left. Where it is nil Follow returns a *[RemovedError].
	Removed func(from, oldest uint64)
	// Most bounds the records of one yield. 0 stands for 256.
	Most int
	// Looked, if it is not nil, is called each quarter of a second while Follow
	// waits, with the number of the next record. Its error ends Follow.
	Looked func(next uint64) error
}

// A RemovedError is the error of a log whose record From was asked for, and has
// been removed by retention.
type RemovedError struct{ From, Oldest uint64 }

// Error names the oldest record, for the caller to begin at.
func (e *RemovedError) Error() string {
	return fmt.Sprintf("read audit log: record %d is no longer there: the oldest one that retention has left is %d", e.From, e.Oldest)
}

// Follow calls yield with the records of the log in dir, in their order and
// without a gap, some at a time. It returns what yield returns if that is an
// error. The slice is valid until yield returns; what is in it may be kept.
//
// Only what a signed head covers is returned: it is on disk, and will never turn
// out to be void. The head is at most a second behind the log, and Follow a
// quarter of a second behind the head. It checks the form of what it reads, not
// that it is genuine: see [Verify].
//
// The log may be in use, or be opened and closed meanwhile. With [Range.Wait]
// Follow ends with the cause of ctx; a directory that is away, or a log that is
// not what was written, ends it too. It holds one open file, and of that reads
// nothing twice.
func Follow(ctx context.Context, dir string, want Range, yield func([]Record) error) error {
	f := follower{dir: dir, want: want, next: want.From}
	if f.want.Most == 0 {
		f.want.Most = 256
	}
	if want.Key != "" {
		var err error
		if f.verifier, err = note.NewVerifier(want.Key); err != nil {
			return fmt.Errorf("follow audit log: read verifier key: %w", err)
		}
	}
	defer f.close()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		if err := f.advance(ctx, yield); err != nil {
			return err
		}
		if !want.Wait || want.End > 0 && f.next >= want.End {
			return nil
		}
		if want.Looked != nil {
			if err := want.Looked(f.next); err != nil {
				return err
			}
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A follower is where a Follow stands.
type follower struct {
	dir      string
	want     Range
	verifier note.Verifier // nil if heads are taken as they are
	// next is the number of the next record, size the largest that a head had.
	next, size uint64
	// at reads the segment that the last record was in; nil before the first.
	at *cursor
	// batch and bytes are what the next yield gets.
	batch []Record
	bytes int
}

func (f *follower) close() {
	if f.at != nil {
		f.at.close()
	}
}

// advance yields what is new.
func (f *follower) advance(ctx context.Context, yield func([]Record) error) error {
	if err := f.readHead(); err != nil {
		return fmt.Errorf("follow audit log: %w", err)
	}
	end := f.size
	if f.want.End > 0 {
		end = min(end, f.want.End)
	}
	for f.next < end {
		// After the head, so that every segment that begins below it is there.
		s, err := f.locate()
		if err != nil {
			return err
		}
		err = f.enter(ctx, s)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return fmt.Errorf("follow audit log: %w", err)
		}
		if err := f.read(ctx, min(end, s.end), yield); err != nil {
			return err
		}
	}
	return nil
}

// readHead reads the size of the newest head. A log without one has not begun,
// or crashed while it did.
func (f *follower) readHead() error {
	h, err := readHead(f.dir, f.verifier)
	if errors.Is(err, fs.ErrNotExist) {
		segments, listErr := listSegments(f.dir)
		if listErr == nil && len(segments) == 0 {
			return fmt.Errorf("read %s: %w", f.dir, errNoLog)
		}
		return listErr
	}
	if err != nil {
		return err
	}
	if h.size < f.size {
		return &CorruptError{File: headName, Seq: h.size, AtOrAfter: true,
			Reason: fmt.Sprintf("the signed head covers %d records, and covered %d before: the log was replaced by an older copy", h.size, f.size)}
	}
	f.size = h.size
	return nil
}

// locate returns the segment of the next record: the last one that does not
// begin after it. Where that has been removed, next becomes the oldest record.
func (f *follower) locate() (segment, error) {
	segments, err := listSegments(f.dir)
	if err == nil && len(segments) == 0 {
		err = fmt.Errorf("read %s: %w", f.dir, errNoLog)
	}
	if err != nil {
		return segment{}, fmt.Errorf("follow audit log: %w", err)
	}
	if oldest := segments[0].first; f.next < oldest {
		if f.want.Removed == nil {
			return segment{}, &RemovedError{From: f.next, Oldest: oldest}
		}
		f.want.Removed(f.next, oldest)
		f.next = oldest
	}
	i := sort.Search(len(segments), func(i int) bool { return segments[i].first > f.next })
	return segments[i-1], nil
}

// enter puts the cursor before the next record, which is in s. What the cursor
// has read ahead is read again: it may have been written anew since, where no
// head covered it.
func (f *follower) enter(ctx context.Context, s segment) error {
	if f.at == nil || f.at.segment.first != s.first {
		c, err := openCursor(s)
		if err != nil {
			return err
		}
		f.close()
		f.at = c
		return c.skip(ctx, f.next)
	}
	f.at.segment = s
	if _, err := f.at.f.Seek(f.at.next, io.SeekStart); err != nil {
		return fmt.Errorf("read audit segment: %w", err)
	}
	f.at.in.Reset(f.at.f)
	return nil
}

// read yields the records of the segment from next to before end, which a head
// covers: each of them must be there.
func (f *follower) read(ctx context.Context, end uint64, yield func([]Record) error) error {
	for f.next < end {
		f.batch, f.bytes = f.batch[:0], 0
		for f.next < end && len(f.batch) < f.want.Most && f.bytes < maxYield {
			var r Record
			line, err := f.at.read(&r)
			if err == nil && r.Seq == f.at.segment.first {
				_, err = f.at.header(&r)
			}
			if err != nil {
				return fmt.Errorf("follow audit log: %w", f.at.missing(err))
			}
			f.batch = append(f.batch, r)
			f.bytes += len(line)
			f.next++
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := yield(f.batch); err != nil {
			return err
		}
	}
	return nil
}

// skip goes to the record seq without looking at those before it: that they are
// there shows in the number of the next one.
func (c *cursor) skip(ctx context.Context, seq uint64) error {
	for c.seq < seq {
		if err := cancelled(ctx, c.seq); err != nil {
			return err
		}
		line, err := c.in.ReadSlice('\n')
		switch {
		case err == io.EOF && len(line) == 0:
			return c.missing(io.EOF)
		case err == io.EOF || errors.Is(err, bufio.ErrBufferFull):
			return c.malformed("the line has no end")
		case err != nil:
			return fmt.Errorf("read audit segment: %w", err)
		}
		c.line++
		c.offset, c.next = c.next, c.next+int64(len(line))
		c.seq++
	}
	return nil
}

// Origin is the name of the log in dir, as its newest head has it. The head's
// signature is not checked.
func Origin(dir string) (string, error) {
	h, err := readHead(dir, nil)
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(filepath.Clean(dir)); statErr == nil {
			err = fmt.Errorf("read %s: %w", dir, errNoLog)
		}
	}
	if err != nil {
		return "", fmt.Errorf("read origin of audit log: %w", err)
	}
	return h.origin, nil
}
