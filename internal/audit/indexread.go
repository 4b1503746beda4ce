package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"slices"
	"sort"

	"golang.org/x/mod/sumdb/tlog"
)

// errIndex is the error of an index that is none, or is damaged, or of another
// version or segment. It is then as if there were none.
var errIndex = errors.New("not an index of this segment")

// An index is one that is read: its head is in memory, the rest is read where
// it is needed, by block, each against its checksum. It is not safe for
// concurrent use.
type index struct {
	in io.ReaderAt
	// count is the number of records, bytes the length of the segment.
	first, count uint64
	bytes        int64
	root         tlog.Hash
	// min and max bound the times, in microseconds since 1970, rounded down.
	min, max int64
	shift    byte
	columns  [len(columns)]indexColumn
	lines    section
	times    section
	keys     section
	// offsets are those of each block's first line in the segment, hashes those
	// of each block's first key.
	offsets, hashes []uint32
	// block and starts are the lines that were last looked up.
	block  int
	starts []int64
}

// An indexColumn is a dictionary and where the places in it are.
type indexColumn struct {
	values []string
	width  byte
	codes  section
}

// A section is a part of the file.
type section struct {
	offset, size int64
	checksums    []uint32 // of its blocks
}

// openIndex opens the index of s, which ends as the next segment's header h
// says. The error is an errIndex or that of a syscall. The caller must close
// the file.
func openIndex(s segment, h header) (*index, *os.File, error) {
	f, err := os.Open(s.indexPath())
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	var x *index
	if err == nil {
		x, err = readIndex(f, info.Size())
	}
	if err == nil && (x.first != s.first || x.count != s.count() || x.bytes != h.previousBytes || x.root != h.root) {
		err = errIndex
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return x, f, nil
}

// readIndex reads the head of an index that has size bytes. What it allocates
// is bounded by size.
func readIndex(in io.ReaderAt, size int64) (*index, error) {
	start := make([]byte, len(indexMagic)+8)
	if _, err := in.ReadAt(start, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", errIndex, err)
	}
	length := int64(binary.LittleEndian.Uint32(start[len(indexMagic):]))
	if string(start[:len(indexMagic)]) != indexMagic || length > size-int64(len(start)) {
		return nil, errIndex
	}
	head := make([]byte, length)
	if _, err := in.ReadAt(head, int64(len(start))); err != nil {
		return nil, fmt.Errorf("%w: %w", errIndex, err)
	}
	if crc32.Checksum(head, crcTable) != binary.LittleEndian.Uint32(start[len(indexMagic)+4:]) {
		return nil, errIndex
	}
	x := &index{in: in, block: -1}
	d := &indexDecoder{rest: head}
	if !x.head(d, int64(len(start))+length, size) {
		return nil, errIndex
	}
	return x, nil
}

// head decodes the head of an index whose sections begin at offset. The order
// is that of indexBuilder.head.
func (x *index) head(d *indexDecoder, offset, size int64) bool {
	x.first, x.count, x.bytes = d.uint64(), d.uint64(), int64(d.uint64())
	copy(x.root[:], d.take(tlog.HashSize))
	x.min, x.max = int64(d.uint64()), int64(d.uint64())
	if shift := d.take(1); len(shift) == 1 {
		x.shift = shift[0]
	}
	keys := d.uint64()
	if d.failed || x.count > uint64(size) || keys > uint64(size) || x.bytes < 0 || x.bytes > maxIndexed || x.shift > 63 || x.min > x.max {
		return false
	}
	count := int64(x.count)
	x.lines, x.times = section{size: 2 * count}, section{size: 4 * count}
	for i := range x.columns {
		if !x.columns[i].dictionary(d, count) {
			return false
		}
	}
	x.keys = section{size: 8 * int64(keys)}
	sections := []*section{&x.lines, &x.times}
	for i := range x.columns {
		sections = append(sections, &x.columns[i].codes)
	}
	for _, s := range append(sections, &x.keys) {
		s.offset = offset
		offset += s.size
		s.checksums = d.uint32s(blocks(s.size))
	}
	x.offsets, x.hashes = d.uint32s(blocks(x.lines.size)), d.uint32s(blocks(x.keys.size))
	return !d.failed && len(d.rest) == 0 && offset == size
}

// dictionary decodes what the head says of a column.
func (c *indexColumn) dictionary(d *indexDecoder, count int64) bool {
	width := d.take(1)
	values := d.uvarint()
	if d.failed || width[0] > 2 && width[0] != noColumn || values > maxValues {
		return false
	}
	c.width = width[0]
	for range values {
		c.values = append(c.values, string(d.take(d.uvarint())))
		if d.failed {
			return false
		}
	}
	if c.width != noColumn {
		c.codes.size = int64(c.width) * count
	}
	return true
}

// blocks is the number of blocks of a section.
func blocks(size int64) uint64 { return uint64((size + indexBlock - 1) / indexBlock) }

// read reads the blocks from from to before to, and checks them.
func (x *index) read(s section, from, to int) ([]byte, error) {
	begin, end := int64(from)*indexBlock, min(int64(to)*indexBlock, s.size)
	data := make([]byte, max(0, end-begin))
	if _, err := x.in.ReadAt(data, s.offset+begin); err != nil && len(data) > 0 {
		return nil, fmt.Errorf("%w: %w", errIndex, err)
	}
	i := from
	for block := range slices.Chunk(data, indexBlock) {
		if crc32.Checksum(block, crcTable) != s.checksums[i] {
			return nil, errIndex
		}
		i++
	}
	return data, nil
}

// all reads a whole section.
func (x *index) all(s section) ([]byte, error) { return x.read(s, 0, len(s.checksums)) }

// few is how many records are rather read than looked up in the columns.
const few = 64

// find returns the records that may match, by their place in the segment, in
// their order. It reads no more than it must to find that there are none.
func (x *index) find(m *matcher) ([]uint32, error) {
	since, until := int64(math.MinInt64), int64(math.MaxInt64)
	if !m.filter.Since.IsZero() {
		since = m.filter.Since.UnixMicro()
	}
	if !m.filter.Until.IsZero() {
		until = m.filter.Until.UnixMicro()
	}
	if x.count == 0 || x.max < since || x.min > until {
		return nil, nil
	}
	wanted, some := x.wanted(m)
	if !some {
		return nil, nil
	}
	found, err := x.lookup(m.keys)
	if err != nil || len(m.keys) > 0 && len(found) <= few {
		return found, err
	}
	if len(m.keys) == 0 {
		found = make([]uint32, x.count)
		for i := range found {
			found[i] = uint32(i)
		}
	}
	if x.min < since || x.max > until {
		if found, err = x.between(found, since, until); err != nil {
			return nil, err
		}
	}
	for i := range wanted {
		if wanted[i] == nil || len(found) == 0 {
			continue
		}
		if found, err = x.columns[i].filter(x, found, wanted[i]); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// wanted tells for each column that is asked for which places in its dictionary
// match; nil stands for all of them. some is false if a column has none that does.
func (x *index) wanted(m *matcher) (wanted [len(columns)][]bool, some bool) {
	for i, test := range m.columns {
		c := &x.columns[i]
		if test == nil || c.width == noColumn {
			continue
		}
		matching := 0
		// Whatever stands in the column is a place in it.
		places := make([]bool, max(len(c.values), 1<<(8*c.width)))
		for place, value := range c.values {
			if places[place] = test(value); places[place] {
				matching++
			}
		}
		if matching == 0 {
			return wanted, false
		}
		if matching < len(c.values) {
			wanted[i] = places
		}
	}
	return wanted, true
}

// lookup returns the records that have all of the keys.
func (x *index) lookup(hashes []uint32) (found []uint32, err error) {
	for i, hash := range hashes {
		records, err := x.having(hash)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			records = slices.DeleteFunc(records, func(r uint32) bool {
				_, both := slices.BinarySearch(found, r)
				return !both
			})
		}
		if found = records; len(found) == 0 {
			return nil, nil
		}
	}
	return found, nil
}

// having returns the records that have a key with this hash.
func (x *index) having(hash uint32) (records []uint32, err error) {
	// The first block that begins with this hash or a later one, and the one before.
	block := sort.Search(len(x.hashes), func(i int) bool { return x.hashes[i] >= hash })
	for block = max(0, block-1); block < len(x.hashes) && x.hashes[block] <= hash; block++ {
		data, err := x.read(x.keys, block, block+1)
		if err != nil {
			return nil, err
		}
		for key := range slices.Chunk(data, 8) {
			n := binary.LittleEndian.Uint64(key)
			if uint32(n>>32) != hash {
				continue
			}
			if uint64(uint32(n)) >= x.count || len(records) > 0 && uint32(n) <= records[len(records)-1] {
				return nil, errIndex
			}
			records = append(records, uint32(n))
		}
	}
	return records, nil
}

// between keeps of found what may have happened from since to until.
func (x *index) between(found []uint32, since, until int64) ([]uint32, error) {
	data, err := x.all(x.times)
	if err != nil {
		return nil, err
	}
	kept := found[:0]
	for _, ordinal := range found {
		// Rounded down by the unit, so it is up to one unit later.
		from := x.min + int64(uint64(binary.LittleEndian.Uint32(data[4*int(ordinal):]))<<x.shift)
		if from <= until && from+int64(uint64(1)<<x.shift)-1 >= since {
			kept = append(kept, ordinal)
		}
	}
	return kept, nil
}

// filter keeps of found the records whose value is wanted.
func (c *indexColumn) filter(x *index, found []uint32, wanted []bool) ([]uint32, error) {
	data, err := x.all(c.codes)
	if err != nil {
		return nil, err
	}
	kept := found[:0]
	for _, ordinal := range found {
		place := 0 // of a column with one value
		switch c.width {
		case 1:
			place = int(data[ordinal])
		case 2:
			place = int(binary.LittleEndian.Uint16(data[2*int(ordinal):]))
		}
		if wanted[place] {
			kept = append(kept, ordinal)
		}
	}
	return kept, nil
}

// place returns where the line of a record begins and ends in the segment.
func (x *index) place(ordinal uint32) (begin, end int64, err error) {
	block := int(ordinal / linesPerBlock)
	if block != x.block {
		data, err := x.read(x.lines, block, block+1)
		if err != nil {
			return 0, 0, err
		}
		x.block, x.starts = block, append(x.starts[:0], int64(x.offsets[block]))
		for length := range slices.Chunk(data, 2) {
			x.starts = append(x.starts, x.starts[len(x.starts)-1]+int64(binary.LittleEndian.Uint16(length)))
		}
	}
	i := ordinal % linesPerBlock
	return x.starts[i], x.starts[i+1], nil
}

// An indexDecoder consumes a head. After a failure it yields zeros.
type indexDecoder struct {
	rest   []byte
	failed bool
}

// take consumes n bytes; nil if there are fewer.
func (d *indexDecoder) take(n uint64) []byte {
	if d.failed || n > uint64(len(d.rest)) {
		d.failed = true
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *indexDecoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *indexDecoder) uvarint() uint64 {
	n, length := binary.Uvarint(d.rest)
	if length <= 0 || d.failed {
		d.failed = true
		return 0
	}
	d.rest = d.rest[length:]
	return n
}

// uint32s consumes n numbers.
func (d *indexDecoder) uint32s(n uint64) []uint32 {
	data := d.take(4 * n)
	numbers := make([]uint32, 0, len(data)/4)
	for number := range slices.Chunk(data, 4) {
		numbers = append(numbers, binary.LittleEndian.Uint32(number))
	}
	return numbers
}
