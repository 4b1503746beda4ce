package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// tallyOf runs the packages below testdata with the Go in use, so that a
// change in its events is noticed.
func tallyOf(t *testing.T, packages ...string) (*tally, string) {
	t.Helper()
	line := []string{"go", "test", "-json"}
	for _, name := range packages {
		line = append(line, "./testdata/"+name)
	}
	events, _ := command(t.Context(), line...).Output()
	var out bytes.Buffer
	sum := newTally()
	if err := sum.read(bytes.NewReader(events), &out); err != nil {
		t.Fatal(err)
	}
	return sum, out.String()
}

func TestTallyCountsLeaves(t *testing.T) {
	sum, out := tallyOf(t, "results")
	// Passed: TestPass, two of TestParent, one of TestParentAlone. Failed:
	// TestFail, TestParent/fail and TestParentAlone by itself.
	if sum.passed != 4 || sum.failed != 3 {
		t.Errorf("%d passed, %d failed; want 4 and 3", sum.passed, sum.failed)
	}
	for _, text := range []string{"it failed", "a subtest failed", "the parent failed", "FAIL  internal/dev/testdata/results"} {
		if !strings.Contains(out, text) {
			t.Errorf("output lacks %q", text)
		}
	}
	var skipped []string
	for _, s := range sum.skips {
		skipped = append(skipped, s.test+": "+s.reason)
	}
	want := []string{
		"internal/dev/testdata/results TestSkip: results_test.go:9: no disk results_test.go:10: needs one",
		"internal/dev/testdata/results TestParent/skip: results_test.go:18: not today",
	}
	if !slices.Equal(skipped, want) {
		t.Errorf("skips %q\nwant  %q", skipped, want)
	}
}

func TestTallyCountsPackagesThatRanNoTest(t *testing.T) {
	for name, text := range map[string]string{"broken": "undefined: undefined", "crash": "last words"} {
		sum, out := tallyOf(t, name)
		if sum.passed != 0 || sum.failed != 1 {
			t.Errorf("%s: %d passed, %d failed; want 0 and 1", name, sum.passed, sum.failed)
		}
		if !strings.Contains(out, text) {
			t.Errorf("%s: output %q lacks %q", name, out, text)
		}
	}
}

func TestTallyCloses(t *testing.T) {
	skipped := []skip{{"internal/x TestY", "no disk"}}
	for _, c := range []struct {
		name    string
		sum     tally
		strict  bool
		summary string
		fails   bool
	}{
		{"passed", tally{passed: 2}, true, "2 passed, 0 failed, 0 skipped", false},
		{"failed", tally{passed: 2, failed: 1}, false, "2 passed, 1 failed, 0 skipped", true},
		{"skipped", tally{passed: 2, skips: skipped}, false, "2 passed, 0 failed, 1 skipped", false},
		{"skipped in CI", tally{passed: 2, skips: skipped}, true, "2 passed, 0 failed, 1 skipped", true},
		{"nothing ran", tally{}, false, "0 passed, 0 failed, 0 skipped", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := c.sum.close(&out, c.strict); (err != nil) != c.fails {
				t.Errorf("error %v, want one: %t", err, c.fails)
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if last := lines[len(lines)-1]; last != c.summary {
				t.Errorf("last line %q, want %q", last, c.summary)
			}
			if len(c.sum.skips) > 0 && !strings.Contains(lines[0], "internal/x TestY: no disk") {
				t.Errorf("first line %q does not say what was skipped and why", lines[0])
			}
		})
	}
}
