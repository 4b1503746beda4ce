package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// webDir holds the web packages, each a workspace of npm's.
const webDir = "web"

// browserTests is the workspace whose tests need a browser.
const browserTests = "test"

type webVerb struct {
	Check bool `help:"Change nothing: fail, with the list, if the committed files differ from those that are made."`

	// untested leaves the tests to whoever calls it.
	untested bool
}

// Run makes what the web packages have others make, in the order of the
// workspaces: it runs their scripts gen, build, types and size, where they have
// them, and then the tests that need no browser.
//
// The scripts write where they always do. What of it is committed is compared, and
// with --check put back as it was.
func (v *webVerb) Run(ctx context.Context) error {
	all, err := installWeb(ctx)
	if skip := skipped(""); errors.As(err, &skip) {
		fmt.Println("skipped: web:", skip)
		return skippedInCI("web")
	} else if err != nil {
		return fmt.Errorf("web: %w", err)
	}
	before, err := committed(ctx)
	if err != nil {
		return fmt.Errorf("web: %w", err)
	}
	err = buildWeb(ctx, all)
	changes, compareErr := v.settle(ctx, before)
	if err = errors.Join(err, compareErr); err != nil {
		return fmt.Errorf("web: %w", err)
	}
	for _, c := range changes {
		fmt.Println(c)
	}
	switch {
	case v.Check && len(changes) > 0:
		return errors.New("check web: these files are not what their sources make: go run ./internal/dev web")
	case v.Check:
		fmt.Println("web: committed files are what their sources make")
	}
	if v.untested {
		return nil
	}
	sum := newTally()
	if err := testWeb(ctx, all, sum); err != nil {
		return err
	}
	if sum.passed+sum.failed+len(sum.skips) == 0 {
		return nil // no package has a script for tests
	}
	return sum.close(os.Stdout, inCI())
}

// A workspace is one of npm's: a folder below webDir with a package.json.
type workspace struct {
	name    string // of the folder
	scripts map[string]string
	library bool // others import it
}

// installWeb has the packages at hand that the lock file names, and returns the
// workspaces in the order of web/package.json. The error is a skipped where there
// is no Node.
func installWeb(ctx context.Context) ([]workspace, error) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, skipped(program + " is not installed")
		}
	}
	version, err := output(ctx, "node", "--version")
	if err != nil {
		return nil, err
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(version), "v%d.%d", &major, &minor); err == nil && (major < 20 || major == 20 && minor < 19) {
		return nil, skipped(fmt.Sprintf("node is %s, and has to be v20.19 or newer", bytes.TrimSpace(version)))
	}
	all, sum, err := workspaces()
	if err != nil {
		return nil, err
	}
	// Of node_modules it is not known otherwise whether it is that of the lock file.
	mark := filepath.Join(webDir, "node_modules", ".c1proxy-lock")
	if had, err := os.ReadFile(mark); err == nil && string(had) == sum {
		return all, nil
	}
	if err := npm(ctx, nil, "ci", "--no-audit", "--no-fund"); err != nil {
		return nil, err
	}
	return all, os.WriteFile(mark, []byte(sum), 0o644)
}

// workspaces reads the package files; sum is one for all that they and the lock
// file say.
func workspaces() (all []workspace, sum string, err error) {
	hash := sha256.New()
	read := func(name string, into any) error {
		data, err := os.ReadFile(filepath.Join(webDir, name))
		if err != nil {
			return err
		}
		hash.Write(data)
		if into == nil {
			return nil
		}
		if err := json.Unmarshal(data, into); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		return nil
	}
	var root struct{ Workspaces []string }
	if err := errors.Join(read("package.json", &root), read("package-lock.json", nil)); err != nil {
		return nil, "", err
	}
	for _, name := range root.Workspaces {
		var own struct {
			Scripts map[string]string
			Exports map[string]any
		}
		if err := read(filepath.Join(name, "package.json"), &own); err != nil {
			return nil, "", err
		}
		all = append(all, workspace{name, own.Scripts, own.Exports != nil})
	}
	return all, fmt.Sprintf("%x", hash.Sum(nil)), nil
}

// buildWeb runs the scripts that make and check files. What one package takes of
// another is made by then, if that stands before it.
func buildWeb(ctx context.Context, all []workspace) error {
	for _, w := range all {
		for _, script := range []string{"gen", "build", "types", "size"} {
			if w.scripts[script] == "" {
				continue
			}
			if err := npm(ctx, nil, "run", "--silent", script, "-w", w.name); err != nil {
				return fmt.Errorf("%s of %s: %w", script, w.name, err)
			}
		}
	}
	return nil
}

// buildLibraries makes what tests import of other packages.
func buildLibraries(ctx context.Context, all []workspace) error {
	for _, w := range all {
		if w.library && w.scripts["build"] != "" {
			if err := npm(ctx, nil, "run", "--silent", "build", "-w", w.name); err != nil {
				return fmt.Errorf("build of %s: %w", w.name, err)
			}
		}
	}
	return nil
}

// npm runs npm in the folder of the web packages.
func npm(ctx context.Context, env []string, args ...string) error {
	cmd := command(ctx, append([]string{"npm"}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = webDir, os.Stdout, os.Stderr
	cmd.Env = append(append(os.Environ(), "npm_config_update_notifier=false"), env...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run npm %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// committed reads the files below webDir that git has, or would have.
func committed(ctx context.Context) (map[string][]byte, error) {
	names, err := output(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", webDir)
	if err != nil {
		return nil, err
	}
	found := make(map[string][]byte)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		data, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not yet from git
		} else if err != nil {
			return nil, err
		}
		found[name] = data
	}
	return found, nil
}

// settle lists how the committed files have changed, and with Check puts them back.
// It does so too when ctx has ended.
func (v *webVerb) settle(ctx context.Context, before map[string][]byte) ([]change, error) {
	after, err := committed(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	var changes []change
	for name, data := range after {
		if old, ok := before[name]; !ok {
			changes = append(changes, change{"missing", name})
		} else if !bytes.Equal(old, data) {
			changes = append(changes, change{"differs", name})
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			changes = append(changes, change{"stale", name})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return strings.Compare(a.path, b.path) })
	if v.Check {
		err = putBack(before, changes)
	}
	return changes, err
}

// putBack undoes changes.
func putBack(before map[string][]byte, changes []change) error {
	var errs []error
	for _, c := range changes {
		if c.kind == "missing" {
			errs = append(errs, os.Remove(c.path))
			_ = os.Remove(filepath.Dir(c.path)) // if it holds nothing else
			continue
		}
		errs = append(errs, os.MkdirAll(filepath.Dir(c.path), 0o755), os.WriteFile(c.path, before[c.path], 0o644))
	}
	return errors.Join(errs...)
}
