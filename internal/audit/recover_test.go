package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
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

// crashImage is a log as a crash leaves it: its head is that of Open, and
// several records came after it.
func crashImage(t *testing.T) (image, *kit) {
	k := newKit(t)
	head, err := os.ReadFile(filepath.Join(k.cfg.Dir, "checkpoint"))
	must(t, err)
	k.call("whole")
	k.mustAppend(intent("open"))
	crashed := takeImage(t, k.cfg.Dir)
	crashed["checkpoint"] = head
	k.close()
	return crashed, k
}

// TestTornAtEveryByte: a write may be cut short anywhere. What lies before the
// cut is kept, what is torn is put aside, and nothing is ever glued to it.
func TestTornAtEveryByte(t *testing.T) {
	t.Parallel()
	crashed, k := crashImage(t)
	name := crashed.segments()[0]
	whole := crashed[name]
	k.acked = map[string]audit.Record{} // a crash that loses these has no honest disk
	signed := 2                         // records below the head: the header and the start
	var ends []int
	for i, c := range whole {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	for cut := range len(whole) + 1 {
		complete := bytes.Count(whole[:cut], []byte("\n"))
		i := image{name: whole[:cut], leaves(name): crashed[leaves(name)][:32*complete], "checkpoint": crashed["checkpoint"]}
		i.put(t, k.cfg.Dir)
		l, err := audit.Open(t.Context(), k.cfg)
		if complete < signed {
			var corrupt *audit.CorruptError
			if !errors.As(err, &corrupt) || corrupt.Seq != uint64(complete) || !bytes.Equal(takeImage(t, k.cfg.Dir)[name], whole[:cut]) {
				t.Fatalf("cut at %d, below the head: %v", cut, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		k.log = l
		torn := whole[ends[complete-1]:cut]
		events := k.records(audit.Filter{Event: audit.EventRecovered})
		if len(torn) == 0 && len(events) != 0 || len(torn) > 0 && (len(events) != 1 || events[0].Detail["bytes"] != fmt.Sprint(len(torn)) ||
			events[0].Detail["sha256"] != fmt.Sprintf("%x", sha256.Sum256(torn))) {
			t.Fatalf("cut at %d, %d bytes are torn: events %+v", cut, len(torn), events)
		}
		if saved := takeImage(t, k.cfg.Dir)["00000000000000000000.torn-1"]; !bytes.Equal(saved, torn) {
			t.Fatalf("cut at %d: saved %q, want %q", cut, saved, torn)
		}
		k.call("after")
		k.close()
		if report := k.check(); report.OpenIntents != 0 || report.Voids != nil {
			t.Fatalf("cut at %d: %+v", cut, report)
		}
		clear(k.acked)
	}
	t.Logf("%d cuts", len(whole)+1)
}

// TestTornGarbage: a torn write may leave anything behind, zeros above all,
// but not megabytes of it.
func TestTornGarbage(t *testing.T) {
	crashed, k := crashImage(t)
	name := crashed.segments()[0]
	for what, c := range map[string]struct {
		tail []byte
		ok   bool
	}{
		"zeros":      {make([]byte, 1<<20), true},
		"half":       {append([]byte(`{"seq":5,"id":"`), make([]byte, 5000)...), true},
		"newlines":   {[]byte("\n\n\n"), true},
		"binary":     {[]byte{0xff, 0, '\n', '{', '}', '\n'}, true},
		"long line":  {bytes.Repeat([]byte("x"), 100_000), true},
		"hole":       {append(make([]byte, 4096), crashed[name]...), true},
		"largest":    {append(bytes.Repeat([]byte("x"), 1<<20), make([]byte, 3<<19)...), true},
		"too much":   {make([]byte, 3<<20+1), false},
		"old record": {crashed.lines(name)[1], false}, // no write ever made this
	} {
		i := image{name: append(bytes.Clone(crashed[name]), c.tail...), leaves(name): crashed[leaves(name)], "checkpoint": crashed["checkpoint"]}
		i.put(t, k.cfg.Dir)
		report, err := audit.Verify(t.Context(), k.cfg.Dir, k.vkey())
		if c.ok != (err == nil) || c.ok && report.TornBytes != int64(len(bytes.TrimRight(c.tail, "\x00"))) {
			t.Errorf("%s: verify: %v, %+v", what, err, report)
		}
		l, err := audit.Open(t.Context(), k.cfg)
		if c.ok != (err == nil) {
			t.Errorf("%s: open: %v", what, err)
		}
		if l != nil {
			k.log = l
			k.check()
			k.close()
			k.check()
		}
	}
}

// TestCrashDuringStart: a start may crash as well, after any of its steps, and
// the next one goes on from there.
func TestCrashDuringStart(t *testing.T) {
	k := newKit(t)
	left := k.mustAppend(intent("left"))
	k.close()
	before := takeImage(t, k.cfg.Dir)
	k.open()
	after := takeImage(t, k.cfg.Dir)
	k.close()
	name := after.segments()[1]
	for n := 1; n <= len(after.lines(name)); n++ {
		i := image{}
		for file, data := range before {
			i[file] = data
		}
		i[name] = bytes.Join(after.lines(name)[:n], nil)
		i["."+name+".durable-123"] = []byte("left by a crash")
		i.put(t, k.cfg.Dir)
		k.open()
		k.check()
		k.close()
		if got := k.records(audit.Filter{Intent: left.ID, Kind: audit.KindOutcome}); len(got) != 1 {
			t.Errorf("after %d records: %d outcomes", n, len(got))
		}
		if _, err := os.Stat(filepath.Join(k.cfg.Dir, "."+name+".durable-123")); err == nil {
			t.Error("a temporary file was left")
		}
	}
}

// TestOldRecordsAreNotRead: a start reads the leaves of old segments, not
// their records; it sees all the same that one is missing or shorter.
func TestOldRecordsAreNotRead(t *testing.T) {
	good, k := signedImage(t)
	names := good.segments()
	edited := image{}
	for file, data := range good {
		edited[file] = bytes.Clone(data)
	}
	edited.replace(names[0], "payments", "treasury")
	edited.put(t, k.cfg.Dir)
	k.open()
	k.close()
	_, err := audit.Verify(t.Context(), k.cfg.Dir, k.vkey())
	var corrupt *audit.CorruptError
	if !errors.As(err, &corrupt) {
		t.Errorf("verify: %v", err)
	}
	edited[names[0]] = good[names[0]][:len(good[names[0]])-1]
	edited.put(t, k.cfg.Dir)
	if _, err := audit.Open(t.Context(), k.cfg); !errors.As(err, &corrupt) || corrupt.File != names[0] {
		t.Errorf("open: %v", err)
	}
}

// FuzzReplay takes arbitrary bytes for a segment. Nothing panics; what is
// accepted is, byte for byte, what the records that were read encode to; and
// a log that Open has put in order verifies.
func FuzzReplay(f *testing.F) {
	cfg, genuine := fuzzLog(f)
	f.Add(genuine, uint16(0))
	f.Add(genuine, uint16(len(genuine)-1))
	f.Add(append(bytes.Clone(genuine), 0, 0, 0), uint16(0))
	f.Add([]byte("{}\n"), uint16(0))
	f.Add([]byte(`{"seq":0,"id":"\ud800","time":"9999-12-31T23:59:60Z","kind":"event","event":"segment_opened","detail":{}}`+"\n"), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		data = data[:len(data)-min(len(data), int(cut))]
		image{"00000000000000000000.jsonl": data}.put(t, cfg.Dir)
		var read []byte
		err := audit.Query(context.Background(), cfg.Dir, audit.Filter{}, func(r audit.Record) error {
			line, _ := r.MarshalJSON()
			read = append(append(read, line...), '\n')
			return nil
		})
		if !bytes.HasPrefix(data, read) {
			t.Fatalf("read %q from %q", read, data)
		}
		report, verr := audit.Verify(context.Background(), cfg.Dir, "")
		if verr == nil && (err != nil || report.Records != uint64(bytes.Count(read, []byte("\n"))) || report.TornBytes != int64(len(bytes.TrimRight(data[len(read):], "\x00")))) {
			t.Fatalf("verified %+v, but read %d bytes of %d (%v)", report, len(read), len(data), err)
		}
		l, oerr := audit.Open(context.Background(), cfg)
		if oerr != nil {
			return
		}
		if verr != nil {
			t.Fatalf("opened what does not verify: %v", verr)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if report, err := audit.Verify(context.Background(), cfg.Dir, l.VerifierKey()); err != nil || report.OpenIntents != 0 {
			t.Fatalf("after Open: %v, %+v", err, report)
		}
	})
}

// fuzzLog makes a directory for one fuzz worker, and a genuine segment.
func fuzzLog(f *testing.F) (audit.Config, []byte) {
	base := fastDir(f)
	cfg := audit.Config{Dir: filepath.Join(base, "log"), KeyFile: filepath.Join(base, "key"), Origin: "fuzz"}
	l, err := audit.Open(context.Background(), cfg)
	if err != nil {
		f.Fatal(err)
	}
	in := intent("r")
	in.Time = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	if err := l.Append(context.Background(), &in); err != nil {
		f.Fatal(err)
	}
	genuine, err := os.ReadFile(filepath.Join(cfg.Dir, "00000000000000000000.jsonl"))
	if err != nil || l.Close() != nil {
		f.Fatal(err)
	}
	return cfg, genuine
}

// TestQuery: each field of a filter selects, and the log may be growing.
func TestQuery(t *testing.T) {
	k := newKit(t)
	day := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for i, r := range []audit.Record{
		{Kind: audit.KindIntent, ID: "i", RequestID: "r1", Team: "a", Caller: "x", Tenant: "t1", Procedure: "/c1.api.app.v1.Apps/Get"},
		{Kind: audit.KindOutcome, Intent: "i", RequestID: "r1", Team: "a", Caller: "x", Tenant: "t1", Procedure: "/c1.api.app.v1.Apps/Get", Outcome: audit.OutcomeFailed, Code: "unknown", Error: "OUTCOME_UNKNOWN"},
		{Kind: audit.KindDenied, RequestID: "r2", Team: "b", Caller: "x", Procedure: "/c1.api.app.v1.AppOwners/Add", Code: "permission_denied"},
		{Kind: audit.KindEvent, Event: "reloaded"},
	} {
		r.Time = day.Add(time.Duration(i) * time.Hour)
		k.mustAppend(r)
		must(t, k.log.Seal(t.Context()))
	}
	const first = 2 // after the header and the start
	for name, c := range map[string]struct {
		filter audit.Filter
		want   string
	}{
		"team":       {audit.Filter{Team: "a"}, "0 1"},
		"caller":     {audit.Filter{Caller: "x"}, "0 1 2"},
		"tenant":     {audit.Filter{Tenant: "t1"}, "0 1"},
		"kind":       {audit.Filter{Kind: audit.KindDenied}, "2"},
		"outcome":    {audit.Filter{Outcome: audit.OutcomeFailed}, "1"},
		"code":       {audit.Filter{Code: "permission_denied"}, "2"},
		"error":      {audit.Filter{Error: "OUTCOME_UNKNOWN"}, "1"},
		"request":    {audit.Filter{RequestID: "r1"}, "0 1"},
		"intent":     {audit.Filter{Intent: "i"}, "0 1"},
		"event":      {audit.Filter{Event: "reloaded"}, "3"},
		"full":       {audit.Filter{Method: "/c1.api.app.v1.Apps/Get"}, "0 1"},
		"end":        {audit.Filter{Method: "AppOwners/Add"}, "2"},
		"no name":    {audit.Filter{Method: "v1.App"}, ""},
		"part":       {audit.Filter{Method: "App*/*"}, "0 1 2"},
		"service":    {audit.Filter{Method: "c1.api.app.v1.Apps/*"}, "0 1"},
		"package":    {audit.Filter{Method: "c1.api.app.v1.*/*"}, "0 1 2"},
		"no package": {audit.Filter{Method: "c1.api.*/*"}, ""},
		"below":      {audit.Filter{Method: "c1.**/*"}, "0 1 2"},
		"method":     {audit.Filter{Method: "Get"}, "0 1"},
		"from slash": {audit.Filter{Method: "/Apps/Get"}, ""},
		"two":        {audit.Filter{Team: "a", Kind: audit.KindOutcome}, "1"},
		"none":       {audit.Filter{Team: "c"}, ""},
		"until":      {audit.Filter{Until: day.Add(2 * time.Hour)}, "0 1"},
		"since":      {audit.Filter{Since: day.Add(time.Hour), Until: day.Add(3 * time.Hour)}, "1 2"},
		"since late": {audit.Filter{Since: time.Now().Add(24 * time.Hour)}, ""},
	} {
		var got []string
		for _, r := range k.records(c.filter) {
			if r.Event != audit.EventSegment {
				got = append(got, fmt.Sprint((r.Seq-first)/2)) // each is followed by a header
			}
		}
		if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	stop := errors.New("enough")
	if err := audit.Query(t.Context(), k.cfg.Dir, audit.Filter{}, func(audit.Record) error { return stop }); err != stop {
		t.Errorf("stopped: %v", err)
	}
	if err := audit.Query(t.Context(), t.TempDir(), audit.Filter{}, nil); err == nil {
		t.Error("an empty directory was read")
	}
}

// TestVerifyLive: a log that is being written to, sealed and signed verifies at
// any moment, and what is read of it is whole.
func TestVerifyLive(t *testing.T) {
	k := newKit(t)
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := range 60 {
				in, err := k.append(context.Background(), intent(fmt.Sprint(c, "-", i)))
				if err == nil {
					_, err = k.append(context.Background(), outcome(in, audit.OutcomeOK))
				}
				if err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	written := make(chan struct{})
	go func() { wg.Wait(); close(written) }()
	for n := 1; ; n++ {
		report := k.check()
		select {
		case <-written:
			if report = k.check(); report.Segments < 3 {
				t.Errorf("too little was written: %+v", report)
			}
			t.Logf("verified %d times", n)
			return
		case <-time.After(2 * time.Millisecond): // leave the writers some of a busy machine
		}
	}
}
