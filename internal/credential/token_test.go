package credential_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/c1proxy/c1proxy/internal/credential"
)

// TestPrint: in whatever way a token is printed, its value does not show.
func TestPrint(t *testing.T) {
	s := newSource(t, config(&endpoint{answer: says(200, `{"access_token":"canary","token_type":"Bearer"}`)}))
	token := want(t, s, "canary")
	holder := struct {
		Token credential.Token
		inner credential.Token
		Map   map[string]credential.Token
	}{token, token, map[string]credential.Token{"a": token}}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("x", "token", token, "pointer", &token, "holder", holder, "source", s)
	}
	printed := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%t", "%20v", "%T"} {
		printed += fmt.Sprintf(verb+verb+verb+"\n", token, &token, holder)
	}
	for _, v := range []any{token, &token, holder} {
		data, err := json.Marshal(v)
		if err != nil || !strings.Contains(string(data), "[redacted]") {
			t.Errorf("json of %T: %s, %v", v, data, err)
		}
		printed += string(data) + fmt.Sprint(v) + fmt.Sprintln(v)
	}
	printed += token.String() + fmt.Sprintf("%v %+v %#v", s, s, s)
	if strings.Contains(printed, "canary") || strings.Contains(printed, fmt.Sprintf("%x", "canary")) {
		t.Errorf("the value shows in\n%s", printed)
	}
	if got := fmt.Sprintf("%v %s %d", token, token, token); got != "[redacted] [redacted] [redacted]" {
		t.Errorf("printed %q", got)
	}
}

// TestAuthorize: a token goes to its own tenant and nowhere else.
func TestAuthorize(t *testing.T) {
	token := want(t, newSource(t, config(&endpoint{answer: gives(600)})), "token-1")
	for target, ok := range map[string]bool{
		"https://acme.conductor.one/api/v1/apps":     true,
		"https://ACME.conductor.one:443/api/v1/apps": true,
		"http://acme.conductor.one/api":              false,
		"http://acme.conductor.one:443/api":          false,
		"https://acme.conductor.one:8443/api":        false,
		"https://evil.conductor.one/api":             false,
		"https://acme.conductor.one.evil.com/":       false,
		"https://acme.conductor.one@evil.com/":       false,
		"/api/v1/apps":                               false,
	} {
		r, err := http.NewRequest(http.MethodPost, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = token.Authorize(r)
		if got := r.Header.Get("Authorization"); (err == nil) != ok || (got == "Bearer token-1") != ok || !ok && got != "" {
			t.Errorf("%s: Authorization %q, %v; want it sent: %v", target, got, err, ok)
		}
	}
	var none credential.Token
	r := &http.Request{URL: parse("https://acme.conductor.one")}
	if err := none.Authorize(r); err == nil || none.Authorization() != "" || none.Host() != "" || !none.Expiry().IsZero() {
		t.Errorf("the zero token: %v, %q, %q, %v", err, none.Authorization(), none.Host(), none.Expiry())
	}
	if err := token.Authorize(r); err != nil || r.Header.Get("Authorization") == "" {
		t.Errorf("a request without a header: %v", err)
	}
}

// TestAllocations holds the hot path at none.
func TestAllocations(t *testing.T) {
	s := newSource(t, config(&endpoint{answer: gives(600)}))
	want(t, s, "token-1")
	r, _ := http.NewRequest(http.MethodPost, "https://acme.conductor.one/api", nil)
	n := testing.AllocsPerRun(1000, func() {
		token, _ := s.Token(t.Context())
		_ = token.Authorize(r)
	})
	if n != 0 {
		t.Errorf("Token and Authorize allocate %v times, want 0", n)
	}
}

func BenchmarkToken(b *testing.B) {
	s := newSource(b, config(&endpoint{answer: gives(86400)}))
	want(b, s, "token-1")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Token(b.Context())
	}
}

func BenchmarkTokenParallel(b *testing.B) {
	s := newSource(b, config(&endpoint{answer: gives(86400)}))
	want(b, s, "token-1")
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		ctx := b.Context()
		for pb.Next() {
			_, _ = s.Token(ctx)
		}
	})
}
