package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// suiteTotal is the number of cases that the features below select in the
// version of the suite that tools.mod pins: fewer means that a case is lost.
//
// suiteReadable leaves out the cases of unreadable, which send a media type
// that is no codec's of gRPC or gRPC-Web: an answer is then plain HTTP. Nor has
// it those that call no procedure of ours, which needs no credential.
const (
	suiteTotal    = 1407
	suiteReadable = 1391
)

var unreadable = []string{
	"--skip", "gRPC Unexpected Requests/**/unexpected-codec",
	"--skip", "gRPC-Web Unexpected Requests/**/unexpected-codec",
	"--skip", "**/unexpected-uri",
}

// suiteFeatures are what the server claims to support: every unary case.
const suiteFeatures = `features:
  versions: [HTTP_VERSION_1, HTTP_VERSION_2]
  protocols: [PROTOCOL_CONNECT, PROTOCOL_GRPC, PROTOCOL_GRPC_WEB]
  codecs: [CODEC_PROTO, CODEC_JSON]
  compressions: [COMPRESSION_IDENTITY, COMPRESSION_GZIP]
  stream_types: [STREAM_TYPE_UNARY]
  supports_h2c: true
  supports_tls: true
  supports_tls_client_certs: true
  supports_connect_get: true
  supports_message_receive_limit: true
`

type conformanceVerb struct {
	Verbose bool   `help:"Print each case as it runs, and the HTTP exchange of those that fail."`
	Cases   string `name:"run" placeholder:"PATTERN" help:"Run only the cases that match, such as '**/unary/error'."`
	Race    bool   `help:"Build the server with the race detector."`
}

// Run runs the suite twice: with an API key every case must pass; without one
// every case must be refused as unauthenticated, in the caller's own protocol.
func (v *conformanceVerb) Run(ctx context.Context) error {
	tmp, err := os.MkdirTemp("", "c1proxy-conformance-")
	if err != nil {
		return fmt.Errorf("run conformance suite: %w", err)
	}
	defer os.RemoveAll(tmp)

	server, features := filepath.Join(tmp, "server"), filepath.Join(tmp, "unary.yaml")
	if err := os.WriteFile(features, []byte(suiteFeatures), 0o644); err != nil {
		return fmt.Errorf("run conformance suite: %w", err)
	}
	build := []string{"go", "build", "-o", server}
	if v.Race {
		build = append(build, "-race")
	}
	if err := run(ctx, append(build, "./"+conformanceDir)...); err != nil {
		return fmt.Errorf("build conformance server: %w", err)
	}

	flags := []string{"--mode", "server", "--conf", features, "-p", "4", "--max-servers", "2"}
	if v.Cases != "" {
		flags = append(flags, "--run", v.Cases)
	}
	if err := v.withKey(ctx, flags, server); err != nil {
		return err
	}
	return v.withoutKey(ctx, flags, server)
}

func (v *conformanceVerb) withKey(ctx context.Context, flags []string, server string) error {
	if v.Verbose {
		flags = slices.Concat(flags, []string{"-v", "--trace"})
	}
	text, err := v.suite(ctx, filepath.Dir(server), slices.Concat(flags, []string{"--", server}))
	total, passed := counts(text)
	calls, records := audited(text)
	fmt.Printf("conformance: %d of %d; %d calls of a procedure, %d final records\n", passed, total, calls, records)
	if err == nil && passed != total {
		err = errors.New("not every case passed")
	}
	if err != nil {
		return fmt.Errorf("run conformance suite: %w\n%s", err, text)
	}
	return v.complete(text, suiteTotal)
}

func (v *conformanceVerb) withoutKey(ctx context.Context, flags []string, server string) error {
	text, err := v.suite(ctx, filepath.Dir(server), slices.Concat(flags, unreadable, []string{"--known-failing", "**", "--", server, "--without-key"}))
	total, _ := counts(text)
	refused, others := unauthenticated(text)
	calls, records := audited(text)
	fmt.Printf("conformance without a key: %d of %d unauthenticated; %d calls, %d final records\n", refused, total, calls, records)
	if err != nil {
		return fmt.Errorf("run conformance suite without a key: %w\n%s", err, text)
	}
	if refused != total {
		return fmt.Errorf("run conformance suite without a key: not all were unauthenticated:\n%s", strings.Join(others, "\n"))
	}
	return v.complete(text, suiteReadable)
}

// complete is an error unless a run of everything ran everything, and unless
// every call that reached a procedure has its final record.
func (v *conformanceVerb) complete(text string, want int) error {
	if total, _ := counts(text); v.Cases == "" && total != want {
		return fmt.Errorf("run conformance suite: %d cases, want %d", total, want)
	}
	if calls, records := audited(text); calls != records || calls == 0 {
		return fmt.Errorf("run conformance suite: %d calls have %d final records", calls, records)
	}
	return nil
}

// suite runs the suite's runner, whose servers leave their files in tmp, and
// returns what it printed.
func (v *conformanceVerb) suite(ctx context.Context, tmp string, args []string) (string, error) {
	cmd := command(ctx, tool("connectconformance", args...)...)
	// The runner does not look at how a server ends: one with a data race ends
	// at once, and its cases fail.
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1 atexit_sleep_ms=0", "TMPDIR="+tmp)
	out, err := cmd.CombinedOutput()
	if v.Verbose {
		fmt.Printf("%s", out)
	}
	switch {
	case err != nil:
	case !summary.Match(out):
		err = errors.New("no summary")
	case bytes.Contains(out, []byte("WARNING: DATA RACE")):
		err = errors.New("a server has a data race")
	}
	return string(out), err
}

var (
	summary  = regexp.MustCompile(`(?m)^Total cases: (\d+)\n(\d+) passed, \d+ failed$`)
	servers  = regexp.MustCompile(`(?m)^conformance server: (\d+) calls, (\d+) final records$`)
	expected = regexp.MustCompile(`(?m)^INFO: (.*) failed \(as expected\):\n((?:\t.*\n)*)`)
)

// counts reads the runner's summary.
func counts(text string) (total, passed int) {
	if m := summary.FindStringSubmatch(text); m != nil {
		fmt.Sscan(m[1], &total)
		fmt.Sscan(m[2], &passed)
	}
	return total, passed
}

// audited sums what the servers say when they stop.
func audited(text string) (calls, records int) {
	for _, m := range servers.FindAllStringSubmatch(text, -1) {
		var c, r int
		fmt.Sscan(m[1], &c)
		fmt.Sscan(m[2], &r)
		calls, records = calls+c, records+r
	}
	return calls, records
}

// unauthenticated counts the cases in which the client of the suite read an
// unauthenticated error, and returns the reports of the others. Cases that
// expect that very code fail for another reason: the error's details.
func unauthenticated(text string) (refused int, others []string) {
	for _, m := range expected.FindAllStringSubmatch(text, -1) {
		name, why := m[1], m[2]
		asExpected := strings.HasSuffix(name, "/unauthenticated") && !strings.Contains(why, "does not match expected code")
		if asExpected || strings.Contains(why, "actual error {code: 16 ") || strings.Contains(why, "CODE_UNAUTHENTICATED") {
			refused++
		} else {
			others = append(others, m[0])
		}
	}
	return refused, others
}
