package audit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/c1proxy/c1proxy/internal/durable"
)

// Open opens the log, after what a crash may have left unfinished is put in
// order and the whole is held against its signed head. A *[CorruptError] names
// the first record that is not what was signed; such a log is not touched.
//
// When Open returns, the events of the start, and an indeterminate outcome for
// each intent that the last process left without one, are on disk and signed.
// ctx bounds Open only.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if err := durable.MkdirAll(cfg.Dir, dirMode); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if err := cfg.Retain.checkPlace(cfg.Dir); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	lock, err := durable.LockDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l, err := open(ctx, cfg, lock)
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l.signers.Add(1)
	go l.sign()
	if cfg.Retain.limited() {
		l.retainers.Add(1)
		go l.retain()
	}
	go l.run()
	go l.index()
	return l, nil
}

// open does all of Open for a directory that is locked, but for starting the
// goroutines. It changes nothing before the log has proved to be whole.
func open(ctx context.Context, cfg Config, lock *durable.Lock) (*Log, error) {
	key, err := openKey(cfg)
	if err != nil {
		return nil, err
	}
	if err := durable.RemoveTemp(cfg.Dir); err != nil {
		return nil, err
	}
	p, err := replayDir(ctx, cfg.Dir, key)
	if err != nil {
		return nil, err
	}
	events, err := repair(cfg.Dir, p)
	if err != nil {
		return nil, err
	}
	if err := finishRemovals(p); err != nil {
		return nil, err
	}
	l := newLog(cfg, key, newWriter(cfg, key.Origin(), lock, p))
	l.retention.begin(p)
	l.stats.Oldest = p.oldest
	if err := l.begun(append(events, leftovers(p)...)); err != nil {
		l.writer.closeFiles()
		return nil, err
	}
	return l, nil
}

// openKey loads the key, or makes one for a log that is yet to begin. A second
// key for a log that has records would let anyone who removes the first one
// sign what he likes.
func openKey(cfg Config) (*Key, error) {
	if err := checkKeyPlace(cfg.KeyFile, cfg.Dir); err != nil {
		return nil, err
	}
	segments, err := listSegments(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if len(segments) > 0 {
		if _, err := os.Stat(cfg.KeyFile); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("load audit key: %s has a log already, whose key must be at %s: %w", cfg.Dir, cfg.KeyFile, err)
		}
	}
	return LoadOrCreateKey(cfg.KeyFile, cfg.Origin)
}

// replayDir replays the log in dir. It reads the records from the oldest open
// intent on; what lies before is taken from its leaves, if they agree with the
// signed head. Old records are thus not proved to be what their leaves say:
// that is for Verify, and would take minutes here.
func replayDir(ctx context.Context, dir string, key *Key) (*replay, error) {
	verifier, err := note.NewVerifier(key.VerifierKey())
	if err != nil {
		return nil, err
	}
	p, err := newReplay(dir, verifier)
	if errors.Is(err, errNoLog) {
		if len(p.heads) > 0 {
			return nil, p.run(ctx) // which misses the first record
		}
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	h, err := readHeader(p.segments[len(p.segments)-1])
	if err == nil {
		p.from = h.oldestOpen
		err = p.run(ctx)
	}
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		// Read everything, either to find that it is just a leaf that is wrong,
		// or to name the record.
		p = &replay{contents: p.contents, heads: p.heads, signed: p.signed}
		err = p.run(ctx)
	}
	if err != nil {
		return nil, err
	}
	return p, p.headMissing()
}

// repair puts in order what a crash has left in the newest segment, and the
// leaves. What it cuts off is kept in a file of its own, but for zeros at the
// end, which every crash leaves. It returns the events that tell of it.
//
// The newest segment was perhaps not synced by the process that wrote it: it
// must be, before anything is built on it.
func repair(dir string, p *replay) ([]*Record, error) {
	if len(p.segments) == 0 {
		return nil, nil
	}
	var events []*Record
	newest := p.segments[len(p.segments)-1]
	if p.newest.torn > 0 {
		event, err := saveTorn(newest, p.newest.bytes, p.newest.torn)
		if err != nil {
			return nil, err
		}
		event.Detail["why"] = p.newest.why.Reason
		events = append(events, event)
	}
	if err := durable.Truncate(newest.path(), p.newest.bytes); err != nil {
		return nil, err
	}
	for _, s := range p.damaged {
		if err := rebuildLeaves(s); err != nil {
			return nil, err
		}
		if !s.newest() {
			events = append(events, newEvent(EventRecovered, map[string]string{"file": leavesName(s.first), "why": "leaves were wrong or missing"}))
		}
	}
	return events, nil
}

// saveTorn copies a segment's bytes at offset to "<number>.torn-<n>", and returns
// the event that tells of it. A crash before the cut leaves a copy too many.
func saveTorn(s segment, offset, bytes int64) (*Record, error) {
	f, err := os.Open(s.path())
	if err != nil {
		return nil, fmt.Errorf("save torn write: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, offset, bytes))
	if err != nil {
		return nil, fmt.Errorf("save torn write: %w", err)
	}
	path, err := freeName(strings.TrimSuffix(s.path(), ".jsonl") + ".torn-")
	if err != nil {
		return nil, fmt.Errorf("save torn write: %w", err)
	}
	if err := durable.WriteFile(path, data, fileMode); err != nil {
		return nil, fmt.Errorf("save torn write: %w", err)
	}
	sum := sha256.Sum256(data)
	return newEvent(EventRecovered, map[string]string{
		"file": s.name(), "offset": strconv.FormatInt(offset, 10), "bytes": strconv.Itoa(len(data)),
		"sha256": hex.EncodeToString(sum[:]), "saved_as": filepath.Base(path),
	}), nil
}

// rebuildLeaves writes the leaves of a segment anew from its records, which the
// replay has found to be right. It holds them in memory: 32 bytes for each
// record of one segment.
func rebuildLeaves(s segment) error {
	c, err := openCursor(s)
	if err != nil {
		return err
	}
	defer c.close()
	var leaves []byte
	for c.seq < s.end {
		var r Record
		line, err := c.read(&r)
		if err == io.EOF && s.newest() {
			break
		}
		if err != nil {
			return c.missing(err)
		}
		hash := tlog.RecordHash(line)
		leaves = append(leaves, hash[:]...)
	}
	return durable.WriteFile(s.leafPath(), leaves, fileMode)
}

// newWriter continues the log that was replayed and repaired: its newest
// segment ends with its last record.
func newWriter(cfg Config, origin string, lock *durable.Lock, p *replay) *writer {
	w := &writer{dir: cfg.Dir, origin: origin, segmentBytes: cfg.SegmentBytes, lock: lock, tree: p.tree, open: map[string]uint64{}}
	if n := len(p.segments); n > 0 {
		w.previous.name, w.previous.bytes, w.previous.sealed = p.segments[n-1].name(), p.newest.bytes, true
	}
	for id, r := range p.open {
		w.open[id] = r.Seq
	}
	return w
}

// newLog returns a log whose goroutines do not run yet.
func newLog(cfg Config, key *Key, w *writer) *Log {
	l := &Log{
		cfg: cfg, key: key, writer: w,
		wake: make(chan struct{}, 1), grown: make(chan struct{}, 1), seals: make(chan chan error),
		rolled: make(chan struct{}, 1), sealed: make(chan struct{}, 1),
		stop: make(chan struct{}), stopped: make(chan struct{}), indexed: make(chan struct{}),
		retry: time.NewTimer(time.Hour), complained: map[string]time.Time{},
	}
	l.retention.living, l.retention.cancel = context.WithCancel(context.Background())
	l.retry.Stop()
	l.kept.crowds, l.flood.pending = crowds{}, crowds{}
	l.flood.window = time.NewTimer(time.Hour)
	l.flood.window.Stop()
	l.stats.Size = w.tree.size
	l.pool.New = func() any {
		e := &entry{timer: time.NewTimer(time.Hour)}
		e.timer.Stop()
		return e
	}
	return l
}

// ownMethods is what the names of c1proxy's own methods begin with.
const ownMethods = "c1proxy.v1."

// leftovers are the outcomes of the intents that were left without one, in the
// order of the intents. The process that wrote them died between an intent and
// its outcome, so nobody knows whether the call was sent; but one of c1proxy's own
// methods is sent nowhere, and has changed nothing.
func leftovers(p *replay) []*Record {
	intents := slices.SortedFunc(maps.Values(p.open), func(a, b *Record) int { return int(int64(a.Seq) - int64(b.Seq)) })
	outcomes := make([]*Record, 0, len(intents))
	for _, intent := range intents {
		r := intent.identity()
		r.ID, r.Time, r.Kind, r.Intent = rand.Text(), time.Now(), KindOutcome, intent.ID
		r.Outcome, r.Code, r.Error = OutcomeIndeterminate, "unknown", "OUTCOME_UNKNOWN"
		if strings.HasPrefix(strings.TrimPrefix(intent.Procedure, "/"), ownMethods) {
			r.Outcome = OutcomeFailed
		}
		outcomes = append(outcomes, r)
	}
	return outcomes
}

// begun opens a segment, writes the first records to it and signs the head. It
// runs before the log's goroutines do, and is the proof that the log can be
// written and signed at all.
func (l *Log) begun(records []*Record) error {
	l.measure()
	if err := l.newSegment(); err != nil {
		return err
	}
	started := newEvent(EventStarted, map[string]string{"open_intents": strconv.Itoa(len(l.writer.open))})
	for chunk := range slices.Chunk(append([]*Record{started}, records...), 32) {
		entries := make([]*entry, len(chunk))
		for i, r := range chunk {
			entries[i] = newEntry(r)
		}
		if err := l.writer.commit(entries); err != nil {
			return err
		}
		l.note()
	}
	return l.signHead()
}
