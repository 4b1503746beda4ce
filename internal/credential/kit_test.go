package credential_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"

	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/fault"
)

// An endpoint is a token endpoint in memory, for tests in a synctest bubble.
// Each POST is answered by answer, which may block, with the number of the
// POST, from 1.
type endpoint struct {
	mu     sync.Mutex
	posts  []time.Time
	answer func(n int, r *http.Request) (*http.Response, error)
}

func (e *endpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	e.mu.Lock()
	e.posts = append(e.posts, time.Now())
	n, answer := len(e.posts), e.answer
	e.mu.Unlock()
	return answer(n, r)
}

// count returns how many POSTs there were.
func (e *endpoint) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.posts)
}

// turn changes the answer.
func (e *endpoint) turn(answer func(int, *http.Request) (*http.Response, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

// gives answers token-N, good for a number of seconds.
func gives(seconds int) func(int, *http.Request) (*http.Response, error) {
	return func(n int, _ *http.Request) (*http.Response, error) {
		return respond(200, fmt.Sprintf(`{"access_token":"token-%d","token_type":"Bearer","expires_in":%d}`, n, seconds)), nil
	}
}

// says answers with a status and a JSON body.
func says(status int, body string) func(int, *http.Request) (*http.Response, error) {
	return func(int, *http.Request) (*http.Response, error) { return respond(status, body), nil }
}

// down has no connection.
func down(int, *http.Request) (*http.Response, error) { return nil, errors.New("no route to host") }

// stalls takes the request and never answers it.
func stalls(_ int, r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func respond(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   io.NopCloser(strings.NewReader(body)),
	}
}

func text(value string) func() (string, error) {
	return func() (string, error) { return value, nil }
}

// config is a tenant with an opaque secret.
func config(base http.RoundTripper) credential.Config {
	return credential.Config{
		Tenant: "acme", URL: parse("https://acme.conductor.one"),
		ClientID: "clever-fox-42195@acme.conductor.one/spc", ClientSecret: text("opaque-secret"), Transport: base,
	}
}

func parse(raw string) *url.URL {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err)
	}
	return u
}

func newSource(t testing.TB, cfg credential.Config) *credential.Source {
	t.Helper()
	s, err := credential.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// newKey returns an Ed25519 key and the C1 client secret that holds it.
func newKey(t testing.TB) (ed25519.PublicKey, string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public, keySecret(t, jose.JSONWebKey{Key: private, KeyID: "key-1", Algorithm: "EdDSA", Use: "sig"})
}

func keySecret(t testing.TB, key jose.JSONWebKey) string {
	t.Helper()
	data, err := key.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return "secret-token:conductorone.com:v1:" + base64.RawURLEncoding.EncodeToString(data)
}

// want asks for a token and checks its value.
func want(t testing.TB, s *credential.Source, value string) credential.Token {
	t.Helper()
	token, err := s.Token(context.Background())
	if err != nil || token.Authorization() != "Bearer "+value {
		t.Fatalf("Token = %q, %v; want %s", token.Authorization(), err, value)
	}
	return token
}

// wantFault checks a failure's code and reason.
func wantFault(t testing.TB, err error, code connect.Code, reason fault.Reason) *fault.Fault {
	t.Helper()
	var f *fault.Fault
	if !errors.As(err, &f) || f.Code != code || f.Reason != reason {
		t.Fatalf("error = %v; want %v %s", err, code, reason)
	}
	return f
}

// many runs n callers of Token at once and returns how many got a token.
func many(ctx context.Context, s *credential.Source, n int) (served int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range n {
		wg.Go(func() {
			if _, err := s.Token(ctx); err == nil {
				mu.Lock()
				served++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return served
}
