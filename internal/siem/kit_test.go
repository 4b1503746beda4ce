package siem_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/siem"
)

// A kit is an audit log, and sinks of it.
type kit struct {
	t    *testing.T
	cfg  audit.Config
	log  *audit.Log
	logs *lines
}

func newKit(t *testing.T) *kit {
	t.Helper()
	base, err := os.MkdirTemp("/dev/shm", "siem")
	if err != nil {
		base = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	k := &kit{t: t, logs: new(lines), cfg: audit.Config{Dir: filepath.Join(base, "log"), KeyFile: filepath.Join(base, "key"), Origin: "example.com/log", SegmentBytes: 64 << 10}}
	k.open()
	t.Cleanup(func() { _ = k.log.Close() })
	return k
}

func (k *kit) open() {
	k.t.Helper()
	var err error
	if k.log, err = audit.Open(context.Background(), k.cfg); err != nil {
		k.t.Fatal(err)
	}
}

// call appends the records of n calls.
func (k *kit) call(n int) {
	k.t.Helper()
	for range n {
		in := audit.Record{Kind: audit.KindIntent, RequestID: "r", Caller: "bot", Team: "payments", Procedure: "c1.api.app.v1.Apps/Get"}
		if err := k.log.Append(context.Background(), &in); err != nil {
			k.t.Fatal(err)
		}
		out := audit.Record{Kind: audit.KindOutcome, Intent: in.ID, RequestID: "r", Outcome: audit.OutcomeOK, Code: "ok"}
		if err := k.log.Append(context.Background(), &out); err != nil {
			k.t.Fatal(err)
		}
	}
}

// signed is how many records the head covers, which are all.
func (k *kit) signed() uint64 {
	k.t.Helper()
	if err := k.log.Seal(context.Background()); err != nil {
		k.t.Fatal(err)
	}
	return k.log.Stats().HeadSize
}

// sink opens a sink from the log's first record on.
func (k *kit) sink(receiver siem.Receiver, change ...func(*siem.Config)) *siem.Sink {
	k.t.Helper()
	s, err := siem.Open(k.config(receiver, change...), k.signed())
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { s.Close(context.Background(), 0) })
	return s
}

func (k *kit) config(receiver siem.Receiver, change ...func(*siem.Config)) siem.Config {
	cfg := siem.Config{Name: "a", Dir: k.cfg.Dir, Key: k.log.VerifierKey(), Encoder: siem.JSON{}, FromStart: true, Receiver: receiver,
		Logger: slog.New(slog.NewTextHandler(k.logs, nil))}
	for _, c := range change {
		c(&cfg)
	}
	return cfg
}

// arrived waits until the sink has delivered all that is signed, and then holds
// what has come against what was to come: every record, in order but for those
// that came again.
func (k *kit) arrived(s *siem.Sink, got *messages) {
	k.t.Helper()
	size := k.signed()
	eventually(k.t, fmt.Sprintf("%d records are delivered", size), func() bool { return s.State().Next == size })
	eventually(k.t, fmt.Sprintf("%d records have come", size), func() bool { return got.check(size) == "" })
}

// messages are the JSON texts that a server has got.
type messages struct {
	mu   sync.Mutex
	seqs []uint64
	bad  string
}

func (m *messages) add(body []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var r audit.Record
	if err := json.Unmarshal(body, &r); err != nil {
		m.bad = fmt.Sprintf("%v: %.200q", err, body)
		return
	}
	m.seqs = append(m.seqs, r.Seq)
}

func (m *messages) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.seqs)
}

// check says what is wrong with what has come: each number from 0 to before
// size must have come, none for the first time before all that are less.
func (m *messages) check(size uint64) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := uint64(0)
	for _, seq := range m.seqs {
		if seq > next {
			return fmt.Sprintf("record %d came before %d", seq, next)
		}
		next = max(next, seq+1)
	}
	if next < size || m.bad != "" {
		return fmt.Sprintf("%d of %d records came; %s", next, size, m.bad)
	}
	return ""
}

// A lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// eventually waits for a condition, for at most twenty seconds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}

// A syslogServer takes messages over TCP or TLS until it is told otherwise.
type syslogServer struct {
	listener net.Listener
	got      messages
	// dieAfter closes a connection, once, with bytes unread, after so many
	// messages; 0 does not.
	dieAfter int
	// hang stops reading.
	hang chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]bool
	heads []string // what stood before the messages
}

func newSyslogServer(t *testing.T, address string, config *tls.Config, change ...func(*syslogServer)) *syslogServer {
	t.Helper()
	s := &syslogServer{conns: make(map[net.Conn]bool)}
	for _, c := range change {
		c(s)
	}
	var err error
	if s.listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	if config != nil {
		s.listener = tls.NewListener(s.listener, config)
	}
	go func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			go s.serve(conn)
		}
	}()
	t.Cleanup(s.close)
	return s
}

func (s *syslogServer) address() string { return s.listener.Addr().String() }

// close stops the server and cuts all connections.
func (s *syslogServer) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// serve reads RFC 6587's octet counting.
func (s *syslogServer) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 16) // so that bytes stay unread
	for n := 1; ; n++ {
		if s.hang != nil {
			<-s.hang
		}
		count, err := in.ReadString(' ')
		if err != nil {
			return
		}
		size, err := strconv.Atoi(strings.TrimSuffix(count, " "))
		if err != nil {
			s.got.add([]byte("bad count " + count))
			return
		}
		message := make([]byte, size)
		if _, err := io.ReadFull(in, message); err != nil {
			return
		}
		head, body, _ := bytes.Cut(message, []byte(" - {")) // a host may hold a brace, and no blank
		s.mu.Lock()
		s.heads = append(s.heads, string(head)+" - ")
		die := s.dieAfter > 0 && n == s.dieAfter
		if die {
			s.dieAfter = 0
		}
		s.mu.Unlock()
		s.got.add(append([]byte("{"), body...))
		if die {
			return
		}
	}
}

// A webhook takes JSON lines; answer stands in for its answer where it is set,
// and returns whether the records were taken.
type webhook struct {
	*httptest.Server
	got    messages
	answer func(w http.ResponseWriter, r *http.Request) bool
}

func newWebhook(t *testing.T, answer func(w http.ResponseWriter, r *http.Request) bool) *webhook {
	w := &webhook{answer: answer}
	w.Server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || w.answer != nil && !w.answer(rw, r) {
			return
		}
		for line := range bytes.Lines(body) {
			w.got.add(line)
		}
		rw.WriteHeader(http.StatusAccepted)
	}))
	w.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(w.Close)
	return w
}

// receiver is the way to the webhook.
func (w *webhook) receiver(batch int) *siem.Webhook {
	at, _ := url.Parse(w.URL + "/in?key=query-canary")
	transport := w.Client().Transport.(*http.Transport).Clone()
	return siem.NewWebhook(siem.WebhookConfig{URL: at, Batch: batch, Transport: transport, Version: "test", Header: func() (http.Header, error) {
		return http.Header{"Authorization": {"Bearer header-canary"}}, nil
	}})
}

// authority is the PEM file and the server's config of a certificate for
// 127.0.0.1.
func authority(t *testing.T) (caFile string, config *tls.Config) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if _, err := x509.ParseCertificate(server.Certificate().Raw); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(caFile, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return caFile, &tls.Config{Certificates: server.TLS.Certificates}
}
