package c1proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/redistest"
)

const connectorService = "c1.api.app.v1.ConnectorService/"

// startAsked starts a gateway with the conditional rules and with operators.
func startAsked(t *testing.T) *gateway {
	return start(t, withOperators, func(s *setup) {
		s.c1.Stateless = true
		operators := s.facts
		s.facts = func(g *gateway, text string) string {
			return operators(g, strings.Replace(text, "\n      - methods: [\"c1.api.app.v1.ConnectorService/*\"]", strings.ReplaceAll(conditional, "APP", g.facts.AppID), 1))
		}
	})
}

// What Explain says of a call is what becomes of it, to a caller of its own calls
// and to an operator of that caller's, on every door.
func TestExplainIsWhatHappens(t *testing.T) {
	g := startAsked(t)
	client := g.httpClient(true)
	for _, tt := range []struct{ method, request, reason string }{
		{"List", `{"appId":"` + g.facts.AppID + `"}`, ""},
		{"List", `{"app_id":"another","pageSize":501}`, ""},
		{"List", `{"appId":"another"}`, ""},
		{"ForceSync", `{"appId":"a","connectorId":"c"}`, ""},
		{"ForceSync", `{"appId":"a","connectorId":"c"}`, "it's 100% due"},
		{"ConfirmSyncValid", g.confirmJSON("s"), ""},
		{"Delete", `{"appId":"a","id":"c"}`, ""},
		{"Get", `{"appId":"a","id":"c"}`, ""},
	} {
		call := g.post(connectorService+tt.method, g.keys["sync-bot"], tt.request)
		call.Header.Set("C1proxy-Reason", url.PathEscape(tt.reason))
		status, header, body := do(t, client, call)
		records := g.records(header.Get("X-Request-Id"))
		last := records[len(records)-1]
		hits := g.c1.Hits()
		for _, p := range rpcs {
			for key, admin := range map[string]bool{"sync-bot": false, "on-call": true} {
				question := &c1proxyv1.ExplainRequest{Method: connectorService + tt.method, Request: &tt.request, Reason: tt.reason}
				if admin {
					question.Caller = "payments/sync-bot"
				}
				response, err := g.itself(p, key, admin).Explain(t.Context(), connect.NewRequest(question))
				if err != nil {
					t.Errorf("%s: %s by %s: %v", p.name, tt.method, key, err)
					continue
				}
				got := response.Msg
				if got.GetAllowed() != (status == http.StatusOK) || got.GetRule() != last.Rule || got.GetReason() != last.Error || got.GetShadow() != last.Detail["shadow"] ||
					got.GetCaller() != "payments/sync-bot" || got.GetPolicyRevision() != last.PolicyRevision || got.GetPending() || got.GetText() == "" {
					t.Errorf("%s: %s by %s: %v; and the call: %d %s %+v", p.name, tt.method, key, got, status, body, last)
				}
				checkSteps(t, got)
			}
		}
		if g.c1.Hits() != hits {
			t.Errorf("%s: to explain it calls C1", tt.method)
		}
	}
}

// checkSteps expects one step for each rule, in order, and one that decides.
func checkSteps(t *testing.T, got *c1proxyv1.ExplainResponse) {
	t.Helper()
	var names, deciding []string
	for _, s := range got.GetSteps() {
		names = append(names, strings.TrimPrefix(s.GetRule(), "payments/allow/"))
		if s.GetDecides() {
			deciding = append(deciding, s.GetRule())
		}
		if s.GetWhy() == "" || s.GetOutcome() == "" || (s.GetCause() != "") != (s.GetOutcome() == "condition_failed") {
			t.Errorf("step %v", s)
		}
	}
	if !cmp.Equal(names, []string{"own-list", "small", "syncs", "tried", "claimed", "named", "profile"}) {
		t.Errorf("the rules are %v", names)
	}
	if strings.Join(deciding, " ") != got.GetRule() {
		t.Errorf("%v decide, want %s", deciding, got.GetRule())
	}
}

// An operator asks with claims, and may ask without a request; and the records say
// about whom.
func TestExplainByOperator(t *testing.T) {
	g := startAsked(t)
	ask := func(q *c1proxyv1.ExplainRequest) (*c1proxyv1.ExplainResponse, []audit.Record, error) {
		response, err := g.itself(protocols[0], "on-call", true).Explain(t.Context(), connect.NewRequest(q))
		records := g.records(requestID(response, err))
		if err != nil {
			return nil, records, err
		}
		return response.Msg, records, nil
	}
	claims, err := structpb.NewStruct(map[string]any{"level": 4})
	if err != nil {
		t.Fatal(err)
	}
	got, records, err := ask(&c1proxyv1.ExplainRequest{Method: connectorService + "Delete", Caller: "sync-bot", Claims: claims})
	if err != nil || !got.GetAllowed() || got.GetRule() != "payments/allow/claimed" {
		t.Errorf("with claims: %v, %v", got, err)
	}
	want := audit.Fields{{Name: "caller", Value: "sync-bot"}, {Name: "method", Value: connectorService + "Delete"}}
	for _, r := range records {
		if len(records) != 2 || r.Caller != "on-call" || r.Rule != "admin/explain" || !cmp.Equal(r.Request, want) {
			t.Errorf("on record as %+v", r)
		}
	}
	if got, _, err := ask(&c1proxyv1.ExplainRequest{Method: connectorService + "List", Caller: "payments/sync-bot"}); err != nil || !got.GetPending() || got.GetAllowed() {
		t.Errorf("without a request: %v, %v", got, err)
	}
	if got, _, err := ask(&c1proxyv1.ExplainRequest{Method: connectorService + "Delete", Caller: "readers/reader"}); err != nil || got.GetReason() != "METHOD_DENIED" || got.GetCaller() != "readers/reader" || len(got.GetSteps()) != 1 {
		t.Errorf("of another team: %v, %v", got, err)
	}
	key := g.keys["sync-bot"] // checkSecrets looks for it in the records
	if _, _, err := ask(&c1proxyv1.ExplainRequest{Method: key, Caller: key}); err == nil || strings.Contains(err.Error(), key) {
		t.Errorf("a key for a name: %v", err)
	}
}

// A question that cannot be answered says why, names its field, and is on record.
// Nobody learns of others at the address for callers.
func TestBadQuestions(t *testing.T) {
	g := startAsked(t)
	unknown, list := `{"newField":1}`, connectorService+"List"
	explain := func(q *c1proxyv1.ExplainRequest) func(context.Context, string, bool, protocol) (string, error) {
		return func(ctx context.Context, key string, admin bool, p protocol) (string, error) {
			r, err := g.itself(p, key, admin).Explain(ctx, connect.NewRequest(q))
			return requestID(r, err), err
		}
	}
	limits := func(q *c1proxyv1.LimitsRequest) func(context.Context, string, bool, protocol) (string, error) {
		return func(ctx context.Context, key string, admin bool, p protocol) (string, error) {
			r, err := g.itself(p, key, admin).Limits(ctx, connect.NewRequest(q))
			return requestID(r, err), err
		}
	}
	for _, tt := range []struct {
		key         string
		admin       bool
		ask         func(context.Context, string, bool, protocol) (string, error)
		field, want string
	}{
		{"sync-bot", false, explain(&c1proxyv1.ExplainRequest{Method: list, Caller: "readers/reader"}), "caller", "you are payments/sync-bot and can ask about yourself alone"},
		{"sync-bot", false, explain(&c1proxyv1.ExplainRequest{Method: list, Caller: "nobody"}), "caller", "yourself alone"},
		{"sync-bot", false, explain(&c1proxyv1.ExplainRequest{Method: list, Claims: &structpb.Struct{}}), "claims", "yours are known"},
		{"sync-bot", false, explain(&c1proxyv1.ExplainRequest{Method: list, Subject: "s"}), "subject", "yours is known"},
		{"sync-bot", false, explain(&c1proxyv1.ExplainRequest{Method: connectorService + "Lst"}), "method", `did you mean "` + list + `"?`},
		{"sync-bot", false, explain(&c1proxyv1.ExplainRequest{Method: "c1.**/*"}), "method", "it is a pattern"},
		{"sync-bot", false, explain(&c1proxyv1.ExplainRequest{}), "method", ""},
		{"sync-bot", false, explain(&c1proxyv1.ExplainRequest{Method: "c1proxy.v1.GatewayService/WhoAmI"}), "method", ""},
		{"sync-bot", false, explain(&c1proxyv1.ExplainRequest{Method: strings.Repeat("x", 1<<20)}), "method", "longer than 256 bytes"},
		{"sync-bot", false, explain(&c1proxyv1.ExplainRequest{Method: list, Request: &unknown}), "newField", "newField: unknown field"},
		{"sync-bot", false, explain(&c1proxyv1.ExplainRequest{Method: list, Request: new("")}), "", "empty"},
		{"sync-bot", false, limits(&c1proxyv1.LimitsRequest{Caller: "readers/reader"}), "caller", "yourself alone"},
		{"sync-bot", false, limits(&c1proxyv1.LimitsRequest{Caller: "slow/sync-bot"}), "caller", "yourself alone"},
		{"sync-bot", false, limits(&c1proxyv1.LimitsRequest{Method: "List"}), "method", ""},
		{"on-call", true, explain(&c1proxyv1.ExplainRequest{Method: list}), "caller", "TEAM/NAME"},
		{"on-call", true, explain(&c1proxyv1.ExplainRequest{Method: list, Caller: "nobody"}), "caller", "there are payments/sync-bot"},
		{"on-call", true, explain(&c1proxyv1.ExplainRequest{Method: list, Caller: strings.Repeat("x", 257)}), "caller", "longer than 256 bytes"},
		{"capacity", true, limits(&c1proxyv1.LimitsRequest{}), "caller", "TEAM/NAME"},
		{"on-call", true, limits(&c1proxyv1.LimitsRequest{Caller: "sync-bot"}), "scope", "no scope limits"},
		{"capacity", true, explain(&c1proxyv1.ExplainRequest{Method: list, Caller: "sync-bot"}), "scope", "no scope explain"},
	} {
		for _, p := range rpcs {
			id, err := tt.ask(t.Context(), tt.key, tt.admin, p)
			code, reason := connect.CodeInvalidArgument, "BAD_REQUEST"
			if tt.field == "scope" {
				code, reason = connect.CodePermissionDenied, "METHOD_DENIED"
			}
			if codeOf(err) != code || reasonOf(err) != reason || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 2000 {
				t.Errorf("%s by %s: %v, want %s of %q with %q", p.name, tt.key, err, code, tt.field, tt.want)
			}
			records := g.records(id)
			if len(records) == 0 || records[len(records)-1].Error != reason || tt.field != "scope" && records[len(records)-1].Field != tt.field {
				t.Errorf("%s: %v on record as %+v, want the field %s", p.name, err, records, tt.field)
			}
		}
	}
}

// limitsOf asks for limits, and returns each in a line.
func (g *gateway) limitsOf(key string, admin bool, q *c1proxyv1.LimitsRequest) (lines []string, answer *c1proxyv1.LimitsResponse) {
	g.t.Helper()
	response, err := g.itself(protocols[1], key, admin).Limits(g.t.Context(), connect.NewRequest(q))
	if err != nil {
		g.t.Fatal(err)
	}
	for _, l := range response.Msg.GetLimits() {
		line := fmt.Sprintf("%s %s %v: %d of %d, %d per %v, %d of %d", l.GetName(), l.GetScope(), l.GetMethods(), l.GetRemaining(), l.GetBurst(),
			l.GetRate(), l.GetPer().AsDuration(), l.GetInFlight(), l.GetMaxInFlight())
		if l.GetShadow() {
			line += " shadow"
		}
		lines = append(lines, line)
	}
	return lines, response.Msg
}

// Limits tells a caller what limits it has and what is left, and an operator the
// same without spending; by method, those that count.
func TestLimitsAnswers(t *testing.T) {
	g := start(t, withOperators, limited(`{team: {rate: 1, per: 1h, burst: 40}, caller: {max_in_flight: 3},
      methods: [{name: lists, methods: ["c1.api.app.v1.ConnectorService/List"], limit: {rate: 2, per: 1h, burst: 10, shadow: true}}]}`,
		`costs: [{methods: ["c1.api.app.v1.ConnectorService/List"], cost: 5}]`+"\n"))
	status, header, body := g.call(g.httpClient(true), nil)
	if status != http.StatusOK {
		t.Fatal(status, body)
	}
	left, err := strconv.Atoi(regexp.MustCompile(`"team";r=(\d+)`).FindStringSubmatch(header.Get("RateLimit"))[1])
	if err != nil || left != 35 {
		t.Errorf("the header has %d left, %v", left, err)
	}
	want := []string{"teams/payments/caller caller []: 0 of 0, 0 per 0s, 0 of 3", "teams/payments/team team []: 35 of 40, 1 per 1h0m0s, 0 of 0",
		"teams/payments/lists lists [c1.api.app.v1.ConnectorService/List]: 5 of 10, 2 per 1h0m0s, 0 of 0 shadow"}
	for range 2 { // the first has spent nothing
		lines, answer := g.limitsOf("capacity", true, &c1proxyv1.LimitsRequest{Caller: "payments/sync-bot"})
		if diff := cmp.Diff(want, lines); diff != "" || answer.GetShared() || answer.GetCost() != 0 || answer.GetCaller() != "payments/sync-bot" || answer.GetTime() == nil {
			t.Errorf("%s %v", diff, answer)
		}
		if full := answer.GetLimits()[1].GetResetAfter().AsDuration(); full <= 4*time.Hour || full > 5*time.Hour {
			t.Errorf("5 of 40 spent are back in %v", full)
		}
	}
	want[0] = strings.Replace(want[0], "0 of 3", "1 of 3", 1) // the question itself
	want[1] = strings.Replace(want[1], "35 of", "34 of", 1)
	lines, answer := g.limitsOf("sync-bot", false, &c1proxyv1.LimitsRequest{Caller: "sync-bot", Method: connectorService + "List"})
	if diff := cmp.Diff(want, lines); diff != "" || answer.GetCost() != 5 {
		t.Errorf("of a list: %s %v", diff, answer)
	}
	want[1] = strings.Replace(want[1], "34 of", "33 of", 1)
	lines, answer = g.limitsOf("sync-bot", false, &c1proxyv1.LimitsRequest{Method: connectorService + "Get"})
	if diff := cmp.Diff(want[:2], lines); diff != "" || answer.GetCost() != 1 {
		t.Errorf("of a get: %s %v", diff, answer)
	}
	if lines, answer := g.limitsOf("reader", false, &c1proxyv1.LimitsRequest{Method: connectorService + "List"}); lines != nil || answer.GetCost() != 0 {
		t.Errorf("of who has none: %v %v", lines, answer)
	}
}

// With Redis the levels are those of all replicas, and without its answer they are
// not, and the answer says so.
func TestLimitsAnswersShared(t *testing.T) {
	server := redistest.StartTCP(t)
	change := limited(`{team: {rate: 1, per: 1h, burst: 40}}`, fmt.Sprintf("redis: {addresses: [%q], replicas: 2, timeout: 1s}\n", server.Address))
	spender, teller := start(t, change), start(t, withOperators, change)
	question := &c1proxyv1.LimitsRequest{Caller: "payments/sync-bot"}
	if status, _, body := spender.call(spender.httpClient(true), nil); status != http.StatusOK {
		t.Fatal(status, body)
	}
	lines, answer := teller.limitsOf("capacity", true, question)
	if !answer.GetShared() || !cmp.Equal(lines, []string{"teams/payments/team team []: 39 of 40, 1 per 1h0m0s, 0 of 0"}) {
		t.Errorf("another replica has %v", answer)
	}
	server.Kill()
	until(t, "the gateway tells that Redis is away", func() bool {
		_ = teller.list()
		_, body := teller.admin("/readyz")
		return strings.Contains(body, `"redis": "warning: `)
	})
	if _, answer := teller.limitsOf("capacity", true, question); answer.GetShared() || answer.GetLimits()[0].GetRemaining() > 20 || answer.GetLimits()[0].GetBurst() != 40 {
		t.Errorf("alone it has %v", answer)
	}
}
