package audit

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/c1proxy/c1proxy/internal/durable"
)

// fileMode is that of every file in the directory, and dirMode the
// directory's.
const (
	fileMode = 0o600
	dirMode  = 0o700
)

// checkEvery is how often, at most, a commit looks whether its file is still
// where it was. The look costs two syscalls.
const checkEvery = 100 * time.Millisecond

// A writer owns the files of an open log: it numbers records and puts them on
// disk. Except for the tree it belongs to one goroutine.
//
// Its state is what is on disk. Whatever fails leaves it as it was, so that
// the numbers of what was not written go to what is written next.
type writer struct {
	dir    string
	origin string

	// file and leaves are those of the newest segment. file is nil while there
	// is none that could be written to; leaves is nil also when it has failed.
	file, leaves *durable.File
	// previous describes the segment before the one that is to be opened, and
	// is kept up while there is none.
	previous struct {
		name   string
		bytes  int64
		sealed bool
	}
	// touched: someone else has touched the file, so it must be left. spoiled:
	// its bytes are not what was written. restored: its path leads to a copy.
	touched, spoiled, restored bool
	// records counts those of the newest segment.
	records uint64
	// segmentBytes is where a segment is full, in bytes. frugal: space is short,
	// so that none is taken ahead.
	segmentBytes int64
	frugal       bool
	// oldestOpen is what its header says, and removed what the next one's will.
	oldestOpen, removed uint64
	// open holds the intents without an outcome: ID to number.
	open map[string]uint64
	// checked is when the files were last looked at.
	checked time.Time
	// syncs counts the syncs of commits.
	syncs uint64

	// Buffers of commit, kept for the next one.
	buf    []byte
	hashes []tlog.Hash
	undo   []change

	// Guarded by mu, but only this goroutine changes them.
	mu   sync.Mutex
	lock *durable.Lock
	tree tree // its size is the next record's number
}

// A change is what a record did to writer.open.
type change struct {
	id     string
	seq    uint64
	opened bool
}

// snapshot returns the tree of what is on disk, and whether the directory is
// still ours. It may be called at any time.
func (w *writer) snapshot() (tree, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tree, w.lock.Check()
}

// admit applies an entry to the open intents, or refuses it with an
// [ErrInvalid]: an intent that is open already, or an outcome of one that is
// not. This holds the log to one outcome for each intent, whatever callers do.
func (w *writer) admit(e *entry, seq uint64) error {
	switch {
	case e.kind == KindIntent:
		if _, dup := w.open[e.id]; dup {
			return fmt.Errorf("append record: %w: intent %s is open already", ErrInvalid, e.id)
		}
		w.open[e.id] = seq
		w.undo = append(w.undo, change{e.id, seq, true})
	case e.kind == KindOutcome && e.intent != "":
		opened, ok := w.open[e.intent]
		if !ok {
			return fmt.Errorf("append record: %w: intent %s is not open", ErrInvalid, e.intent)
		}
		delete(w.open, e.intent)
		w.undo = append(w.undo, change{e.intent, opened, false})
	}
	return nil
}

// revert takes back the changes of a commit that failed.
func (w *writer) revert() {
	for i := len(w.undo) - 1; i >= 0; i-- {
		if c := w.undo[i]; c.opened {
			delete(w.open, c.id)
		} else {
			w.open[c.id] = c.seq
		}
	}
	w.undo = w.undo[:0]
}

// commit puts the entries on disk with one write and one fdatasync. Now and
// then it writes zeros behind them, for the next ones to take the place of. On nil
// each entry has its number, or its own error if it was refused. On an error
// none of them counts, though any of them may be found after a crash.
//
// Syscalls: pwrite, fdatasync; then pwrite of the leaves, which nobody waits for.
func (w *writer) commit(entries []*entry) error {
	if w.file == nil {
		return errNoSegment
	}
	w.buf, w.hashes, w.undo = w.buf[:0], w.hashes[:0], w.undo[:0]
	seq := w.tree.size
	for _, e := range entries {
		if e.err = w.admit(e, seq); e.err != nil {
			continue
		}
		start := len(w.buf)
		w.buf = append(appendSeq(w.buf, seq), e.body...)
		w.hashes = append(w.hashes, tlog.RecordHash(w.buf[start:]))
		w.buf = append(w.buf, '\n')
		e.seq = seq
		seq++
	}
	if len(w.hashes) == 0 {
		return nil
	}
	w.syncs++
	if err := w.file.Append(w.buf, w.ahead()); err != nil {
		w.revert()
		// Cut off the fragment, or else never touch the file again.
		if rewound := w.file.Rewind(); rewound != nil {
			w.abandon()
		}
		return err
	}
	w.written(w.hashes)
	return nil
}

// maxAhead is how many zeros there are behind the newest segment at most, in
// bytes.
const maxAhead = 1 << 20

// ahead is how many zeros are to be written where the segment grows: none that
// would make it larger than full.
func (w *writer) ahead() int64 {
	if w.frugal {
		return 0
	}
	return min(maxAhead, w.segmentBytes-w.file.Size()-int64(len(w.buf)))
}

var errNoSegment = errors.New("no segment could be opened")

// written takes note of records that are on disk: only now do they count for
// the tree, and thus for the next signed head.
func (w *writer) written(hashes []tlog.Hash) {
	w.mu.Lock()
	for _, hash := range hashes {
		w.tree.push(hash)
	}
	w.mu.Unlock()
	w.records += uint64(len(hashes))
	if w.leaves == nil {
		return
	}
	w.buf = w.buf[:0]
	for _, hash := range hashes {
		w.buf = append(w.buf, hash[:]...)
	}
	if err := w.leaves.Write(w.buf); err != nil {
		// The next start rebuilds them from the records.
		_ = w.leaves.Close()
		w.leaves = nil
	}
}

// check looks, now and then, whether the segment and the lock are still where
// they were and as they were.
func (w *writer) check(now time.Time) error {
	if w.file == nil || now.Sub(w.checked) < checkEvery {
		return nil
	}
	w.checked = now
	err := w.lock.Check()
	if err == nil {
		err = w.file.Check()
	}
	w.touched = err != nil
	return err
}

// rescue undoes what someone did to the segment's file, as far as that goes,
// and says how far. A file that was removed, renamed or replaced is still open
// here: it gets its name and content back, and what stands in its place is put
// aside. In any case roll must follow.
func (w *writer) rescue() string {
	if w.file == nil || w.restored {
		return "restored"
	}
	cause := w.file.Check()
	if cause == nil {
		return "untouched"
	}
	w.spoiled = true
	if !errors.Is(cause, durable.ErrMoved) {
		return "not restored: " + cause.Error()
	}
	err := putAside(w.file.Path())
	if err == nil {
		err = w.file.Restore(fileMode)
	}
	if err != nil {
		return "not restored: " + err.Error()
	}
	w.spoiled, w.restored = false, true
	return "restored"
}

// putAside renames the file at path, if there is one, to "<path>.foreign-<n>".
func putAside(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	name, err := freeName(path + ".foreign-")
	if err != nil {
		return err
	}
	return durable.Rename(path, name)
}

// freeName returns prefix with the first number that no file has.
func freeName(prefix string) (string, error) {
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s%d", prefix, n)
		switch _, err := os.Lstat(name); {
		case errors.Is(err, fs.ErrNotExist):
			return name, nil
		case err != nil: // such as a directory that may not be searched: no number helps
			return "", fmt.Errorf("find a free name: %w", err)
		}
	}
}

// seal cuts the zeros off the newest segment, whose records are all on disk, and
// returns whether its end is then where the records end. Of a file that someone
// has touched unnoticed it says so too, for [Verify] to find it.
func (w *writer) seal() bool {
	if w.spoiled {
		return false
	}
	err := w.file.Trim()
	return err == nil || errors.Is(err, durable.ErrResized)
}

// abandon closes the segment at what is on disk of it. What follows that in
// the file is void.
func (w *writer) abandon() {
	w.previous.name, w.previous.bytes, w.previous.sealed = filepath.Base(w.file.Path()), w.file.Size(), false
	w.closeFiles()
}

// closeFiles closes the newest segment. The leaves are put on disk if that can
// be done; if not, the next start rebuilds them.
func (w *writer) closeFiles() {
	if w.leaves != nil {
		_ = w.leaves.Sync()
		_ = w.leaves.Close()
		w.leaves = nil
	}
	if w.file != nil {
		_ = w.file.Close()
		w.file = nil
	}
}

// roll opens a new segment, with its header on disk, and closes the one
// before. If it fails before the new file has its name, the old one stays in
// use; after that the old one is finished, and there is none until roll succeeds.
// The old one is sealed on disk before the new one says so.
//
// Syscalls: those of [durable.File.Trim], and of [durable.Create] twice.
func (w *writer) roll() error {
	if w.file != nil {
		w.previous.name, w.previous.bytes, w.previous.sealed = filepath.Base(w.file.Path()), w.file.Size(), w.seal()
	}
	seq := w.tree.size
	next := segment{dir: w.dir, first: seq}
	h := w.header(seq)
	r := newEvent(EventSegment, h.detail())
	r.Seq = seq
	line := appendRecord(nil, r)
	hash := tlog.RecordHash(line)
	file, err := durable.Create(next.path(), append(line, '\n'), fileMode)
	if err != nil {
		if _, stat := os.Lstat(next.path()); w.file != nil && !errors.Is(stat, fs.ErrNotExist) {
			w.closeFiles()
		}
		return fmt.Errorf("open segment: %w", err)
	}
	w.closeFiles()
	w.oldestOpen = h.oldestOpen
	w.file, w.records, w.touched, w.spoiled, w.restored = file, 0, false, false, false
	w.leaves, err = durable.Create(next.leafPath(), nil, fileMode)
	if err != nil {
		w.leaves = nil // as in written
	}
	w.written([]tlog.Hash{hash})
	return nil
}

// header is that of the segment that begins at seq.
func (w *writer) header(seq uint64) header {
	h := header{origin: w.origin, previous: w.previous.name, previousBytes: w.previous.bytes,
		sealed: w.previous.sealed, oldestOpen: seq, removed: w.removed, root: w.tree.root()}
	for _, open := range w.open {
		h.oldestOpen = min(h.oldestOpen, open)
	}
	return h
}

// relock takes the lock again if someone has removed its file. It fails if
// another process was quicker: the directory is its own then.
func (w *writer) relock() error {
	if w.lock.Check() == nil {
		return nil
	}
	lock, err := durable.LockDir(w.dir)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.lock.Close()
	w.lock = lock
	return nil
}

// newEvent returns an event of now.
func newEvent(event string, detail map[string]string) *Record {
	return &Record{ID: rand.Text(), Time: time.Now(), Kind: KindEvent, Event: event, Detail: detail}
}
