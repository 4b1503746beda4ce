package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
)

const (
	tlsLine    = `listen: {tls: {cert_file: a, key_file: b, client_ca_file: c}}`
	issuerLine = `issuers: [{name: login, url: https://login.example.com, audiences: [c1proxy]}]`
)

// identified is the documented configuration with TLS and an issuer, whose first
// caller has some further lines, and is followed by others.
func identified(lines string) string {
	return strings.NewReplacer(listenLine, tlsLine, keysLine, lines, auditLine, auditLine+"\n"+issuerLine).Replace(documented)
}

func identity(name, lines string, want ...string) problemCase {
	return problemCase{name, documented, identified(lines), want}
}

func issuer(name, line string, want ...string) problemCase {
	return problemCase{name, auditLine, auditLine + "\nissuers: [" + line + "]", want}
}

func operator(name, keys string, want ...string) problemCase {
	return problemCase{name, adminLine, `admin: {keys: [` + keys + `]}`, want}
}

// other and third are the hashes of two keys that no caller has.
var other, third = strings.Repeat("b", 64), strings.Repeat("c", 64)

var identityProblems = []problemCase{
	identity("unknown issuer", "oidc: {issuer: logn, subject: x}",
		`13:24: teams[0].callers[0].oidc.issuer: no issuer is named "logn": did you mean "login"?`),
	identity("any token", "oidc: {issuer: login}",
		"13:9: teams[0].callers[0].oidc: would take every token of the issuer: write a subject, a condition, or both"),
	identity("a subject twice", "oidc: {issuer: login, subject: x}\n      - name: other\n        oidc: {issuer: login, subject: x}",
		"15:40: teams[0].callers[1].oidc.subject: is, or lies within, that of teams[0].callers[0].oidc.subject: a credential must be one caller's in a team"),
	identity("no name", "mtls: {}", "13:9: teams[0].callers[0].mtls: has none of uri_san, dns_san: write one"),
	identity("two names", "mtls: {uri_san: spiffe://a/b, dns_san: b}",
		"13:9: teams[0].callers[0].mtls: has more than one of uri_san, dns_san: keep one"),
	identity("no URI", "mtls: {uri_san: \"spiffe://a/b*\"}",
		"13:25: teams[0].callers[0].mtls.uri_san: write a URI such as spiffe://example.com/payments/sync-bot, or its beginning and /*"),
	identity("dots", "mtls: {uri_san: spiffe://a/../b}",
		"13:25: teams[0].callers[0].mtls.uri_san: has . or .. as a segment, which no certificate's URI may have"),
	identity("a wildcard", "mtls: {dns_san: \"*.example.com\"}",
		"13:25: teams[0].callers[0].mtls.dns_san: write a DNS name in lower case, without wildcards"),
	identity("a URI within another", "mtls: {uri_san: \"spiffe://a/*\"}\n      - name: other\n        mtls: {uri_san: spiffe://a/b}",
		"15:25: teams[0].callers[1].mtls.uri_san: is, or lies within, that of teams[0].callers[0].mtls.uri_san: a credential must be one caller's in a team"),
	identity("no time", "api_keys: [{sha256: "+hash+", expires: 2030-02-31T00:00:00Z}]",
		"13:104: teams[0].callers[0].api_keys[0].expires: is no time: write one as in RFC 3339, for example 2030-01-31T00:00:00Z"),
	identity("a date alone", "api_keys: [{sha256: "+hash+", expires: 2030-01-31}]",
		"13:104: teams[0].callers[0].api_keys[0].expires: write a time as in RFC 3339, for example 2030-01-31T00:00:00Z"),
	operator("a caller's key", "{name: on-call, sha256: "+hash+", scopes: [limits]}",
		"20:40: admin.keys[0].sha256: is the same key as teams[0].callers[0].api_keys[0]: make each one a key of its own"),
	operator("a name twice", "{name: a, sha256: "+other+", scopes: [limits]}, {name: a, sha256: "+third+", scopes: [limits]}",
		`20:126: admin.keys[1].name: "a" is the name of admin.keys[0] too: choose another`),
	operator("no scope", "{name: a, sha256: "+other+"}, {name: b, sha256: "+third+", scopes: [everything]}",
		"20:16: admin.keys[0].scopes: is empty: write one item, or remove what holds it",
		"20:194: admin.keys[1].scopes[0]: must be explain or limits or audit"),
	{"no authorities", keysLine, "mtls: {dns_san: a}", []string{
		"13:9: teams[0].callers[0].mtls: has no use without listen.tls.client_ca_file, the authorities that vouch for certificates",
	}},
	{"no issuers", keysLine, "oidc: {issuer: login, subject: x}", []string{
		"13:24: teams[0].callers[0].oidc.issuer: there are no issuers: write one below issuers, with its name, url and audiences",
	}},
	issuer("plain http", "{name: a, url: http://a, audiences: [b]}",
		"20:26: issuers[0].url: is plain http, by which anybody on the way can sign tokens: write https:// (http is only for tests, written in the configuration with allow_insecure: true)"),
	issuer("no issuer's URL", "{name: a, url: a, audiences: [b]}",
		"20:26: issuers[0].url: is not the URL of an issuer: write it as it stands in the issuer's tokens (iss), for example https://login.example.com"),
	issuer("another scheme", "{name: a, url: ftp://a, audiences: [b]}",
		"20:26: issuers[0].url: is not an https URL: write it as it stands in the issuer's tokens (iss), for example https://login.example.com"),
	issuer("a query", "{name: a, url: \"https://a?b\", audiences: [b]}",
		"20:26: issuers[0].url: has a query or a fragment: write it as it stands in the issuer's tokens (iss), for example https://login.example.com"),
	issuer("a password", "{name: a, url: \"https://u:secret@a\", audiences: [b]}",
		"20:26: issuers[0].url: holds a user or a password: remove it"),
	issuer("no audience", "{name: a, url: https://a}", "20:11: issuers[0].audiences: is empty: write one item, or remove what holds it"),
	issuer("a symmetric algorithm", "{name: a, url: https://a, audiences: [b], algorithms: [HS256]}",
		"20:66: issuers[0].algorithms[0]: must be RS256 or RS384 or RS512 or PS256 or PS384 or PS512 or ES256 or ES384 or ES512 or EdDSA"),
	issuer("a long audience", "{name: a, url: https://a, audiences: ["+strings.Repeat("x", 257)+"]}",
		"20:49: issuers[0].audiences[0]: is longer than 256 characters"),
	issuer("a name twice", "{name: a, url: https://a, audiences: [b]}, {name: a, url: https://b, audiences: [b]}",
		`20:61: issuers[1].name: "a" is the name of issuers[0] too: choose another`),
	issuer("a URL twice", "{name: a, url: https://a, audiences: [b]}, {name: b, url: https://a, audiences: [b]}",
		"20:69: issuers[1].url: is the url of issuers[0] too: one issuer can have several audiences"),
}

// What callers can be known by, in each form.
func TestParseIdentity(t *testing.T) {
	cfg, err := config.Parse("c1proxy.yaml", []byte(identified(`api_keys: [{sha256: `+hash+`, expires: 2030-01-31T00:00:00+01:00, label: laptop}]
        oidc: {issuer: login, subject: "a:b", condition: 'claims.x == "y"'}
        mtls: {uri_san: "spiffe://example.com/payments/*"}
      - name: other
        mtls: {dns_san: other.example.com}
      - name: third
        oidc: {issuer: login, condition: "true"}`)))
	if err != nil {
		t.Fatal(err)
	}
	want := []*configv1.Caller{
		{Name: "sync-bot", ApiKeys: []*configv1.ApiKey{{Sha256: hash, Expires: "2030-01-31T00:00:00+01:00", Label: "laptop"}},
			Oidc: &configv1.Oidc{Issuer: "login", Subject: "a:b", Condition: `claims.x == "y"`}, Mtls: &configv1.Mtls{UriSan: "spiffe://example.com/payments/*"}},
		{Name: "other", Mtls: &configv1.Mtls{DnsSan: "other.example.com"}},
		{Name: "third", Oidc: &configv1.Oidc{Issuer: "login", Condition: "true"}},
	}
	if diff := cmp.Diff(want, cfg.GetTeams()[0].GetCallers(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	issuers := []*configv1.Issuer{{Name: "login", Url: "https://login.example.com", Audiences: []string{"c1proxy"}, MaxTokenLifetime: durationpb.New(24 * 3600e9)}}
	if diff := cmp.Diff(issuers, cfg.GetIssuers(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}
