package forward_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// get asks a C1 for its token endpoint, which needs no credential.
func get(t *testing.T, way *forward.Transport, at string) error {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at+sandbox.TokenPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := way.RoundTrip(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func transport(t *testing.T, cfg forward.TransportConfig) *forward.Transport {
	t.Helper()
	way, err := forward.NewTransport(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(way.CloseIdleConnections)
	return way
}

// secure starts a C1 with TLS.
func secure(t *testing.T) *sandbox.Server {
	t.Helper()
	c1, err := sandbox.Start("127.0.0.1:0", sandbox.Config{TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c1.Close() })
	return c1
}

// Only the authorities of the file are trusted; the file is read again when it
// changes; one that does not read is logged once, and the old ones stay.
func TestCAFile(t *testing.T) {
	mine, other := secure(t), secure(t)
	file := caFile(t, mine.CertPEM())
	var logs bytes.Buffer
	way := transport(t, forward.TransportConfig{CAFile: file, Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	write := func(data []byte) {
		time.Sleep(1100 * time.Millisecond) // the file is looked at once a second
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, first, second bool) {
		t.Helper()
		if a, b := get(t, way, mine.URL()), get(t, way, other.URL()); (a == nil) != first || (b == nil) != second {
			t.Errorf("%s: %v; %v", what, a, b)
		}
	}
	if err := get(t, transport(t, forward.TransportConfig{}), mine.URL()); err == nil {
		t.Error("a C1 that nobody vouches for is trusted")
	}
	expect("at first", true, false)
	write(other.CertPEM())
	expect("after a change", false, true)
	write([]byte("nothing"))
	expect("with a bad file", false, true)
	time.Sleep(1100 * time.Millisecond)
	expect("with a bad file, later", false, true)
	if got := strings.Count(logs.String(), "the old ones stay"); got != 1 || !strings.Contains(logs.String(), file) {
		t.Errorf("logged %d times: %s", got, logs.String())
	}
	write(mine.CertPEM())
	expect("when it is good again", true, false)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	expect("when it has gone", true, false)
	if got := strings.Count(logs.String(), "the old ones stay"); got != 2 {
		t.Errorf("logged %d times: %s", got, logs.String())
	}
}

// A file that cannot be used fails at once, and is named.
func TestBadCAFile(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "none.pem"), t.TempDir(), caFile(t, []byte("no certificate"))} {
		if _, err := forward.NewTransport(forward.TransportConfig{CAFile: name}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func startProxy(t *testing.T, user, password string) *sandbox.Proxy {
	t.Helper()
	p, err := sandbox.StartProxy("127.0.0.1:0", user, password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// Every connection is made through the proxy, which is told who we are and
// nothing of the calls.
func TestProxy(t *testing.T) {
	c1 := secure(t)
	p := startProxy(t, "c1proxy", "canary")
	at, err := url.Parse(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	user := url.UserPassword("c1proxy", "canary")
	cfg := forward.TransportConfig{CAFile: caFile(t, c1.CertPEM()), Proxy: at, ProxyUser: func() (*url.Userinfo, error) { return user, nil }}
	way := transport(t, cfg)
	for range 3 {
		if err := get(t, way, c1.URL()); err != nil {
			t.Fatal(err)
		}
	}
	if seen := p.Requests(); len(seen) != 1 || seen[0].Method != http.MethodConnect || seen[0].Host != strings.TrimPrefix(c1.URL(), "https://") {
		t.Errorf("the proxy saw %v", seen)
	} else {
		for name, values := range seen[0].Header {
			if name != "Proxy-Authorization" && name != "User-Agent" {
				t.Errorf("the proxy was told %s: %v", name, values)
			}
		}
	}
	if requests := c1.TokenRequests(); requests[0].Header.Get("Proxy-Authorization") != "" {
		t.Error("C1 was told who we are to the proxy")
	}

	basic := base64.StdEncoding.EncodeToString([]byte("c1proxy:wrong"))
	for name, ask := range map[string]func() (*url.Userinfo, error){
		"wrong password": func() (*url.Userinfo, error) { return url.UserPassword("c1proxy", "wrong"), nil },
		"no password":    func() (*url.Userinfo, error) { return nil, errors.New("read password: no such file") },
	} {
		cfg.ProxyUser = ask
		before := c1.TokenHits()
		err := get(t, transport(t, cfg), c1.URL())
		if err == nil || c1.TokenHits() != before || strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), basic) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg.ProxyUser = nil
	if err := get(t, transport(t, cfg), c1.URL()); err == nil {
		t.Error("the proxy asked nobody who we are")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := get(t, transport(t, cfg), c1.URL()); err == nil {
		t.Error("the proxy is gone, and C1 was reached")
	}
}

// A deadline ends the way through a proxy that says nothing.
func TestSilentProxy(t *testing.T) {
	c1 := secure(t)
	p := startProxy(t, "", "")
	p.Hold()
	at, _ := url.Parse(p.URL())
	way := transport(t, forward.TransportConfig{CAFile: caFile(t, c1.CertPEM()), Proxy: at})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c1.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := way.RoundTrip(request); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
