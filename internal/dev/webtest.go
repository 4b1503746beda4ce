package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

type browserVerb struct {
	Only string `name:"run" placeholder:"REGEXP" help:"Run only the tests that match."`
}

// Run runs the tests of web/test, in Chromium.
func (v *browserVerb) Run(ctx context.Context) error {
	sum := newTally()
	if err := testBrowser(ctx, v.Only, sum); err != nil {
		return err
	}
	return sum.close(os.Stdout, inCI())
}

// testPages runs all tests of the web packages, as part of a whole run.
func testPages(ctx context.Context, sum *tally) error {
	all, err := installWeb(ctx)
	if skip := skipped(""); errors.As(err, &skip) {
		sum.skips = append(sum.skips, skipOf("", skip))
		return nil
	} else if err != nil {
		return err
	}
	if err := errors.Join(buildLibraries(ctx, all), testWeb(ctx, all, sum)); err != nil {
		return err
	}
	return testBrowser(ctx, "", sum)
}

// testWeb runs the tests of the workspaces that need no browser.
func testWeb(ctx context.Context, all []workspace, sum *tally) error {
	for _, w := range all {
		if w.name == browserTests || w.scripts["test"] == "" {
			continue
		}
		if err := testNode(ctx, w, "", nil, sum); err != nil {
			return err
		}
	}
	return nil
}

// testBrowser runs the tests in Chromium that match, or all, against a gateway that
// is built once for them. Without Node or Chromium they are one skip.
func testBrowser(ctx context.Context, match string, sum *tally) error {
	all, err := installWeb(ctx)
	var browser string
	if err == nil {
		browser, err = findChromium()
	}
	if skip := skipped(""); errors.As(err, &skip) {
		sum.skips = append(sum.skips, skipOf(browserTests, skip))
		return nil
	} else if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(w workspace) bool { return w.name == browserTests })
	if at < 0 || all[at].scripts["test"] == "" {
		return fmt.Errorf("test in a browser: %s/%s has no script named test", webDir, browserTests)
	}
	dir, err := os.MkdirTemp("", "c1proxy-browser-")
	if err != nil {
		return fmt.Errorf("test in a browser: %w", err)
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "proxy")
	if err := run(ctx, "go", "build", "-o", binary, "./cmd/proxy"); err != nil {
		return fmt.Errorf("test in a browser: %w", err)
	}
	return testNode(ctx, all[at], match, []string{"C1PROXY_BIN=" + binary, "CHROMIUM=" + browser}, sum)
}

// findChromium is the browser that CHROMIUM names, or else one that is installed.
func findChromium() (string, error) {
	if named := os.Getenv("CHROMIUM"); named != "" {
		found, err := exec.LookPath(named)
		if err != nil {
			return "", fmt.Errorf("find the browser that CHROMIUM names: %w", err)
		}
		return found, nil
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			return found, nil
		}
	}
	return "", skipped("Chromium is not installed, and CHROMIUM does not name one")
}

// skipOf is the skip of the tests of a workspace, or of all if it is "".
func skipOf(name string, why skipped) skip {
	return skip{filepath.Join(webDir, name), string(why)}
}

// testNode runs the test script of a workspace, or those of its tests that match,
// prints what it prints, and counts what came of each test. None is a failure:
// there is a script for some.
func testNode(ctx context.Context, w workspace, match string, env []string, sum *tally) error {
	dir, err := os.MkdirTemp("", "c1proxy-report-")
	if err != nil {
		return fmt.Errorf("test %s: %w", w.name, err)
	}
	defer os.RemoveAll(dir)
	report := filepath.Join(dir, "junit.xml")
	options := "--test-reporter=spec --test-reporter-destination=stdout --test-reporter=junit --test-reporter-destination=" + report
	line := []string{"run", "--silent", "test", "-w", w.name}
	if match != "" {
		line = append(line, "--", "--test-name-pattern="+match)
	}
	ended := npm(ctx, append(env, "NODE_OPTIONS="+os.Getenv("NODE_OPTIONS")+" "+options), line...)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var own tally
	data, err := os.ReadFile(report)
	if err == nil {
		err = own.addJUnit(data, filepath.Join(webDir, w.name))
	}
	// A hook that fails, or a test beside its subtests, is only in how it ended.
	if err = errors.Join(ended, err); err != nil && own.failed == 0 {
		fmt.Printf("FAIL  %s/%s: %v\n", webDir, w.name, err)
		own.failed++
	} else if own.passed+own.failed+len(own.skips) == 0 {
		fmt.Printf("FAIL  %s/%s: its script ran no test\n", webDir, w.name)
		own.failed++
	}
	sum.passed, sum.failed, sum.skips = sum.passed+own.passed, sum.failed+own.failed, append(sum.skips, own.skips...)
	return nil
}

// A testcase is a test in a report of JUnit's, and a suite one with subtests.
type testcase struct {
	Name    string     `xml:"name,attr"`
	Cases   []testcase `xml:"testcase"`
	Suites  []testcase `xml:"testsuite"`
	Failure *struct{}  `xml:"failure"`
	Skipped *struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
	} `xml:"skipped"`
}

// unmatched is what Node says of a test that --test-name-pattern leaves out.
const unmatched = "test name does not match pattern"

// addJUnit counts the tests of a report that have no subtests. A todo counts as
// skipped: it proves nothing.
func (t *tally) addJUnit(report []byte, name string) error {
	// Node writes what a test said as it is, colours included, which XML cannot hold.
	report = bytes.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\r' && r != '\t' {
			return -1
		}
		return r
	}, report)
	var root testcase
	if err := xml.Unmarshal(report, &root); err != nil {
		return err
	}
	t.addCases(root, name)
	return nil
}

func (t *tally) addCases(in testcase, name string) {
	for _, c := range in.Cases {
		switch {
		case c.Skipped != nil && c.Skipped.Message == unmatched: // it was not asked for
		case c.Skipped != nil:
			why := c.Skipped.Message
			if why == "" || why == "true" {
				why = "it does not say why"
			}
			t.skips = append(t.skips, skip{name + " " + c.Name, why})
		case c.Failure != nil:
			t.failed++
		default:
			t.passed++
		}
	}
	for _, s := range in.Suites {
		t.addCases(s, name+" "+s.Name+" >")
	}
}
