package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// strace returns a command line that runs a child with faults injected into
// its syscalls, and writes a trace of them to the file.
func strace(t *testing.T, file string, arguments ...string) []string {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err == nil {
		err = exec.Command(path, "-f", "-qq", "-o", os.DevNull, "true").Run()
	}
	if err != nil {
		t.Skipf("strace cannot be used here: %v", err)
	}
	return append([]string{path, "-f", "-qq", "-o", file, "-s", "64", "--seccomp-bpf"}, arguments...)
}

// childSequence makes calls one after the other, whatever becomes of them.
func childSequence(k *childKit) error {
	for i := range 12 {
		in, err := k.try(intent(fmt.Sprint("call-", i)))
		if err == nil {
			_, _ = k.try(outcome(in, audit.OutcomeOK))
		}
		for end := time.Now().Add(10 * time.Second); k.log.Healthy() != nil; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				return fmt.Errorf("no recovery: %w", k.log.Healthy())
			}
		}
	}
	if err := k.log.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "a failure to the last:", err)
	}
	return nil
}

// TestSyncErrors lets the nth fdatasync of each thread fail, and up to two
// after it: whatever was acknowledged is there, every call has its one final
// record, and no file is synced again after its sync has failed.
func TestSyncErrors(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 5, 8} {
		base := t.TempDir()
		trace := filepath.Join(base, "trace")
		wrap := strace(t, trace, "-y", "-e", "trace=fdatasync", "-e", fmt.Sprintf("inject=fdatasync:error=EIO:when=%d..%d", n, n+n%3))
		said, err := command(t, "sequence", base, wrap...).Output()
		k := childKitOf(t, base)
		if err != nil {
			// The first fdatasync is that of the start: it must not succeed.
			if n == 1 && !bytes.Contains(said, []byte("acked")) {
				k.open()
				k.check()
				k.close()
				continue
			}
			t.Fatalf("n = %d: %v", n, err)
		}
		refused := k.take(bytes.NewReader(said))
		if len(refused) == 0 {
			t.Errorf("n = %d: nothing was refused:\n%s", n, said)
		}
		k.check()
		k.open()
		k.close()
		k.check()
		k.onceEach()
		for i := range 12 {
			if got := k.finals(fmt.Sprint("call-", i)); len(got) != 1 {
				t.Errorf("n = %d: call %d has %d final records: %v", n, i, len(got), got)
			}
		}
		text, err := os.ReadFile(trace)
		must(t, err)
		failed := map[string]bool{}
		syncs := regexp.MustCompile(`fdatasync\(\d+<([^>]*)>\)\s*= (-?\d+)`).FindAllStringSubmatch(string(text), -1)
		if len(syncs) < 24 {
			t.Errorf("n = %d: the trace shows only %d syncs", n, len(syncs))
		}
		for _, m := range syncs {
			if failed[m[1]] {
				t.Errorf("n = %d: %s was synced again after its sync had failed", n, m[1])
			}
			failed[m[1]] = m[2] != "0"
		}
	}
}

// TestWriteErrors lets writes fail as they do where the quota is used up, the
// file system has turned read-only or the right to write is gone: nothing is
// acknowledged that is not there, every call has its one final record, and the
// log goes on by itself.
func TestWriteErrors(t *testing.T) {
	t.Parallel()
	for i, fate := range []string{"EDQUOT", "EROFS", "EACCES"} {
		base := t.TempDir()
		wrap := strace(t, os.DevNull, "-e", "trace=pwrite64", "-e", fmt.Sprintf("inject=pwrite64:error=%s:when=%d..%d", fate, 5+2*i, 7+2*i))
		said, err := command(t, "sequence", base, wrap...).Output()
		must(t, err)
		k := childKitOf(t, base)
		if refused := k.take(bytes.NewReader(said)); len(refused) == 0 {
			t.Errorf("%s: nothing was refused:\n%s", fate, said)
		}
		k.check()
		k.onceEach()
		for i := range 12 {
			if got := k.finals(fmt.Sprint("call-", i)); len(got) != 1 {
				t.Errorf("%s: call %d has %d final records: %v", fate, i, len(got), got)
			}
		}
	}
}

// TestStartErrors lets the nth fsync fail: a start, or the sealing of a head,
// fails cleanly or goes on, and the next start finds everything in order.
func TestStartErrors(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 13; n += 2 {
		base := t.TempDir()
		wrap := strace(t, os.DevNull, "-e", "trace=fsync", "-e", fmt.Sprintf("inject=fsync:error=EIO:when=%d", n))
		cmd := command(t, "start", base, wrap...)
		cmd.Stderr = nil
		_, err := cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) && !strings.Contains(string(exit.Stderr), "input/output error") {
			t.Errorf("n = %d: %s", n, exit.Stderr)
		}
		k := childKitOf(t, base)
		k.open()
		k.check()
		k.close()
		k.check()
	}
}

// TestSyncedBeforeAcknowledged reads from a trace that every acknowledgement
// comes after a sync that came after the write.
func TestSyncedBeforeAcknowledged(t *testing.T) {
	t.Parallel()
	base := patient(t)
	trace := filepath.Join(base, "trace")
	wrap := strace(t, trace, "-y", "-e", "trace=pwrite64,fdatasync,write")
	_, err := command(t, "sequence", base, wrap...).Output()
	must(t, err)
	text, err := os.ReadFile(trace)
	must(t, err)
	written, synced, acks := false, false, 0
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.Contains(line, ".jsonl>") && strings.Contains(line, "pwrite64("):
			written, synced = true, false
		case strings.Contains(line, "fdatasync(") && !strings.Contains(line, "unfinished"), strings.Contains(line, "fdatasync resumed"):
			synced = written && strings.Contains(line, "= 0")
		case strings.Contains(line, `"acked `):
			if !synced {
				t.Fatalf("acknowledged before it was synced:\n%s", line)
			}
			written, synced = false, false
			acks++
		}
	}
	if acks != 24 {
		t.Errorf("found %d acknowledgements, want 24", acks)
	}
}

// childSlow makes calls from many goroutines that give up on a slow disk.
func childSlow(k *childKit) error {
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := range slowCalls {
				in, err := k.try(intent(fmt.Sprint(i, "-", j)))
				if err == nil {
					_, _ = k.try(outcome(in, audit.OutcomeOK))
				}
			}
		})
	}
	wg.Wait()
	// Faults are counted by thread, and a busy machine has more of them: one may come
	// at the very end.
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err, stats := k.log.Healthy(), k.log.Stats()
		if err == nil && stats.Queued+stats.Kept == 0 {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("no recovery, with %d records kept: %w", stats.Kept, err)
		}
	}
	err := k.log.Close()
	for range 5 {
		if err != nil {
			err = k.log.Close()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "a failure to the last:", err)
	}
	return nil
}

// slowCalls is how many calls each of 32 callers makes of a slow disk.
const slowCalls = 6

// TestSlowDisk: a sync of 100 ms is shared by all who wait.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	base := patient(t)
	wrap := strace(t, os.DevNull, "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_exit=100000")
	start := time.Now()
	said, err := command(t, "slow", base, wrap...).Output()
	must(t, err)
	k := childKitOf(t, base)
	if refused := k.take(bytes.NewReader(said)); len(refused) > 0 || len(k.acked) != 32*slowCalls*2 {
		t.Errorf("%d acknowledged, refused %v", len(k.acked), refused)
	}
	if took := time.Since(start); took > 32*slowCalls*2*100*time.Millisecond/4 {
		t.Errorf("it took %v: the syncs are not shared", took)
	}
	k.check()
	k.onceEach()
}

// TestHungDisk: syncs that take longer than MaxWait, and then even fail. The
// callers are told in time, and each call has one final record all the same.
func TestHungDisk(t *testing.T) {
	t.Parallel()
	for _, fate := range []string{"", "error=EIO:"} {
		base := t.TempDir()
		wrap := strace(t, os.DevNull, "-e", "trace=fdatasync", "-e", "inject=fdatasync:"+fate+"delay_enter=2000000:when=2..3")
		said, err := command(t, "slow", base, wrap...).Output()
		k := childKitOf(t, base)
		if err != nil {
			t.Fatalf("%q: %v", fate, err)
		}
		refused := k.take(bytes.NewReader(said))
		if len(refused) < 32 {
			t.Errorf("%q: only %d were refused", fate, len(refused))
		}
		k.check()
		k.onceEach()
		for i := range 32 {
			for j := range slowCalls {
				if got := k.finals(fmt.Sprint(i, "-", j)); len(got) != 1 {
					t.Errorf("%q: call %d-%d: %v", fate, i, j, got)
				}
			}
		}
	}
}
