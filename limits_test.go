package c1proxy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/proxy"
	"github.com/c1proxy/c1proxy/internal/redistest"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// limited has the team payments limited, with more configuration below.
func limited(limits, more string) func(*setup) {
	return func(s *setup) {
		s.yaml = func(text string) string {
			text = strings.Replace(text, "per: 3600s, burst: 1}", "per: 3600s, burst: 5}", 1)
			return strings.Replace(text, "  - name: slow\n", "    limits: "+limits+"\n  - name: slow\n", 1) + more
		}
	}
}

// call makes a list, which changes nothing, and returns its HTTP status.
func (g *gateway) call(client *http.Client, change func(*http.Request)) (int, http.Header, string) {
	g.t.Helper()
	r := g.post("c1.api.app.v1.ConnectorService/List", g.keys["sync-bot"], `{"appId":"`+g.facts.AppID+`"}`)
	if change != nil {
		change(r)
	}
	return do(g.t, client, r)
}

// spoof has the call claim that it comes from elsewhere.
func spoof(r *http.Request) {
	address := fmt.Sprintf("198.51.100.%d", rand.IntN(256))
	for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip"} {
		r.Header.Set(name, address)
	}
	r.Header.Set("Forwarded", "for="+address)
	r.Header.Set("X-Forwarded-User", address)
	r.Header.Set("User-Agent", address)
}

// P10, at the doors: what gateways accept together is at most burst + rate *
// time, and headers change nothing in it. The fleet has one Redis, which is killed
// and comes back empty on the way.
func TestLimitsHold(t *testing.T) {
	for _, tt := range []struct {
		replicas  int
		tolerance float64
	}{{1, 1.01}, {3, 1.05}} {
		t.Run(fmt.Sprint(tt.replicas), func(t *testing.T) {
			const rate, burst = 10, 130
			var server *redistest.Server
			change := func(s *setup) { s.keys = []string{fmt.Sprintf("limit: {rate: %d, per: 1s, burst: %d}", rate, burst)} }
			if tt.replicas > 1 {
				server = redistest.StartTCP(t)
				redis := fmt.Sprintf("redis: {addresses: [%q], replicas: %d, timeout: 1s}\n", server.Address, tt.replicas)
				inner := change
				change = func(s *setup) { inner(s); s.yaml = func(text string) string { return text + redis } }
			}
			var gateways []*gateway
			for range tt.replicas {
				gateways = append(gateways, start(t, change))
			}
			var accepted, refused atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			var group sync.WaitGroup
			begun := time.Now()
			for _, g := range gateways {
				client := g.httpClient(true)
				for range 4 { // enough to use the burst up on a slow machine too
					group.Go(func() {
						for ctx.Err() == nil {
							status, _, body := g.call(client, spoof)
							switch status {
							case http.StatusOK:
								accepted.Add(1)
							case http.StatusTooManyRequests:
								refused.Add(1)
								time.Sleep(5 * time.Millisecond)
							default:
								t.Errorf("status %d: %s", status, body)
								return
							}
						}
					})
				}
			}
			until(t, "the burst is used up", func() bool { return refused.Load() > 0 })
			time.Sleep(time.Second)
			if server != nil {
				server.Kill()
				for _, g := range gateways {
					until(t, "the gateway tells that Redis is away", func() bool { _, body := g.admin("/readyz"); return strings.Contains(body, `"redis": "warning: `) })
				}
				time.Sleep(time.Second)
				server.Restart()
				for _, g := range gateways {
					until(t, "the gateway tells that Redis is back", func() bool { _, body := g.admin("/readyz"); return strings.Contains(body, `"redis": "ok"`) })
				}
				time.Sleep(time.Second)
			}
			cancel()
			group.Wait()
			most := burst + rate*time.Since(begun).Seconds()
			got := float64(accepted.Load())
			t.Logf("%d replicas accepted %.0f of %.1f (%+.2f%%), the burst is %.0f%%", tt.replicas, got, most, 100*(got/most-1), 100*burst/most)
			if got > tt.tolerance*most || got < burst { // all of a burst, at the least, however slow the machine is
				t.Errorf("accepted %.0f of %.1f", got, most)
			}
			if server != nil {
				for _, g := range gateways {
					g.checkSwitches()
				}
			}
		})
	}
}

// checkSwitches expects that Redis went and came back, in the audit, where some
// calls say that the gateway alone has decided, and in the metrics.
func (g *gateway) checkSwitches() {
	g.t.Helper()
	var events []string
	alone := 0
	err := audit.Query(context.Background(), g.dir, audit.Filter{}, func(r audit.Record) error {
		if strings.HasPrefix(r.Event, "limits_") {
			events = append(events, r.Event)
		}
		if r.Detail["limiter"] == "local" {
			alone++
		}
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	if got := strings.Join(events, " "); got != "limits_local limits_shared" || alone == 0 {
		g.t.Errorf("the audit has the events %s and %d records of calls that were decided alone", got, alone)
	}
	if text := g.metrics(); !strings.Contains(text, "c1proxy_redis_up 1") || !strings.Contains(text, "c1proxy_redis_losses_total 1") {
		g.t.Error("the metrics do not tell that Redis went once, and is back")
	}
}

// A place is taken until the call is finished, also when its caller has gone.
func TestCallsAtOnce(t *testing.T) {
	g := start(t, limited("{team: {max_in_flight: 1}}", ""))
	warm(g)
	release := make(chan struct{})
	g.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirmMethod})
	g.c1.Reset()
	if got, _ := g.hurry("Connect-Timeout-Ms", "2000"); !strings.HasPrefix(got, "504") || g.c1.Hits() != 1 {
		t.Fatalf("a call of 2 s that C1 holds: %s, %d requests", got, g.c1.Hits())
	}
	client := g.httpClient(true)
	status, header, body := g.call(client, nil)
	if status != http.StatusTooManyRequests || header.Get("Retry-After") != "1" || header.Get("RateLimit") != `"team-in-flight";r=0;t=1` ||
		!strings.Contains(body, "the team has 1 calls under way, as many as it may") || !strings.Contains(body, `"rule":"team"`) {
		t.Errorf("while that call goes on without its caller: %d %s %s", status, header, body)
	}
	close(release)
	until(t, "the call has given its place back", func() bool { status, _, _ := g.call(client, nil); return status == http.StatusOK })
	for range 3 { // and each of these gives its own back
		if status, _, body := g.call(client, nil); status != http.StatusOK {
			t.Errorf("afterwards: %d %s", status, body)
		}
	}
}

// Methods have limits and costs of their own; a limit in shadow refuses nothing
// and tells what it would have refused.
func TestLimitsOnMethods(t *testing.T) {
	g := start(t, limited(`{team: {rate: 1, per: 1h, burst: 20}, methods: [
      {name: lists, methods: ["c1.api.app.v1.ConnectorService/List"], limit: {rate: 1, per: 1h, burst: 10}},
      {name: trial, methods: ["c1.api.app.v1.ConnectorService/*"], limit: {rate: 1, per: 1h, burst: 6, shadow: true}}]}`,
		`costs: [{methods: ["c1.api.app.v1.ConnectorService/List"], cost: 5}, {methods: ["c1.api.app.v1.*/*"], cost: 2}]`+"\n"))
	client := g.httpClient(true)
	status, header, body := g.call(client, nil)
	if status != http.StatusOK || header.Get("RateLimit") != `"lists";r=5;t=18000` ||
		header.Get("RateLimit-Policy") != `"team";q=1;w=3600;c1proxy-burst=20, "lists";q=1;w=3600;c1proxy-burst=10` {
		t.Errorf("the first list: %d %v %s", status, header, body)
	}
	_, header, _ = g.call(client, nil)
	records := g.records(header.Get("X-Request-Id"))
	if len(records) != 2 || records[1].Detail["shadow_limit"] != "teams/payments/trial" {
		t.Errorf("the second, which the trial would refuse: %+v", records)
	}
	status, header, body = g.call(client, nil)
	if status != http.StatusTooManyRequests || !strings.Contains(body, "the lists's limit of 1 calls per 1h0m0s is used up") || !strings.Contains(body, `"rule":"lists"`) {
		t.Errorf("the third: %d %s", status, body)
	}
	if records := g.records(header.Get("X-Request-Id")); len(records) != 1 || records[0].Rule != "lists" {
		t.Errorf("its records: %+v", records)
	}
	_, header, _ = do(t, client, g.post(confirmMethod, g.keys["sync-bot"], g.confirmJSON(g.facts.SyncLifecycleID)))
	if got := header.Get("RateLimit"); got != `"team";r=8;t=43200` && !strings.HasPrefix(got, `"team";r=8;t=4319`) { // some seconds may have come back
		t.Errorf("after two lists of 5 and another method of 2 the team has %s, want 8 of 20 left", got)
	}
	for _, line := range []string{`c1proxy_limit_refusals_total{limit="teams/payments/lists",outcome="refused"} 1`,
		`c1proxy_limit_refusals_total{limit="teams/payments/trial",outcome="would_refuse"} 3`, "c1proxy_limits_idle 0"} {
		if !strings.Contains(g.metrics(), line) {
			t.Errorf("no metric %s", line)
		}
	}
}

// Where the configuration says so, nothing is called without Redis.
func TestLimitsRefuse(t *testing.T) {
	server := redistest.StartTCP(t)
	g := start(t, limited("{team: {rate: 1000, per: 1s, burst: 1000}}",
		fmt.Sprintf("redis: {addresses: [%q], replicas: 1, on_redis_failure: refuse, timeout: 1s}\n", server.Address)))
	client := g.httpClient(true)
	if status, _, body := g.call(client, nil); status != http.StatusOK {
		t.Fatalf("with Redis: %d %s", status, body)
	}
	server.Kill()
	g.c1.Reset()
	status, header, body := g.call(client, nil)
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "LIMITER_UNAVAILABLE") || header.Get("Retry-After") != "1" || g.c1.Hits() != 0 {
		t.Errorf("without it: %d %v %s, %d requests to C1", status, header, body, g.c1.Hits())
	}
	if records := g.records(header.Get("X-Request-Id")); len(records) != 1 || records[0].Error != "LIMITER_UNAVAILABLE" || records[0].Kind != audit.KindDenied {
		t.Errorf("its records: %+v", records)
	}
}

// Limits and costs of methods that do not exist, and of calls that could never
// pass, are found with their line.
func TestLimitsAreChecked(t *testing.T) {
	var text string
	start(t, func(s *setup) { s.yaml = func(given string) string { text = given; return given } })
	for what, tt := range map[string]struct{ limits, more, want string }{
		"a pattern that matches nothing": {`{methods: [{name: a, methods: ["c1.api.app.v1.ConnectorService/Lst"], limit: {max_in_flight: 1}}]}`, "", "teams[0].limits.methods[0].methods[0]: "},
		"a cost of nothing":              {"{}", `costs: [{methods: ["c1.api.nothing.v1.*/*"], cost: 2}]`, "costs[0].methods[0]: "},
		"a cost above a burst": {"{caller: {rate: 1, per: 1s, burst: 4}}", `costs: [{methods: ["c1.api.app.v1.ConnectorService/List"], cost: 5}]`,
			"teams[0].limits.caller.burst: is less than 5, which a call that it is for costs (costs): such calls would never pass"},
		"a cost above a burst, of what is not allowed": {"{caller: {rate: 1, per: 1s, burst: 4}}", `costs: [{methods: ["c1.api.systemlog.v1.*/*"], cost: 5}]`, ""},
	} {
		s := new(setup)
		limited(tt.limits, tt.more+"\n")(s)
		_, err := config.Parse("test.yaml", []byte(s.yaml(text)), proxy.Check)
		if got := fmt.Sprint(err); tt.want == "" && err != nil || !strings.Contains(got, tt.want) || tt.want != "" && !strings.HasPrefix(got, "test.yaml:") {
			t.Errorf("%s: %v, want %s", what, err, tt.want)
		}
	}
}
