package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/durable"
)

// A child is this test binary once more: it runs what AUDIT_TEST_CHILD names
// on the log in AUDIT_TEST_DIR, and reports on its standard output.
var children = map[string]func(k *childKit) error{
	"append":   childAppend,
	"hold":     childHold,
	"fsize":    childFileSize,
	"sequence": childSequence,
	"start":    func(k *childKit) error { return k.log.Close() },
	"slow":     childSlow,
	"flood":    childFlood,
	"floods":   childFloods,
	"retain":   childRetain,
}

func TestMain(m *testing.M) {
	name := os.Getenv("AUDIT_TEST_CHILD")
	if name == "" {
		os.Exit(m.Run())
	}
	if err := runChild(name, os.Getenv("AUDIT_TEST_DIR")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type childKit struct {
	log *audit.Log
	dir string
}

func childConfig(base string) audit.Config {
	cfg := audit.Config{Dir: filepath.Join(base, "log"), KeyFile: filepath.Join(base, "key"), Origin: "example.com/log", SegmentBytes: 64 << 10,
		MaxWait: 1500 * time.Millisecond}
	if _, err := os.Stat(filepath.Join(base, "patient")); err == nil {
		cfg.MaxWait = 15 * time.Second
	}
	return cfg
}

// patient is a directory for a child that must not give up, however slow the
// machine is.
func patient(t *testing.T) (base string) {
	t.Helper()
	base = t.TempDir()
	must(t, os.WriteFile(filepath.Join(base, "patient"), nil, 0o600))
	return base
}

func runChild(name, base string) error {
	l, err := audit.Open(context.Background(), retainConfig(base))
	if err != nil {
		return err
	}
	return children[name](&childKit{log: l, dir: base})
}

// report writes one line with one write: "<word> <kind> <id> <seq> <request>".
func (k *childKit) report(word string, r audit.Record) {
	_, _ = fmt.Fprintf(os.Stdout, "%s %s %s %d %s\n", word, r.Kind, r.ID, r.Seq, r.RequestID)
}

// try appends a record and reports how that went.
func (k *childKit) try(r audit.Record) (audit.Record, error) {
	err := k.log.Append(context.Background(), &r)
	if err != nil {
		k.report("refused", r)
	} else {
		k.report("acked", r)
	}
	return r, err
}

// command prepares to run a child.
func command(t *testing.T, name, base string, wrap ...string) *exec.Cmd {
	line := append(wrap, os.Args[0])
	cmd := exec.CommandContext(t.Context(), line[0], line[1:]...)
	cmd.Env = append(os.Environ(), "AUDIT_TEST_CHILD="+name, "AUDIT_TEST_DIR="+base, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

// childKitOf is the parent's view of a child's log.
func childKitOf(t *testing.T, base string) *kit {
	return &kit{t: t, cfg: childConfig(base), acked: map[string]audit.Record{}}
}

// take reads a child's reports: all that was acknowledged must be there.
func (k *kit) take(reports io.Reader) (refused []string) {
	k.t.Helper()
	byID := map[string][]string{}
	for lines := bufio.NewScanner(reports); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 5 && words[0] == "acked":
			byID[words[2]] = words
		case len(words) == 5 && words[0] == "refused":
			refused = append(refused, words[4])
		}
	}
	for _, r := range k.records(audit.Filter{}) {
		if words, ok := byID[r.ID]; ok {
			if words[1] != string(r.Kind) || words[3] != strconv.FormatUint(r.Seq, 10) || words[4] != r.RequestID {
				k.t.Fatalf("acknowledged %v, found %+v", words, r)
			}
			k.acked[r.ID] = r
			delete(byID, r.ID)
		}
	}
	for _, words := range byID {
		k.t.Fatalf("%d acknowledged records are missing, such as %v", len(byID), words)
	}
	return refused
}

// childAppend appends from several goroutines until it is killed.
func childAppend(k *childKit) error {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				in, err := k.try(intent("r" + strconv.FormatUint(rand.Uint64(), 36)))
				if err == nil {
					_, err = k.try(outcome(in, audit.OutcomeOK))
				}
				if err == nil && rand.IntN(200) == 0 {
					err = k.log.Seal(context.Background())
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.New("no append succeeds any more")
}

// TestKill kills a process that writes with SIGKILL at random times, again and
// again on the same log: all that was acknowledged is there, the log verifies
// before and after the next start, and each intent has one outcome in the end.
// AUDIT_KILL_CYCLES asks for more than 20 cycles.
func TestKill(t *testing.T) {
	t.Parallel()
	cycles := 20
	if n, err := strconv.Atoi(os.Getenv("AUDIT_KILL_CYCLES")); err == nil {
		cycles = n
	}
	var base string
	var k *kit
	torn, lost, acked := 0, 0, 0
	for cycle := range cycles {
		if cycle%5 == 0 { // the checks read it all: let it not grow for ever
			base = t.TempDir()
			k = childKitOf(t, base)
		}
		cmd := command(t, "append", base)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		reports := bufio.NewReader(out)
		if cycle%4 != 1 { // otherwise it may be killed while it opens the log
			if _, err := reports.Peek(1); err != nil {
				t.Fatalf("the child says nothing: %v", err)
			}
		}
		time.AfterFunc(time.Duration(rand.IntN(40))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		said, err := io.ReadAll(reports)
		_ = cmd.Wait()
		if err != nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("the child ended by itself: %v, %v", cmd.ProcessState, err)
		}
		if names, _ := filepath.Glob(filepath.Join(k.cfg.Dir, "*.jsonl")); len(names) == 0 && len(said) == 0 {
			continue // killed before there was a log
		}
		k.take(bytes.NewReader(said))
		acked += bytes.Count(said, []byte("\nacked"))
		report := k.check()
		lost += report.OpenIntents
		k.open()
		if report.TornBytes > 0 {
			torn++
		}
		k.check()
		k.close()
		if report := k.check(); report.OpenIntents != 0 {
			t.Fatalf("%d intents are still open", report.OpenIntents)
		}
		k.onceEach()
	}
	t.Logf("%d cycles, %d records acknowledged and found, %d intents became indeterminate, %d torn tails", cycles, acked, lost, torn)
}

// onceEach checks that every intent has exactly one final record.
func (k *kit) onceEach() {
	k.t.Helper()
	finals := map[string]int{}
	for _, r := range k.records(audit.Filter{}) {
		switch r.Kind {
		case audit.KindIntent:
			finals[r.ID] += 0
		case audit.KindOutcome:
			finals[r.Intent]++
		}
	}
	for id, n := range finals {
		if n != 1 {
			k.t.Fatalf("intent %s has %d final records", id, n)
		}
	}
}

func childHold(k *childKit) error {
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return k.log.Close()
}

// TestTwoProcesses: the second one is refused, and told by whom.
func TestTwoProcesses(t *testing.T) {
	base := fastDir(t)
	cmd := command(t, "hold", base)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	reports := bufio.NewReader(out)
	if line, err := reports.ReadString('\n'); line != "open\n" {
		t.Fatalf("the child says %q: %v", line, err)
	}
	k := childKitOf(t, base)
	_, err = audit.Open(t.Context(), k.cfg)
	if !errors.Is(err, durable.ErrLocked) || !strings.Contains(err.Error(), k.cfg.Dir) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", cmd.Process.Pid)) {
		t.Errorf("the second open: %v", err)
	}
	k.check() // while it is in use
	must(t, in.Close())
	must(t, cmd.Wait())
	k.open()
	k.check()
	k.close()
}

// childFileSize lets writes fail in the middle of a record: the file size
// limit cuts them where a full disk would.
func childFileSize(k *childKit) error {
	signal.Ignore(syscall.SIGXFSZ)
	sent, err := k.try(intent("sent"))
	if err != nil {
		return err
	}
	names, _ := filepath.Glob(filepath.Join(k.dir, "log", "*.jsonl"))
	text, err := os.ReadFile(names[len(names)-1])
	if err != nil {
		return err
	}
	end := uint64(len(bytes.TrimRight(text, "\x00")))
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	for short := range 40 {
		limit := unix.Rlimit{Cur: end + uint64(short*9), Max: old.Max}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
		if _, err := k.try(intent(fmt.Sprint("short-", short))); !errors.Is(err, audit.ErrUnavailable) {
			break // the limit is above the record
		}
	}
	if _, err := k.try(outcome(sent, audit.OutcomeOK)); !errors.Is(err, audit.ErrUnavailable) {
		return fmt.Errorf("append above the limit: %w", err)
	}
	if k.log.Healthy() == nil {
		return errors.New("healthy above the limit")
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	for end := time.Now().Add(5 * time.Second); k.log.Healthy() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("no recovery: %w", k.log.Healthy())
		}
	}
	if _, err := k.try(audit.Record{Kind: audit.KindDenied, RequestID: "after"}); err != nil {
		return err
	}
	return k.log.Close()
}

// TestShortWrite: writes that fail halfway leave no fragment behind, and what
// was kept meanwhile is written afterwards.
func TestShortWrite(t *testing.T) {
	base := t.TempDir()
	said, err := command(t, "fsize", base).Output()
	must(t, err)
	k := childKitOf(t, base)
	refused := k.take(bytes.NewReader(said))
	if len(refused) < 2 {
		t.Fatalf("only %v were refused", refused)
	}
	for _, request := range refused {
		want := "denied not_sent unavailable AUDIT_UNAVAILABLE"
		if request == "sent" {
			want = "outcome ok ok"
		}
		k.settled(request, want)
	}
	gap := k.records(audit.Filter{Event: audit.EventGap})
	sum := 0
	for _, r := range gap {
		n, _ := strconv.Atoi(r.Detail["refused"])
		sum += n
	}
	if report := k.check(); sum != len(refused) || report.Voids != nil || report.TornBytes != 0 {
		t.Errorf("%d of %d refusals are told of; %+v", sum, len(refused), report)
	}
}

// TestDiskFull fills a small file system and makes room again.
func TestDiskFull(t *testing.T) {
	base := t.TempDir()
	disk := filepath.Join(base, "disk")
	must(t, os.Mkdir(disk, 0o700))
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no small file system can be mounted here: %v", err)
	}
	// Detached, because a process that another test is starting may hold it.
	defer func() { must(t, unix.Unmount(disk, unix.MNT_DETACH)) }()
	k := newKit(t, func(c *audit.Config) { c.Dir = filepath.Join(disk, "log") })
	sent := k.mustAppend(intent("sent"))
	ballast := filepath.Join(disk, "ballast")
	_ = os.WriteFile(ballast, make([]byte, 64<<10), 0o600) // as much as there is room
	failed := 0
	for i := range 200 {
		if _, err := k.append(t.Context(), intent(fmt.Sprint("refused-", i))); err != nil {
			if !errors.Is(err, audit.ErrUnavailable) || !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("append: %v", err)
			}
			if failed++; failed == 3 {
				break
			}
		}
	}
	if _, err := k.append(t.Context(), outcome(sent, audit.OutcomeOK)); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("append to a full disk: %v", err)
	}
	if err := k.log.Healthy(); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("healthy: %v", err)
	}
	k.check()
	must(t, os.Remove(ballast))
	eventually(t, func() string {
		if err := k.log.Healthy(); err != nil {
			return err.Error()
		}
		return ""
	})
	k.mustAppend(intent("after"))
	k.settled("sent", "outcome ok ok")
	k.check()
	k.close()
	k.check()
}
