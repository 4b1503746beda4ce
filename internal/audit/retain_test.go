package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// retainConfig is childConfig with retention, where the test has put a file
// "retain" beside the log, with the path of the archive or nothing in it.
func retainConfig(base string) audit.Config {
	cfg := childConfig(base)
	if archive, err := os.ReadFile(filepath.Join(base, "retain")); err == nil {
		cfg.SegmentBytes, cfg.Retain = 8<<10, audit.Retain{Bytes: 24 << 10, ArchiveDir: string(archive)}
	}
	return cfg
}

// childRetain appends from several goroutines until 12 segments were removed.
func childRetain(k *childKit) error {
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := 0; k.log.Stats().Removed < 12; i++ {
				in, err := k.try(intent(fmt.Sprint(os.Getpid(), "-", n, "-", i)))
				if err == nil {
					_, err = k.try(outcome(in, audit.OutcomeOK))
				}
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return k.log.Close()
}

// retained checks a log with retention that nobody writes to: it verifies,
// alone and with its archive, and no acknowledged record is missing that the
// archive should have. It returns the report with the archive.
func (k *kit) retained(archive string) audit.Report {
	k.t.Helper()
	evidence := audit.Evidence{Key: k.vkey()}
	alone, err := evidence.Verify(k.t.Context(), k.cfg.Dir)
	if err != nil {
		k.t.Fatalf("verify: %v\n%s", err, k.listing())
	}
	if archive == "" {
		return alone
	}
	evidence.Archives = []string{archive}
	report, err := evidence.Verify(k.t.Context(), k.cfg.Dir)
	if err != nil || report.Hashed != 0 || report.Records != alone.Records {
		k.t.Fatalf("verify with the archive: %v, %+v\n%s", err, report, k.listing())
	}
	found := map[string]bool{}
	for _, dir := range []string{archive, k.cfg.Dir} {
		err := audit.Query(k.t.Context(), dir, audit.Filter{}, func(r audit.Record) error { found[r.ID] = true; return nil })
		if err != nil && !strings.Contains(err.Error(), "there is no audit log") {
			k.t.Fatal(err)
		}
	}
	for id := range k.acked {
		if !found[id] {
			k.t.Fatalf("acknowledged record %s is neither in the log nor in the archive", id)
		}
	}
	return report
}

// listing shows the log's files.
func (k *kit) listing() string {
	names, _ := filepath.Glob(filepath.Join(k.cfg.Dir, "*"))
	return strings.Join(names, "\n")
}

// tidy checks that of each removed segment exactly the hashes are left.
func (k *kit) tidy(oldest uint64) {
	k.t.Helper()
	for name := range takeImage(k.t, k.cfg.Dir) {
		var first uint64
		if n, _ := fmt.Sscanf(name, "%d.", &first); n == 1 && (first < oldest) != strings.HasSuffix(name, ".hashes") {
			k.t.Fatalf("%s is there, the oldest record is %d:\n%s", name, oldest, k.listing())
		}
	}
}

// TestRetainKill kills a process that removes segments under load at each step
// of the first removal, and at random: the log verifies at once, the next start
// finishes what was begun, and nothing acknowledged is lost.
func TestRetainKill(t *testing.T) {
	t.Parallel()
	first := fmt.Sprintf("%020d", 0)
	hashes, segment := "renameat:log/"+first+".hashes", []string{"unlinkat:log/" + first + ".jsonl", "unlinkat:log/" + first + ".leaves"}
	for name, place := range map[string]struct {
		archive func(base string) string
		steps   []string
	}{
		"moved": {func(base string) string { return filepath.Join(base, "archive") }, []string{
			"linkat:archive/" + first + ".leaves", "linkat:archive/" + first + ".jsonl", "fsync:archive", hashes}},
		"copied": {func(string) string { return fastDir(t) }, []string{
			"linkat:archive/" + first + ".leaves", "renameat:archive/" + first + ".leaves", "renameat:archive/" + first + ".jsonl", "fsync:archive", hashes}},
		"removed": {func(string) string { return "" }, []string{hashes}},
	} {
		kills, removed := 0, uint64(0)
		steps := slices.Concat(place.steps, segment, make([]string, 6))
		for _, step := range steps {
			base := t.TempDir()
			archive := place.archive(base)
			if archive != "" {
				must(t, os.MkdirAll(archive, 0o700))
			}
			must(t, os.WriteFile(filepath.Join(base, "retain"), []byte(archive), 0o600))
			k := &kit{t: t, cfg: retainConfig(base), acked: map[string]audit.Record{}}
			call, path, _ := strings.Cut(step, ":")
			if rest, ok := strings.CutPrefix(path, "archive"); ok {
				path = filepath.Join(archive, rest)
			} else {
				path = filepath.Join(base, path)
			}
			if k.killed(base, call, path) {
				kills++
			} else if step != "" {
				t.Errorf("%s: not killed at %s", name, step)
			}
			k.retained(archive)
			k.open()
			eventually(t, k.pending)
			k.close()
			k.retained(archive)
			oldest := k.retained("").Oldest
			k.tidy(oldest)
			removed += oldest
		}
		t.Logf("%s: %d of %d processes killed, %d records removed, no false alarm", name, kills, len(steps), removed)
	}
}

// pending tells whether retention still has something to do.
func (k *kit) pending() string {
	sum := int64(0)
	names := k.segments()
	for _, name := range names[:len(names)-1] { // the newest one grows until the next look
		if info, err := os.Stat(name); err == nil { // it may be removed just now
			sum += info.Size()
		}
	}
	if len(names) > 1 && sum > k.cfg.Retain.Bytes {
		return fmt.Sprintf("%d bytes in segments: %+v", sum, k.log.Stats())
	}
	return ""
}

// killed runs a child that is killed at the first call of a syscall for a path,
// or, with no syscall, at random. It returns false if the child was quicker.
func (k *kit) killed(base, call, path string) bool {
	k.t.Helper()
	var wrap []string
	if call != "" {
		wrap = strace(k.t, os.DevNull, "-e", "trace="+call, "-P", path, "-e", "inject="+call+":signal=KILL:when=1")
		// With this flag strace takes note of signals too late.
		wrap = slices.DeleteFunc(wrap, func(arg string) bool { return arg == "--seccomp-bpf" })
	}
	cmd := command(k.t, "retain", base, wrap...)
	out, err := cmd.StdoutPipe()
	must(k.t, err)
	must(k.t, cmd.Start())
	reports := bufio.NewReader(out)
	if call == "" {
		_, _ = reports.Peek(1)
		time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond, func() { _ = cmd.Process.Kill() })
	}
	said, err := io.ReadAll(reports)
	_ = cmd.Wait()
	must(k.t, err)
	for line := range bytes.Lines(said) {
		var word, kind, id string
		if n, _ := fmt.Sscan(string(line), &word, &kind, &id); n == 3 && word == "acked" && bytes.HasSuffix(line, []byte("\n")) {
			k.acked[id] = audit.Record{ID: id}
		}
	}
	return cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// retainKit is a log with a limit of bytes and an archive.
func retainKit(t *testing.T, change ...func(*audit.Config)) (k *kit, archive string) {
	archive = filepath.Join(fastDir(t), "archive")
	must(t, os.Mkdir(archive, 0o700))
	return newKit(t, append([]func(*audit.Config){func(c *audit.Config) {
		c.SegmentBytes, c.Retain = 2<<10, audit.Retain{Bytes: 5 << 10, ArchiveDir: archive}
	}}, change...)...), archive
}

// grow makes calls until the log has removed n segments more.
func (k *kit) grow(n uint64) {
	k.t.Helper()
	end := k.log.Stats().Removed + n
	for i := 0; k.log.Stats().Removed < end; i++ {
		if i > 5000 {
			k.t.Fatalf("nothing is removed any more: %+v", k.log.Stats())
		}
		k.call(fmt.Sprint("r", i))
	}
}

// TestRetain: what is removed is archived, accounted for, and still proved;
// what is not archived is known to be gone.
func TestRetain(t *testing.T) {
	t.Parallel()
	k, archive := retainKit(t)
	k.grow(6)
	early, err := audit.ReadCheckpoint(k.cfg.Dir, "")
	must(t, err)
	k.grow(6)
	k.close()
	report := k.retained(archive)
	if report.Oldest == 0 || report.Archived < 12 {
		t.Fatalf("%+v", report)
	}
	for _, r := range k.records(audit.Filter{Event: audit.EventRemoved}) {
		if _, err := os.Stat(r.Detail["archived_as"]); err != nil {
			t.Errorf("%v: %v", r.Detail, err)
		}
	}

	// Proofs of all records, against all heads, with and without the archive.
	third := newStranger(t, k.vkey())
	newest, err := audit.ReadCheckpoint(k.cfg.Dir, "")
	must(t, err)
	for _, archives := range [][]string{{archive}, nil} {
		for _, head := range [][]byte{early, newest} {
			prover, err := audit.NewProver(k.cfg.Dir, archives, head)
			must(t, err)
			size, _, err := third.head(head)
			must(t, err)
			for seq := range uint64(size) {
				proof, err := prover.Record(t.Context(), seq)
				if archives == nil && seq < report.Oldest {
					if !errors.Is(err, audit.ErrRemoved) {
						t.Fatalf("record %d, which is gone: %v", seq, err)
					}
					continue
				}
				must(t, err)
				_, err = third.proof(proof.Text())
				must(t, err)
			}
		}
	}
	prover, err := audit.NewProver(k.cfg.Dir, []string{archive}, nil)
	must(t, err)
	growth, err := prover.Since(t.Context(), early)
	must(t, err)
	_, err = third.proof(growth.Text())
	must(t, err)

	// A head that is about removed records is checked with the archive only.
	evidence := audit.Evidence{Key: k.vkey(), Checkpoints: []audit.Checkpoint{{Name: "early", Data: early}}, Archives: []string{archive}}
	_, err = evidence.Verify(t.Context(), k.cfg.Dir)
	must(t, err)
	evidence.Archives = nil
	size, _, _ := third.head(early)
	_, whole := takeImage(t, k.cfg.Dir)[fmt.Sprintf("%020d.hashes", size)] // then it ends with a segment
	_, err = evidence.Verify(t.Context(), k.cfg.Dir)
	if inside := uint64(size) < report.Oldest && !whole; errors.Is(err, audit.ErrRemoved) != inside || !inside && err != nil {
		t.Errorf("a head of %d records, %d are removed: %v", size, report.Oldest, err)
	}

	// Of an archive that has a hole, the rest is still verified.
	names, err := filepath.Glob(filepath.Join(archive, "*.jsonl"))
	must(t, err)
	must(t, os.Remove(names[3]))
	evidence = audit.Evidence{Key: k.vkey(), Archives: []string{archive}}
	holed, err := evidence.Verify(t.Context(), k.cfg.Dir)
	if err != nil || holed.Hashed == 0 || holed.Archived != report.Archived-1 {
		t.Errorf("an archive with a hole: %v, %+v", err, holed)
	}
	text, err := os.ReadFile(names[5])
	must(t, err)
	must(t, os.WriteFile(names[5], bytes.Replace(text, []byte("payments"), []byte("treasury"), 1), 0o600))
	if _, err := evidence.Verify(t.Context(), k.cfg.Dir); finding(err) != audit.FindingChanged || !strings.Contains(err.Error(), names[5]+" line ") {
		t.Errorf("an edited archive: %v", err)
	}
	k.open() // a start reads no archive, and goes on
	k.grow(3)
	k.close()
	k.tidy(k.retained("").Oldest)
}

// TestRetainMutations: of thousands of changes of what is left after removals
// each is flagged.
func TestRetainMutations(t *testing.T) {
	t.Parallel()
	k, _ := retainKit(t, func(c *audit.Config) { c.Retain = audit.Retain{Bytes: 9 << 10} })
	k.grow(5)
	eventually(t, k.pending)
	k.close()
	older := takeImage(t, k.cfg.Dir)
	k.open()
	k.grow(3)
	eventually(t, k.pending)
	k.close()
	good := takeImage(t, k.cfg.Dir)
	exported := audit.Evidence{Key: k.vkey(), Checkpoints: []audit.Checkpoint{{Name: "exported", Data: good["checkpoint"]}}}
	report := k.retained("")
	var hashes []string
	for name := range good {
		if strings.HasSuffix(name, ".hashes") {
			hashes = append(hashes, name)
		}
	}
	slices.Sort(hashes)
	segments := good.segments()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	counts := map[string]int{}
	for i := range 3000 {
		bad := image{}
		for name, data := range good {
			bad[name] = bytes.Clone(data)
		}
		h := hashes[rng.IntN(len(hashes))]
		what := []string{"hashes edited", "hashes cut", "hashes deleted", "hashes swapped", "segment removed and hashes forged",
			"record changed", "older copy", "middle segment removed and hashes forged"}[i%8]
		switch what {
		case "hashes edited":
			at := rng.IntN(len(bad[h]))
			bad[h][at] ^= byte(1 + rng.IntN(255))
		case "hashes cut":
			bad[h] = bad[h][:rng.IntN(len(bad[h]))]
		case "hashes deleted":
			delete(bad, h)
		case "hashes swapped":
			lines := bytes.SplitAfter(bad[h], []byte("\n"))
			other := bytes.SplitAfter(bad[hashes[(slices.Index(hashes, h)+1)%len(hashes)]], []byte("\n"))
			lines[1+rng.IntN(len(lines)-2)] = other[1+rng.IntN(len(other)-2)]
			bad[h] = bytes.Join(lines, nil)
		case "segment removed and hashes forged":
			for _, name := range segments[:1+rng.IntN(len(segments)-1)] {
				var first, end uint64
				_, _ = fmt.Sscanf(name, "%d", &first)
				_, _ = fmt.Sscanf(segments[slices.Index(segments, name)+1], "%d", &end)
				bad[strings.TrimSuffix(name, "jsonl")+"hashes"] = audit.ForgeHashes(first, end, good.lines(name))
				delete(bad, name)
				forged := audit.Record{Seq: report.Records, ID: "forged", Time: time.Now(), Kind: audit.KindEvent, Event: audit.EventRemoved,
					Detail: map[string]string{"end": fmt.Sprint(end)}}
				event, _ := forged.MarshalJSON() // after the head, where nothing is signed
				bad[segments[len(segments)-1]] = append(bytes.Clone(good[segments[len(segments)-1]]), append(event, '\n')...)
			}
		case "middle segment removed and hashes forged":
			at := 1 + rng.IntN(len(segments)-2)
			var first, end uint64
			_, _ = fmt.Sscanf(segments[at], "%d", &first)
			_, _ = fmt.Sscanf(segments[at+1], "%d", &end)
			bad[strings.TrimSuffix(segments[at], "jsonl")+"hashes"] = audit.ForgeHashes(first, end, good.lines(segments[at]))
			delete(bad, segments[at])
		case "record changed":
			name := segments[rng.IntN(len(segments))]
			bad[name][rng.IntN(len(bad[name]))] ^= byte(1 + rng.IntN(255))
		case "older copy":
			bad = older
		}
		bad.over(t, k.cfg.Dir, good)
		_, err := exported.Verify(t.Context(), k.cfg.Dir)
		if finding(err) == "none" {
			t.Fatalf("seed %d: %s: %v", seed, what, err)
		}
		if what == "segment removed and hashes forged" && finding(err) != audit.FindingRemoved {
			t.Fatalf("seed %d: %s: found %q: %v", seed, what, finding(err), err)
		}
		if i < 70 && what != "older copy" && what != "record changed" { // a start reads old records from their leaves
			if l, err := audit.Open(t.Context(), k.cfg); err == nil {
				_ = l.Close()
				t.Fatalf("seed %d: %s: opened", seed, what)
			}
		}
		good.over(t, k.cfg.Dir, bad)
		counts[what]++
	}
	t.Logf("all flagged: %v", counts)
}

// over makes dir what the image says, where it is another image now.
func (i image) over(t *testing.T, dir string, now image) {
	t.Helper()
	for name := range now {
		if _, stays := i[name]; !stays {
			must(t, os.Remove(filepath.Join(dir, name)))
		}
	}
	for name, data := range i {
		if was, there := now[name]; !there || !bytes.Equal(was, data) {
			must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		}
	}
}

// TestRetainHolds: a segment stays while a call is open in it, or someone
// needs it, and the log says so.
func TestRetainHolds(t *testing.T) {
	t.Parallel()
	var holds atomic.Uint64
	var said bytes.Buffer
	k, _ := retainKit(t, func(c *audit.Config) {
		c.Holds = holds.Load
		c.Logger = slog.New(slog.NewTextHandler(&lockedWriter{w: &said}, nil))
	})
	fill := func() {
		for i := range 60 {
			k.call(fmt.Sprint("fill-", i))
		}
	}
	held := func(want string) {
		t.Helper()
		fill()
		eventually(t, func() string {
			if s := k.log.Stats(); !s.HeldBack || s.Removed != 0 {
				return fmt.Sprintf("%+v", s)
			}
			return ""
		})
		if want != "" && !strings.Contains(said.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, said.String())
		}
	}
	open := k.mustAppend(intent("long"))
	held("a call was open at record 2 when the newest segment was begun")
	k.mustAppend(outcome(open, audit.OutcomeOK))
	held("") // by the reader
	holds.Store(1 << 40)
	k.grow(5)
	must(t, k.log.Seal(t.Context()))
	k.close()
	k.retained(k.cfg.Retain.ArchiveDir)
}

// lockedWriter lets a test read what a log says.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// TestRetainArchiveFails: while the archive is gone, full or has another file,
// nothing is removed and records are written as ever; then it goes on.
func TestRetainArchiveFails(t *testing.T) {
	t.Parallel()
	k, archive := retainKit(t)
	stuck := func(why string) {
		t.Helper()
		before := k.log.Stats().Removed
		for i := range 60 {
			k.call(fmt.Sprint("stuck-", i))
		}
		eventually(t, func() string {
			if s := k.log.Stats(); !s.HeldBack || s.Removed > before+1 || k.log.Healthy() != nil {
				return fmt.Sprintf("%s: %+v, %v", why, s, k.log.Healthy())
			}
			return ""
		})
		removed := k.log.Stats().Removed
		for i := range 30 {
			k.call(fmt.Sprint("stuck-more-", i))
		}
		if s := k.log.Stats(); s.Removed != removed {
			t.Errorf("%s: a segment was removed", why)
		}
	}
	k.grow(2)
	must(t, os.Rename(archive, archive+"2"))
	stuck("the archive is gone")
	must(t, os.Rename(archive+"2", archive))
	k.grow(2)
	k.close() // or else one of them may be about to be archived
	next := filepath.Base(k.segments()[0])
	for _, name := range k.segments() { // whichever is next
		there := filepath.Join(archive, filepath.Base(name))
		must(t, os.RemoveAll(there)) // it may be archived already, as a link to the log's own
		must(t, os.WriteFile(there, []byte("another log's"), 0o600))
	}
	k.open()
	stuck("the archive has other files")
	for name := range takeImage(t, archive) {
		if name >= next && strings.HasSuffix(name, ".jsonl") {
			if data, _ := os.ReadFile(filepath.Join(archive, name)); string(data) == "another log's" {
				must(t, os.Remove(filepath.Join(archive, name)))
			}
		}
	}
	k.grow(2)
	k.close()
	k.retained(archive)

	full := filepath.Join(t.TempDir(), "full")
	must(t, os.Mkdir(full, 0o700))
	if err := unix.Mount("tmpfs", full, "tmpfs", 0, "size=8k"); err != nil {
		t.Skipf("no small file system can be mounted here: %v", err)
	}
	defer func() { must(t, unix.Unmount(full, unix.MNT_DETACH)) }()
	must(t, os.WriteFile(filepath.Join(full, "ballast"), make([]byte, 8<<10), 0o600))
	k.cfg.Retain.ArchiveDir = full
	k.open()
	stuck("the archive is full")
	k.close()
	k.cfg.Retain.ArchiveDir = archive
	k.open()
	k.grow(2)
	k.close()
	k.retained(archive)
}

// TestRetainVerifyInUse: segments that vanish under a verification are no
// tampering.
func TestRetainVerifyInUse(t *testing.T) {
	t.Parallel()
	k, archive := retainKit(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 800 {
			in := intent(fmt.Sprint(i))
			if k.log.Append(t.Context(), &in) != nil {
				return
			}
			out := outcome(in, audit.OutcomeOK)
			_ = k.log.Append(t.Context(), &out)
		}
	}()
	verified := 0
	for ; ; verified++ {
		select {
		case <-done:
			if verified == 0 || k.log.Stats().Removed == 0 {
				t.Errorf("%d verifications, %d removals", verified, k.log.Stats().Removed)
			}
			return
		default:
		}
		evidence := audit.Evidence{Key: k.vkey()}
		if verified%2 == 1 {
			evidence.Archives = []string{archive}
		}
		if _, err := evidence.Verify(t.Context(), k.cfg.Dir); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRetainEvidence: a segment that was changed is not removed but kept, as
// the evidence that it is.
func TestRetainEvidence(t *testing.T) {
	t.Parallel()
	var needs atomic.Uint64
	k, _ := retainKit(t, func(c *audit.Config) { c.Holds = needs.Load })
	for i := range 60 {
		k.call(fmt.Sprint(i))
	}
	name := k.segments()[0]
	text, err := os.ReadFile(name)
	must(t, err)
	must(t, os.WriteFile(name, bytes.Replace(text, []byte("payments"), []byte("treasury"), 1), 0o600))
	needs.Store(1 << 40)
	for i := range 60 {
		k.call(fmt.Sprint("more-", i))
	}
	if s := k.log.Stats(); s.Removed != 0 || !s.HeldBack {
		t.Errorf("%+v", s)
	}
	k.close()
	if _, err := audit.Verify(t.Context(), k.cfg.Dir, k.vkey()); finding(err) != audit.FindingChanged {
		t.Errorf("%v", err)
	}
}

// TestRetainAge removes what is older than the limit, though nothing is written.
func TestRetainAge(t *testing.T) {
	base := fastDir(t)
	synctest.Test(t, func(t *testing.T) {
		l, err := audit.Open(t.Context(), audit.Config{Dir: filepath.Join(base, "log"), KeyFile: filepath.Join(base, "key"),
			Retain: audit.Retain{Age: 24 * time.Hour}})
		must(t, err)
		for range 3 {
			r := audit.Record{Kind: audit.KindDenied}
			must(t, l.Append(t.Context(), &r))
			must(t, l.Seal(context.Background()))
			time.Sleep(8 * time.Hour)
		}
		time.Sleep(90 * time.Second) // it looks each minute
		if s := l.Stats(); s.Removed != 1 {
			t.Errorf("after a day: %+v", s)
		}
		time.Sleep(8 * time.Hour)
		if s := l.Stats(); s.Removed != 2 || s.Oldest == 0 || s.HeldBack {
			t.Errorf("8 hours later: %+v", s)
		}
		must(t, l.Close())
		_, err = audit.Verify(context.Background(), filepath.Join(base, "log"), l.VerifierKey())
		must(t, err)
	})
}

// TestRetainPlace: an archive inside the log's directory is refused.
func TestRetainPlace(t *testing.T) {
	k := newKit(t)
	k.close()
	inside := filepath.Join(k.cfg.Dir, "archive")
	must(t, os.Mkdir(inside, 0o700))
	for _, retain := range []audit.Retain{{Bytes: 1, ArchiveDir: inside}, {Bytes: 1, ArchiveDir: k.cfg.Dir}, {Age: -1}} {
		k.cfg.Retain = retain
		if l, err := audit.Open(t.Context(), k.cfg); err == nil {
			_ = l.Close()
			t.Errorf("%+v: opened", retain)
		}
	}
}
