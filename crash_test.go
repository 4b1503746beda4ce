package c1proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/gen/c1/api/app/v1/appv1connect"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// crashCycles is how often TestCrash kills; C1PROXY_CRASH_CYCLES sets another
// number.
func crashCycles() int {
	if n, err := strconv.Atoi(os.Getenv("C1PROXY_CRASH_CYCLES")); err == nil {
		return n
	}
	return 12
}

// P1, P2: the proxy is killed under load, again and again. Whatever C1 saw has
// an earlier intent; every call that was answered has exactly one final
// record; what was under way becomes indeterminate; the log verifies.
func TestCrash(t *testing.T) {
	g, configFile := prepare(t, sandbox.Config{Remember: 1_000_000})
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	var serial atomic.Int64
	var answered sync.Map // request id -> code
	var vkey string
	cycles := crashCycles()
	for range cycles {
		p := serveBinary(t, configFile)
		vkey = p.vkey
		g.url = p.url
		ctx, cancel := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		for range 16 {
			callers.Go(func() { g.callUntil(ctx, &serial, &answered) })
		}
		time.Sleep(time.Duration(20+random.IntN(150)) * time.Millisecond) // the moment of the kill is the test's chance
		p.kill()
		cancel()
		callers.Wait()
	}
	// A last start settles what the last kill left, and a clean stop ends it.
	p := serveBinary(t, configFile)
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("clean stop: %v", err)
	}
	report, err := audit.Verify(t.Context(), g.dir, vkey)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	misses := checkPromises(t, g, &answered)
	t.Logf("seed %d: %d kills, %d calls reached C1, %d records checked, %d misses", seed, cycles, g.c1.AcceptedHits(), report.Records, misses)
	if g.c1.AcceptedHits() == 0 {
		t.Error("no call reached C1: nothing was tested")
	}
}

// TestHangup: SIGHUP every 100 ms under load loses no record and repeats none.
func TestHangup(t *testing.T) {
	g, configFile := prepare(t, sandbox.Config{Remember: 1_000_000})
	p := serveBinary(t, configFile)
	g.url = p.url
	var serial atomic.Int64
	var answered sync.Map
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() { g.callUntil(ctx, &serial, &answered) })
	}
	for range 15 {
		time.Sleep(100 * time.Millisecond)
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Error(err)
		}
	}
	cancel()
	callers.Wait()
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("clean stop: %v", err)
	}
	report, err := audit.Verify(t.Context(), g.dir, p.vkey)
	if err != nil || report.Segments < 10 || len(report.Voids) > 0 || report.OpenIntents > 0 {
		t.Errorf("verify: %v, %+v", err, report)
	}
	if misses := checkPromises(t, g, &answered); misses > 0 || g.c1.AcceptedHits() < 100 {
		t.Errorf("%d misses in %d calls", misses, g.c1.AcceptedHits())
	}
	t.Logf("%d calls, %d records in %d segments", g.c1.AcceptedHits(), report.Records, report.Segments)
}

// callUntil confirms one sync after the other, and notes what was answered.
func (g *gateway) callUntil(ctx context.Context, serial *atomic.Int64, answered *sync.Map) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := appv1connect.NewConnectorServiceClient(&http.Client{Transport: transport}, g.url,
		connect.WithProtoJSON(), connect.WithInterceptors(bearer(g.keys["sync-bot"])))
	for ctx.Err() == nil {
		sync := fmt.Sprintf("%s%d", sandbox.ConfirmablePrefix, serial.Add(1))
		response, err := client.ConfirmSyncValid(ctx, g.confirmation(sync))
		if id := requestID(response, err); id != "" {
			answered.Store(id, connect.CodeOf(err))
		}
	}
}

// checkPromises counts what P1 and P2 forbid.
func checkPromises(t *testing.T, g *gateway, answered *sync.Map) (misses int) {
	t.Helper()
	intents, finals := map[string]int{}, map[string]int{}
	err := audit.Query(t.Context(), g.dir, audit.Filter{}, func(r audit.Record) error {
		switch r.Kind {
		case audit.KindIntent:
			intents[r.RequestID]++
		case audit.KindOutcome, audit.KindDenied:
			finals[r.RequestID]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range g.c1.Requests() {
		if id := request.Header.Get("X-Request-Id"); intents[id] != 1 {
			misses++
			t.Errorf("C1 saw %s, which has %d intents", id, intents[id])
		}
	}
	answered.Range(func(id, code any) bool {
		if finals[id.(string)] != 1 {
			misses++
			t.Errorf("%s was answered with %v and has %d final records", id, code, finals[id.(string)])
		}
		return true
	})
	for id := range intents {
		if finals[id] != 1 {
			misses++
			t.Errorf("the intent of %s has %d final records", id, finals[id])
		}
	}
	return misses
}

// What a user gets for a wrong command line or configuration.
func TestCommandLine(t *testing.T) {
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("listen: {adress: \"127.0.0.1:0\"}\naudit: {dir: /tmp/x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args []string
		exit int
		want string // on stdout or stderr
	}{
		{nil, 0, "Usage: proxy"},
		{[]string{"--help"}, 0, "Usage: proxy"},
		{[]string{"serve", "--help"}, 0, "--config"},
		{[]string{"serv"}, 2, "serve"},
		{[]string{"serve"}, 2, "--config"},
		{[]string{"serve", "--config", bad}, 2, bad + ":1:10: "},
		{[]string{"config", "check", bad}, 2, `did you mean`},
		{[]string{"config", "check", filepath.Join(dir, "none.yaml")}, 2, "none.yaml"},
		{[]string{"config", "schema"}, 0, `"$schema"`},
		{[]string{"key", "new", "--team", "payments", "--caller", "sync-bot"}, 0, "c1p_"},
		{[]string{"key", "new", "--team", "payments"}, 2, "--caller"},
		{[]string{"audit", "verify", filepath.Join(dir, "none")}, 1, "none"},
		{[]string{"audit", "query", filepath.Join(dir, "none")}, 1, "none"},
		{[]string{"audit", "query", dir, "--since", "soon"}, 2, "soon"},
		{[]string{"version"}, 0, "c1proxy"},
		{[]string{"sandbox", "--listen", "nowhere"}, 1, "nowhere"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		cmd := exec.Command(name, tt.args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.Env = append(os.Environ(), "CONDUCTORONE_CLIENT_ID=", "CONDUCTORONE_ACCESS_TOKEN=")
		_ = cmd.Run() // the exit code tells
		if got := cmd.ProcessState.ExitCode(); got != tt.exit || !strings.Contains(out.String(), tt.want) {
			t.Errorf("proxy %v: exit %d, want %d with %q:\n%s", tt.args, got, tt.exit, tt.want, out.String())
		}
	}
}
