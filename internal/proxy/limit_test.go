package proxy_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

const limitsText = `{"costs": [{"methods": ["a.S/Dear"], "cost": 4}, {"methods": ["a.S/*"], "cost": 1}],
"tenants": [{"name": "acme", "limit": {"rate": 1, "per": "1s", "burst": 100}, "method_limits": [{"name": "dear", "methods": ["a.S/Dear"], "limit": {"max_in_flight": 2}}]}],
"teams": [
 {"name": "x", "tenant": "acme", "callers": [{"name": "ann"}, {"name": "bob"}], "allow": [{"methods": ["a.S/*"]}],
  "limits": {"caller": {"rate": 1, "per": "1s", "burst": 10}, "methods": [
   {"name": "cheap", "methods": ["a.S/Cheap"], "limit": {"rate": 1, "per": "3600s", "burst": 5}},
   {"name": "each", "methods": ["a.S/*"], "per_caller": true, "limit": {"rate": 1, "per": "3600s", "burst": 50}}]}},
 {"name": "y", "tenant": "acme", "callers": [{"name": "eve"}], "allow": [{"methods": ["a.S/*"]}]}]}`

// openLimits has limitsText in force.
func openLimits(t *testing.T, logger *slog.Logger) *proxy.LimitGateway {
	t.Helper()
	cfg := new(configv1.Config)
	if err := protojson.Unmarshal([]byte(limitsText), cfg); err != nil {
		t.Fatal(err)
	}
	g, err := proxy.OpenLimitGateway(cfg, []policy.Method{{Name: "a.S/Cheap"}, {Name: "a.S/Dear"}, {Name: "a.S/Other"}}, logger)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Each call is charged, at its cost, to the limits that are for its method, its
// caller, its team and its tenant, and standings tell so without spending.
func TestStandings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := openLimits(t, nil)
		g.Spend("x", "ann", "a.S/Dear")
		g.Spend("x", "ann", "a.S/Cheap")
		g.Spend("x", "bob", "a.S/Cheap")
		g.Spend("x", "bob", "a.S/Other")
		g.Spend("y", "eve", "a.S/Dear")
		want := map[string][]string{
			"ann": {"teams/x/caller []: 5 of 10 left, full in 5s; 0 of 0 under way", "teams/x/cheap [a.S/Cheap]: 3 of 5 left, full in 2h0m0s; 0 of 0 under way",
				"teams/x/each [a.S/*]: 45 of 50 left, full in 5h0m0s; 0 of 0 under way", "tenants/acme/tenant []: 89 of 100 left, full in 11s; 0 of 0 under way",
				"tenants/acme/dear [a.S/Dear]: 0 of 0 left, full in 0s; 2 of 2 under way"},
			"bob": {"teams/x/caller []: 8 of 10 left, full in 2s; 0 of 0 under way", "teams/x/cheap [a.S/Cheap]: 3 of 5 left, full in 2h0m0s; 0 of 0 under way",
				"teams/x/each [a.S/*]: 48 of 50 left, full in 2h0m0s; 0 of 0 under way", "tenants/acme/tenant []: 89 of 100 left, full in 11s; 0 of 0 under way",
				"tenants/acme/dear [a.S/Dear]: 0 of 0 left, full in 0s; 2 of 2 under way"},
		}
		for range 2 {
			for caller, lines := range want {
				if diff := cmp.Diff(lines, g.Standings("x", caller)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", caller, diff)
				}
			}
		}
		if got := g.Standings("x", "nobody"); got != nil {
			t.Errorf("of nobody: %q", got)
		}
		if v := g.Spend("x", "bob", "a.S/Dear"); v.Allowed || v.Rule.Scope != "dear" {
			t.Errorf("a third dear call: %+v, want refused", v)
		}
	})
}

// A limit that matches nothing for a day is told of once, until it matches.
func TestIdleLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g := openLimits(t, slog.New(slog.NewTextHandler(&log, nil)))
		stop := g.Watch()
		for range 30 {
			g.Spend("x", "ann", "a.S/Cheap")
			time.Sleep(time.Hour)
		}
		synctest.Wait()
		if got := g.Idle(); len(got) != 1 || got[0] != "tenants/acme/dear" {
			t.Errorf("idle are %q, want the one that no call was for", got)
		}
		if n := strings.Count(log.String(), "a limit has matched nothing for a day"); n != 1 || !strings.Contains(log.String(), "limit=tenants/acme/dear") {
			t.Errorf("the log tells %d times:\n%s", n, log.String())
		}
		g.Spend("y", "eve", "a.S/Dear")
		if got := g.Idle(); len(got) != 0 {
			t.Errorf("idle are %q, want none after a match", got)
		}
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if n := strings.Count(log.String(), "limit=tenants/acme/dear"); n != 2 {
			t.Errorf("after another day the log has told %d times, want 2", n)
		}
		stop()
	})
}
