package authn_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
)

const loginURL = "https://login.example.com/realm"

// Keys are made once: RSA takes its time.
var (
	ecKey      = sync.OnceValue(func() *ecdsa.PrivateKey { return newEC(elliptic.P256()) })
	otherEC    = sync.OnceValue(func() *ecdsa.PrivateKey { return newEC(elliptic.P256()) })
	longEC     = sync.OnceValue(func() *ecdsa.PrivateKey { return newEC(elliptic.P384()) })
	rsaKey     = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
	edKey      = sync.OnceValue(func() ed25519.PrivateKey { _, key, _ := ed25519.GenerateKey(rand.Reader); return key })
	defaultSub = "system:serviceaccount:payments:sync-bot"
)

func newEC(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func newRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

// A login is an issuer without a network. Its zero value has no keys.
type login struct {
	mu      sync.Mutex
	issuer  string // of its discovery document; "" is loginURL
	jwksURI string
	keys    map[string]crypto.PublicKey
	raw     string // in place of the keys
	moved   bool   // to a place that is not followed
	down    bool
	slow    time.Duration
	hits    map[string]int // by path
}

// publish replaces the keys.
func (l *login) publish(keys map[string]crypto.PublicKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = keys
}

func (l *login) set(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

func (l *login) fetches() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hits["/realm/keys"]
}

func (l *login) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, hits := range l.hits {
		n += hits
	}
	return n
}

// RoundTrip answers as the issuer.
func (l *login) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	if l.hits == nil {
		l.hits = make(map[string]int)
	}
	l.hits[r.URL.Path]++
	down, slow, body := l.down, l.slow, []byte(nil)
	switch r.URL.Path {
	case "/realm/.well-known/openid-configuration":
		issuer, at := l.issuer, l.jwksURI
		if issuer == "" {
			issuer = loginURL
		}
		if at == "" {
			at = loginURL + "/keys"
		}
		body, _ = json.Marshal(map[string]string{"issuer": issuer, "jwks_uri": at})
	case "/realm/keys":
		set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
		for id, key := range l.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: key, KeyID: id, Use: "sig"})
		}
		body, _ = json.Marshal(set)
		if l.raw != "" {
			body = []byte(l.raw)
		}
	}
	l.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if down {
		return nil, errors.New("down, and its error holds a secret")
	}
	if l.moved && r.URL.Path != "/moved" {
		return &http.Response{StatusCode: http.StatusFound, Body: http.NoBody, Header: http.Header{"Location": {"/moved"}}, Request: r}, nil
	}
	status := http.StatusOK
	if body == nil {
		status = http.StatusNotFound
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(bytes.NewReader(body)), Header: http.Header{}, Request: r}, nil
}

func (l *login) config() authn.IssuerConfig {
	return authn.IssuerConfig{Name: "login", URL: loginURL, Audiences: []string{"c1proxy"}, MaxLifetime: time.Hour, Transport: l, Logger: slog.New(slog.DiscardHandler)}
}

// A journal is a log for several goroutines.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// claimed are good claims, with changes; a nil removes one.
func claimed(change map[string]any) map[string]any {
	now := time.Now()
	claims := map[string]any{"iss": loginURL, "aud": "c1proxy", "sub": defaultSub, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return claims
}

// sign makes a token; header are further parameters.
func sign(t testing.TB, alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any, header ...any) string {
	t.Helper()
	options := &jose.SignerOptions{}
	if kid != "" {
		options.WithHeader("kid", kid)
	}
	for i := 0; i+1 < len(header); i += 2 {
		options.WithHeader(jose.HeaderKey(header[i].(string)), header[i+1])
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var (
	bot   = &principal.Principal{Caller: "sync-bot", Team: "payments", Tenant: "acme"}
	ruled = []authn.TokenRule{{Issuer: "login", Subject: defaultSub, Principal: bot}}
)

// open opens an Authenticator, and closes it at the test's end, or before in a
// bubble.
func open(t testing.TB, cfg authn.Config) *authn.Authenticator {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a, err := authn.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// show shows a bearer token, and says what became of it: "", or the reason and
// what was found wrong.
func show(t testing.TB, a *authn.Authenticator, token string, header ...string) string {
	t.Helper()
	r := (&http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}}).WithContext(t.Context())
	for _, team := range header {
		r.Header.Add("C1proxy-Team", team)
	}
	who, err := a.Authenticate(r)
	if err == nil {
		if who.Team == "" || who.Caller == "" {
			t.Errorf("let in as nobody: %+v", who)
		}
		return ""
	}
	var f *fault.Fault
	if !errors.As(err, &f) || who != nil && who.Team != "" {
		t.Fatalf("got %+v, %v", who, err)
	}
	for _, part := range strings.Split(token, ".") {
		if len(part) > 20 && strings.Contains(err.Error(), part) {
			t.Errorf("the error holds the token: %v", err)
		}
	}
	if check := f.Metadata["check"]; check != "" {
		return string(f.Reason) + " " + check
	}
	return string(f.Reason)
}
