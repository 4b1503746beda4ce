package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// stranger is a refusal without a caller, as the gateway writes it.
func stranger(request, peer string) *audit.Record {
	return &audit.Record{Kind: audit.KindDenied, Outcome: audit.OutcomeNotSent, RequestID: request, Peer: peer, Door: "grpc",
		Code: "unauthenticated", Error: "UNAUTHENTICATED", Procedure: "/c1.api.app.v1.Apps/Get", PolicyRevision: "7"}
}

// hostile is the largest that a stranger can provoke.
func hostile(request, peer string) *audit.Record {
	r := stranger(request, peer)
	r.ClientRequestID, r.Reason, r.Procedure = strings.Repeat("\x01", 256), strings.Repeat("\x02", 512), "/"+strings.Repeat("\x03", 400)
	return r
}

// refusals returns how many refusals without a caller each record counts, by
// its number, and how many all do.
func (k *kit) refusals() (counts map[uint64]int, sum int) {
	k.t.Helper()
	counts = map[uint64]int{}
	for _, r := range k.records(audit.Filter{Kind: audit.KindDenied}) {
		if r.Caller != "" {
			continue
		}
		counts[r.Seq] = 1
		if count := r.Detail["count"]; count != "" {
			n, err := strconv.Atoi(count)
			if err != nil || n < 1 || r.RequestID != "" || r.ClientRequestID != "" {
				k.t.Fatalf("a count of %q: %+v", count, r)
			}
			counts[r.Seq] = n
		}
		sum += counts[r.Seq]
	}
	return counts, sum
}

// TestFlood: 20,000 refusals, as large as can be, from one peer and from
// 10,000. Each is answered, with the record on disk that counts it, and the disk
// takes a bounded number of bytes a second.
func TestFlood(t *testing.T) {
	for name, c := range map[string]struct {
		peers, most int // bytes a second
	}{"one peer": {1, 400 << 10}, "10,000 peers": {10_000, 500 << 10}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, func(c *audit.Config) { c.SegmentBytes = 0 })
				const all, callers = 20_000, 1000
				answered := make([]uint64, all)
				start := time.Now()
				var wg sync.WaitGroup
				for c1 := range callers {
					wg.Go(func() {
						for i := c1; i < all; i += callers {
							n := i % c.peers
							r := hostile(fmt.Sprint("r", i), fmt.Sprintf("10.%d.%d.1:%d", n/250, n%250, 1024+i%60_000))
							if err := k.log.Append(context.Background(), r); err != nil {
								t.Error(err)
							}
							answered[i] = r.Seq
						}
					})
				}
				wg.Wait()
				took := time.Since(start).Seconds()
				info, err := os.Stat(k.newest())
				must(t, err)
				counts, sum := k.refusals()
				for _, seq := range answered {
					counts[seq]--
				}
				for seq, left := range counts {
					if left != 0 {
						t.Fatalf("record %d counts %d refusals too many", seq, left)
					}
				}
				rate := float64(info.Size()) / (took + 1) // the first second's own records come at once
				t.Logf("%d refusals in %.1f s: %d records, %d bytes, %.0f KiB/s", sum, took, len(counts), info.Size(), rate/1024)
				if sum != all || rate > float64(c.most) || took > 3 {
					t.Errorf("%d counted at %.0f bytes a second, in %.1f s", sum, rate, took)
				}
				if got := k.log.Stats(); got.Merged < all-2000 || got.Refused != 0 {
					t.Errorf("stats %+v", got)
				}
				k.close()
				k.check()
			})
		})
	}
}

// spent makes the log have no record left for a refusal of its own.
func (k *kit) spent() {
	k.t.Helper()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { must(k.t, k.log.Append(context.Background(), stranger(fmt.Sprint("own-", i), "192.0.2.1:1"))) })
	}
	wg.Wait()
	if _, sum := k.refusals(); sum != 100 || k.log.Stats().Merged != 0 {
		k.t.Fatalf("of %d refusals %d share a record", sum, k.log.Stats().Merged)
	}
}

// TestSharedRecord: what a shared record says, and what comes together in it.
func TestSharedRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.spent()
		release := k.log.Stall()
		start := time.Now().UTC()
		var wg sync.WaitGroup
		share := func(request, peer string, change func(*audit.Record)) {
			r := stranger(request, peer)
			change(r)
			wg.Go(func() { must(t, k.log.Append(context.Background(), r)) })
			time.Sleep(time.Microsecond)
		}
		same := func(*audit.Record) {}
		share("a1", "[2001:db8::1]:5", same)
		share("a2", "[2001:db8::ffff:0:0:2]:6", same)
		share("b1", "[2001:db8:0:1::1]:5", same)
		share("c1", "198.51.100.7:1", same)
		share("c2", "[::ffff:198.51.100.7]:2", func(r *audit.Record) { r.Procedure, r.Door = "/c1.Other/Method", "connect" })
		share("d1", "198.51.100.7:1", func(r *audit.Record) { r.Error = "BAD_KEY" })
		share("e1", "not an address", same)
		share("f1", "", func(r *audit.Record) { r.Caller = "bot" }) // never shared
		release()
		wg.Wait()
		var got []audit.Record
		for _, r := range k.records(audit.Filter{Kind: audit.KindDenied})[100:] {
			if r.Caller == "" {
				r.ID, r.Seq = "", 0
				got = append(got, r)
			}
		}
		want := func(peer, first, last string, n, from, to int, change func(*audit.Record)) audit.Record {
			r := stranger("", peer)
			at := func(us int) time.Time { return start.Add(time.Duration(us) * time.Microsecond) }
			r.Time = at(to)
			r.Detail = map[string]string{"count": fmt.Sprint(n), "first_request_id": first, "last_request_id": last,
				"first_time": at(from).Format(time.RFC3339Nano), "last_time": at(to).Format(time.RFC3339Nano)}
			change(r)
			return *r
		}
		wants := []audit.Record{
			want("2001:db8::/64", "a1", "a2", 2, 0, 1, same),
			want("2001:db8:0:1::/64", "b1", "b1", 1, 2, 2, same),
			want("198.51.100.7", "c1", "c2", 2, 3, 4, func(r *audit.Record) { r.Procedure, r.Door = "", "" }),
			want("198.51.100.7", "d1", "d1", 1, 5, 5, func(r *audit.Record) { r.Error = "BAD_KEY" }),
			want("", "e1", "e1", 1, 6, 6, same),
		}
		if diff := cmp.Diff(wants, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		k.check()
		k.close()
	})
}

// TestSharedRecordFails: if the shared record cannot be written, those who wait
// are told, and the count is kept and written later. Nothing is counted as lost.
func TestSharedRecordFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.spent()
		refuse := func(n int) (failed int) {
			var wg sync.WaitGroup
			var mu sync.Mutex
			for i := range n {
				wg.Go(func() {
					err := k.log.Append(context.Background(), stranger("", fmt.Sprintf("10.0.%d.%d:1", i/250, i%250)))
					mu.Lock()
					defer mu.Unlock()
					if errors.Is(err, audit.ErrUnavailable) {
						failed++
					} else if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			return failed
		}
		divert(t, k.newest(), "/dev/null")
		if failed := refuse(300); failed == 0 {
			t.Error("a failed sync was no failure")
		}
		must(t, os.Rename(k.cfg.Dir, k.cfg.Dir+".moved"))
		time.Sleep(1100 * time.Millisecond)
		if failed := refuse(2000); failed != 2000 {
			t.Errorf("%d of 2000 are told that the disk is gone", failed)
		}
		must(t, os.Rename(k.cfg.Dir+".moved", k.cfg.Dir))
		time.Sleep(2100 * time.Millisecond)
		synctest.Wait()
		if failed := refuse(200); failed != 0 {
			t.Errorf("%d fail on a disk that works", failed)
		}
		if _, sum := k.refusals(); sum != 100+300+2000+200 {
			t.Errorf("%d refusals are counted, want 2600", sum)
		}
		for _, gap := range k.records(audit.Filter{Event: audit.EventGap}) {
			if gap.Detail["lost"] != "0" {
				t.Errorf("gap %v", gap.Detail)
			}
		}
		k.close()
		k.check()
	})
}

// TestSharedRecordGivenUp: nobody waits longer than he wants to, or than
// MaxWait, and the refusal is counted once all the same.
func TestSharedRecordGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.spent()
		release := k.log.Stall()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for ctx, want := range map[context.Context]error{ctx: context.DeadlineExceeded, context.Background(): audit.ErrUnavailable} {
			start := time.Now()
			if err := k.log.Append(ctx, stranger("", "192.0.2.1:1")); !errors.Is(err, want) || time.Since(start) > 5*time.Second {
				t.Errorf("append: %v after %v, want %v", err, time.Since(start), want)
			}
		}
		release()
		time.Sleep(1100 * time.Millisecond)
		if _, sum := k.refusals(); sum != 102 {
			t.Errorf("%d refusals are counted, want 102", sum)
		}
		k.close()
		k.check()
	})
}

// TestFloodSealClose: neither the end of a segment nor that of the log loses a
// count.
func TestFloodSealClose(t *testing.T) {
	k := newKit(t)
	l := k.log
	var wg sync.WaitGroup
	var mu sync.Mutex
	answered := map[uint64]int{}
	for c := range 50 {
		wg.Go(func() {
			for {
				r := stranger("", fmt.Sprintf("10.0.0.%d:1", c))
				err := l.Append(context.Background(), r)
				if errors.Is(err, audit.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				answered[r.Seq]++
				mu.Unlock()
			}
		})
	}
	for range 8 {
		time.Sleep(50 * time.Millisecond)
		if err := l.Seal(t.Context()); err != nil {
			t.Error(err)
		}
	}
	k.close()
	wg.Wait()
	counts, _ := k.refusals()
	if diff := cmp.Diff(answered, counts); diff != "" {
		t.Errorf("(-answered +counted):\n%s", diff)
	}
	k.check()
}

// TestReservedQueue: refusals without a caller leave half of the queue to those
// who have one, however slow the disk is.
func TestReservedQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *audit.Config) { c.MaxQueue = 8 })
		release := k.log.Stall()
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() { must(t, k.log.Append(context.Background(), stranger("", fmt.Sprintf("10.0.0.%d:1", i%250)))) })
		}
		synctest.Wait()
		if got := k.log.Stats(); got.Queued != 4 || got.Merged != 496 {
			t.Errorf("%d are queued and %d share a record, want 4 and 496", got.Queued, got.Merged)
		}
		for i := range 4 {
			wg.Go(func() { k.mustAppend(intent(fmt.Sprint("call-", i))) })
		}
		synctest.Wait()
		time.Sleep(4 * time.Second)
		release()
		wg.Wait()
		if _, sum := k.refusals(); sum != 500 {
			t.Errorf("%d refusals are counted, want 500", sum)
		}
		k.close()
		k.check()
	})
}

// childFlood refuses strangers from many goroutines while 4 callers make their
// calls. It says which record each answer rests on.
func childFlood(k *childKit) error { return k.flood(floodCalls) }

// childFloods does so until it is killed.
func childFloods(k *childKit) error { return k.flood(math.MaxInt) }

func (k *childKit) flood(calls int) error {
	for c := range 200 {
		go func() {
			for {
				r := stranger("", fmt.Sprintf("10.0.%d.1:1", c%100))
				if err := k.log.Append(context.Background(), r); err == nil {
					_, _ = fmt.Fprintf(os.Stdout, "counted %d\n", r.Seq)
				}
			}
		}()
	}
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := range calls {
				in, err := k.try(intent(fmt.Sprint("call-", os.Getpid(), "-", c, "-", i)))
				if err == nil {
					_, _ = k.try(outcome(in, audit.OutcomeOK))
				}
				if i%20 == 19 {
					_ = k.log.Seal(context.Background())
				}
			}
		})
	}
	wg.Wait()
	return k.log.Close()
}

// floodCalls is how many calls each of 4 callers makes in a flood.
const floodCalls = 4

// counted checks a child's reports of the refusals that it has answered: each
// record counts at least as many.
func (k *kit) counted(said []byte) (answered int) {
	k.t.Helper()
	counts, _ := k.refusals()
	for line := range strings.Lines(string(said)) {
		number, found := strings.CutPrefix(strings.TrimSpace(line), "counted ")
		if !found {
			continue
		}
		seq, err := strconv.ParseUint(number, 10, 64)
		must(k.t, err)
		if counts[seq]--; counts[seq] < 0 {
			k.t.Fatalf("record %d counts fewer refusals than were answered", seq)
		}
		answered++
	}
	return answered
}

// TestFloodKill: what was answered in a flood is counted, also after kill -9.
func TestFloodKill(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	k := childKitOf(t, base)
	answered := 0
	for cycle := range 5 {
		cmd := command(t, "floods", base)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		reports := bufio.NewReader(out)
		if _, err := reports.Peek(1); err != nil {
			t.Fatalf("the child says nothing: %v", err)
		}
		timer := time.AfterFunc(time.Duration(100+60*cycle)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		said, err := io.ReadAll(reports)
		must(t, err)
		_ = cmd.Wait()
		timer.Stop()
		k.take(bytes.NewReader(said))
		answered += k.counted(said)
		k.check()
		k.open()
		k.close()
		k.check()
		k.onceEach()
	}
	if answered < 100 {
		t.Errorf("only %d refusals were answered", answered)
	}
	t.Logf("%d refusals answered and counted", answered)
}

// TestFloodSlowDisk: with a disk whose sync takes 200 ms, and a flood of
// strangers, every call of a caller succeeds within MaxWait.
func TestFloodSlowDisk(t *testing.T) {
	t.Parallel()
	base := patient(t)
	wrap := strace(t, os.DevNull, "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_exit=200000")
	said, err := command(t, "flood", base, wrap...).Output()
	must(t, err)
	k := childKitOf(t, base)
	if refused := k.take(bytes.NewReader(said)); len(refused) > 0 || len(k.acked) != 4*floodCalls*2 {
		t.Errorf("%d records of calls acknowledged, refused %v", len(k.acked), refused)
	}
	t.Logf("%d refusals answered", k.counted(said))
	k.check()
	k.onceEach()
}

// TestCountsMerge: counts that are merged later, as after a failure of the disk,
// add up, in whatever order they come.
func TestCountsMerge(t *testing.T) {
	at := func(request string, second int) *audit.Record {
		r := stranger(request, "192.0.2.1:1")
		r.Time = time.Date(2030, 1, 1, 0, 0, second, 0, time.UTC)
		return r
	}
	got := audit.Shared([]*audit.Record{at("c", 3), at("d", 4), at("e", 5)}, []*audit.Record{at("a", 1), at("b", 2)}).Detail
	want := map[string]string{"count": "5", "first_request_id": "a", "last_request_id": "e",
		"first_time": "2030-01-01T00:00:01Z", "last_time": "2030-01-01T00:00:05Z"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSharedRecordNeverWritten: those who wait for a record that is not even
// tried, because the disk has failed meanwhile, are told, and counted later.
func TestSharedRecordNeverWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.spent()
		must(t, k.log.Append(context.Background(), stranger("", "192.0.2.1:1"))) // the next has to wait for 100 ms
		var results []chan error
		for range 5 {
			results = append(results, k.appendAsync(context.Background(), *stranger("", "192.0.2.1:1")))
		}
		synctest.Wait()
		divert(t, k.newest(), "/dev/null")
		must(t, os.Rename(k.cfg.Dir, k.cfg.Dir+".moved"))
		if _, err := k.append(context.Background(), intent("call")); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("append: %v", err)
		}
		for _, result := range results {
			if err := <-result; !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("a refusal whose record is not on disk: %v", err)
			}
		}
		must(t, os.Rename(k.cfg.Dir+".moved", k.cfg.Dir))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if _, sum := k.refusals(); sum != 106 {
			t.Errorf("%d refusals are counted, want 106", sum)
		}
		k.close()
		k.check()
	})
}
