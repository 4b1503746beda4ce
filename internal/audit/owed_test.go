package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// appendAsync appends in the background and returns where the error comes.
func (k *kit) appendAsync(ctx context.Context, r audit.Record) chan error {
	result := make(chan error, 1)
	go func() {
		_, err := k.append(ctx, r)
		result <- err
	}()
	return result
}

// TestQueuedIntentGivenUp: an intent that was not being written yet is never
// written; its call is denied in its place.
func TestQueuedIntentGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		wait  func(context.CancelFunc)
		is    error
		final string
	}{
		"cancelled": {func(cancel context.CancelFunc) { cancel() }, context.Canceled, "denied not_sent canceled CANCELED"},
		"deadline":  {func(context.CancelFunc) { time.Sleep(2 * time.Second) }, context.DeadlineExceeded, "denied not_sent deadline_exceeded DEADLINE_EXCEEDED"},
		"max wait":  {func(context.CancelFunc) { time.Sleep(6 * time.Second) }, audit.ErrUnavailable, "denied not_sent unavailable AUDIT_UNAVAILABLE"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				release := k.log.Stall()
				ctx, cancel := context.WithCancel(context.Background())
				if name == "deadline" {
					ctx, cancel = context.WithTimeout(ctx, time.Second)
				}
				defer cancel()
				result := k.appendAsync(ctx, intent("given-up"))
				other := k.appendAsync(context.Background(), audit.Record{Kind: audit.KindDenied, RequestID: "other"})
				synctest.Wait()
				c.wait(cancel)
				if err := <-result; !errors.Is(err, c.is) {
					t.Errorf("append: %v, want %v", err, c.is)
				}
				release()
				if err := <-other; err != nil && name != "max wait" {
					t.Errorf("the other append: %v", err)
				}
				synctest.Wait()
				k.settled("given-up", c.final)
				if got := k.records(audit.Filter{RequestID: "given-up"}); len(got) != 1 {
					t.Errorf("got %d records, want the final one only", len(got))
				}
				k.settled("other", "denied")
				k.close()
				k.check()
			})
		})
	}
}

// TestWrittenIntentGivenUp: an intent that reached the disk after its Append
// had given up gets an outcome: it was not sent.
func TestWrittenIntentGivenUp(t *testing.T) {
	const maxWait = time.Second
	k := newKit(t, func(c *audit.Config) { c.MaxWait = maxWait })
	release := k.log.HoldTree()
	in := intent("given-up")
	if err := k.log.Append(t.Context(), &in); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("append: %v", err)
	}
	in.Caller = "someone else" // the caller may use its record again
	if err := k.log.Healthy(); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("healthy while the disk does not answer: %v", err)
	}
	start := time.Now()
	if err := k.log.Append(t.Context(), ptr(intent("meanwhile"))); !errors.Is(err, audit.ErrUnavailable) || time.Since(start) >= maxWait {
		t.Errorf("append while the disk does not answer: %v after %v", err, time.Since(start))
	}
	release()
	k.settled("given-up", "outcome not_sent unavailable AUDIT_UNAVAILABLE")
	k.settled("meanwhile", "denied not_sent unavailable AUDIT_UNAVAILABLE")
	if got := k.records(audit.Filter{RequestID: "given-up", Caller: "bot"}); len(got) != 2 {
		t.Errorf("got %d records, want the intent and its outcome", len(got))
	}
	if err := k.log.Healthy(); err != nil {
		t.Error(err)
	}
	eventually(t, func() string {
		if got := k.records(audit.Filter{Event: audit.EventGap}); len(got) != 1 || got[0].Detail["refused"] != "2" {
			return fmt.Sprintf("got %+v, want a gap of 2", got)
		}
		return ""
	})
	if report := k.check(); report.OpenIntents != 0 {
		t.Errorf("%d open intents", report.OpenIntents)
	}
}

// TestFinalGivenUp: a final record is written though nobody waits any more.
func TestFinalGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		in := k.mustAppend(intent("call"))
		release := k.log.Stall()
		ctx, cancel := context.WithCancel(context.Background())
		result := k.appendAsync(ctx, outcome(in, audit.OutcomeOK))
		synctest.Wait()
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("append: %v", err)
		}
		release()
		synctest.Wait()
		k.settled("call", "outcome ok ok")
		k.close()
		k.check()
	})
}

// TestOverload: a full queue refuses at once, and forgets no final record.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *audit.Config) { c.MaxQueue = 4 })
		in := k.mustAppend(intent("call"))
		release := k.log.Stall()
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				if _, err := k.append(context.Background(), intent(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if got := k.log.Stats().Queued; got != 4 {
			t.Errorf("%d are queued, want 4", got)
		}
		start := time.Now()
		for _, r := range []audit.Record{intent("too-many"), outcome(in, audit.OutcomeOK)} {
			if err := k.log.Append(context.Background(), &r); !errors.Is(err, audit.ErrOverloaded) {
				t.Errorf("append of %s: %v", r.Kind, err)
			}
		}
		if time.Since(start) > 0 {
			t.Errorf("refused after %v", time.Since(start))
		}
		release()
		wg.Wait()
		time.Sleep(1001 * time.Millisecond)
		k.settled("too-many", "denied not_sent unavailable AUDIT_UNAVAILABLE")
		k.settled("call", "outcome ok ok")
		if got := k.event(audit.EventGap).Detail; got["refused"] != "2" || got["lost"] != "0" {
			t.Errorf("gap %v", got)
		}
		k.close()
		k.check()
	})
}

// TestKeptBound: what is kept is bounded, the oldest goes first, it is
// counted, and refusals never push out an outcome.
func TestKeptBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *audit.Config) { c.MaxQueue, c.SegmentBytes = 1, 0 })
		in := k.mustAppend(intent("call"))
		release := k.log.Stall()
		queued := k.appendAsync(context.Background(), intent("queued"))
		synctest.Wait()
		_ = k.log.Append(context.Background(), ptr(outcome(in, audit.OutcomeOK)))
		for i := range audit.MaxKept + 3 {
			_ = k.log.Append(context.Background(), &audit.Record{Kind: audit.KindDenied, Caller: "bot", RequestID: fmt.Sprint("r", i)})
		}
		if got := k.log.Stats(); got.Kept != audit.MaxKept+1 || got.Lost != 3 {
			t.Errorf("%d are kept and %d lost", got.Kept, got.Lost)
		}
		release()
		if err := <-queued; err != nil {
			t.Error(err)
		}
		time.Sleep(1001 * time.Millisecond)
		k.settled("call", "outcome ok ok")
		refused := k.records(audit.Filter{Kind: audit.KindDenied})
		if len(refused) != audit.MaxKept || refused[0].RequestID != "r3" {
			t.Errorf("%d refusals from %s on, want those from r3", len(refused), refused[0].RequestID)
		}
		if got := k.event(audit.EventGap).Detail; got["lost"] != "3" {
			t.Errorf("gap %v", got)
		}
		k.close()
		k.check()
	})
}

// TestCloseIsBounded: a disk that does not answer does not keep Close.
func TestCloseIsBounded(t *testing.T) {
	k := newKit(t, func(c *audit.Config) { c.MaxWait = 50 * time.Millisecond })
	release := k.log.HoldTree()
	_ = k.log.Append(t.Context(), ptr(intent("stuck")))
	start := time.Now()
	if err := k.log.Close(); !errors.Is(err, audit.ErrUnavailable) || time.Since(start) > 5*time.Second {
		t.Errorf("close: %v after %v", err, time.Since(start))
	}
	release()
	eventually(t, func() string {
		if err := k.log.Close(); err != nil {
			return err.Error()
		}
		return ""
	})
	k.log = nil
	k.open()
	k.check()
	k.settled("stuck", "outcome not_sent unavailable AUDIT_UNAVAILABLE")
}

// TestOpenErrors: each thing that cannot be opened says what and where.
func TestOpenErrors(t *testing.T) {
	base := fastDir(t)
	good := audit.Config{Dir: filepath.Join(base, "log"), KeyFile: filepath.Join(base, "key")}
	for name, change := range map[string]func(*audit.Config){
		"no dir":         func(c *audit.Config) { c.Dir = "" },
		"no key":         func(c *audit.Config) { c.KeyFile = "" },
		"negative":       func(c *audit.Config) { c.MaxQueue = -1 },
		"key in log":     func(c *audit.Config) { c.KeyFile = filepath.Join(c.Dir, "key") },
		"key nowhere":    func(c *audit.Config) { c.KeyFile = filepath.Join(base, "no", "key") },
		"dir is a file":  func(c *audit.Config) { c.Dir = "/dev/null" },
		"below a file":   func(c *audit.Config) { c.Dir = "/dev/null/log" },
		"origin invalid": func(c *audit.Config) { c.Origin = "a b" },
	} {
		cfg := good
		change(&cfg)
		l, err := audit.Open(t.Context(), cfg)
		if err == nil {
			t.Errorf("%s: opened", name)
			_ = l.Close()
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

// TestKeptBytes: what is kept is bounded in bytes too, however large records
// are. Outcomes push out refusals, of which those without a caller are merged,
// and the others counted as lost.
func TestKeptBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *audit.Config) { c.SegmentBytes = 0 })
		must(t, os.Rename(k.cfg.Dir, k.cfg.Dir+".moved"))
		time.Sleep(1100 * time.Millisecond)
		long := strings.Repeat("x", 250)
		large := audit.Record{Reason: strings.Repeat("x", 1000), Detail: map[string]string{}}
		for i := range 12 {
			name := fmt.Sprint("n", i)
			large.Path, large.Detail[name] = append(large.Path, audit.Field{Name: name, Value: long}), long
			large.Request = append(large.Request, audit.Field{Name: name, Value: long})
		}
		add := func(r audit.Record, n int) {
			for range n {
				r.ID = ""
				r.Reason, r.Path, r.Request, r.Detail = large.Reason, large.Path, large.Request, large.Detail
				_ = k.log.Append(context.Background(), &r)
			}
		}
		add(audit.Record{Kind: audit.KindDenied}, 50)
		const refusals, outcomes = 6000, 8000
		add(audit.Record{Kind: audit.KindDenied, Caller: "bot"}, refusals)
		some := k.log.Stats()
		if some.Lost == 0 || some.Kept+int(some.Lost) != 50+refusals {
			t.Errorf("%d are kept and %d lost of %d", some.Kept, some.Lost, refusals)
		}
		add(audit.Record{Kind: audit.KindOutcome, Outcome: audit.OutcomeOK}, outcomes)
		got := k.log.Stats()
		if got.Kept+int(got.Lost) != 50+refusals+outcomes || got.Lost < refusals || got.Kept > 10_000 {
			t.Errorf("%d are kept and %d lost", got.Kept, got.Lost)
		}
		must(t, os.Rename(k.cfg.Dir+".moved", k.cfg.Dir))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if _, sum := k.refusals(); sum != 50 {
			t.Errorf("%d refusals without a caller are counted, want 50", sum)
		}
		written := len(k.records(audit.Filter{Kind: audit.KindOutcome}))
		lost := 0
		for _, gap := range k.records(audit.Filter{Event: audit.EventGap}) {
			n, _ := strconv.Atoi(gap.Detail["lost"])
			lost += n
		}
		t.Logf("%d refusals and %d outcomes: %d outcomes written, %d lost", refusals, outcomes, written, lost)
		if uint64(lost) != got.Lost || written+lost != refusals+outcomes {
			t.Errorf("the gap tells of %d lost, want %d", lost, got.Lost)
		}
		k.close()
		k.check()
	})
}
