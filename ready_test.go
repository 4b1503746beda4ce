package c1proxy_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/redistest"
)

// Readiness tells of every dependency by name, and without Redis too, which is a
// warning and leaves the others as they are.
func TestReadyTellsOfAll(t *testing.T) {
	redis, edge := redistest.StartTCP(t), newEdge(t)
	var kept shipment
	hook := kept.takeWebhook(t, func() int { return http.StatusOK })
	g := start(t, func(s *setup) {
		s.facts = func(g *gateway, text string) string {
			text, _ = withOwn(t, g, edge.configure(text), g.facts.PlainClientSecret)
			text = shipTo(`{name: siem, webhook: {url: "` + hook.URL + `"}}`)(text)
			return text + fmt.Sprintf("redis: {addresses: [%q], replicas: 1, timeout: 1s}\n", redis.Address)
		}
	})
	g.insecure = &tls.Config{InsecureSkipVerify: true} // the server's certificate is made for this test
	edge.await(g)
	ready := func() (status int, checks map[string]string) {
		status, body := g.admin("/readyz")
		var said struct {
			Ready  bool
			Checks map[string]string
		}
		if err := json.Unmarshal([]byte(body), &said); err != nil || said.Ready != (status == http.StatusOK) {
			t.Fatal(status, body, err)
		}
		return status, said.Checks
	}
	status, checks := ready()
	want := []string{"audit", "audit_space", "c1/acme", "config", "issuer/login", "redis", "sink/siem", "token/acme", "token/acme/payments"}
	if names := slices.Sorted(maps.Keys(checks)); status != http.StatusOK || !cmp.Equal(names, want) {
		t.Errorf("%d %v, want %v", status, names, want)
	}
	for name, said := range checks {
		if said != "ok" && name != "audit_space" { // which is this machine's
			t.Errorf("%s: %s", name, said)
		}
	}
	redis.Kill()
	until(t, "Redis is missed", func() bool {
		_, _ = g.tryAs(protocols[0], "slow-bot") // who has a limit
		status, checks = ready()
		return strings.HasPrefix(checks["redis"], "warning: ")
	})
	if names := slices.Sorted(maps.Keys(checks)); status != http.StatusOK || !cmp.Equal(names, want) || checks["token/acme"] != "ok" || checks["issuer/login"] != "ok" {
		t.Errorf("without Redis: %d %v", status, checks)
	}
}
