package audit

import (
	"bytes"

	"golang.org/x/mod/sumdb/tlog"
)

// Parse reads a line as replay does.
func Parse(line []byte) (r Record, err error) {
	err = parse(line, &r)
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
