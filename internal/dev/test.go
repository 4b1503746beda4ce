package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// skipsInCI names the tests that CI may skip, by package and name, and the
// lints, by name, and why it cannot run them. Every other skip fails a CI run:
// a test that never runs there proves nothing.
var skipsInCI = map[string]string{
	"vuln": "CI reaches registries of packages and nothing else; a machine that reaches the database checks",
}

// skippedInCI is an error where CI runs this program and may not skip the
// test.
func skippedInCI(test string) error {
	if _, known := skipsInCI[test]; inCI() && !known {
		return fmt.Errorf("%s: skipped, and not on the list of skips: fails in CI", test)
	}
	return nil
}

type testVerb struct {
	Packages []string `arg:"" optional:"" help:"Packages to test, all by default."`
	Only     string   `name:"run" placeholder:"REGEXP" help:"Run only the tests that match."`
	Short    bool     `help:"Let tests that take long skip themselves."`
	NoRace   bool     `help:"Leave out the race detector, as is done where no C compiler is."`
}

// Run tests the packages, then the wire: a run of everything includes the
// conformance suite, which counts as one test, and then the tests of the web
// packages, those in Chromium too. The last line is the summary.
func (v *testVerb) Run(ctx context.Context) error {
	race, why := false, "--no-race"
	if !v.NoRace {
		race, why = raceDetector(ctx)
	}
	line := []string{"go", "test", "-json", "-timeout=30m"} // the black-box tests are one package
	if race {
		line = append(line, "-race")
	}
	if v.Short {
		line = append(line, "-short")
	}
	if v.Only != "" {
		line = append(line, "-run="+v.Only)
	}
	if inCI() {
		line = append(line, "-count=1", "-shuffle=on")
	}
	whole := v.Only == "" && len(v.Packages) == 0
	groups := [][]string{v.Packages}
	if len(v.Packages) == 0 {
		var err error
		if groups, err = packageGroups(ctx); err != nil {
			return err
		}
	}
	sum := newTally()
	for _, packages := range groups {
		if err := goTest(ctx, slices.Concat(line, packages), sum); err != nil {
			return err
		}
	}

	if !whole || v.Short {
		fmt.Println("conformance suite and the web packages: left out of a partial run")
	} else if err := (&conformanceVerb{Race: race}).Run(ctx); err != nil {
		fmt.Println(err)
		sum.failed++
	} else {
		sum.passed++
	}
	if whole && !v.Short {
		if err := testPages(ctx, sum); err != nil {
			fmt.Println(err)
			sum.failed++
		}
	}
	if !race {
		fmt.Printf("race detector: off (%s)\n", why)
	}
	return sum.close(os.Stdout, inCI())
}

// packageGroups are all packages, in the groups that are tested one after the
// other: the black-box tests, which hold bounds of time and memory against the
// whole program, have the machine to themselves.
func packageGroups(ctx context.Context) ([][]string, error) {
	list, err := output(ctx, "go", "list", "./...")
	if err != nil {
		return nil, err
	}
	blackBox := func(path string) bool {
		name, _ := inModule(path)
		return name == "."
	}
	return [][]string{slices.DeleteFunc(strings.Fields(string(list)), blackBox), {"."}}, nil
}

// goTest runs one `go test -json` and tallies its events. Failing tests are no
// error here: the tally knows them.
func goTest(ctx context.Context, line []string, sum *tally) error {
	cmd := command(ctx, line...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("run tests: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run tests: %w", err)
	}
	before := sum.failed
	if err := sum.read(events, os.Stdout); err != nil {
		return fmt.Errorf("run tests: %w", err)
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && sum.failed == before {
		return fmt.Errorf("run tests: %w", err)
	}
	return nil
}

// raceDetector tells whether this machine can build with -race, or why not.
func raceDetector(ctx context.Context) (ok bool, why string) {
	env, err := output(ctx, "go", "env", "CGO_ENABLED", "CC")
	if err != nil {
		return false, err.Error()
	}
	fields := strings.Fields(string(env))
	if len(fields) < 2 || fields[0] != "1" {
		return false, "cgo is disabled"
	}
	if _, err := exec.LookPath(fields[1]); errors.Is(err, exec.ErrNotFound) {
		return false, "no C compiler"
	}
	return true, ""
}
