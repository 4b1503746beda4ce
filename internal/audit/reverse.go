package audit

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

// reverseLines reads the lines of a segment from its end, or from any record, back to
// its beginning, and holds one window of it.
type reverseLines struct {
	segment segment
	f       *os.File
	// seq is the number of the record last read, end where its line begins: the
	// one before it ends there.
	seq uint64
	end int64
	// window is what was read of the file, up to end.
	window []byte
	buf    []byte
}

// reverseWindow is what is read at once, in bytes. It holds more than one line.
const reverseWindow = 128 << 10

// openReverse opens a segment. The caller must close it.
func openReverse(s segment) (*reverseLines, error) {
	f, err := os.Open(s.path())
	if err != nil {
		return nil, fmt.Errorf("read audit segment: %w", err)
	}
	return &reverseLines{segment: s, f: f}, nil
}

func (t *reverseLines) close() { _ = t.f.Close() }

// corrupt is the error of the line that should be that of record t.seq.
func (t *reverseLines) corrupt(reason string) error {
	return &CorruptError{File: t.segment.file(), Offset: t.end, Seq: t.seq, Reason: reason}
}

// seek goes behind the last whole line among the first size bytes whose record
// has a number below before. It looks for it by halves: the numbers rise. What is
// behind the records of a segment in use, zeros or half a line, is none.
func (t *reverseLines) seek(before uint64, size int64) error {
	info, err := t.f.Stat()
	if err != nil {
		return fmt.Errorf("read audit segment: %w", err)
	}
	low, high := int64(0), min(size, info.Size())
	for high-low > reverseWindow {
		middle := low + (high-low)/2
		begin, seq, found, err := t.after(middle, high)
		switch {
		case err != nil:
			return err
		case found && seq < before:
			low = begin
		default:
			high = middle
		}
	}
	t.seq, t.end = t.segment.first, low
	window, err := t.at(low, min(size, info.Size()))
	if err != nil {
		return err
	}
	for {
		line, rest, whole := bytes.Cut(window, []byte("\n"))
		seq, ok := numberOf(line)
		if !whole || !ok || seq >= before {
			return nil
		}
		t.seq, t.end, window = seq+1, t.end+int64(len(line))+1, rest
		if len(window) < MaxRecord+1 {
			if window, err = t.at(t.end, min(size, info.Size())); err != nil {
				return err
			}
		}
	}
}

// after finds the first line that begins after from and before to, and the number
// of its record.
func (t *reverseLines) after(from, to int64) (begin int64, seq uint64, found bool, err error) {
	window, err := t.at(from, to)
	if err != nil {
		return 0, 0, false, err
	}
	_, line, whole := bytes.Cut(window, []byte("\n"))
	if !whole {
		return 0, 0, false, nil
	}
	seq, found = numberOf(line)
	return from + int64(len(window)-len(line)), seq, found, nil
}

// at reads a window from from on, up to before to.
func (t *reverseLines) at(from, to int64) ([]byte, error) {
	size := int(max(0, min(reverseWindow, to-from)))
	t.buf = slices.Grow(t.buf[:0], size)[:size]
	n, err := t.f.ReadAt(t.buf, from)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read audit segment: %w", err)
	}
	return t.buf[:n], nil
}

// previous reads the line before the one last read, without its newline, valid
// until the next read. There must be one: t.seq is above that of the first.
func (t *reverseLines) previous() ([]byte, error) {
	if bytes.LastIndexByte(trimEnd(t.window), '\n') < 0 && t.end > int64(len(t.window)) {
		from := max(0, t.end-reverseWindow)
		window, err := t.at(from, t.end)
		if err != nil {
			return nil, err
		}
		if int64(len(window)) != t.end-from {
			return nil, t.corrupt("the file has become shorter")
		}
		t.window = window
	}
	t.seq--
	line := trimEnd(t.window)
	if len(line) == len(t.window) {
		return nil, t.corrupt("the line has no end")
	}
	begin := bytes.LastIndexByte(line, '\n') + 1
	if begin == 0 && t.end > int64(len(t.window)) {
		return nil, t.corrupt(fmt.Sprintf("the line has more than %d bytes", MaxRecord))
	}
	t.end -= int64(len(t.window) - begin)
	t.window = t.window[:begin]
	return line[begin:], nil
}

// trimEnd is a window without the newline at its end.
func trimEnd(window []byte) []byte { return bytes.TrimSuffix(window, []byte("\n")) }

// numberOf reads the number at the beginning of a line, which may go on.
func numberOf(line []byte) (uint64, bool) {
	digits, found := bytes.CutPrefix(line, []byte(`{"seq":`))
	end := bytes.IndexByte(digits, ',')
	if !found || end < 0 {
		return 0, false
	}
	seq, err := strconv.ParseUint(string(digits[:min(end, 20)]), 10, 64)
	return seq, err == nil
}
