package sandbox_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// listPath takes a query.
const listPath = "/api/v1/apps/" + sandbox.AppID + "/connectors"

// A dpopClient is a client that proves possession of a key, made by hand.
type dpopClient struct {
	h   *harness
	key *ecdsa.PrivateKey
}

func newDPoPClient(t *testing.T, h *harness) *dpopClient {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &dpopClient{h, key}
}

// claims are those of a good proof. A token makes an ath.
func (c *dpopClient) claims(method, target, token string) map[string]any {
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": c.h.URL() + target, "iat": time.Now().Unix()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return claims
}

// sign makes a proof of claims. header is what differs in it.
func (c *dpopClient) sign(claims, header map[string]any) string {
	head := map[string]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: c.key.Public()}}
	maps.Copy(head, header)
	return sign(c.h.t, jose.ES256, c.key, head, claims)
}

// form is the token request of the client that needs DPoP.
func (c *dpopClient) form() url.Values {
	facts := c.h.Facts()
	facts.ClientID = facts.DPoPClientID
	return assertionForm(facts, sign(c.h.t, jose.EdDSA, clientKey(c.h.t, facts.DPoPClientSecret), nil, goodClaims(facts)))
}

// token asks for a token with a proof.
func (c *dpopClient) token(proof string) (reply, grant) {
	return c.h.exchange(c.form(), func(r *http.Request) { r.Header["DPoP"] = []string{proof} })
}

// call makes a call of the API.
func (c *dpopClient) call(authorization string, proofs ...string) reply {
	c.h.t.Helper()
	r, err := http.NewRequestWithContext(c.h.t.Context(), "GET", c.h.URL()+listPath+"?page_size=1", nil)
	if err != nil {
		c.h.t.Fatal(err)
	}
	r.Header.Set("Authorization", authorization)
	r.Header["Dpop"] = proofs
	return c.h.do(r)
}

// edit is claims with one of them changed, or, by nil, left out.
func edit(claims map[string]any, name string, value any) map[string]any {
	claims[name] = value
	if value == nil {
		delete(claims, name)
	}
	return claims
}

// TestDPoP: a bound token is had and used with proofs, and with nothing else.
func TestDPoP(t *testing.T) {
	h := start(t, sandbox.Config{})
	c, other := newDPoPClient(t, h), newDPoPClient(t, h)
	if got, g := h.exchange(c.form(), nil); got.status != 400 || g.Error != "invalid_dpop_proof" {
		t.Errorf("a token request without proof: %d %+v", got.status, g)
	}
	got, g := c.token(c.sign(c.claims("POST", sandbox.TokenPath, ""), nil))
	if got.status != 200 || g.TokenType != "DPoP" {
		t.Fatalf("got %d %+v", got.status, g)
	}
	token := g.AccessToken
	good := func() map[string]any { return c.claims("GET", listPath, token) }
	once := c.sign(good(), nil)
	past := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	for name, tt := range map[string]struct {
		authorization string
		proofs        []string
		status        int
	}{
		"good":                {"DPoP " + token, []string{once}, 200},
		"lower case":          {"dpop " + token, []string{c.sign(good(), nil)}, 200},
		"half a minute ago":   {"DPoP " + token, []string{c.sign(edit(good(), "iat", past(30*time.Second)), nil)}, 200},
		"as Bearer":           {"Bearer " + token, []string{c.sign(good(), nil)}, 401},
		"as Bearer, no proof": {"Bearer " + token, nil, 401},
		"no proof":            {"DPoP " + token, nil, 401},
		"two proofs":          {"DPoP " + token, []string{c.sign(good(), nil), c.sign(good(), nil)}, 401},
		"another's key":       {"DPoP " + token, []string{other.sign(good(), nil)}, 401},
		"key of another":      {"DPoP " + token, []string{c.sign(good(), map[string]any{"jwk": jose.JSONWebKey{Key: other.key.Public()}})}, 401},
		"private key":         {"DPoP " + token, []string{c.sign(good(), map[string]any{"jwk": jose.JSONWebKey{Key: c.key}})}, 401},
		"no typ":              {"DPoP " + token, []string{c.sign(good(), map[string]any{"typ": "JWT"})}, 401},
		"too old":             {"DPoP " + token, []string{c.sign(edit(good(), "iat", past(62*time.Second)), nil)}, 401},
		"too new":             {"DPoP " + token, []string{c.sign(edit(good(), "iat", past(-35*time.Second)), nil)}, 401},
		"iat as text":         {"DPoP " + token, []string{c.sign(edit(good(), "iat", "soon"), nil)}, 401},
		"other method":        {"DPoP " + token, []string{c.sign(edit(good(), "htm", "POST"), nil)}, 401},
		"with query":          {"DPoP " + token, []string{c.sign(edit(good(), "htu", h.URL()+listPath+"?page_size=1"), nil)}, 401},
		"other scheme":        {"DPoP " + token, []string{c.sign(edit(good(), "htu", strings.Replace(h.URL(), "http:", "https:", 1)+listPath), nil)}, 401},
		"other host":          {"DPoP " + token, []string{c.sign(edit(good(), "htu", "http://127.0.0.1"+listPath), nil)}, 401},
		"other token":         {"DPoP " + token, []string{c.sign(c.claims("GET", listPath, "x"), nil)}, 401},
		"no jti":              {"DPoP " + token, []string{c.sign(edit(good(), "jti", nil), nil)}, 401},
		"no htm":              {"DPoP " + token, []string{c.sign(edit(good(), "htm", nil), nil)}, 401},
		"no htu":              {"DPoP " + token, []string{c.sign(edit(good(), "htu", nil), nil)}, 401},
		"no iat":              {"DPoP " + token, []string{c.sign(edit(good(), "iat", nil), nil)}, 401},
		"no ath":              {"DPoP " + token, []string{c.sign(edit(good(), "ath", nil), nil)}, 401},
		"nonsense":            {"DPoP " + token, []string{"a.b.c"}, 401},
	} {
		if got := c.call(tt.authorization, tt.proofs...); got.status != tt.status {
			t.Errorf("%s: got %d %s, want %d", name, got.status, got.body, tt.status)
		} else if www := got.header.Get("WWW-Authenticate"); (www != "") != (tt.status == 401) || strings.Contains(www, "use_dpop_nonce") {
			t.Errorf("%s: challenge %q", name, www)
		}
	}
	if got := c.call("DPoP "+token, once); got.status != 401 || !strings.Contains(got.body, "used before") {
		t.Errorf("a proof sent twice: %d %s", got.status, got.body)
	}
	if got := c.call("DPoP "+h.Facts().StaticToken, c.sign(c.claims("GET", listPath, h.Facts().StaticToken), nil)); got.status != 401 {
		t.Errorf("an unbound token as DPoP: %d", got.status)
	}
}

// TestDPoPAlgorithms: what C1 is said to take, and no RSA.
func TestDPoPAlgorithms(t *testing.T) {
	h := start(t, sandbox.Config{})
	c := newDPoPClient(t, h)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	big, _ := rsa.GenerateKey(rand.Reader, 2048)
	for _, tt := range []struct {
		algorithm   jose.SignatureAlgorithm
		key, public any
		status      int
	}{{jose.EdDSA, ed, ed.Public(), 200}, {jose.RS256, big, big.Public(), 400}, {jose.HS256, []byte(strings.Repeat("k", 32)), c.key.Public(), 400}} {
		head := map[string]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: tt.public}}
		proof := sign(t, tt.algorithm, tt.key, head, c.claims("POST", sandbox.TokenPath, ""))
		if got, g := c.token(proof); got.status != tt.status {
			t.Errorf("%s: got %d %+v, want %d", tt.algorithm, got.status, g, tt.status)
		}
	}
	if got, g := c.token(c.sign(c.claims("POST", sandbox.TokenPath, "x"), nil)); got.status != 400 {
		t.Errorf("ath in a token request: %d %+v", got.status, g)
	}
	// A client that need not, and does.
	if got, g := h.exchange(plainForm(h.Facts()), func(r *http.Request) {
		r.Header.Set("DPoP", c.sign(c.claims("POST", sandbox.TokenPath, ""), nil))
	}); got.status != 200 || g.TokenType != "DPoP" {
		t.Errorf("a proof of a client that need not: %d %+v", got.status, g)
	}
}

// TestDPoPNonces: each server wants its own nonce, tells it with each answer,
// and refuses the one before.
func TestDPoPNonces(t *testing.T) {
	h := start(t, sandbox.Config{})
	c := newDPoPClient(t, h)
	h.DemandNonces()
	got, g := c.token(c.sign(c.claims("POST", sandbox.TokenPath, ""), nil))
	forTokens := got.header.Get("DPoP-Nonce")
	if got.status != 400 || g.Error != "use_dpop_nonce" || forTokens == "" {
		t.Fatalf("without nonce: %d %+v, nonce %q", got.status, g, forTokens)
	}
	got, g = c.token(c.sign(edit(c.claims("POST", sandbox.TokenPath, ""), "nonce", forTokens), nil))
	if got.status != 200 || got.header.Get("DPoP-Nonce") != forTokens {
		t.Fatalf("with nonce: %d %+v", got.status, g)
	}
	call := func(nonce any) reply {
		return c.call("DPoP "+g.AccessToken, c.sign(edit(c.claims("GET", listPath, g.AccessToken), "nonce", nonce), nil))
	}
	nonce := ""
	for i, wrong := range []any{nil, forTokens, "x"} {
		got := call(wrong)
		nonce = got.header.Get("DPoP-Nonce")
		if www := got.header.Get("WWW-Authenticate"); got.status != 401 || !strings.Contains(www, `error="use_dpop_nonce"`) || nonce == "" || nonce == forTokens {
			t.Errorf("%d: %d, challenge %q, nonce %q", i, got.status, www, nonce)
		}
	}
	if got := call(nonce); got.status != 200 || got.header.Get("DPoP-Nonce") != nonce {
		t.Errorf("the right nonce: %d, then %q", got.status, got.header.Get("DPoP-Nonce"))
	}
	h.DemandNonces()
	if got := call(nonce); got.status != 401 || got.header.Get("DPoP-Nonce") == nonce {
		t.Errorf("the nonce before: %d", got.status)
	}
	if hits := h.AcceptedHits(); hits != 1 {
		t.Errorf("%d calls accepted, want 1", hits)
	}
}
