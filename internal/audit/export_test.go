package audit

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/c1proxy/c1proxy/internal/durable"
)

// Parse reads a line as replay does.
func Parse(line []byte) (r Record, err error) {
	err = parse(line, &r, newScratch())
	return r, err
}

// A Tree is the log's own tree.
type Tree struct{ t tree }

func (t *Tree) Push(leaf tlog.Hash) { t.t.push(leaf) }
func (t *Tree) Root() tlog.Hash     { return t.t.root() }

// Stall keeps the log from writing until release is called. What was queued
// before may or may not be written.
func (l *Log) Stall() (release func()) {
	done := make(chan error)
	l.seals <- done
	return func() { <-done }
}

// HoldTree lets the log sync one more batch, but not release those who wait
// for it, until release is called.
func (l *Log) HoldTree() (release func()) {
	l.writer.mu.Lock()
	return l.writer.mu.Unlock
}

// MaxKept is how many outcomes are kept.
const MaxKept = maxKept

// Shared is the record of refusals that were counted in groups, and the groups
// then merged.
func Shared(groups ...[]*Record) *Record {
	var all *tally
	for _, group := range groups {
		one := tallyOf(group[0])
		for _, r := range group[1:] {
			next := tallyOf(r)
			one.add(&next)
		}
		if all == nil {
			all = &one
		} else {
			all.add(&one)
		}
	}
	return all.record()
}

// ForgeHashes makes what retention keeps of a removed segment.
func ForgeHashes(first, end uint64, lines [][]byte) []byte {
	r := newRemains(first, end)
	for _, line := range lines {
		r.push(tlog.RecordHash(bytes.TrimSuffix(line, []byte("\n"))))
	}
	return r.text()
}

// Generate writes a log of n records to dir, each made by fill with its own
// number, in segments of this size. It has neither head nor indexes, and what it
// writes is one commit for many records.
func Generate(dir string, n int, segmentBytes int64, fill func(i int, r *Record)) error {
	lock, err := durable.LockDir(dir)
	if err != nil {
		return err
	}
	w := newWriter(Config{Dir: dir, SegmentBytes: segmentBytes}, "example.com/generated", lock, &replay{})
	defer lock.Close()
	defer w.closeFiles()
	entries := make([]*entry, 0, 4096)
	for i := 0; i < n; {
		if w.file == nil || w.file.Size() >= segmentBytes {
			if err := w.roll(); err != nil {
				return err
			}
		}
		entries = entries[:0]
		for bytes := int64(0); i < n && len(entries) < cap(entries) && w.file.Size()+bytes < segmentBytes; i++ {
			var r Record
			fill(i, &r)
			entries = append(entries, newEntry(&r))
			bytes += int64(len(entries[len(entries)-1].body))
		}
		if err := w.commit(entries); err != nil {
			return err
		}
	}
	return nil
}

// IndexName is the file of the index of a segment's file.
func IndexName(segment string) string { return strings.TrimSuffix(segment, ".jsonl") + ".index" }

// BuildIndexes makes the indexes of all sealed segments.
func BuildIndexes(dir string) {
	(&Log{cfg: Config{Dir: dir}, stop: make(chan struct{})}).indexFrom(0)
}

// ForgeIndex writes an index of a segment as if its records were changed and
// its lines had other lengths; or as if all that were so in another log.
func ForgeIndex(dir string, n int, other bool, change func(*Record), line func(int) int) error {
	segments, err := listSegments(dir)
	if err != nil {
		return err
	}
	h, err := readHeader(segments[n+1])
	if err != nil {
		return err
	}
	c, err := openCursor(segments[n])
	if err != nil {
		return err
	}
	defer c.close()
	b := newIndexBuilder(segments[n], h)
	for c.seq < segments[n].end {
		var r Record
		text, err := c.read(&r)
		if err != nil {
			return err
		}
		change(&r)
		b.add(&r, line(len(text)+1))
	}
	b.end.previousBytes = b.bytes
	if other {
		b.end.root[0]++
	}
	data := b.file()
	// The length stands after the magic, the head's length and checksum, the
	// first record and their number.
	at := len(indexMagic) + 8 + 16
	binary.LittleEndian.PutUint64(data[at:], uint64(h.previousBytes))
	sealIndex(data)
	return os.WriteFile(segments[n].indexPath(), data, fileMode)
}

// sealIndex makes the checksum of the head right, if there is a head.
func sealIndex(data []byte) {
	start := len(indexMagic) + 8
	if len(data) < start {
		return
	}
	if length := binary.LittleEndian.Uint32(data[start-8:]); int64(length) <= int64(len(data)-start) {
		binary.LittleEndian.PutUint32(data[start-4:], crc32.Checksum(data[start:start+int(length)], crcTable))
	}
}

// ProbeIndex reads an index of any bytes in every way. With forge its checksums
// are made right before. It returns how many records it leads to, and whether it
// was one.
func ProbeIndex(data []byte, forge bool, f Filter) (records int, ok bool) {
	if forge {
		sealIndex(data)
	}
	x, err := readIndex(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return 0, false
	}
	if forge {
		sections := []section{x.lines, x.times, x.keys}
		for i := range x.columns {
			sections = append(sections, x.columns[i].codes)
		}
		for _, s := range sections {
			for i := range s.checksums {
				begin := s.offset + int64(i)*indexBlock
				s.checksums[i] = crc32.Checksum(data[begin:min(begin+indexBlock, s.offset+s.size)], crcTable)
			}
		}
	}
	m, err := newMatcher(f)
	if err != nil {
		return 0, false
	}
	found, err := x.find(m)
	for _, ordinal := range found {
		if _, _, placeErr := x.place(ordinal); placeErr != nil {
			err = placeErr
		}
	}
	return len(found), err == nil
}
