package siem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
)

const (
	// minPause and maxPause bound the pause after a delivery that failed, which
	// doubles; slowPause is that after one that was refused for good.
	minPause, maxPause = 500 * time.Millisecond, 30 * time.Second
	slowPause          = time.Minute
	// longestPause bounds what a receiver may ask for.
	longestPause = 5 * time.Minute
	// saveEvery is how often the cursor is written while it moves.
	saveEvery = time.Second
	// complainEvery is how often the log has a line of one sink's failures.
	complainEvery = 10 * time.Second
)

// A Config says what a sink ships, and where to.
type Config struct {
	// Name is the sink's, in its cursor's file, in metrics and in the log.
	Name string
	// Dir is the directory of the audit log, Key its verifier key.
	Dir, Key string
	// Encoder writes the records.
	Encoder Encoder
	// Kinds are those that are shipped. None stands for all.
	Kinds []audit.Kind
	// FromStart begins a new sink with the oldest record that is there, in place
	// of those that are yet to come.
	FromStart bool
	// Receiver takes the records. The sink closes it.
	Receiver Receiver
	// Logger is required.
	Logger *slog.Logger
}

// A Receiver is where records go. One goroutine uses it.
type Receiver interface {
	// Deliver returns nil if all messages have arrived, as far as that can be
	// told, and otherwise an error, of which the log may be told: then all of
	// them are delivered again. A *[Refusal] says when.
	Deliver(ctx context.Context, messages []Message) error
	// Most bounds the messages of one Deliver.
	Most() int
	// Close gives up what Deliver keeps.
	Close()
}

// A Message is a record, written.
type Message struct {
	Kind     audit.Kind
	Time     time.Time
	severity severity
	Body     []byte
}

// A Refusal is the error of a receiver that has answered that it does not take
// the messages.
type Refusal struct {
	// Reason says so, without a word of the receiver's.
	Reason string
	// After is when to come back; 0 leaves that to the sink.
	After time.Duration
	// Final: the receiver will go on to refuse until someone changes something.
	Final bool
}

func (r *Refusal) Error() string { return r.Reason }

// A Sink ships the records of an audit log, in their order and each at least
// once, over any restart of its process: a cursor on disk says how far it is.
// It never skips what cannot be delivered, and holds nobody up: while its
// receiver is away it waits, and reads the log's files later. It holds one batch
// in memory. It is safe for concurrent use.
type Sink struct {
	cfg    Config
	cursor cursor
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  chan struct{} // closed when both goroutines have ended

	// next is the first number that is not delivered, saved what the cursor on
	// disk says.
	next, saved                  atomic.Uint64
	delivered, failures, skipped atomic.Uint64

	mu         sync.Mutex
	since      time.Time // guarded by mu: since when deliveries fail; zero if they do not
	why        string    // guarded by mu: the last failure
	complained time.Time // guarded by mu: when the log last had a line of it
	told       bool      // guarded by mu: whether it had one since since
}

// A State is how a sink is doing.
type State struct {
	// Next is the number of the first record that is not delivered.
	Next uint64
	// Delivered counts records that were shipped since the start, Failures the
	// deliveries that failed, and Skipped the records that retention removed
	// before they were shipped.
	Delivered, Failures, Skipped uint64
	// Since is when deliveries began to fail, and Why the newest failure; zero
	// while they succeed.
	Since time.Time
	Why   string
}

// Open starts a sink for a log whose newest signed head covers size records. A
// new one begins there, and has its cursor on disk when Open returns. A cursor
// that is ahead of the log is an error: the log was replaced by an older copy.
func Open(cfg Config, size uint64) (*Sink, error) {
	s := &Sink{cfg: cfg, ended: make(chan struct{})}
	s.cursor = cursor{path: filepath.Join(cfg.Dir, "sink-"+cfg.Name+".cursor")}
	origin, err := audit.Origin(cfg.Dir)
	if err == nil {
		s.cursor.origin = origin
		err = s.resume(size)
	}
	if err != nil {
		return nil, fmt.Errorf("open audit sink %s: %w", cfg.Name, err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	var both sync.WaitGroup
	both.Go(s.run)
	both.Go(s.save)
	go func() { both.Wait(); close(s.ended) }()
	return s, nil
}

// resume finds where to begin.
func (s *Sink) resume(size uint64) error {
	next, found, err := s.cursor.read()
	switch {
	case err != nil:
		return err
	case found && next > size:
		return fmt.Errorf("read cursor %s: records up to %d were delivered, and the log has only %d: it was replaced by an older copy; "+
			"remove this file to begin anew with the log as it is", s.cursor.path, next, size)
	case !found && !s.cfg.FromStart:
		next = size
	}
	s.next.Store(next)
	s.saved.Store(next)
	if found {
		return nil
	}
	return s.cursor.write(next)
}

// run ships until Close.
func (s *Sink) run() {
	defer s.cfg.Receiver.Close()
	for s.ctx.Err() == nil {
		want := audit.Range{From: s.next.Load(), Key: s.cfg.Key, Wait: true, Removed: s.skip, Most: s.cfg.Receiver.Most()}
		err := audit.Follow(s.ctx, s.cfg.Dir, want, s.take)
		if s.ctx.Err() == nil {
			s.failed(err)
			s.wait(maxPause / 10)
		}
	}
}

// skip notes what retention removed before it was shipped. Holds asks it not to.
func (s *Sink) skip(from, oldest uint64) {
	if from == 0 && s.cfg.FromStart {
		return // it was to begin with the oldest
	}
	s.skipped.Add(oldest - from)
	s.cfg.Logger.Error("audit records were removed before they were shipped", "sink", s.cfg.Name, "first", from, "next", oldest)
}

// take ships records that follow one another. Its error is that of Close.
func (s *Sink) take(records []audit.Record) error {
	messages := make([]Message, 0, len(records))
	for i := range records {
		r := &records[i]
		if len(s.cfg.Kinds) > 0 && !slices.Contains(s.cfg.Kinds, r.Kind) {
			continue
		}
		body, err := s.cfg.Encoder.Encode(r)
		if err != nil {
			return fmt.Errorf("record %d: %w", r.Seq, err)
		}
		messages = append(messages, Message{Kind: r.Kind, Time: r.Time, severity: severityOf(r), Body: body})
	}
	if len(messages) > 0 {
		if err := s.deliver(messages); err != nil {
			return err
		}
	}
	s.next.Store(records[len(records)-1].Seq + 1)
	return nil
}

// deliver delivers, again and again until it succeeds.
func (s *Sink) deliver(messages []Message) error {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := s.cfg.Receiver.Deliver(s.ctx, messages)
		if s.ctx.Err() != nil && err != nil {
			return err
		}
		if err == nil {
			s.delivered.Add(uint64(len(messages)))
			s.succeeded()
			return nil
		}
		s.failed(err)
		s.wait(pauseAfter(err, pause))
		if err := s.ctx.Err(); err != nil {
			return err
		}
	}
}

// pauseAfter is how long to wait after an error, where pause is this sink's own
// turn: no less than the receiver asks for.
func pauseAfter(err error, pause time.Duration) time.Duration {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		if refusal.Final {
			pause = slowPause
		}
		pause = max(pause, min(refusal.After, longestPause))
	}
	return pause
}

// wait waits for the pause and up to a quarter more, so that many gateways do
// not come back in step, or until Close.
func (s *Sink) wait(pause time.Duration) {
	timer := time.NewTimer(pause + rand.N(pause/4+1))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
}

func (s *Sink) failed(err error) {
	s.failures.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		s.since = time.Now()
	}
	s.why = err.Error()
	if time.Since(s.complained) >= complainEvery {
		s.complained, s.told = time.Now(), true
		s.cfg.Logger.Error("audit records cannot be shipped; they wait on disk", "sink", s.cfg.Name, "next", s.next.Load(), "error", err)
	}
}

func (s *Sink) succeeded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told {
		s.cfg.Logger.Info("audit records are shipped again", "sink", s.cfg.Name)
	}
	s.since, s.why, s.told = time.Time{}, "", false
}

// save writes the cursor now and then, and for the last time when run has no
// more to deliver.
func (s *Sink) save() {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.saveNow()
		case <-s.ctx.Done():
			return
		}
	}
}

// saveNow writes the cursor if it has moved. What cannot be written is written
// the next time: until then a start would deliver some records twice.
func (s *Sink) saveNow() {
	next := s.next.Load()
	if next == s.saved.Load() {
		return
	}
	if err := s.cursor.write(next); err != nil {
		s.cfg.Logger.Warn("an audit sink's cursor cannot be written", "sink", s.cfg.Name, "error", err)
		return
	}
	s.saved.Store(next)
}

// State tells how the sink is doing.
func (s *Sink) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return State{Next: s.next.Load(), Delivered: s.delivered.Load(), Failures: s.failures.Load(), Skipped: s.skipped.Load(), Since: s.since, Why: s.why}
}

// Name is the sink's name.
func (s *Sink) Name() string { return s.cfg.Name }

// Holds is the number of the first record that the sink needs: all before it
// are delivered, and a start would not deliver them again.
func (s *Sink) Holds() uint64 { return s.saved.Load() }

// Close ships what there is before number end, until ctx ends, and stops. What
// is left is shipped after the next Open. A sink that fails is not waited for.
func (s *Sink) Close(ctx context.Context, end uint64) {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for s.next.Load() < end && s.State().Since.IsZero() && ctx.Err() == nil {
		select {
		case <-poll.C:
		case <-ctx.Done():
		}
	}
	s.cancel()
	<-s.ended
	s.saveNow()
}
