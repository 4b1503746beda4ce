package c1proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// crowd makes each of n callers call until the function says no more, all at
// once, and returns how many calls there were and the errors.
func (g *gateway) crowd(n int, goOn func(calls int) bool) (calls int64, failed []error) {
	client := g.client(protocols[2], "sync-bot")
	var wg sync.WaitGroup
	var mu sync.Mutex
	var total atomic.Int64
	for range n {
		wg.Go(func() {
			for i := 0; goOn(i); i++ {
				_, err := client.List(context.Background(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
				total.Add(1)
				if err != nil {
					mu.Lock()
					failed = append(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return total.Load(), failed
}

// P8: while a token is valid, a token endpoint that is down costs no call.
func TestTokenEndpointDown(t *testing.T) {
	t.Parallel()
	const life = 12 * time.Second
	g := start(t, func(s *setup) { s.c1.TokenLifetime = life })
	warm(g)
	asked := g.c1.TokenRequests()[0].Time
	for _, fault := range []sandbox.Fault{sandbox.Failing(503), sandbox.Reset(), sandbox.HTML(502)} {
		g.c1.Inject(sandbox.Rule{Fault: fault, On: sandbox.TokenEndpoint, Times: 1})
	}
	g.c1.Inject(sandbox.Rule{Fault: sandbox.Failing(500), On: sandbox.TokenEndpoint})
	// It is handed out until 90% of its life are over; the refresh begins at
	// 75% to 85%. Two refusals are enough.
	end := asked.Add(life * 88 / 100)
	calls, failed := g.crowd(4, func(int) bool { return time.Now().Before(end) && g.c1.TokenHits() < 3 })
	refused := g.c1.TokenHits() - 1
	t.Logf("%d calls while the token endpoint was down, asked %d times in vain: %d failed", calls, refused, len(failed))
	if len(failed) != 0 || calls == 0 || refused == 0 {
		t.Errorf("failed: %.300v", failed)
	}
}

// P8: with a token endpoint that takes requests and never answers them, callers
// fail at their own deadline, and are served soon after it is well again.
func TestTokenEndpointStalled(t *testing.T) {
	t.Parallel()
	g := start(t)
	held := make(chan struct{})
	t.Cleanup(func() { close(held) }) // what was taken is never answered
	g.c1.Inject(sandbox.Rule{Fault: sandbox.Held(held), On: sandbox.TokenEndpoint})
	client := g.client(protocols[2], "sync-bot")
	list := func(limit time.Duration) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		begin := time.Now()
		_, err := client.List(ctx, connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
		return time.Since(begin), err
	}
	var took [2]time.Duration
	for i, limit := range []time.Duration{400 * time.Millisecond, 1600 * time.Millisecond} {
		var err error
		if took[i], err = list(limit); connect.CodeOf(err) != connect.CodeDeadlineExceeded {
			t.Fatalf("with %v: %v", limit, err)
		}
	}
	t.Logf("deadlines of 400 ms and 1600 ms: failed after %v and %v", took[0].Round(time.Millisecond), took[1].Round(time.Millisecond))
	if ratio := float64(took[1]) / float64(took[0]); ratio < 2 || ratio > 6 {
		t.Errorf("callers do not fail at their own deadline: a ratio of %.1f, want 4", ratio)
	}
	g.c1.Heal()
	back, err := list(30 * time.Second)
	t.Logf("served %v after the endpoint was well again", back.Round(time.Millisecond))
	// What was asked before is never answered, and given up after 10 s.
	if err != nil || back > 5*time.Second {
		t.Errorf("back after %v: %v", back, err)
	}
}

// P8, F9: C1 revokes the token in mid-flight of a thousand callers. All are
// served, and there is one token request.
func TestRevocationInFlight(t *testing.T) {
	g := start(t)
	warm(g)
	g.c1.Reset()
	const callers, each = 1000, 3
	var once sync.Once
	calls, failed := g.crowd(callers, func(i int) bool {
		if g.c1.AcceptedHits() > callers/2 {
			once.Do(g.c1.RevokeAll)
		}
		return i < each
	})
	refused := g.c1.Hits() - g.c1.AcceptedHits()
	t.Logf("%d calls, %d of them answered 401 after a revocation: %d token requests, %d failed", calls, refused, g.c1.TokenHits(), len(failed))
	if len(failed) != 0 || g.c1.TokenHits() != 1 || refused == 0 || g.c1.AcceptedHits() != callers*each {
		t.Errorf("failed: %.300v; accepted %d", failed, g.c1.AcceptedHits())
	}
}

// F10: a C1 that answers 401 after it has acted. The documented assumption is
// that it does not; with resend_on_401: false nothing is staked on it.
func TestResendOn401(t *testing.T) {
	for _, resend := range []bool{true, false} {
		g := start(t, func(s *setup) {
			s.yaml = func(text string) string {
				return strings.Replace(text, "    allow_insecure: true\n", fmt.Sprintf("    allow_insecure: true\n    resend_on_401: %v\n", resend), 1)
			}
		})
		warm(g)
		g.c1.Reset()
		g.c1.Inject(sandbox.Rule{Fault: sandbox.Unauthorized().AfterActing(), On: confirmMethod, Times: 1})
		response, err := g.client(protocols[2], "sync-bot").ConfirmSyncValid(t.Context(), g.confirmation(confirmable(g)))
		records := g.records(requestID(response, err))
		last := records[len(records)-1]
		want := fmt.Sprint(connect.CodeFailedPrecondition, []int{401, 400}, "failed") // the second attempt finds it done
		if !resend {
			want = fmt.Sprint(connect.CodeUnknown, []int{401}, "indeterminate")
		}
		if got := fmt.Sprint(connect.CodeOf(err), last.Attempts, last.Outcome); got != want {
			t.Errorf("resend_on_401 %v: got %s (%v), want %s", resend, got, err, want)
		}
		g.c1.Inject(sandbox.Rule{Fault: sandbox.Unauthorized(), On: "c1.api.app.v1.ConnectorService/List", Times: 1})
		if err := g.list(); err != nil {
			t.Errorf("resend_on_401 %v: what only reads was not sent again: %v", resend, err)
		}
	}
}

// withDPoP is a tenant whose credential requires DPoP.
func withDPoP(s *setup) {
	s.facts = func(g *gateway, text string) string {
		file := filepath.Join(filepath.Dir(g.dir), "secret")
		if err := os.WriteFile(file, []byte(g.facts.DPoPClientSecret), 0o600); err != nil {
			g.t.Fatal(err)
		}
		return strings.Replace(text, "client_id: "+g.facts.ClientID, "dpop: true\n      client_id: "+g.facts.DPoPClientID, 1)
	}
}

// DPoP, on every door: the sandbox checks each proof. A nonce that C1 asks for
// costs one more request and no token; the record shows it.
func TestDPoP(t *testing.T) {
	g := start(t, withDPoP)
	calls, failed := g.crowd(1000, func(i int) bool { return i < 1 })
	t.Logf("%d cold callers with DPoP: %d token request, %d failed", calls, g.c1.TokenHits(), len(failed))
	if len(failed) != 0 || g.c1.TokenHits() != 1 {
		t.Errorf("failed: %.300v", failed)
	}
	challenged := 0
	for round := range 2 {
		for i, p := range protocols {
			response, err := g.client(p, "sync-bot").ConfirmSyncValid(t.Context(), g.confirmation(confirmable(g)))
			if err != nil {
				t.Fatalf("%s: %v", p.name, err)
			}
			want := []int{200}
			if round > 0 {
				want = []int{401, 200}
				challenged++
			}
			records := g.records(requestID(response, err))
			if got := records[len(records)-1].Attempts; !slices.Equal(got, want) {
				t.Errorf("%s, round %d: attempts %v, want %v", p.name, round, got, want)
			}
			if round > 0 || i == len(protocols)-1 {
				g.c1.DemandNonces() // from here on, and another each time
			}
		}
	}
	path := "/api/v1/apps/" + g.facts.AppID + "/connectors?page_size=1"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+g.keys["sync-bot"])
	if status, _, body := do(t, g.httpClient(true), r); status != 200 {
		t.Errorf("C1's own path: %d %s", status, body)
	}
	t.Logf("%d calls challenged for a nonce: %d token request", challenged+1, g.c1.TokenHits())
	if g.c1.TokenHits() != 1 {
		t.Errorf("%d token requests, want 1", g.c1.TokenHits())
	}
	// A token that is revoked while C1 wants a nonce too: one refresh, which
	// itself is challenged.
	g.c1.DemandNonces()
	g.c1.RevokeAll()
	response, err := g.client(protocols[2], "sync-bot").ConfirmSyncValid(t.Context(), g.confirmation(confirmable(g)))
	if err != nil {
		t.Fatal(err)
	}
	records := g.records(requestID(response, err))
	attempts := records[len(records)-1].Attempts
	t.Logf("revoked, with a new nonce on both servers: attempts %v, %d token requests", attempts, g.c1.TokenHits()-1)
	if len(attempts) > 3 || attempts[0] != 401 || attempts[len(attempts)-1] != 200 || g.c1.TokenHits() != 3 {
		t.Errorf("attempts %v, %d token requests", attempts, g.c1.TokenHits())
	}
	if got, want := g.c1.Acts(confirmMethod), 2*len(protocols)+1; got != want {
		t.Errorf("C1 acted %d times, want %d", got, want)
	}
}

// Two overlapping credentials: a next one that C1 refuses takes nothing down;
// when its file is right it takes over, without a restart; and a file that is
// spoilt afterwards stops nobody.
func TestOverlap(t *testing.T) {
	t.Parallel()
	var file string
	write := func(secret string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := start(t, func(s *setup) {
		s.c1.TokenLifetime = time.Second
		s.facts = func(g *gateway, text string) string {
			file = filepath.Join(filepath.Dir(g.dir), "next")
			write("not yet")
			return strings.Replace(text, "    credential:\n", "    credential:\n      next: {client_id: "+g.facts.PlainClientID+
				`, client_secret: {file: "`+file+`"}}`+"\n", 1)
		}
	})
	serving := func(id string) func() bool {
		return func() bool {
			if err := g.list(); err != nil {
				t.Fatalf("while credentials overlap: %v\n%s", err, g.logs)
			}
			return strings.Contains(g.metrics(), `c1proxy_token_credential{credential="`+id+`",team="",tenant="acme"} 1`)
		}
	}
	rejected := `c1proxy_token_exchanges_total{credential="` + g.facts.PlainClientID + `",outcome="rejected",tenant="acme"}`
	until(t, "the old credential serves", serving(g.facts.ClientID))
	if !strings.Contains(g.metrics(), rejected) || strings.Count(g.logs.String(), "one of two credentials is of no use") != 1 {
		t.Errorf("no count, or not one line, of the refused credential:\n%s", g.logs)
	}
	write(g.facts.PlainClientSecret)
	until(t, "the next credential serves", serving(g.facts.PlainClientID))
	for _, garbage := range []string{"", "\x00\xff", g.facts.PlainClientSecret[:5], g.facts.ClientSecret} {
		write(garbage)
		before := g.c1.TokenHits()
		until(t, "tokens were asked for", func() bool { return serving(g.facts.PlainClientID)() && g.c1.TokenHits() > before+1 })
	}
	if !strings.Contains(g.logs.String(), "the next credential works") || !strings.Contains(g.logs.String(), "the one before it serves") {
		t.Errorf("log:\n%s", g.logs)
	}
}
