package sandbox_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// serve sends a request to the handler itself, so that time can be a bubble's.
func serve(s *sandbox.Sandbox, method, target, token, contentType, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// accessToken asks for a token with a secret.
func accessToken(t *testing.T, s *sandbox.Sandbox) string {
	t.Helper()
	w := serve(s, "POST", sandbox.TokenPath, "", "application/x-www-form-urlencoded", plainForm(s.Facts()).Encode())
	var g grant
	if err := json.Unmarshal(w.Body.Bytes(), &g); err != nil || g.AccessToken == "" {
		t.Fatalf("got %s, %v", w.Body, err)
	}
	return g.AccessToken
}

// TestTokenExpires holds to the nanosecond when a token ends, and that the
// static one does not.
func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sandbox.New(sandbox.Config{TokenLifetime: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		token := accessToken(t, s)
		status := func(token string) int { return serve(s, "GET", connectorPath, token, "", "").Code }
		time.Sleep(time.Minute - time.Nanosecond)
		if got := status(token); got != 200 {
			t.Errorf("just before: %d", got)
		}
		time.Sleep(time.Nanosecond)
		if got := status(token); got != 401 {
			t.Errorf("at its end: %d", got)
		}
		for range 3000 { // enough for the expired to be dropped, more than once
			token = accessToken(t, s)
			time.Sleep(time.Second)
		}
		if got, static := status(token), status(s.Facts().StaticToken); got != 200 || static != 200 {
			t.Errorf("much later: %d for the latest, %d for the static token", got, static)
		}
	})
}

// TestReplayMemory holds that an assertion stays used until it has expired,
// however many come after it.
func TestReplayMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sandbox.New(sandbox.Config{})
		if err != nil {
			t.Fatal(err)
		}
		key := clientKey(t, s.Facts().ClientSecret)
		use := func(jti string) string {
			claims := goodClaims(s.Facts())
			claims["jti"] = jti
			return assertionForm(s.Facts(), sign(t, jose.EdDSA, key, nil, claims)).Encode()
		}
		send := func(form string) string {
			return serve(s, "POST", sandbox.TokenPath, "", "application/x-www-form-urlencoded", form).Body.String()
		}
		first := use("first")
		if got := send(first); !strings.Contains(got, "access_token") {
			t.Fatalf("got %s", got)
		}
		for i := range 1100 {
			if got := send(use(fmt.Sprint(i))); !strings.Contains(got, "access_token") {
				t.Fatalf("%d: got %s", i, got)
			}
			if i%100 == 0 {
				time.Sleep(time.Second)
				if got := send(first); !strings.Contains(got, "used before") {
					t.Fatalf("%d: got %s", i, got)
				}
			}
		}
		time.Sleep(2 * time.Minute)
		if got := send(first); !strings.Contains(got, "expired") {
			t.Errorf("in the end: got %s", got)
		}
	})
}

// TestSyncEnds holds when a forced sync is done.
func TestSyncEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sandbox.New(sandbox.Config{SyncTime: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		token := s.Facts().StaticToken
		status := func() string {
			var c connector
			body := serve(s, "GET", connectorPath, token, "", "").Body
			if err := json.Unmarshal(body.Bytes(), &c); err != nil {
				t.Fatalf("got %s, %v", body, err)
			}
			return c.ConnectorView.Connector.Status.Status
		}
		if w := serve(s, "POST", connectorPath+"/force_sync", token, "application/json", "{}"); w.Code != 200 {
			t.Fatalf("got %s", w.Body)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		if got := status(); got != "SYNC_STATUS_RUNNING" {
			t.Errorf("just before: %s", got)
		}
		time.Sleep(time.Nanosecond)
		if got := status(); got != "SYNC_STATUS_DONE" {
			t.Errorf("at its end: %s", got)
		}
	})
}

// TestDefaults holds what is promised of a zero Config, and how long Slow and
// chaos hold back.
func TestDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sandbox.New(sandbox.Config{})
		if err != nil {
			t.Fatal(err)
		}
		token := s.Facts().StaticToken
		took := func() time.Duration {
			begin := time.Now()
			if w := serve(s, "GET", connectorPath, token, "", ""); w.Code != 200 {
				t.Errorf("got %d", w.Code)
			}
			return time.Since(begin)
		}
		if got := took(); got != 0 {
			t.Errorf("a benign answer took %v", got)
		}
		s.Inject(sandbox.Rule{Fault: sandbox.Slow(3 * time.Second), Times: 1})
		if got := took(); got != 3*time.Second {
			t.Errorf("a slow answer took %v", got)
		}
		if err := s.SetChaos(sandbox.Chaos{Slow: 1}); err != nil {
			t.Fatal(err)
		}
		if got := took(); got != time.Second {
			t.Errorf("a slow answer of chaos took %v", got)
		}
		s.Heal()
		s.Inject(sandbox.Rule{Fault: sandbox.Drip(time.Second), Times: 1})
		if got, want := took(), len(serve(s, "GET", connectorPath, token, "", "").Body.String()); got != time.Duration(want)*time.Second {
			t.Errorf("%d bytes dripped in %v", want, got)
		}
	})
}
