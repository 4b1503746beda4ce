package audit_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// zerosBehind checks that only the newest segment has zeros at its end, up to
// length bytes, and that nobody is told of them. A length of 0 stands for none.
func zerosBehind(t *testing.T, k *kit, length int) {
	t.Helper()
	files := rawImage(t, k.cfg.Dir)
	names := files.segments()
	for i, name := range names {
		text := files[name]
		zeros := len(text) - len(bytes.TrimRight(text, "\x00"))
		if i == len(names)-1 && length > 0 {
			if zeros == 0 || len(text) != length {
				t.Errorf("the newest segment has %d bytes, %d of them zeros, want %d", len(text), zeros, length)
			}
		} else if zeros > 0 {
			t.Errorf("segment %d of %d ends with %d zeros", i, len(names), zeros)
		}
	}
	if report := k.check(); report.TornBytes != 0 || report.Voids != nil {
		t.Errorf("%+v", report)
	}
}

// TestZerosBehind: the newest segment of a log in use has zeros behind its
// records, up to the size at which it is full. They are no torn write, no start
// speaks of them, and none is left in a segment that is sealed or at rest.
func TestZerosBehind(t *testing.T) {
	k := newKit(t)
	k.call("first")
	zerosBehind(t, k, 16<<10)
	must(t, k.log.Seal(t.Context()))
	k.call("second")
	zerosBehind(t, k, 16<<10)
	crashed := rawImage(t, k.cfg.Dir)
	for i := range 40 {
		k.call(string(rune('a' + i)))
	}
	zerosBehind(t, k, 16<<10)
	k.close()
	zerosBehind(t, k, 0)
	crashed.put(t, k.cfg.Dir)
	clear(k.acked)
	k.open()
	if found := k.records(audit.Filter{Event: audit.EventRecovered}); len(found) != 0 {
		t.Errorf("a start told of zeros: %+v", found)
	}
	if torn, _ := filepath.Glob(filepath.Join(k.cfg.Dir, "*.torn-*")); len(torn) != 0 {
		t.Errorf("a start kept zeros: %v", torn)
	}
	zerosBehind(t, k, 16<<10)
	k.close()
	zerosBehind(t, k, 0)
}

// TestZerosFewer: a segment however large gets a mebibyte of zeros at a time,
// and none where space is short.
func TestZerosFewer(t *testing.T) {
	k := newKit(t)
	k.close()
	k.cfg.SegmentBytes = 16 << 30
	k.open()
	k.call("large")
	text, err := os.ReadFile(k.newest())
	must(t, err)
	if zeros := len(text) - len(bytes.TrimRight(text, "\x00")); zeros < 1<<19 || zeros > 1<<20 {
		t.Errorf("%d zeros", zeros)
	}
	for name, limit := range map[string]*uint64{"min": &k.cfg.MinFreeBytes, "reserve": &k.cfg.ReserveBytes} {
		k.close()
		*limit = 1 << 60
		k.open()
		k.call(name)
		zerosBehind(t, k, 0)
		*limit = 0
	}
	k.close()
}

// TestZerosHideNothing: zeros in place of records are found wherever a record's
// being gone would be, in a log at rest and in one that was killed.
func TestZerosHideNothing(t *testing.T) {
	k := newKit(t)
	for i := range 3 {
		k.call(string(rune('a' + i)))
	}
	must(t, k.log.Seal(t.Context()))
	head := rawImage(t, k.cfg.Dir)["checkpoint"]
	for i := range 3 {
		k.call(string(rune('d' + i)))
	}
	killed := rawImage(t, k.cfg.Dir)
	killed["checkpoint"] = head // of the newest segment's records none is signed
	k.close()
	tried := 0
	for state, good := range map[string]image{"at rest": rawImage(t, k.cfg.Dir), "killed": killed} {
		for name, text := range good {
			if filepath.Ext(name) != ".jsonl" {
				continue
			}
			bad := map[string][]byte{"zeros before the records": append(make([]byte, 100), text...)}
			end := len(bytes.TrimRight(text, "\x00"))
			at := 0
			for i, line := range good.lines(name) {
				if line[0] == 0 {
					break
				}
				what := string(rune('0' + i))
				bad[what+" is zeros"] = over(text, at, at+len(line))
				bad[what+" ends in zeros"] = over(text, at+len(line)/2, at+len(line))
				bad[what+" begins with zeros"] = over(text, at, at+len(line)/2)
				bad["zeros from "+what+" on"] = over(text, at, end)
				bad["zeros from the middle of "+what+" on"] = over(text, at+len(line)/2, end)
				bad["zeros between "+what+" and what follows"] = append(append(bytes.Clone(text[:at+len(line)]), make([]byte, 50)...), text[at+len(line):]...)
				at += len(line)
			}
			if name != good.segments()[len(good.segments())-1] {
				bad["zeros behind a sealed segment"] = append(bytes.Clone(text), 0)
			} else {
				bad["zeros before a cut"] = over(text, len(good.lines(name)[0]), end)[:end]
				// Where nothing was ever acknowledged, zeros mean nothing.
				for what, data := range bad {
					if bytes.HasPrefix(data, text[:end]) {
						delete(bad, what)
					}
				}
			}
			for what, data := range bad {
				tampered := maps.Clone(good)
				tampered[name] = data
				tampered.put(t, k.cfg.Dir)
				var corrupt *audit.CorruptError
				if _, err := audit.Verify(t.Context(), k.cfg.Dir, k.vkey()); !errors.As(err, &corrupt) {
					t.Errorf("%s: %s: %s: verify: %v", state, name, what, err)
				}
				if len(data) == len(text) { // the leaves too, from where the records differ
					first := 0
					for first < len(text) && data[first] == text[first] {
						first++
					}
					written := good[leaves(name)]
					tampered[leaves(name)] = over(written, 32*bytes.Count(text[:first], []byte("\n")), len(written))
					tampered.put(t, k.cfg.Dir)
					if report, err := audit.Verify(t.Context(), k.cfg.Dir, k.vkey()); !errors.As(err, &corrupt) && report.TornBytes == 0 {
						t.Errorf("%s: %s: %s, and leaves: verify: %v", state, name, what, err)
					}
				}
				tried++
			}
		}
	}
	t.Logf("%d zeroed", tried)
}

// over is text with zeros from one offset to another.
func over(text []byte, from, to int) []byte {
	text = bytes.Clone(text)
	clear(text[from:to])
	return text
}
