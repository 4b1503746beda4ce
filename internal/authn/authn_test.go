package authn_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"

	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
)

func TestAuthenticate(t *testing.T) {
	first, second, unknown := authn.NewKey(), authn.NewKey(), authn.NewKey()
	bot := &principal.Principal{Caller: "sync-bot", Team: "payments", Credential: "key:x"}
	past, future := authn.NewKey(), authn.NewKey()
	keys := open(t, authn.Config{Keys: []authn.Credential{{Hash: authn.HashKey(first), Principal: bot}, {Hash: authn.HashKey(second), Principal: bot},
		{Hash: authn.HashKey(past), Principal: bot, Expires: time.Now().Add(-time.Second), Label: "laptop"},
		{Hash: authn.HashKey(future), Principal: bot, Expires: time.Now().Add(time.Hour)}}})
	tests := []struct {
		name   string
		header []string
		want   string // "" if it is let in
	}{
		{"first key", []string{"Bearer " + first}, ""},
		{"second key", []string{"bearer " + second}, ""},
		{"expires later", []string{"Bearer " + future}, ""},
		{"expired", []string{"Bearer " + past}, "(laptop) expired at"},
		{"none", nil, "no credential"},
		{"two", []string{"Bearer " + first, "Bearer " + first}, "exactly one"},
		{"unknown", []string{"Bearer " + unknown}, "not known here"},
		{"typo", []string{"Bearer " + swapCase(first, 10)}, "mistyped"},
		{"cut", []string{"Bearer " + first[:len(first)-1]}, "mistyped"},
		{"longer", []string{"Bearer " + first + "A"}, "mistyped"},
		{"JWT", []string{"Bearer a.b.c"}, "JWT"},
		{"no key", []string{"Bearer hello"}, "begins with c1p_"},
		{"basic", []string{"Basic " + first}, "not Bearer"},
		{"empty", []string{""}, "not Bearer"},
		{"huge", []string{"Bearer " + strings.Repeat("x", 9000)}, "longer than"},
	}
	for _, tt := range tests {
		r := &http.Request{Header: http.Header{"Authorization": tt.header}}
		if tt.header == nil {
			r.Header = http.Header{"Cookie": {"Authorization=Bearer " + first}, "X-Api-Key": {first}}
		}
		who, err := keys.Authenticate(r)
		if tt.want == "" {
			if err != nil || who != bot {
				t.Errorf("%s: got %v, %v", tt.name, who, err)
			}
			continue
		}
		var f *fault.Fault
		if !errors.As(err, &f) || f.Code != connect.CodeUnauthenticated || !strings.Contains(f.Message, tt.want) || who != nil {
			t.Errorf("%s: got %v, %v; want %q", tt.name, who, err, tt.want)
		}
		for _, value := range tt.header {
			if _, token, ok := strings.Cut(value, " "); ok && len(token) > 8 && strings.Contains(err.Error(), token[4:]) {
				t.Errorf("%s: the error holds the token", tt.name)
			}
		}
	}
}

func swapCase(key string, i int) string {
	other := byte('A')
	if key[i] == other {
		other = 'B'
	}
	return key[:i] + string(other) + key[i+1:]
}

func TestKeyProvesOnePrincipal(t *testing.T) {
	hash := authn.HashKey(authn.NewKey())
	_, err := authn.NewKeys([]authn.Credential{{Hash: hash, Principal: &principal.Principal{Caller: "a", Team: "x"}}, {Hash: hash, Principal: &principal.Principal{Caller: "b", Team: "x"}}})
	if err == nil || !strings.Contains(err.Error(), "x/a") {
		t.Errorf("got %v, want an error that names x/a", err)
	}
}

// Any change of one letter is caught by the checksum, before any look-up.
func TestKeyChecksum(t *testing.T) {
	key := authn.NewKey()
	keys := open(t, authn.Config{})
	for i := len(authn.KeyPrefix); i < len(key); i++ {
		r := &http.Request{Header: http.Header{"Authorization": {"Bearer " + swapCase(key, i)}}}
		if _, err := keys.Authenticate(r); err == nil || !strings.Contains(err.Error(), "mistyped") {
			t.Errorf("letter %d: got %v", i, err)
		}
	}
	if len(key) != 52 || key == authn.NewKey() {
		t.Errorf("key of %d letters", len(key))
	}
}

func FuzzAuthenticate(f *testing.F) {
	f.Add("Bearer c1p_x")
	f.Add("Bearer " + authn.NewKey())
	keys := open(f, authn.Config{})
	f.Fuzz(func(t *testing.T, value string) {
		if who, err := keys.Authenticate(&http.Request{Header: http.Header{"Authorization": {value}}}); err == nil || who != nil {
			t.Fatalf("%q was let in", value)
		}
	})
}

// A key is found wherever it stands, whole or most of it, and nothing else is.
func TestScrub(t *testing.T) {
	key, jwt := authn.NewKey(), sign(t, jose.ES256, ecKey(), "ec", claimed(nil))
	for text, want := range map[string]string{
		"":                                       "",
		"no key":                                 "no key",
		key:                                      "c1p_[redacted]",
		"a " + key + ".":                         "a c1p_[redacted].",
		key[:len(key)-1] + "!":                   "c1p_[redacted]!",
		key[:20] + " " + key[20:]:                "c1p_[redacted] " + key[20:],
		`{"` + key + `":"` + key:                 `{"c1p_[redacted]":"c1p_[redacted]`,
		"keys begin with c1p_":                   "keys begin with c1p_",
		"c1p_short and c1p_elsewise":             "c1p_short and c1p_elsewise",
		"a " + jwt + ".":                         "a jwt_[redacted]",
		jwt + ", " + key:                         "jwt_[redacted], c1p_[redacted]",
		jwt[:80]:                                 "jwt_[redacted]",
		jwt[strings.IndexByte(jwt, '.')+1:]:      "jwt_[redacted]",
		"eyJhbGciOiJFUzI1NiJ9":                   "eyJhbGciOiJFUzI1NiJ9",
		"eyJvZmZzZXQiOjEwfQ.eyes":                "eyJvZmZzZXQiOjEwfQ.eyes",
		"eyewitness-news.example-of-a-long-host": "eyewitness-news.example-of-a-long-host",
	} {
		if got := authn.Scrub(text); got != want || authn.Holds(text) != (want != text) {
			t.Errorf("%q: got %q, %v; want %q", text, got, authn.Holds(text), want)
		}
	}
}
