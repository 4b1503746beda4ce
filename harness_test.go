package c1proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/gen/c1/api/app/v1/appv1connect"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/proxy"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

const confirmMethod = "c1.api.app.v1.ConnectorService/ConfirmSyncValid"

// A gateway is a real c1proxy in front of a real, emulated C1.
type gateway struct {
	t        testing.TB
	proxy    *proxy.Proxy
	url      string
	c1       *sandbox.Server
	facts    sandbox.Facts
	dir      string // of the audit
	keys     map[string]string
	logs     *syncBuffer
	stop     func() error
	insecure *tls.Config
	text     string // the configuration
	// keys of the tenant besides url and credential, a line each.
	tenantKeys []string
	sinks      []func() string // what else left the gateway
}

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// setup is what a test may change before the gateway starts.
type setup struct {
	c1     sandbox.Config
	yaml   func(string) string
	facts  func(*gateway, string) string // as yaml, for what the sandbox has made
	local  []proxy.Local
	check  config.Check // in place of proxy.Check, which knows no local procedures
	tenant string       // the URL of C1, if it is not the sandbox's
	keys   []string     // of the tenant, such as "timeout: 1s"
}

// start starts a sandbox and a gateway with two teams: payments, whose
// sync-bot may do everything and whose slow-bot has a limit of 1, and audit,
// whose reader may only read. At the test's end the gateway is drained and
// its audit verified.
func start(t testing.TB, change ...func(*setup)) *gateway {
	t.Helper()
	var s setup
	for _, c := range change {
		c(&s)
	}
	c1, err := sandbox.Start("127.0.0.1:0", s.c1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c1.Close() })
	if s.tenant == "" {
		s.tenant = c1.URL()
	}
	g := &gateway{t: t, c1: c1, facts: c1.Facts(), dir: filepath.Join(t.TempDir(), "audit"), keys: map[string]string{}, logs: new(syncBuffer)}
	g.tenantKeys = s.keys
	if c1.CertPEM() != nil {
		g.trust(c1.CertPEM())
	}
	text := g.configuration(s.tenant)
	if s.yaml != nil {
		text = s.yaml(text)
	}
	if s.facts != nil {
		text = s.facts(g, text)
	}
	g.text = text
	if s.check == nil {
		s.check = proxy.Check
	}
	cfg, err := config.Parse("test.yaml", []byte(text), s.check)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !strings.Contains(text, "failed_auth") {
		cfg.GetListen().GetFailedAuth().Rate = nil // tests fail to authenticate more often than callers do
	}
	g.proxy, err = proxy.Open(t.Context(), cfg, proxy.Options{Logger: slog.New(slog.NewJSONHandler(g.logs, nil)), Version: "test", Local: s.local})
	if err != nil {
		t.Fatal(err)
	}
	scheme := "http://"
	if cfg.GetListen().GetTls() != nil {
		scheme = "https://"
	}
	g.url = scheme + g.proxy.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- g.proxy.Serve(ctx) }()
	g.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(g.finish)
	return g
}

// trust has the tenant's certificate vouched for by itself.
func (g *gateway) trust(certPEM []byte) {
	g.t.Helper()
	file := filepath.Join(filepath.Dir(g.dir), "ca.pem")
	if err := os.WriteFile(file, certPEM, 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.tenantKeys = append(g.tenantKeys, "ca_file: "+file)
}

// finish drains the gateway and verifies its audit.
func (g *gateway) finish() {
	if err := g.stop(); err != nil {
		g.t.Errorf("stop: %v", err)
	}
	if _, err := audit.Verify(context.Background(), g.dir, g.proxy.VerifierKey()); err != nil {
		g.t.Errorf("verify audit: %v", err)
	}
	g.checkSecrets()
	if g.t.Failed() {
		g.t.Logf("log:\n%.8000s", g.logs.String())
	}
}

// checkSecrets looks for secrets in whatever the gateway has written.
func (g *gateway) checkSecrets() {
	secrets := map[string]string{"client secret": g.facts.ClientSecret, "plain client's secret": g.facts.PlainClientSecret,
		"DPoP client's secret": g.facts.DPoPClientSecret}
	for caller, key := range g.keys {
		secrets["key of "+caller] = key
	}
	for _, request := range g.c1.Requests() {
		if _, token, ok := strings.Cut(request.Header.Get("Authorization"), " "); ok {
			secrets["access token"] = token
		}
	}
	written := g.logs.String()
	for _, sink := range g.sinks {
		written += sink()
	}
	files, err := filepath.Glob(filepath.Join(g.dir, "[^.]*")) // temporary files come and go
	if err != nil || len(files) == 0 {
		g.t.Errorf("the audit has no files: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			g.t.Error(err)
		}
		written += string(data)
	}
	for name, secret := range secrets {
		if secret == "" || strings.Contains(written, secret) {
			g.t.Errorf("the %s stands in the log, the audit or what else was sent out", name)
		}
	}
}

func (g *gateway) configuration(tenant string) string {
	dir := filepath.Dir(g.dir)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(g.facts.ClientSecret), 0o600); err != nil {
		g.t.Fatal(err)
	}
	var hashes []any
	for _, caller := range []string{"sync-bot", "slow-bot", "reader"} {
		g.keys[caller] = authn.NewKey()
		hashes = append(hashes, authn.HashKey(g.keys[caller]).String())
	}
	return fmt.Sprintf(`
listen: {address: "127.0.0.1:0"}
tenants:
  - name: acme
    url: `+tenant+`
    allow_insecure: true
`+g.keyLines()+`    credential:
      client_id: `+g.facts.ClientID+`
      client_secret: {file: "`+secret+`"}
teams:
  - name: payments
    tenant: acme
    callers:
      - name: sync-bot
        api_keys: [{sha256: "%s"}]
    allow:
      - methods: ["c1.api.app.v1.ConnectorService/*"]
  - name: slow
    tenant: acme
    callers:
      - name: slow-bot
        api_keys: [{sha256: "%s"}]
    allow:
      - methods: ["c1.api.app.v1.ConnectorService/*"]
    limits:
      caller: {rate: 1, per: 3600s, burst: 1}
  - name: readers
    tenant: acme
    callers:
      - name: reader
        api_keys: [{sha256: "%s"}]
    allow:
      - {methods: ["c1.**/*"], class: read}
audit: {dir: "`+g.dir+`", key_file: "`+filepath.Join(dir, "audit.key")+`"}
admin: {address: "127.0.0.1:0"}
`, hashes...)
}

// keyLines are the tenant's further keys.
func (g *gateway) keyLines() (lines string) {
	for _, key := range g.tenantKeys {
		lines += "    " + key + "\n"
	}
	return lines
}

// A protocol is a way into the gateway. The last one is C1's own paths.
type protocol struct {
	name    string
	door    string
	options []connect.ClientOption
}

var protocols = []protocol{
	{"Connect JSON", "connect", []connect.ClientOption{connect.WithProtoJSON()}},
	{"Connect binary", "connect", nil},
	{"gRPC", "grpc", []connect.ClientOption{connect.WithGRPC()}},
	{"gRPC-Web", "grpc-web", []connect.ClientOption{connect.WithGRPCWeb()}},
	{"REST", "rest", []connect.ClientOption{connect.WithProtoJSON()}}, // through a pathsClient
}

// httpClient speaks HTTP/2 in cleartext, or TLS, or HTTP/1.1.
func (g *gateway) httpClient(http1 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(http1)
	p.SetUnencryptedHTTP2(!http1)
	p.SetHTTP2(!http1)
	transport := &http.Transport{Protocols: p, TLSClientConfig: g.insecure.Clone(), MaxIdleConnsPerHost: 100}
	g.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// client returns a client of the protocol that shows the caller's key; none
// if the caller is "".
func (g *gateway) client(p protocol, caller string) appv1connect.ConnectorServiceClient {
	options := append([]connect.ClientOption{connect.WithInterceptors(bearer(g.keys[caller]))}, p.options...)
	var client connect.HTTPClient = g.httpClient(false)
	if p.door == "rest" {
		client = pathsClient{client}
	}
	return appv1connect.NewConnectorServiceClient(client, g.url, options...)
}

func bearer(key string) connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
			if key != "" {
				r.Header().Set("Authorization", "Bearer "+key)
			}
			return next(ctx, r)
		}
	}
}

// confirmation asks for the n-th confirmable sync of the sandbox; the 0-th is
// the demo's.
func (g *gateway) confirmation(sync string) *connect.Request[appv1.ConfirmSyncValidRequest] {
	return connect.NewRequest(&appv1.ConfirmSyncValidRequest{
		AppId: g.facts.AppID, ConnectorId: g.facts.ConnectorID, SyncLifecycleId: sync})
}

// list makes a call that changes nothing.
func (g *gateway) list() error {
	_, err := g.client(protocols[0], "sync-bot").List(g.t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
	return err
}

// breakAudit takes the audit's directory away, and returns when the gateway
// has noticed. C1's counters start anew.
func (g *gateway) breakAudit() {
	g.t.Helper()
	if err := os.Rename(g.dir, g.dir+".away"); err != nil {
		g.t.Fatal(err)
	}
	until(g.t, "the gateway misses its audit", func() bool { return reasonOf(g.list()) == "AUDIT_UNAVAILABLE" })
	g.c1.Reset()
}

// mendAudit puts the audit's directory back, and returns when calls are taken
// again.
func (g *gateway) mendAudit() {
	g.t.Helper()
	if err := os.Rename(g.dir+".away", g.dir); err != nil {
		g.t.Fatal(err)
	}
	until(g.t, "the audit has recovered", func() bool { return g.list() == nil })
}

// records returns the records of a request, in order.
func (g *gateway) records(requestID string) []audit.Record {
	g.t.Helper()
	var records []audit.Record
	err := audit.Query(g.t.Context(), g.dir, audit.Filter{RequestID: requestID}, func(r audit.Record) error {
		records = append(records, r)
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return records
}

// requestID is the server's id of a call, from its answer or its error.
func requestID[T any](response *connect.Response[T], err error) string {
	if response != nil {
		return response.Header().Get("X-Request-Id")
	}
	var failed *connect.Error
	if errors.As(err, &failed) {
		return failed.Meta().Get("X-Request-Id")
	}
	return ""
}

// reasonOf is the ErrorInfo's reason of an error.
func reasonOf(err error) string {
	if info := detail[*errdetails.ErrorInfo](err); info != nil && info.GetDomain() == "c1proxy" {
		return info.GetReason()
	}
	return ""
}

func detail[T any](err error) (found T) {
	var failed *connect.Error
	if errors.As(err, &failed) {
		for _, d := range failed.Details() {
			if value, _ := d.Value(); value != nil {
				if typed, ok := value.(T); ok {
					return typed
				}
			}
		}
	}
	return found
}

// until waits for a condition, for at most ten seconds.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}

// do sends a raw request and reads the answer.
func do(t testing.TB, client *http.Client, r *http.Request) (int, http.Header, string) {
	t.Helper()
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(body)
}

// admin asks the admin listener.
func (g *gateway) admin(path string) (int, string) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "http://"+g.proxy.AdminAddr().String()+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	status, _, body := do(g.t, http.DefaultClient, r)
	return status, body
}

func (g *gateway) metrics() string {
	g.t.Helper()
	_, body := g.admin("/metrics")
	return body
}

// post makes a Connect JSON request.
func (g *gateway) post(method, key, body string) *http.Request {
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, g.url+"/"+method, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	return r
}
