// Command dev is the developer's one tool: CI runs the same verbs that a
// developer runs, from the root of a checkout, with nothing but Go installed.
//
//	go run ./internal/dev check    # everything that CI asks of a change
//	go run ./internal/dev test     # the tests, then the conformance suite
//	go run ./internal/dev --help
//
// Programs that are not ours (buf, staticcheck, connectconformance, cyclonedx-gomod, govulncheck) are pinned
// in tools.mod, a module of their own: none of their dependencies reaches the
// product's go.mod.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// verbs is the command line.
type verbs struct {
	Check       checkVerb       `cmd:"" help:"Run lint, gen --check, web --check, release, crash and test: everything that CI asks of a change."`
	Lint        lintVerb        `cmd:"" help:"Run every static check, and name all findings."`
	Gen         genVerb         `cmd:"" help:"Generate the Go code and the list of methods of the protos, and delete what is stale."`
	Mirror      mirrorVerb      `cmd:"" help:"Write the protos of C1 from its OpenAPI document; then run gen."`
	Test        testVerb        `cmd:"" help:"Run the tests, then the conformance suite, and say what was skipped and why."`
	Conformance conformanceVerb `cmd:"" help:"Run the official Connect conformance suite against the production chain."`
	Fuzz        fuzzVerb        `cmd:"" help:"Run each fuzz target for a while, one after the other."`
	Load        loadVerb        `cmd:"" help:"Run the tests of load at full size: 10,000 connections, 10,000 calls under way."`
	Crash       crashVerb       `cmd:"" help:"Kill the gateway under load, fail its disk and fill it, and hold its audit to its promises."`
	Bench       benchVerb       `cmd:"" help:"Run the overhead benchmark and print its ratios."`
	Release     releaseVerb     `cmd:"" help:"Build the last commit twice, and write the binary, its SBOM and their sums if both are the same."`
	Web         webVerb         `cmd:"" help:"Make the files of the web packages and of the console, and test the packages; this takes Node."`
	Browser     browserVerb     `cmd:"" help:"Run the tests of web/test in Chromium; this takes Node too."`
	Vuln        vulnVerb        `cmd:"" help:"Look for known vulnerabilities that the code can reach, or say why that was skipped."`
}

func main() {
	line := kong.Parse(new(verbs), kong.Name("dev"), kong.UsageOnError(),
		kong.Vars{"vulndb": vulnDatabase},
		kong.Description("The developer's verbs of c1proxy. CI runs the same ones."))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	line.FatalIfErrorf(enterRoot(ctx))
	line.BindTo(ctx, (*context.Context)(nil))
	line.FatalIfErrorf(line.Run())
}

// enterRoot makes the root of the module the working directory: every path in
// this program starts there.
func enterRoot(ctx context.Context) error {
	mod, err := output(ctx, "go", "env", "GOMOD")
	if err != nil {
		return fmt.Errorf("find module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	if err := os.Chdir(root); err != nil {
		return fmt.Errorf("enter module: %w", err)
	}
	return nil
}

// checkVerb runs the other verbs in the order in which they fail fastest. The
// tests come last, so that their summary closes the output.
type checkVerb struct {
	Fuzz string `placeholder:"DURATION" help:"Also run each fuzz target for this long, before the tests."`
}

func (v *checkVerb) Run(ctx context.Context) error {
	if err := (&lintVerb{}).Run(ctx); err != nil {
		return err
	}
	if err := (&genVerb{Check: true}).Run(ctx); err != nil {
		return err
	}
	if err := (&webVerb{Check: true, untested: true}).Run(ctx); err != nil {
		return err
	}
	if err := v.release(ctx); err != nil {
		return err
	}
	if v.Fuzz != "" {
		if err := (&fuzzVerb{Time: v.Fuzz}).Run(ctx); err != nil {
			return err
		}
	}
	if err := (&crashVerb{Short: true, Only: "all"}).Run(ctx); err != nil {
		return err
	}
	return (&testVerb{}).Run(ctx)
}

// release makes a release and throws it away. Only in CI is everything really
// compiled twice for it: that costs a minute of two cores.
func (*checkVerb) release(ctx context.Context) error {
	out, err := os.MkdirTemp("", "c1proxy-dist-")
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	defer os.RemoveAll(out)
	return (&releaseVerb{Out: out, Warm: !inCI()}).Run(ctx)
}
