package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A report of Node's is counted as the events of Go's tests are: leaves alone, and
// what is left to do is not done.
func TestTallyCountsNodeTests(t *testing.T) {
	report, err := os.ReadFile("testdata/web/junit.xml")
	if err != nil {
		t.Fatal(err)
	}
	var sum tally
	report = bytes.Replace(report, []byte("1 == 2"), []byte("\x1b[31m1 == 2\x1b[0m"), 1)
	if err := sum.addJUnit(report, "web/x"); err != nil {
		t.Fatal(err)
	}
	// Passed: passes, kid, one, ok kid. Failed: bad, and the file that does not parse.
	if sum.passed != 4 || sum.failed != 2 {
		t.Errorf("%d passed, %d failed; want 4 and 2", sum.passed, sum.failed)
	}
	want := []skip{{"web/x parent > skipkid", "no disk"}, {"web/x suite > two", "it does not say why"}, {"web/x suite > todo", "later"}, {"web/x suite > three", "not here"}}
	if !slices.Equal(sum.skips, want) {
		t.Errorf("skips %q\nwant  %q", sum.skips, want)
	}
	if err := sum.addJUnit([]byte("<testsuites>"), "web/x"); err == nil {
		t.Error("a report that was cut is one")
	}
}

// inRepository makes a folder a repository of git's with some files of web/, and
// enters it.
func inRepository(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		write(t, name, text)
	}
	for _, line := range [][]string{{"init", "-q"}, {"add", "."}} {
		if err := quiet(t.Context(), append([]string{"git"}, line...)...); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What scripts have made otherwise than it is committed is listed, and with --check
// put back, also when the run was stopped.
func TestWebSettles(t *testing.T) {
	files := map[string]string{"web/dist/same.js": "same", "web/dist/old.js": "old", "web/dist/changed.js": "was", "web/.gitignore": "ignored/\n", "other/file": "x"}
	for _, check := range []bool{true, false} {
		inRepository(t, files)
		before, err := committed(t.Context())
		if err != nil || len(before) != 4 {
			t.Fatalf("%v, %v", before, err)
		}
		write(t, "web/dist/changed.js", "is")
		write(t, "web/dist/deep/new.js", "new")
		write(t, "web/ignored/x.js", "x")
		if err := os.Remove("web/dist/old.js"); err != nil {
			t.Fatal(err)
		}
		stopped, stop := context.WithCancel(t.Context())
		stop()
		changes, err := (&webVerb{Check: check}).settle(stopped, before)
		want := []change{{"differs", "web/dist/changed.js"}, {"missing", "web/dist/deep/new.js"}, {"stale", "web/dist/old.js"}}
		if err != nil || !slices.Equal(changes, want) {
			t.Errorf("changes %q, %v\nwant    %q", changes, err, want)
		}
		after, err := committed(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		same := len(after) == len(before)
		for name, text := range before {
			same = same && bytes.Equal(text, after[name])
		}
		if _, err := os.Stat("web/dist/deep"); same != check || (err == nil) == check {
			t.Errorf("check %v: all is as before: %v; the new folder: %v", check, same, err)
		}
	}
}

// Without Node the web packages are one skip, which says so, and fails in CI.
func TestWebNeedsNode(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := installWeb(t.Context()); !errors.As(err, new(skipped)) || !strings.Contains(err.Error(), "node is not installed") {
		t.Errorf("got %v", err)
	}
	for _, ci := range []string{"true", ""} {
		t.Setenv("CI", ci)
		if err := (&webVerb{Check: true}).Run(t.Context()); (err != nil) != (ci == "true") {
			t.Errorf("CI=%s: %v", ci, err)
		}
		sum := newTally()
		if err := testPages(t.Context(), sum); err != nil || len(sum.skips) != 1 || sum.skips[0] != (skip{"web", "node is not installed"}) {
			t.Errorf("CI=%s: %v, skips %q", ci, err, sum.skips)
		}
	}
}

// The browser is the one that CHROMIUM names, or is found; that there is none is a
// skip, and that the named one is not there is not.
func TestFindChromium(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	t.Setenv("CHROMIUM", "")
	if _, err := findChromium(); !errors.As(err, new(skipped)) {
		t.Errorf("without any: %v", err)
	}
	for _, name := range []string{"google-chrome", "chromium"} {
		file := filepath.Join(dir, name)
		write(t, file, "#!/bin/sh\n")
		if err := os.Chmod(file, 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := findChromium(); got != file || err != nil {
			t.Errorf("found %s, %v, want %s", got, err, file)
		}
	}
	t.Setenv("CHROMIUM", filepath.Join(dir, "nowhere"))
	if _, err := findChromium(); err == nil || errors.As(err, new(skipped)) {
		t.Errorf("of a name that leads nowhere: %v", err)
	}
}
