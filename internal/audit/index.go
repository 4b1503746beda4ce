package audit

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"math"
	"path/filepath"
	"slices"
)

// An index is a file beside a sealed segment that tells which of its records a
// query need not read. It is derived from the segment, byte for byte, and from
// nothing else, so that [Verify] can compare it. Anyone may delete it: it is
// made again, by the log at its next start or by the next query. What it says is
// never shown: each line it leads to is read and matched again. So one that is
// wrong could only hide records.
//
// The file, with all numbers in little endian:
//
//	magic     indexMagic
//	length    4 bytes: of the head
//	checksum  4 bytes: CRC-32C of the head
//	head      see indexBuilder.head: what the segment is, its dictionaries and
//	          the checksum of each block of each section
//	sections  in blocks of indexBlock bytes, the last one of each shorter:
//	          lines    2 bytes for each record: the length of its line
//	          times    4 bytes for each record: since the first time, in the head's unit
//	          columns  0, 1 or 2 bytes for each record: its value's place in the dictionary
//	          keys     8 bytes for each key of a record, sorted: keyHash << 32 | record
const (
	indexMagic = "c1proxy audit index 1\n"
	indexBlock = 4 << 10

	// A column with more different values, or more bytes of them, is left out.
	maxValues     = 1 << 16
	maxValueBytes = 1 << 20
	// maxIndexed bounds the bytes and the records of a segment that has an index.
	maxIndexed = math.MaxUint32
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// indexName is the index of the segment whose first record is seq.
func indexName(seq uint64) string { return fmt.Sprintf("%020d.index", seq) }

func (s segment) indexPath() string { return filepath.Join(s.dir, indexName(s.first)) }

// A keyKind keeps apart the values of high cardinality, so that an id is not
// found by a path value.
type keyKind byte

const (
	keyID      keyKind = iota // the record's own, and that of its intent
	keyRequest                // request_id
	keyClient                 // client_request_id
	keyPath                   // a path value or a recorded field, under whatever name
)

// eachKey calls yield for each key of a record.
func eachKey(r *Record, yield func(keyKind, string)) {
	for _, k := range [...]struct {
		kind  keyKind
		value string
	}{{keyID, r.ID}, {keyID, r.Intent}, {keyRequest, r.RequestID}, {keyClient, r.ClientRequestID}} {
		if k.value != "" {
			yield(k.kind, k.value)
		}
	}
	for _, fields := range [...]Fields{r.Path, r.Request} {
		for _, f := range fields {
			yield(keyPath, f.Value)
		}
	}
}

// keyHash is FNV-1a of the kind and the value, folded to 32 bits. Callers can
// make values collide: that costs a query the reading of their lines, no more.
func keyHash(kind keyKind, value string) uint32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte{byte(kind)})
	_, _ = h.Write([]byte(value))
	sum := h.Sum64()
	return uint32(sum>>32) ^ uint32(sum)
}

// An indexBuilder collects the index of one segment, in memory: about 80 bytes
// for each record.
type indexBuilder struct {
	segment segment
	// end is the next segment's header: it says how the segment ends.
	end     header
	bytes   int64
	lengths []uint16
	times   []int64 // in microseconds since 1970, rounded down
	columns [len(columns)]dictionary
	keys    []uint64
}

// A dictionary is a column: the values in the order of their first record, and
// each record's place among them.
type dictionary struct {
	values []string
	places map[string]uint16
	codes  []uint16
	bytes  int
	// left out: it has too many values.
	full bool
}

func newIndexBuilder(s segment, end header) *indexBuilder {
	b := &indexBuilder{segment: s, end: end}
	for i := range b.columns {
		b.columns[i].places = map[string]uint16{}
	}
	return b
}

// add adds the next record, whose line has this many bytes with its newline.
func (b *indexBuilder) add(r *Record, line int) {
	ordinal := uint64(len(b.lengths))
	b.bytes += int64(line)
	b.lengths = append(b.lengths, uint16(line)) // at most MaxRecord + 1
	b.times = append(b.times, r.Time.UnixMicro())
	for i := range b.columns {
		b.columns[i].add(columns[i].of(r))
	}
	eachKey(r, func(kind keyKind, value string) {
		b.keys = append(b.keys, uint64(keyHash(kind, value))<<32|ordinal)
	})
}

// add adds the next record's value.
func (d *dictionary) add(value string) {
	if d.full {
		return
	}
	place, ok := d.places[value]
	if !ok {
		if len(d.values) == maxValues || d.bytes+len(value) > maxValueBytes {
			*d = dictionary{full: true}
			return
		}
		place = uint16(len(d.values))
		d.values, d.bytes = append(d.values, value), d.bytes+len(value)
		d.places[value] = place
	}
	d.codes = append(d.codes, place)
}

// width is the number of bytes for each record; noColumn if it is left out.
func (d *dictionary) width() byte {
	switch {
	case d.full:
		return noColumn
	case len(d.values) <= 1:
		return 0
	case len(d.values) <= 1<<8:
		return 1
	}
	return 2
}

// noColumn stands in the head for the width of a column that is left out.
const noColumn = 0xff

// file is the index. It is nil if the segment is not as long as the next one's
// header says, or too long for an index.
func (b *indexBuilder) file() []byte {
	if b.bytes != b.end.previousBytes || b.bytes > maxIndexed || uint64(len(b.lengths)) != b.segment.count() {
		return nil
	}
	slices.Sort(b.keys)
	b.keys = slices.Compact(b.keys) // a record may have one value twice
	first, last := slices.Min(b.times), slices.Max(b.times)
	shift := byte(0)
	for uint64(last-first)>>shift > math.MaxUint32 {
		shift++
	}
	sections := b.sections(first, shift)
	head := b.head(first, last, shift, sections)
	file := append([]byte(indexMagic), make([]byte, 8)...)
	binary.LittleEndian.PutUint32(file[len(indexMagic):], uint32(len(head)))
	binary.LittleEndian.PutUint32(file[len(indexMagic)+4:], crc32.Checksum(head, crcTable))
	return append(append(file, head...), slices.Concat(sections...)...)
}

// sections are the sections' bytes.
func (b *indexBuilder) sections(first int64, shift byte) [][]byte {
	lines, times := make([]byte, 0, 2*len(b.lengths)), make([]byte, 0, 4*len(b.times))
	for i, length := range b.lengths {
		lines = binary.LittleEndian.AppendUint16(lines, length)
		times = binary.LittleEndian.AppendUint32(times, uint32(uint64(b.times[i]-first)>>shift))
	}
	sections := [][]byte{lines, times}
	for i := range b.columns {
		d := &b.columns[i]
		var codes []byte
		for _, code := range d.codes {
			switch d.width() {
			case 1:
				codes = append(codes, byte(code))
			case 2:
				codes = binary.LittleEndian.AppendUint16(codes, code)
			}
		}
		sections = append(sections, codes)
	}
	keys := make([]byte, 0, 8*len(b.keys))
	for _, key := range b.keys {
		keys = binary.LittleEndian.AppendUint64(keys, key)
	}
	return append(sections, keys)
}

// head says of which segment this is the index: its first record, its number of
// records, its length and the tree's root after it. Then come the first and the
// last time, the unit of the times as a power of two in microseconds, the number
// of keys and the dictionaries. Last come the checksums of all blocks, the
// offset of each block's first line in the segment, and the hash of each block's
// first key.
func (b *indexBuilder) head(first, last int64, shift byte, sections [][]byte) []byte {
	little := binary.LittleEndian
	var head []byte
	for _, n := range []uint64{b.segment.first, uint64(len(b.lengths)), uint64(b.bytes)} {
		head = little.AppendUint64(head, n)
	}
	head = append(head, b.end.root[:]...)
	head = little.AppendUint64(little.AppendUint64(head, uint64(first)), uint64(last))
	head = little.AppendUint64(append(head, shift), uint64(len(b.keys)))
	for i := range b.columns {
		d := &b.columns[i]
		head = binary.AppendUvarint(append(head, d.width()), uint64(len(d.values)))
		for _, value := range d.values {
			head = append(binary.AppendUvarint(head, uint64(len(value))), value...)
		}
	}
	for _, section := range sections {
		for block := range slices.Chunk(section, indexBlock) {
			head = little.AppendUint32(head, crc32.Checksum(block, crcTable))
		}
	}
	offset := uint32(0)
	for i, length := range b.lengths {
		if i%linesPerBlock == 0 {
			head = little.AppendUint32(head, offset)
		}
		offset += uint32(length)
	}
	for i := 0; i < len(b.keys); i += keysPerBlock {
		head = little.AppendUint32(head, uint32(b.keys[i]>>32))
	}
	return head
}

// What fits into a block.
const (
	linesPerBlock = indexBlock / 2
	keysPerBlock  = indexBlock / 8
)
