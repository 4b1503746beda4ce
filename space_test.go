package c1proxy_test

import (
	"strings"
	"testing"
)

// TestLittleSpace: little space is a warning to readiness and the log, and
// nobody is unready for it.
func TestLittleSpace(t *testing.T) {
	for keys, want := range map[string]string{
		"min_free_bytes: 0, reserve_bytes: 0":                `"audit_space": "ok"`,
		"min_free_bytes: 1125899906842624, reserve_bytes: 0": `are free, below audit.min_free_bytes"`,
		"min_free_bytes: 0, reserve_bytes: 1125899906842624": `are free, below audit.reserve_bytes: refusals of unknown callers are only counted"`,
	} {
		g := start(t, func(s *setup) {
			s.yaml = func(text string) string { return strings.Replace(text, "audit: {", "audit: {"+keys+", ", 1) }
		})
		status, body := g.admin("/readyz")
		if status != 200 || !strings.Contains(body, want) || !strings.Contains(body, `"ready": true`) {
			t.Errorf("%s: %d %s", keys, status, body)
		}
		if warns := !strings.Contains(want, "ok"); warns != strings.Contains(body, `"audit_space": "warning: `) || warns != strings.Contains(g.logs.String(), "space") {
			t.Errorf("%s: %s\n%s", keys, body, g.logs)
		}
		if metrics := g.metrics(); !strings.Contains(metrics, "c1proxy_audit_free_bytes ") || strings.Contains(metrics, "c1proxy_audit_free_bytes 0\n") {
			t.Errorf("%s: %s", keys, grep(metrics, "free_bytes"))
		}
		if err := g.list(); err != nil {
			t.Errorf("%s: a call: %v", keys, err)
		}
		g.keys["stranger"] = "nobody"
		if _, err := g.client(protocols[0], "stranger").ConfirmSyncValid(t.Context(), g.confirmation("x")); reasonOf(err) != "UNAUTHENTICATED" {
			t.Errorf("%s: a stranger: %v", keys, err)
		}
	}
}
