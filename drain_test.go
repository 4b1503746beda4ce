package c1proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// outcomes counts the outcomes on record.
func (g *gateway) outcomes(outcome audit.Outcome) (n int) {
	g.t.Helper()
	err := audit.Query(context.Background(), g.dir, audit.Filter{Kind: audit.KindOutcome, Outcome: outcome}, func(audit.Record) error {
		n++
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

// exit waits for the end of the process, for at most so long.
func (p *process) exit(t *testing.T, within time.Duration) (code int, took time.Duration) {
	t.Helper()
	begun := time.Now()
	timer := time.AfterFunc(within, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	_ = p.cmd.Wait() // the code tells
	return p.cmd.ProcessState.ExitCode(), time.Since(begun)
}

// begin begins n calls of each kind, which C1 holds: gRPC over h2c, Connect
// over HTTP/1.1 and C1's own paths. It returns when all have reached C1.
func (s *siege) begin(grpc, connect, rest int) (wait func() (failed int64)) {
	s.t.Helper()
	calls := s.flood("grpc", grpc)
	var group sync.WaitGroup
	var failed atomic.Int64
	client := s.httpClient(true)
	for i := range connect + rest {
		r := s.post(confirmMethod, s.key, s.confirmJSON(fmt.Sprintf("%sconnect-%d", sandbox.ConfirmablePrefix, i)))
		if i >= connect {
			r = s.post(fmt.Sprintf("api/v1/apps/%s/connectors/%s/confirm_sync_valid/%srest-%d", s.facts.AppID, s.facts.ConnectorID, sandbox.ConfirmablePrefix, i), s.key, "{}")
		}
		group.Go(func() {
			response, err := client.Do(r.WithContext(context.Background()))
			if err != nil {
				failed.Add(1)
				s.t.Errorf("call %d: %v", i, err)
				return
			}
			defer response.Body.Close()
			if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != 200 {
				failed.Add(1)
				s.t.Errorf("call %d: %d %s %v", i, response.StatusCode, body, err)
			}
		})
	}
	deadline, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.c1.AwaitHits(deadline, grpc+connect+rest); err != nil {
		s.t.Fatalf("%d calls reached C1: %v; %s", s.c1.Hits(), err, verdicts(calls))
	}
	return func() int64 {
		group.Wait()
		s.finish(calls, grpc)
		return failed.Load()
	}
}

// P13: SIGTERM with 1,000 calls under way, and connections of every kind. None
// of the calls fails, readiness turns at once, new calls are still taken for
// listen.drain_delay and new connections refused afterwards, all outcomes are
// on record, and the exit code is 0.
func TestDrain(t *testing.T) {
	const delay = 3 * time.Second
	s := besiege(t, listenWith(fmt.Sprintf("drain_delay: %v, ", delay)))
	release := make(chan struct{})
	open := sync.OnceFunc(func() { close(release) })
	defer open()
	s.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirmMethod})
	wait := s.begin(500, 250, 250)
	for _, hello := range []string{"", "POST / HTTP/1.1\r\nX: "} { // they would hold net/http's drain up for 5 s
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, hello)
	}
	for _, http1 := range []bool{true, false} {
		s.idle(http1)
	}
	time.Sleep(50 * time.Millisecond) // the server is to know of the new ones
	begun := time.Now()
	s.process.cmd.Process.Signal(syscall.SIGTERM)
	until(t, "it is not ready", func() bool { return s.process.ready() == 503 })
	unready := time.Since(begun)
	response, err := s.httpClient(true).Do(s.post("c1.api.app.v1.ConnectorService/List", s.key, `{"appId":"`+s.facts.AppID+`"}`))
	if err != nil || response.StatusCode != 200 || !response.Close {
		t.Fatalf("a new call during the delay: %+v %v; want an answer that closes its connection", response, err)
	}
	response.Body.Close()
	until(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	refused := time.Since(begun)
	if ready := s.process.ready(); ready != 503 {
		t.Errorf("while it drains, /readyz answers %d", ready)
	}
	open()
	failed := wait()
	code, took := s.process.exit(t, 20*time.Second)
	on := s.outcomes(audit.OutcomeOK)
	t.Logf("SIGTERM with 1000 calls under way: not ready after %v, closed to new ones after %v; %d calls failed, %d outcomes on record, exit %d, %v after the last answer",
		unready.Round(time.Millisecond), refused.Round(time.Millisecond), failed, on, code, took.Round(time.Millisecond))
	if failed != 0 || code != 0 || on != 1001 || refused < delay || took > 4*time.Second {
		t.Error("the drain was not clean")
	}
}

// Neither a connection without any call holds the drain up, nor a stream whose
// caller is silent.
func TestDrainIsQuick(t *testing.T) {
	s := besiege(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h := dialH2(t, s.url, false)
	h.open("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", s.key, "application/grpc")
	h.out.Flush()
	until(t, "both are known", func() bool {
		return s.process.gauge("c1proxy_connections") >= 2 && s.process.gauge("c1proxy_calls_in_flight") == 1
	})
	s.process.cmd.Process.Signal(syscall.SIGTERM)
	if code, took := s.process.exit(t, 20*time.Second); code != 0 || took > 3*time.Second {
		t.Errorf("exit %d after %v", code, took)
	}
}

// A call whose HTTP/2 connection is gone is waited for as well: its outcome is
// on record, and nothing is indeterminate.
func TestDrainWaitsForTheGone(t *testing.T) {
	s := besiege(t)
	release := make(chan struct{})
	open := sync.OnceFunc(func() { close(release) })
	defer open()
	s.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirmMethod})
	calls := s.flood("gone", 20)
	if err := s.c1.AwaitHits(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	calls[0].conn.Close()
	until(t, "the connection is gone", func() bool { return s.process.gauge("c1proxy_connections") == 0 })
	s.process.cmd.Process.Signal(syscall.SIGTERM)
	until(t, "it is not ready", func() bool { return s.process.ready() == 503 })
	time.Sleep(300 * time.Millisecond) // it would be gone by now if it did not wait
	open()
	if code, _ := s.process.exit(t, 20*time.Second); code != 0 || s.outcomes(audit.OutcomeOK) != 20 {
		t.Errorf("exit %d with %d outcomes, want 0 with 20", code, s.outcomes(audit.OutcomeOK))
	}
}

// A second SIGTERM ends at once, and so does the end of listen.drain_timeout:
// with 1, and what was under way is indeterminate at the next start.
func TestDrainThatFails(t *testing.T) {
	for _, tt := range []struct {
		name, keys string
		signals    int
	}{
		{"a second SIGTERM", "", 2},
		{"the end of the time", "drain_timeout: 500ms, ", 1},
		{"a second SIGTERM in the delay", "drain_delay: 60s, ", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			release := make(chan struct{})
			s := besiege(t, listenWith(tt.keys))
			defer close(release)
			s.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirmMethod})
			s.flood("cut", 20)
			if err := s.c1.AwaitHits(t.Context(), 20); err != nil {
				t.Fatal(err)
			}
			for i := range tt.signals {
				s.process.cmd.Process.Signal(syscall.SIGTERM)
				if i == 0 {
					until(t, "it is not ready", func() bool {
						status := s.process.ready()
						return status == 503 || status == 0 && tt.signals == 1 // it may have ended
					})
				}
			}
			code, took := s.process.exit(t, 20*time.Second)
			if code != 1 || took > 3*time.Second {
				t.Errorf("exit %d after %v, want 1 at once", code, took)
			}
			s.restart()
			if n := s.outcomes(audit.OutcomeIndeterminate); n != 20 {
				t.Errorf("%d outcomes are indeterminate at the next start, want 20", n)
			}
			t.Logf("exit %d after %v, 20 calls indeterminate", code, took.Round(time.Millisecond))
		})
	}
}

// restart starts the gateway again on the audit of its last run, and ends it
// when it serves.
func (s *siege) restart() {
	s.t.Helper()
	p := serveBinary(s.t, s.configFile)
	p.kill()
	if _, err := audit.Verify(context.Background(), s.dir, p.vkey); err != nil {
		s.t.Errorf("verify audit: %v", err)
	}
}
