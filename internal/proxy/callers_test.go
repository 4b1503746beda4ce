package proxy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// A condition that does not compile is found at its place in the file, with the
// place in its text.
func TestCheckConditions(t *testing.T) {
	const callers = `    callers:
      - name: deploy
        oidc: {issuer: login, condition: 'claims.repository == "acme/deploy'}
      - name: other
        oidc:
          issuer: login
          subject: x
          condition: claim.admin == true
      - name: third
        oidc: {issuer: login, condition: claims.admin}
      - name: good
        oidc: {issuer: login, condition: '"admins" in claims.groups'}
issuers: [{name: login, url: "https://login.example.com", audiences: [c1proxy]}]
audit: {dir: /tmp/audit}
`
	want := strings.TrimSpace(`
c.yaml:12:42: teams[0].callers[0].oidc.condition: is no CEL expression over claims: 1:22: Syntax error: token recognition error at: '"acme/deploy'
c.yaml:17:22: teams[0].callers[1].oidc.condition: is no CEL expression over claims: 1:1: undeclared reference to 'claim' (did you mean 'claims'?)
c.yaml:19:42: teams[0].callers[2].oidc.condition: is of type dyn: write a comparison, which is true or false, such as claims.admin == true
`)
	text := strings.Replace(ruled, "    allow:\n", "", 1) + callers
	_, err := config.Parse("c.yaml", []byte(text), proxy.Check)
	if err == nil {
		t.Fatal("a configuration with three mistakes passed")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}
