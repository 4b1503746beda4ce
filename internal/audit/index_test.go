package audit_test

import (
	"bytes"
	"context"
	"errors"
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
	"pgregory.net/rapid"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// search returns the numbers of the records that a search finds.
func search(t interface {
	Helper()
	Fatalf(string, ...any)
}, s *audit.Search) (found []uint64) {
	t.Helper()
	err := s.Run(context.Background(), func(r audit.Record) error {
		found = append(found, r.Seq)
		return nil
	})
	if err != nil {
		t.Fatalf("search %+v: %v", s.Filter, err)
	}
	return found
}

var (
	somePeople  = []string{"", "a", "b", "payments", "teamʼs \"own\""}
	someMethods = []string{"", "/c1.api.app.v1.Apps/Get", "/c1.api.app.v1.Apps/GetAll", "/c1.api.v1.Apps/Get", "c1.x.Y/Do"}
	somePaths   = []string{"", "X", "Y", "a/b", "app_id=X"}
	// patterns are what may stand for a method, and what each matches.
	patterns = map[string]func(string) bool{
		"c1.api.app.v1.Apps/Get":   func(m string) bool { return m == "/c1.api.app.v1.Apps/Get" },
		"Apps/Get":                 func(m string) bool { return strings.HasSuffix(m, ".Apps/Get") },
		"/c1.x.Y/Do":               func(m string) bool { return m == "c1.x.Y/Do" },
		"c1.api.app.v1.Apps/*":     func(m string) bool { return strings.HasPrefix(m, "/c1.api.app.v1.Apps/") },
		"c1.**/*":                  func(m string) bool { return m != "" },
		"Get":                      func(m string) bool { return strings.HasSuffix(m, "/Get") },
		"Get*":                     func(m string) bool { return strings.HasSuffix(m, "/GetAll") },
		"c1.api.*/*":               func(string) bool { return false },
		"c1.api.**/Get":            func(m string) bool { return strings.HasPrefix(m, "/c1.api.") && strings.HasSuffix(m, "/Get") },
		"ppName":                   func(string) bool { return false },
		"/c1.api.app.v1.Apps/Get*": func(m string) bool { return m == "/c1.api.app.v1.Apps/GetAll" },
	}
)

// someTimes are near each other, or as far as they can be.
func someTimes(t *rapid.T) *rapid.Generator[time.Time] {
	day := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return rapid.Custom(func(t *rapid.T) time.Time {
		switch rapid.IntRange(0, 40).Draw(t, "when") {
		case 0:
			return time.Date(1, 2, 3, 0, 0, 0, 1, time.UTC)
		case 1:
			return time.Date(9998, 1, 1, 0, 0, 0, 999, time.UTC)
		}
		return day.Add(time.Duration(rapid.IntRange(-4000, 4000).Draw(t, "ns")) * 250)
	})
}

// someRecord is a record of few different values.
func someRecord(i int, t *rapid.T) audit.Record {
	of := func(name string, values []string) string { return rapid.SampledFrom(values).Draw(t, name) }
	r := audit.Record{ID: fmt.Sprint("id-", i), Time: someTimes(t).Draw(t, "time"), Kind: audit.KindDenied,
		Team: of("team", somePeople), Caller: of("caller", somePeople), Tenant: of("tenant", somePeople), Door: of("door", somePeople),
		Procedure: of("procedure", someMethods), Code: of("code", somePeople), Error: of("error", somePeople),
		RequestID: of("request", somePaths), ClientRequestID: of("client", somePaths)}
	if rapid.Bool().Draw(t, "outcome") {
		r.Kind, r.Outcome = audit.KindOutcome, audit.OutcomeFailed
	}
	for _, name := range []string{"app_id", "user_id"} {
		if rapid.Bool().Draw(t, name) {
			r.Path = append(r.Path, audit.Field{Name: name, Value: of("value", somePaths)})
		}
		if rapid.Bool().Draw(t, "request "+name) {
			r.Request = append(r.Request, audit.Field{Name: name, Value: of("value", somePaths)})
		}
	}
	return r
}

// someFilter asks for few things, so that something is found.
func someFilter(t *rapid.T, n int) (f audit.Filter) {
	ask := func(name string, field *string, values []string) {
		if rapid.IntRange(0, 5).Draw(t, name+"?") == 0 {
			*field = rapid.SampledFrom(values).Draw(t, name)
		}
	}
	ask("team", &f.Team, somePeople)
	ask("caller", &f.Caller, somePeople)
	ask("tenant", &f.Tenant, somePeople)
	ask("door", &f.Door, somePeople)
	ask("code", &f.Code, somePeople)
	ask("error", &f.Error, somePeople)
	methods := slices.Sorted(maps.Keys(patterns))
	ask("method", &f.Method, methods)
	ask("not method", &f.NotMethod, methods)
	ask("request", &f.RequestID, somePaths)
	ask("client", &f.ClientRequestID, somePaths)
	ask("kind", (*string)(&f.Kind), []string{"denied", "outcome", "event"})
	ask("outcome", (*string)(&f.Outcome), []string{"failed", "ok"})
	ask("event", &f.Event, []string{audit.EventSegment})
	ask("id", &f.Intent, []string{fmt.Sprint("id-", rapid.IntRange(0, n).Draw(t, "n"))})
	for rapid.IntRange(0, 4).Draw(t, "path?") == 0 {
		f.Path = append(f.Path, audit.Field{Name: rapid.SampledFrom([]string{"", "app_id", "user_id"}).Draw(t, "name"),
			Value: rapid.SampledFrom(somePaths).Draw(t, "value")})
	}
	if rapid.IntRange(0, 2).Draw(t, "since?") == 0 {
		f.Since = someTimes(t).Draw(t, "since")
	}
	if rapid.IntRange(0, 2).Draw(t, "until?") == 0 {
		f.Until = someTimes(t).Draw(t, "until")
	}
	return f
}

// wanted is what a filter means, in as many words.
func wanted(f audit.Filter, r audit.Record) bool {
	same := func(asked, is string) bool { return asked == "" || asked == is }
	for _, p := range f.Path {
		if !slices.ContainsFunc(slices.Concat(r.Path, r.Request), func(has audit.Field) bool { return p.Value == has.Value && same(p.Name, has.Name) }) {
			return false
		}
	}
	return same(f.Team, r.Team) && same(f.Caller, r.Caller) && same(f.Tenant, r.Tenant) && same(f.Door, r.Door) &&
		same(f.Code, r.Code) && same(f.Error, r.Error) && same(f.RequestID, r.RequestID) && same(f.ClientRequestID, r.ClientRequestID) &&
		same(string(f.Kind), string(r.Kind)) && same(string(f.Outcome), string(r.Outcome)) && same(f.Event, r.Event) &&
		(f.Intent == "" || f.Intent == r.ID || f.Intent == r.Intent) &&
		(f.Method == "" || patterns[f.Method](r.Procedure)) && (f.NotMethod == "" || !patterns[f.NotMethod](r.Procedure)) &&
		(f.Since.IsZero() || !r.Time.Before(f.Since)) && (f.Until.IsZero() || r.Time.Before(f.Until))
}

// spoil does to an index what may happen to a file; others are indexes too.
func spoil(t *rapid.T, index string, others []string) {
	data, err := os.ReadFile(index)
	if err != nil || len(data) == 0 {
		return
	}
	switch rapid.IntRange(0, 6).Draw(t, "spoil") {
	case 0:
		err = os.Remove(index)
	case 1:
		err = os.Truncate(index, int64(rapid.IntRange(0, len(data)).Draw(t, "size")))
	case 2:
		data[rapid.IntRange(0, len(data)-1).Draw(t, "at")] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		err = os.WriteFile(index, data, 0o600)
	case 3:
		err = os.WriteFile(index, bytes.Replace(data, []byte("index 1"), []byte("index 0"), 1), 0o600)
	case 4:
		if data, err = os.ReadFile(rapid.SampledFrom(others).Draw(t, "other")); err == nil {
			err = os.WriteFile(index, data, 0o600)
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// TestIndexProperty: whatever is in a log and whatever is asked, and whatever
// has become of the indexes, a query finds what reading everything finds.
func TestIndexProperty(t *testing.T) {
	base, logs, found := fastDir(t), 0, 0
	rapid.Check(t, func(t *rapid.T) {
		logs++
		dir := filepath.Join(base, fmt.Sprint(logs))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		n := rapid.IntRange(1, 120).Draw(t, "records")
		if err := audit.Generate(dir, n, int64(rapid.IntRange(1000, 20_000).Draw(t, "segment")), func(i int, r *audit.Record) { *r = someRecord(i, t) }); err != nil {
			t.Fatal(err)
		}
		var all []audit.Record
		if err := audit.Query(context.Background(), dir, audit.Filter{}, func(r audit.Record) error { all = append(all, r); return nil }); err != nil {
			t.Fatal(err)
		}
		audit.BuildIndexes(dir)
		indexes, _ := filepath.Glob(filepath.Join(dir, "*.index"))
		for range 3 {
			f := someFilter(t, n)
			for _, index := range indexes {
				spoil(t, index, indexes)
			}
			var want []uint64
			for _, r := range all {
				if wanted(f, r) {
					want = append(want, r.Seq)
				}
			}
			found += len(want)
			reverse := rapid.Bool().Draw(t, "reverse")
			if reverse {
				slices.Reverse(want)
			}
			for _, none := range []bool{false, true} {
				if diff := cmp.Diff(want, search(t, &audit.Search{Dir: dir, Filter: f, Reverse: reverse, NoIndex: none})); diff != "" {
					t.Fatalf("filter %+v, reverse %v, no index %v (-want +got):\n%s", f, reverse, none, diff)
				}
			}
		}
	})
	t.Logf("%d logs, %d records found", logs, found)
}

// indexed makes a log of a few sealed segments with their indexes, and returns
// their names.
func indexed(t testing.TB) (dir string, names []string) {
	t.Helper()
	dir = filepath.Join(fastDir(t), "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, fill := traffic(400)
	if err := audit.Generate(dir, 400, 64<<10, fill); err != nil {
		t.Fatal(err)
	}
	audit.BuildIndexes(dir)
	names, _ = filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if len(names) < 4 {
		t.Fatalf("%d segments", len(names))
	}
	return dir, names
}

// TestIndexIsMadeAgain: by the query that misses it, the same to the byte, and
// without harm where it cannot be written.
func TestIndexIsMadeAgain(t *testing.T) {
	dir, names := indexed(t)
	first := audit.IndexName(names[0])
	genuine, err := os.ReadFile(first)
	must(t, err)
	asked := audit.Filter{Team: "team-7"}
	all := search(t, &audit.Search{Dir: dir, Filter: asked, NoIndex: true})
	for name, change := range map[string]func() error{
		"removed":   func() error { return os.Remove(first) },
		"emptied":   func() error { return os.Truncate(first, 0) },
		"cut":       func() error { return os.Truncate(first, int64(len(genuine)-1)) },
		"longer":    func() error { return os.WriteFile(first, append(bytes.Clone(genuine), 0), 0o600) },
		"of a next": func() error { return os.Rename(audit.IndexName(names[1]), first) },
	} {
		must(t, change())
		if got := search(t, &audit.Search{Dir: dir, Filter: asked}); !slices.Equal(got, all) {
			t.Errorf("%s: found %d, want %d", name, len(got), len(all))
		}
		if made, err := os.ReadFile(first); err != nil || !bytes.Equal(made, genuine) {
			t.Errorf("%s: it was not made again: %d bytes, want %d, %v", name, len(made), len(genuine), err)
		}
	}
	sent := audit.Filter{Kind: audit.KindOutcome, Outcome: audit.OutcomeOK}
	allSent := search(t, &audit.Search{Dir: dir, Filter: sent, NoIndex: true})
	for at := 0; at < len(genuine); at += 31 {
		bad := bytes.Clone(genuine)
		bad[at] ^= 3
		must(t, os.WriteFile(first, bad, 0o600))
		if got := search(t, &audit.Search{Dir: dir, Filter: sent}); !slices.Equal(got, allSent) {
			t.Errorf("byte %d: found %d, want %d", at, len(got), len(allSent))
		}
	}
	must(t, os.Remove(first))
	must(t, os.Mkdir(first, 0o700))
	if got := search(t, &audit.Search{Dir: dir, Filter: asked}); !slices.Equal(got, all) {
		t.Errorf("where it cannot be written: found %d, want %d", len(got), len(all))
	}
	must(t, os.Remove(first))
	search(t, &audit.Search{Dir: dir, Filter: asked, NoIndex: true})
	search(t, &audit.Search{Dir: dir})
	if _, err := os.Stat(first); err == nil {
		t.Error("a query made an index that it has no use for")
	}
}

// TestIndexReadsLittle: what cannot match is not read.
func TestIndexReadsLittle(t *testing.T) {
	dir, names := indexed(t)
	newest := &audit.Search{Dir: dir, Filter: audit.Filter{Kind: "none"}}
	search(t, newest)
	unsealed := newest.Stats().Records // it has no index
	_, fill := traffic(400)
	var r audit.Record
	fill(21, &r)
	for name, c := range map[string]struct {
		filter      audit.Filter
		most, found int64
	}{
		"request": {audit.Filter{RequestID: r.RequestID}, 2, 2},
		"client":  {audit.Filter{ClientRequestID: r.ClientRequestID}, 2, 2},
		"intent":  {audit.Filter{Intent: r.Intent}, 2, 2},
		"path":    {audit.Filter{Path: r.Path}, 2, 2},
		"team":    {audit.Filter{Team: "none"}, 0, 0},
		"method":  {audit.Filter{Method: "c1.other.**/*"}, 0, 0},
		"past":    {audit.Filter{Until: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)}, 0, 0},
		"time":    {audit.Filter{Since: r.Time, Until: r.Time.Add(1)}, 2, 1},
	} {
		s := &audit.Search{Dir: dir, Filter: c.filter}
		var found int64
		must(t, s.Run(t.Context(), func(audit.Record) error { found++; return nil }))
		stats := s.Stats()
		if unsealed > 200 || stats.Records > c.most+unsealed || found != c.found || stats.Skipped+stats.Indexed != int64(len(names)-1) {
			t.Errorf("%s: %d found, want %d; %+v, want at most %d records read of %d segments", name, found, c.found, stats, c.most+unsealed, len(names))
		}
	}
}

// TestForgedIndex: one that leads nowhere is not followed, one that hides
// records is found by Verify, and none shows what is not there.
func TestForgedIndex(t *testing.T) {
	dir, names := indexed(t)
	asked := audit.Filter{Team: "team-7"}
	all := search(t, &audit.Search{Dir: dir, Filter: asked, NoIndex: true})
	keep, same := func(*audit.Record) {}, func(n int) int { return n }
	verify := func(want ...string) {
		t.Helper()
		report, err := audit.Verify(t.Context(), dir, "")
		must(t, err)
		if diff := cmp.Diff(want, report.DamagedIndexes); diff != "" || (len(want) > 0) != strings.Contains(report.String(), "queries may miss records") {
			t.Errorf("damaged indexes (-want +got):\n%s%s", diff, report)
		}
	}
	verify()
	must(t, audit.ForgeIndex(dir, 1, false, keep, func(n int) int { return n + 1 }))
	if got := search(t, &audit.Search{Dir: dir, Filter: asked}); !slices.Equal(got, all) {
		t.Errorf("with wrong places: %v, want %v", got, all)
	}
	must(t, audit.ForgeIndex(dir, 1, false, keep, nextLine(t, names[1])))
	if got := search(t, &audit.Search{Dir: dir, Filter: asked}); !slices.Equal(got, all) {
		t.Errorf("with the places of the next lines: %v, want %v", got, all)
	}
	must(t, audit.ForgeIndex(dir, 1, true, func(r *audit.Record) { r.Team = "other" }, same))
	if got := search(t, &audit.Search{Dir: dir, Filter: asked}); !slices.Equal(got, all) {
		t.Errorf("with that of another log: %v, want %v", got, all)
	}
	for _, reverse := range []bool{false, true} {
		must(t, audit.ForgeIndex(dir, 0, false, func(r *audit.Record) { r.Team = "team-7" }, same))
		got := search(t, &audit.Search{Dir: dir, Filter: asked, Reverse: reverse})
		if slices.Sort(got); !slices.Equal(got, all) {
			t.Errorf("with all records of the team: %v, want %v", got, all)
		}
	}
	must(t, audit.ForgeIndex(dir, 0, false, func(r *audit.Record) { r.Team = "other" }, same))
	if got := search(t, &audit.Search{Dir: dir, Filter: asked}); len(got) >= len(all) {
		t.Errorf("the forged index hides nothing")
	}
	if got := search(t, &audit.Search{Dir: dir, Filter: asked, NoIndex: true}); !slices.Equal(got, all) {
		t.Errorf("without the index: %v, want %v", got, all)
	}
	verify(filepath.Base(audit.IndexName(names[0])))
	data, err := os.ReadFile(audit.IndexName(names[2]))
	must(t, err)
	data[len(data)-1]++
	must(t, os.WriteFile(audit.IndexName(names[2]), data, 0o600))
	verify(filepath.Base(audit.IndexName(names[0])), filepath.Base(audit.IndexName(names[2])))
}

// nextLine turns the lengths of a segment's lines, one after the other, into
// those by which each record's place is that of the next one.
func nextLine(t *testing.T, name string) func(int) int {
	t.Helper()
	text, err := os.ReadFile(name)
	must(t, err)
	lines := slices.Collect(bytes.Lines(text))
	n := -1
	return func(length int) int {
		switch n++; n {
		case 0:
			return length + len(lines[1])
		case len(lines) - 1:
			return 0
		}
		return len(lines[n+1])
	}
}

// TestIndexOfChangedSegment: a line that is not as it was is an error, also of a
// query that an index leads to it, and so is a segment that is missing.
func TestIndexOfChangedSegment(t *testing.T) {
	dir, names := indexed(t)
	text, err := os.ReadFile(names[1])
	must(t, err)
	must(t, os.WriteFile(names[1], bytes.ReplaceAll(text, []byte(`"team":"team-7"`), []byte(`"team" :"team-"`)), 0o600))
	var corrupt *audit.CorruptError
	none := func(audit.Record) error { return nil }
	if err := audit.Query(t.Context(), dir, audit.Filter{Team: "team-7"}, none); !errors.As(err, &corrupt) || corrupt.File != filepath.Base(names[1]) {
		t.Errorf("changed: %v", err)
	}
	must(t, os.Remove(names[1]))
	if err := audit.Query(t.Context(), dir, audit.Filter{Team: "team-7"}, none); !errors.As(err, &corrupt) {
		t.Errorf("removed: %v", err)
	}
}

// TestQueryBeginsAtOldest: a log whose older segments were removed is read from
// what is left of it, and says so.
func TestQueryBeginsAtOldest(t *testing.T) {
	dir, names := indexed(t)
	all := search(t, &audit.Search{Dir: dir})
	s := &audit.Search{Dir: dir}
	if search(t, s); s.Stats().Began != nil {
		t.Errorf("a whole log began at %+v", s.Stats().Began)
	}
	must(t, os.Remove(names[0]))
	s = &audit.Search{Dir: dir}
	left := search(t, s)
	began := s.Stats().Began
	if began == nil || began.Seq != left[0] || began.Time.IsZero() || !slices.Equal(left, all[left[0]:]) {
		t.Errorf("%d of %d left, began %+v", len(left), len(all), began)
	}
}

// TestQueryLive: while records are written and segments sealed, a query finds
// all that was acknowledged before it began, in order, and nothing twice; and
// each sealed segment gets its index.
func TestQueryLive(t *testing.T) {
	k := newKit(t)
	done := make(chan struct{})
	var writing sync.WaitGroup
	for w := range 2 {
		writing.Go(func() {
			for i := range 150 {
				if _, err := k.append(context.Background(), audit.Record{Kind: audit.KindDenied, Caller: "bot", RequestID: fmt.Sprint(w, "-", i), Team: fmt.Sprint("t", i%3)}); err != nil {
					t.Error(err)
				}
				if i%25 == 0 {
					if err := k.log.Seal(context.Background()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	go func() { writing.Wait(); close(done) }()
	for n, last := 0, false; !last; n++ {
		select {
		case <-done:
			last = true
		default:
		}
		k.mu.Lock()
		want := 0
		for _, r := range k.acked {
			if r.Team == "t1" {
				want++
			}
		}
		k.mu.Unlock()
		found := search(t, &audit.Search{Dir: k.cfg.Dir, Filter: audit.Filter{Team: "t1"}, Reverse: n%2 == 1})
		if n%2 == 1 {
			slices.Reverse(found)
		}
		if len(found) < want || !slices.IsSorted(found) || len(slices.Compact(slices.Clone(found))) != len(found) {
			t.Fatalf("found %d, want at least %d, in order: %v", len(found), want, found)
		}
	}
	eventually(t, func() string {
		for _, name := range k.segments()[:len(k.segments())-1] {
			if _, err := os.Stat(audit.IndexName(name)); err != nil {
				return err.Error()
			}
		}
		return ""
	})
	if report := k.check(); len(report.DamagedIndexes) > 0 {
		t.Error(report)
	}
}

// TestLogMakesIndexes: at its start those that are missing, and each after its
// segment was sealed; what stands in their way harms nobody.
func TestLogMakesIndexes(t *testing.T) {
	k := newKit(t)
	k.call("a")
	must(t, k.log.Seal(t.Context()))
	made := func(name string) {
		t.Helper()
		eventually(t, func() string {
			if info, err := os.Stat(audit.IndexName(name)); err != nil || info.Size() < 100 {
				return fmt.Sprint("no index: ", err)
			}
			return ""
		})
	}
	first := k.segments()[0]
	made(first)
	k.close()
	must(t, os.WriteFile(audit.IndexName(first), []byte("garbage"), 0o600))
	second := k.segments()[1]
	must(t, os.Mkdir(audit.IndexName(second), 0o700))
	k.open()
	made(first)
	k.call("b")
	must(t, k.log.Seal(t.Context()))
	made(k.segments()[2])
	k.check()
	k.close()
}

// TestQueryStops: an error of the caller's or the end of its context ends a
// search, in the midst of others that run ahead of it.
func TestQueryStops(t *testing.T) {
	dir, _ := indexed(t)
	enough := errors.New("enough")
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	for _, err := range []error{
		(&audit.Search{Dir: dir}).Run(t.Context(), func(audit.Record) error { return enough }),
		(&audit.Search{Dir: dir, Reverse: true}).Run(t.Context(), func(audit.Record) error { return enough }),
	} {
		if err != enough {
			t.Errorf("got %v", err)
		}
	}
	err := (&audit.Search{Dir: dir}).Run(ctx, func(audit.Record) error {
		if n++; n == 1 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n == 400 {
		t.Errorf("cancelled: %v after %d", err, n)
	}
	for _, method := range []string{"a b", "A/B/C", "***", "é"} {
		if err := audit.Query(t.Context(), dir, audit.Filter{Method: method}, nil); err == nil || !strings.Contains(err.Error(), "method") {
			t.Errorf("method %q: %v", method, err)
		}
	}
	if err := audit.Query(t.Context(), filepath.Join(dir, "none"), audit.Filter{}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// FuzzIndex takes any bytes for an index, with checksums as they are and with
// right ones: nothing panics, and it leads to no more records than it has.
func FuzzIndex(f *testing.F) {
	dir := filepath.Join(fastDir(f), "log")
	_, fill := traffic(400)
	err := errors.Join(os.Mkdir(dir, 0o700), audit.Generate(dir, 12, 4<<10, fill))
	audit.BuildIndexes(dir)
	genuine, readErr := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%020d.index", 0)))
	if err = errors.Join(err, readErr); err != nil {
		f.Fatal(err)
	}
	f.Add(genuine, true)
	f.Add(genuine[:len(genuine)/2], true)
	f.Add([]byte(nil), false)
	filters := []audit.Filter{{}, {Team: "team-0"}, {Method: "Method*", Kind: audit.KindOutcome}, {RequestID: "zq4n7x2lj5w3k6h5d200000001"},
		{Since: time.Date(2026, 11, 23, 0, 0, 1, 0, time.UTC), Until: time.Date(2026, 11, 23, 0, 20, 0, 0, time.UTC)}}
	for _, filter := range filters {
		if n, ok := audit.ProbeIndex(bytes.Clone(genuine), false, filter); !ok || n == 0 {
			f.Fatalf("the genuine index: %+v: %d, %v", filter, n, ok)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, forge bool) {
		for _, filter := range filters {
			if n, _ := audit.ProbeIndex(bytes.Clone(data), forge, filter); 6*n > len(data) {
				t.Fatalf("%d records in %d bytes", n, len(data))
			}
		}
	})
}
