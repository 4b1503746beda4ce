package main

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

type fuzzVerb struct {
	Target string `arg:"" optional:"" help:"Run only the targets whose package.Name matches this regular expression."`
	Time   string `default:"10s" help:"How long each target runs: a duration, or a count such as 1000x."`
}

// Run fuzzes one target after the other, two workers each, so that a run has a
// known length and bounded load.
func (v *fuzzVerb) Run(ctx context.Context) error {
	match, err := regexp.Compile(v.Target)
	if err != nil {
		return fmt.Errorf("read target: %w", err)
	}
	targets, err := testFunctions(ctx, "Fuzz")
	if err != nil {
		return fmt.Errorf("find fuzz targets: %w", err)
	}
	targets = slices.DeleteFunc(targets, func(t testFunction) bool { return !match.MatchString(t.String()) })
	if len(targets) == 0 {
		return fmt.Errorf("find fuzz targets: none matches %q", v.Target)
	}
	var failed []string
	for _, target := range targets {
		err := fuzz(ctx, target, v.Time)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Printf("FAIL  %s\n%s\n", target, indent(err.Error()))
			failed = append(failed, target.String())
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("fuzz: %s failed", strings.Join(failed, ", "))
	}
	return nil
}

var (
	progress = regexp.MustCompile(`fuzz: elapsed: .*`)
	written  = regexp.MustCompile(`Failing input written to (\S+)`)
)

// fuzz runs one target, and prints how far it came. A failing input is printed too: in CI the file that Go
// writes is lost with the checkout.
func fuzz(ctx context.Context, t testFunction, duration string) error {
	line := []string{"go", "test", "-run=^$", "-fuzz=^" + t.name + "$", "-fuzztime=" + duration, "-parallel=2", "./" + t.pack}
	out, err := command(ctx, line...).CombinedOutput()
	if err != nil && ctx.Err() == nil && !written.Match(out) && bytes.Contains(out, []byte("context deadline exceeded")) {
		// The end of the time can reach a worker in mid-call: no finding
		// (golang/go#48591). A second run tells it from one.
		out, err = command(ctx, line...).CombinedOutput()
	}
	if err == nil {
		lines := progress.FindAll(out, -1)
		if len(lines) == 0 {
			return fmt.Errorf("it did not run\n%s", out)
		}
		fmt.Printf("ok    %-42s %s\n", t, bytes.TrimPrefix(lines[len(lines)-1], []byte("fuzz: ")))
		return nil
	}
	if file := written.FindSubmatch(out); file != nil {
		input, _ := os.ReadFile(filepath.Join(t.pack, string(file[1])))
		out = fmt.Appendf(out, "the failing input:\n%s", input)
	}
	return fmt.Errorf("%w\n%s", err, out)
}

// testFunction is a function of a test file, in a package named by its path
// below the root.
type testFunction struct{ pack, name string }

func (t testFunction) String() string { return t.pack + "." + t.name }

// testFunctions finds the functions in test files whose names start with
// prefix. It reads source: `go test -list` would link every test binary.
func testFunctions(ctx context.Context, prefix string) ([]testFunction, error) {
	packs, err := list(ctx, "-e", "./...")
	if err != nil {
		return nil, err
	}
	var found []testFunction
	for _, p := range packs {
		below, _ := inModule(p.ImportPath)
		for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, prefix) {
					found = append(found, testFunction{below, f.Name.Name})
				}
			}
		}
	}
	return found, nil
}
