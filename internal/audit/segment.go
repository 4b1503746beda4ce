package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// layout is the version of the directory's layout and of the records.
const layout = "1"

// segmentName and leavesName are the files of the segment whose first record
// is seq.
func segmentName(seq uint64) string { return fmt.Sprintf("%020d.jsonl", seq) }
func leavesName(seq uint64) string  { return fmt.Sprintf("%020d.leaves", seq) }

// maxTorn bounds what a torn write can leave behind, in bytes, without the zeros
// that were there before. It is above
// the largest write: two batches, a record more in each, and those of 130
// crowds. More than that is damage.
const maxTorn = 2 << 20

// A segment is a file of the log with the records from first to before end.
// The newest one has no known end: math.MaxUint64.
type segment struct {
	dir        string
	first, end uint64
	// archived: dir is not the log's own.
	archived bool
}

func (s segment) name() string     { return segmentName(s.first) }
func (s segment) path() string     { return filepath.Join(s.dir, s.name()) }
func (s segment) newest() bool     { return s.end == math.MaxUint64 }
func (s segment) count() uint64    { return s.end - s.first }
func (s segment) leafPath() string { return filepath.Join(s.dir, leavesName(s.first)) }

// file is how errors call the segment: by its path if it is archived.
func (s segment) file() string {
	if s.archived {
		return s.path()
	}
	return s.name()
}

// listSegments returns the segments of dir in their order. A file *.jsonl with
// another kind of name is an error: nobody but the log writes there.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list audit segments: %w", err)
	}
	var segments []segment
	for _, entry := range entries { // sorted by name, hence by number
		name := entry.Name()
		if filepath.Ext(name) != ".jsonl" {
			continue
		}
		first, err := strconv.ParseUint(name[:len(name)-len(".jsonl")], 10, 64)
		if err != nil || name != segmentName(first) || !entry.Type().IsRegular() {
			return nil, fmt.Errorf("list audit segments: %s is no segment of an audit log", filepath.Join(dir, name))
		}
		if n := len(segments); n > 0 {
			segments[n-1].end = first
		}
		segments = append(segments, segment{dir: dir, first: first, end: math.MaxUint64})
	}
	return segments, nil
}

// A cursor reads the records of one segment, holding one line at a time.
type cursor struct {
	segment segment
	f       *os.File
	in      *bufio.Reader
	// line and offset are those of the record last read, seq that of the next.
	line   int
	offset int64
	seq    uint64
	// next is the offset after the record last read.
	next int64
	// blank: the last read found zeros where a record would begin.
	blank   bool
	scratch *scratch
}

// openCursor opens a segment at its beginning. The caller must close it.
func openCursor(s segment) (*cursor, error) {
	f, err := os.Open(s.path())
	if err != nil {
		return nil, fmt.Errorf("read audit segment: %w", err)
	}
	return &cursor{segment: s, f: f, in: bufio.NewReaderSize(f, 64<<10), seq: s.first, scratch: newScratch()}, nil
}

func (c *cursor) close() { _ = c.f.Close() }

// read reads the next record into r and returns its line without the newline,
// valid until the next read. The error is io.EOF where the file ends after a
// complete line, a *CorruptError for what is not the next record, or that of
// a syscall.
//
// Zeros are malformed too: those that the newest segment has behind its records,
// see [durable.File], and any other.
func (c *cursor) read(r *Record) ([]byte, error) {
	if next, err := c.in.Peek(1); err == nil && next[0] == 0 {
		c.line++
		c.offset, c.blank = c.next, true
		return nil, c.malformed("there are zeros where a record should be")
	}
	line, err := c.in.ReadSlice('\n')
	switch {
	case err == io.EOF && len(line) == 0:
		return nil, io.EOF
	case err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("read audit segment: %w", err)
	}
	c.line++
	c.offset = c.next
	if err == io.EOF {
		return nil, c.malformed("the line has no end")
	}
	if err != nil || len(line) > MaxRecord+1 {
		return nil, c.malformed(fmt.Sprintf("the line has more than %d bytes", MaxRecord))
	}
	line = line[:len(line)-1]
	if err := parse(line, r, c.scratch); err != nil {
		return nil, c.malformed(err.Error())
	}
	if r.Seq != c.seq {
		return nil, c.corrupt(fmt.Sprintf("the record here has the number %d", r.Seq))
	}
	c.seq++
	c.next += int64(len(line)) + 1
	return line, nil
}

// corrupt is the error of the line last read, where record c.seq should be. Of
// a record that was read, and found to be wrong later, the caller sets Seq.
func (c *cursor) corrupt(reason string) *CorruptError {
	return &CorruptError{File: c.segment.file(), Line: c.line, Offset: c.offset, Seq: c.seq, Reason: reason}
}

// malformed is the error of a line that is no record at all.
func (c *cursor) malformed(reason string) *CorruptError {
	err := c.corrupt(reason)
	err.malformed = true
	return err
}

// ended tells whether err, of read, is how the newest segment may end: after a
// line, in zeros, or in a write that is being made or was cut short by a crash.
func (c *cursor) ended(err error) bool {
	if !c.segment.newest() || c.seq == c.segment.first {
		return false
	}
	var bad *CorruptError
	if !errors.As(err, &bad) {
		return err == io.EOF
	}
	rest, err := c.rest()
	return bad.malformed && err == nil && rest <= maxTorn+maxAhead
}

// rest is the number of bytes after the record last read, as of now.
func (c *cursor) rest() (int64, error) {
	info, err := c.f.Stat()
	if err != nil {
		return 0, fmt.Errorf("read audit segment: %w", err)
	}
	return max(0, info.Size()-c.next), nil
}

// unfinished is what is after the record last read, as of now, without the zeros
// at its end. It reads no more than ended allows.
func (c *cursor) unfinished() ([]byte, error) {
	rest, err := io.ReadAll(io.NewSectionReader(c.f, c.next, maxTorn+maxAhead))
	if err != nil {
		return nil, fmt.Errorf("read audit segment: %w", err)
	}
	return bytes.TrimRight(rest, "\x00"), nil
}

// gone is the error of a record that has a leaf but is not there. A leaf is
// written only for a record that is on disk.
func (c *cursor) gone(leaves uint64) *CorruptError {
	return &CorruptError{File: c.segment.file(), Line: c.line + 1, Offset: c.next, Seq: c.seq, Finding: FindingMissing,
		Reason: fmt.Sprintf("the record is missing: there are leaves for %d records from %d on", leaves, c.segment.first)}
}

// leafReader reads the leaf hashes of one segment. A file that is missing is
// like an empty one: the leaves are derived from the records.
type leafReader struct {
	f  *os.File
	in *bufio.Reader
	// written is the number of leaves in the file when it was opened. Later ones
	// are not read: their records may have been read when they were half written.
	written uint64
	taken   uint64
}

// openLeaves opens the leaves of a segment at their beginning. The caller must
// close them.
func openLeaves(s segment) (*leafReader, error) {
	f, err := os.Open(s.leafPath())
	if errors.Is(err, os.ErrNotExist) {
		return &leafReader{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read audit leaves: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("read audit leaves: %w", err)
	}
	return &leafReader{f: f, in: bufio.NewReader(f), written: uint64(info.Size()) / tlog.HashSize}, nil
}

// read returns the next leaf, or the zero hash where none was written: a
// crash may also leave zeros in the file.
func (l *leafReader) read() (leaf tlog.Hash, err error) {
	if l.taken >= l.written {
		return leaf, nil
	}
	l.taken++
	_, err = io.ReadFull(l.in, leaf[:])
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return tlog.Hash{}, nil
	}
	if err != nil {
		return leaf, fmt.Errorf("read audit leaves: %w", err)
	}
	return leaf, nil
}

// skip passes over the first n leaves, which must have been written, before
// any was read.
func (l *leafReader) skip(n uint64) error {
	l.taken += n
	l.in.Reset(l.f)
	if _, err := l.f.Seek(int64(n)*tlog.HashSize, io.SeekStart); err != nil {
		return fmt.Errorf("read audit leaves: %w", err)
	}
	return nil
}

func (l *leafReader) close() {
	if l.f != nil {
		_ = l.f.Close()
	}
}
