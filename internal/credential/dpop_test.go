package credential_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// emulated starts a sandbox, and a source for its client that needs DPoP.
func emulated(t *testing.T, c1 sandbox.Config, change func(*credential.Config, sandbox.Facts)) (*sandbox.Server, *credential.Source) {
	t.Helper()
	server, err := sandbox.Start("127.0.0.1:0", c1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	facts := server.Facts()
	cfg := credential.Config{Tenant: "acme", URL: parse(facts.URL), ClientID: facts.DPoPClientID, ClientSecret: text(facts.DPoPClientSecret), DPoP: true}
	if change != nil {
		change(&cfg, facts)
	}
	return server, newSource(t, cfg)
}

// call sends one request that the token authorizes. The path goes out as it is.
func call(t *testing.T, token credential.Token, method, base, path, query string) (status int, again bool, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, base+"/", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Opaque, r.URL.RawQuery = path, query
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodGet {
		r.Body, r.ContentLength = nil, 0
	}
	if err := token.Authorize(r); err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, token.Answered(resp.StatusCode, resp.Header), string(data)
}

const listPath = "/api/v1/apps/" + sandbox.AppID + "/connectors"

// TestDPoP: the sandbox, which checks every point of RFC 9449, takes the proofs
// of a token request and of calls: each method, paths with escapes, a query.
func TestDPoP(t *testing.T) {
	c1, s := emulated(t, sandbox.Config{}, nil)
	token, err := s.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if token.Type() != "DPoP" || !strings.HasPrefix(token.Authorization(), "DPoP ") || token.Credential() != c1.Facts().DPoPClientID {
		t.Errorf("a token of type %q of %q", token.Type(), token.Credential())
	}
	for _, tt := range []struct {
		method, path, query string
		status              int
	}{
		{"GET", listPath, "", 200}, {"GET", listPath, "page_size=1", 200}, {"POST", "/api/v1/apps", "", 400},
		{"GET", "/api/v1/apps/a%20b%3A~%40/connectors", "page_size=1", 404}, {"DELETE", "/api/v1/apps/nowhere", "", 404},
	} {
		if status, again, body := call(t, token, tt.method, c1.URL(), tt.path, tt.query); status != tt.status || again {
			t.Errorf("%s %s?%s: %d %s", tt.method, tt.path, tt.query, status, body)
		}
	}
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if status, _, body := call(t, token, "GET", c1.URL(), listPath, ""); status != 200 {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	wg.Wait()
	if c1.TokenHits() != 1 || c1.AcceptedHits() != 205 {
		t.Errorf("%d token requests, %d calls accepted; want 1, 205", c1.TokenHits(), c1.AcceptedHits())
	}
	s.Invalidate(token)
	if fresh, err := s.Token(t.Context()); err != nil || fresh == token {
		t.Errorf("after a refusal: %v", err)
	}
}

// TestDPoPNonces: a nonce is had for the price of one request, for each of the
// two servers, and once again whenever it is replaced. The token stays.
func TestDPoPNonces(t *testing.T) {
	c1, s := emulated(t, sandbox.Config{}, nil)
	c1.DemandNonces()
	token, err := s.Token(t.Context())
	if err != nil || c1.TokenHits() != 2 {
		t.Fatalf("%d token requests, %v; want 2", c1.TokenHits(), err)
	}
	for round := range 3 {
		if status, again, body := call(t, token, "GET", c1.URL(), listPath, ""); status != 401 || !again {
			t.Fatalf("round %d: %d, again %v: %s", round, status, again, body)
		}
		for range 3 {
			if status, again, body := call(t, token, "GET", c1.URL(), listPath, ""); status != 200 || again {
				t.Fatalf("round %d: with the nonce: %d, again %v: %s", round, status, again, body)
			}
		}
		c1.DemandNonces()
	}
	// The nonce that an answer told is used even where nothing was wrong.
	s.Invalidate(token)
	if _, err := s.Token(t.Context()); err != nil || c1.TokenHits() != 4 {
		t.Errorf("%d token requests, %v; want 2 more", c1.TokenHits(), err)
	}
	if c1.AcceptedHits() != 9 {
		t.Errorf("%d calls accepted, want 9", c1.AcceptedHits())
	}
}

// dpopConfig is a tenant whose credential is said to require DPoP.
func dpopConfig(e *endpoint) credential.Config {
	cfg := config(e)
	cfg.DPoP = true
	return cfg
}

// nonceOf reads the nonce in a request's proof.
func nonceOf(t *testing.T, r *http.Request) string {
	t.Helper()
	parts := strings.Split(r.Header.Get("DPoP"), ".")
	if len(parts) != 3 {
		t.Fatalf("proof %q", r.Header.Get("DPoP"))
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct{ Nonce string }
	if err != nil || json.Unmarshal(data, &claims) != nil {
		t.Fatalf("claims %q", data)
	}
	return claims.Nonce
}

// challenges answers as a token endpoint that wants a nonce.
func challenges(nonce string) *http.Response {
	resp := respond(400, `{"error":"use_dpop_nonce"}`)
	resp.Header["Dpop-Nonce"] = []string{nonce}
	return resp
}

// TestNonceForEver: an endpoint that is content with no nonce is asked twice for
// each exchange and no more, and it is its own trouble, not the credential's.
func TestNonceForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{answer: func(int, *http.Request) (*http.Response, error) { return challenges("n"), nil }}
		s := newSource(t, dpopConfig(e))
		_, err := s.Token(t.Context())
		f := wantFault(t, err, connect.CodeUnavailable, fault.TokenUnavailable)
		if e.count() != 2 || f.RetryAfter <= 0 || f.RetryAfter > time.Second {
			t.Errorf("%d POSTs, retry after %v", e.count(), f.RetryAfter)
		}
	})
}

// TestNonceValues: what can stand in a proof does, and nothing else; and the
// newest does, from a good answer too.
func TestNonceValues(t *testing.T) {
	for nonce, ok := range map[string]bool{
		"n": true, "aZ09-._~+/=": true, strings.Repeat("n", 1024): true, strings.Repeat("n", 1025): false,
		"": false, "a b": false, `a"b`: false, `a\b`: false, "a\x7f": false, "ä": false, "a\x00": false,
	} {
		synctest.Test(t, func(t *testing.T) {
			var seen []string
			e := &endpoint{answer: func(n int, r *http.Request) (*http.Response, error) {
				seen = append(seen, nonceOf(t, r))
				if n == 1 {
					return challenges(nonce), nil
				}
				resp := respond(200, `{"access_token":"x","token_type":"DPoP","expires_in":600}`)
				resp.Header.Set("DPoP-Nonce", "newer")
				return resp, nil
			}}
			s := newSource(t, dpopConfig(e))
			token, err := s.Token(t.Context())
			want := []string{""}
			if ok {
				want = []string{"", nonce}
			}
			if diff := cmp.Diff(want, seen); diff != "" || (err == nil) != ok {
				t.Fatalf("%q: %v, nonces (-want +got):\n%s", nonce, err, diff)
			}
			if !ok {
				return
			}
			s.Invalidate(token)
			if _, err := s.Token(t.Context()); err != nil || seen[2] != "newer" {
				t.Errorf("then the nonce was %q, %v", seen[2:], err)
			}
			r, _ := http.NewRequest("GET", "https://acme.conductor.one/api", nil)
			if err := token.Authorize(r); err != nil || nonceOf(t, r) != "" {
				t.Errorf("the API got the token endpoint's nonce %q, %v", nonceOf(t, r), err)
			}
		})
	}
}

// TestChallenges: what asks for a nonce and no more. With any other 401 the
// token is at stake.
func TestChallenges(t *testing.T) {
	bound := newSource(t, dpopConfig(&endpoint{answer: says(200, `{"access_token":"x","token_type":"dpop"}`)}))
	token, err := bound.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	plain := want(t, newSource(t, config(&endpoint{answer: gives(600)})), "token-1")
	const good = `DPoP error="use_dpop_nonce", error_description="x"`
	for _, tt := range []struct {
		status int
		fields []string
		nonce  string
		again  bool
	}{
		{401, []string{good}, "n", true},
		{401, []string{`dpop algs="ES256 PS256", error=use_dpop_nonce`}, "n", true},
		{401, []string{`Bearer realm="c1", DPoP realm="c1",error = "use_dpop_nonce"`}, "n", true},
		{401, []string{`Bearer realm="c1"`, good}, "n", true},
		{401, []string{good}, "", false},
		{403, []string{good}, "n", false}, {400, []string{good}, "n", false}, {200, []string{good}, "n", false},
		{401, []string{`DPoP error="invalid_token"`}, "n", false},
		{401, []string{`DPoP error="invalid_dpop_proof"`}, "n", false},
		{401, []string{`Bearer error="use_dpop_nonce"`}, "n", false},
		{401, []string{`XDPoP error="use_dpop_nonce"`}, "n", false},
		{401, []string{`DPoP error="use_dpop_nonces"`}, "n", false},
		{401, []string{`DPoP xerror="use_dpop_nonce"`}, "n", false},
		{401, nil, "n", false},
	} {
		header := http.Header{"Www-Authenticate": tt.fields}
		if tt.nonce != "" {
			header.Set("DPoP-Nonce", tt.nonce)
		}
		if got := token.Answered(tt.status, header); got != tt.again {
			t.Errorf("%d %q with nonce %q: again %v", tt.status, tt.fields, tt.nonce, got)
		}
		if plain.Answered(tt.status, header) || (credential.Token{}).Answered(tt.status, header) {
			t.Errorf("%d %q: a token without proof is to be sent again", tt.status, tt.fields)
		}
	}
}

// TestNotBound: a Bearer token for a credential that is to have bound ones is
// refused, and so is a proof that C1 does not take.
func TestNotBound(t *testing.T) {
	for body, words := range map[string]string{
		`{"access_token":"canary","token_type":"Bearer","expires_in":600}`: "remove dpop: true",
		`{"access_token":"canary","expires_in":600}`:                       "remove dpop: true",
		`{"access_token":"canary","token_type":"mac","expires_in":600}`:    "another type",
	} {
		synctest.Test(t, func(t *testing.T) {
			e := &endpoint{answer: says(200, body)}
			s := newSource(t, dpopConfig(e))
			_, err := s.Token(t.Context())
			if f := wantFault(t, err, connect.CodeUnavailable, fault.TokenUnavailable); !strings.Contains(f.Message, words) || strings.Contains(f.Error(), "canary") {
				t.Errorf("%s: %v", body, f)
			}
		})
	}
	c1, s := emulated(t, sandbox.Config{ClockSkew: 3 * time.Minute}, func(c *credential.Config, _ sandbox.Facts) {})
	_, err := s.Token(t.Context())
	if f := wantFault(t, err, connect.CodeUnavailable, fault.UpstreamCredentialRejected); c1.TokenHits() != 1 {
		t.Errorf("%d token requests, %v", c1.TokenHits(), f)
	}
	if _, s = emulated(t, sandbox.Config{}, func(c *credential.Config, _ sandbox.Facts) { c.DPoP = false }); s != nil {
		_, err = s.Token(t.Context())
		if f := wantFault(t, err, connect.CodeUnavailable, fault.UpstreamCredentialRejected); !strings.Contains(f.Message, "set dpop: true") {
			t.Errorf("without dpop: %v", f)
		}
	}
}

// TestDPoPPrint: nothing prints the token or the key.
func TestDPoPPrint(t *testing.T) {
	s := newSource(t, dpopConfig(&endpoint{answer: says(200, `{"access_token":"canary","token_type":"DPoP"}`)}))
	token, err := s.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	holder := struct{ inner credential.Token }{token}
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", token, "holder", holder, "source", s)
	if strings.Contains(log.String(), "canary") || strings.Contains(log.String(), `"d"`) {
		t.Errorf("printed %s", log.String())
	}
}

// TestClockSkew (F12): C1's clock may be a little behind ours, or ahead; how far
// it is, is known, and said where it may be why the credential is refused.
func TestClockSkew(t *testing.T) {
	for skew, ok := range map[time.Duration]bool{
		-25 * time.Second: true, 0: true, 90 * time.Second: true, -90 * time.Second: false, 3 * time.Minute: false,
	} {
		var log bytes.Buffer
		_, s := emulated(t, sandbox.Config{ClockSkew: skew}, func(c *credential.Config, facts sandbox.Facts) {
			c.ClientID, c.ClientSecret, c.DPoP = facts.ClientID, text(facts.ClientSecret), false
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		_, err := s.Token(t.Context())
		s.Close()
		if (err == nil) != ok {
			t.Errorf("skew %v: %v", skew, err)
		}
		if got := s.State().Skew; (got - skew).Abs() > 2*time.Second {
			t.Errorf("skew %v is seen as %v", skew, got)
		}
		if strings.Contains(log.String(), "clock skew") == ok {
			t.Errorf("skew %v: log %s", skew, log.String())
		}
	}
}

// TestStampede (F8): a thousand callers that never rest, across the expiry of
// many tokens, make one POST for each.
func TestStampede(t *testing.T) {
	bubble(t, gives(20), func(t *testing.T, e *endpoint, s *credential.Source) {
		var wg sync.WaitGroup
		begin := time.Now()
		for range 1000 {
			wg.Go(func() {
				for time.Since(begin) < 200*time.Second {
					if _, err := s.Token(t.Context()); err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Second)
				}
			})
		}
		wg.Wait()
		if n := e.count(); n < 200/17 || n > 1+200/15 {
			t.Errorf("%d POSTs in 10 lives of a token", n)
		}
	})
}

// BenchmarkAuthorizeDPoP is what a bound token costs each request: a signature.
func BenchmarkAuthorizeDPoP(b *testing.B) {
	s := newSource(b, dpopConfig(&endpoint{answer: says(200, `{"access_token":"x","token_type":"DPoP"}`)}))
	token, err := s.Token(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	r, _ := http.NewRequest(http.MethodPost, "https://acme.conductor.one/api/v1/apps", nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := token.Authorize(r); err != nil {
			b.Fatal(err)
		}
	}
}
