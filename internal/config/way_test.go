package config_test

import (
	"strings"
	"testing"

	"github.com/c1proxy/c1proxy/internal/config"
)

const wantProxy = "write http:// and the proxy's host and port, for example http://proxy.example.com:3128"

// proxyCase is the documented tenant with a proxy.
func proxyCase(name, proxy string, want ...string) problemCase {
	return problemCase{name, urlLine, urlLine + "    proxy: " + proxy + "\n", want}
}

var wayProblems = []problemCase{
	proxyCase("proxy that is no URL", `{url: "proxy:3128"}`, "5:18: tenants[0].proxy.url: is not the URL of an HTTP proxy: "+wantProxy),
	proxyCase("SOCKS", `{url: "socks5://proxy:1080"}`, "5:18: tenants[0].proxy.url: is not the URL of an HTTP proxy: "+wantProxy),
	proxyCase("proxy with a password", `{url: "http://a:canary@proxy:3128"}`, "5:18: tenants[0].proxy.url: holds a user or a password: write them in username and password"),
	proxyCase("proxy with a path", `{url: "http://proxy:3128/x"}`, "5:18: tenants[0].proxy.url: has a path, a query or a fragment: remove all that follows the host and port"),
	proxyCase("proxy with a query", `{url: "http://proxy:3128?"}`, "5:18: tenants[0].proxy.url: has a path, a query or a fragment: remove all that follows the host and port"),
	proxyCase("proxy with a bad port", `{url: "http://proxy:0"}`, "5:18: tenants[0].proxy.url: has no valid port"),
	proxyCase("proxy without a host", `{url: "http://"}`, "5:18: tenants[0].proxy.url: has no valid host: "+wantProxy),
	proxyCase("proxy without a url", `{}`, "5:5: tenants[0].proxy.url: is missing: write one, for example http://proxy.example.com:3128"),
	proxyCase("user without a password", `{url: "http://proxy", username: a}`, "5:44: tenants[0].proxy.username: has no password beside it: write both, or neither"),
	proxyCase("password without a user", `{url: "http://proxy", password: {env: P}}`, "5:34: tenants[0].proxy.password: has no username beside it: write both, or neither"),
	proxyCase("user with a colon", `{url: "http://proxy", username: "a:b", password: {env: P}}`, `5:44: tenants[0].proxy.username: holds a ":", which no user of a proxy can have (RFC 7617)`),
	{"proxy to plain http", urlLine, "url: http://127.0.0.1:8081\n    allow_insecure: true\n    credential: {access_token: {env: T}}\n    proxy: {url: \"http://proxy\"}\n  - name: b\n    url: https://acme.conductor.one\n",
		[]string{"7:5: tenants[0].proxy: is for https alone, and the tenant's url is plain http: remove one of them"}},
	{"no place", urlLine, urlLine + "    max_in_flight: 0\n", []string{"5:20: tenants[0].max_in_flight: must be from 1 to 1000000"}},
	{"fewer places than teams", tenantsPart + "teams:\n",
		strings.Replace(tenantsPart, urlLine, urlLine+"    max_in_flight: 1\n", 1) + "teams:\n  - {name: other, tenant: acme}\n",
		[]string{"5:20: tenants[0].max_in_flight: is less than the tenant's teams, which are 2: each needs a place of its own"}},
}

// What is at the edge of a refusal, and right.
func TestAcceptedWays(t *testing.T) {
	for _, added := range []string{
		`proxy: {url: "http://proxy"}`, `proxy: {url: "https://proxy.example.com:3129/"}`, `proxy: {url: "http://[::1]:3128"}`,
		`proxy: {url: "http://10.0.0.1:3128", username: c1proxy, password: {file: /run/secrets/proxy}}`,
		"max_in_flight: 1", "ca_file: ./ca.pem",
	} {
		text := strings.Replace(documented, urlLine, urlLine+"    "+added+"\n", 1)
		if _, err := config.Parse("c1proxy.yaml", []byte(text)); err != nil {
			t.Errorf("%s: %v", added, err)
		}
	}
}
