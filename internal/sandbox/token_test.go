package sandbox_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	jwtType       = "urn:ietf:params:oauth:token-type:jwt"
)

// A grant is an answer of the token endpoint, good or bad.
type grant struct {
	AccessToken      string `json:"access_token"`
	TokenType        string `json:"token_type"`
	ExpiresIn        int    `json:"expires_in"`
	IssuedTokenType  string `json:"issued_token_type"`
	Error            string `json:"error"`
	ErrorDescription string `json:"error_description"`
}

// exchange posts form to the token endpoint. change may be nil.
func (h *harness) exchange(form url.Values, change func(*http.Request)) (reply, grant) {
	h.t.Helper()
	request, err := http.NewRequestWithContext(h.t.Context(), "POST", h.URL()+sandbox.TokenPath, strings.NewReader(form.Encode()))
	if err != nil {
		h.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if change != nil {
		change(request)
	}
	got := h.do(request)
	var g grant
	if err := json.Unmarshal([]byte(got.body), &g); got.err != nil || err != nil {
		h.t.Fatalf("got %q, %v, %v", got.body, got.err, err)
	}
	return got, g
}

// clientKey is the private key in the sandbox's client secret.
func clientKey(t *testing.T, secret string) ed25519.PrivateKey {
	t.Helper()
	parts := strings.Split(secret, ":")
	text, err := base64.RawURLEncoding.DecodeString(parts[len(parts)-1])
	var key jose.JSONWebKey
	if err != nil || len(parts) != 4 || key.UnmarshalJSON(text) != nil {
		t.Fatalf("the secret is not of C1's form: %v", err)
	}
	private, ok := key.Key.(ed25519.PrivateKey)
	if !ok {
		t.Fatalf("the key is a %T", key.Key)
	}
	return private
}

// goodClaims are those of an assertion that the sandbox takes.
func goodClaims(facts sandbox.Facts) map[string]any {
	now := time.Now()
	return map[string]any{
		"iss": facts.ClientID, "sub": facts.ClientID, "aud": facts.Host, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Add(-2 * time.Minute).Unix(), "exp": now.Add(2 * time.Minute).Unix(),
	}
}

func sign(t *testing.T, algorithm jose.SignatureAlgorithm, key any, header, claims map[string]any) string {
	t.Helper()
	options := &jose.SignerOptions{}
	for name, value := range header {
		options.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func assertionForm(facts sandbox.Facts, assertion string) url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "client_id": {facts.ClientID},
		"client_assertion_type": {assertionType}, "client_assertion": {assertion},
	}
}

// TestCredentials asks for a token in each of the ways, and calls with it.
func TestCredentials(t *testing.T) {
	h := start(t, sandbox.Config{TokenLifetime: time.Hour})
	facts := h.Facts()
	key := clientKey(t, facts.ClientSecret)
	subject, err := h.SubjectToken(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	headerNonce := goodClaims(facts)
	delete(headerNonce, "jti")
	claimNonce := maps.Clone(headerNonce)
	claimNonce["nonce"] = rand.Text()
	for name, form := range map[string]url.Values{
		"assertion with jti":          assertionForm(facts, sign(t, jose.EdDSA, key, nil, goodClaims(facts))),
		"assertion with nonce header": assertionForm(facts, sign(t, jose.EdDSA, key, map[string]any{"nonce": rand.Text()}, headerNonce)),
		"assertion with nonce claim":  assertionForm(facts, sign(t, jose.EdDSA, key, nil, claimNonce)),
		"key's secret in the body":    {"grant_type": {"client_credentials"}, "client_id": {facts.ClientID}, "client_secret": {facts.ClientSecret}},
		"plain secret in the body":    {"grant_type": {"client_credentials"}, "client_id": {facts.PlainClientID}, "client_secret": {facts.PlainClientSecret}},
		"federation":                  {"grant_type": {exchangeGrant}, "client_id": {facts.FederationClientID}, "subject_token": {subject}, "subject_token_type": {jwtType}},
	} {
		t.Run(name, func(t *testing.T) {
			h.Reset()
			got, g := h.exchange(form, nil)
			if got.status != 200 || g.TokenType != "Bearer" || g.ExpiresIn != 3600 || g.AccessToken == "" || got.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("got %d %+v", got.status, g)
			}
			if h.TokenHits() != 1 || h.Acts(sandbox.TokenEndpoint) != 1 || h.Hits() != 0 {
				t.Errorf("counted %d, %d, %d", h.TokenHits(), h.Acts(sandbox.TokenEndpoint), h.Hits())
			}
			h.token = g.AccessToken
			h.call("GET", connectorPath, "").want(t, 200, -1)
			h.RevokeAll()
			h.call("GET", connectorPath, "").want(t, 401, 16)
		})
	}
}

func TestSubjectTokenAgain(t *testing.T) {
	h := start(t, sandbox.Config{})
	subject, err := h.SubjectToken(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"grant_type": {exchangeGrant}, "client_id": {h.Facts().FederationClientID}, "subject_token": {subject}, "subject_token_type": {jwtType}}
	for range 2 {
		if got, g := h.exchange(form, nil); got.status != 200 || g.IssuedTokenType == "" {
			t.Errorf("got %d %+v", got.status, g)
		}
	}
}

// TestAssertionRefusals changes one thing at a time in an assertion that is good.
func TestAssertionRefusals(t *testing.T) {
	h := start(t, sandbox.Config{})
	facts := h.Facts()
	key := clientKey(t, facts.ClientSecret)
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for _, test := range []struct {
		name   string
		change map[string]any // of the claims; nil deletes
		reason string         // part of the description
	}{
		{"iss of another", map[string]any{"iss": facts.PlainClientID}, "iss and sub"},
		{"sub of another", map[string]any{"sub": "someone"}, "iss and sub"},
		{"no iss", map[string]any{"iss": nil}, "iss and sub"},
		{"aud with port", map[string]any{"aud": strings.TrimPrefix(h.URL(), "http://")}, "aud"},
		{"aud is the URL", map[string]any{"aud": h.URL() + sandbox.TokenPath}, "aud"},
		{"aud of another", map[string]any{"aud": "acme.conductor.one"}, "aud"},
		{"two auds", map[string]any{"aud": []string{facts.Host, "acme.conductor.one"}}, "aud"},
		{"no aud", map[string]any{"aud": nil}, "aud"},
		{"expired", map[string]any{"exp": at(-2 * time.Second)}, "expired"},
		{"exp too far", map[string]any{"exp": at(6 * time.Minute)}, "exp"},
		{"no exp", map[string]any{"exp": nil}, "exp"},
		{"no iat", map[string]any{"iat": nil}, "iat"},
		{"iat ahead", map[string]any{"iat": at(time.Minute)}, "iat"},
		{"iat long ago", map[string]any{"iat": at(-6 * time.Minute)}, "iat"},
		{"nbf ahead", map[string]any{"nbf": at(5 * time.Second)}, "nbf"},
		{"nothing unique", map[string]any{"jti": nil}, "jti"},
	} {
		t.Run(test.name, func(t *testing.T) {
			claims := goodClaims(facts)
			for name, value := range test.change {
				if claims[name] = value; value == nil {
					delete(claims, name)
				}
			}
			got, g := h.exchange(assertionForm(facts, sign(t, jose.EdDSA, key, nil, claims)), nil)
			if got.status != 401 || g.Error != "invalid_client" || !strings.Contains(g.ErrorDescription, test.reason) || g.AccessToken != "" {
				t.Errorf("got %d %+v", got.status, g)
			}
		})
	}
	good := sign(t, jose.EdDSA, key, nil, goodClaims(facts))
	for name, assertion := range map[string]string{
		"another key":        sign(t, jose.EdDSA, stranger, nil, goodClaims(facts)),
		"HS256 with the key": sign(t, jose.HS256, []byte(key.Public().(ed25519.PublicKey)), nil, goodClaims(facts)),
		"alg none":           base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(good, ".")[1] + ".",
		"cut signature":      good[:len(good)-4],
		"no JWT":             "hello",
	} {
		if got, g := h.exchange(assertionForm(facts, assertion), nil); got.status != 401 || g.Error != "invalid_client" {
			t.Errorf("%s: got %d %+v", name, got.status, g)
		}
	}
	if h.Acts(sandbox.TokenEndpoint) != 0 {
		t.Error("a token was issued")
	}
}

func TestAssertionReplay(t *testing.T) {
	h := start(t, sandbox.Config{})
	facts := h.Facts()
	key := clientKey(t, facts.ClientSecret)
	claims := goodClaims(facts)
	once := assertionForm(facts, sign(t, jose.EdDSA, key, nil, claims))
	if got, g := h.exchange(once, nil); got.status != 200 {
		t.Fatalf("got %+v", g)
	}
	claims["exp"] = time.Now().Add(time.Minute).Unix() // another assertion, the same jti
	for name, form := range map[string]url.Values{
		"same assertion": once,
		"same jti":       assertionForm(facts, sign(t, jose.EdDSA, key, map[string]any{"nonce": rand.Text()}, claims)),
	} {
		if got, g := h.exchange(form, nil); got.status != 401 || !strings.Contains(g.ErrorDescription, "used before") {
			t.Errorf("%s: got %d %+v", name, got.status, g)
		}
	}
}

// TestFormRefusals sends what is no proper request, with a good secret in it.
func TestFormRefusals(t *testing.T) {
	h := start(t, sandbox.Config{})
	facts := h.Facts()
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	expired, err := h.SubjectToken(-time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		form   url.Values // over the good one; nil deletes
		change func(*http.Request)
		status int
		code   string
	}{
		{"credential in the header", nil, func(r *http.Request) { r.SetBasicAuth(facts.PlainClientID, facts.PlainClientSecret) }, 401, "invalid_client"},
		{"a token in the header", nil, header("Authorization", "Bearer "+facts.StaticToken), 401, "invalid_client"},
		{"in the query", nil, func(r *http.Request) { r.URL.RawQuery = "client_id=x" }, 400, "invalid_request"},
		{"JSON", nil, header("Content-Type", "application/json"), 400, "invalid_request"},
		{"GET", nil, func(r *http.Request) { r.Method, r.Body, r.ContentLength = "GET", http.NoBody, 0 }, 405, "invalid_request"},
		{"no grant", url.Values{"grant_type": nil}, nil, 400, "invalid_request"},
		{"other grant", url.Values{"grant_type": {"password"}}, nil, 400, "unsupported_grant_type"},
		{"client twice", url.Values{"client_id": {facts.PlainClientID, facts.PlainClientID}}, nil, 400, "invalid_request"},
		{"unknown client", url.Values{"client_id": {"someone"}}, nil, 401, "invalid_client"},
		{"wrong secret", url.Values{"client_secret": {"wrong"}}, nil, 401, "invalid_client"},
		{"no secret", url.Values{"client_secret": nil}, nil, 401, "invalid_client"},
		{"other client's secret", url.Values{"client_id": {facts.ClientID}}, nil, 401, "invalid_client"},
		{"secret and assertion", url.Values{"client_assertion": {"x"}, "client_assertion_type": {assertionType}}, nil, 400, "invalid_request"},
		{"assertion without type", url.Values{"client_secret": nil, "client_assertion": {"x"}}, nil, 400, "invalid_request"},
		{"assertion without key", url.Values{"client_secret": nil, "client_assertion": {"x"}, "client_assertion_type": {assertionType}}, nil, 401, "invalid_client"},
		{"federation without secret", url.Values{"client_id": {facts.FederationClientID}, "client_secret": nil}, nil, 401, "invalid_client"},
		{"exchange by another client", url.Values{"grant_type": {exchangeGrant}}, nil, 401, "invalid_client"},
		{"exchange of another type", url.Values{"grant_type": {exchangeGrant}, "client_id": {facts.FederationClientID}}, nil, 400, "invalid_request"},
		{"exchange of an expired token", url.Values{"grant_type": {exchangeGrant}, "client_id": {facts.FederationClientID}, "subject_token": {expired}, "subject_token_type": {jwtType}}, nil, 400, "invalid_request"},
		{"exchange of nonsense", url.Values{"grant_type": {exchangeGrant}, "client_id": {facts.FederationClientID}, "subject_token": {"x"}, "subject_token_type": {jwtType}}, nil, 400, "invalid_request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			form := url.Values{"grant_type": {"client_credentials"}, "client_id": {facts.PlainClientID}, "client_secret": {facts.PlainClientSecret}}
			maps.Copy(form, test.form)
			got, g := h.exchange(form, test.change)
			if got.status != test.status || g.Error != test.code || g.AccessToken != "" {
				t.Errorf("got %d %+v, want %d %s", got.status, g, test.status, test.code)
			}
		})
	}
	if h.Acts(sandbox.TokenEndpoint) != 0 || h.TokenHits() == 0 {
		t.Errorf("%d tokens issued at %d hits", h.Acts(sandbox.TokenEndpoint), h.TokenHits())
	}
}

func plainForm(facts sandbox.Facts) url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {facts.PlainClientID}, "client_secret": {facts.PlainClientSecret}}
}

func TestAuthorization(t *testing.T) {
	h := start(t, sandbox.Config{})
	static := h.Facts().StaticToken
	for name, test := range map[string]struct {
		values []string
		status int
	}{
		"good":        {[]string{"Bearer " + static}, 200},
		"lower case":  {[]string{"bearer " + static}, 200},
		"none":        {nil, 401},
		"twice":       {[]string{"Bearer " + static, "Bearer " + static}, 401},
		"unknown":     {[]string{"Bearer x" + static}, 401},
		"empty":       {[]string{"Bearer "}, 401},
		"DPoP":        {[]string{"DPoP " + static}, 401},
		"only scheme": {[]string{"Bearer"}, 401},
	} {
		request, err := http.NewRequestWithContext(t.Context(), "GET", h.URL()+connectorPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header["Authorization"] = test.values
		got := h.do(request)
		if got.status != test.status || test.status == 401 && (got.code() != 16 || got.header.Get("WWW-Authenticate") == "") {
			t.Errorf("%s: got %d %s", name, got.status, got.body)
		}
		if accepted := h.last().Accepted; accepted != (test.status == 200) {
			t.Errorf("%s: accepted: %v", name, accepted)
		}
	}
	if diff := cmp.Diff([]int{8, 2}, []int{h.Hits(), h.AcceptedHits()}); diff != "" {
		t.Errorf("hits (-want +got):\n%s", diff)
	}
}

// TestClockSkew sees a C1 whose clock is ahead refuse a good assertion, and
// say so in its Date header.
func TestClockSkew(t *testing.T) {
	h := start(t, sandbox.Config{ClockSkew: 10 * time.Minute})
	facts := h.Facts()
	got, g := h.exchange(assertionForm(facts, sign(t, jose.EdDSA, clientKey(t, facts.ClientSecret), nil, goodClaims(facts))), nil)
	if g.Error != "invalid_client" || !strings.Contains(g.ErrorDescription, "expired") {
		t.Errorf("got %+v", g)
	}
	date, err := http.ParseTime(got.header.Get("Date"))
	if ahead := time.Until(date); err != nil || ahead < 9*time.Minute || ahead > 11*time.Minute {
		t.Errorf("the Date is %v ahead, %v", ahead, err)
	}
}

func TestGivenClient(t *testing.T) {
	first, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	given := sandbox.Config{ClientID: "witty-crow-1@localhost/spc", ClientSecret: first.Facts().ClientSecret}
	second, err := sandbox.New(given)
	if err != nil || second.Facts().ClientID != given.ClientID || second.Facts().ClientSecret != given.ClientSecret {
		t.Errorf("got %+v, %v", second.Facts(), err)
	}
	for name, config := range map[string]sandbox.Config{
		"no secret":  {ClientID: "x@localhost/spc"},
		"no id":      {ClientSecret: given.ClientSecret},
		"no key":     {ClientID: "x@localhost/spc", ClientSecret: "secret-token:conductorone.com:v1:eHh4"},
		"no prefix":  {ClientID: "x@localhost/spc", ClientSecret: strings.TrimPrefix(given.ClientSecret, "secret-token:")},
		"public key": {ClientID: "x@localhost/spc", ClientSecret: publicSecret(t, given.ClientSecret)},
	} {
		if _, err := sandbox.New(config); err == nil || strings.Contains(err.Error(), "eHh4") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func publicSecret(t *testing.T, secret string) string {
	t.Helper()
	text, err := jose.JSONWebKey{Key: clientKey(t, secret).Public()}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return "secret-token:conductorone.com:v1:" + base64.RawURLEncoding.EncodeToString(text)
}
