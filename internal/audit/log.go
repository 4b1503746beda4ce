package audit

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// A Config says where a log is and how it behaves.
type Config struct {
	// Dir is the log's directory. It is made if it is missing, its parents too.
	// Only one process at a time may have it open.
	Dir string
	// KeyFile holds the key that signs the heads. It is made at the first start.
	// It must not lie inside Dir.
	KeyFile string
	// Origin names the log in its signed heads, uniquely in the world: a host
	// name and a path without scheme. Empty stands for the key's own, or, where
	// there is no key yet, for a random one.
	Origin string
	// SegmentBytes is where a new segment is begun. 0 stands for 64 MiB.
	SegmentBytes int64
	// MaxWait bounds how long Append, Seal and Close wait for the disk. 0 stands
	// for 5 seconds.
	MaxWait time.Duration
	// MaxQueue bounds the records that wait to be written. 0 stands for 10,000.
	// Refusals without a caller take at most half of it.
	MaxQueue int
	// MinFreeBytes is the free space of the file system below which the log
	// warns, in its Logger and its Stats. 0 stands for none.
	MinFreeBytes uint64
	// ReserveBytes is the free space that is left to those who have a caller:
	// below it, refusals without one are only counted, in one record each ten
	// seconds. 0 stands for none.
	ReserveBytes uint64
	// Retain says what becomes of old segments. The zero value keeps them all.
	Retain Retain
	// Holds returns the lowest number of a record that someone still needs, such
	// as one who exports them: retention stops before it. It must not block. Nil
	// needs none.
	Holds func() uint64
	// Logger may be nil.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 64 << 20
	}
	if c.MaxWait == 0 {
		c.MaxWait = 5 * time.Second
	}
	if c.MaxQueue == 0 {
		c.MaxQueue = 10_000
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// check refuses what cannot be meant.
func (c Config) check() error {
	switch {
	case c.Dir == "":
		return fmt.Errorf("open audit log: no directory is configured")
	case c.KeyFile == "":
		return fmt.Errorf("open audit log: no key file is configured")
	case c.Retain.Age < 0 || c.Retain.Bytes < 0:
		return fmt.Errorf("open audit log: a limit of retention is negative")
	case c.SegmentBytes < 0 || c.MaxWait < 0 || c.MaxQueue < 0:
		return fmt.Errorf("open audit log: a limit is negative")
	}
	return nil
}

// A Log is an open audit log. It is safe for concurrent use.
type Log struct {
	cfg Config
	key *Key
	// pool holds entries that nobody uses.
	pool sync.Pool

	// wake has one token if there may be something to write.
	wake chan struct{}
	// grown has one token if there may be something to sign.
	grown chan struct{}
	// seals carries the requests of Seal.
	seals chan chan error
	// rolled has one token if there may be something to remove, sealed if there
	// may be a segment to index.
	rolled, sealed chan struct{}
	// stop is closed by Close, stopped when nothing writes or signs any more,
	// indexed when nothing makes an index any more.
	stop, stopped, indexed chan struct{}
	// busy is when the disk was last given something to do, in Unix
	// nanoseconds; 0 while it has nothing to do.
	busy atomic.Int64

	// writer belongs to the goroutine of commits: see run.
	writer *writer
	// alarm is the pending event of someone's touching the files; nil if there
	// is none. It belongs to run.
	alarm map[string]string
	// spaceEvent is the pending event of space's becoming scarce, or no longer
	// being so; nil if there is none. It belongs to run.
	spaceEvent *Record
	// retry wakes run while the disk fails. retryAfter is its next delay.
	retry      *time.Timer
	retryAfter time.Duration

	mu       sync.Mutex
	closed   bool     // guarded by mu
	closeErr error    // set before stopped is closed
	queue    []*batch // guarded by mu: in the order of writing
	queued   int      // guarded by mu: entries in queue
	kept     kept     // guarded by mu: final records to be written later
	flood    flood    // guarded by mu
	space    space    // guarded by mu
	gap      gap      // guarded by mu
	stats    Stats    // guarded by mu

	retention retention // its maps and numbers are guarded by mu

	// complained is when a failure was last logged, by its message.
	complained map[string]time.Time // guarded by mu

	signers, retainers sync.WaitGroup

	signing sync.Mutex
	signed  uint64 // guarded by signing: the size of the newest signed head
}

// A gap is a time in which appends are refused. It outlives the failure until
// its event is on disk.
type gap struct {
	// err is the failure that lasts; nil if there is none.
	err error
	// since and cause are of the first refusal that no event has told of.
	since time.Time
	cause string
	// refused counts the appends refused, lost the final records that had to be
	// dropped.
	refused, lost uint64
}

// Stats are counts since the log was opened, and some that tell its state.
type Stats struct {
	// Size is the number of records in the log. Records counts those written.
	Size, Records uint64
	// Batches counts the commits that succeeded, Syncs all that were tried,
	// Failures those that failed.
	Batches, Syncs, Failures uint64
	// Refused counts the appends that returned an error.
	Refused uint64
	// Queued is the number of records that wait for the disk. Kept is that of
	// final records that could not be written and wait for it to recover; Lost
	// counts those that were dropped, there being too many.
	Queued, Kept int
	Lost         uint64
	OpenIntents  int
	// Segments counts the segments opened, Alarms how often someone else had
	// touched the files.
	Segments, Alarms uint64
	// Merged counts the refusals without a caller that share a record.
	Merged uint64
	// FreeBytes and DiskBytes are of the directory's file system, as of at most
	// a second ago; both are 0 if that is not known. Low and Scarce tell whether
	// there is less than Config.MinFreeBytes and Config.ReserveBytes.
	FreeBytes, DiskBytes uint64
	Low, Scarce          bool
	// HeadSize is the number of records that the newest signed head covers.
	// HeadFailures counts the heads that could not be written.
	HeadSize, HeadFailures uint64
	// Oldest is the first record that the directory still has; those before it
	// were removed by retention. Removed counts the segments that were. HeldBack:
	// the oldest is due, but still needed, or cannot be archived or removed.
	Oldest, Removed uint64
	HeldBack        bool
}

// Append writes a record, and returns nil when it is on disk. It fills in
// r.Seq, and r.ID and r.Time if they are empty. The caller must not change r
// meanwhile.
//
// A refusal without a caller may share a record with others, which counts them:
// see tally. Then r.ID and r.Seq are that record's.
//
// It waits until ctx is done, or for [Config.MaxWait]. An error is
// [ErrUnavailable], [ErrOverloaded], [ErrDeferred], [ErrClosed], [ErrInvalid] or
// the cause of ctx. It does not mean that the record will never be in the log.
// In any case of an error:
//
//   - Of an intent: the caller must not send the call, and must not append
//     anything more for it. The log itself writes the call's final record as
//     soon as it can: an outcome not_sent if the intent turns out to be on disk,
//     a denied if not.
//   - Of a final record: the log keeps it and writes it as soon as it can. The
//     caller must not append it again.
//   - Of an event: it may be lost.
//
// What is kept lives in memory. If the process ends first, or if more than
// 10,000 outcomes or refusals or 64 MiB are kept, final records are lost; the
// event "gap" counts them, and an intent without an outcome becomes indeterminate at the next
// start. After ErrClosed and ErrInvalid nothing is kept.
func (l *Log) Append(ctx context.Context, r *Record) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("append record: %w", err)
	}
	if len(r.Truncated) > maxTruncated {
		return fmt.Errorf("append record: %w: %d names in truncated", ErrInvalid, len(r.Truncated))
	}
	if r.ID == "" {
		r.ID = rand.Text()
	}
	if r.Time.IsZero() {
		r.Time = time.Now().UTC()
	}
	var single *tally
	if faceless(r) {
		one := tallyOf(r)
		if c, err := l.join(&one); err != nil {
			return err
		} else if c != nil {
			return l.await(ctx, c, r)
		}
		single = &one
	}
	e := l.pool.Get().(*entry)
	e.set(r)
	e.faceless = single
	b, err := l.enqueue(ctx, e)
	if err != nil {
		return err
	}
	e.timer.Reset(l.cfg.MaxWait)
	select {
	case <-b.done:
	case <-ctx.Done():
		err = l.leave(e, b, fmt.Errorf("append record: %w", context.Cause(ctx)))
	case <-e.timer.C:
		err = l.leave(e, b, fmt.Errorf("append record: %w: it is not on disk after %v", ErrUnavailable, l.cfg.MaxWait))
	}
	e.timer.Stop()
	if err != nil {
		return err // the entry now belongs to run
	}
	if b.err != nil {
		return b.err
	}
	r.Seq, err = e.seq, e.err
	l.pool.Put(e)
	return err
}

// enqueue adds an entry to the last batch, or refuses it.
func (l *Log) enqueue(ctx context.Context, e *entry) (*batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("append record: %w", ErrClosed)
	}
	if err := l.reject(ctx, e); err != nil {
		if e.faceless != nil {
			l.flood.queued--
		}
		l.refuse(e, err)
		return nil, err
	}
	var b *batch
	if n := len(l.queue); n > 0 && l.queue[n-1].bytes < maxBatch {
		b = l.queue[n-1]
	} else {
		b = &batch{done: make(chan struct{})}
		l.queue = append(l.queue, b)
		poke(l.wake)
	}
	b.entries = append(b.entries, e)
	b.bytes += len(e.body)
	l.queued++
	return b, nil
}

// reject returns why an entry cannot be queued. l.mu is held.
func (l *Log) reject(ctx context.Context, e *entry) error {
	err := l.failing()
	switch {
	case err != nil:
		return err
	case l.queued >= l.cfg.MaxQueue:
		return fmt.Errorf("append record: %w: %d records wait", ErrOverloaded, l.queued)
	case e.kind == KindIntent && ctx.Err() != nil:
		return fmt.Errorf("append record: %w", context.Cause(ctx))
	}
	return nil
}

// failing returns why the disk cannot be written to. l.mu is held.
func (l *Log) failing() error {
	switch {
	case l.gap.err != nil:
		return fmt.Errorf("append record: %w: %w", ErrUnavailable, l.gap.err)
	case l.hung() > l.cfg.MaxWait:
		return fmt.Errorf("append record: %w: the disk has not answered for %v", ErrUnavailable, l.hung().Round(time.Millisecond))
	}
	return nil
}

// hung is for how long the disk has not answered.
func (l *Log) hung() time.Duration {
	busy := l.busy.Load()
	if busy == 0 {
		return 0
	}
	return time.Since(time.Unix(0, busy))
}

// leave gives up on an entry, whose Append returns err, unless it is settled
// by now. An intent that is not being written yet never will be.
func (l *Log) leave(e *entry, b *batch, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.settled {
		return nil
	}
	l.count(err)
	if e.kind != KindIntent {
		e.record = nil
		return err
	}
	if b.taken {
		e.owed, e.why = e.record.clone(), err
		b.left = true
	} else {
		e.cancelled = true
		l.keep(denied(e.record, err))
	}
	e.record = nil
	return err
}

// poke leaves a token in c.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Healthy returns nil if appends are expected to work, and otherwise why not:
// [ErrUnavailable] or [ErrClosed].
func (l *Log) Healthy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.gap.err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, l.gap.err)
	case l.hung() > l.cfg.MaxWait:
		return fmt.Errorf("%w: the disk has not answered for %v", ErrUnavailable, l.hung().Round(time.Millisecond))
	}
	return nil
}

// VerifierKey is the public half of the log's key, for [Verify].
func (l *Log) VerifierKey() string { return l.key.VerifierKey() }

// Origin is the log's name in its signed heads.
func (l *Log) Origin() string { return l.key.Origin() }

// Dir is the log's directory.
func (l *Log) Dir() string { return l.cfg.Dir }

// Stats returns the counts of now. It is cheap.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Queued, s.Kept = l.queued, l.kept.count()
	s.FreeBytes, s.DiskBytes, s.Low, s.Scarce = l.space.free, l.space.total, l.space.low, l.space.scarce
	return s
}
