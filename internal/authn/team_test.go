package authn_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-jose/go-jose/v4"

	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/principal"
)

func condition(t *testing.T, text string) *authn.Condition {
	t.Helper()
	c, err := authn.CompileCondition(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A token of several teams' callers chooses a team; a key's has one.
func TestTeamChoice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		who := func(team, caller string) *principal.Principal {
			return &principal.Principal{Team: team, Caller: caller, Tenant: "acme"}
		}
		key := authn.NewKey()
		keyed := who("payments", "keyed")
		keyed.Credential = "key:x"
		issuer := &login{keys: public()}
		a := open(t, authn.Config{Issuers: []authn.IssuerConfig{issuer.config()}, Keys: []authn.Credential{{Hash: authn.HashKey(key), Principal: keyed}}, Tokens: []authn.TokenRule{
			{Issuer: "login", Subject: "one", Principal: who("payments", "a")},
			{Issuer: "login", Subject: "two", Principal: who("payments", "b")},
			{Issuer: "login", Subject: "two", Principal: who("platform", "b")},
			{Issuer: "login", Condition: condition(t, `claims.sub == "two" && claims.role == "admin"`), Principal: who("admins", "c")},
			{Issuer: "login", Condition: condition(t, `claims.role == "admin"`), Principal: who("payments", "d")},
		}})
		defer a.Close()
		token := func(sub, role string) string {
			return sign(t, jose.ES256, ecKey(), "ec", claimed(map[string]any{"sub": sub, "role": role}))
		}
		for _, test := range []struct {
			token string
			teams []string
			want  string
		}{
			{key, nil, ""},
			{key, []string{"payments"}, ""},
			{key, []string{"platform"}, "TEAM_DENIED"},
			{key, []string{""}, "TEAM_DENIED"},
			{key, []string{"payments", "payments"}, "TEAM_REQUIRED"},
			{token("one", ""), nil, ""},
			{token("one", ""), []string{"payments"}, ""},
			{token("one", ""), []string{"platform"}, "TEAM_DENIED"},
			{token("one", ""), []string{"Payments"}, "TEAM_DENIED"},
			{token("two", ""), nil, "TEAM_REQUIRED"},
			{token("two", ""), []string{"payments"}, ""},
			{token("two", ""), []string{"platform"}, ""},
			{token("two", ""), []string{"admins"}, "TEAM_DENIED"},
			{token("two", ""), []string{"payments", "platform"}, "TEAM_REQUIRED"},
			{token("two", "admin"), []string{"admins"}, ""},
			{token("two", "admin"), []string{"payments"}, "AMBIGUOUS_CALLER"},
			{token("three", "admin"), nil, ""},
			{token("three", ""), nil, "CALLER_UNKNOWN"},
			{token("three", ""), []string{"payments"}, "CALLER_UNKNOWN"},
		} {
			if got := show(t, a, test.token, test.teams...); got != test.want {
				t.Errorf("%.9s with %q: got %q, want %q", test.token, test.teams, got, test.want)
			}
		}
		r := &http.Request{Header: http.Header{"Authorization": {"Bearer " + token("two", "admin")}}}
		partial, err := a.Authenticate(r)
		if err == nil || !strings.Contains(err.Error(), "admins, payments, platform") || partial.Credential != "oidc:login:ec" || partial.Subject != "two" {
			t.Errorf("got %+v, %v", partial, err)
		}
		r.Header.Set("C1proxy-Team", "platform")
		r.Header["C1proxy-Caller"], r.Header["X-Forwarded-User"] = []string{"a"}, []string{"a"}
		if got, err := a.Authenticate(r); err != nil || got.Team != "platform" || got.Caller != "b" {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}
