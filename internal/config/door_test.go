package config_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/config"
)

// origin is a case of one origin, which stands in the first line.
func origin(text, message string) problemCase {
	return problemCase{"origin " + text, listenLine, `cors: {allowed_origins: ["` + text + `"]}`, []string{
		"1:26: cors.allowed_origins[0]: " + message}}
}

// proxies is a case of one trusted proxy.
func proxies(text, message string) problemCase {
	return problemCase{"proxy " + text, listenLine, `listen: {trusted_proxies: ["` + text + `"]}`, []string{
		"1:28: listen.trusted_proxies[0]: " + message}}
}

const (
	noOrigin  = "is no origin of a web page: write it as browsers do, for example https://app.example.com or http://localhost:3000"
	noHost    = "has no valid host: write it as browsers do, for example https://app.example.com or http://localhost:3000"
	pattern   = "has a *: each origin stands for itself, there are no patterns"
	more      = "has more than a scheme, a host and a port: remove the rest, also a / at the end"
	capitals  = "has capitals: browsers send origins in lower case"
	oddPort   = "has a port that browsers write in another way or leave out: write it as browsers do, for example https://app.example.com or http://localhost:3000"
	noNetwork = "is no address or network: write one such as 10.0.0.7, 10.0.0.0/8 or 2001:db8::/32"
	mapped    = "is an IPv4 address in IPv6's form: write it as IPv4, such as 10.0.0.0/8"
	everybody = "would let every peer say where it comes from: name your proxies"
)

var doorProblems = []problemCase{
	origin("null", "is what every page without an origin sends, such as a file or a sandboxed frame: it can be anybody's"),
	origin("*", pattern), origin("https://*.example.com", pattern), origin("https://*", pattern),
	origin("app.example.com", noOrigin), origin("ftp://app.example.com", noOrigin), origin("https:app.example.com", noOrigin),
	origin("https://", noOrigin), origin("file://", noOrigin), origin("chrome-extension://abc", noOrigin), origin("HTTPS://app.example.com", capitals),
	origin("https://app.example.com/", more), origin("https://app.example.com/x", more), origin("https://app.example.com?", more),
	origin("https://app.example.com#", more), origin("https://user@app.example.com", more),
	origin("https://App.example.com", capitals), origin("https://app.example.com:443", oddPort), origin("http://app.example.com:80", oddPort),
	origin("https://app.example.com:08443", oddPort), origin("https://app.example.com:", "has no valid port"), origin("https://app.example.com:0", "has no valid port"),
	origin("https://app_example.com", noHost), origin("https://app.example.com.", noHost), origin("https://bücher.example", noHost), origin("https://127.1", noHost),
	origin("http://[::0001]:3000", "has an address that browsers write in another way: ::1"),
	{"origin twice", listenLine, `cors: {allowed_origins: ["https://a.example", "https://a.example"]}`, []string{
		"1:47: cors.allowed_origins[1]: is cors.allowed_origins[0] once more: remove one of them"}},
	{"no origins", listenLine, "cors: {allowed_origins: []}", []string{
		"1:8: cors.allowed_origins: is empty: write one item, or remove what holds it"}},
	{"credentials", listenLine, "cors: {allowed_origins: [\"https://a.example\"], allow_credentials: true}", []string{
		"1:48: cors: unknown key: its keys are allowed_origins"}},
	proxies("10.0.0.300", noNetwork), proxies("proxy.example.com", noNetwork), proxies("10.0.0.0/33", noNetwork), proxies("10.0.0.1:80", noNetwork), proxies("10.0.0.0/8 ", noNetwork),
	proxies("10.0.0.1/8", "has bits beyond its length: write 10.0.0.0/8"), proxies("::ffff:10.0.0.1", mapped), proxies("::ffff:10.0.0.0/104", mapped),
	proxies("0.0.0.0/0", everybody), proxies("::/0", everybody),
	proxies("fe80::1%eth0", "has a zone (%), which is this machine's own word: write the network, such as fe80::/10"),
	{"proxy twice", listenLine, `listen: {trusted_proxies: [10.0.0.7, 10.0.0.7/32]}`, []string{
		"1:38: listen.trusted_proxies[1]: is listen.trusted_proxies[0] once more: remove one of them"}},
	{"failures out of range", listenLine, "listen: {failed_auth: {rate: 2000000, per: 0s, burst: 0}}", []string{
		"1:30: listen.failed_auth.rate: must be from 0 to 1000000",
		"1:44: listen.failed_auth.per: must be from 1ms to 24h",
		"1:55: listen.failed_auth.burst: must be from 1 to 1000000"}},
	{"failures for ever", listenLine, "listen: {failed_auth: {rate: 1, per: 24h, burst: 1000}}", []string{
		"1:10: listen.failed_auth: an empty burst would take longer than a year to fill again: lower burst or per, or raise rate"}},
}

const loginLine = "issuers: [{name: login, url: https://login.example.com, audiences: [c1proxy]}]\n"

// console is a case of a console in the second line, below an issuer.
func console(keys, message string) problemCase {
	return problemCase{"console " + keys, listenLine, loginLine + "console: {" + keys + "}", []string{message}}
}

var consoleProblems = []problemCase{
	console("issuer: logn, client_id: x", `2:19: console.issuer: no issuer is named "logn": did you mean "login"?`),
	console("issuer: https://login.example.com/, client_id: x", "2:19: console.issuer: is neither the name nor the url of one of the issuers, letter by letter"),
	console("issuer: login", "2:1: console.client_id: is missing: write the console's client id at the issuer, that of a public client"),
	console("client_id: x", "2:22: console.client_id: has no use without console.issuer, the issuer that one signs in with"),
	console("scopes: [openid]", "2:11: console.scopes: has no use without console.issuer, the issuer that one signs in with"),
	console("resource: https://a", "2:21: console.resource: has no use without console.issuer, the issuer that one signs in with"),
	console("issuer: login, client_id: x, scopes: [openid, openid]", "2:40: console.scopes: has a scope twice: remove one of them"),
	console("issuer: login, client_id: x, scopes: [open id]", "2:49: console.scopes[0]: write a scope in printable ASCII without blanks, quotes and \"\\\", at most 128"),
	console("issuer: login, client_id: x, resource: c1proxy", "2:50: console.resource: is no URI, or has a fragment or a user: write c1proxy's name at the issuer, for example https://c1proxy.example.com"),
	console("issuer: login, client_id: x, resource: https://a#b", "2:50: console.resource: is no URI, or has a fragment or a user: write c1proxy's name at the issuer, for example https://c1proxy.example.com"),
	console("issuer: login, client_id: x, client_secret: y", "2:40: console: unknown key \"client_secret\": it belongs in tenants[].credential or tenants[].credential.next or teams[].credential or teams[].credential.next"),
	{"console without issuers", listenLine, "console: {issuer: login, client_id: x}", []string{
		"1:19: console.issuer: there are no issuers: write one below issuers, with its name, url and audiences, so that its tokens are accepted"}},
}

// An empty console is one, and an issuer goes by its name or its url.
func TestConsole(t *testing.T) {
	for text, want := range map[string]string{"{}": "", "{issuer: login, client_id: x}": "login",
		"{issuer: https://login.example.com, client_id: x, scopes: [openid, api:read], resource: urn:c1proxy}": "login"} {
		cfg, err := config.Parse("c1proxy.yaml", []byte(strings.Replace(documented, listenLine, loginLine+"console: "+text, 1)))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := config.ConsoleIssuer(cfg).GetName(); cfg.GetConsole() == nil || got != want {
			t.Errorf("%s: %v with issuer %q, want %q", text, cfg.GetConsole(), got, want)
		}
	}
}

// Origins as browsers write them are good ones.
func TestGoodOrigins(t *testing.T) {
	for _, text := range []string{"https://app.example.com", "http://app.example.com", "https://app.example.com:8443", "http://localhost:3000", "http://127.0.0.1:3000",
		"http://[::1]:3000", "https://xn--bcher-kva.example", "https://a", "https://app.example.com:80", "http://app.example.com:443"} {
		if _, err := config.Parse("c1proxy.yaml", []byte(strings.Replace(documented, listenLine, `cors: {allowed_origins: ["`+text+`"]}`, 1))); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// An address is the network of one.
func TestNetworks(t *testing.T) {
	got := config.Networks([]string{"10.0.0.0/8", "192.0.2.7", "2001:db8::7", "x", "2001:db8::/32"})
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"),
		netip.MustParsePrefix("2001:db8::7/128"), netip.MustParsePrefix("2001:db8::/32")}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}
