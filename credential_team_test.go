package c1proxy_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
)

// withOwn gives payments a credential of its own: C1's plain client, with the
// secret in a file, which is returned.
func withOwn(t testing.TB, g *gateway, text, secret string) (with, file string) {
	t.Helper()
	file = filepath.Join(filepath.Dir(g.dir), "own")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return replaced(t, text, "name: payments\n    tenant: acme\n",
		fmt.Sprintf("name: payments\n    tenant: acme\n    credential: {client_id: %q, client_secret: {file: %q}}\n", g.facts.PlainClientID, file)), file
}

// tryAs lists connectors as a caller, and returns the records and the error.
func (g *gateway) tryAs(p protocol, caller string) ([]audit.Record, error) {
	g.t.Helper()
	response, err := g.client(p, caller).List(g.t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
	return g.records(requestID(response, err)), err
}

// Each team's calls go with its credential, on every door, and the audit says by
// name with which.
func TestTeamCredential(t *testing.T) {
	g := start(t, func(s *setup) {
		s.facts = func(g *gateway, text string) string {
			text, _ = withOwn(t, g, text, g.facts.PlainClientSecret)
			return text
		}
	})
	for _, p := range protocols {
		for caller, want := range map[string]string{"sync-bot": g.facts.PlainClientID, "reader": g.facts.ClientID} {
			records, err := g.tryAs(p, caller)
			if err != nil || len(records) != 2 {
				t.Fatalf("%s, %s: %v, %d records", p.name, caller, err, len(records))
			}
			for _, r := range records {
				if r.UpstreamCredential != want {
					t.Errorf("%s, %s: the %s has credential %q, want %q", p.name, caller, r.Kind, r.UpstreamCredential, want)
				}
			}
		}
	}
	tokens := map[string]bool{}
	for _, r := range g.c1.Requests() {
		tokens[r.Header.Get("Authorization")] = true
	}
	if len(tokens) != 2 || g.c1.TokenHits() != 2 {
		t.Errorf("%d tokens, %d exchanges, want 2 and 2", len(tokens), g.c1.TokenHits())
	}
	status, body := g.admin("/readyz")
	if status != http.StatusOK || !strings.Contains(body, `"token/acme": "ok"`) || !strings.Contains(body, `"token/acme/payments": "ok"`) {
		t.Errorf("readiness %d: %s", status, body)
	}
	metrics := g.metrics()
	for _, want := range []string{`c1proxy_token_valid{team="",tenant="acme"} 1`, `c1proxy_token_valid{team="payments",tenant="acme"} 1`,
		fmt.Sprintf(`c1proxy_token_credential{credential=%q,team="payments",tenant="acme"} 1`, g.facts.PlainClientID)} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	// A reload that leaves it as it is asks for no new token; one that takes it
	// away has the tenant's serve.
	if err := g.reload(replaced(t, g.text, "rate: 1,", "rate: 2,")); err != nil || g.c1.TokenHits() != 2 {
		t.Errorf("%v, %d exchanges", err, g.c1.TokenHits())
	}
	from := strings.Index(g.text, "    credential: {client_id")
	if err := g.reload(g.text[:from] + g.text[from+strings.Index(g.text[from:], "\n")+1:]); err != nil {
		t.Fatal(err)
	}
	if records, err := g.tryAs(protocols[0], "sync-bot"); err != nil || records[1].UpstreamCredential != g.facts.ClientID {
		t.Errorf("%v, %+v", err, records)
	}
}

// What C1 refuses of one team is that team's alone.
func TestTeamCredentialRefused(t *testing.T) {
	g := start(t, func(s *setup) {
		s.facts = func(g *gateway, text string) string {
			text, _ = withOwn(t, g, text, "revoked-secret-of-payments")
			return text
		}
	})
	for range 8 { // more than open a breaker
		records, err := g.tryAs(protocols[0], "sync-bot")
		if reasonOf(err) != "UPSTREAM_CREDENTIAL_REJECTED" || !strings.Contains(err.Error(), `team "payments"`) ||
			len(records) != 1 || records[0].Kind != audit.KindDenied || records[0].UpstreamCredential != "" {
			t.Fatalf("%v, %+v", err, records)
		}
		if _, err := g.tryAs(protocols[0], "reader"); err != nil {
			t.Fatalf("another team: %v", err)
		}
	}
	status, body := g.admin("/readyz")
	if status != http.StatusOK || !strings.Contains(body, `"token/acme/payments": "warning: `) || strings.Contains(body, "revoked-secret") {
		t.Errorf("readiness %d: %s", status, body)
	}
	if metrics := g.metrics(); !strings.Contains(metrics, `c1proxy_tenant_down{tenant="acme"} 0`) || !strings.Contains(metrics, `c1proxy_token_valid{team="payments",tenant="acme"} 0`) {
		t.Error("the tenant counts as down, or the team has a token")
	}
	if strings.Contains(g.logs.String(), "revoked-secret") {
		t.Error("the secret stands in the log")
	}
}

// A static token of a team has a name of its own.
func TestTeamStaticToken(t *testing.T) {
	g := start(t, func(s *setup) {
		s.facts = func(g *gateway, text string) string {
			file := filepath.Join(filepath.Dir(g.dir), "static")
			if err := os.WriteFile(file, []byte(g.facts.StaticToken), 0o600); err != nil {
				t.Fatal(err)
			}
			return replaced(t, text, "name: payments\n    tenant: acme\n", fmt.Sprintf("name: payments\n    tenant: acme\n    credential: {access_token: {file: %q}}\n", file))
		}
	})
	if records, err := g.tryAs(protocols[0], "sync-bot"); err != nil || records[1].UpstreamCredential != "access_token of team payments" {
		t.Errorf("%v, %+v", err, records)
	}
}
