package c1proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// A shipment is what one sink has received.
type shipment struct {
	mu      sync.Mutex
	records []audit.Record
}

func (s *shipment) add(line []byte) error {
	var r audit.Record
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("%w in %q", err, line)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, r)
	return nil
}

// missing holds what has come against the log: every record is there as it stands
// in the log, and none came for the first time before one that precedes it.
func (s *shipment) missing(dir string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first []audit.Record
	for _, r := range s.records {
		switch n := uint64(len(first)); {
		case r.Seq > n:
			return fmt.Sprintf("record %d came, and %d has not", r.Seq, n)
		case r.Seq == n:
			first = append(first, r)
		}
	}
	var logged []audit.Record
	err := audit.Query(context.Background(), dir, audit.Filter{}, func(r audit.Record) error {
		logged = append(logged, r)
		return nil
	})
	if err != nil {
		return err.Error()
	}
	if len(first) < len(logged) {
		return fmt.Sprintf("%d records came of %d", len(first), len(logged))
	}
	for i := range logged {
		if !reflect.DeepEqual(logged[i], first[i]) {
			return cmp.Diff(logged[i], first[i])
		}
	}
	return ""
}

// takeWebhook is a webhook that takes JSON lines, and refuses some.
func (s *shipment) takeWebhook(t testing.TB, refuse func() int) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if status := refuse(); status != 0 {
			w.WriteHeader(status)
			return
		}
		for line := range bytes.Lines(body) {
			if err := s.add(line); err != nil {
				t.Error(err)
			}
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// takeSyslog is a syslog server that takes messages over TCP.
func (s *shipment) takeSyslog(t testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.readSyslog(t, conn)
		}
	}()
	return listener.Addr().String()
}

func (s *shipment) readSyslog(t testing.TB, conn net.Conn) {
	defer conn.Close()
	for in := bufio.NewReader(conn); ; {
		count, err := in.ReadString(' ')
		if err != nil {
			return // what a kill cut short comes again
		}
		n, err := strconv.Atoi(strings.TrimSpace(count))
		if err != nil {
			t.Errorf("no frame: %q", count)
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(in, message); err != nil {
			return
		}
		if err := s.add(message[bytes.IndexByte(message, '{'):]); err != nil {
			t.Error(err)
		}
	}
}

// shipTo adds sinks to the configuration.
func shipTo(sinks ...string) func(string) string {
	return func(text string) string {
		return strings.Replace(text, `audit.key"}`, `audit.key", segment_bytes: 65536, sinks: [`+strings.Join(sinks, ", ")+"]}", 1)
	}
}

// The gateway is killed under load, again and again, and its webhook refuses
// every seventh request: every record arrives at every sink, and in order.
func TestSinksSurviveKills(t *testing.T) {
	var hooked, logged shipment
	var requests atomic.Int64
	hook := hooked.takeWebhook(t, func() int {
		if requests.Add(1)%7 == 0 {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	address := logged.takeSyslog(t)
	g, configFile := prepare(t, sandbox.Config{}, shipTo(
		`{name: hook, from_start: true, webhook: {url: "`+hook.URL+`/in"}}`,
		`{name: log, from_start: true, syslog: {address: "`+address+`", protocol: tcp}}`))
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	var serial atomic.Int64
	for range 3 {
		p := serveBinary(t, configFile)
		g.url = p.url
		ctx, cancel := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		for range 4 {
			callers.Go(func() { g.callUntil(ctx, &serial, new(sync.Map)) })
		}
		time.Sleep(time.Duration(700+random.IntN(1500)) * time.Millisecond) // the moment of the kill is the test's chance
		p.kill()
		cancel()
		callers.Wait()
	}
	p := serveBinary(t, configFile)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("clean stop: %v", err)
	}
	// What the two seconds of the stop were too short for comes with a next start.
	p = serveBinary(t, configFile)
	defer p.kill()
	for name, s := range map[string]*shipment{"webhook": &hooked, "syslog": &logged} {
		problem := ""
		for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
			if problem = s.missing(g.dir); problem == "" {
				break
			}
		}
		s.mu.Lock()
		t.Logf("seed %d: %s: %d deliveries of %d records", seed, name, len(s.records), s.records[len(s.records)-1].Seq+1)
		s.mu.Unlock()
		if problem != "" {
			t.Errorf("%s: %.2000s", name, problem)
		}
	}
}

// A SIEM that hangs holds no call up: calls are answered and the gateway is
// ready, only its records wait, and it says so. The end does not wait for it
// for long.
func TestHungSink(t *testing.T) {
	var kept shipment
	release := make(chan struct{})
	hung := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-release
	}))
	defer hung.Close()
	defer close(release)
	failing := kept.takeWebhook(t, func() int { return http.StatusForbidden })
	g := start(t, func(s *setup) {
		s.yaml = shipTo(`{name: hung, webhook: {url: "`+hung.URL+`"}}`, `{name: failing, webhook: {url: "`+failing.URL+`?key=canary"}}`)
	})
	for range 50 {
		if err := g.list(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the failing sink is told of", func() bool {
		status, body := g.admin("/readyz")
		return status == http.StatusOK && strings.Contains(body, `"sink/failing": "has failed since `) && strings.Contains(body, "403 Forbidden")
	})
	until(t, "the records wait", func() bool {
		metrics := g.metrics()
		return strings.Contains(metrics, `c1proxy_audit_sink_lag_records{sink="hung"} 10`) &&
			strings.Contains(metrics, `c1proxy_audit_sink_failing{sink="failing"} 1`) && strings.Contains(metrics, `c1proxy_audit_sink_failures_total{sink="failing"} 1`)
	})
	if held := g.proxy.Holds(); held == 0 || held > 10 {
		t.Errorf("records from %d on are held", held)
	}
	begun := time.Now()
	if err := g.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	t.Logf("it stopped in %v, with a hung sink", time.Since(begun).Round(time.Millisecond))
	if strings.Contains(g.logs.String(), "canary") {
		t.Error("the URL's query is in the log")
	}
}

// What the SIEM gets at a clean stop is all of the log, as OCSF events that can
// be joined with C1's own log by the request's id.
func TestSinkAtTheEnd(t *testing.T) {
	var mu sync.Mutex
	var events []map[string]any
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var batch []map[string]any
		if err := json.Unmarshal(body, &batch); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		events = append(events, batch...)
	}))
	defer hook.Close()
	g := start(t, func(s *setup) {
		s.yaml = shipTo(`{name: a, format: ocsf, kinds: [outcome, denied, event], from_start: true, webhook: {url: "` + hook.URL + `", body: array}}`)
	})
	g.sinks = append(g.sinks, func() string { mu.Lock(); defer mu.Unlock(); return fmt.Sprint(events) })
	if err := g.list(); err != nil {
		t.Fatal(err)
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	last := events[len(events)-1]
	if last["class_uid"] != 6002.0 || last["activity_name"] != "Stop" {
		t.Errorf("the last event is %v", last)
	}
	requests := g.c1.Requests()
	sent := requests[len(requests)-1].Header.Get("X-Request-Id")
	found := 0
	for _, e := range events {
		metadata := e["metadata"].(map[string]any)
		if metadata["correlation_uid"] == sent && e["class_uid"] == 6003.0 && e["activity_id"] == 2.0 && e["status"] == "Success" {
			found++
		}
	}
	if sent == "" || found != 1 {
		t.Errorf("%d events of the request %q in %v", found, sent, events)
	}
}

// The export by hand: whole, by numbers, and as it comes.
func TestAuditExport(t *testing.T) {
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	g := start(t)
	for range 3 {
		if err := g.list(); err != nil {
			t.Fatal(err)
		}
	}
	export := func(args ...string) (out, stderr string, exit int) {
		t.Helper()
		cmd := exec.Command(name, append([]string{"audit", "export", g.dir}, args...)...)
		var o, e bytes.Buffer
		cmd.Stdout, cmd.Stderr = &o, &e
		_ = cmd.Run() // the exit code tells
		return o.String(), e.String(), cmd.ProcessState.ExitCode()
	}
	until(t, "all is signed", func() bool { out, _, _ := export("--key", g.proxy.VerifierKey()); return strings.Count(out, "\n") >= 8 })
	out, _, _ := export()
	raw, err := os.ReadFile(filepath.Join(g.dir, "00000000000000000000.jsonl"))
	if err != nil || out != strings.TrimRight(string(raw), "\x00") {
		t.Errorf("%v: exported as\n%swhat is\n%s", err, out, raw)
	}
	lines := strings.SplitAfter(out, "\n")
	if out, stderr, exit := export("--from", "2", "--to", "3"); out != lines[2]+lines[3] || stderr != "next: --from 4\n" || exit != 0 {
		t.Errorf("exit %d, %q: %s", exit, stderr, out)
	}
	if out, stderr, _ := export("--from", "8"); out != "" || stderr != "next: --from 8\n" {
		t.Errorf("%q: %s", stderr, out)
	}
	if out, _, _ := export("--kinds", "intent"); strings.Count(out, "\n") != 3 {
		t.Errorf("three intents are %s", out)
	}
	out, _, exit := export("--format", "ocsf")
	if strings.Count(out, `"class_uid":6003`) != 6 || strings.Count(out, `"sequence":`) != 8 || exit != 0 {
		t.Errorf("exit %d: %s", exit, out)
	}
	if _, stderr, exit := export("--key", "x+1+y"); exit != 1 || !strings.Contains(stderr, "verifier key") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	// A reader that has gone ends it without a word.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	alone := exec.Command(name, "audit", "export", g.dir, "--follow")
	var complaint bytes.Buffer
	alone.Stdout, alone.Stderr = w, &complaint
	_ = alone.Run() // the signal tells
	w.Close()
	if status := alone.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGPIPE || complaint.Len() > 0 {
		t.Errorf("%v: %s", alone.ProcessState, complaint.String())
	}
	g.exportFollows(name)
}

// exportFollows follows while calls come, and ends at a signal.
func (g *gateway) exportFollows(name string) {
	t := g.t
	t.Helper()
	cmd := exec.Command(name, "audit", "export", g.dir, "--follow", "--from", "8")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		err = g.list()
	}
	if err != nil {
		t.Fatal(err)
	}
	var r audit.Record
	decoder := json.NewDecoder(out)
	for want := uint64(8); want < 10; want++ {
		if err := decoder.Decode(&r); err != nil || r.Seq != want {
			t.Errorf("record %d after %d: %v", r.Seq, want-1, err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || stderr.String() != "next: --from 10\n" {
		t.Errorf("%v: %s", err, stderr.String())
	}
}
