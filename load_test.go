package c1proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// loadSize is how many connections and calls the tests of load make at once;
// C1PROXY_LOAD sets another number. P12 is about 10,000, which
// `go run ./internal/dev load` makes.
func loadSize() int {
	if n, err := strconv.Atoi(os.Getenv("C1PROXY_LOAD")); err == nil {
		return n
	}
	return 1000
}

// needFiles skips a test that cannot open so many files.
func needFiles(t *testing.T, n int) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < uint64(n) { // Go has raised it to the hard limit
		t.Skipf("RLIMIT_NOFILE is %d, and %d files are needed", limit.Cur, n)
	}
}

// A baseline is what a process has while nothing happens.
type baseline struct {
	p                 *process
	goroutines, files int
	memory            int64
}

func (p *process) baseline() baseline {
	return baseline{p, p.goroutines(), p.files(), p.status("VmRSS")}
}

// checkBack waits until goroutines and files are back, within ten of what they
// were, for at most 30 seconds.
func (b baseline) checkBack(t *testing.T) {
	t.Helper()
	begun := time.Now()
	for {
		goroutines, files := b.p.goroutines(), b.p.files()
		if goroutines <= b.goroutines+10 && files <= b.files+10 {
			t.Logf("after %v: %d goroutines (%d before), %d files (%d before)", time.Since(begun).Round(time.Millisecond), goroutines, b.goroutines, files, b.files)
			return
		}
		if time.Since(begun) > 30*time.Second {
			t.Errorf("still %d goroutines (%d before), %d files (%d before)", goroutines, b.goroutines, files, b.files)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// E10, I8: streams that are opened and reset at once. Each call that comes as
// far as the limit is charged, so that C1 sees no more than the limit lets
// through; others are served; nothing is left over.
func TestRapidReset(t *testing.T) {
	const burst, streams = 50, 100_000
	s := besiege(t, func(text string) string {
		return strings.Replace(text, "limits:\n      caller: {rate: 1, per: 3600s, burst: 1}", fmt.Sprintf("limits:\n      caller: {rate: 1, per: 3600s, burst: %d}", burst), 1)
	})
	slow := s.keys["slow-bot"]
	s.warm(100)
	before := s.process.baseline()
	others := s.stand()
	s.process.forgetPeak()
	path := "/c1.api.app.v1.ConnectorService/List?connect=v1&encoding=json&message=" + url.QueryEscape(`{"appId":"`+s.facts.AppID+`"}`)
	header := func(h *rawH2) []byte {
		return h.fields(":method", "GET", ":scheme", "http", ":path", path, ":authority", "x", "authorization", "Bearer "+slow)
	}
	cpu, begun, sent, connections, goAways := s.process.cpu(), time.Now(), 0, 0, 0
	for sent < streams && time.Since(begun) < 20*time.Second {
		h := dialH2(t, s.url, false)
		connections++
		for batch := 0; sent < streams && !strings.Contains(h.verdict(), "GOAWAY"); batch++ {
			first := h.next
			for range 50 {
				h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: h.next, BlockFragment: header(h), EndHeaders: true, EndStream: true})
				if h.next += 2; sent >= 1000 {
					h.framer.WriteRSTStream(h.next-2, http2.ErrCodeCancel)
				}
				sent++
			}
			if h.out.Flush() != nil {
				break
			}
			if connections == 1 && batch == 0 { // however slow the machine is, some come as far as C1
				until(t, "a call is answered", func() bool { return h.answered() > 0 })
			}
			for ; sent <= 1000 && first < h.next; first += 2 { // the first ones come as far as they may
				time.Sleep(200 * time.Microsecond)
				h.framer.WriteRSTStream(first, http2.ErrCodeCancel)
			}
		}
		h.out.Flush()
		h.gone(100 * time.Millisecond)
		if strings.Contains(h.verdict(), "GOAWAY") {
			goAways++
		}
		h.conn.Close()
	}
	took, spent := time.Since(begun), s.process.cpu()-cpu
	others.stop()
	mine := map[string]bool{}
	if err := audit.Query(t.Context(), s.dir, audit.Filter{Kind: audit.KindIntent}, func(r audit.Record) error {
		mine[r.RequestID] = r.Caller == "slow-bot"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	hits := 0
	for _, r := range s.c1.Requests() {
		if mine[r.Header.Get("X-Request-Id")] {
			hits++
		}
	}
	t.Logf("%d streams reset over %d connections, %d of them sent away with GOAWAY, in %v, %v of CPU, peak %d MiB; C1 saw %d calls of a burst of %d; %s",
		sent, connections, goAways, took.Round(time.Millisecond), spent, s.process.status("VmHWM")/mib, hits, burst, others)
	if hits == 0 || hits > burst {
		t.Errorf("C1 saw %d calls, the limit lets %d through", hits, burst)
	}
	if others.failed.Load() > 0 {
		t.Error("others were not served")
	}
	if goAways == 0 && spent > took { // a server that keeps up need not send anybody away
		t.Errorf("no GOAWAY came, though it took %v of CPU in %v", spent, took)
	}
	if grown := s.process.status("VmHWM") - before.memory; grown > mostMemory {
		t.Errorf("memory grew by %d MiB", grown/mib)
	}
	before.checkBack(t)
}

// P12: connections without calls, half HTTP/1.1 and half HTTP/2.
func TestIdleConnections(t *testing.T) {
	n := loadSize()
	needFiles(t, n+500)
	s := besiege(t, listenWith(fmt.Sprintf("max_connections: %d, ", n+20)))
	before := s.process.baseline()
	conns := make([]net.Conn, n)
	var group sync.WaitGroup
	for part := range 8 {
		group.Go(func() {
			for i := part; i < n; i += 8 {
				conns[i] = s.idle(i%2 == 0)
			}
		})
	}
	group.Wait()
	memory := s.process.status("VmRSS") - before.memory
	open := s.process.gauge("c1proxy_connections")
	t.Logf("%d idle connections: +%d MiB, %.1f KiB each", int(open), memory/mib, float64(memory)/float64(n)/1024)
	if int(open) < n || memory > int64(n)*300*mib/10_000+20*mib {
		t.Errorf("%v connections, %d MiB; want %d, and at most 300 MiB for 10,000", open, memory/mib, n)
	}
	s.checkConnectionBound(n + 20)
	for _, conn := range conns {
		if conn != nil {
			conn.Close()
		}
	}
	before.checkBack(t)
	s.checkRecovered()
}

// idle opens a connection and has one request on it, which is none of a call.
func (s *siege) idle(http1 bool) net.Conn {
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.url, "http://"), 10*time.Second)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if http1 {
		io.WriteString(conn, "GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
		answer := make([]byte, 12)
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 404" {
			s.t.Errorf("got %q, %v", answer, err)
		}
		return conn
	}
	io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.WriteSettings()
	for range 2 { // the server's settings, and its answer to ours
		if _, err := framer.ReadFrame(); err != nil {
			s.t.Error(err)
		}
	}
	return conn
}

// checkConnectionBound opens connections until one is refused.
func (s *siege) checkConnectionBound(most int) {
	s.t.Helper()
	for range 60 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			s.t.Fatal(err)
		}
		defer conn.Close()
		time.Sleep(5 * time.Millisecond)
	}
	until(s.t, "connections are refused", func() bool { return s.process.gauge("c1proxy_connections_refused_total") > 0 })
	if open := s.process.gauge("c1proxy_connections"); int(open) > most {
		s.t.Errorf("%v connections are open, at most %d may be", open, most)
	}
}

// P12: calls that C1 does not answer, on 100 or more HTTP/2 connections, 100
// on each. One more than listen.max_calls is refused and on record.
func TestCallsInFlight(t *testing.T) {
	n := loadSize()
	needFiles(t, n+n/50+500)
	s := besiege(t, listenWith(fmt.Sprintf("max_calls: %d, ", n)), func(text string) string {
		return strings.Replace(text, "    allow_insecure: true\n", "    allow_insecure: true\n    timeout: 120s\n", 1)
	})
	release := make(chan struct{})
	open := sync.OnceFunc(func() { close(release) })
	defer open()
	s.warm(300)
	s.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirmMethod})
	before := s.process.baseline()
	s.process.forgetPeak()
	calls := s.flood("call", n)
	deadline, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := s.c1.AwaitHits(deadline, n); err != nil {
		t.Fatalf("%d calls reached C1: %v; answers: %s", s.c1.Hits(), err, verdicts(calls))
	}
	memory := s.process.status("VmRSS") - before.memory
	t.Logf("%d calls in flight over %d connections: +%d MiB, %.1f KiB each", n, len(calls), memory/mib, float64(memory)/float64(n)/1024)
	if memory > int64(n)*1024*mib/10_000+20*mib {
		t.Errorf("%d MiB; want at most 1 GiB for 10,000", memory/mib)
	}
	status, header, body := do(t, s.httpClient(true), s.post(confirmMethod, s.key, s.confirmJSON(sandbox.ConfirmablePrefix+"x")))
	if records := s.records(header.Get("X-Request-Id")); status != 503 || !strings.Contains(body, "OVERLOADED") || header.Get("Retry-After") != "1" ||
		len(records) != 1 || records[0].Kind != audit.KindDenied || records[0].Error != "OVERLOADED" {
		t.Errorf("one call more: %d %s %v", status, body, records)
	}
	open()
	s.finish(calls, n)
	before.checkBack(t)
	s.checkRecovered()
}

// warm makes n calls at once, so that what is kept of them afterwards, up to
// 256 idle connections to C1, is no leak of what comes next.
func (s *siege) warm(n int) {
	s.t.Helper()
	release := make(chan struct{})
	open := sync.OnceFunc(func() { close(release) })
	defer open()
	s.c1.Reset()
	s.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirmMethod, Times: n})
	calls := s.flood("warm", n)
	deadline, cancel := context.WithTimeout(s.t.Context(), 60*time.Second)
	defer cancel()
	if err := s.c1.AwaitHits(deadline, n); err != nil {
		s.t.Fatalf("%d calls reached C1: %v; answers: %s", s.c1.Hits(), err, verdicts(calls))
	}
	open()
	s.finish(calls, n)
	s.c1.Reset()
}

// finish waits until all calls are answered well, and closes their connections.
func (s *siege) finish(calls []*rawH2, n int) {
	s.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		answered := 0
		for _, h := range calls {
			answered += h.ok()
		}
		if answered == n {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d of %d calls were answered well: %s", answered, n, verdicts(calls))
		}
	}
	for _, h := range calls {
		h.conn.Close()
	}
}

// verdicts counts the answers by their codes.
func verdicts(calls []*rawH2) string {
	codes := map[string]int{}
	for _, h := range calls {
		h.mu.Lock()
		for stream := range h.ended {
			code := ""
			for _, f := range h.headers[stream] {
				if f.Name == ":status" || f.Name == "grpc-status" || f.Name == "grpc-message" {
					code += f.Name + " " + f.Value + " "
				}
			}
			codes[code]++
		}
		h.mu.Unlock()
		codes[h.verdict()]++
	}
	return fmt.Sprint(codes)
}

// flood begins n calls, half gRPC and half Connect, and returns their
// connections.
func (s *siege) flood(name string, n int) []*rawH2 {
	var calls []*rawH2
	var h *rawH2
	for i := range n {
		if i%100 == 0 {
			h = dialH2(s.t, s.url, false)
			calls = append(calls, h)
		}
		body := []byte(s.confirmJSON(fmt.Sprintf("%s%s-%d", sandbox.ConfirmablePrefix, name, i)))
		media := "application/json"
		if i%2 == 0 {
			media = "application/grpc+json"
			body = append([]byte{0, 0, 0, 0, byte(len(body))}, body...)
		}
		h.framer.WriteData(h.open("/"+confirmMethod, s.key, media), true, body)
		if i%100 == 99 || i == n-1 {
			h.out.Flush()
		}
	}
	return calls
}

// ok counts the streams that have ended well.
func (h *rawH2) ok() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for stream, ended := range h.ended {
		status, grpc := "", "0"
		for _, f := range h.headers[stream] {
			switch f.Name {
			case ":status":
				status = f.Value
			case "grpc-status":
				grpc = f.Value
			}
		}
		if ended && status == "200" && grpc == "0" {
			n++
		}
	}
	return n
}

// A call that its caller has reset keeps its place until its outcome is on
// record, with a deadline and without: resetting wins nobody a place.
func TestResetKeepsThePlace(t *testing.T) {
	const most = 20
	s := besiege(t, listenWith(fmt.Sprintf("max_calls: %d, ", most)))
	release := make(chan struct{})
	open := sync.OnceFunc(func() { close(release) })
	defer open()
	s.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirmMethod})
	h := dialH2(t, s.url, false)
	begin := func(i int) {
		stream := h.open("/"+confirmMethod, s.key, "application/json", "connect-timeout-ms", []string{"20000", "20001"}[i%2])
		h.framer.WriteData(stream, true, []byte(s.confirmJSON(fmt.Sprintf("%s%d", sandbox.ConfirmablePrefix, i))))
		h.out.Flush()
		until(t, "it reaches C1, or is refused", func() bool { return s.c1.Hits() > min(i, most) || h.field(stream, ":status") != "" })
		h.framer.WriteRSTStream(stream, http2.ErrCodeCancel)
		h.out.Flush()
	}
	for i := range 3 * most {
		begin(i)
	}
	if hits := s.c1.Hits(); hits != most {
		t.Errorf("C1 saw %d calls at once, at most %d may be under way", hits, most)
	}
	open()
	until(t, "the places are free again", func() bool {
		status, _, _ := do(t, s.httpClient(true), s.post(confirmMethod, s.key, s.confirmJSON(sandbox.ConfirmablePrefix+"y")))
		return status == 200
	})
}

// I11: with GOMEMLIMIT set, calls are refused before the memory is used up,
// and taken again when there is some.
func TestMemoryLimit(t *testing.T) {
	const limit, calls, size = 96 * mib, 200, mib
	g, configFile := prepare(t, sandbox.Config{Remember: -1})
	p := serveBinary(t, configFile, "GOMEMLIMIT="+strconv.Itoa(limit))
	t.Cleanup(p.kill)
	g.url = p.url
	release := make(chan struct{})
	open := sync.OnceFunc(func() { close(release) })
	defer open()
	g.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirmMethod})
	// What the mirror has no place for goes up as it came, on C1's own paths.
	path := fmt.Sprintf("/api/v1/apps/%s/connectors/%s/confirm_sync_valid/%s", g.facts.AppID, g.facts.ConnectorID, sandbox.ConfirmablePrefix)
	body := `{"filler":"` + strings.Repeat("x", size) + `"}`
	var taken, refused, other atomic.Int64
	var group sync.WaitGroup
	for i := range calls {
		group.Go(func() {
			r, err := http.NewRequest(http.MethodPost, g.url+path+strconv.Itoa(i), strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			r.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + g.keys["sync-bot"]}}
			response, err := g.httpClient(true).Do(r)
			if err != nil {
				other.Add(1)
				return
			}
			defer response.Body.Close()
			text, _ := io.ReadAll(response.Body)
			switch {
			case response.StatusCode == 200:
				taken.Add(1)
			case response.StatusCode == 503 && strings.Contains(string(text), "OVERLOADED"):
				refused.Add(1)
			default:
				other.Add(1)
				t.Errorf("got %d %.200s", response.StatusCode, text)
			}
		})
		time.Sleep(5 * time.Millisecond) // so that some are under way when others come
	}
	until(t, "some are refused", func() bool { return refused.Load() > 0 })
	peak := p.status("VmHWM")
	open()
	group.Wait()
	t.Logf("GOMEMLIMIT %d MiB, %d calls of %d MiB: %d taken, %d refused as OVERLOADED, %d cut off; peak %d MiB", limit/mib, calls, size/mib, taken.Load(), refused.Load(), other.Load(), peak/mib)
	if taken.Load() == 0 || refused.Load() == 0 || peak > limit*5/4 {
		t.Error("nothing was taken, nothing was refused, or the limit did not hold")
	}
	until(t, "calls are taken again", func() bool { return g.list() == nil })
}
