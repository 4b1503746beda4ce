package c1proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/gen/c1/api/app/v1/appv1connect"
	"github.com/c1proxy/c1proxy/internal/audit"
)

// conditional are the rules of payments, instead of its own. APP is the demo's
// application.
const conditional = `
      - {name: own-list, methods: ["c1.api.app.v1.ConnectorService/List"], condition: 'request.app_id == "APP"'}
      - {name: small, methods: ["c1.api.app.v1.ConnectorService/List"], condition: 'request.page_size > 500 && request.app_id != "other"'}
      - {name: syncs, methods: ["c1.api.app.v1.ConnectorService/ForceSync"], require_reason: true}
      - {name: tried, methods: ["c1.api.app.v1.ConnectorService/ConfirmSyncValid"], condition: 'request.app_id == "never"', shadow: true}
      - {name: claimed, methods: ["c1.api.app.v1.ConnectorService/Delete"], condition: 'claims.level > 3'}
      - {name: named, methods: ["c1.api.app.v1.Apps/Create"], condition: 'request.display_name.startsWith("team-") && request.identity_matching == 0'}
      - {name: profile, methods: ["c1.api.app.v1.AppResourceService/Update"], condition: 'request.app_resource.profile.level < 9007199254740993.0'}`

// startConditional starts a gateway with the conditional rules.
func startConditional(t *testing.T) *gateway {
	return start(t, func(s *setup) {
		s.c1.Stateless = true
		s.facts = func(g *gateway, text string) string {
			return strings.Replace(text, "\n      - methods: [\"c1.api.app.v1.ConnectorService/*\"]", strings.ReplaceAll(conditional, "APP", g.facts.AppID), 1)
		}
	})
}

// stating makes calls state a reason.
func stating(reason string) connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
			if reason != "" {
				r.Header().Set("C1proxy-Reason", url.PathEscape(reason))
			}
			return next(ctx, r)
		}
	}
}

// A conditionCase is a call and what becomes of it, on every door.
type conditionCase struct {
	name, reason string
	call         func(appv1connect.ConnectorServiceClient) (string, error)
	rule         string // that allows it
	denied       string // or the ErrorInfo's reason
	why          string // in its rules
	shadow       string
}

// Conditions, reasons and shadows decide alike on every door, and the records say
// the same.
func TestConditionsOnEveryDoor(t *testing.T) {
	g := startConditional(t)
	ctx, app := t.Context(), g.facts.AppID
	list := func(app string, size int32) func(appv1connect.ConnectorServiceClient) (string, error) {
		return func(c appv1connect.ConnectorServiceClient) (string, error) {
			r, err := c.List(ctx, connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: app, PageSize: size}))
			return requestID(r, err), err
		}
	}
	force := func(c appv1connect.ConnectorServiceClient) (string, error) {
		r, err := c.ForceSync(ctx, connect.NewRequest(&appv1.ForceSyncRequest{AppId: app, ConnectorId: "x"}))
		return requestID(r, err), err
	}
	confirm := func(c appv1connect.ConnectorServiceClient) (string, error) {
		r, err := c.ConfirmSyncValid(ctx, g.confirmation("s"))
		return requestID(r, err), err
	}
	remove := func(c appv1connect.ConnectorServiceClient) (string, error) {
		r, err := c.Delete(ctx, connect.NewRequest(&appv1.ConnectorServiceDeleteRequest{AppId: app, Id: "x"}))
		return requestID(r, err), err
	}
	for _, tt := range []conditionCase{
		{name: "the own app", call: list(app, 0), rule: "payments/allow/own-list"},
		{name: "a later rule", call: list("another", 501), rule: "payments/allow/small"},
		{name: "another app", call: list("another", 10), denied: "CONDITION_DENIED", why: "payments/allow/own-list: its condition is false; payments/allow/small: its condition is false"},
		{name: "a bad path first", call: list("..", 10), denied: "BAD_PATH_VALUE"},
		{name: "no reason", call: force, denied: "REASON_REQUIRED", why: "payments/allow/syncs: requires a reason: say why in the header C1proxy-Reason, percent-encoded"},
		{name: "a blank reason", reason: " . ", call: force, denied: "REASON_REQUIRED"},
		{name: "a reason", reason: "because it's 100% due", call: force, rule: "payments/allow/syncs"},
		{name: "in shadow", call: confirm, rule: "payments/allow/tried", shadow: "payments/allow/tried: its condition is false"},
		{name: "a claim that is not there", call: remove, denied: "CONDITION_DENIED", why: "payments/allow/claimed: its condition fails, as on something that is not there"},
	} {
		var first string
		for _, p := range protocols {
			g.c1.Reset()
			inner := connect.HTTPClient(g.httpClient(false))
			if p.door == "rest" {
				inner = pathsClient{inner}
			}
			options := append([]connect.ClientOption{connect.WithInterceptors(bearer(g.keys["sync-bot"]), stating(tt.reason))}, p.options...)
			id, err := tt.call(appv1connect.NewConnectorServiceClient(inner, g.url, options...))
			if said := tt.check(g, err, g.records(id)); said != "" {
				t.Errorf("%s on %s: %s: %v %+v", tt.name, p.name, said, err, g.records(id))
			}
			said := ""
			for _, r := range g.records(id) {
				said += fmt.Sprintln(r.Kind, r.Caller, r.Procedure, r.Rule, r.Path, r.Request, r.Error, r.Field, r.Code, r.Outcome, r.Reason, r.Detail)
			}
			if first == "" {
				first = said
			}
			if said != first || said == "" {
				t.Errorf("%s on %s:\n%son %s:\n%s", tt.name, p.name, said, protocols[0].name, first)
			}
		}
	}
	g.checkShadow(t)
}

// check says what of a call is not as it should be.
func (tt conditionCase) check(g *gateway, err error, records []audit.Record) string {
	hits := len(g.c1.Requests())
	last := records[len(records)-1]
	switch {
	case tt.denied == "" && (err != nil || hits == 0 || len(records) != 2):
		return "was not allowed"
	case tt.denied == "":
		if records[0].Rule != tt.rule || last.Rule != tt.rule || last.Detail["shadow"] != tt.shadow || last.Reason != tt.reason {
			return "its record is wrong"
		}
		return ""
	case hits != 0 || len(records) != 1 || last.Kind != audit.KindDenied || last.Error != tt.denied || reasonOf(err) != tt.denied:
		return "was not refused so"
	case tt.denied == "BAD_PATH_VALUE":
		return ""
	}
	info := detail[*errdetails.ErrorInfo](err)
	if connect.CodeOf(err) != connect.CodePermissionDenied || info.GetMetadata()["team"] != "payments" ||
		tt.why != "" && (info.GetMetadata()["rules"] != tt.why || last.Detail["rules"] != tt.why) {
		return "the refusal does not say why"
	}
	return ""
}

// checkShadow holds that calls in shadow are counted, each, and logged once.
func (g *gateway) checkShadow(t *testing.T) {
	if want, got := fmt.Sprintf(`c1proxy_shadow_refusals_total{rule="payments/allow/tried"} %d`, len(protocols)), g.metrics(); !strings.Contains(got, want) {
		t.Errorf("metrics have no %s in\n%s", want, grep(got, "shadow"))
	}
	if n := strings.Count(g.logs.String(), "a rule in shadow lets through"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// What a condition is shown is what C1 gets, whatever a caller writes on C1's own
// paths: what two readers could take for two things is refused, and what passes
// is written anew.
func TestConditionAndC1SeeTheSame(t *testing.T) {
	g := startConditional(t)
	client := g.httpClient(false)
	const good = `"displayName":"team-x"`
	post := func(path, body string) (int, string) {
		g.c1.Reset()
		status, _, answer := do(t, client, g.own(http.MethodPost, path, "sync-bot", body))
		return status, answer
	}
	for name, body := range map[string]string{
		"another name":           `{"displayName":"other"}`,
		"no name":                `{}`,
		"a null":                 `{"displayName":null}`,
		"twice":                  `{` + good + `,"displayName":"other"}`,
		"both spellings":         `{` + good + `,"display_name":"other"}`,
		"escaped twice":          `{` + good + `,"display\u004eame":"other"}`,
		"another case":           `{` + good + `,"DisplayName":"other"}`,
		"an unknown field":       `{` + good + `,"newField":1}`,
		"an unknown field below": `{` + good + `,"appEntitlementOwnerRefs":[{"newField":1}]}`,
		"an unknown enum":        `{` + good + `,"identityMatching":"APP_USER_IDENTITY_MATCHING_NEW"}`,
		"a known enum":           `{` + good + `,"identityMatching":1}`,
		"two values":             `{` + good + `}{"displayName":"other"}`,
		"bytes that are no text": "{" + good + `,"description":"` + "\xff" + `"}`,
		"a list for a text":      `{"displayName":["team-x"]}`,
	} {
		status, answer := post("/api/v1/apps", body)
		if status/100 != 4 || len(g.c1.Requests()) != 0 {
			t.Errorf("%s: %d %s, and %d requests at C1", name, status, answer, len(g.c1.Requests()))
		}
	}
	for name, body := range map[string]string{
		"plain":           `{` + good + `}`,
		"by proto name":   `{ "display_name" : "team-x" }`,
		"escaped":         `{"display\u004eame":"\u0074eam-x"}`,
		"with a null":     `{` + good + `,"description":null}`,
		"with a default":  `{` + good + `,"identityMatching":"APP_USER_IDENTITY_MATCHING_UNSPECIFIED"}`,
		"an enum by zero": `{` + good + `,"identityMatching":0}`,
	} {
		status, answer := post("/api/v1/apps", body)
		sent := g.c1.Requests()
		if status/100 != 2 || len(sent) != 1 || canonical(t, sent[0].Body) != `{"displayName":"team-x"}` {
			t.Errorf("%s: %d %s, and C1 got %v", name, status, answer, sent)
		}
	}
	// Digits that a double does not hold do not get past a condition either.
	status, answer := post("/api/v1/apps/a/resource_types/b/resource/c", `{"appResource":{"profile":{"level":9007199254740993}}}`)
	if sent := g.c1.Requests(); status/100 == 2 && (len(sent) != 1 || strings.Contains(string(sent[0].Body), "993")) {
		t.Errorf("%d %s, and C1 got %v", status, answer, sent)
	}
	// A query.
	for target, want := range map[string]int{
		"?page_size=501": 200, "?page_size=501&page_size=1": 400, "?page_size=501&pageSize=1": 400, "?page_size=501&new=1": 400, "?page_size=1": 403,
		"?page%5fsize=501": 200, "?page_size=501&page%5fsize=1": 400,
	} {
		g.c1.Reset()
		status, _, answer := do(t, client, g.own(http.MethodGet, "/api/v1/apps/another/connectors"+target, "sync-bot", ""))
		sent := g.c1.Requests()
		if status != want || (len(sent) == 1) != (want == 200) || want == 200 && !strings.HasSuffix(sent[0].URI, "?page_size=501") {
			t.Errorf("%s: %d %s, and C1 got %v", target, status, answer, sent)
		}
	}
	// In shadow nothing of a call changes.
	if status, _ := post("/api/v1/apps/"+g.facts.AppID+"/connectors/"+g.facts.ConnectorID+"/confirm_sync_valid/s", `{"newField" : 1}`); status/100 != 2 {
		t.Errorf("in shadow: %d", status)
	} else if sent := g.c1.Requests(); string(sent[0].Body) != `{"newField" : 1}` {
		t.Errorf("in shadow C1 got %s", sent[0].Body)
	}
}

func canonical(t *testing.T, body []byte) string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(body, &fields); err != nil {
		t.Errorf("C1 got no JSON: %s", body)
	}
	text, _ := json.Marshal(fields) // of what was read from JSON
	return string(text)
}
