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

	"golang.org/x/sys/unix"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// smallDisk mounts a file system of so many bytes for the test.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	must(t, os.Mkdir(disk, 0o700))
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprint("size=", bytes)); err != nil {
		t.Skipf("no small file system can be mounted here: %v", err)
	}
	// Detached, because a process that another test is starting may hold it.
	t.Cleanup(func() { must(t, unix.Unmount(disk, unix.MNT_DETACH)) })
	return disk
}

// TestSpace: the log says within a second that space is low. When it is scarce,
// refusals without a caller are answered at once, cost one record each ten
// seconds and are all counted, while calls go on as before.
func TestSpace(t *testing.T) {
	disk := smallDisk(t, 4<<20)
	ballast := filepath.Join(disk, "ballast")
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *audit.Config) {
			c.Dir, c.MinFreeBytes, c.ReserveBytes = filepath.Join(disk, "log"), 3<<20, 2<<20
		})
		state := func(low, scarce bool) audit.Stats {
			t.Helper()
			time.Sleep(1001 * time.Millisecond)
			synctest.Wait()
			s := k.log.Stats()
			if s.Low != low || s.Scarce != scarce || s.DiskBytes != 4<<20 || s.FreeBytes == 0 || k.log.Healthy() != nil {
				t.Fatalf("low %v, scarce %v: %+v", low, scarce, s)
			}
			return s
		}
		state(false, false)
		must(t, os.WriteFile(ballast, make([]byte, 1536<<10), 0o600))
		state(true, false)
		must(t, k.log.Append(context.Background(), stranger("still-alone", "192.0.2.1:1")))
		must(t, os.WriteFile(ballast, make([]byte, 2560<<10), 0o600))
		state(true, true)
		before := k.log.Stats()
		for i := range 30_000 {
			start := time.Now()
			err := k.log.Append(context.Background(), stranger("", fmt.Sprintf("10.%d.%d.1:1", i/250, i%250)))
			if !errors.Is(err, audit.ErrDeferred) || time.Since(start) > 0 {
				t.Fatalf("append: %v after %v", err, time.Since(start))
			}
			if i%1000 == 0 {
				time.Sleep(time.Second)
				k.call(fmt.Sprint("call-", i))
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		shared := 0
		for _, r := range k.records(audit.Filter{Kind: audit.KindDenied}) {
			if r.Detail["count"] != "" {
				shared++
			}
		}
		if _, sum := k.refusals(); sum != 30_001 || shared > 5 {
			t.Errorf("%d refusals are counted by %d records", sum, shared)
		}
		spent := before.FreeBytes - k.log.Stats().FreeBytes
		t.Logf("30,000 refusals in 40 s and 30 calls took %d bytes", spent)
		// What is not told yet is told by Close at the latest.
		_ = k.log.Append(context.Background(), stranger("", "192.0.2.1:1"))
		must(t, os.Remove(ballast))
		state(false, false)
		must(t, k.log.Append(context.Background(), stranger("alone-again", "192.0.2.1:1")))
		k.close()
		k.check()
		if _, sum := k.refusals(); sum != 30_003 {
			t.Errorf("%d refusals are counted, want 30,003", sum)
		}
		if scarce, ample := k.event(audit.EventScarce), k.event(audit.EventAmple); scarce.Seq > ample.Seq || scarce.Detail["reserve_bytes"] != "2097152" {
			t.Errorf("%+v, %+v", scarce, ample)
		}
	})
}

// TestFloodFillsDisk: whatever strangers do, the space that is left is for those
// who have a caller.
func TestFloodFillsDisk(t *testing.T) {
	disk := smallDisk(t, 1<<20)
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(c *audit.Config) {
			c.Dir, c.ReserveBytes, c.SegmentBytes = filepath.Join(disk, "log"), 512<<10, 64<<10
		})
		l := k.log
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var wg sync.WaitGroup
		for c := range 50 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if l.Append(ctx, hostile("", fmt.Sprintf("10.0.%d.1:1", c))) != nil {
						time.Sleep(100 * time.Millisecond)
					}
				}
			})
		}
		for i := range 120 {
			k.call(fmt.Sprint("call-", i))
			time.Sleep(time.Second)
		}
		cancel()
		wg.Wait()
		got := k.log.Stats()
		t.Logf("after 2 minutes: %d bytes free, %d refusals merged in %d records", got.FreeBytes, got.Merged, got.Records)
		if !got.Scarce || got.Lost != 0 {
			t.Errorf("stats %+v", got)
		}
		k.close()
		k.check()
		if _, sum := k.refusals(); sum < 20_000 {
			t.Errorf("only %d refusals are counted", sum)
		}
	})
}

// TestReadOnly: a start on a file system that cannot be written to names what
// it could not do.
func TestReadOnly(t *testing.T) {
	disk := smallDisk(t, 1<<20)
	must(t, unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	base := t.TempDir()
	dir := filepath.Join(disk, "log")
	_, err := audit.Open(t.Context(), audit.Config{Dir: dir, KeyFile: filepath.Join(base, "key")})
	if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), dir) {
		t.Errorf("open: %v", err)
	}
}
