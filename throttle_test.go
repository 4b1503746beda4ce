package c1proxy_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// G7: C1's 429 closes the way to it for all teams and on every door. What comes
// meanwhile is refused at once, says so, reaches nobody, and is on record as not
// sent.
func TestThrottledOnEveryDoor(t *testing.T) {
	g := start(t)
	warm(g)
	g.c1.Reset()
	g.c1.Inject(sandbox.Rule{Fault: sandbox.RateLimited("3600"), On: listMethod, Times: 1})
	if err := g.list(); reasonOf(err) != "UPSTREAM_RATE_LIMITED" || g.c1.Hits() != 1 {
		t.Fatalf("%v, %d requests", err, g.c1.Hits())
	}
	for _, caller := range []string{"sync-bot", "reader"} {
		for _, p := range protocols {
			response, err := g.client(p, caller).List(t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
			checkThrottled(t, g, requestID(response, err), err)
		}
	}
	for _, p := range protocols {
		response, err := g.client(p, "sync-bot").ConfirmSyncValid(t.Context(), g.confirmation("x"))
		checkThrottled(t, g, requestID(response, err), err)
	}
	if g.c1.Hits() != 1 {
		t.Errorf("C1 saw %d requests, want the one that it refused", g.c1.Hits())
	}
	status, ready := g.admin("/readyz")
	metrics := g.metrics()
	if status != http.StatusOK || !strings.Contains(ready, "warning: its rate limit is used up") ||
		!strings.Contains(metrics, `c1proxy_tenant_throttled{tenant="acme"} 1`) || !strings.Contains(metrics, `c1proxy_tenant_throttled_total{tenant="acme"} 1`) {
		t.Errorf("%d %s\n%s", status, ready, grep(metrics, "throttled"))
	}
	if n := strings.Count(g.logs.String(), "rate limit is used up"); n != 1 {
		t.Errorf("the log tells of it %d times", n)
	}
}

func checkThrottled(t *testing.T, g *gateway, id string, err error) {
	t.Helper()
	var failed *connect.Error
	delay := detail[*errdetails.RetryInfo](err).GetRetryDelay().AsDuration()
	if !errors.As(err, &failed) || failed.Code() != connect.CodeResourceExhausted || reasonOf(err) != "UPSTREAM_RATE_LIMITED" ||
		delay < 59*time.Minute || delay > 67*time.Minute || failed.Meta().Get("Retry-After") == "" {
		t.Errorf("%v, to return in %v", err, delay)
	}
	records := g.records(id)
	if len(records) != 1 || records[0].Kind != audit.KindDenied || records[0].Outcome != audit.OutcomeNotSent || records[0].Error != "UPSTREAM_RATE_LIMITED" {
		t.Errorf("%s: %+v", id, records)
	}
}

// After C1's rest calls go on by themselves, a write that was refused too: it may
// be repeated, because nothing was sent.
func TestThrottleEnds(t *testing.T) {
	g := start(t)
	warm(g)
	g.c1.Reset()
	g.c1.Inject(sandbox.Rule{Fault: sandbox.RateLimited("1"), On: confirmMethod, Times: 1})
	client := g.client(protocols[2], "sync-bot")
	sync := confirmable(g)
	begun := time.Now()
	for refused := 0; ; refused++ {
		_, err := client.ConfirmSyncValid(t.Context(), g.confirmation(sync))
		if err == nil {
			if took := time.Since(begun); took < time.Second || refused < 1 {
				t.Errorf("let in after %v, with %d refusals", took, refused)
			}
			break
		}
		if reasonOf(err) != "UPSTREAM_RATE_LIMITED" || time.Since(begun) > 10*time.Second {
			t.Fatal(err)
		}
		time.Sleep(detail[*errdetails.RetryInfo](err).GetRetryDelay().AsDuration())
	}
	if g.c1.AcceptedHits() != 2 || g.c1.Hits() != 2 {
		t.Errorf("C1 saw %d requests, want the refused one and one more", g.c1.Hits())
	}
}
