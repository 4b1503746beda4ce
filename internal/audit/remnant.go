package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const hashesSuffix = ".hashes"

// hashesName is the file of the hashes that are kept of the segment whose
// first record was seq.
func hashesName(seq uint64) string { return fmt.Sprintf("%020d%s", seq, hashesSuffix) }

// A remnant is what is kept of a removed segment: enough to continue the tree
// over its records, not to tell them.
type remnant struct {
	first, end uint64
	// hashes are the roots of the largest complete subtrees that the records
	// from first to before end are made of, from left to right: see levels.
	hashes []tlog.Hash
}

// levels are those of the largest complete subtrees of the tree of RFC 6962
// that the leaves from first to before end are made of, from left to right. A
// subtree of level n has 1<<n leaves, and begins at a multiple of that.
func levels(first, end uint64) (levels []int) {
	for first < end {
		level := bits.Len64(end-first) - 1
		if first > 0 {
			level = min(level, bits.TrailingZeros64(first))
		}
		levels = append(levels, level)
		first += 1 << level
	}
	return levels
}

// A remains collects the hashes of a remnant, leaf by leaf.
type remains struct {
	remnant
	rest []int // the levels of the subtrees that are not complete yet
	tree tree  // over the leaves of the current one
}

func newRemains(first, end uint64) *remains {
	return &remains{remnant: remnant{first: first, end: end}, rest: levels(first, end)}
}

// push adds the next leaf, of which there must be no more than the range has.
func (r *remains) push(leaf tlog.Hash) {
	r.tree.push(leaf)
	if r.tree.size == 1<<r.rest[0] {
		r.hashes = append(r.hashes, r.tree.root())
		r.tree, r.rest = tree{}, r.rest[1:]
	}
}

// extend adds the records of the remnant to a tree that ends at its first.
func (r *remnant) extend(t *tree) {
	for i, level := range levels(r.first, r.end) {
		t.pushAll(level, r.hashes[i])
	}
}

// text is the remnant as a file: the layout's version and the range, then a
// hash in base64 on each line.
//
//	1 <first> <end>
//	<hash>
func (r *remnant) text() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %d\n", layout, r.first, r.end)
	for _, hash := range r.hashes {
		fmt.Fprintln(&b, hash)
	}
	return []byte(b.String())
}

// parseRemnant reads what text has written, and nothing else.
func parseRemnant(data []byte) (r remnant, err error) {
	lines := strings.Split(string(data), "\n")
	words := strings.Split(lines[0], " ")
	if len(words) != 3 || words[0] != layout {
		return r, errors.New("it does not begin with a line of the version " + layout + ", the first record and the end")
	}
	if r.first, err = strconv.ParseUint(words[1], 10, 63); err != nil {
		return r, err
	}
	if r.end, err = strconv.ParseUint(words[2], 10, 63); err != nil {
		return r, err
	}
	for _, line := range lines[1:max(1, len(lines)-1)] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return r, err
		}
		r.hashes = append(r.hashes, hash)
	}
	if r.first >= r.end || len(r.hashes) != len(levels(r.first, r.end)) || string(r.text()) != string(data) {
		return r, fmt.Errorf("it does not hold the hashes of the records %d to %d in their form", r.first, r.end)
	}
	return r, nil
}

// listRemnants reads all remnants in dir, in their order.
func listRemnants(dir string) (remnants []remnant, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list hashes of removed records: %w", err)
	}
	for _, entry := range entries {
		digits, found := strings.CutSuffix(entry.Name(), hashesSuffix)
		first, err := strconv.ParseUint(digits, 10, 63)
		if !found || err != nil {
			continue // whoever needs a file of this kind asks for it by its name
		}
		r, err := readRemnant(dir, first)
		if err != nil {
			return nil, err
		}
		if r != nil {
			remnants = append(remnants, *r)
		}
	}
	return remnants, nil
}

// readRemnant reads the remnant of the segment that began at first. It is nil
// if there is none, and the error a *CorruptError if it is something else.
func readRemnant(dir string, first uint64) (*remnant, error) {
	data, err := os.ReadFile(filepath.Join(dir, hashesName(first)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read hashes of removed records: %w", err)
	}
	r, err := parseRemnant(data)
	if err == nil && r.first != first {
		err = fmt.Errorf("it is of the records from %d on", r.first)
	}
	if err != nil {
		return nil, &CorruptError{File: hashesName(first), Seq: first, AtOrAfter: true, Finding: FindingHashes, Reason: err.Error()}
	}
	return &r, nil
}
