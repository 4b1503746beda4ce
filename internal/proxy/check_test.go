package proxy_test

import (
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/principal"
	"github.com/c1proxy/c1proxy/internal/proxy"
	"github.com/c1proxy/c1proxy/internal/route"
)

// larger is a mirror of every class and stability.
var larger = []policy.Method{
	{Name: "c1.api.app.v1.ConnectorService/Get", ReadOnly: true},
	{Name: "c1.api.app.v1.ConnectorService/ForceSync"},
	{Name: "c1.api.app.v1.ConnectorService/Pause", Draft: true},
	{Name: "c1.api.vault.v1.VaultService/Search", ReadOnly: true, Draft: true},
	{Name: "c1.api.vault.v1.VaultService/Rotate", Draft: true},
}

func checkLarger(cfg *configv1.Config) []config.Problem { return proxy.CheckRules(cfg, larger) }

// ruled is a configuration whose rules follow, from line 10.
const ruled = `
tenants:
  - name: acme
    url: http://127.0.0.1:8081
    allow_insecure: true
    credential: {access_token: {env: TOKEN}}
teams:
  - name: payments
    tenant: acme
    allow:
`

// A rule that does nothing is found at its place, with what to write instead.
func TestCheckRules(t *testing.T) {
	rules := `      - methods: ["c1.**/*"]
      - methods:
          - c1.api.app.v1.ConnectorService/Get
          - c1.api.app.v1.ConnectorService/Pause
          - c1.api.vault.v1.*/*
      - class: read
        methods: ["c1.api.*/*", "c1.api.app.v1.ConnectorService/ForceSync"]
      - {methods: ["c1.api.vault.v1.**/*"], class: write}
      - {methods: ["*"], include_draft: true}
      - {methods: ["c1.api.vault.v1.**/*"], class: raed, include_draft: true}
  - name: readers
    tenant: acme
    allow:
      - {methods: ["c1.api.vault.v1.**/*"], class: read, include_draft: true}
      - {methods: ["c1.api.app.v1.ConnectorService/Gte"]}
audit: {dir: /tmp/audit}
`
	want := strings.TrimSpace(`
c.yaml:14:13: teams[0].allow[1].methods[1]: "c1.api.app.v1.ConnectorService/Pause" is a draft method: add include_draft: true
c.yaml:15:13: teams[0].allow[1].methods[2]: "c1.api.vault.v1.*/*" matches 2 methods, all draft: add include_draft: true
c.yaml:17:19: teams[0].allow[2].methods[0]: "c1.api.*/*" matches no method; did you mean "c1.api.**/*"?
c.yaml:17:33: teams[0].allow[2].methods[1]: "c1.api.app.v1.ConnectorService/ForceSync" has side effects, which class: read leaves out: remove one of them
c.yaml:18:20: teams[0].allow[3].methods[0]: "c1.api.vault.v1.**/*" matches 2 methods, but class: write leaves out 1, and the rest are draft: add include_draft: true
c.yaml:19:20: teams[0].allow[4].methods[0]: is no method or pattern; did you mean "c1.**/*"?
c.yaml:20:52: teams[0].allow[5].class: must be read or write
c.yaml:25:20: teams[1].allow[1].methods[0]: no method is named "c1.api.app.v1.ConnectorService/Gte"; did you mean "c1.api.app.v1.ConnectorService/Get"?
`)
	_, err := config.Parse("c.yaml", []byte(ruled+rules), checkLarger)
	if err == nil {
		t.Fatal("a configuration with eight mistakes passed")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

// What is wrong with a condition has its place, and is not told twice.
func TestCheckRuleConditions(t *testing.T) {
	rules := `      - methods: ["c1.api.app.v1.ConnectorService/Get"]
        condition: 'request.app_idd == "a"'
      - {methods: ["c1.api.app.v1.ConnectorService/List"], shadow: true}
      - {methods: ["c1.api.app.v1.ConnectorService/*"], include_draft: true, condition: 'request.app_id == ""'}
      - {methods: ["c1.**/*"], class: read, name: typed, condition: caller.name}
audit: {dir: /tmp/audit}
`
	want := strings.TrimSpace(`
c.yaml:12:20: teams[0].allow[0].condition: does not fit the request of c1.api.app.v1.ConnectorService/Get: 1:8: undefined field 'app_idd'; did you mean "app_id"?
c.yaml:13:68: teams[0].allow[1].shadow: there is nothing to try out: write a condition or require_reason: true
c.yaml:14:89: teams[0].allow[2].condition: does not fit the request of c1.api.app.v1.ConnectorService/UpdateDelegated and 1 more method: 1:8: undefined field 'app_id'
c.yaml:15:69: teams[0].allow[3].condition: is no condition over request, caller and claims: it is of type string: write a comparison, which is true or false, such as caller.name == "sync-bot"
`)
	_, err := config.Parse("c.yaml", []byte(ruled+rules), proxy.Check)
	if err == nil {
		t.Fatal("a configuration with four mistakes passed")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

// What a configuration's rules say is what the gateway decides by, and records.
func TestAdmit(t *testing.T) {
	const rules = `      - {methods: ["c1.**/*"], class: read}
      - {methods: ["c1.api.vault.v1.*/*"], class: write, include_draft: true}
      - {methods: ["c1.api.app.v1.*/*"], include_draft: false}
audit: {dir: /tmp/audit}
`
	cfg, err := config.Parse("c.yaml", []byte(ruled+rules), checkLarger)
	if err != nil {
		t.Fatal(err)
	}
	p, err := proxy.Admit(cfg, larger)
	if err != nil {
		t.Fatal(err)
	}
	for method, want := range map[string]string{
		"c1.api.app.v1.ConnectorService/Get":       "payments/allow/0",
		"c1.api.app.v1.ConnectorService/ForceSync": "payments/allow/2",
		"c1.api.app.v1.ConnectorService/Pause":     "",
		"c1.api.vault.v1.VaultService/Search":      "",
		"c1.api.vault.v1.VaultService/Rotate":      "payments/allow/1",
	} {
		d, err := p.Allow(policy.Call{Who: &principal.Principal{Team: "payments"}, Method: method})
		rule := d.Rule
		var f *fault.Fault
		if rule != want || want == "" && (!errors.As(err, &f) || f.Code != connect.CodePermissionDenied || !strings.Contains(f.Message, "draft")) {
			t.Errorf("%s: got %q, %v; want %q", method, rule, err, want)
		}
	}
}

// Open finds what Check would have found, and names the rule.
func TestAdmitRefuses(t *testing.T) {
	rule := func(class string, methods ...string) *configv1.Config {
		return &configv1.Config{Teams: []*configv1.Team{{Name: "payments", Allow: []*configv1.Rule{{Methods: methods, Class: class}}}}}
	}
	for want, cfg := range map[string]*configv1.Config{
		"rule payments/allow/0: methods[1]: no method is named": rule("", larger[0].Name, "c1.x.S/M"),
		"rule payments/allow/0: class: a class is read or":      rule("READ", larger[0].Name),
	} {
		if _, err := proxy.Admit(cfg, larger); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// The policy knows each route as it is.
func TestMethodsOf(t *testing.T) {
	routes, err := route.Load(catalog.Files(), catalog.Types{}, "c1.")
	if err != nil {
		t.Fatal(err)
	}
	routes = append(routes, &route.Route{Procedure: "/x.S/Draft", Descriptor: routes[0].Descriptor, Stability: route.Draft}, &route.Route{Procedure: "/x.S/Read", Descriptor: routes[0].Descriptor, ReadOnly: true})
	methods := proxy.MethodsOf(routes)
	for i, r := range routes {
		if want := (policy.Method{Name: r.Procedure[1:], ReadOnly: r.ReadOnly, Draft: r.Stability == route.Draft, Input: r.Descriptor.Input()}); methods[i] != want {
			t.Errorf("got %+v, want %+v", methods[i], want)
		}
	}
}
