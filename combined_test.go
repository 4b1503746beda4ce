package c1proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/dev/conformance/conformancev1"
	"github.com/c1proxy/c1proxy/internal/proxy"
	"github.com/c1proxy/c1proxy/internal/redistest"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// This file is about what parts of the line do to each other.

// capped starts a gateway whose payments has some places and no list of the
// application "denied"; a limit in shadow has one. Its local procedure panics. A
// Redis, if any, holds the places.
func capped(t *testing.T, most int, server *redistest.Server) *gateway {
	redis := ""
	if server != nil {
		redis = fmt.Sprintf("redis: {addresses: [%q], replicas: 1, timeout: 1s}\n", server.Address)
	}
	limits := fmt.Sprintf(`{team: {max_in_flight: %d}, methods: [{name: trial, methods: ["c1.**/*"], limit: {max_in_flight: 1, shadow: true}}]}`, most)
	return start(t, limited(limits, redis), func(s *setup) {
		inner := s.yaml
		s.yaml = func(text string) string {
			return strings.Replace(inner(text), onlyConnectors, `- {methods: ["c1.api.app.v1.ConnectorService/List"], condition: 'request.app_id != "denied"'}
      - methods: ["c1.api.app.v1.ConnectorService/ConfirmSyncValid", "connectrpc.conformance.v1.ConformanceService/Unary"]`, 1)
		}
		s.local = []proxy.Local{{Method: conformancev1.File_connectrpc_conformance_v1_service_proto.Services().ByName("ConformanceService").Methods().ByName("Unary"),
			Handle: func(context.Context, connect.AnyRequest, proto.Message) (proto.Message, http.Header, http.Header, error) {
				panic("canary")
			}}}
		s.check = func(*configv1.Config) []config.Problem { return nil }
	})
}

// placesAreFree waits until payments has no place taken, here and in Redis, nor
// the tenant's C1.
func (g *gateway) placesAreFree(server *redistest.Server, after string) {
	g.t.Helper()
	until(g.t, "the places are free after "+after, func() bool {
		return server == nil || server.Do("ZCARD c1proxy:{acme}:team:payments:places\r\n") == ":0\r\n" &&
			server.Do("ZCARD c1proxy:{acme}:trial:team:payments:places\r\n") == ":0\r\n"
	})
	client := g.httpClient(true)
	until(g.t, "a call passes after "+after, func() bool { status, _, _ := g.call(client, nil); return status == http.StatusOK })
	until(g.t, "C1 has no call after "+after, func() bool {
		return strings.Contains(g.metrics(), `c1proxy_tenant_in_flight{tenant="acme"} 0`)
	})
}

// However a call ends, it gives its places back: those of a cap, and those that a
// limit in shadow counts.
func TestPlacesComeBack(t *testing.T) {
	for name, server := range map[string]*redistest.Server{"alone": nil, "with Redis": redistest.StartTCP(t)} {
		t.Run(name, func(t *testing.T) {
			g := capped(t, 1, server)
			warm(g)
			client := g.httpClient(true)
			const list, panics = "c1.api.app.v1.ConnectorService/List", "connectrpc.conformance.v1.ConformanceService/Unary"
			for _, tt := range []struct {
				name, method, body, header, value string
				want                              int
			}{
				{"a refusal at the second look", list, `{"appId":"denied"}`, "", "", http.StatusForbidden},
				{"a body that does not read", list, `{"appId":`, "", "", http.StatusBadRequest},
				{"a body that is too large", list, `{"appId":"` + strings.Repeat("x", 5<<20) + `"}`, "", "", http.StatusTooManyRequests},
				{"a media type that nobody knows", list, `{}`, "Content-Type", "text/plain", http.StatusUnsupportedMediaType},
				{"a deadline that does not read", list, `{}`, "Connect-Timeout-Ms", "soon", http.StatusBadRequest},
				{"a path value that does not go", list, `{"appId":".."}`, "", "", http.StatusBadRequest},
				{"a panic", panics, `{}`, "", "", http.StatusInternalServerError},
				{"a panic before a deadline", panics, `{}`, "Connect-Timeout-Ms", "5000", http.StatusInternalServerError},
			} {
				r := g.post(tt.method, g.keys["sync-bot"], tt.body)
				if tt.header != "" {
					r.Header.Set(tt.header, tt.value)
				}
				if status, _, body := do(t, client, r); status != tt.want {
					t.Errorf("%s: %d %s, want %d", tt.name, status, body, tt.want)
				}
				g.placesAreFree(server, tt.name)
			}
			for _, f := range []sandbox.Fault{sandbox.Unauthorized(), sandbox.Failing(500), sandbox.Reset(), sandbox.HTML(200)} {
				g.c1.Inject(sandbox.Rule{Fault: f, On: confirmMethod, Times: 1})
				_, _, _ = do(t, client, g.post(confirmMethod, g.keys["sync-bot"], g.confirmJSON("x")))
				g.placesAreFree(server, "a fault of C1's")
			}
			g.leave(list, `{"appId":"`+g.facts.AppID+`"}`)
			g.placesAreFree(server, "a read whose caller left")
			g.leave(confirmMethod, g.confirmJSON("y"))
			g.placesAreFree(server, "a write whose caller left")
			g.breakAudit()
			g.mendAudit()
			g.placesAreFree(server, "an audit that failed")
			g.c1.Inject(sandbox.Rule{Fault: sandbox.RateLimited("1"), On: list, Times: 1})
			if err := g.list(); reasonOf(err) != "UPSTREAM_RATE_LIMITED" {
				t.Errorf("C1 has had enough: %v", err)
			}
			g.placesAreFree(server, "a rest of C1's")
		})
	}
}

// leave makes a call that C1 holds, leaves it, and has C1 go on.
func (g *gateway) leave(method, body string) {
	g.t.Helper()
	g.c1.Reset()
	release := make(chan struct{})
	defer close(release)
	g.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), Times: 1})
	ctx, cancel := context.WithCancel(g.t.Context())
	defer cancel()
	left := make(chan struct{})
	go func() {
		defer close(left)
		if response, err := g.httpClient(false).Do(g.post(method, g.keys["sync-bot"], body).WithContext(ctx)); err == nil {
			_ = response.Body.Close()
		}
	}()
	until(g.t, "C1 has the call", func() bool { return g.c1.Hits() == 1 })
	cancel()
	<-left
}

// Two thousand calls whose callers leave, at whatever moment, leave neither a place
// nor a goroutine behind.
func TestLeavingLeavesNothing(t *testing.T) {
	server := redistest.StartTCP(t)
	g := capped(t, 64, server)
	warm(g)
	g.placesAreFree(server, "the start")
	before := runtime.NumGoroutine()
	client := g.httpClient(false)
	var callers sync.WaitGroup
	for i := range 20 {
		callers.Go(func() {
			for j := range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration((i*7+j*13)%40)*500*time.Microsecond)
				r := g.post("c1.api.app.v1.ConnectorService/List", g.keys["sync-bot"], `{"appId":"`+g.facts.AppID+`"}`)
				if j%2 == 0 {
					r = g.post(confirmMethod, g.keys["sync-bot"], g.confirmJSON(fmt.Sprintf("%s%d-%d", sandbox.ConfirmablePrefix, i, j)))
				}
				if j%3 == 0 {
					r.Header.Set("Connect-Timeout-Ms", "15")
				}
				if response, err := client.Do(r.WithContext(ctx)); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
				cancel()
			}
		})
	}
	callers.Wait()
	client.CloseIdleConnections()
	g.placesAreFree(server, "2000 calls")
	until(t, "their goroutines have ended", func() bool {
		stacks := make([]byte, 4<<20)
		text := string(stacks[:runtime.Stack(stacks, true)])
		return !strings.Contains(text, "proxy.(*binding)") && !strings.Contains(text, "ratelimit.(*store).spend")
	})
	// What is left are at most as many connections to C1 as there were calls at once.
	until(t, "no others are left", func() bool { return runtime.NumGoroutine() <= before+20*4 })
}

// A call whose team is removed while it waits, for a slot or for Redis, ends as it
// began, and leaves nothing taken; the next one is a stranger's.
func TestRemovedWhileItWaits(t *testing.T) {
	for _, waitsFor := range []string{"a slot", "Redis"} {
		t.Run(waitsFor, func(t *testing.T) {
			server := redistest.StartTCP(t)
			redis := fmt.Sprintf("redis: {addresses: [%q], replicas: 1, timeout: 1s}\n", server.Address)
			g := start(t, limited("{team: {max_in_flight: 5}}", redis), func(s *setup) { s.keys = []string{"max_in_flight: 3"} })
			warm(g)
			var release func()
			answered := make(chan error, 2)
			until(t, "a call is seen to wait", func() bool {
				g.c1.Reset()
				g.c1.Heal()
				held := make(chan struct{})
				release = sync.OnceFunc(func() { close(held) })
				g.c1.Inject(sandbox.Rule{Fault: sandbox.Held(held)})
				go func() { answered <- g.list() }()
				until(t, "C1 has the first", func() bool { return g.c1.Hits() == 1 })
				if waitsFor == "Redis" {
					server.Signal(syscall.SIGSTOP)
				}
				go func() { answered <- g.list() }()
				places := func() string { return server.Do("ZCARD c1proxy:{acme}:team:payments:places\r\n") }
				for waitsFor == "a slot" && places() != ":2\r\n" { // then it is before the slots
					if len(answered) > 0 { // it has waited for half a second, and was not seen
						release()
						<-answered
						<-answered
						return false
					}
				}
				return true
			})
			defer release()
			from, to := strings.Index(g.text, "  - name: payments\n"), strings.Index(g.text, "  - name: slow\n")
			if err := g.reload(g.text[:from] + g.text[to:]); err != nil {
				t.Fatal(err)
			}
			if waitsFor == "Redis" {
				server.Signal(syscall.SIGCONT)
			}
			if err := g.list(); reasonOf(err) != "UNAUTHENTICATED" {
				t.Errorf("a call of the team that is gone: %v", err)
			}
			release()
			for range 2 { // the second may have come too late
				if err := <-answered; err != nil && reasonOf(err) != "UNAUTHENTICATED" && reasonOf(err) != "OVERLOADED" {
					t.Errorf("a call that was under way: %v", err)
				}
			}
			until(t, "no place is taken", func() bool { return server.Do("ZCARD c1proxy:{acme}:team:payments:places\r\n") == ":0\r\n" })
			until(t, "C1 has no call", func() bool {
				m := g.metrics()
				return strings.Contains(m, `c1proxy_tenant_in_flight{tenant="acme"} 0`) && strings.Contains(m, `c1proxy_tenant_waiting{tenant="acme"} 0`)
			})
		})
	}
}

// Limits that a reload changes while Redis is away hold at once, and what was owed
// before is owed still, also when Redis comes back empty.
func TestReloadWithoutRedis(t *testing.T) {
	server := redistest.StartTCP(t)
	g := start(t, limited("{team: {rate: 1, per: 1h, burst: 20}}", fmt.Sprintf("redis: {addresses: [%q], replicas: 1, timeout: 1s}\n", server.Address)))
	client := g.httpClient(true)
	spend := func(what, want string) {
		t.Helper()
		if status, header, body := g.call(client, nil); !strings.HasPrefix(header.Get("RateLimit"), want) {
			t.Errorf("%s: %d %q %s, want %q", what, status, header.Get("RateLimit"), body, want)
		}
	}
	sharing := func(want string) {
		t.Helper()
		until(t, "Redis is "+want, func() bool { _, body := g.admin("/readyz"); return strings.Contains(body, `"redis": "`+want) })
	}
	burst := func(n int) {
		t.Helper()
		if err := g.reload(replaced(t, g.text, "burst: 20", fmt.Sprint("burst: ", n))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		spend("with Redis", fmt.Sprintf(`"team";r=%d;`, 19-i))
	}
	server.Kill()
	down := func() bool {
		g.call(client, nil)
		_, body := g.admin("/readyz")
		return strings.Contains(body, `"redis": "warning`)
	}
	until(t, "Redis is given up", down) // by three calls
	burst(10)
	spend("with a smaller burst", `"team";r=1;`)
	burst(30)
	spend("with a larger one", `"team";r=20;`)
	server.Restart()
	sharing("ok")
	spend("with an empty Redis", `"team";r=19;`)
}

// A page that may not call is refused before its proof is looked at: neither a
// certificate nor a token makes it anybody's call, and it is no failure to
// authenticate.
func TestForeignPageWithProof(t *testing.T) {
	s := startShared(t, func(i *issuerServer) { i.listen = ", failed_auth: {rate: 1, per: 1h, burst: 2}" })
	hits := s.c1.Hits()
	certificate := s.clients.issue(nil, syncURI)
	for _, p := range protocols {
		for _, proof := range []proof{{name: "certificate", certificate: &certificate}, {name: "token", bearer: []string{s.issuer.token("first", nil, nil)}},
			{name: "bad key", bearer: []string{"c1p_x"}}} {
			proof.header = http.Header{"Origin": {"https://evil.example"}}
			record, err := s.try(p, proof, true)
			if reasonOf(err) != "ORIGIN_DENIED" || record.Caller != "" || record.Error != "ORIGIN_DENIED" || record.Detail["origin"] != "https://evil.example" {
				t.Errorf("%s by %s: %v, %+v", p.name, proof.name, err, record)
			}
		}
	}
	if got := s.c1.Hits(); got != hits {
		t.Errorf("C1 saw %d requests", got-hits)
	}
	if record, err := s.try(protocols[0], proof{name: "certificate alone", certificate: &certificate}, false); err != nil || record.Caller != "sync-bot" {
		t.Errorf("the same certificate without a page: %v, %+v", err, record)
	}
}

// Tokens whose issuer does not answer are no failures: their caller has not failed.
func TestIssuerDownIsNoFailure(t *testing.T) {
	s := startShared(t, func(i *issuerServer) { i.down, i.listen = true, ", failed_auth: {rate: 1, per: 1h, burst: 2}" })
	for i := range 10 {
		bearer := s.issuer.token("first", nil, map[string]any{"n": i})
		if _, err := s.try(protocols[i%len(protocols)], proof{name: fmt.Sprint("token ", i), bearer: []string{bearer}}, false); reasonOf(err) != "ISSUER_UNAVAILABLE" {
			t.Errorf("call %d: %v", i, err)
		}
	}
	for _, want := range []string{"UNAUTHENTICATED", "UNAUTHENTICATED", "TOO_MANY_FAILURES"} {
		if _, err := s.try(protocols[0], proof{bearer: []string{"c1p_x"}}, false); reasonOf(err) != want {
			t.Errorf("a bad key: %v, want %s", err, want)
		}
	}
}
