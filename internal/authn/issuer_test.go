package authn_test

import (
	"crypto"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/c1proxy/c1proxy/internal/authn"
)

// bubble runs a test with an issuer and an Authenticator, in fake time.
func bubble(t *testing.T, issuer *login, f func(t *testing.T, a *authn.Authenticator)) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, authn.Config{Issuers: []authn.IssuerConfig{issuer.config()}, Tokens: ruled})
		defer a.Close()
		f(t, a)
	})
}

func ecToken(t *testing.T, kid string) string {
	return sign(t, jose.ES256, ecKey(), kid, claimed(nil))
}

// A new key works with one fetch; a removed one dies within the time of a
// refresh.
func TestRotation(t *testing.T) {
	issuer := &login{keys: map[string]crypto.PublicKey{"old": ecKey().Public()}}
	bubble(t, issuer, func(t *testing.T, a *authn.Authenticator) {
		old := ecToken(t, "old") // the same each time, so that it is remembered
		if got := show(t, a, old); got != "" || issuer.fetches() != 1 {
			t.Fatalf("old: %q after %d fetches", got, issuer.fetches())
		}
		issuer.publish(map[string]crypto.PublicKey{"new": ecKey().Public()})
		if got := show(t, a, old); got != "" {
			t.Errorf("old, as long as its removal is not known: %q", got)
		}
		if got := show(t, a, ecToken(t, "new")); got != "" || issuer.fetches() != 2 {
			t.Errorf("new: %q after %d fetches", got, issuer.fetches())
		}
		if got := show(t, a, old); got != "UNAUTHENTICATED kid" {
			t.Errorf("old, removed: %q", got)
		}
		issuer.publish(nil)
		time.Sleep(6 * time.Minute)
		if got := show(t, a, ecToken(t, "new")); got != "UNAUTHENTICATED kid" {
			t.Errorf("new, removed: %q", got)
		}
	})
}

// What is remembered of a token lasts no longer than the token, its key, and the
// keys of an issuer that does not answer.
func TestMemory(t *testing.T) {
	for name, test := range map[string]struct {
		claims map[string]any
		change func(*login)
		after  time.Duration
		want   string
	}{
		"as it was":        {nil, func(*login) {}, 50 * time.Second, ""},
		"expired":          {map[string]any{"exp": time.Date(2000, 1, 1, 0, 0, 20, 0, time.UTC).Unix()}, func(*login) {}, 51 * time.Second, "UNAUTHENTICATED exp"},
		"its key removed":  {nil, func(l *login) { l.publish(nil) }, 6 * time.Minute, "UNAUTHENTICATED kid"},
		"its key replaced": {nil, func(l *login) { l.publish(map[string]crypto.PublicKey{"ec": otherEC().Public()}) }, 6 * time.Minute, "UNAUTHENTICATED signature"},
		"the issuer down":  {nil, func(l *login) { l.set(true) }, 50 * time.Minute, ""},
		"the issuer lost":  {nil, func(l *login) { l.set(true) }, 61 * time.Minute, "ISSUER_UNAVAILABLE"},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := &login{keys: public()}
			synctest.Test(t, func(t *testing.T) {
				cfg := issuer.config()
				cfg.MaxLifetime = 24 * time.Hour
				a := open(t, authn.Config{Issuers: []authn.IssuerConfig{cfg}, Tokens: ruled})
				defer a.Close()
				if test.claims == nil {
					test.claims = map[string]any{"exp": time.Now().Add(3 * time.Hour).Unix()}
				}
				token := sign(t, jose.ES256, ecKey(), "ec", claimed(test.claims))
				if got := show(t, a, token); got != "" {
					t.Fatalf("at first: %q", got)
				}
				test.change(issuer)
				for end := time.Now().Add(test.after); time.Now().Before(end); time.Sleep(9 * time.Second) {
					show(t, a, token)
				}
				if got := show(t, a, token); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}

// Any number of tokens with unknown keys cause one fetch in ten seconds, and
// keep nobody out.
func TestKeyFlood(t *testing.T) {
	issuer := &login{keys: public(), slow: time.Second}
	bubble(t, issuer, func(t *testing.T, a *authn.Authenticator) {
		time.Sleep(time.Minute)
		before := issuer.fetches()
		begun := time.Now()
		for round := range 60 {
			var flood sync.WaitGroup
			for i := range 500 {
				flood.Go(func() {
					if got := show(t, a, ecToken(t, fmt.Sprint("kid", round, i))); got != "UNAUTHENTICATED kid" {
						t.Errorf("got %q", got)
					}
				})
			}
			if got := show(t, a, ecToken(t, "ec")); got != "" {
				t.Errorf("a good one: %q", got)
			}
			flood.Wait()
			time.Sleep(time.Second)
		}
		intervals := int(time.Since(begun)/(10*time.Second)) + 1
		if got := issuer.fetches() - before; got > intervals || got < intervals/2 {
			t.Errorf("%d fetches in %d intervals", got, intervals)
		}
	})
}

// Without keys nothing can be verified, and that is no fault of the caller's.
// Keys that were had are used for an hour.
func TestOutage(t *testing.T) {
	issuer := &login{keys: public(), down: true}
	synctest.Test(t, func(t *testing.T) {
		var log journal
		cfg := issuer.config()
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		outcomes := make(map[bool]int)
		cfg.Observe = func(ok bool) { outcomes[ok]++ }
		a := open(t, authn.Config{Issuers: []authn.IssuerConfig{cfg}, Tokens: ruled})
		defer a.Close()
		for range 3 {
			if got := show(t, a, ecToken(t, "ec")); got != "ISSUER_UNAVAILABLE" {
				t.Errorf("at start: %q", got)
			}
		}
		state := a.Issuers()[0].State()
		if state.Err == nil || !state.Fetched.IsZero() || strings.Contains(state.Err.Error(), "secret") {
			t.Errorf("state %+v", state)
		}
		issuer.set(false)
		time.Sleep(time.Minute)
		if got := show(t, a, ecToken(t, "ec")); got != "" || a.Issuers()[0].State().Err != nil {
			t.Errorf("back: %q", got)
		}
		issuer.set(true)
		had := time.Now()
		for time.Since(had) < 55*time.Minute {
			time.Sleep(time.Minute)
			if got := show(t, a, ecToken(t, "ec")); got != "" {
				t.Fatalf("after %v: %q", time.Since(had), got)
			}
		}
		if state := a.Issuers()[0].State(); state.Err != nil || state.Failure == nil {
			t.Errorf("state of an outage: %+v", state)
		}
		if got := show(t, a, ecToken(t, "new")); got != "ISSUER_UNAVAILABLE" {
			t.Errorf("a new key in an outage: %q", got)
		}
		time.Sleep(6 * time.Minute)
		if got := show(t, a, ecToken(t, "ec")); got != "ISSUER_UNAVAILABLE" || a.Issuers()[0].State().Err == nil {
			t.Errorf("too old: %q", got)
		}
		expired := sign(t, jose.ES256, ecKey(), "ec", claimed(map[string]any{"iat": time.Now().Add(-time.Hour).Unix(), "exp": time.Now().Add(-time.Minute).Unix()}))
		if got := show(t, a, expired); got != "UNAUTHENTICATED exp" {
			t.Errorf("one that has expired needs no key to be refused: %q", got)
		}
		issuer.set(false)
		time.Sleep(time.Minute)
		if got := show(t, a, ecToken(t, "ec")); got != "" {
			t.Errorf("back again: %q", got)
		}
		synctest.Wait()
		if strings.Count(log.String(), "cannot be had") != 2 || strings.Count(log.String(), "had again") != 2 || strings.Contains(log.String(), "secret") {
			t.Errorf("log:\n%s", log.String())
		}
		if outcomes[true] == 0 || outcomes[false] < 10 {
			t.Errorf("fetches %v", outcomes)
		}
	})
}

// A call waits for an issuer that is slow, and no longer than three seconds.
func TestSlowIssuer(t *testing.T) {
	for slow, want := range map[time.Duration]string{time.Second: "", time.Hour: "ISSUER_UNAVAILABLE"} {
		bubble(t, &login{keys: public(), slow: slow}, func(t *testing.T, a *authn.Authenticator) {
			begun := time.Now()
			if got := show(t, a, ecToken(t, "ec")); got != want || time.Since(begun) > 3*time.Second {
				t.Errorf("an issuer that takes %v: %q after %v", slow, got, time.Since(begun))
			}
		})
	}
}

// What an issuer publishes is used only where it is what it should be.
func TestDocuments(t *testing.T) {
	key := func(id string, key any, use string) string {
		return string(must(json.Marshal(jose.JSONWebKey{Key: key, KeyID: id, Use: use})))
	}
	good := key("ec", ecKey().Public(), "sig")
	for name, test := range map[string]struct {
		issuer *login
		want   string
	}{
		"among others":        {&login{raw: `{"keys":[{"kty":"none"},7,` + key("x", otherEC().Public(), "enc") + `,` + good + `]}`}, ""},
		"for encryption":      {&login{raw: `{"keys":[` + key("ec", ecKey().Public(), "enc") + `]}`}, "UNAUTHENTICATED kid"},
		"twice":               {&login{raw: `{"keys":[` + good + `,` + good + `]}`}, "UNAUTHENTICATED kid"},
		"twice, one unusable": {&login{raw: `{"keys":[` + good + `,` + key("ec", otherEC().Public(), "enc") + `]}`}, "UNAUTHENTICATED kid"},
		"a private key":       {&login{raw: `{"keys":[` + key("ec", ecKey(), "sig") + `]}`}, "UNAUTHENTICATED kid"},
		"a symmetric key":     {&login{raw: `{"keys":[` + key("ec", []byte("secret"), "sig") + `]}`}, "UNAUTHENTICATED kid"},
		"another algorithm":   {&login{raw: `{"keys":[` + strings.Replace(good, `"kid"`, `"alg":"ES384","kid"`, 1) + `]}`}, "UNAUTHENTICATED alg"},
		"no keys":             {&login{raw: `{}`}, "ISSUER_UNAVAILABLE"},
		"no JSON":             {&login{raw: `<html>`}, "ISSUER_UNAVAILABLE"},
		"too long":            {&login{raw: `{"keys":[]}` + strings.Repeat(" ", 512<<10)}, "ISSUER_UNAVAILABLE"},
		"too many":            {&login{raw: `{"keys":[` + strings.Repeat("1,", 256) + `1]}`}, "ISSUER_UNAVAILABLE"},
		"of another issuer":   {&login{keys: public(), issuer: loginURL + "/"}, "ISSUER_UNAVAILABLE"},
		"keys by http":        {&login{keys: public(), jwksURI: "http://login.example.com/realm/keys"}, "ISSUER_UNAVAILABLE"},
		"keys in a file":      {&login{keys: public(), jwksURI: "file:///etc/passwd"}, "ISSUER_UNAVAILABLE"},
		"keys not there":      {&login{keys: public(), jwksURI: loginURL + "/other"}, "ISSUER_UNAVAILABLE"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, test.issuer, func(t *testing.T, a *authn.Authenticator) {
				if got := show(t, a, ecToken(t, "ec")); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
	moved := &login{keys: public(), moved: true}
	bubble(t, moved, func(t *testing.T, a *authn.Authenticator) {
		if got := show(t, a, ecToken(t, "ec")); got != "ISSUER_UNAVAILABLE" || moved.hits["/moved"] != 0 {
			t.Errorf("moved: %q, %v", got, moved.hits)
		}
	})
	short := &login{keys: map[string]crypto.PublicKey{"rsa": newRSA(1024).Public()}}
	bubble(t, short, func(t *testing.T, a *authn.Authenticator) {
		if got := show(t, a, ecToken(t, "rsa")); got != "UNAUTHENTICATED kid" {
			t.Errorf("a short RSA key: %q", got)
		}
	})
}

// Keys are warned of from 14 days before they expire, each day.
func TestKeyWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		hash := authn.HashKey(authn.NewKey())
		a := open(t, authn.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Keys: []authn.Credential{
			{Hash: hash, Principal: bot, Label: "laptop", Expires: time.Now().Add(16*24*time.Hour + time.Minute)},
			{Hash: authn.HashKey(authn.NewKey()), Principal: bot}}})
		defer a.Close()
		time.Sleep(47 * time.Hour)
		synctest.Wait()
		if log.String() != "" {
			t.Errorf("16 days before: %s", log.String())
		}
		time.Sleep(26 * time.Hour)
		synctest.Wait()
		text := log.String()
		for _, want := range []string{"expires soon", "caller=sync-bot", "label=laptop", hash.ID()} {
			if !strings.Contains(text, want) || strings.Count(text, "\n") != 1 {
				t.Errorf("no %s in one line: %s", want, text)
			}
		}
		time.Sleep(15 * 24 * time.Hour)
		synctest.Wait()
		if text := log.String(); strings.Count(text, "\n") != 16 || !strings.Contains(text, "has expired") {
			t.Errorf("after it: %s", text)
		}
	})
}
