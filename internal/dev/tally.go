package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// tally counts tests from the events of `go test -json`. A test with subtests
// is not counted beside them, unless it failed by itself; a package that
// failed without a failing test (it did not build, or it crashed) counts as
// one failed test.
type tally struct {
	passed, failed int
	skips          []skip
	open           map[string]*openTest // by package and name, "" for the package itself
}

// skip is one test that skipped itself, and what it said.
type skip struct{ test, reason string }

// openTest is a test, or a package, that has not ended yet.
type openTest struct {
	output      strings.Builder
	parent      bool // has subtests
	childFailed bool
}

// event is one line of `go test -json`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

func newTally() *tally { return &tally{open: map[string]*openTest{}} }

// read follows the events to their end and prints, as they come, one line for
// each package and the output of what failed.
func (t *tally) read(events io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		e.Package, _ = inModule(e.Package)
		t.add(e, out)
	}
	return lines.Err()
}

func (t *tally) add(e event, out io.Writer) {
	switch e.Action {
	case "build-output":
		fmt.Fprint(out, e.Output)
	case "run":
		t.of(e)
		t.ancestors(e, func(parent *openTest) { parent.parent = true })
	case "output":
		t.of(e).output.WriteString(e.Output)
	case "pass", "skip", "fail":
		if e.Test == "" {
			t.endPackage(e, out)
		} else {
			t.endTest(e, out)
		}
		delete(t.open, e.Package+" "+e.Test)
	}
}

func (t *tally) endTest(e event, out io.Writer) {
	test := t.of(e)
	switch {
	case e.Action == "skip":
		t.skips = append(t.skips, skip{e.Package + " " + e.Test, reason(test.output.String())})
	case e.Action == "fail":
		fmt.Fprint(out, test.output.String())
		if !test.childFailed {
			t.failed++
		}
		t.ancestors(e, func(parent *openTest) { parent.childFailed = true })
		t.of(event{Package: e.Package}).childFailed = true
	case !test.parent:
		t.passed++
	}
}

// endPackage prints the output of a failed package and of the tests that it
// took with it: a crash or a timeout ends them without an event.
func (t *tally) endPackage(e event, out io.Writer) {
	packed := t.of(e)
	if e.Action != "fail" {
		if e.Action == "pass" {
			fmt.Fprintf(out, "ok    %-42s %.1fs\n", e.Package, e.Elapsed)
		}
		return
	}
	for name, test := range t.open {
		if strings.HasPrefix(name, e.Package+" ") && test != packed {
			fmt.Fprint(out, test.output.String())
			delete(t.open, name)
		}
	}
	if !packed.childFailed {
		t.failed++
	}
	for line := range strings.Lines(packed.output.String()) {
		if !strings.HasPrefix(line, "FAIL") {
			fmt.Fprint(out, line)
		}
	}
	fmt.Fprintf(out, "FAIL  %-42s %.1fs\n", e.Package, e.Elapsed)
}

func (t *tally) of(e event) *openTest {
	key := e.Package + " " + e.Test
	if t.open[key] == nil {
		t.open[key] = new(openTest)
	}
	return t.open[key]
}

// ancestors visits the tests that e's test is a subtest of.
func (t *tally) ancestors(e event, visit func(*openTest)) {
	for i, c := range e.Test {
		if parent := t.open[e.Package+" "+e.Test[:i]]; c == '/' && parent != nil {
			visit(parent)
		}
	}
}

// reason is what a skipped test printed, without the lines of the framework.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			said = append(said, line)
		}
	}
	return strings.Join(said, " ")
}

// close prints what was skipped and the summary, and returns an error if a
// test failed or, when strict, was skipped without being on the list.
func (t *tally) close(out io.Writer, strict bool) error {
	var text bytes.Buffer
	refused := 0
	for _, s := range t.skips {
		known := ""
		if why, ok := skipsInCI[s.test]; ok {
			known = " (expected: " + why + ")"
		} else if strict {
			known = " (not on the list of skips: fails in CI)"
			refused++
		}
		fmt.Fprintf(&text, "skipped: %s: %s%s\n", s.test, s.reason, known)
	}
	fmt.Fprintf(&text, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, len(t.skips))
	if _, err := out.Write(text.Bytes()); err != nil {
		return err
	}
	switch {
	case t.failed > 0:
		return fmt.Errorf("run tests: %d failed", t.failed)
	case refused > 0:
		return fmt.Errorf("run tests: %d skipped that CI must run", refused)
	case t.passed == 0:
		return fmt.Errorf("run tests: none ran")
	}
	return nil
}
