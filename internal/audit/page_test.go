package audit_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// pages walks through all pages, from the end or from before.
func pages(t interface {
	Helper()
	Fatalf(string, ...any)
}, p audit.Page) (found []uint64, count int) {
	t.Helper()
	for {
		count++
		page, err := p.Read(context.Background())
		if err != nil {
			t.Fatalf("page %+v: %v", p, err)
		}
		if len(page.Records) > p.Most && p.Most > 0 {
			t.Fatalf("%d records, want at most %d", len(page.Records), p.Most)
		}
		for _, r := range page.Records {
			found = append(found, r.Seq)
		}
		if !page.More {
			return found, count
		}
		if page.Next >= p.Before {
			t.Fatalf("after the page before %d comes that before %d", p.Before, page.Next)
		}
		p.Before = page.Next
	}
}

// TestPageProperty: page by page, whatever their size, a log is what a query finds
// of it, reversed; whatever is asked, and whatever has become of the indexes.
func TestPageProperty(t *testing.T) {
	base, logs := fastDir(t), 0
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
		if rapid.Bool().Draw(t, "indexes") {
			audit.BuildIndexes(dir)
		}
		indexes, _ := filepath.Glob(filepath.Join(dir, "*.index"))
		for range 3 {
			f := someFilter(t, n)
			for _, index := range indexes {
				spoil(t, index, indexes)
			}
			want := search(t, &audit.Search{Dir: dir, Filter: f, NoIndex: true})
			slices.Reverse(want)
			before := uint64(math.MaxUint64)
			if rapid.Bool().Draw(t, "from the middle") {
				before = rapid.Uint64Range(0, uint64(n)).Draw(t, "before")
				want = slices.DeleteFunc(want, func(seq uint64) bool { return seq >= before })
			}
			got, _ := pages(t, audit.Page{Dir: dir, Filter: f, Before: before, Most: rapid.IntRange(1, 50).Draw(t, "most"),
				Bytes: rapid.IntRange(0, 5000).Draw(t, "bytes"), NoIndex: rapid.Bool().Draw(t, "no index")})
			if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
				t.Fatalf("%+v before %d: %s", f, before, diff)
			}
		}
	})
}

// A log in use, whose newest segment has zeros behind its records, and segments
// of more than a window.
func TestPageOfLogInUse(t *testing.T) {
	k := newKit(t, func(c *audit.Config) { c.SegmentBytes = 600 << 10 })
	for i := range 2500 {
		k.mustAppend(audit.Record{Kind: audit.KindDenied, RequestID: fmt.Sprint("r", i), Caller: "bot", Reason: fmt.Sprintf("%0*d", i%900, i)})
	}
	all := k.records(audit.Filter{})
	var want []uint64
	for _, r := range slices.Backward(all) {
		want = append(want, r.Seq)
	}
	if len(k.segments()) < 3 {
		t.Fatalf("%d segments", len(k.segments()))
	}
	for _, before := range []uint64{k.log.Stats().Size, math.MaxUint64} {
		got, count := pages(t, audit.Page{Dir: k.cfg.Dir, Before: before, Most: 100})
		if diff := cmp.Diff(want, got); diff != "" || count < len(want)/100 {
			t.Errorf("%d pages: %s", count, diff)
		}
	}
	for seq := range uint64(len(all)) {
		page, err := audit.Page{Dir: k.cfg.Dir, Before: seq + 1, Most: 1}.Read(t.Context())
		if err != nil || len(page.Records) != 1 || page.Records[0].Seq != seq {
			t.Fatalf("record %d alone: %v, %v", seq, page, err)
		}
	}
}

// A page ends when its time is up, wherever it is, and the next goes on there; and
// with its caller.
func TestPageTakesItsTime(t *testing.T) {
	dir := filepath.Join(fastDir(t), "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, fill := traffic(20_000)
	if err := audit.Generate(dir, 20_000, 1<<20, fill); err != nil {
		t.Fatal(err)
	}
	rare := audit.Page{Dir: dir, Before: math.MaxUint64, Filter: audit.Filter{RequestID: "zq4n7x2lj5w3k6h5d200000000"}, Most: 10, Time: 1, NoIndex: true}
	found, count := pages(t, rare)
	if len(found) != 2 || count < 20 {
		t.Errorf("%v in %d pages", found, count)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	rare.Time = 0
	if _, err := rare.Read(ctx); !errors.Is(err, gone) {
		t.Error(err)
	}
}

// What is not what was written is found where it is looked at, and only there.
func TestPageOfDamage(t *testing.T) {
	k := newKit(t)
	for i := range 200 {
		k.call(fmt.Sprint("r", i))
	}
	k.close()
	names := k.segments()
	data, err := os.ReadFile(names[1])
	if err != nil {
		t.Fatal(err)
	}
	middle := len(data) / 2
	data[middle] = 1
	if err := os.WriteFile(names[1], data, 0o600); err != nil {
		t.Fatal(err)
	}
	newest := audit.Page{Dir: k.cfg.Dir, Before: math.MaxUint64, Most: 10}
	if page, err := newest.Read(t.Context()); err != nil || len(page.Records) != 10 {
		t.Errorf("before the damage: %v, %v", page, err)
	}
	newest.Most = 0
	_, err = newest.Read(t.Context())
	var bad *audit.CorruptError
	if !errors.As(err, &bad) || bad.File != filepath.Base(names[1]) {
		t.Errorf("the damage is found as %v", err)
	}
}

// Follow tells how far it is, and a matcher is what a query finds by.
func TestFollowLooked(t *testing.T) {
	k := newKit(t)
	for i := range 20 {
		k.call(fmt.Sprint("r", i))
	}
	matches, err := audit.Filter{RequestID: "r7"}.Matcher()
	if err != nil {
		t.Fatal(err)
	}
	var found int
	enough := errors.New("enough")
	err = audit.Follow(t.Context(), k.cfg.Dir, audit.Range{Wait: true, Looked: func(next uint64) error {
		if next == k.log.Stats().Size {
			return enough
		}
		return nil
	}}, func(records []audit.Record) error {
		for i := range records {
			if matches(&records[i]) {
				found++
			}
		}
		return nil
	})
	if !errors.Is(err, enough) || found != 2 {
		t.Errorf("%d found, %v", found, err)
	}
	if _, err := (audit.Filter{Method: ","}).Matcher(); err == nil {
		t.Error("a method that is none")
	}
}

// Whichever byte of an index is wrong, a page has what it should have.
func TestPageOfSpoiledIndex(t *testing.T) {
	dir := filepath.Join(fastDir(t), "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, record := traffic(200)
	if err := audit.Generate(dir, 200, 20_000, record); err != nil {
		t.Fatal(err)
	}
	audit.BuildIndexes(dir)
	indexes, _ := filepath.Glob(filepath.Join(dir, "*.index"))
	if len(indexes) < 2 {
		t.Fatalf("%d indexes", len(indexes))
	}
	page := audit.Page{Dir: dir, Before: math.MaxUint64, Most: 1000, Filter: audit.Filter{Kind: audit.KindOutcome}}
	want, _ := pages(t, page)
	good, err := os.ReadFile(indexes[1])
	if err != nil || len(want) == 0 {
		t.Fatalf("%d records, %v", len(want), err)
	}
	for at := 0; at < len(good); at += 7 { // all would take long
		bad := slices.Clone(good)
		bad[at] ^= 1
		if err := os.WriteFile(indexes[1], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, _ := pages(t, page); !slices.Equal(want, got) {
			t.Fatalf("byte %d of %d: %d records, want %d", at, len(good), len(got), len(want))
		}
	}
}
