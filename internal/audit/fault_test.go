package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// divert makes a file that this process has open lead to a device instead:
// the next write or sync of it fails as on a broken disk. /dev/full refuses
// writes and truncation; /dev/null takes writes, but no sync.
func divert(t *testing.T, path, device string) {
	t.Helper()
	to, err := unix.Open(device, unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(to)
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		fd, _ := strconv.Atoi(filepath.Base(link))
		// Not one of those who read the file.
		mode, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if target, _ := os.Readlink(link); target == path && mode&unix.O_ACCMODE != unix.O_RDONLY {
			if err := unix.Dup3(to, fd, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("%s is not open", path)
}

// TestSyncFails: the batch fails, its segment is left as it was, and the log
// goes on in a new one at once. Time stands still, so that the failure is
// found by the sync and not by the look at the files.
func TestSyncFails(t *testing.T) {
	for _, c := range []struct{ device, segment string }{{"/dev/null", "sync"}, {"/dev/full", "write and truncation"}} {
		t.Run(c.segment, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				k.call("before")
				in := k.mustAppend(intent("sent"))
				divert(t, k.newest(), c.device)
				if _, err := k.append(context.Background(), outcome(in, audit.OutcomeOK)); !errors.Is(err, audit.ErrUnavailable) {
					t.Fatalf("append: %v", err)
				}
				if _, err := k.append(context.Background(), intent("after")); err != nil {
					t.Errorf("append after the failure: %v", err)
				}
				if err := k.log.Healthy(); err != nil {
					t.Error(err)
				}
				k.settled("sent", "outcome ok ok")
				gap := k.event(audit.EventGap).Detail
				if gap["refused"] != "1" || gap["lost"] != "0" || gap["cause"] == "" || gap["since"] == "" {
					t.Errorf("gap %v", gap)
				}
				if report := k.check(); report.Segments != 2 {
					t.Errorf("%d segments, want 2", report.Segments)
				}
				k.close()
				k.check()
				k.open()
				k.check()
				k.close()
			})
		})
	}
}

// TestVoidTail: what an abandoned segment holds after its end is no record,
// even if it looks like one; but nothing may follow a segment that was sealed.
func TestVoidTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.call("before")
		abandoned := k.newest()
		divert(t, abandoned, "/dev/null")
		_, _ = k.append(context.Background(), intent("failed"))
		k.call("after")
		k.close()
		// The disk had written it after all.
		void := intent("failed")
		void.ID, void.Time, void.Seq = "void", time.Now(), k.records(audit.Filter{Event: audit.EventGap})[0].Seq-1
		text, _ := void.MarshalJSON()
		held, err := os.ReadFile(abandoned)
		must(t, err)
		held = bytes.TrimRight(held, "\x00")
		must(t, os.WriteFile(abandoned, append(append(held, text...), "\n{\"seq\":"...), 0o600))
		report := k.check()
		if len(report.Voids) != 1 || report.Voids[0].File != filepath.Base(abandoned) || report.Voids[0].Bytes != int64(len(text)+8) {
			t.Errorf("voids %+v", report.Voids)
		}
		k.open()
		k.check()
		sealed := k.segments()[1]
		k.close()
		appendTo(t, sealed, append(text, '\n'))
		_, err = audit.Verify(t.Context(), k.cfg.Dir, k.vkey())
		var corrupt *audit.CorruptError
		if !errors.As(err, &corrupt) || corrupt.File != filepath.Base(sealed) {
			t.Errorf("a record after the end of a sealed segment: %v", err)
		}
	})
}

func appendTo(t *testing.T, path string, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestTouched: whatever someone does to the segment is noticed within a
// second, though nobody appends; the log says so and goes on in a new segment.
// What was only removed or renamed is brought back.
func TestTouched(t *testing.T) {
	for name, c := range map[string]struct {
		touch  func(t *testing.T, dir, path string)
		whole  bool // the log is whole again
		saw    string
		result string
	}{
		"removed": {func(t *testing.T, _, path string) { must(t, os.Remove(path)) }, true, "no name left", "restored"},
		"renamed": {func(t *testing.T, _, path string) { must(t, os.Rename(path, path+".1")) }, true, "nothing is there", "restored"},
		"replaced": {func(t *testing.T, _, path string) {
			must(t, os.Rename(path, path+".1"))
			must(t, os.WriteFile(path, []byte("something else"), 0o600))
		}, true, "another file", "restored"},
		"truncated": {func(t *testing.T, _, path string) { must(t, os.Truncate(path, 100)) }, false, "100 bytes", "not restored"},
		"emptied":   {func(t *testing.T, _, path string) { must(t, os.Truncate(path, 0)) }, false, "0 bytes", "not restored"},
		"appended":  {func(t *testing.T, _, path string) { appendTo(t, path, []byte("{}\n")) }, true, "were written", "not restored"},
		"written behind the end": {func(t *testing.T, _, path string) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("{}\n"), 16<<10-3) // where the zeros end
			must(t, err)
			must(t, f.Close())
		}, true, "something is behind", "not restored"},
		"zeros cut off": {func(t *testing.T, _, path string) { must(t, os.Truncate(path, 15<<10)) }, true, "15360 bytes", "not restored"},
		"lock removed": {func(t *testing.T, dir, _ string) {
			must(t, os.Remove(filepath.Join(dir, "lock")))
		}, true, "no name left", "untouched"},
		"everything removed": {func(t *testing.T, dir, _ string) {
			names, _ := filepath.Glob(filepath.Join(dir, "*"))
			for _, name := range names {
				must(t, os.Remove(name))
			}
		}, true, "no name left", "restored"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				k.call("before")
				c.touch(t, k.cfg.Dir, k.newest())
				time.Sleep(1001 * time.Millisecond)
				synctest.Wait()
				got := k.log.Stats()
				if got.Alarms != 1 || k.log.Healthy() != nil {
					t.Fatalf("%d alarms, healthy: %v", got.Alarms, k.log.Healthy())
				}
				after, err := k.append(context.Background(), intent("after"))
				if err != nil {
					t.Fatalf("append: %v", err)
				}
				alarm := lastEvent(t, k.newest(), audit.EventAlarm)
				if !strings.Contains(alarm["saw"], c.saw) || !strings.HasPrefix(alarm["outcome"], c.result) {
					t.Errorf("alarm %v", alarm)
				}
				if c.whole {
					time.Sleep(1001 * time.Millisecond) // the head may be missing too
					synctest.Wait()
					k.check()
					k.close()
					k.check()
					k.open()
					k.settled("after", "outcome indeterminate unknown OUTCOME_UNKNOWN")
					k.check()
					k.close()
					return
				}
				k.close()
				_, err = audit.Open(context.Background(), k.cfg)
				var corrupt *audit.CorruptError
				if !errors.As(err, &corrupt) || corrupt.File != filepath.Base(k.segments()[0]) || corrupt.Seq >= after.Seq {
					t.Errorf("open: %v", err)
				}
				k.log = nil
			})
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lastEvent reads an event from one segment by itself.
func lastEvent(t *testing.T, path, event string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	lines := strings.Split(strings.Trim(string(text), "\n\x00"), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		r, err := audit.Parse([]byte(lines[i]))
		must(t, err)
		if r.Event == event {
			return r.Detail
		}
	}
	t.Fatalf("no event %q in %s", event, text)
	return nil
}

// TestTouchedUnderLoad: the append that notices is refused, the next is not.
func TestTouchedUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		in := k.mustAppend(intent("sent"))
		time.Sleep(200 * time.Millisecond)
		must(t, os.Remove(k.newest()))
		if _, err := k.append(context.Background(), outcome(in, audit.OutcomeOK)); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("append: %v", err)
		}
		k.call("next")
		k.settled("sent", "outcome ok ok")
		k.close()
		k.check()
	})
}

// TestDirectoryGone: without its directory the log is unavailable, refuses at
// once, and recovers by itself when the directory is back. The records of the
// calls that were refused are there then.
func TestDirectoryGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		in := k.mustAppend(intent("sent"))
		must(t, os.Rename(k.cfg.Dir, k.cfg.Dir+".moved"))
		time.Sleep(1100 * time.Millisecond)
		if err := k.log.Healthy(); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("healthy: %v", err)
		}
		start := time.Now()
		if _, err := k.append(context.Background(), outcome(in, audit.OutcomeOK)); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("append: %v", err)
		}
		for i := range 5 {
			if _, err := k.append(context.Background(), intent(fmt.Sprint("refused-", i))); !errors.Is(err, audit.ErrUnavailable) {
				t.Errorf("append: %v", err)
			}
		}
		if err := k.log.Seal(context.Background()); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("seal: %v", err)
		}
		if time.Since(start) > 0 {
			t.Errorf("refused after %v", time.Since(start))
		}
		time.Sleep(time.Minute)
		must(t, os.Rename(k.cfg.Dir+".moved", k.cfg.Dir))
		time.Sleep(1100 * time.Millisecond)
		if err := k.log.Healthy(); err != nil {
			t.Errorf("healthy: %v", err)
		}
		k.settled("sent", "outcome ok ok")
		for i := range 5 {
			k.settled(fmt.Sprint("refused-", i), "denied not_sent unavailable AUDIT_UNAVAILABLE")
		}
		if gap := k.event(audit.EventGap).Detail; gap["refused"] != "6" || gap["lost"] != "0" {
			t.Errorf("gap %v", gap)
		}
		k.close()
		k.check()
	})
}

// TestCloseUnavailable: Close tells that records are lost with the process.
func TestCloseUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.call("before")
		must(t, os.Rename(k.cfg.Dir, k.cfg.Dir+".moved"))
		time.Sleep(1100 * time.Millisecond)
		_, _ = k.append(context.Background(), intent("refused"))
		if err := k.log.Close(); !errors.Is(err, audit.ErrUnavailable) || !strings.Contains(err.Error(), "1 final records are lost") {
			t.Errorf("close: %v", err)
		}
		must(t, os.Rename(k.cfg.Dir+".moved", k.cfg.Dir))
		k.open()
		k.check()
		k.close()
	})
}
