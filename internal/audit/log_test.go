package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// TestLog is the life of a log: records, restarts, segments.
func TestLog(t *testing.T) {
	k := newKit(t)
	k.check()
	first := k.mustAppend(intent("r1"))
	if first.ID == "" || first.Time.IsZero() {
		t.Fatalf("Append did not fill in %+v", first)
	}
	if report := k.check(); report.OpenIntents != 1 {
		t.Fatalf("%d intents are open, want 1", report.OpenIntents)
	}
	second := k.mustAppend(outcome(first, audit.OutcomeFailed))
	if second.Seq != first.Seq+1 {
		t.Fatalf("numbers %d, %d", first.Seq, second.Seq)
	}
	k.mustAppend(audit.Record{Kind: audit.KindDenied, RequestID: "r2", Code: "permission_denied", Error: "METHOD_DENIED"})
	k.mustAppend(audit.Record{Kind: audit.KindOutcome, RequestID: "r3", Outcome: audit.OutcomeOK})
	k.mustAppend(audit.Record{Kind: audit.KindEvent, Event: "reloaded", Detail: map[string]string{"revision": "7"}})
	k.check()
	if err := k.log.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if report := k.check(); report.Segments != 2 || report.AfterHead != 0 {
		t.Fatalf("after a seal: %+v", report)
	}
	if err := k.log.Seal(t.Context()); err != nil || len(k.segments()) != 2 {
		t.Fatalf("sealing an empty segment: %v, %d segments", err, len(k.segments()))
	}
	for i := range 100 {
		k.call(fmt.Sprint("many-", i))
	}
	if report := k.check(); report.Segments < 3 {
		t.Fatalf("the segments never end: %+v", report)
	}
	k.close()
	report := k.check()
	if report.AfterHead != 0 || report.OpenIntents != 0 || report.SelfConsistentOnly || report.DamagedLeaves != nil || report.Voids != nil {
		t.Fatalf("after Close: %+v", report)
	}
	k.open()
	k.call("r4")
	k.check()
}

// TestLeftOpen: an intent that a process leaves behind becomes indeterminate
// at the next start, once, also if it lies several segments back.
func TestLeftOpen(t *testing.T) {
	k := newKit(t)
	left := k.mustAppend(intent("left"))
	for i := range 60 {
		k.call(fmt.Sprint("call-", i))
	}
	for range 3 {
		k.close()
		k.open()
		if report := k.check(); report.OpenIntents != 0 {
			t.Fatalf("%d intents are open", report.OpenIntents)
		}
	}
	k.settled("left", "outcome indeterminate unknown OUTCOME_UNKNOWN")
	got := k.records(audit.Filter{Intent: left.ID, Kind: audit.KindOutcome})[0]
	want := audit.Record{Seq: got.Seq, ID: got.ID, Time: got.Time, Kind: audit.KindOutcome, RequestID: "left", Intent: left.ID,
		Caller: left.Caller, Team: left.Team, Tenant: left.Tenant, Procedure: left.Procedure, Path: left.Path, UpstreamCredential: left.UpstreamCredential,
		Outcome: audit.OutcomeIndeterminate, Code: "unknown", Error: "OUTCOME_UNKNOWN"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the outcome (-want +got):\n%s", diff)
	}
	if err := k.log.Append(t.Context(), ptr(outcome(left, audit.OutcomeOK))); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("a second outcome: %v", err)
	}
	k.check()
}

// TestLeftOpenOwn: one of c1proxy's own methods has failed then, and no more: it
// was sent nowhere, so that there is nothing to look for.
func TestLeftOpenOwn(t *testing.T) {
	k := newKit(t)
	for id, procedure := range map[string]string{"tail": "/c1proxy.v1.AuditService/Tail", "other": "/c1.api.app.v1.Apps/Get"} {
		k.mustAppend(audit.Record{Kind: audit.KindIntent, RequestID: id, Caller: "bot", Team: "payments", Procedure: procedure})
	}
	k.close()
	k.open()
	k.settled("tail", "outcome failed unknown OUTCOME_UNKNOWN")
	k.settled("other", "outcome indeterminate unknown OUTCOME_UNKNOWN")
	k.check()
}

func ptr[T any](v T) *T { return &v }

// TestInvalid: what would break a promise of the log is refused, and nothing
// of it is written.
func TestInvalid(t *testing.T) {
	k := newKit(t)
	open := k.mustAppend(intent("open"))
	long := strings.Repeat("x", 65)
	for name, r := range map[string]audit.Record{
		"no kind":           {RequestID: "r"},
		"unknown kind":      {Kind: "intend"},
		"no outcome":        {Kind: audit.KindOutcome},
		"unknown outcome":   {Kind: audit.KindOutcome, Outcome: "fine"},
		"outcome of intent": {Kind: audit.KindIntent, Outcome: audit.OutcomeOK},
		"intent of denied":  {Kind: audit.KindDenied, Intent: open.ID},
		"no such intent":    {Kind: audit.KindOutcome, Outcome: audit.OutcomeOK, Intent: "nope"},
		"same intent":       {Kind: audit.KindIntent, ID: open.ID},
		"no event":          {Kind: audit.KindEvent},
		"event of intent":   {Kind: audit.KindIntent, Event: "x"},
		"long id":           {Kind: audit.KindIntent, ID: long},
		"control in id":     {Kind: audit.KindIntent, ID: "a\n"},
		"long intent":       {Kind: audit.KindOutcome, Outcome: audit.OutcomeOK, Intent: long},
		"path name":         {Kind: audit.KindIntent, Path: audit.Fields{{Name: "a b"}}},
		"detail name":       {Kind: audit.KindIntent, Detail: map[string]string{"": "x"}},
		"truncated name":    {Kind: audit.KindIntent, Truncated: []string{"\xff"}},
		"many truncated":    {Kind: audit.KindIntent, Truncated: strings.Split(strings.Repeat("x ", 17), " ")[:17]},
		"year 10000":        {Kind: audit.KindIntent, Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"negative duration": {Kind: audit.KindIntent, Duration: -time.Second},
	} {
		if err := k.log.Append(t.Context(), &r); !errors.Is(err, audit.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if report := k.check(); report.Records != open.Seq+1 {
		t.Errorf("%d records, want %d", report.Records, open.Seq+1)
	}
	k.mustAppend(outcome(open, audit.OutcomeOK))
	if k.log.Stats().Kept != 0 {
		t.Error("an invalid record was kept")
	}
}

// TestGroupCommit: the callers that wait share their syncs.
func TestGroupCommit(t *testing.T) {
	k := newKit(t, func(c *audit.Config) { c.SegmentBytes = 0 })
	before := k.log.Stats()
	const callers, calls = 64, 25
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range calls {
				in, err := k.append(context.Background(), intent(fmt.Sprint(c, "-", i)))
				if err == nil {
					_, err = k.append(context.Background(), outcome(in, audit.OutcomeOK))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	after := k.log.Stats()
	records, syncs := after.Records-before.Records, after.Syncs-before.Syncs
	t.Logf("%d records in %d syncs", records, syncs)
	if records != 2*callers*calls || syncs > records/4 {
		t.Errorf("%d records in %d syncs, want at least 4 in each", records, syncs)
	}
	k.check()
	if after.OpenIntents != 0 || after.Size != k.check().Records || after.Batches != syncs+before.Batches {
		t.Errorf("stats %+v", after)
	}
}

// TestRotateUnderLoad: sealing and size end segments under the callers' feet.
func TestRotateUnderLoad(t *testing.T) {
	k := newKit(t, func(c *audit.Config) { c.SegmentBytes = 8 << 10 })
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := range 50 {
				in, err := k.append(context.Background(), intent(fmt.Sprint(c, "-", i)))
				if err == nil {
					_, err = k.append(context.Background(), outcome(in, audit.OutcomeOK))
				}
				if err == nil && i%10 == 0 {
					err = k.log.Seal(context.Background())
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if report := k.check(); report.Segments < 20 || len(report.Voids) > 0 {
		t.Errorf("%+v", report)
	}
	k.close()
	k.check()
}

// TestSealUnderLoad: however much there is to write, a seal has its turn, and so
// do the other duties of the goroutine that writes.
func TestSealUnderLoad(t *testing.T) {
	k := newKit(t, func(c *audit.Config) { c.MaxWait, c.SegmentBytes = 2*time.Second, 0 })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for n := 0; n < 2000 && ctx.Err() == nil; n++ {
				if err := k.log.Append(context.Background(), &audit.Record{Kind: audit.KindDenied, Caller: "bot"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 5 {
		if err := k.log.Seal(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := k.log.Stats().Records; n > 5000 {
		t.Errorf("the seals had to wait for %d records", n)
	}
	cancel()
	wg.Wait()
	k.check()
}

// TestHead: the head follows the log within a second, without anyone's asking,
// and is not rewritten while nothing happens.
func TestHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		if report := k.check(); report.AfterHead != 0 || report.HeadSize == 0 {
			t.Fatalf("after Open: %+v", report)
		}
		for range 3 {
			k.call(fmt.Sprint(k.log.Stats().Size))
			time.Sleep(1100 * time.Millisecond)
			if report := k.check(); report.AfterHead != 0 {
				t.Fatalf("a second later: %+v", report)
			}
		}
		before, _ := os.Stat(filepath.Join(k.cfg.Dir, "checkpoint"))
		time.Sleep(time.Minute)
		if after, _ := os.Stat(filepath.Join(k.cfg.Dir, "checkpoint")); !os.SameFile(before, after) {
			t.Error("the head was rewritten although nothing had changed")
		}
		k.close()
	})
}

// TestClosed: a closed log takes nothing, says so, and can be closed again.
func TestClosed(t *testing.T) {
	k := newKit(t)
	l := k.log
	k.close()
	if err := l.Append(t.Context(), ptr(intent("late"))); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("append: %v", err)
	}
	if err := l.Seal(t.Context()); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("seal: %v", err)
	}
	if err := l.Healthy(); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("healthy: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
	if got := k.event(audit.EventStopped); got.Seq+1 != k.check().Records {
		t.Errorf("the last record is not the stop, but it is %d", got.Seq)
	}
}

// TestCloseFlushes: what was queued before Close is written.
func TestCloseFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		release := k.log.Stall()
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if _, err := k.append(context.Background(), intent(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		closed := make(chan error)
		go func() { closed <- k.log.Close() }()
		synctest.Wait()
		release()
		if err := <-closed; err != nil {
			t.Error(err)
		}
		wg.Wait()
		if report := k.check(); report.OpenIntents != 10 {
			t.Errorf("%d open intents, want 10", report.OpenIntents)
		}
	})
}
