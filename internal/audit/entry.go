package audit

import (
	"maps"
	"slices"
	"time"
)

// An entry is a record on its way to the disk. Its owner is the Append that
// waits for it, or else the goroutine that commits.
type entry struct {
	kind       Kind
	id, intent string
	// body is the encoded record, but for its number.
	body []byte
	// record is what Append was called with, and while it waits. It is nil for
	// an entry that nobody waits for.
	record *Record
	// cancelled: it is not to be written after all. Guarded by Log.mu.
	cancelled bool
	// owed is set if Append has given up on an intent that is being written: it
	// is its own copy of the record, of which to make the final one. Guarded by
	// Log.mu.
	owed *Record
	// why is the error that Append has given up with.
	why error
	// crowd is set if the record is the one that a crowd shares, faceless if it
	// is that of one refusal without a caller: that refusal, counted.
	crowd    *crowd
	faceless *tally
	// seq and err are the result.
	seq uint64
	err error
	// timer is used by Append, and kept with the entry.
	timer *time.Timer
}

// newEntry encodes a record that nobody waits for.
func newEntry(r *Record) *entry {
	return &entry{kind: r.Kind, id: r.ID, intent: r.Intent, body: appendBody(nil, r)}
}

// final tells whether the entry is the final record of its call.
func (e *entry) final() bool { return e.kind == KindOutcome || e.kind == KindDenied }

// set prepares a used entry for another record.
func (e *entry) set(r *Record) {
	*e = entry{kind: r.Kind, id: r.ID, intent: r.Intent, record: r, timer: e.timer, body: appendBody(e.body[:0], r)}
}

// A batch is entries that are written together, and released together.
type batch struct {
	entries []*entry
	bytes   int
	// done is closed when those who wait may go on; err says how.
	done    chan struct{}
	err     error
	taken   bool // guarded by Log.mu: it is being written
	settled bool // guarded by Log.mu: err will not change
	left    bool // guarded by Log.mu: some Append has given up on an entry
	// crowds are those that wait for their shared record.
	crowds []*crowd
}

// release lets those who wait go on. The batch is settled.
func (b *batch) release() {
	close(b.done)
	for _, c := range b.crowds {
		close(c.done)
	}
}

// maxBatch is where a batch is full, in bytes; its last record may exceed it.
// A write is at most a batch, as much of what was kept, and the records of
// crowds: see maxTorn.
const maxBatch = 512 << 10

// clone returns a copy that shares nothing a caller could still change.
func (r *Record) clone() *Record {
	c := *r
	c.Path, c.Request = slices.Clone(r.Path), slices.Clone(r.Request)
	c.Attempts, c.Truncated = slices.Clone(r.Attempts), slices.Clone(r.Truncated)
	c.Detail = maps.Clone(r.Detail)
	return &c
}
