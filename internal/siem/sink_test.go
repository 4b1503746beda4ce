package siem_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/siem"
)

func syslogTo(address string, change ...func(*siem.SyslogConfig)) *siem.Syslog {
	cfg := siem.SyslogConfig{Address: address, Protocol: siem.TCP, Facility: siem.Facilities["local0"], Host: "gate way\n"}
	for _, c := range change {
		c(&cfg)
	}
	return siem.NewSyslog(cfg)
}

// The header of a message: local0 and its severity, a time, the host, the
// program, and the kind.
var syslogHead = regexp.MustCompile(`^<(\d+)>1 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z gateway c1proxy - (intent|outcome|denied|event) - $`)

func TestSyslogTCP(t *testing.T) {
	k := newKit(t)
	server := newSyslogServer(t, "127.0.0.1:0", nil)
	s := k.sink(syslogTo(server.address()))
	k.call(300)
	k.arrived(s, &server.got)
	server.mu.Lock()
	defer server.mu.Unlock()
	for _, head := range server.heads {
		parts := syslogHead.FindStringSubmatch(head)
		if parts == nil || parts[1] != fmt.Sprint(16*8+6) {
			t.Fatalf("header %q", head)
		}
	}
	if state := s.State(); state.Failures > 0 || state.Delivered != state.Next || int(state.Next) != len(server.heads) {
		t.Errorf("%+v, %d messages", state, len(server.heads))
	}
}

func TestSyslogTLS(t *testing.T) {
	k := newKit(t)
	caFile, config := authority(t)
	server := newSyslogServer(t, "127.0.0.1:0", config)
	secured := func(file string) func(*siem.SyslogConfig) {
		return func(c *siem.SyslogConfig) { c.Protocol, c.CAFile = siem.TLS, file }
	}
	k.call(3)
	s := k.sink(syslogTo(server.address(), secured("")), func(c *siem.Config) { c.Name = "strict" })
	eventually(t, "an unknown authority is refused", func() bool { return strings.Contains(s.State().Why, "certificate") })
	if n := server.got.count(); n > 0 {
		t.Errorf("%d records went to a server that nobody vouches for", n)
	}
	k.arrived(k.sink(syslogTo(server.address(), secured(caFile))), &server.got)
}

func TestSyslogUDP(t *testing.T) {
	k := newKit(t)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var got messages
	go func() {
		for buf := make([]byte, 1<<16); ; {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, body, _ := strings.Cut(string(buf[:n]), "{")
			got.add([]byte("{" + body))
		}
	}()
	s := k.sink(syslogTo(conn.LocalAddr().String(), func(c *siem.SyslogConfig) { c.Protocol = siem.UDP }))
	k.call(20)
	k.arrived(s, &got)
}

// A server that is not there at first, that dies with messages unread, that
// hangs and is gone, and that comes back: every record arrives, in order.
func TestSyslogFaults(t *testing.T) {
	k := newKit(t)
	server := newSyslogServer(t, "127.0.0.1:0", nil)
	address := server.address()
	server.close()
	s := k.sink(syslogTo(address))
	k.call(100)
	eventually(t, "the sink misses its server", func() bool { return strings.Contains(s.State().Why, "refused") })
	if s.Holds() != 0 || s.State().Next != 0 {
		t.Errorf("%+v, holds %d", s.State(), s.Holds())
	}
	reborn := newSyslogServer(t, address, nil, func(s *syslogServer) { s.dieAfter = 50 })
	k.arrived(s, &reborn.got)
	if s.State().Failures < 2 || reborn.got.count() <= int(s.State().Next) {
		t.Errorf("%+v: it did not die with messages unread", s.State())
	}
}

// A server that hangs has taken what it has not read. When it is gone it all
// comes again.
func TestSyslogHang(t *testing.T) {
	k := newKit(t)
	hung := newSyslogServer(t, "127.0.0.1:0", nil, func(s *syslogServer) { s.hang = make(chan struct{}) })
	s := k.sink(syslogTo(hung.address()))
	k.call(5)
	size := k.signed()
	eventually(t, "the sink takes them for delivered", func() bool { return s.State().Next == size })
	if n := hung.got.count(); n > 0 {
		t.Fatalf("%d records were read", n)
	}
	hung.close()
	close(hung.hang)
	again := newSyslogServer(t, hung.address(), nil)
	k.call(5)
	k.arrived(s, &again.got)
}

func TestWebhook(t *testing.T) {
	k := newKit(t)
	var most, requests atomic.Int64
	hook := newWebhook(t, func(w http.ResponseWriter, r *http.Request) bool {
		requests.Add(1)
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-ndjson" || r.Header.Get("Authorization") != "Bearer header-canary" ||
			r.Header.Get("User-Agent") != "c1proxy/test" || r.URL.RawQuery != "key=query-canary" {
			t.Errorf("%s %s: %v", r.Method, r.URL, r.Header)
		}
		most.Store(max(most.Load(), r.ContentLength))
		return true
	})
	k.call(200)
	s := k.sink(hook.receiver(100))
	k.arrived(s, &hook.got)
	if n := requests.Load(); n < 5 || n > 6 { // six if it looked between two heads
		t.Errorf("%d requests for %d records, 100 at once", n, s.State().Next)
	}
	// All kinds but intents.
	finals := newWebhook(t, nil)
	s = k.sink(finals.receiver(500), func(c *siem.Config) {
		c.Name, c.Kinds = "finals", []audit.Kind{audit.KindOutcome, audit.KindDenied, audit.KindEvent}
	})
	size := k.signed()
	eventually(t, "all is delivered", func() bool { return s.State().Next == size })
	if n := finals.got.count(); n != int(size)-200 {
		t.Errorf("%d records without intents, of %d", n, size)
	}
}

// Whatever a webhook answers but 2xx, and however it breaks, its records come
// again, and nothing that it says or was told is logged.
func TestWebhookFaults(t *testing.T) {
	k := newKit(t)
	k.call(20)
	var n atomic.Int64
	slow := make(chan time.Time, 8)
	hook := newWebhook(t, func(w http.ResponseWriter, r *http.Request) bool {
		switch n.Add(1) {
		case 1:
			w.WriteHeader(500)
			io.WriteString(w, "answer-canary")
		case 2:
			panic(http.ErrAbortHandler) // reset
		case 3:
			http.Redirect(w, r, "/elsewhere-canary", http.StatusTemporaryRedirect)
			slow <- time.Now()
		default:
			return true
		}
		return false
	})
	s := k.sink(hook.receiver(500))
	eventually(t, "the redirect is refused", func() bool { return strings.Contains(s.State().Why, "307") })
	<-slow
	if state := s.State(); state.Failures != 3 || state.Next != 0 || hook.got.count() > 0 {
		t.Errorf("%+v, %d records taken", state, hook.got.count())
	}
	// It waits long now: a restart does not.
	s.Close(t.Context(), k.signed())
	s = k.sink(hook.receiver(500))
	k.arrived(s, &hook.got)
	logged := k.logs.String()
	if !strings.Contains(logged, "500 Internal Server Error") || strings.Contains(logged, "canary") {
		t.Errorf("the log has %s", logged)
	}
	if n := strings.Count(logged, "cannot be shipped"); n != 1 {
		t.Errorf("%d complaints in ten seconds", n)
	}
}

// What each answer means: how soon the records come again.
func TestWebhookAnswers(t *testing.T) {
	for status := 200; status < 600; status++ {
		hook := siem.NewWebhook(siem.WebhookConfig{URL: must(t), Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {"7"}}, Body: io.NopCloser(strings.NewReader("x"))}, nil
		})})
		err := hook.Deliver(t.Context(), []siem.Message{{Body: []byte("{}")}})
		var refusal *siem.Refusal
		switch {
		case status < 300:
			if err != nil {
				t.Errorf("%d: %v", status, err)
			}
		case !asRefusal(err, &refusal) || refusal.After != 7*time.Second:
			t.Errorf("%d: %v", status, err)
		case refusal.Final != (status < 500 && status != 408 && status != 429):
			t.Errorf("%d: final %v", status, refusal.Final)
		}
	}
}

func TestWebhookArray(t *testing.T) {
	var got string
	hook := siem.NewWebhook(siem.WebhookConfig{URL: must(t), Array: true, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		body, _ := io.ReadAll(r.Body)
		got = r.Header.Get("Content-Type") + " " + string(body)
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})})
	if err := hook.Deliver(t.Context(), []siem.Message{{Body: []byte(`{"a":1}`)}, {Body: []byte(`{}`)}}); err != nil || got != `application/json [{"a":1},{}]` {
		t.Errorf("%v, %s", err, got)
	}
}

// A sink goes on where it left off, a new one begins now, and one whose cursor
// cannot be right does not begin.
func TestCursor(t *testing.T) {
	k := newKit(t)
	k.call(10)
	hook := newWebhook(t, nil)
	now := func(c *siem.Config) { c.FromStart = false }
	s := k.sink(hook.receiver(500), now)
	begun := s.State().Next
	if begun != k.signed() || s.Holds() != begun {
		t.Errorf("a new sink begins at %d, the log has %d", begun, k.signed())
	}
	k.call(10)
	size := k.signed()
	s.Close(t.Context(), size)
	if hook.got.count() != int(size-begun) || s.Holds() != size {
		t.Errorf("%d records from %d on, cursor at %d of %d", hook.got.count(), begun, s.Holds(), size)
	}
	k.call(10)
	s = k.sink(hook.receiver(500)) // FromStart is for new ones
	size = k.signed()
	eventually(t, "the rest has come", func() bool { return s.State().Next == size })
	if hook.got.count() != int(size-begun) || hook.got.seqs[0] != begun {
		t.Errorf("%d records, from %d on", hook.got.count(), hook.got.seqs[0])
	}
	s.Close(t.Context(), 0)
	file := filepath.Join(k.cfg.Dir, "sink-a.cursor")
	data, err := os.ReadFile(file)
	var position map[string]any
	if err != nil || json.Unmarshal(data, &position) != nil || position["next"] != float64(size) {
		t.Fatalf("%v: %s", err, data)
	}
	for text, want := range map[string]string{
		strings.Replace(string(data), fmt.Sprint(size), fmt.Sprint(size+1), 1): "older copy",
		strings.Replace(string(data), "origin\":\"", "origin\":\"x", 1):        "it is of the log x",
		"{": "it is none",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := siem.Open(k.config(hook.receiver(500)), size); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "remove") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A hung receiver keeps no append and no Close waiting, and holds its records.
func TestHungReceiver(t *testing.T) {
	k := newKit(t)
	hung := &receiver{deliver: func(ctx context.Context, _ []siem.Message) error { <-ctx.Done(); return ctx.Err() }}
	s := k.sink(hung)
	for range 3 {
		k.call(1000)
	}
	if s.State().Next != 0 || s.Holds() != 0 {
		t.Errorf("%+v", s.State())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.Close(ctx, k.signed())
	// Nor does one that fails: Close does not even wait for ctx.
	failing := k.sink(&receiver{deliver: func(context.Context, []siem.Message) error { return io.ErrUnexpectedEOF }})
	eventually(t, "it has failed", func() bool { return failing.State().Failures > 0 })
	failing.Close(context.Background(), k.signed())
}

// What retention removed before it was shipped is counted and complained of.
func TestSkipped(t *testing.T) {
	k := newKit(t)
	k.call(500)
	names, err := filepath.Glob(filepath.Join(k.cfg.Dir, "*.jsonl"))
	if err != nil || len(names) < 3 {
		t.Fatal(names, err)
	}
	hook := newWebhook(t, nil)
	late := func(c *siem.Config) { c.FromStart = false }
	cursor := fmt.Sprintf("{\"origin\":%q,\"next\":5}\n", mustOrigin(t, k.cfg.Dir))
	if err := os.WriteFile(filepath.Join(k.cfg.Dir, "sink-a.cursor"), []byte(cursor), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(names[0]); err != nil {
		t.Fatal(err)
	}
	s := k.sink(hook.receiver(500), late)
	size := k.signed()
	eventually(t, "the rest has come", func() bool { return s.State().Next == size })
	var oldest uint64
	fmt.Sscanf(filepath.Base(names[1]), "%d.jsonl", &oldest)
	if state := s.State(); state.Skipped != oldest-5 || !strings.Contains(k.logs.String(), "were removed before they were shipped") {
		t.Errorf("%+v, the oldest is %d: %s", state, oldest, k.logs.String())
	}
}

// One frame for each record, whatever it holds.
func FuzzSyslog(f *testing.F) {
	f.Add("host", "text\n<14>1 - - - - - -\x00\xff", uint8(1))
	f.Add("h h\x7f", "17 {}", uint8(2))
	f.Fuzz(func(t *testing.T, host, text string, n uint8) {
		kinds := []audit.Kind{audit.KindIntent, audit.KindOutcome, audit.KindDenied, audit.KindEvent}
		r := logged(t, audit.Record{ID: "id", Kind: kinds[n%4], Caller: text, Reason: text, Event: text, Detail: map[string]string{"d": text}})
		body := encode(t, siem.JSON{}, r)
		client, server := net.Pipe()
		defer client.Close()
		go func() {
			server.Write(siem.Frame(siem.SyslogConfig{Facility: 16, Host: host}, siem.Message{Kind: r.Kind, Time: r.Time, Body: body}))
			server.Close()
		}()
		s := &syslogServer{conns: make(map[net.Conn]bool)}
		s.serve(client)
		if s.got.bad != "" || !slices.Equal(s.got.seqs, []uint64{r.Seq}) || len(s.heads) != 1 || strings.Count(s.heads[0], " ") != 7 {
			t.Errorf("%q: %s %v", s.heads, s.got.bad, s.got.seqs)
		}
	})
}

// TLS 1.1 is not spoken.
func TestSyslogOldTLS(t *testing.T) {
	k := newKit(t)
	caFile, config := authority(t)
	config.MaxVersion = tls.VersionTLS11
	server := newSyslogServer(t, "127.0.0.1:0", config)
	s := k.sink(syslogTo(server.address(), func(c *siem.SyslogConfig) { c.Protocol, c.CAFile = siem.TLS, caFile }))
	eventually(t, "it is refused", func() bool { return s.State().Failures > 0 })
}
