package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// An image is the content of a log's directory: file name to bytes.
type image map[string][]byte

// takeImage reads all files of dir, without the zeros behind the newest segment
// of a log in use.
func takeImage(t *testing.T, dir string) image {
	t.Helper()
	files := rawImage(t, dir)
	for _, name := range files.segments() {
		files[name] = bytes.TrimRight(files[name], "\x00")
	}
	return files
}

// rawImage reads all files of dir.
func rawImage(t *testing.T, dir string) image {
	t.Helper()
	files := image{}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a temporary file that has its name by now
		}
		must(t, err)
		files[entry.Name()] = data
	}
	return files
}

// put makes dir what the image says.
func (i image) put(t *testing.T, dir string) {
	t.Helper()
	must(t, os.RemoveAll(dir))
	must(t, os.Mkdir(dir, 0o700))
	for name, data := range i {
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
}

// segments returns the names of the segments in their order.
func (i image) segments() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(i)), func(name string) bool { return !strings.HasSuffix(name, ".jsonl") })
}

// lines splits a segment.
func (i image) lines(name string) [][]byte {
	return bytes.SplitAfter(bytes.TrimSuffix(i[name], []byte("\n")), []byte("\n"))
}

// firstBad is the number of the first record that differs between a segment
// and what it was.
func firstBad(first uint64, was, is []byte) uint64 {
	a, b := bytes.SplitAfter(was, []byte("\n")), bytes.SplitAfter(is, []byte("\n"))
	for n := range a {
		if n >= len(b) || !bytes.Equal(a[n], b[n]) {
			return first + uint64(n)
		}
	}
	return first + uint64(len(a)) - 1
}

// mutations are what someone may do to the lines of a segment. Each changes
// something before the end of what is signed.
var mutations = []struct {
	name  string
	apply func(rng *rand.Rand, all image, lines [][]byte) []byte
}{
	{"edit", func(rng *rand.Rand, _ image, lines [][]byte) []byte {
		text := bytes.Join(lines, nil)
		text[rng.IntN(len(text))] ^= byte(1 + rng.IntN(255))
		return text
	}},
	{"edit a value", func(rng *rand.Rand, _ image, lines [][]byte) []byte {
		n := rng.IntN(len(lines))
		lines[n] = bytes.Replace(lines[n], []byte(`"id":"`), []byte(`"id":"x`), 1)
		return bytes.Join(lines, nil)
	}},
	{"delete", func(rng *rand.Rand, _ image, lines [][]byte) []byte {
		n := rng.IntN(len(lines))
		return bytes.Join(slices.Delete(lines, n, n+1), nil)
	}},
	{"swap", func(rng *rand.Rand, _ image, lines [][]byte) []byte {
		a := rng.IntN(len(lines) - 1)
		b := a + 1 + rng.IntN(len(lines)-a-1)
		lines[a], lines[b] = lines[b], lines[a]
		return bytes.Join(lines, nil)
	}},
	{"duplicate", func(rng *rand.Rand, _ image, lines [][]byte) []byte {
		return bytes.Join(slices.Insert(lines, rng.IntN(len(lines)), lines[rng.IntN(len(lines))]), nil)
	}},
	{"insert", func(rng *rand.Rand, all image, lines [][]byte) []byte {
		n := rng.IntN(len(lines))
		r, _ := audit.Parse(bytes.TrimSpace(lines[n]))
		forged := audit.Record{Seq: r.Seq, ID: "forged", Time: r.Time, Kind: audit.KindDenied}
		text, _ := forged.MarshalJSON()
		return bytes.Join(slices.Insert(lines, n, append(text, '\n')), nil)
	}},
	{"renumbered insert", func(rng *rand.Rand, all image, lines [][]byte) []byte {
		n := rng.IntN(len(lines))
		for i := n; i < len(lines); i++ {
			r, _ := audit.Parse(bytes.TrimSpace(lines[i]))
			r.Seq++
			text, _ := r.MarshalJSON()
			lines[i] = append(text, '\n')
		}
		forged := audit.Record{ID: "forged", Kind: audit.KindDenied}
		if r, err := audit.Parse(bytes.TrimSpace(lines[n])); err == nil {
			forged.Seq, forged.Time = r.Seq-1, r.Time
		}
		text, _ := forged.MarshalJSON()
		return bytes.Join(slices.Insert(lines, n, append(text, '\n')), nil)
	}},
	{"cut", func(rng *rand.Rand, _ image, lines [][]byte) []byte {
		text := bytes.Join(lines, nil)
		return text[:rng.IntN(len(text))]
	}},
	{"splice", func(rng *rand.Rand, all image, lines [][]byte) []byte {
		names := all.segments()
		other := all.lines(names[rng.IntN(len(names))])
		from := rng.IntN(len(other))
		return bytes.Join(slices.Insert(lines, rng.IntN(len(lines)), other[from:]...), nil)
	}},
}

// signedImage is a closed log of three segments, and its verifier key.
func signedImage(t *testing.T) (image, *kit) {
	k := newKit(t)
	for i := range 2 {
		for j := range 3 {
			k.call(fmt.Sprint(i, "-", j))
		}
		must(t, k.log.Seal(context.Background()))
	}
	k.call("last")
	k.close()
	k.check()
	return takeImage(t, k.cfg.Dir), k
}

// TestMutations: of 10,000 random changes of records that are signed, each is
// flagged, with the number of the first bad record.
func TestMutations(t *testing.T) {
	t.Parallel()
	good, k := signedImage(t)
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	vkey, counts := k.vkey(), map[string]int{}
	const total = 10_000
	for range total {
		names := good.segments()
		name := names[rng.IntN(len(names))]
		m := mutations[rng.IntN(len(mutations))]
		bad := m.apply(rng, good, good.lines(name))
		if bytes.Equal(bad, good[name]) || len(bad) > 0 && m.name != "cut" && bytes.HasPrefix(bad, good[name]) {
			bad = append([]byte("\n"), bad...)
		}
		must(t, os.WriteFile(filepath.Join(k.cfg.Dir, name), bad, 0o600))
		_, err := audit.Verify(t.Context(), k.cfg.Dir, vkey)
		var first uint64
		_, _ = fmt.Sscanf(name, "%d", &first)
		want := firstBad(first, good[name], bad)
		var corrupt *audit.CorruptError
		if !errors.As(err, &corrupt) || corrupt.Seq != want || corrupt.AtOrAfter || corrupt.File != name {
			t.Fatalf("seed %d: %s of %s: got %v, want record %d\n%s", seed, m.name, name, err, want, bad)
		}
		counts[m.name]++
		must(t, os.WriteFile(filepath.Join(k.cfg.Dir, name), good[name], 0o600))
	}
	k.check()
	t.Logf("%d of %d mutations flagged with their first record: %v", total, total, counts)
}

// rewriteLeaves makes leaves that agree with what the segments hold now.
func (i image) rewriteLeaves() {
	for _, name := range i.segments() {
		var leaves []byte
		for _, line := range i.lines(name) {
			hash := tlog.RecordHash(bytes.TrimSuffix(line, []byte("\n")))
			leaves = append(leaves, hash[:]...)
		}
		i[strings.TrimSuffix(name, "jsonl")+"leaves"] = leaves
	}
}

// TestTampering: what is more than a changed line.
func TestTampering(t *testing.T) {
	t.Parallel()
	good, k := signedImage(t)
	names := good.segments()
	other := newKit(t)
	other.close()
	for name, c := range map[string]struct {
		change func(i image)
		want   string // in the error of Verify and of Open; "" if they accept
	}{
		"first segment removed":  {func(i image) { delete(i, names[0]) }, "00000000000000000000.jsonl: record 0: the segment is missing"},
		"middle segment removed": {func(i image) { delete(i, names[1]) }, "the record is missing"},
		"last segment removed":   {func(i image) { delete(i, names[2]) }, "a signed head covers"},
		"segment renamed":        {func(i image) { i["00000000000000000005.jsonl"] = i[names[1]]; delete(i, names[1]) }, "00000000000000000005.jsonl line 1"},
		"segment misnamed":       {func(i image) { i["x.jsonl"] = nil }, "x.jsonl is no segment of an audit log"},
		"segments swapped":       {func(i image) { i[names[0]], i[names[1]] = i[names[1]], i[names[0]] }, "record 0: the record here has the number"},
		"segment emptied":        {func(i image) { i[names[2]] = nil }, names[2] + " line 1 (offset 0)"},
		"head removed":           {func(i image) { delete(i, "checkpoint") }, "checkpoint: record at or after 0: the signed head is missing"},
		"head of another log":    {func(i image) { i["checkpoint"] = takeImage(t, other.cfg.Dir)["checkpoint"] }, "it is not signed by the key"},
		"head edited": {func(i image) {
			lines := bytes.Split(i["checkpoint"], []byte("\n"))
			lines[1][0] ^= 1 // a digit of the size
			i["checkpoint"] = bytes.Join(lines, []byte("\n"))
		}, "checkpoint: record at or after 0: invalid signature"},
		"head garbage":     {func(i image) { i["checkpoint"] = []byte("x") }, "checkpoint: record at or after 0: "},
		"another version":  {func(i image) { i.replace(names[2], `"version":"1"`, `"version":"2"`); i.rewriteLeaves() }, `version "2"; this program reads 1`},
		"no header":        {func(i image) { i.replace(names[2], `segment_opened`, `segment_closed`); i.rewriteLeaves() }, "begins with the event segment_opened"},
		"rewritten":        {func(i image) { i.replace(names[0], `payments`, `treasury`); i.rewriteLeaves() }, "record at or after 0"},
		"leaf edited":      {func(i image) { i[leaves(names[0])][40] ^= 1 }, ""},
		"leaves removed":   {func(i image) { delete(i, leaves(names[0])); delete(i, leaves(names[2])) }, ""},
		"leaves cut":       {func(i image) { i[leaves(names[1])] = i[leaves(names[1])][:50] }, ""},
		"leaves of others": {func(i image) { i[leaves(names[0])] = i[leaves(names[1])] }, ""},
		"leaves too many":  {func(i image) { i[leaves(names[0])] = append(i[leaves(names[0])], make([]byte, 32)...) }, ""},
	} {
		i := image{}
		for name, data := range good {
			i[name] = bytes.Clone(data)
		}
		c.change(i)
		i.put(t, k.cfg.Dir)
		_, err := audit.Verify(t.Context(), k.cfg.Dir, k.vkey())
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: verify: %v", name, err)
			}
			k.open()
			k.close()
			if report := k.check(); report.DamagedLeaves != nil {
				t.Errorf("%s: not repaired: %+v", name, report)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: verify: %v, want %q", name, err, c.want)
		}
		if l, err := audit.Open(t.Context(), k.cfg); err == nil {
			t.Errorf("%s: opened", name)
			_ = l.Close()
		} else if strings.Contains(c.want, "head") && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: open: %v, want %q", name, err, c.want)
		}
		for file, data := range takeImage(t, k.cfg.Dir) {
			if file != "lock" && !bytes.Equal(data, i[file]) {
				t.Errorf("%s: Open has changed %s", name, file)
			}
		}
	}
}

func leaves(segment string) string { return strings.TrimSuffix(segment, "jsonl") + "leaves" }

// replace changes the first occurrence of a text in a segment.
func (i image) replace(name, from, to string) {
	i[name] = bytes.Replace(i[name], []byte(from), []byte(to), 1)
}

// TestOlderCopy: a log replaced by an older copy of itself, head included,
// agrees with itself; a checkpoint kept elsewhere tells.
func TestOlderCopy(t *testing.T) {
	k := newKit(t)
	k.call("old")
	k.close()
	older := takeImage(t, k.cfg.Dir)
	k.open()
	k.call("new")
	k.close()
	newer := takeImage(t, k.cfg.Dir)
	exported := newer["checkpoint"]
	if report, err := audit.Verify(t.Context(), k.cfg.Dir, k.vkey(), older["checkpoint"], exported); err != nil || report.AfterHead != 0 {
		t.Errorf("an intact log: %v, %+v", err, report)
	}
	older.put(t, k.cfg.Dir)
	if _, err := audit.Verify(t.Context(), k.cfg.Dir, k.vkey()); err != nil {
		t.Errorf("an older copy is whole in itself, but: %v", err)
	}
	_, err := audit.Verify(t.Context(), k.cfg.Dir, k.vkey(), exported)
	var corrupt *audit.CorruptError
	if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "is missing: a signed head covers") {
		t.Errorf("an older copy: %v", err)
	}
	// The same size with another history.
	newer.replace(newer.segments()[1], "new", "NEW")
	newer.rewriteLeaves()
	delete(newer, "checkpoint")
	newer["checkpoint"] = older["checkpoint"]
	newer.put(t, k.cfg.Dir)
	_, err = audit.Verify(t.Context(), k.cfg.Dir, k.vkey(), exported)
	if !errors.As(err, &corrupt) || !corrupt.AtOrAfter || corrupt.Seq == 0 {
		t.Errorf("another history: %v", err)
	}
	if _, err := audit.Verify(t.Context(), k.cfg.Dir, k.vkey(), []byte("garbage")); err == nil {
		t.Error("a garbage checkpoint was accepted")
	}
}

// TestVerifyWithoutKey says what it cannot say.
func TestVerifyWithoutKey(t *testing.T) {
	k := newKit(t)
	k.call("r")
	report, err := audit.Verify(t.Context(), k.cfg.Dir, "")
	if err != nil || !report.SelfConsistentOnly || !strings.Contains(report.String(), "self-consistent only") {
		t.Errorf("%v, %v", report, err)
	}
	_, stranger, _ := note.GenerateKey(nil2zero{}, "example.com/log")
	if _, err := audit.Verify(t.Context(), k.cfg.Dir, stranger); err == nil || !strings.Contains(err.Error(), "not signed by the key") {
		t.Errorf("another key: %v", err)
	}
	for _, vkey := range []string{"x", "a+b+c"} {
		if _, err := audit.Verify(t.Context(), k.cfg.Dir, vkey); err == nil {
			t.Errorf("%q: accepted", vkey)
		}
	}
	if _, err := audit.Verify(t.Context(), t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "there is no audit log") {
		t.Errorf("an empty directory: %v", err)
	}
	if _, err := audit.Verify(t.Context(), filepath.Join(t.TempDir(), "no"), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := audit.Verify(cancelled, k.cfg.Dir, k.vkey()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// nil2zero reads zeros: a key that is not ours.
type nil2zero struct{}

func (nil2zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestUnsignedTail: what came after the head is not signed, yet a record that
// was acknowledged has a leaf, and does not change or vanish unseen.
func TestUnsignedTail(t *testing.T) {
	k := newKit(t)
	for i := range 5 {
		k.call(fmt.Sprint(i))
	}
	crashed := takeImage(t, k.cfg.Dir)
	k.close()
	name := crashed.segments()[0]
	lines := crashed.lines(name)
	for what, text := range map[string][]byte{
		"changed": bytes.Replace(crashed[name], []byte(`upstream_status":200`), []byte(`upstream_status":201`), 1),
		"removed": bytes.Join(lines[:len(lines)-1], nil),
		"edited":  append(bytes.Join(lines[:len(lines)-1], nil), bytes.Replace(lines[len(lines)-1], []byte("ok"), []byte("OK"), 2)...),
		"torn":    crashed[name][:len(crashed[name])-20],
	} {
		bad := maps.Clone(crashed)
		bad[name] = text
		bad.put(t, k.cfg.Dir)
		var corrupt *audit.CorruptError
		if _, err := audit.Verify(t.Context(), k.cfg.Dir, k.vkey()); !errors.As(err, &corrupt) {
			t.Errorf("%s: verify: %v", what, err)
		}
		if l, err := audit.Open(t.Context(), k.cfg); !errors.As(err, &corrupt) {
			t.Errorf("%s: open: %v", what, err)
			_ = l.Close()
		}
	}
}
