package authn_test

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/principal"
)

func public() map[string]crypto.PublicKey {
	return map[string]crypto.PublicKey{"ec": ecKey().Public(), "rsa": rsaKey().Public(), "ed": edKey().Public(), "long": longEC().Public()}
}

// b64 writes a part of a forged token.
func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// forge signs a token whose header is written by hand.
func forge(t *testing.T, header string, claims map[string]any) string {
	t.Helper()
	good := sign(t, jose.ES256, ecKey(), "ec", claims)
	parts := strings.Split(good, ".")
	return b64(header) + "." + parts[1] + "." + parts[2]
}

// What is wrong with a token is found, and nothing else is let in. Nothing that
// a token names is fetched.
func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := &login{keys: public()}
		a := open(t, authn.Config{Issuers: []authn.IssuerConfig{issuer.config()}, Tokens: ruled})
		defer a.Close()
		now := time.Now()
		ec := func(change map[string]any, header ...any) string {
			return sign(t, jose.ES256, ecKey(), "ec", claimed(change), header...)
		}
		der, _ := x509.MarshalPKIXPublicKey(rsaKey().Public())
		publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		jwk, _ := json.Marshal(jose.JSONWebKey{Key: otherEC().Public(), KeyID: "ec"})
		duplicated := strings.Replace(string(must(json.Marshal(claimed(nil)))), `"aud":"c1proxy"`, `"aud":"other","aud":"c1proxy"`, 1)
		at := func(d time.Duration) int64 { return now.Add(d).Unix() }
		for name, test := range map[string]struct{ token, want string }{
			"ES256":               {ec(nil), ""},
			"RS256":               {sign(t, jose.RS256, rsaKey(), "rsa", claimed(nil)), ""},
			"EdDSA":               {sign(t, jose.EdDSA, edKey(), "ed", claimed(nil)), ""},
			"typ at+jwt":          {ec(nil, "typ", "at+jwt"), ""},
			"typ JWT":             {ec(nil, "typ", "JWT"), ""},
			"aud in a list":       {ec(map[string]any{"aud": []string{"x", "c1proxy"}}), ""},
			"no iat":              {ec(map[string]any{"iat": nil}), ""},
			"exp in the leeway":   {ec(map[string]any{"exp": at(-29 * time.Second), "iat": at(-time.Minute)}), ""},
			"nbf in the leeway":   {ec(map[string]any{"nbf": at(29 * time.Second)}), ""},
			"iat in the leeway":   {ec(map[string]any{"iat": at(29 * time.Second)}), ""},
			"as long as accepted": {ec(map[string]any{"exp": at(time.Hour)}), ""},

			"alg none":               {b64(`{"alg":"none","kid":"ec"}`) + "." + b64(string(must(json.Marshal(claimed(nil))))) + ".", "UNAUTHENTICATED form"},
			"alg NONE":               {forge(t, `{"alg":"NONE","kid":"ec"}`, claimed(nil)), "UNAUTHENTICATED form"},
			"alg in other letters":   {forge(t, `{"alg":"es256","kid":"ec"}`, claimed(nil)), "UNAUTHENTICATED form"},
			"HS256 by the RSA key":   {sign(t, jose.HS256, publicPEM, "rsa", claimed(nil)), "UNAUTHENTICATED form"},
			"HS256 by its DER":       {sign(t, jose.HS256, der, "rsa", claimed(nil)), "UNAUTHENTICATED form"},
			"ES256 by P-384":         {sign(t, jose.ES384, longEC(), "long", claimed(nil)), "UNAUTHENTICATED form"},
			"ES256 with P-384's kid": {sign(t, jose.ES256, ecKey(), "long", claimed(nil)), "UNAUTHENTICATED signature"},
			"ES256 with RSA's kid":   {sign(t, jose.ES256, ecKey(), "rsa", claimed(nil)), "UNAUTHENTICATED signature"},
			"PS256":                  {sign(t, jose.PS256, rsaKey(), "rsa", claimed(nil)), "UNAUTHENTICATED form"},
			"another key":            {sign(t, jose.ES256, otherEC(), "ec", claimed(nil)), "UNAUTHENTICATED signature"},
			"b64":                    {forge(t, `{"alg":"ES256","kid":"ec","b64":false,"crit":["b64"]}`, claimed(nil)), "UNAUTHENTICATED header"},
			"b64 true":               {ec(nil, "b64", true), "UNAUTHENTICATED header"},
			"crit":                   {forge(t, `{"alg":"ES256","kid":"ec","crit":["x"],"x":1}`, claimed(nil)), "UNAUTHENTICATED header"},
			"jku":                    {ec(nil, "jku", loginURL+"/evil"), "UNAUTHENTICATED header"},
			"x5u":                    {ec(nil, "x5u", loginURL+"/evil"), "UNAUTHENTICATED header"},
			"x5c":                    {ec(nil, "x5c", []string{"AA=="}), "UNAUTHENTICATED header"},
			"jwk":                    {sign(t, jose.ES256, otherEC(), "ec", claimed(nil), "jwk", json.RawMessage(jwk)), "UNAUTHENTICATED header"},
			"another purpose":        {ec(nil, "typ", "logout+jwt"), "UNAUTHENTICATED header"},
			"no kid":                 {sign(t, jose.ES256, ecKey(), "", claimed(nil)), "UNAUTHENTICATED header"},
			"kid of a file":          {sign(t, jose.ES256, ecKey(), "../../etc/passwd", claimed(nil)), "UNAUTHENTICATED kid"},
			"kid too long":           {sign(t, jose.ES256, ecKey(), strings.Repeat("k", 300), claimed(nil)), "UNAUTHENTICATED header"},
			"kid a number":           {forge(t, `{"alg":"ES256","kid":1}`, claimed(nil)), "UNAUTHENTICATED header"},
			"kid twice":              {forge(t, `{"alg":"ES256","kid":"rsa","kid":"ec"}`, claimed(nil)), "UNAUTHENTICATED header"},
			"kid in other letters":   {forge(t, `{"alg":"ES256","KID":"ec"}`, claimed(nil)), "UNAUTHENTICATED header"},
			"huge kid":               {sign(t, jose.ES256, ecKey(), strings.Repeat("k", 1<<20), claimed(nil)), "UNAUTHENTICATED length"},
			"no signature":           {ec(nil)[:strings.LastIndexByte(ec(nil), '.')+1], "UNAUTHENTICATED signature"},
			"two parts":              {"a.b", "UNAUTHENTICATED header"},
			"many parts":             {strings.Repeat("a.", 4000), "UNAUTHENTICATED header"},
			"five parts":             {"a.b.c.d.e", "UNAUTHENTICATED header"},
			"no JSON":                {b64("x") + "." + b64("y") + "." + b64("z"), "UNAUTHENTICATED header"},
			"padded":                 {strings.Replace(ec(nil), ".", "=.", 1), "UNAUTHENTICATED header"},

			"expired":              {ec(map[string]any{"exp": at(-31 * time.Second), "iat": at(-time.Minute)}), "UNAUTHENTICATED exp"},
			"no exp":               {ec(map[string]any{"exp": nil}), "UNAUTHENTICATED exp"},
			"exp in words":         {ec(map[string]any{"exp": fmt.Sprint(at(time.Minute))}), "UNAUTHENTICATED exp"},
			"exp without end":      {ec(map[string]any{"exp": 1e300}), "UNAUTHENTICATED exp"},
			"nbf to come":          {ec(map[string]any{"nbf": at(31 * time.Second)}), "UNAUTHENTICATED nbf"},
			"iat to come":          {ec(map[string]any{"iat": at(31 * time.Second)}), "UNAUTHENTICATED iat"},
			"iat null":             {sign(t, jose.ES256, ecKey(), "ec", map[string]any{"iss": loginURL, "aud": "c1proxy", "exp": at(time.Minute), "iat": nil}), "UNAUTHENTICATED iat"},
			"too long a life":      {ec(map[string]any{"exp": at(time.Hour + time.Second)}), "UNAUTHENTICATED lifetime"},
			"too long without iat": {ec(map[string]any{"exp": at(time.Hour + time.Second), "iat": nil}), "UNAUTHENTICATED lifetime"},
			"no aud":               {ec(map[string]any{"aud": nil}), "UNAUTHENTICATED aud"},
			"aud longer":           {ec(map[string]any{"aud": "c1proxy-staging"}), "UNAUTHENTICATED aud"},
			"aud in other letters": {ec(map[string]any{"aud": "C1proxy"}), "UNAUTHENTICATED aud"},
			"aud of others":        {ec(map[string]any{"aud": []any{"x", 1, nil, []string{"c1proxy"}}}), "UNAUTHENTICATED aud"},
			"aud empty":            {ec(map[string]any{"aud": ""}), "UNAUTHENTICATED aud"},
			"aud twice":            {signRaw(t, duplicated), "UNAUTHENTICATED form"},
			"iss with a slash":     {ec(map[string]any{"iss": loginURL + "/"}), "UNAUTHENTICATED iss"},
			"iss of another":       {ec(map[string]any{"iss": "https://evil.example.com"}), "UNAUTHENTICATED iss"},
			"no iss":               {ec(map[string]any{"iss": nil}), "UNAUTHENTICATED iss"},
			"bound to a key":       {ec(map[string]any{"cnf": map[string]string{"jkt": "x"}}), "UNAUTHENTICATED cnf"},
			"claims are a list":    {signRaw(t, "[1]"), "UNAUTHENTICATED form"},
			"another subject":      {ec(map[string]any{"sub": "other"}), "CALLER_UNKNOWN"},
			"no subject":           {ec(map[string]any{"sub": nil}), "CALLER_UNKNOWN"},
			"subject a prefix":     {ec(map[string]any{"sub": defaultSub + "x"}), "CALLER_UNKNOWN"},
		} {
			if got := show(t, a, test.token); got != test.want {
				t.Errorf("%s: got %q, want %q", name, got, test.want)
			}
		}
		if issuer.hits["/realm/evil"] != 0 || issuer.total() > 4 {
			t.Errorf("fetches: %v", issuer.hits)
		}
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// signRaw signs a payload as it is.
func signRaw(t *testing.T, payload string) string {
	t.Helper()
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: ecKey()}, (&jose.SignerOptions{}).WithHeader("kid", "ec")))
	return must(must(signer.Sign([]byte(payload))).CompactSerialize())
}

// The principal of a token is the caller, and has the token's claims.
func TestTokenPrincipal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := &login{keys: public()}
		a := open(t, authn.Config{Issuers: []authn.IssuerConfig{issuer.config()}, Tokens: ruled})
		defer a.Close()
		r := (&http.Request{Header: http.Header{"Authorization": {"bearer " + sign(t, jose.RS256, rsaKey(), "rsa", claimed(map[string]any{"groups": []string{"x"}}))}}})
		who, err := a.Authenticate(r)
		if err != nil || who.Caller != "sync-bot" || who.Team != "payments" || who.Tenant != "acme" || who.Credential != "oidc:login:rsa" || who.Subject != defaultSub {
			t.Errorf("got %+v, %v", who, err)
		}
		if groups, _ := who.Claims["groups"].([]any); len(groups) != 1 || groups[0] != "x" || bot.Claims != nil {
			t.Errorf("claims %v", who.Claims)
		}
	})
}

// A key is the issuer's that has it, whoever a token says that it is from.
func TestKeyIsBoundToIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &login{keys: public()}, &login{keys: map[string]crypto.PublicKey{"ec": otherEC().Public()}}
		other := second.config()
		other.Algorithms = []string{"ES256"}
		other.Name, other.URL, second.issuer = "other", "https://other.example.com/realm", "https://other.example.com/realm"
		a := open(t, authn.Config{Issuers: []authn.IssuerConfig{first.config(), other}, Tokens: append([]authn.TokenRule{
			{Issuer: "other", Subject: defaultSub, Principal: &principal.Principal{Team: "x", Caller: "y"}}}, ruled...)})
		defer a.Close()
		if got := show(t, a, sign(t, jose.ES256, otherEC(), "ec", claimed(nil))); got != "UNAUTHENTICATED signature" {
			t.Errorf("the other's key for the first: %q", got)
		}
		if got := show(t, a, sign(t, jose.ES256, otherEC(), "ec", claimed(map[string]any{"iss": other.URL}))); got != "" {
			t.Errorf("its own: %q", got)
		}
		second.publish(map[string]crypto.PublicKey{"rsa": rsaKey().Public()})
		if got := show(t, a, sign(t, jose.RS256, rsaKey(), "rsa", claimed(map[string]any{"iss": other.URL}))); got != "UNAUTHENTICATED alg" {
			t.Errorf("an algorithm of the first's: %q", got)
		}
	})
}

// Conditions hold or do not; one that fails does not.
func TestConditions(t *testing.T) {
	deep := map[string]any{"a": []any{1.0, 2.0, 3.0}, "s": "abc", "t": true, "n": nil, "m": map[string]any{"k": "v"}}
	for text, want := range map[string]bool{
		`claims.s == "abc"`:                           true,
		`claims.s.startsWith("ab")`:                   true,
		`claims.s == "x" || claims.t == true`:         true,
		`2 in claims.a`:                               true,
		`claims.a.exists(x, x == 3)`:                  true,
		`"k" in claims.m && claims.m.k == "v"`:        true,
		`has(claims.missing)`:                         false,
		`claims.missing == "x"`:                       false,
		`claims.s > 1`:                                false,
		`claims.s.k == "x"`:                           false,
		`!(claims.missing == "x")`:                    false,
		`claims.n == null`:                            true,
		`claims.a.all(x, claims.a.all(y, x + y > 0))`: true,
		`["0","1","2","3","4","5","6","7","8","9"].all(a, ["0","1","2","3","4","5","6","7","8","9"].all(b, ["0","1","2","3","4","5","6","7","8","9"].all(c, ["0","1","2","3","4","5","6","7","8","9"].all(d, ["0","1","2","3","4","5","6","7","8","9"].all(e, a+b+c+d+e+claims.s != "")))))`: false, // costs too much
	} {
		condition, err := authn.CompileCondition(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := condition.Holds(deep); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
	for text, want := range map[string]string{
		`claims.s`:                  "is of type dyn",
		`"x"`:                       "is of type string",
		`claims.s == `:              "is no CEL expression over claims: 1:",
		`claim.s == "x"`:            "undeclared reference to 'claim'",
		`claims.s.match("x")`:       "undeclared reference to 'match'",
		"true\n&& claims[1] == 'x'": "2:",
		strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200): "recursion",
	} {
		if _, err := authn.CompileCondition(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

// FuzzToken: whatever is shown, nobody is let in by it, and nothing panics.
func FuzzToken(f *testing.F) {
	issuer := &login{keys: public()}
	a := open(f, authn.Config{Issuers: []authn.IssuerConfig{issuer.config()}, Tokens: ruled})
	claims := string(must(json.Marshal(claimed(nil))))
	for _, header := range []string{`{"alg":"none"}`, `{"alg":"ES256","kid":"ec"}`, `{"alg":"RS256","kid":"rsa"}`, `{"alg":"EdDSA","kid":"ed"}`, `{"alg":"ES256","kid":"ec","crit":["b64"]}`} {
		f.Add(header, claims, "AA")
	}
	f.Fuzz(func(t *testing.T, header, claims, signature string) {
		for _, token := range []string{b64(header) + "." + b64(claims) + "." + signature, header + "." + claims + "." + signature, header} {
			who, err := a.Authenticate((&http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}}).WithContext(t.Context()))
			if err == nil || who != nil && who.Team != "" {
				t.Fatalf("%q was let in as %+v", token, who)
			}
		}
	})
}
