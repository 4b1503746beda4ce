// Command proxy is c1proxy: a gateway in front of ConductorOne's API.
//
// It exits with 0 when it has done what was asked, 2 when the configuration
// or the command line is wrong, and 1 when anything else is.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/alecthomas/kong"
)

// cli is the command line.
type cli struct {
	Serve   serveCommand   `cmd:"" help:"Serve calls by a configuration."`
	Demo    demoCommand    `cmd:"" help:"Serve calls against an embedded, emulated C1: nothing to configure."`
	Config  configCommand  `cmd:"" help:"Check a configuration, or describe it to an editor."`
	Key     keyCommand     `cmd:"" help:"Make API keys."`
	Explain explainCommand `cmd:"" help:"Say by which rule a caller may make a call, or why not: exit 0 if it may, 1 if not."`
	Limits  limitsCommand  `cmd:"" help:"Ask a running proxy which limits a caller is held to, and where it stands with them."`
	WhoAmI  whoAmICommand  `cmd:"" name:"whoami" help:"Ask a running proxy who it takes a key or a token for, and what its team may call."`
	Audit   auditCommand   `cmd:"" help:"Verify, query and export the audit log."`
	Sandbox sandboxCommand `cmd:"" help:"Serve the emulated C1 alone."`
	Health  healthCommand  `cmd:"" name:"healthcheck" help:"Ask a running proxy whether it is ready: exit 0 if it is."`
	Version versionCommand `cmd:"" help:"Print the version."`

	VersionFlag kong.VersionFlag `name:"version" help:"Print the version."`
}

// exit codes
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	// Ours all goes by slog. What net/http's client prints by itself can hold
	// bytes of C1's: those of an answer that is longer than it says.
	log.SetOutput(io.Discard)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// terminal is what a command writes to.
type terminal struct {
	out, err io.Writer
}

// run runs one command line and returns the exit code.
func run(args []string, out, stderr io.Writer) int {
	// The standard logger is net/http's, whose client writes to it what a server
	// sent unasked: bytes of an answer. What is worth a line is logged by us.
	log.SetOutput(io.Discard)
	code := -1
	parser, err := kong.New(&cli{},
		kong.Name("proxy"),
		kong.Description("c1proxy: one gateway to ConductorOne's API for many teams, with central credentials, policy, limits and audit."),
		kong.UsageOnError(),
		kong.Vars{"version": versionLine()},
		kong.Writers(out, stderr),
		kong.Exit(func(c int) { code = c }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(stderr, "proxy:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	switch {
	case code >= 0: // --help, --version
		return code
	case err != nil:
		fmt.Fprintf(stderr, "proxy: %v; see --help\n", err)
		return exitUsage
	}
	ctx, stop := untilSignal(context.Background())
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(&terminal{out: out, err: stderr})
	return report(stderr, err)
}

// report prints an error, if there is one, and returns its exit code.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, err)
	var bad misconfigured
	if errors.As(err, &bad) {
		return exitUsage
	}
	return exitFailed
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM.
// The second one ends the process at once.
func untilSignal(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitFailed)
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}

// newLogger logs JSON lines to w.
func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}

type versionCommand struct{}

// Run prints what --version prints.
func (versionCommand) Run(t *terminal) error {
	_, err := fmt.Fprintln(t.out, versionLine())
	return err
}

// versionLine names the module's version and the toolchain's.
func versionLine() string { return fmt.Sprintf("c1proxy %s %s", version(), runtime.Version()) }
