// The black-box story of c1proxy: real servers, real protocols, real files,
// in front of an emulated C1.
package c1proxy_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// An expectation is what one call must come to, on every door.
type expectation struct {
	code   connect.Code // 0 for success
	reason string
	hits   int      // requests that C1 accepted
	kinds  []string // the records, as "kind code outcome"
}

// A matrixCase prepares a gateway, says who calls for what, and what must
// come of it.
type matrixCase struct {
	name    string
	caller  string
	arrange func(g *gateway) (sync string)
	want    expectation
	after   func(g *gateway) // runs before the records are read
}

func confirmable(g *gateway) string {
	id, err := g.c1.AddSync(g.facts.AppID, g.facts.ConnectorID, sandbox.ErroredNoData)
	if err != nil {
		g.t.Fatal(err)
	}
	return id
}

// warm makes one call, so that a token is in hand.
func warm(g *gateway) {
	if err := g.list(); err != nil {
		g.t.Fatal(err)
	}
}

var matrix = []matrixCase{
	{"ok", "sync-bot", confirmable,
		expectation{0, "", 1, []string{"intent  ", "outcome ok ok"}}, nil},
	{"unauthenticated", "", confirmable,
		expectation{connect.CodeUnauthenticated, "UNAUTHENTICATED", 0, []string{"denied unauthenticated not_sent"}}, nil},
	{"denied", "reader", confirmable,
		expectation{connect.CodePermissionDenied, "METHOD_DENIED", 0, []string{"denied permission_denied not_sent"}}, nil},
	{"limited", "slow-bot", func(g *gateway) string {
		first := confirmable(g)
		if _, err := g.client(protocols[0], "slow-bot").ConfirmSyncValid(g.t.Context(), g.confirmation(first)); err != nil {
			g.t.Fatal(err)
		}
		g.c1.Reset()
		return confirmable(g)
	}, expectation{connect.CodeResourceExhausted, "RATE_LIMITED", 0, []string{"denied resource_exhausted not_sent"}}, nil},
	{"C1 down, no token", "sync-bot", func(g *gateway) string {
		g.c1.Close()
		return "x"
	}, expectation{connect.CodeUnavailable, "TOKEN_UNAVAILABLE", 0, []string{"denied unavailable not_sent"}}, nil},
	{"C1 down", "sync-bot", func(g *gateway) string {
		warm(g)
		g.c1.Close()
		g.c1.Reset()
		until(g.t, "the gateway has noticed", func() bool {
			return reasonOf(g.list()) == "UPSTREAM_UNREACHABLE"
		})
		return "x"
	}, expectation{connect.CodeUnavailable, "UPSTREAM_UNREACHABLE", 0, []string{"intent  ", "outcome unavailable not_sent"}}, nil},
	{"C1 refuses", "sync-bot", func(*gateway) string { return sandbox.DoneSyncID },
		expectation{connect.CodeFailedPrecondition, "UPSTREAM_REFUSED", 1, []string{"intent  ", "outcome failed_precondition failed"}}, nil},
	{"C1 has no such sync", "sync-bot", func(*gateway) string { return "nowhere" },
		expectation{connect.CodeNotFound, "UPSTREAM_REFUSED", 1, []string{"intent  ", "outcome not_found failed"}}, nil},
	{"bad path value", "sync-bot", func(*gateway) string { return ".." },
		expectation{connect.CodeInvalidArgument, "BAD_PATH_VALUE", 0, []string{"denied invalid_argument not_sent"}}, nil},
	{"audit down", "sync-bot", func(g *gateway) string {
		g.breakAudit()
		return confirmable(g)
	}, expectation{connect.CodeUnavailable, "AUDIT_UNAVAILABLE", 0, []string{"denied unavailable not_sent"}}, (*gateway).mendAudit},
}

// Every door, every fate: the code, the reason, what C1 saw, and what the
// audit says are the same.
func TestMatrix(t *testing.T) {
	for _, p := range protocols {
		for _, c := range matrix {
			t.Run(p.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				g := start(t)
				sync := c.arrange(g)
				response, err := g.client(p, c.caller).ConfirmSyncValid(t.Context(), g.confirmation(sync))
				checkCall(t, g, p, sync, c.want, requestID(response, err), err)
				if c.after != nil {
					c.after(g)
				}
				checkRecords(t, g, p, sync, c, requestID(response, err))
			})
		}
	}
}

func checkCall(t *testing.T, g *gateway, p protocol, sync string, want expectation, id string, err error) {
	t.Helper()
	code := connect.Code(0)
	if err != nil {
		code = connect.CodeOf(err)
	}
	if code != want.code || reasonOf(err) != want.reason {
		t.Errorf("got %v %q (%v), want %v %q", code, reasonOf(err), err, want.code, want.reason)
	}
	if got := g.c1.AcceptedHits(); got != want.hits {
		t.Errorf("C1 accepted %d requests, want %d", got, want.hits)
	}
	if id == "" {
		t.Error("the answer has no X-Request-Id")
	}
	if want.code == connect.CodeResourceExhausted {
		info := detail[*errdetails.RetryInfo](err)
		if info.GetRetryDelay().AsDuration() <= 0 {
			t.Errorf("the refusal has no RetryInfo: %v", err)
		}
	}
}

func checkRecords(t *testing.T, g *gateway, p protocol, sync string, c matrixCase, id string) {
	t.Helper()
	var records []audit.Record
	until(t, fmt.Sprintf("there are %d records", len(c.want.kinds)), func() bool {
		records = g.records(id)
		return len(records) >= len(c.want.kinds)
	})
	var kinds []string
	for _, r := range records {
		kinds = append(kinds, fmt.Sprintf("%s %s %s", r.Kind, r.Code, r.Outcome))
		if r.Procedure != confirmMethod || r.Door != p.door || r.Caller != c.caller || r.Error != "" && r.Error != c.want.reason {
			t.Errorf("the record does not name the call: %+v", r)
		}
		if decoded := r.Kind != audit.KindDenied || c.want.code == connect.CodeInvalidArgument; decoded &&
			(len(r.Path) != 3 || r.Path[2] != (audit.Field{Name: "sync_lifecycle_id", Value: sync})) {
			t.Errorf("the record's path is %v", r.Path)
		}
	}
	if got, want := strings.Join(kinds, "; "), strings.Join(c.want.kinds, "; "); got != want {
		t.Errorf("records: got %q, want %q", got, want)
	}
}

// A second confirmation of one sync fails, as in C1.
func TestConfirmOnce(t *testing.T) {
	g := start(t)
	client := g.client(protocols[2], "sync-bot")
	if _, err := client.ConfirmSyncValid(t.Context(), g.confirmation(g.facts.SyncLifecycleID)); err != nil {
		t.Fatal(err)
	}
	_, err := client.ConfirmSyncValid(t.Context(), g.confirmation(g.facts.SyncLifecycleID))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("the second confirmation: got %v, want failed_precondition", err)
	}
}

// P8: a thousand callers without a token cause one token request.
func TestOneTokenRequest(t *testing.T) {
	g := start(t)
	const callers = 1000
	client := g.client(protocols[2], "sync-bot")
	failed := make(chan error, callers)
	for range callers {
		go func() {
			_, err := client.List(context.Background(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
			failed <- err
		}()
	}
	for range callers {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if got := g.c1.TokenHits(); got != 1 {
		t.Errorf("%d token requests, want 1", got)
	}
	t.Logf("%d cold callers, %d token request", callers, g.c1.TokenHits())
}
