package c1proxy_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/proto"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/dev/conformance/conformancev1"
	"github.com/c1proxy/c1proxy/internal/proxy"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

func (g *gateway) confirmJSON(sync string) string {
	return fmt.Sprintf(`{"appId":%q,"connectorId":%q,"syncLifecycleId":%q}`, g.facts.AppID, g.facts.ConnectorID, sync)
}

// confirmPath is C1's own path for a confirmation.
func (g *gateway) confirmPath(sync string) string {
	return "/api/v1/apps/" + g.facts.AppID + "/connectors/" + g.facts.ConnectorID + "/confirm_sync_valid/" + sync
}

// Connect's GET works for a method without side effects, and for no other.
func TestConnectGet(t *testing.T) {
	g := start(t)
	get := func(method, message string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/c1.api.app.v1.ConnectorService/"+method+
			"?connect=v1&encoding=json&message="+url.QueryEscape(message), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+g.keys["sync-bot"])
		status, header, body := do(t, g.httpClient(true), r)
		if records := g.records(header.Get("X-Request-Id")); len(records) == 0 || records[len(records)-1].Kind == audit.KindIntent {
			t.Errorf("GET %s: records %v", method, records)
		}
		return status, body
	}
	if status, body := get("List", `{"appId":"`+g.facts.AppID+`"}`); status != 200 || !strings.Contains(body, g.facts.ConnectorID) {
		t.Errorf("List: got %d %s", status, body)
	}
	before := g.c1.Hits()
	if status, body := get("ConfirmSyncValid", g.confirmJSON(g.facts.SyncLifecycleID)); status != 405 || g.c1.Hits() != before {
		t.Errorf("ConfirmSyncValid: got %d %s", status, body)
	}
}

// What a browser form can send, wrong media types, paths that are almost
// procedures: each is refused, and none reaches C1.
func TestRefusedRequests(t *testing.T) {
	g := start(t)
	key := g.keys["sync-bot"]
	body := g.confirmJSON(g.facts.SyncLifecycleID)
	header := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	path := func(path string) func(*http.Request) {
		return func(r *http.Request) { r.URL.Opaque = path }
	}
	payload := func(text string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		}
	}
	procedure := "/" + confirmMethod
	tests := []struct {
		name    string
		change  func(*http.Request)
		status  int
		code    string // in the body
		records int
	}{
		{"text/plain", header("Content-Type", "text/plain"), 415, "", 1},
		{"form", header("Content-Type", "application/x-www-form-urlencoded"), 415, "", 1},
		{"multipart", header("Content-Type", "multipart/form-data"), 415, "", 1},
		{"no media type", header("Content-Type"), 415, "", 1},
		{"unknown encoding", header("Content-Encoding", "br"), 501, "unimplemented", 1},
		{"PUT", func(r *http.Request) { r.Method = http.MethodPut }, 405, "", 1},
		{"unknown field", payload(`{"appID":"x"}`), 400, "invalid_argument", 1},
		{"not JSON", payload(`{`), 400, "invalid_argument", 1},
		{"empty body", payload(""), 400, "invalid_argument", 1},
		{"missing ids", payload("{}"), 400, "invalid_argument", 1},
		{"no key", header("Authorization"), 401, "unauthenticated", 1},
		{"wrong key", header("Authorization", "Bearer "+key[:len(key)-1]+"!"), 401, "unauthenticated", 1},
		{"two keys", header("Authorization", "Bearer "+key, "Bearer "+key), 401, "unauthenticated", 1},
		{"key in a cookie", func(r *http.Request) {
			r.Header = http.Header{"Cookie": {"key=" + key}, "Content-Type": {"application/json"}}
		}, 401, "unauthenticated", 1},
		{"bad timeout", header("Connect-Timeout-Ms", "-1"), 400, "invalid_argument", 1},
		{"no time", header("Connect-Timeout-Ms", "0"), 504, "deadline_exceeded", 1},
		{"double slash", path("/" + procedure), 404, "unimplemented", 0},
		{"dot segment", path("/." + procedure), 404, "unimplemented", 0},
		{"trailing slash", path(procedure + "/"), 404, "unimplemented", 0},
		{"lower case", path(strings.ToLower(procedure)), 404, "unimplemented", 0},
		{"escaped letter", path(strings.Replace(procedure, "Confirm", "%43onfirm", 1)), 404, "unimplemented", 0},
		{"escaped slash", path(strings.Replace(procedure, "/Confirm", "%2fConfirm", 1)), 404, "unimplemented", 0},
		{"path parameter", path(procedure + ";a=b"), 404, "unimplemented", 0},
	}
	for _, tt := range tests {
		r := g.post(confirmMethod, key, body)
		tt.change(r)
		status, answer, text := do(t, g.httpClient(true), r)
		var failed struct{ Code, Message string }
		if tt.code != "" {
			if err := json.Unmarshal([]byte(text), &failed); err != nil || failed.Message == "" {
				t.Errorf("%s: the body does not say what was wrong: %q", tt.name, text)
			}
		}
		if status != tt.status || failed.Code != tt.code {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, status, text, tt.status, tt.code)
		}
		if strings.Contains(text, key) || answer.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: answer %v %s", tt.name, answer, text)
		}
		if status == 401 && answer.Get("Www-Authenticate") == "" {
			t.Errorf("%s: 401 without WWW-Authenticate", tt.name)
		}
		id := answer.Get("X-Request-Id")
		if got := g.records(id); id == "" != (tt.records == 0) || id != "" && (len(got) != tt.records || got[0].Kind != audit.KindDenied) {
			t.Errorf("%s: request %q has records %+v", tt.name, id, got)
		}
	}
	if hits := g.c1.Hits(); hits != 0 {
		t.Errorf("%d requests reached C1", hits)
	}
}

// B1, B12: what goes up is a fixed list of headers, whatever comes in.
func TestNoHeaderIsCopied(t *testing.T) {
	g := start(t)
	r := g.post(confirmMethod, g.keys["sync-bot"], g.confirmJSON(g.facts.SyncLifecycleID))
	for _, name := range []string{"Cookie", "Idempotency-Key", "X-Idempotency-Key", "X-Forwarded-For", "X-Forwarded-Host", "Forwarded",
		"X-Real-Ip", "Traceparent", "X-Secret", "X-Http-Method-Override", "Dpop", "User-Agent", "Te", "Accept-Language"} {
		r.Header.Set(name, "canary")
	}
	r.Host = "canary.example.com"
	r.Header.Set("X-Request-Id", "mine")
	r.Header.Set("C1proxy-Reason", "because%20of%20%C3%BC")
	status, header, body := do(t, g.httpClient(true), r)
	if status != 200 {
		t.Fatalf("got %d %s", status, body)
	}
	requests := g.c1.Requests()
	sent := requests[len(requests)-1]
	allowed := map[string]bool{"Authorization": true, "Accept": true, "Accept-Encoding": true, "Content-Length": true,
		"Content-Type": true, "User-Agent": true, "X-Request-Id": true}
	for name, values := range sent.Header {
		if !allowed[name] || strings.Contains(strings.Join(values, ""), "canary") {
			t.Errorf("C1 was sent %s: %v", name, values)
		}
	}
	id := header.Get("X-Request-Id")
	if sent.Header.Get("X-Request-Id") != id || id == "mine" || strings.Contains(sent.Host, "canary") {
		t.Errorf("request id %q went up as %q, to %s", id, sent.Header.Get("X-Request-Id"), sent.Host)
	}
	if want := "/api/v1/apps/" + g.facts.AppID + "/connectors/" + g.facts.ConnectorID + "/confirm_sync_valid/" + g.facts.SyncLifecycleID; sent.URI != want || string(sent.Body) != "{}" {
		t.Errorf("sent %s %s, want %s {}", sent.URI, sent.Body, want)
	}
	for _, record := range g.records(id) {
		if record.ClientRequestID != "mine" || record.Reason != "because of ü" {
			t.Errorf("record %+v", record)
		}
	}
}

// Health is open and not audited; reflection is a call.
func TestHealthAndReflection(t *testing.T) {
	g := start(t)
	plain := g.httpClient(false)
	status, _, body := do(t, g.httpClient(true), g.post("grpc.health.v1.Health/Check", "", `{"service":"c1.api.app.v1.ConnectorService"}`))
	if status != 200 || !strings.Contains(body, "SERVING") || strings.Contains(body, "NOT") {
		t.Errorf("health: %d %s", status, body)
	}
	client := grpcreflect.NewClient(plain, g.url, connect.WithGRPC())
	stranger := client.NewStream(t.Context())
	if _, err := stranger.ListServices(); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("reflection for a stranger: %v", err)
	}
	known := client.NewStream(t.Context(), grpcreflect.WithRequestHeaders(http.Header{"Authorization": {"Bearer " + g.keys["reader"]}}))
	services, err := known.ListServices()
	if err != nil || !strings.Contains(fmt.Sprint(services), "c1.api.app.v1.ConnectorService") {
		t.Errorf("reflection: %v, %v", services, err)
	}
	for _, service := range services {
		if files, err := known.FileContainingSymbol(service); err != nil || len(files) == 0 {
			t.Errorf("reflection of %s: %v", service, err)
		}
	}
	known.Close()
	until(t, "the reflection streams are on record", func() bool {
		var kinds []string
		err := audit.Query(t.Context(), g.dir, audit.Filter{Method: "ServerReflectionInfo"}, func(r audit.Record) error {
			kinds = append(kinds, string(r.Kind)+" "+r.Code)
			return nil
		})
		return err == nil && strings.Join(kinds, ",") == "denied unauthenticated,outcome ok"
	})
}

// The listener's bounds: an endless body, a slow one, a slow header, a bomb.
func TestBounds(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.keys["sync-bot"]
	t.Run("bomb", func(t *testing.T) {
		r := g.post(confirmMethod, key, string(bomb(256)))
		r.Header.Set("Content-Encoding", "gzip")
		before := inUse()
		if status, _, body := do(t, g.httpClient(true), r); status != 429 || !strings.Contains(body, "resource_exhausted") {
			t.Errorf("got %d %.200s", status, body)
		}
		if grown := int64(inUse()) - int64(before); grown > 64<<20 {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
	})
	t.Run("endless body", func(t *testing.T) {
		r := g.post(confirmMethod, key, "")
		endless := &counting{}
		r.Body, r.ContentLength = io.NopCloser(endless), -1
		response, err := g.httpClient(true).Do(r)
		if err == nil {
			response.Body.Close()
			if response.StatusCode != 429 {
				t.Errorf("got %d", response.StatusCode)
			}
		}
		if n := endless.n.Load(); n > 64<<20 {
			t.Errorf("%d MiB were read", n>>20)
		}
	})
	t.Run("large header", func(t *testing.T) {
		r := g.post(confirmMethod, key, "{}")
		r.Header.Set("X-Large", strings.Repeat("x", 100<<10))
		response, err := g.httpClient(true).Do(r)
		if err == nil {
			response.Body.Close()
			if response.StatusCode != 431 {
				t.Errorf("got %d", response.StatusCode)
			}
		}
	})
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		head := " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer " + key + "\r\nContent-Length: 100\r\n\r\n{"
		var slow sync.WaitGroup
		late := oversleeps(t)
		for text, want := range map[string]string{
			"POST /" + confirmMethod + " HTTP/1.1\r\nHost: x\r\nX-": "",
			"POST /" + confirmMethod + head:                         "HTTP/1.1 504",
			"POST " + g.confirmPath("x") + head:                     "HTTP/1.1 408",
		} {
			slow.Go(func() {
				conn := g.dial()
				defer conn.Close()
				begun := time.Now()
				fmt.Fprint(conn, text)
				answer, err := io.ReadAll(conn)
				if took := time.Since(begun); err != nil || took > mostTime+late.grace() || !strings.HasPrefix(string(answer), want) {
					t.Errorf("%.40q: closed after %v: %v, %.300q", text, took, err, answer)
				}
				if want == "" {
					return
				}
				_, id, _ := strings.Cut(string(answer), "X-Request-Id: ")
				if records := g.records(id[:26]); len(records) != 1 || records[0].Error != "DEADLINE_EXCEEDED" || records[0].Kind != audit.KindDenied || records[0].ClientGone {
					t.Errorf("%.40q: records %+v", text, records)
				}
			})
		}
		slow.Wait()
	})
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// counting is an endless body.
type counting struct{ n atomic.Int64 }

func (c *counting) Read(p []byte) (int, error) {
	clear(p)
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// A call may take longer than its body had time to come in: the deadline of
// reading is no deadline of the call.
func TestSlowCallOutlivesBodyDeadline(t *testing.T) {
	if testing.Short() {
		t.Skip("short: it waits for longer than the body's deadline of 10 s")
	}
	t.Parallel()
	g := start(t)
	g.c1.Inject(sandbox.Rule{Fault: sandbox.Slow(12 * time.Second), On: confirmMethod})
	var calls sync.WaitGroup
	for _, http1 := range []bool{true, false} {
		client := g.httpClient(http1)
		for door, r := range map[string]*http.Request{
			"connect": g.post(confirmMethod, g.keys["sync-bot"], g.confirmJSON(confirmable(g))),
			"rest":    g.post(g.confirmPath(confirmable(g))[1:], g.keys["sync-bot"], "{}"),
		} {
			calls.Go(func() {
				response, err := client.Do(r)
				if err != nil {
					t.Errorf("%s, HTTP/1 %v: %v", door, http1, err)
					return
				}
				response.Body.Close()
				if response.StatusCode != 200 {
					t.Errorf("%s, HTTP/1 %v: got %s", door, http1, response.Status)
				}
				if records := g.records(response.Header.Get("X-Request-Id")); len(records) != 2 || records[1].ClientGone {
					t.Errorf("%s, HTTP/1 %v: the caller was taken to be gone: %+v", door, http1, records)
				}
			})
		}
	}
	calls.Wait()
}

// writePair writes a certificate for the loopback address with its key.
func writePair(t *testing.T, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TLS, with HTTP/2 and HTTP/1.1.
func TestTLS(t *testing.T) {
	pair := filepath.Join(t.TempDir(), "pair.pem")
	writePair(t, pair)
	g := start(t, func(s *setup) {
		s.yaml = func(text string) string {
			return strings.Replace(text, `listen: {address: "127.0.0.1:0"}`, fmt.Sprintf(`listen: {address: "127.0.0.1:0", tls: {cert_file: %s, key_file: %s}}`, pair, pair), 1)
		}
	})
	g.insecure = &tls.Config{InsecureSkipVerify: true} // the certificate is made for this test
	for _, http1 := range []bool{true, false} {
		client := g.httpClient(http1)
		response, err := client.Do(g.post("c1.api.app.v1.ConnectorService/List", g.keys["sync-bot"], `{"appId":"`+g.facts.AppID+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if want := map[bool]int{true: 1, false: 2}[http1]; response.StatusCode != 200 || response.ProtoMajor != want {
			t.Errorf("got %d by HTTP/%d, want 200 by HTTP/%d", response.StatusCode, response.ProtoMajor, want)
		}
	}
}

// A caller that leaves, or whose deadline passes, does not undo a call: it
// finishes, and its true outcome is on record.
func TestCallerGone(t *testing.T) {
	tests := map[string]struct {
		leave func(context.Context) (context.Context, context.CancelFunc)
		want  connect.Code
	}{
		"canceled": {context.WithCancel, connect.CodeCanceled},
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 2*time.Second)
		}, connect.CodeDeadlineExceeded},
	}
	for _, p := range protocols {
		for name, tt := range tests {
			t.Run(p.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				testCallerGone(t, p, tt.leave, tt.want)
			})
		}
	}
}

func testCallerGone(t *testing.T, p protocol, leave func(context.Context) (context.Context, context.CancelFunc), want connect.Code) {
	g := start(t)
	if err := g.list(); err != nil { // a token is in hand
		t.Fatal(err)
	}
	g.c1.Reset()
	release := make(chan struct{})
	g.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release).AfterActing(), On: confirmMethod, Times: 1})
	client := g.client(p, "sync-bot")
	ctx, cancel := leave(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := client.ConfirmSyncValid(ctx, g.confirmation(g.facts.SyncLifecycleID))
		failed <- err
	}()
	soon, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	if err := g.c1.AwaitHits(soon, 1); err != nil {
		t.Fatal(err)
	}
	if want == connect.CodeCanceled {
		cancel()
	}
	if err := <-failed; connect.CodeOf(err) != want {
		t.Errorf("got %v, want %v", err, want)
	}
	// The next call on the same connection comes after the caller's leaving.
	if _, err := client.List(t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID})); err != nil {
		t.Fatal(err)
	}
	close(release)
	id := g.c1.Requests()[0].Header.Get("X-Request-Id")
	until(t, "the outcome is on record", func() bool { return len(g.records(id)) == 2 })
	if last := g.records(id)[1]; last.Outcome != audit.OutcomeOK || !last.ClientGone || last.UpstreamStatus != 200 || last.Door != p.door {
		t.Errorf("outcome %+v", last)
	}
}

// A panic behind the intent costs one call: it is answered, on record as
// indeterminate, and the process lives.
func TestPanic(t *testing.T) {
	service := conformancev1.File_connectrpc_conformance_v1_service_proto.Services().ByName("ConformanceService")
	g := start(t, func(s *setup) {
		s.local = []proxy.Local{{Method: service.Methods().ByName("Unary"), Handle: func(context.Context, connect.AnyRequest, proto.Message) (proto.Message, http.Header, http.Header, error) {
			panic("canary")
		}}}
		s.yaml = func(text string) string {
			return strings.ReplaceAll(text, `methods: ["c1.api.app.v1.ConnectorService/*"]`, `methods: ["c1.api.app.v1.ConnectorService/*", "connectrpc.conformance.v1.ConformanceService/Unary"]`)
		}
		s.check = func(*configv1.Config) []config.Problem { return nil }
	})
	for _, timeout := range []string{"", "5000"} {
		r := g.post("connectrpc.conformance.v1.ConformanceService/Unary", g.keys["sync-bot"], "{}")
		if timeout != "" {
			r.Header.Set("Connect-Timeout-Ms", timeout)
		}
		status, header, body := do(t, g.httpClient(true), r)
		if status != 500 || !strings.Contains(body, "internal") || strings.Contains(body, "canary") {
			t.Errorf("got %d %s", status, body)
		}
		records := g.records(header.Get("X-Request-Id"))
		if len(records) != 2 || records[1].Outcome != audit.OutcomeIndeterminate || records[1].Code != "internal" {
			t.Errorf("records %+v", records)
		}
	}
	if text := g.logs.String(); !strings.Contains(text, "a call panicked") || strings.Contains(text, "canary") {
		t.Errorf("log: %s", text)
	}
}

// A caller with a deadline is answered when it passes, not when C1 answers.
func TestDeadlineIsAnswered(t *testing.T) {
	g := start(t)
	release := make(chan struct{})
	defer close(release)
	g.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirmMethod})
	r := g.post(confirmMethod, g.keys["sync-bot"], g.confirmJSON(g.facts.SyncLifecycleID))
	r.Header.Set("Connect-Timeout-Ms", "300")
	begun := time.Now()
	status, _, body := do(t, g.httpClient(true), r)
	if took := time.Since(begun); status != 504 || !strings.Contains(body, "deadline_exceeded") || took > 5*time.Second {
		t.Errorf("got %d %s after %v", status, body, took)
	}
}

// A refusal says which limit, and when to return, in the header and in the
// details; every answer says what is left.
func TestRateLimit(t *testing.T) {
	g := start(t)
	call := func() (int, http.Header, string) {
		return do(t, g.httpClient(true), g.post("c1.api.app.v1.ConnectorService/List", g.keys["slow-bot"], `{"appId":"`+g.facts.AppID+`"}`))
	}
	status, header, body := call()
	if got := header.Get("RateLimit"); status != 200 || got != `"caller";r=0;t=3600` {
		t.Errorf("first: %d %s, RateLimit %s", status, body, got)
	}
	if got := header.Get("RateLimit-Policy"); got != `"caller";q=1;w=3600` {
		t.Errorf("RateLimit-Policy: %s", got)
	}
	status, header, body = call()
	seconds, err := strconv.Atoi(header.Get("Retry-After"))
	if status != 429 || err != nil || seconds < 3590 || seconds > 3600 {
		t.Errorf("second: %d %s, Retry-After %q", status, body, header.Get("Retry-After"))
	}
	for _, want := range []string{`"rule":"caller"`, "RATE_LIMITED", "retryDelay"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
	if records := g.records(header.Get("X-Request-Id")); len(records) != 1 || records[0].Rule != "caller" || records[0].Error != "RATE_LIMITED" {
		t.Errorf("records %+v", records)
	}
}

// Readiness tells of each dependency; liveness and metrics answer.
func TestAdmin(t *testing.T) {
	g := start(t)
	get := g.admin
	if status, body := get("/readyz"); status != 200 || !strings.Contains(body, `"token/acme": "ok"`) || !strings.Contains(body, `"audit": "ok"`) {
		t.Errorf("ready: %d %s", status, body)
	}
	if status, _ := get("/livez"); status != 200 {
		t.Errorf("live: %d", status)
	}
	_, _ = g.client(protocols[0], "reader").ConfirmSyncValid(t.Context(), g.confirmation("x"))
	for _, want := range []string{
		`c1proxy_calls_total{code="permission_denied",door="connect",procedure="` + confirmMethod + `"} 1`,
		`c1proxy_faults_total{reason="METHOD_DENIED"} 1`, `c1proxy_token_valid{team="",tenant="acme"} 1`, "c1proxy_audit_healthy 1",
	} {
		if body := g.metrics(); !strings.Contains(body, want) {
			t.Errorf("metrics have no %s in\n%s", want, grep(body, "c1proxy"))
		}
	}
	g.breakAudit()
	if status, body := get("/readyz"); status != 503 || strings.Contains(body, `"audit": "ok"`) {
		t.Errorf("ready without an audit: %d %s", status, body)
	}
	g.mendAudit()
	if status, body := get("/readyz"); status != 200 {
		t.Errorf("ready with the audit back: %d %s", status, body)
	}
}

func grep(text, word string) string {
	var found []string
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if strings.Contains(lines.Text(), word) && !strings.HasPrefix(lines.Text(), "#") {
			found = append(found, lines.Text())
		}
	}
	return strings.Join(found, "\n")
}
