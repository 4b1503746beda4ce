package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// lints is every static check, cheapest first. A check that is not here is not
// wanted; what one of them leaves out, and why, stands in its own file
// (staticcheck.conf, buf.yaml) or beside its function.
var lints = []struct {
	name string
	run  func(context.Context) error
}{
	{"gofmt", gofmt},
	{"size", func(context.Context) error { return report(badSizes(".")) }},
	{"buf lint", func(ctx context.Context) error { return quiet(ctx, tool("buf", "lint")...) }},
	{"buf format", bufFormat},
	{"buf breaking", bufBreaking},
	{"go mod verify", func(ctx context.Context) error { return quiet(ctx, "go", "mod", "verify") }},
	{"go mod tidy", tidy},
	{"go vet", func(ctx context.Context) error { return quiet(ctx, "go", "vet", "./...") }},
	{"imports", imports},
	{"staticcheck", staticcheck},
	{"vuln", (&vulnVerb{DB: vulnDatabase}).check},
}

type lintVerb struct{}

// Run runs every check, also after one has failed.
func (*lintVerb) Run(ctx context.Context) error {
	var failed []string
	for _, lint := range lints {
		start := time.Now()
		err := lint.run(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		took := time.Since(start).Seconds()
		var skip skipped
		switch {
		case errors.As(err, &skip):
			fmt.Printf("skip  %-14s %s\n", lint.name, skip)
			if err := skippedInCI(lint.name); err != nil {
				fmt.Println(indent(err.Error()))
				failed = append(failed, lint.name)
			} else if why := skipsInCI[lint.name]; why != "" {
				fmt.Println(indent("expected: " + why))
			}
		case err != nil:
			fmt.Printf("FAIL  %-14s %.1fs\n%s\n", lint.name, took, indent(err.Error()))
			failed = append(failed, lint.name)
		default:
			fmt.Printf("ok    %-14s %.1fs\n", lint.name, took)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("lint: %s failed", strings.Join(failed, ", "))
	}
	return nil
}

// skipped is the error of a check that had nothing to check, and says why.
type skipped string

func (s skipped) Error() string { return string(s) }

// report turns findings into an error.
func report(findings []string, err error) error {
	if err != nil || len(findings) == 0 {
		return err
	}
	return errors.New(strings.Join(findings, "\n"))
}

func indent(text string) string {
	return "      " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n      ")
}

// gofmt names the files that gofmt would change. It is the one that came with
// the Go in use: another version may format otherwise.
func gofmt(ctx context.Context) error {
	root, err := output(ctx, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	line := []string{filepath.Join(strings.TrimSpace(string(root)), "bin", "gofmt"), "-s", "-l"}
	if err := goFiles(".", func(name string) error { line = append(line, name); return nil }); err != nil {
		return err
	}
	names, err := output(ctx, line...)
	if err != nil {
		return err
	}
	return report(strings.Fields(string(names)), nil)
}

// tidy shows what would change in go.mod. The rest, in go.sum, says no more.
func tidy(ctx context.Context) error {
	diff, err := output(ctx, "go", "mod", "tidy", "-diff")
	if err == nil {
		return nil
	}
	switch text, _, _ := strings.Cut(string(diff), "diff current/go.sum"); {
	case len(diff) == 0:
		return err
	case text == "":
		return errors.New("go.sum is not tidy")
	default:
		return errors.New(text)
	}
}

// imports holds the tiers, and who may sync files.
func imports(ctx context.Context) error {
	packs, err := list(ctx, "-export", "-deps", "./...")
	if err != nil {
		return err
	}
	syncs, err := badSyncs(packs)
	if err != nil {
		return err
	}
	return report(append(badImports(packs), syncs...), nil)
}

// staticcheck leaves out generated packages: their style is not ours.
func staticcheck(ctx context.Context) error {
	packs, err := list(ctx, "-e", "./...")
	if err != nil {
		return err
	}
	line := tool("staticcheck")
	for _, p := range packs {
		if below, _ := inModule(p.ImportPath); !isGen(below) {
			line = append(line, p.ImportPath)
		}
	}
	return quiet(ctx, line...)
}

// bufFormat leaves out what others publish.
func bufFormat(ctx context.Context) error {
	line := tool("buf", "format", "--diff", "--exit-code")
	for _, folder := range vendored {
		line = append(line, "--exclude-path", folder)
	}
	return quiet(ctx, line...)
}

// bufBreaking compares the protos with those of the main branch and with those
// of the commit before: on the main branch itself the first says nothing.
func bufBreaking(ctx context.Context) error {
	var bases []string
	for _, ref := range []string{"origin/main", "main", "HEAD~1"} {
		if exec.CommandContext(ctx, "git", "cat-file", "-e", ref+":buf.yaml").Run() == nil {
			bases = append(bases, ref)
		}
	}
	if len(bases) == 0 {
		return skipped("no commit to compare with")
	}
	for _, base := range bases {
		protos, err := output(ctx, "git", "archive", "--format=tar", base, "buf.yaml", "proto")
		if err != nil {
			return err
		}
		breaking := command(ctx, tool("buf", "breaking", "--against", "-#format=tar")...)
		breaking.Stdin = bytes.NewReader(protos)
		if findings, err := breaking.CombinedOutput(); err != nil {
			return fmt.Errorf("since %s: %w\n%s", base, err, findings)
		}
	}
	return nil
}
