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
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/audit"
)

var errEnough = errors.New("enough")

// seqs follows to the head and returns the numbers that came.
func (k *kit) seqs(want audit.Range) (seqs []uint64, err error) {
	err = audit.Follow(context.Background(), k.cfg.Dir, want, func(records []audit.Record) error {
		for _, r := range records {
			seqs = append(seqs, r.Seq)
		}
		return nil
	})
	return seqs, err
}

// A watcher follows a log in the background.
type watcher struct {
	stop  context.CancelFunc
	ended chan error

	mu      sync.Mutex
	records []audit.Record
}

func (k *kit) watch(want audit.Range) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{stop: cancel, ended: make(chan error, 1)}
	want.Wait = true
	go func() {
		w.ended <- audit.Follow(ctx, k.cfg.Dir, want, func(records []audit.Record) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.records = append(w.records, records...)
			return nil
		})
	}()
	k.t.Cleanup(cancel)
	return w
}

func (w *watcher) seen() []audit.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.records[:len(w.records):len(w.records)]
}

// A follower sees each record once and in order, over segments that end, and
// over a gateway that stops and starts again.
func TestFollow(t *testing.T) {
	k := newKit(t)
	k.call("before")
	w := k.watch(audit.Range{Key: k.vkey(), Most: 7})
	for i := range 100 { // several segments of 16 KiB
		k.call(fmt.Sprint("a", i))
	}
	if err := k.log.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.call("sealed")
	k.close()
	k.open()
	k.call("after")
	k.close()
	want := k.records(audit.Filter{})
	eventually(t, func() string {
		if len(w.seen()) < len(want) {
			return fmt.Sprintf("%d of %d records came", len(w.seen()), len(want))
		}
		return ""
	})
	w.stop()
	if err := <-w.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if diff := cmp.Diff(want, w.seen()); diff != "" {
		t.Errorf("(-queried +followed):\n%.2000s", diff)
	}
	if len(k.segments()) < 4 {
		t.Errorf("only %d segments: not much was tested", len(k.segments()))
	}
	for _, want := range []audit.Range{{From: 3}, {From: 40, End: 41}, {End: 9, Most: 2}, {From: 1 << 40}} {
		seqs, err := k.seqs(want)
		first, last := want.From, uint64(len(w.seen()))
		if want.End > 0 {
			last = want.End
		}
		for i := first; i < last; i++ {
			if len(seqs) == 0 || seqs[0] != i {
				t.Fatalf("%+v: record %d does not come next: %v", want, i, seqs)
			}
			seqs = seqs[1:]
		}
		if len(seqs) > 0 || err != nil {
			t.Errorf("%+v: beyond its end came %v, %v", want, seqs, err)
		}
	}
}

// What no head covers is not shown, even if it is on disk: it may be void yet.
func TestFollowStopsAtTheHead(t *testing.T) {
	k := newKit(t)
	k.call("signed")
	k.close()
	head, err := os.ReadFile(filepath.Join(k.cfg.Dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := k.seqs(audit.Range{})
	if err != nil || len(signed) == 0 {
		t.Fatal(signed, err)
	}
	k.open()
	k.call("not signed")
	k.close()
	if err := os.WriteFile(filepath.Join(k.cfg.Dir, "checkpoint"), head, 0o600); err != nil {
		t.Fatal(err)
	}
	seqs, err := k.seqs(audit.Range{Key: k.vkey()})
	if diff := cmp.Diff(signed, seqs); diff != "" || err != nil {
		t.Errorf("%v (-signed +followed):\n%s", err, diff)
	}
	// A head by another key covers nothing.
	if _, err := k.seqs(audit.Range{Key: newKit(t).vkey()}); err == nil {
		t.Error("a head by another key was taken")
	}
}

// What follows a segment's end is void, and what a follower has read ahead of
// the head is read again: bytes that were there have been replaced.
func TestFollowReadsNothingAhead(t *testing.T) {
	k := newKit(t)
	k.call("one")
	k.close()
	w := k.watch(audit.Range{})
	size := len(k.records(audit.Filter{}))
	eventually(t, func() string {
		if len(w.seen()) < size {
			return "the beginning has not come"
		}
		return ""
	})
	// As a write that failed leaves it: a whole record with the next number.
	name := k.newest()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	last := lines[len(lines)-1]
	void := strings.Replace(last, fmt.Sprintf(`{"seq":%d,`, size-1), fmt.Sprintf(`{"seq":%d,`, size), 1)
	if void == last {
		t.Fatalf("the last line is %s", last)
	}
	if err := os.WriteFile(name, append(data, void+"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(600 * time.Millisecond) // two polls, in which nothing may come
	if n := len(w.seen()); n != size {
		t.Fatalf("%d records came, the head covers %d", n, size)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil { // rewound
		t.Fatal(err)
	}
	k.open()
	k.call("two")
	k.close()
	want := k.records(audit.Filter{})
	eventually(t, func() string {
		if len(w.seen()) < len(want) {
			return fmt.Sprintf("%d of %d records came", len(w.seen()), len(want))
		}
		return ""
	})
	if diff := cmp.Diff(want, w.seen()); diff != "" {
		t.Errorf("(-queried +followed):\n%.2000s", diff)
	}
}

// A segment that retention has removed is told, with the oldest that is left.
func TestFollowAfterRemoval(t *testing.T) {
	k := newKit(t)
	for i := range 200 {
		k.call(fmt.Sprint(i))
	}
	k.close()
	names := k.segments()
	oldest := uint64(0)
	if _, err := fmt.Sscanf(filepath.Base(names[2]), "%d.jsonl", &oldest); err != nil {
		t.Fatal(err)
	}
	for _, name := range names[:2] {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	var removed *audit.RemovedError
	if _, err := k.seqs(audit.Range{From: 5}); !errors.As(err, &removed) || removed.From != 5 || removed.Oldest != oldest {
		t.Errorf("got %v, want the oldest record, %d", err, oldest)
	}
	var told []uint64
	seqs, err := k.seqs(audit.Range{From: 5, Removed: func(from, oldest uint64) { told = append(told, from, oldest) }})
	if diff := cmp.Diff([]uint64{5, oldest}, told); diff != "" || err != nil || len(seqs) == 0 || seqs[0] != oldest {
		t.Errorf("%v, from %v: %s", err, seqs[:1], diff)
	}
	// In the middle it is no retention.
	if err := os.Remove(names[4]); err != nil {
		t.Fatal(err)
	}
	var corrupt *audit.CorruptError
	if _, err := k.seqs(audit.Range{From: oldest}); !errors.As(err, &corrupt) {
		t.Errorf("a hole gives %v", err)
	}
}

// A log that was replaced by an older copy is not followed any further.
func TestFollowRefusesAnOlderCopy(t *testing.T) {
	k := newKit(t)
	k.close()
	head, err := os.ReadFile(filepath.Join(k.cfg.Dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	k.open()
	k.call("more")
	k.close()
	w := k.watch(audit.Range{})
	eventually(t, func() string {
		if len(w.seen()) == 0 {
			return "nothing came"
		}
		return ""
	})
	if err := os.WriteFile(filepath.Join(k.cfg.Dir, "checkpoint"), head, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-w.ended; err == nil || !strings.Contains(err.Error(), "older copy") {
		t.Errorf("it ended with %v", err)
	}
}

// The end of yield is the end of Follow, and there is nothing to follow where
// there is no log.
func TestFollowEnds(t *testing.T) {
	k := newKit(t)
	k.call("one")
	k.close()
	err := audit.Follow(t.Context(), k.cfg.Dir, audit.Range{Wait: true}, func([]audit.Record) error { return errEnough })
	if !errors.Is(err, errEnough) {
		t.Errorf("got %v", err)
	}
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if err := audit.Follow(t.Context(), dir, audit.Range{Wait: true}, nil); err == nil {
			t.Errorf("%s was followed", dir)
		}
		if _, err := audit.Origin(dir); err == nil {
			t.Errorf("%s has an origin", dir)
		}
	}
	if origin, err := audit.Origin(k.cfg.Dir); origin != "example.com/log" || err != nil {
		t.Errorf("origin %s, %v", origin, err)
	}
}

// BenchmarkFollow reads a log of 20,000 calls.
func BenchmarkFollow(b *testing.B) {
	dir := fastDir(b)
	cfg := audit.Config{Dir: filepath.Join(dir, "log"), KeyFile: filepath.Join(dir, "key")}
	l, err := audit.Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	var callers sync.WaitGroup
	for range 200 {
		callers.Go(func() {
			for i := range 100 {
				in := intent(fmt.Sprint(i))
				_ = l.Append(context.Background(), &in)
				out := outcome(in, audit.OutcomeOK)
				_ = l.Append(context.Background(), &out)
			}
		})
	}
	callers.Wait()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	n := 0
	for range b.N {
		n = 0
		if err := audit.Follow(b.Context(), cfg.Dir, audit.Range{}, func(records []audit.Record) error { n += len(records); return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
