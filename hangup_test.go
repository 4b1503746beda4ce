package c1proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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

// TestHangup: SIGHUP every 100 ms under load loses no record and repeats none. It
// goes on until there is enough of both: SIGHUPs that come too fast count as one.
func TestHangup(t *testing.T) {
	g, configFile := prepare(t, sandbox.Config{Remember: 1_000_000})
	p := serveBinary(t, configFile)
	defer p.kill()
	g.url = p.url
	var serial atomic.Int64
	var answered sync.Map
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() { g.callUntil(ctx, &serial, &answered) })
	}
	const segmentsEnough, callsEnough = 10, 100
	for hangups, segments := 0, 0; hangups < 15 || segments < segmentsEnough || g.c1.AcceptedHits() < callsEnough; hangups++ {
		if hangups == 600 {
			t.Fatalf("after %d SIGHUPs there are %d segments, and %d calls", hangups, segments, g.c1.AcceptedHits())
		}
		time.Sleep(100 * time.Millisecond)
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		names, err := filepath.Glob(filepath.Join(g.dir, "*.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		segments = len(names)
	}
	cancel()
	callers.Wait()
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("clean stop: %v", err)
	}
	report, err := audit.Verify(t.Context(), g.dir, p.vkey)
	if err != nil || report.Segments < segmentsEnough || len(report.Voids) > 0 || report.OpenIntents > 0 {
		t.Errorf("verify: %v, %+v", err, report)
	}
	if misses := checkPromises(t, g, &answered); misses > 0 || g.c1.AcceptedHits() < callsEnough {
		t.Errorf("%d misses in %d calls", misses, g.c1.AcceptedHits())
	}
	t.Logf("%d calls, %d records in %d segments", g.c1.AcceptedHits(), report.Records, report.Segments)
}

// A SIGHUP while it starts, as log rotation may send one, does not end it: it is
// obeyed when it serves.
func TestHangupAtStart(t *testing.T) {
	t.Parallel()
	g, configFile := prepare(t, sandbox.Config{})
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	log, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	// A log that is full holds it up before it says that it serves.
	filler := bytes.Repeat([]byte("\n"), 4096)
	stderr.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for err = error(nil); err == nil; {
		_, err = stderr.Write(filler)
	}
	cmd := exec.Command(name, "serve", "--config", configFile, "--no-watch")
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stderr.Close()
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	until(t, "the audit is open", func() bool {
		segments, _ := filepath.Glob(filepath.Join(g.dir, "*.jsonl"))
		return len(segments) > 0
	})
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	log.SetReadDeadline(time.Now().Add(time.Minute))
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if strings.Contains(lines.Text(), "the configuration is reloaded") {
			return
		}
	}
	t.Error("it ended, or did not obey")
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
