package authn_test

import (
	"crypto"
	"testing"
	"testing/synctest"
	"time"

	"github.com/c1proxy/c1proxy/internal/authn"
)

// An issuer that takes over another's keys has them at once, whether the issuer
// answers or not, fetches none before it is time, and uses them no longer than
// the first would have.
func TestInherit(t *testing.T) {
	issuer := &login{keys: map[string]crypto.PublicKey{"old": ecKey().Public()}}
	synctest.Test(t, func(t *testing.T) {
		first := open(t, authn.Config{Issuers: []authn.IssuerConfig{issuer.config()}, Tokens: ruled})
		if got := show(t, first, ecToken(t, "old")); got != "" {
			t.Fatal(got)
		}
		time.Sleep(time.Minute)
		cfg := issuer.config()
		cfg.Audiences = []string{"c1proxy", "more"}
		cfg.Before = first.Issuer("login")
		second := open(t, authn.Config{Issuers: []authn.IssuerConfig{cfg}, Tokens: ruled})
		defer second.Close()
		first.Close()
		synctest.Wait()
		if got := show(t, second, ecToken(t, "old")); got != "" || issuer.fetches() != 1 {
			t.Errorf("%q, %d fetches", got, issuer.fetches())
		}
		issuer.set(true)
		time.Sleep(50 * time.Minute) // fetches have failed since the fifth
		if got := show(t, second, ecToken(t, "old")); got != "" {
			t.Errorf("the issuer is down: %q", got)
		}
		cfg.Before = second.Issuer("login")
		third := open(t, authn.Config{Issuers: []authn.IssuerConfig{cfg}, Tokens: ruled})
		defer third.Close()
		if state := third.Issuers()[0].State(); state.Err != nil || state.Failure == nil {
			t.Errorf("taken over while it is down: %+v", state)
		}
		time.Sleep(10 * time.Minute)
		if got := show(t, third, ecToken(t, "old")); got != "ISSUER_UNAVAILABLE" {
			t.Errorf("an hour after the keys were had: %q", got)
		}
		issuer.set(false)
		time.Sleep(time.Minute)
		if got := show(t, third, ecToken(t, "old")); got != "" {
			t.Errorf("the issuer is back: %q", got)
		}
	})
}
