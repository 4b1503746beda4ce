package authn_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/principal"
)

// BenchmarkAuthenticate measures each proof, and a token whose caller is found
// among a hundred conditions.
func BenchmarkAuthenticate(b *testing.B) {
	key := authn.NewKey()
	issuer := &login{keys: public()}
	condition, err := authn.CompileCondition(`claims.repository == "acme/deploy" && claims.ref == "refs/heads/main"`)
	if err != nil {
		b.Fatal(err)
	}
	rules := append([]authn.TokenRule(nil), ruled...)
	for i := range 100 {
		rules = append(rules, authn.TokenRule{Issuer: "login", Condition: condition, Principal: &principal.Principal{Team: fmt.Sprint(i), Caller: "x"}})
	}
	few := open(b, authn.Config{Issuers: []authn.IssuerConfig{issuer.config()}, Tokens: ruled, Keys: []authn.Credential{{Hash: authn.HashKey(key), Principal: bot}}})
	many := open(b, authn.Config{Issuers: []authn.IssuerConfig{issuer.config()}, Tokens: rules})
	es := sign(b, jose.ES256, ecKey(), "ec", claimed(nil))
	for name, test := range map[string]struct {
		a     *authn.Authenticator
		token string
	}{
		"key":                         {few, key},
		"ES256":                       {few, es},
		"RS256":                       {few, sign(b, jose.RS256, rsaKey(), "rsa", claimed(nil))},
		"EdDSA":                       {few, sign(b, jose.EdDSA, edKey(), "ed", claimed(nil))},
		"ES256, a hundred conditions": {many, es},
		"forged":                      {few, es[:len(es)-4] + "AAAA"},
	} {
		b.Run(name, func(b *testing.B) {
			r := (&http.Request{Header: http.Header{"Authorization": {"Bearer " + test.token}}}).WithContext(b.Context())
			for b.Loop() {
				if _, err := test.a.Authenticate(r); (err != nil) != (name == "forged") {
					b.Fatal(err)
				}
			}
		})
	}
}
