package proxy_test

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// A stream is ended when c1proxy stops, when its configuration is replaced, within
// seconds of the end of its caller's key, and after an hour, for the audit keeps all
// that was written since it began; by its handler, never.
func TestStreamEnds(t *testing.T) {
	for _, tt := range []struct {
		name    string
		expires time.Duration
		by      func(*proxy.Watched, func())
		after   time.Duration // and five seconds at most
		reason  fault.Reason  // "" for one that nobody ends
		want    string
	}{
		{"stop", 0, func(w *proxy.Watched, _ func()) { close(w.Stopping) }, 20 * time.Minute, fault.StreamEnded, "c1proxy stops"},
		{"reload", 0, func(w *proxy.Watched, _ func()) { close(w.Replaced) }, 20 * time.Minute, fault.StreamEnded, "configuration was replaced"},
		{"key", 12 * time.Minute, nil, 12 * time.Minute, fault.Unauthenticated, "expired"},
		{"hour", 0, nil, time.Hour, fault.StreamEnded, "it has lasted an hour: begin another one where it ended"},
		{"handler", 0, func(_ *proxy.Watched, done func()) { done() }, 0, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := authn.NewKey()
				credential := authn.Credential{Hash: authn.HashKey(key), Principal: &principal.Principal{Team: "a", Caller: "x"}}
				if tt.expires > 0 {
					credential.Expires = time.Now().Add(tt.expires)
				}
				callers, err := authn.Open(authn.Config{Keys: []authn.Credential{credential}, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				defer callers.Close()
				r := httptest.NewRequest("POST", "/", nil)
				r.Header.Set("Authorization", "Bearer "+key)
				begun := time.Now()
				var why *fault.Fault
				var after time.Duration
				w := &proxy.Watched{Callers: callers}
				done := w.Watch(r, func(f *fault.Fault) { why, after = f, time.Since(begun) })
				if tt.by != nil {
					time.Sleep(20 * time.Minute) // which passes at once
					tt.by(w, done)
				}
				if tt.reason != "" {
					time.Sleep(2 * time.Hour)
				}
				synctest.Wait()
				if tt.reason == "" {
					if why != nil {
						t.Errorf("ended with %v", why)
					}
					return
				}
				done()
				if why == nil || why.Reason != tt.reason || !strings.Contains(why.Message, tt.want) || after < tt.after || after > tt.after+5*time.Second {
					t.Errorf("after %v: %v", after, why)
				}
			})
		})
	}
}
