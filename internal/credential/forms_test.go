package credential_test

import (
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/fault"
)

// A tokenServer is a real token endpoint. Check says what is wrong with a
// form; what is right gets token-N, good for 10 minutes.
type tokenServer struct {
	*httptest.Server
	t     *testing.T
	check func(form url.Values) error

	mu    sync.Mutex
	posts int
	peers map[string]bool // the addresses of the connections
}

func newTokenServer(t *testing.T, check func(url.Values) error) *tokenServer {
	s := &tokenServer{t: t, check: check, peers: map[string]bool{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Server.Close)
	return s
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posts++
	s.peers[r.RemoteAddr] = true
	if r.Method != http.MethodPost || r.URL.Path != "/auth/v1/token" || r.URL.RawQuery != "" {
		s.t.Errorf("%s %s, want POST /auth/v1/token", r.Method, r.URL)
	}
	if got := r.Header.Get("Authorization"); got != "" {
		s.t.Errorf("a credential in a header: %q", got)
	}
	w.Header().Set("Content-Type", "application/json")
	err := r.ParseForm()
	if err == nil {
		err = s.check(r.PostForm)
	}
	if err != nil {
		s.t.Logf("refused: %v", err)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client"}`)
		return
	}
	fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"bearer","expires_in":600}`, s.posts)
}

// clientID is one for the server's host, without its port.
func (s *tokenServer) clientID() string { return "clever-fox-42195@127.0.0.1/spc" }

func (s *tokenServer) config() credential.Config {
	return credential.Config{Tenant: "acme", URL: parse(s.URL), ClientID: s.clientID()}
}

// wantForm checks a form's fields, all of them.
func wantForm(form, want url.Values) error {
	if diff := cmp.Diff(want, form); diff != "" {
		return fmt.Errorf("form (-want +got):\n%s", diff)
	}
	return nil
}

// verify checks a client assertion as C1 does: its signature, its claims, and
// that it was never seen before.
func verify(key ed25519.PublicKey, assertion, clientID string, seen map[string]bool) error {
	token, err := jwt.ParseSigned(assertion, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return err
	}
	var claims jwt.Claims
	if err := token.Claims(key, &claims); err != nil {
		return err
	}
	now := time.Now()
	life := claims.Expiry.Time().Sub(claims.IssuedAt.Time())
	back := claims.IssuedAt.Time().Sub(claims.NotBefore.Time())
	head := token.Headers[0]
	switch {
	case claims.Issuer != clientID || claims.Subject != clientID:
		return fmt.Errorf("iss %q, sub %q; want the client id in both", claims.Issuer, claims.Subject)
	case !slices.Equal(claims.Audience, jwt.Audience{"127.0.0.1"}):
		return fmt.Errorf("aud %q, want the host without its port", claims.Audience)
	case life != 2*time.Minute || back != 2*time.Minute || now.Sub(claims.IssuedAt.Time()).Abs() > 5*time.Second:
		return fmt.Errorf("iat %v, exp %v later, nbf %v earlier; want now, 2m and 2m", claims.IssuedAt.Time(), life, back)
	case head.KeyID != "key-1" || len(head.Nonce) < 22 || len(claims.ID) < 22:
		return fmt.Errorf("kid %q, nonce %q, jti %q", head.KeyID, head.Nonce, claims.ID)
	case seen[claims.ID] || seen[head.Nonce]:
		return fmt.Errorf("the assertion was sent before")
	}
	seen[claims.ID], seen[head.Nonce] = true, true
	return nil
}

func TestAssertion(t *testing.T) {
	public, secret := newKey(t)
	seen := map[string]bool{}
	var s *tokenServer
	s = newTokenServer(t, func(form url.Values) error {
		assertion := form.Get("client_assertion")
		want := url.Values{
			"grant_type": {"client_credentials"}, "client_id": {s.clientID()}, "client_assertion": {assertion},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		}
		if err := wantForm(form, want); err != nil {
			return err
		}
		return verify(public, assertion, s.clientID(), seen)
	})
	cfg := s.config()
	cfg.ClientSecret = text(secret + "\n")
	source := newSource(t, cfg)
	for i := range 3 {
		source.Invalidate(want(t, source, fmt.Sprintf("token-%d", i+1)))
	}
	if len(seen) != 6 {
		t.Errorf("%d jtis and nonces seen, want 6", len(seen))
	}
}

func TestSecretInBody(t *testing.T) {
	for _, secret := range []string{
		"opaque", "a&b=c d", "secret-token:conductorone.com:v1:not base64!", "secret-token:conductorone.com:v1:b3BhcXVl",
		"secret-token:conductorone.com:v2:" + strings.Repeat("a", 40), "secret-token:conductorone.com:v1",
	} {
		var s *tokenServer
		s = newTokenServer(t, func(form url.Values) error {
			return wantForm(form, url.Values{
				"grant_type": {"client_credentials"}, "client_id": {s.clientID()}, "client_secret": {secret},
			})
		})
		cfg := s.config()
		cfg.ClientSecret = text(secret)
		want(t, newSource(t, cfg), "token-1")
	}
}

func TestFederation(t *testing.T) {
	var subject string
	var s *tokenServer
	s = newTokenServer(t, func(form url.Values) error {
		return wantForm(form, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "client_id": {s.clientID()},
			"subject_token": {subject}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
		})
	})
	cfg := s.config()
	cfg.SubjectToken = func() (string, error) { return " " + subject + "\n", nil }
	source := newSource(t, cfg)
	subject = "e30.e30.one"
	token := want(t, source, "token-1")
	subject = "e30.e30.two" // the platform has rotated it
	source.Invalidate(token)
	want(t, source, "token-2")
}

// TestRotation: a secret that was replaced on disk is used for the next
// exchange, even if it is of another form.
func TestRotation(t *testing.T) {
	public, signing := newKey(t)
	secret := "opaque-one"
	seen := map[string]bool{}
	var s *tokenServer
	s = newTokenServer(t, func(form url.Values) error {
		if secret == signing {
			return verify(public, form.Get("client_assertion"), s.clientID(), seen)
		}
		if got := form.Get("client_secret"); got != secret {
			return fmt.Errorf("client secret %q, want %q", got, secret)
		}
		return nil
	})
	cfg := s.config()
	cfg.ClientSecret = func() (string, error) { return secret, nil }
	source := newSource(t, cfg)
	for i, next := range []string{"opaque-two", signing, "opaque-three"} {
		source.Invalidate(want(t, source, fmt.Sprintf("token-%d", i+1)))
		secret = next
	}
	want(t, source, "token-4")
}

// TestOtherKeys: a private key that cannot sign is refused, and never sent.
func TestOtherKeys(t *testing.T) {
	public, secret := newKey(t)
	s := newTokenServer(t, func(url.Values) error { return fmt.Errorf("the secret was sent") })
	broken := strings.Replace(secret, "secret-token:conductorone.com:v1:", "", 1)
	for name, secret := range map[string]string{
		"public key only": keySecret(t, jose.JSONWebKey{Key: public}),
		"symmetric key":   keySecret(t, jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef")}),
		"unknown type":    "secret-token:conductorone.com:v1:" + "eyJrdHkiOiJYIn0",
		"no d":            "secret-token:conductorone.com:v1:" + "eyJrdHkiOiJPS1AiLCJjcnYiOiJFZDI1NTE5In0",
	} {
		cfg := s.config()
		cfg.ClientSecret = text(secret)
		_, err := newSource(t, cfg).Token(t.Context())
		f := wantFault(t, err, connect.CodeUnavailable, fault.TokenUnavailable)
		if !strings.Contains(f.Error(), "JWK is not an Ed25519 private key") {
			t.Errorf("%s: %v", name, f)
		}
		if strings.Contains(f.Error(), broken) {
			t.Errorf("%s: the error has the key in it", name)
		}
	}
	if s.posts != 0 {
		t.Errorf("%d POSTs, want none", s.posts)
	}
}

// TestUnreadable: a secret that cannot be read is an unavailable token. The
// file is named in the log alone.
func TestUnreadable(t *testing.T) {
	s := newTokenServer(t, func(url.Values) error { return nil })
	for name, source := range map[string]func() (string, error){
		"no file":  func() (string, error) { return "", fmt.Errorf("open /run/secret: no such file") },
		"empty":    text(" \n"),
		"too long": text(strings.Repeat("x", 17<<10)),
	} {
		for i, set := range []func(*credential.Config){
			func(c *credential.Config) { c.ClientSecret = source },
			func(c *credential.Config) { c.SubjectToken = source },
			func(c *credential.Config) { c.AccessToken = source },
		} {
			cfg := s.config()
			set(&cfg)
			_, err := newSource(t, cfg).Token(t.Context())
			f := wantFault(t, err, connect.CodeUnavailable, fault.TokenUnavailable)
			if !strings.Contains(f.Message, "cannot be read") || strings.Contains(f.Message, "/run") || f.Cause == nil {
				t.Errorf("%s, form %d: message %q, cause %v", name, i, f.Message, f.Cause)
			}
		}
	}
	if s.posts != 0 {
		t.Errorf("%d POSTs, want none", s.posts)
	}
}

// TestStatic: a static token serves without any exchange, for ever.
func TestStatic(t *testing.T) {
	value := "static-1"
	cfg := credential.Config{Tenant: "acme", URL: parse("https://127.0.0.1:1"), AccessToken: func() (string, error) { return value + "\n", nil }}
	source := newSource(t, cfg)
	first := want(t, source, "static-1")
	if !first.Expiry().IsZero() || !source.State().Valid || !source.State().Expiry.IsZero() {
		t.Errorf("expiry %v, state %+v; want none, valid", first.Expiry(), source.State())
	}
	value = "static-2"
	want(t, source, "static-1")
	source.Invalidate(first)
	want(t, source, "static-2")
}

// TestColdServer: a thousand callers of a real server make one POST.
func TestColdServer(t *testing.T) {
	s := newTokenServer(t, func(url.Values) error { return nil })
	cfg := s.config()
	cfg.ClientSecret = text("opaque")
	source := newSource(t, cfg)
	if served := many(t.Context(), source, 1000); served != 1000 || s.posts != 1 {
		t.Errorf("%d of 1000 served by %d POSTs, want all by 1", served, s.posts)
	}
}

// TestConnections: each exchange has a connection of its own, even on a
// transport that keeps them for others.
func TestConnections(t *testing.T) {
	s := newTokenServer(t, func(url.Values) error { return nil })
	cfg := s.config()
	cfg.Transport = http.DefaultTransport
	cfg.ClientSecret = text("opaque")
	source := newSource(t, cfg)
	for i := range 3 {
		source.Invalidate(want(t, source, fmt.Sprintf("token-%d", i+1)))
	}
	if len(s.peers) != 3 {
		t.Errorf("%d connections for 3 exchanges", len(s.peers))
	}
}
