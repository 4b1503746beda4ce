package c1proxy_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/gen/c1/api/app/v1/appv1connect"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// blackHole listens, takes every connection, and never says a word.
func blackHole(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		listener.Close()
		group.Wait()
		for _, conn := range conns {
			conn.Close()
		}
	})
	return "http://" + listener.Addr().String()
}

// A burst is what became of many calls at once.
type burst struct {
	reasons map[string]int
	took    map[string][]time.Duration // by reason, sorted
}

// at is the share of the calls with a reason that took no longer than the result.
func (b burst) at(reason string, share float64) time.Duration {
	took := b.took[reason]
	if len(took) == 0 {
		return 0
	}
	return took[min(len(took)-1, int(share*float64(len(took))))]
}

// burst makes n calls at once, alternately reads and confirmations, over
// connections that stand: it is not dialling that is measured.
func (g *gateway) burst(n int) burst {
	b := burst{make(map[string]int), make(map[string][]time.Duration)}
	var clients []appv1connect.ConnectorServiceClient
	for range (n + 99) / 100 {
		own := g.httpClient(false)
		defer own.CloseIdleConnections()
		do(g.t, own, g.post("nowhere", "", ""))
		clients = append(clients, appv1connect.NewConnectorServiceClient(own, g.url, connect.WithGRPC(), connect.WithInterceptors(bearer(g.keys["sync-bot"]))))
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range n {
		client := clients[i/100]
		group.Go(func() {
			begun := time.Now()
			var err error
			if i%2 == 0 {
				_, err = client.List(context.Background(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
			} else {
				_, err = client.ConfirmSyncValid(context.Background(), g.confirmation("x"))
			}
			reason := reasonOf(err)
			if codeOf(err) == connect.CodeUnavailable && detail[*errdetails.RetryInfo](err) == nil && reason != "UPSTREAM_UNREACHABLE" {
				reason += " without RetryInfo"
			}
			mu.Lock()
			defer mu.Unlock()
			b.reasons[fmt.Sprint(codeOf(err), " ", reason)]++
			b.took[reason] = append(b.took[reason], time.Since(begun))
		})
	}
	group.Wait()
	for _, took := range b.took {
		slices.Sort(took)
	}
	return b
}

// A dead C1 that swallows calls costs its 2,000 callers nothing but the few that
// find out; then it costs all of them nothing. When they have gone, nothing is
// left of them.
func TestBlackHole(t *testing.T) {
	const callers, slots = 2000, 64
	at := blackHole(t)
	g := start(t, func(s *setup) {
		s.tenant, s.yaml = at, fixedToken(t)
		s.keys = []string{"timeout: 6s", fmt.Sprint("max_in_flight: ", slots)}
	})
	_, _ = g.client(protocols[0], "reader").ConfirmSyncValid(t.Context(), g.confirmation("x")) // denied; all is warm
	goroutines, heap := runtime.NumGoroutine(), inUse()
	var peak int
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(2 * time.Second) // by now only those are left that found a place
		peak = runtime.NumGoroutine()
	}()
	first := g.burst(callers)
	<-done
	silent := first.reasons["deadline_exceeded DEADLINE_EXCEEDED"]
	// On a slow machine the silence is noticed while the last calls come.
	if shed := first.reasons["unavailable OVERLOADED"] + first.reasons["unavailable UPSTREAM_DOWN"]; silent == 0 || silent > slots || shed != callers-silent {
		t.Errorf("of %d callers: %v", callers, first.reasons)
	}
	shortest := first.at("DEADLINE_EXCEEDED", 0)
	if p90 := first.at("OVERLOADED", 0.9); p90 > shortest {
		t.Errorf("nine of ten were shed within %v, while the silence lasted %v", p90, shortest)
	}
	second := g.burst(callers)
	if second.reasons["unavailable UPSTREAM_DOWN"] < callers*99/100 {
		t.Fatalf("of %d more: %v", callers, second.reasons)
	}
	t.Logf("%d callers of a C1 that is silent: %v", callers, first.reasons)
	t.Logf("shed within %v (median), %v (90%%), %v (99%%); the others waited %v", first.at("OVERLOADED", .5), first.at("OVERLOADED", .9), first.at("OVERLOADED", .99), shortest)
	t.Logf("%d more, once it is known: %v; %v (median), %v (99%%)", callers, second.reasons, second.at("UPSTREAM_DOWN", .5), second.at("UPSTREAM_DOWN", .99))
	t.Logf("goroutines: %d before, %d with %d calls under way", goroutines, peak, silent)
	backToBaseline(t, goroutines, heap)
	refusalsAreCheap(t, g)
	if got := strings.Count(g.logs.String(), "C1 does not answer"); got != 1 || strings.Contains(g.logs.String(), "OVERLOADED") {
		t.Errorf("the log says %d times that C1 does not answer", got)
	}
}

// backToBaseline waits until goroutines and memory are what they were.
func backToBaseline(t *testing.T, goroutines int, heap uint64) {
	t.Helper()
	until(t, "the goroutines have gone", func() bool { return runtime.NumGoroutine() <= goroutines+60 }) // connections of ours stay
	after := inUse()
	if after > heap+64<<20 {
		t.Errorf("the heap grew from %d to %d MiB", heap>>20, after>>20)
	}
	t.Logf("afterwards: %d goroutines (%d before), heap %d MiB (%d before)", runtime.NumGoroutine(), goroutines, after>>20, heap>>20)
}

// refusalsAreCheap compares a call that is refused because C1 is down, one after
// the other, with one that the policy denies.
func refusalsAreCheap(t *testing.T, g *gateway) {
	t.Helper()
	took := make(map[string][]time.Duration)
	client := map[string]appv1connect.ConnectorServiceClient{"UPSTREAM_DOWN": g.client(protocols[2], "sync-bot"), "METHOD_DENIED": g.client(protocols[2], "reader")}
	for range 300 { // in turns, so that both meet the same machine
		for reason, c := range client {
			begun := time.Now()
			if _, err := c.ConfirmSyncValid(t.Context(), g.confirmation("x")); reasonOf(err) == reason {
				took[reason] = append(took[reason], time.Since(begun))
			}
		}
	}
	median := make(map[string]time.Duration)
	for reason := range client {
		all := took[reason]
		if len(all) < 290 { // one or two may have found out
			t.Fatalf("%d of 300 calls were refused %s", len(all), reason)
		}
		slices.Sort(all)
		median[reason] = all[len(all)/2]
	}
	t.Logf("one after the other, to the caller's eye: %v (medians)", median)
	if median["UPSTREAM_DOWN"] > 4*median["METHOD_DENIED"] {
		t.Errorf("a call to a C1 that is down costs more than four refusals: %v", median)
	}
	recorded := g.took(t, "UPSTREAM_DOWN")
	t.Logf("%d refusals UPSTREAM_DOWN took the gateway %v (median)", len(recorded), recorded[len(recorded)/2])
}

// took is how long calls took that were denied for a reason, sorted.
func (g *gateway) took(t *testing.T, reason string) (took []time.Duration) {
	t.Helper()
	err := audit.Query(t.Context(), g.dir, audit.Filter{Kind: audit.KindDenied}, func(r audit.Record) error {
		if r.Error == reason {
			took = append(took, r.Duration)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(took)
	return took
}

// A dead C1 that refuses connections is left alone after a few calls; it says so
// in the metrics and to readiness, which it does not fail; and it is found again
// by itself.
func TestConnectionRefused(t *testing.T) {
	g := start(t, func(s *setup) { s.yaml = nil })
	warm(g)
	address := strings.TrimPrefix(g.c1.URL(), "http://")
	if err := g.c1.Close(); err != nil {
		t.Fatal(err)
	}
	goroutines, heap := runtime.NumGoroutine(), inUse()
	b := g.burst(2000)
	if b.reasons["unavailable UPSTREAM_DOWN"] == 0 || b.reasons["unavailable UPSTREAM_UNREACHABLE"] == 0 {
		t.Errorf("of 2,000 callers: %v", b.reasons)
	}
	for reason := range b.reasons {
		if strings.HasPrefix(reason, "unknown") && b.reasons[reason] > 2 { // the one connection that was had
			t.Errorf("of 2,000 callers: %v", b.reasons)
		}
	}
	t.Logf("2,000 callers of a C1 that refuses connections: %v; %v (median), %v (99%%)", b.reasons, b.at("UPSTREAM_DOWN", .5), b.at("UPSTREAM_DOWN", .99))
	backToBaseline(t, goroutines, heap)
	if status, body := g.admin("/readyz"); status != 200 || !strings.Contains(body, `"c1/acme": "has not answered since`) {
		t.Errorf("readiness: %d %s", status, body)
	}
	for _, want := range []string{`c1proxy_tenant_down{tenant="acme"} 1`, `c1proxy_tenant_down_total{tenant="acme"} 1`,
		`c1proxy_tenant_in_flight{tenant="acme"} 0`, `c1proxy_tenant_waiting{tenant="acme"} 0`, `c1proxy_faults_total{reason="UPSTREAM_DOWN"}`} {
		if body := g.metrics(); !strings.Contains(body, want) {
			t.Errorf("metrics have no %s in\n%s", want, grep(body, "tenant"))
		}
	}
	response, err := g.client(protocols[0], "sync-bot").ConfirmSyncValid(t.Context(), g.confirmation("x"))
	if reasonOf(err) == "UPSTREAM_DOWN" {
		if records := g.records(requestID(response, err)); len(records) != 1 || records[0].Kind != audit.KindDenied || records[0].Error != "UPSTREAM_DOWN" {
			t.Errorf("records %+v", records)
		}
	} else if reasonOf(err) != "UPSTREAM_UNREACHABLE" {
		t.Errorf("a call: %v", err)
	}
	again, err := sandbox.Start(address, sandbox.Config{ClientID: g.facts.ClientID, ClientSecret: g.facts.ClientSecret})
	if err != nil {
		t.Skip("the address of C1 was taken meanwhile: " + err.Error())
	}
	defer again.Close()
	until(t, "C1 is found again", func() bool { return g.list() == nil })
	if status, body := g.admin("/readyz"); status != 200 || !strings.Contains(body, `"c1/acme": "ok"`) {
		t.Errorf("readiness: %d %s", status, body)
	}
}

// E9: one team's calls hang, as many as there are; every call of the other's
// succeeds.
func TestTeamsDoNotStarve(t *testing.T) {
	g := start(t, func(s *setup) { s.keys = []string{"timeout: 30s", "max_in_flight: 12"} })
	warm(g)
	release := make(chan struct{})
	g.c1.Inject(sandbox.Rule{Fault: sandbox.Held(release), On: confirmMethod})
	hung := make(chan burst)
	go func() { hung <- g.confirmations(200) }()
	if err := g.c1.AwaitHits(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	client := g.client(protocols[2], "reader")
	for range 200 {
		if _, err := client.List(t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID})); err != nil {
			t.Fatalf("the other team: %v", err)
		}
	}
	close(release)
	b := <-hung
	if b.reasons["unavailable OVERLOADED"] < 150 {
		t.Errorf("the team whose calls hang: %v", b.reasons)
	}
	t.Logf("one team's 200 calls that hang: %v; the other's 200: all succeed", b.reasons)
}

// A call whose intent cannot be recorded gives its place back, and so does one
// whose caller leaves before it is sent.
func TestPlaceIsGivenBack(t *testing.T) {
	g := start(t, func(s *setup) { s.keys = []string{"max_in_flight: 3"} })
	g.breakAudit()
	for range 10 {
		if err := g.list(); reasonOf(err) != "AUDIT_UNAVAILABLE" {
			t.Errorf("without an audit: %v", err)
		}
	}
	g.mendAudit()
	if body := g.metrics(); !strings.Contains(body, `c1proxy_tenant_in_flight{tenant="acme"} 0`) {
		t.Errorf("metrics: %s", grep(body, "in_flight"))
	}
}

// confirmations makes n confirmations at once.
func (g *gateway) confirmations(n int) burst {
	b := burst{reasons: make(map[string]int)}
	client := g.client(protocols[2], "sync-bot")
	var mu sync.Mutex
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			_, err := client.ConfirmSyncValid(context.Background(), g.confirmation("x"))
			mu.Lock()
			defer mu.Unlock()
			b.reasons[fmt.Sprint(codeOf(err), " ", reasonOf(err))]++
		})
	}
	group.Wait()
	return b
}

// A tenant by a proxy and under an authority of its own: calls and tokens go
// through it; the password is nowhere but in the proxy's ear.
func TestTenantByProxy(t *testing.T) {
	const host, password = "c1.example.test", "proxy-canary"
	p, err := sandbox.StartProxy("127.0.0.1:0", "c1proxy", password)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][]string{
		"configured":  {`proxy: {url: "` + p.URL() + `", username: c1proxy, password: {file: ` + secret + `}}`},
		"environment": nil,
	} {
		t.Run(name, func(t *testing.T) {
			if keys == nil {
				t.Setenv("HTTPS_PROXY", strings.Replace(p.URL(), "//", "//c1proxy:"+password+"@", 1))
			}
			before := len(p.Requests())
			g := start(t, func(s *setup) {
				s.c1.TLS, s.c1.Host, s.keys, s.tenant = true, host, keys, "https://"+host
				s.yaml = func(text string) string {
					return strings.Replace(text, "allow_insecure: true", "allow_insecure: false", 1)
				}
			})
			p.LeadTo(g.c1.Addr())
			if _, err := g.client(protocols[2], "sync-bot").ConfirmSyncValid(t.Context(), g.confirmation(confirmable(g))); err != nil {
				t.Fatal(err)
			}
			seen := p.Requests()[before:]
			if len(seen) != 2 || seen[0].Host != host+":443" || seen[1].Host != host+":443" || g.c1.TokenHits() != 1 || g.c1.Hits() != 1 {
				t.Errorf("the proxy saw %d requests, C1 %d for tokens and %d", len(seen), g.c1.TokenHits(), g.c1.Hits())
			}
			if proto := g.c1.Requests()[0].Proto; proto != "HTTP/2.0" {
				t.Errorf("C1 was spoken to in %s", proto)
			}
			if strings.Contains(g.logs.String(), password) {
				t.Error("the password is in the log")
			}
		})
	}
	g := start(t, func(s *setup) {
		s.tenant, s.yaml = "https://"+host, fixedToken(t)
		s.keys = []string{`proxy: {url: "` + p.URL() + `", username: c1proxy, password: {file: ` + wrongPassword(t) + `}}`}
	})
	for range 3 {
		if _, err := g.client(protocols[0], "sync-bot").ConfirmSyncValid(t.Context(), g.confirmation("x")); reasonOf(err) != "UPSTREAM_UNREACHABLE" {
			t.Errorf("with a wrong password: %v", err)
		}
	}
	if text := g.logs.String(); strings.Contains(text, "wrong-canary") || !strings.Contains(text, "Proxy Authentication Required") {
		t.Errorf("log: %s", text)
	}
}

func wrongPassword(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(file, []byte("wrong-canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
