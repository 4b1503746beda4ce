package c1proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/gen/c1proxy/v1/c1proxyv1connect"
	"github.com/c1proxy/c1proxy/internal/authn"
)

// itself is a client of the gateway's own API, at its address for callers or at
// the admin listener's, that shows the key of that name.
func (g *gateway) itself(p protocol, key string, admin bool) c1proxyv1connect.GatewayServiceClient {
	url := g.url
	if admin {
		url = "http://" + g.proxy.AdminAddr().String()
	}
	options := append([]connect.ClientOption{connect.WithInterceptors(bearer(g.keys[key]))}, p.options...)
	return c1proxyv1connect.NewGatewayServiceClient(g.httpClient(false), url, options...)
}

// withOperators adds keys to the admin listener: on-call, who may explain, and
// capacity, who may see limits.
func withOperators(s *setup) {
	s.facts = func(g *gateway, text string) string {
		var keys []string
		for name, scope := range map[string]string{"on-call": "explain", "capacity": "limits"} {
			g.keys[name] = authn.NewKey()
			keys = append(keys, fmt.Sprintf("{name: %s, sha256: %q, scopes: [%s]}", name, authn.HashKey(g.keys[name]), scope))
		}
		return strings.Replace(text, `admin: {address: "127.0.0.1:0"}`, `admin: {address: "127.0.0.1:0", keys: [`+strings.Join(keys, ", ")+`]}`, 1)
	}
}

// rpcs are the protocols of procedures that C1 has no path for.
var rpcs = protocols[:4]

// Every caller may ask who it is, and it is a call like every other.
func TestWhoAmI(t *testing.T) {
	g := start(t, withOperators)
	for _, p := range rpcs {
		response, err := g.itself(p, "reader", false).WhoAmI(t.Context(), connect.NewRequest(&c1proxyv1.WhoAmIRequest{}))
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
			continue
		}
		got := response.Msg
		if got.GetTime().AsTime().IsZero() || got.GetPolicyRevision() == "" || !strings.HasPrefix(got.GetCredential(), "key:") {
			t.Errorf("%s: %v", p.name, got)
		}
		got.Time, got.PolicyRevision, got.Credential = nil, "", ""
		want := &c1proxyv1.WhoAmIResponse{Caller: "reader", Team: "readers", Tenant: "acme",
			Rules: []*c1proxyv1.Rule{{Name: "readers/allow/0", Methods: []string{"c1.**/*"}, Class: "read"}}}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", p.name, diff)
		}
		records := g.records(requestID(response, nil))
		if n := len(records); n != 2 || records[1].Rule != "self" || records[1].Outcome != "ok" || records[1].Procedure != "c1proxy.v1.GatewayService/WhoAmI" {
			t.Errorf("%s: on record as %+v", p.name, records)
		}
	}
}

// WhoAmI says all of a team's rules.
func TestWhoAmITellsRules(t *testing.T) {
	g := startAsked(t)
	response, err := g.itself(protocols[0], "sync-bot", false).WhoAmI(t.Context(), connect.NewRequest(&c1proxyv1.WhoAmIRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	rules := response.Msg.GetRules()
	want := []*c1proxyv1.Rule{{Name: "payments/allow/syncs", Methods: []string{connectorService + "ForceSync"}, RequireReason: true},
		{Name: "payments/allow/tried", Methods: []string{confirmMethod}, Condition: `request.app_id == "never"`, Shadow: true}}
	if diff := cmp.Diff(want, rules[2:4], protocmp.Transform()); diff != "" || len(rules) != 7 {
		t.Errorf("%d rules: %s", len(rules), diff)
	}
}

// The admin listener has keys of its own: those of callers open nothing there,
// and those of operators nothing at the address for callers.
func TestOperatorKeys(t *testing.T) {
	g := start(t, withOperators)
	for _, p := range rpcs {
		response, err := g.itself(p, "on-call", true).WhoAmI(t.Context(), connect.NewRequest(&c1proxyv1.WhoAmIRequest{}))
		if err != nil || response.Msg.GetCaller() != "on-call" || response.Msg.GetTeam() != "" || !cmp.Equal(response.Msg.GetScopes(), []string{"explain"}) {
			t.Errorf("%s: %v, %v", p.name, response, err)
		}
		if records := g.records(requestID(response, err)); len(records) != 2 || records[1].Caller != "on-call" || records[1].Team != "" || records[1].Rule != "admin/self" {
			t.Errorf("%s: on record as %+v", p.name, records)
		}
		for key, admin := range map[string]bool{"reader": true, "on-call": false, "": true} {
			response, err := g.itself(p, key, admin).WhoAmI(t.Context(), connect.NewRequest(&c1proxyv1.WhoAmIRequest{}))
			if connect.CodeOf(err) != connect.CodeUnauthenticated {
				t.Errorf("%s, %q at the admin listener %v: %v", p.name, key, admin, err)
			}
			if records := g.records(requestID(response, err)); len(records) != 1 || records[0].Kind != "denied" {
				t.Errorf("%s, %q: on record as %+v", p.name, key, records)
			}
		}
	}
	if status, _ := g.admin("/readyz"); status != 200 {
		t.Errorf("readiness needs a key: %d", status)
	}
}

// Failures to authenticate at the admin listener are counted with those at the
// address for callers, and an operator's good key passes all the same.
func TestOperatorsAndFailures(t *testing.T) {
	g := start(t, withOperators, listening("failed_auth: {rate: 1, per: 1h, burst: 3}"))
	who := func(p protocol, key string, admin bool) error {
		_, err := g.itself(p, key, admin).WhoAmI(t.Context(), connect.NewRequest(&c1proxyv1.WhoAmIRequest{}))
		return err
	}
	for i, admin := range []bool{true, false, true} {
		if err := who(protocols[0], "nobody", admin); reasonOf(err) != "UNAUTHENTICATED" {
			t.Fatalf("failure %d: %v", i, err)
		}
	}
	for _, p := range rpcs {
		for _, admin := range []bool{true, false} {
			if err := who(p, "nobody", admin); reasonOf(err) != "TOO_MANY_FAILURES" {
				t.Errorf("%s, a stranger at the admin listener %v: %v", p.name, admin, err)
			}
			good, wrong := "sync-bot", "on-call"
			if admin {
				good, wrong = wrong, good
			}
			if err := who(p, good, admin); err != nil {
				t.Errorf("%s, %s at the admin listener %v: %v", p.name, good, admin, err)
			}
			if err := who(p, wrong, admin); reasonOf(err) != "TOO_MANY_FAILURES" {
				t.Errorf("%s, %s at the admin listener %v: %v", p.name, wrong, admin, err)
			}
		}
	}
}
