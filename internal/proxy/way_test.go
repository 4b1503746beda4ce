package proxy_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// The environment's proxy is for hosts elsewhere that are spoken to over TLS. A
// user in its URL is taken out of it; what it holds is in no error.
func TestProxyFromEnvironment(t *testing.T) {
	const by = "http://proxy.example.com:3128"
	for _, tt := range []struct {
		https, no, tenant string
		at, user, problem string
	}{
		{"", "", "https://acme.conductor.one", "", "", ""},
		{by, "", "https://acme.conductor.one", by, "", ""},
		{"proxy.example.com:3128", "", "https://acme.conductor.one", by, "", ""},
		{"http://me:canary@proxy.example.com:3128", "", "https://acme.conductor.one", by, "me:canary", ""},
		{"https://proxy.example.com", "", "https://acme.conductor.one", "https://proxy.example.com", "", ""},
		{by, "conductor.one", "https://acme.conductor.one", "", "", ""},
		{by, "", "https://127.0.0.1:8443", "", "", ""},
		{by, "", "https://localhost:8443", "", "", ""},
		{by, "", "http://c1.example.com", "", "", ""},
		{"socks5://me:canary@proxy.example.com", "", "https://acme.conductor.one", "", "", "read HTTPS_PROXY: only http:// and https:// proxies are supported"},
		{"http://me:canary@proxy:port", "", "https://acme.conductor.one", "", "", "read HTTPS_PROXY: it is not the URL of a proxy"},
		{"http://", "", "https://acme.conductor.one", "", "", "read HTTPS_PROXY: it is not the URL of a proxy"},
		{"http://me:canary@proxy example", "", "https://acme.conductor.one", "", "", "read HTTPS_PROXY: it is not the URL of a proxy"},
	} {
		for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"} {
			t.Setenv(name, "")
		}
		t.Setenv("HTTPS_PROXY", tt.https)
		t.Setenv("HTTP_PROXY", tt.https)
		t.Setenv("NO_PROXY", tt.no)
		base, err := url.Parse(tt.tenant)
		if err != nil {
			t.Fatal(err)
		}
		at, user, err := proxy.ProxyOf(nil, base)
		problem := ""
		if err != nil {
			problem = err.Error()
		}
		if at != tt.at || user != tt.user || problem != tt.problem {
			t.Errorf("HTTPS_PROXY %q, NO_PROXY %q, %s: got %q, %q, %q; want %q, %q, %q", tt.https, tt.no, tt.tenant, at, user, problem, tt.at, tt.user, tt.problem)
		}
	}
}

// A configured proxy is used for any host; its password is read at start, and
// again each time that it is needed.
func TestConfiguredProxy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	cfg := &configv1.Proxy{Url: "http://proxy.example.com:3128", Username: "me", Password: &configv1.Secret{File: file}}
	base := &url.URL{Scheme: "https", Host: "127.0.0.1:8443"}
	if _, _, err := proxy.ProxyOf(cfg, base); err == nil || !strings.Contains(err.Error(), "read password of proxy: read secret: open "+file) {
		t.Errorf("without its password: %v", err)
	}
	for _, password := range []string{"first", "second"} {
		if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
		if at, user, err := proxy.ProxyOf(cfg, base); at != cfg.GetUrl() || user != "me:"+password || err != nil {
			t.Errorf("got %q, %q, %v", at, user, err)
		}
	}
}
