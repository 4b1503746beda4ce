package sandbox_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// TestTLS calls over TLS, by both protocols, and resets over it.
func TestTLS(t *testing.T) {
	h := start(t, sandbox.Config{TLS: true})
	if !strings.HasPrefix(h.URL(), "https://127.0.0.1:") {
		t.Errorf("got URL %s", h.URL())
	}
	h.force().want(t, 200, -1)
	if got := h.last().Proto; got != "HTTP/2.0" {
		t.Errorf("got %s", got)
	}
	var only1 http.Protocols
	only1.SetHTTP1(true)
	transport, ok := h.client.Transport.(*http.Transport)
	if !ok {
		t.Fatal("the transport is another")
	}
	h.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: transport.TLSClientConfig.RootCAs}, Protocols: &only1}
	h.force().want(t, 200, -1)
	if got := h.last().Proto; got != "HTTP/1.1" {
		t.Errorf("got %s", got)
	}
	h.Inject(sandbox.Rule{Fault: sandbox.Reset().AfterActing()})
	resetSeen(t, h.force(), "HTTP/1.1")
	if acts := h.Acts(sandbox.ForceSync); acts != 3 {
		t.Errorf("acted %d times", acts)
	}
	h.client = newClient(t, nil, false)
	if got := h.force(); got.err == nil {
		t.Error("a client that does not know the certificate was served")
	}
}

// TestHost holds whose host client ids carry.
func TestHost(t *testing.T) {
	for address, want := range map[string][2]string{
		"127.0.0.1:0": {"127.0.0.1", "http://127.0.0.1:"},
		"localhost:0": {"127.0.0.1", "http://127.0.0.1:"},
		":0":          {"localhost", "http://localhost:"},
	} {
		server, err := sandbox.Start(address, sandbox.Config{})
		if err != nil {
			t.Fatal(err)
		}
		facts := server.Facts()
		if facts.Host != want[0] || !strings.HasPrefix(facts.URL, want[1]) || facts.ClientID != "clever-fox-42195@"+want[0]+"/spc" {
			t.Errorf("%s: got %+v", address, facts)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
	if listener, err := net.Listen("tcp", "[::1]:0"); err == nil { // there is IPv6 here
		listener.Close()
		server, err := sandbox.Start("[::1]:0", sandbox.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if facts := server.Facts(); facts.Host != "::1" || facts.ClientID != "clever-fox-42195@[::1]/spc" || !strings.HasPrefix(facts.URL, "http://[::1]:") {
			t.Errorf("got %+v", facts)
		}
	}
	if _, err := sandbox.Start("127.0.0.1:99999", sandbox.Config{}); err == nil {
		t.Error("there is no such port")
	}
	if _, err := sandbox.Start("127.0.0.1:0", sandbox.Config{ClientID: "x"}); err == nil {
		t.Error("there is no such client")
	}
}

func TestRun(t *testing.T) {
	h := start(t, sandbox.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := h.Run(ctx); err != nil {
		t.Error(err)
	}
	if got := h.force(); got.err == nil {
		t.Error("it still serves")
	}
	if err := h.Run(t.Context()); err == nil {
		t.Error("it ran though its listener is closed")
	}
}

// TestCloseWaits holds that no request outlives Close.
func TestCloseWaits(t *testing.T) {
	h := start(t, sandbox.Config{})
	busy, release := make(chan struct{}), make(chan struct{})
	h.Inject(sandbox.Rule{If: func(*http.Request) bool {
		close(busy)
		<-release
		return true
	}})
	go h.force()
	<-busy
	closed := make(chan error)
	go func() { closed <- h.Close() }()
	select {
	case <-closed:
		t.Error("Close did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestCloseEndsHeld closes while a request is held whose body was not read to
// its end, so that net/http does not notice that the connection has gone.
func TestCloseEndsHeld(t *testing.T) {
	h := start(t, sandbox.Config{})
	h.Inject(sandbox.Rule{Fault: sandbox.Held(nil)})
	done := make(chan reply)
	go func() { done <- h.call("POST", connectorPath+"/force_sync", strings.Repeat(" ", 16<<20)) }()
	if err := h.AwaitHits(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for h.last().BodySize == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if got := <-done; got.err == nil {
		t.Errorf("got %+v", got)
	}
}

// TestFacts pastes what a person would.
func TestFacts(t *testing.T) {
	h := start(t, sandbox.Config{Seed: 42})
	facts := h.Facts()
	want := []string{
		"CONDUCTORONE_SERVER_URL=" + h.URL(),
		"CONDUCTORONE_CLIENT_ID=" + facts.ClientID,
		"CONDUCTORONE_CLIENT_SECRET=" + facts.ClientSecret,
	}
	if diff := cmp.Diff(want, facts.Environ()); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	text := facts.String()
	for _, part := range []string{h.URL(), "seed 42", "url: " + h.URL() + "\n    allow_insecure: true\n", facts.ClientID, facts.ClientSecret, facts.PlainClientSecret, facts.StaticToken,
		sandbox.AppID, sandbox.ConnectorID, sandbox.SyncLifecycleID} {
		if !strings.Contains(text, part) {
			t.Errorf("no %s in\n%s", part, text)
		}
	}
	line := regexp.MustCompile(`(?m)^curl -H '([^:]+): ([^']+)' (\S+)$`).FindStringSubmatch(text)
	if line == nil {
		t.Fatalf("no curl in\n%s", text)
	}
	request, err := http.NewRequestWithContext(t.Context(), "GET", line[3], nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set(line[1], line[2])
	if got := h.do(request); got.status != 200 || !strings.Contains(got.body, sandbox.ConnectorID) {
		t.Errorf("the curl got %+v", got)
	}
}

// TestWithoutServer uses the handler as it is, where a reset is all that there
// is to hang up with.
func TestWithoutServer(t *testing.T) {
	s, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	defer server.Close()
	call := func() (*http.Response, error) {
		request, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+connectorPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+s.Facts().StaticToken)
		return server.Client().Do(request)
	}
	response, err := call()
	if err != nil || response.StatusCode != 200 || s.Facts().URL != "" || s.Facts().Host != "localhost" {
		t.Fatalf("got %v, %v", response, err)
	}
	response.Body.Close()
	for _, fault := range []sandbox.Fault{sandbox.Reset(), sandbox.Disconnect(), sandbox.ResetUnread()} {
		s.Inject(sandbox.Rule{Fault: fault, Times: 1})
		if response, err := call(); err == nil {
			response.Body.Close()
			t.Errorf("%s: got %d", fault, response.StatusCode)
		}
	}
}

// TestGoneClient sees that nothing is answered, not even by net/http on its
// own, when the client has gone while it was held.
func TestGoneClient(t *testing.T) {
	s, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.Inject(sandbox.Rule{Fault: sandbox.Held(nil)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("it ended with %v, answered %d", got, w.Code)
		}
	}()
	s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", connectorPath, nil))
	t.Error("it returned")
}

// A proxy makes connections for those it knows, and leads where it is told.
func TestProxy(t *testing.T) {
	c1, err := sandbox.Start("127.0.0.1:0", sandbox.Config{Host: "c1.example.test", TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c1.Close()
	p, err := sandbox.StartProxy("127.0.0.1:0", "me", "secret")
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(c1.CertPEM())
	ask := func(user *url.Userinfo) error {
		by := *at
		by.User = user
		transport := &http.Transport{Proxy: http.ProxyURL(&by), TLSClientConfig: &tls.Config{RootCAs: trust}}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get("https://c1.example.test/")
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	p.LeadTo(c1.Addr())
	if err := ask(url.UserPassword("me", "secret")); err != nil || c1.Hits() != 1 {
		t.Errorf("%v, %d requests", err, c1.Hits())
	}
	if err := ask(url.UserPassword("me", "other")); err == nil || c1.Hits() != 1 {
		t.Errorf("with a wrong password: %v, %d requests", err, c1.Hits())
	}
	response, err := http.Get(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if len(p.Requests()) != 3 || response.StatusCode != http.StatusProxyAuthRequired {
		t.Errorf("%d requests, the last answered %d", len(p.Requests()), response.StatusCode)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := ask(url.UserPassword("me", "secret")); err == nil {
		t.Error("it is closed, and serves")
	}
}
