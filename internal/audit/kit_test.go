package audit_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// A kit is a log in a directory of its own, and all that it has acknowledged.
type kit struct {
	t   *testing.T
	cfg audit.Config
	log *audit.Log // nil while it is closed

	mu    sync.Mutex
	acked map[string]audit.Record // by ID
}

// newKit opens a log with small segments. Its directory is in memory if the
// machine has such a place: what the kernel does with fsync is not under test.
func newKit(t *testing.T, change ...func(*audit.Config)) *kit {
	t.Helper()
	base := fastDir(t)
	k := &kit{t: t, acked: map[string]audit.Record{}, cfg: audit.Config{
		Dir: filepath.Join(base, "log"), KeyFile: filepath.Join(base, "key"), Origin: "example.com/log", SegmentBytes: 16 << 10,
	}}
	for _, c := range change {
		c(&k.cfg)
	}
	k.open()
	t.Cleanup(func() {
		if k.log != nil {
			_ = k.log.Close() // a failed test; in a bubble it must end there
		}
	})
	return k
}

// fastDir is a temporary directory, in memory if possible.
func fastDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "audit")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (k *kit) open() {
	k.t.Helper()
	l, err := audit.Open(context.Background(), k.cfg)
	if err != nil {
		k.t.Fatalf("open: %v", err)
	}
	k.log = l
}

func (k *kit) close() {
	k.t.Helper()
	if err := k.log.Close(); err != nil {
		k.t.Fatalf("close: %v", err)
	}
	k.log = nil
}

// vkey is the log's verifier key.
func (k *kit) vkey() string {
	k.t.Helper()
	key, err := audit.LoadKey(k.cfg.KeyFile)
	if err != nil {
		k.t.Fatal(err)
	}
	return key.VerifierKey()
}

// append appends a record and remembers it if it was acknowledged.
func (k *kit) append(ctx context.Context, r audit.Record) (audit.Record, error) {
	err := k.log.Append(ctx, &r)
	if err == nil {
		k.mu.Lock()
		k.acked[r.ID] = r
		k.mu.Unlock()
	}
	return r, err
}

func (k *kit) mustAppend(r audit.Record) audit.Record {
	k.t.Helper()
	r, err := k.append(context.Background(), r)
	if err != nil {
		k.t.Fatalf("append %s: %v", r.Kind, err)
	}
	return r
}

// call appends an intent and its outcome.
func (k *kit) call(id string) {
	k.t.Helper()
	in := k.mustAppend(intent(id))
	k.mustAppend(outcome(in, audit.OutcomeOK))
}

func intent(request string) audit.Record {
	return audit.Record{Kind: audit.KindIntent, RequestID: request, Caller: "bot", Team: "payments", Tenant: "default",
		Procedure: "/c1.api.app.v1.Apps/Get", Path: audit.Fields{{Name: "app_id", Value: "a/b"}}, UpstreamCredential: "fox@acme/spc"}
}

func outcome(in audit.Record, o audit.Outcome) audit.Record {
	return audit.Record{Kind: audit.KindOutcome, RequestID: in.RequestID, Intent: in.ID, Team: in.Team, Procedure: in.Procedure,
		Outcome: o, Code: "ok", Attempts: []int{200}, UpstreamStatus: 200, Duration: 1500 * time.Microsecond}
}

// records returns all records of the log.
func (k *kit) records(f audit.Filter) (found []audit.Record) {
	k.t.Helper()
	err := audit.Query(context.Background(), k.cfg.Dir, f, func(r audit.Record) error {
		found = append(found, r)
		return nil
	})
	if err != nil {
		k.t.Fatalf("query: %v", err)
	}
	return found
}

// event returns the only event of a name.
func (k *kit) event(name string) audit.Record {
	k.t.Helper()
	found := k.records(audit.Filter{Event: name})
	if len(found) != 1 {
		k.t.Fatalf("got %d events %q, want 1: %+v", len(found), name, found)
	}
	return found[0]
}

// check holds after every step, whether the log is open or closed:
//
//   - the log verifies,
//   - its numbers are 0, 1, 2, ...,
//   - all that was acknowledged is there, as it was acknowledged,
//   - no intent and no request has two final records.
func (k *kit) check() audit.Report {
	k.t.Helper()
	report, err := audit.Verify(context.Background(), k.cfg.Dir, k.vkey())
	if err != nil {
		k.t.Fatalf("verify: %v", err)
	}
	k.mu.Lock()
	missing := maps.Clone(k.acked)
	k.mu.Unlock()
	finals := map[string]int{}
	for i, r := range k.records(audit.Filter{}) {
		if r.Seq != uint64(i) {
			k.t.Fatalf("record %d has the number %d", i, r.Seq)
		}
		if want, ok := missing[r.ID]; ok {
			if diff := cmp.Diff(normal(want), r); diff != "" {
				k.t.Fatalf("record %d is not as acknowledged (-acked +found):\n%s", i, diff)
			}
			delete(missing, r.ID)
		}
		if r.Kind == audit.KindOutcome || r.Kind == audit.KindDenied {
			finals["intent "+r.Intent]++
			finals["request "+r.RequestID]++
		}
	}
	delete(finals, "intent ")
	delete(finals, "request ")
	for name, n := range finals {
		if n > 1 {
			k.t.Fatalf("%s has %d final records", name, n)
		}
	}
	if len(missing) > 0 {
		k.t.Fatalf("%d acknowledged records are missing, such as %+v", len(missing), missing[slices.Collect(maps.Keys(missing))[0]])
	}
	return report
}

// finals returns what became of a request, as "kind outcome code error".
func (k *kit) finals(request string) []string {
	k.t.Helper()
	var finals []string
	for _, r := range k.records(audit.Filter{RequestID: request}) {
		if r.Kind == audit.KindOutcome || r.Kind == audit.KindDenied {
			finals = append(finals, strings.TrimSpace(fmt.Sprint(r.Kind, " ", r.Outcome, " ", r.Code, " ", r.Error)))
		}
	}
	return finals
}

// settled waits until a request has its final record, and returns it.
func (k *kit) settled(request, want string) {
	k.t.Helper()
	eventually(k.t, func() string {
		if diff := cmp.Diff([]string{want}, k.finals(request)); diff != "" {
			return "final records of " + request + " (-want +got):\n" + diff
		}
		return ""
	})
}

// eventually waits until check returns "".
func eventually(t *testing.T, check func() string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		problem := check()
		if problem == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatal(problem)
		}
	}
}

// normal is what a record reads as: times in UTC, durations in microseconds.
func normal(r audit.Record) audit.Record {
	r.Time = r.Time.UTC().Round(0)
	r.Duration = r.Duration.Truncate(time.Microsecond)
	return r
}

// segments returns the names of the log's segments.
func (k *kit) segments() []string {
	k.t.Helper()
	names, err := filepath.Glob(filepath.Join(k.cfg.Dir, "*.jsonl"))
	if err != nil || len(names) == 0 {
		k.t.Fatalf("no segments: %v", err)
	}
	return names
}

// newest is the segment that is written to.
func (k *kit) newest() string {
	names := k.segments()
	return names[len(names)-1]
}
