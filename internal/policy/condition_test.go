package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/principal"
	"github.com/c1proxy/c1proxy/internal/route"
)

// mirrored are all methods of the mirror, as the gateway has them.
func mirrored(t testing.TB) []policy.Method {
	t.Helper()
	routes, err := route.Load(catalog.Files(), catalog.Types{}, "c1.")
	if err != nil {
		t.Fatal(err)
	}
	var all []policy.Method
	for _, r := range routes {
		all = append(all, policy.Method{Name: r.Method(), ReadOnly: r.ReadOnly, Draft: r.Stability == route.Draft, Input: r.Descriptor.Input()})
	}
	return all
}

// inputOf is the request of a method.
func inputOf(t testing.TB, all []policy.Method, method string) protoreflect.MessageDescriptor {
	t.Helper()
	for _, m := range all {
		if m.Name == method {
			return m.Input
		}
	}
	t.Fatalf("no method %s", method)
	return nil
}

// requestOf reads a request of a method.
func requestOf(t testing.TB, all []policy.Method, method, json string) proto.Message {
	t.Helper()
	found, err := catalog.Types{}.FindMessageByName(inputOf(t, all, method).FullName())
	if err != nil {
		t.Fatal(err)
	}
	message := found.New().Interface()
	if err := (protojson.UnmarshalOptions{Resolver: catalog.Types{}}).Unmarshal([]byte(json), message); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return message
}

// one compiles one rule of team t.
func one(t testing.TB, all []policy.Method, rule policy.Rule) *policy.Policy {
	t.Helper()
	rule.Name, rule.Team, rule.IncludeDraft = "t/allow/0", "t", true
	p, problems := policy.Compile([]policy.Rule{rule}, all)
	if len(problems) > 0 {
		t.Fatalf("%s: %v", rule.Condition, problems)
	}
	return p
}

var bot = &principal.Principal{Caller: "bot", Team: "t", Tenant: "acme", Subject: "sub-1",
	Claims: map[string]any{"level": 3.0, "groups": []any{"a", "b"}, "nested": map[string]any{"x": true}, "nothing": nil}}

// What a condition sees of each kind of field, set and unset, in the mirror's own
// messages.
func TestConditionSees(t *testing.T) {
	const (
		confirm  = "c1.api.app.v1.ConnectorService/ConfirmSyncValid"
		list     = "c1.api.app.v1.ConnectorService/List"
		update   = "c1.api.app.v1.ConnectorService/Update"
		create   = "c1.api.app.v1.ConnectorService/Create"
		feedback = "c1.api.a2ui.v1.A2UIService/CreateSurfaceFeedback"
		submit   = "c1.api.a2ui.v1.A2UIService/SubmitAction"
		review   = "c1.api.accessreview.v1.AccessReviewService/Create"
		updated  = "c1.api.accessreview.v1.AccessReviewService/Update"
		searched = "c1.api.automations.v1.AutomationSearchService/SearchAutomations"
		resource = "c1.api.app.v1.AppResourceService/Update"
		function = "c1.api.functions.v1.FunctionsService/UpdateFunction"
		spill    = "c1.api.ai_governance.v1.AIGovernanceSettingsService/Update"
	)
	tests := []struct {
		method, request, condition string
		want                       policy.Outcome
	}{
		{confirm, `{"appId":"a"}`, `request.app_id in ["a", "b"]`, policy.Allows},
		{confirm, `{"appId":"c"}`, `request.app_id in ["a", "b"]`, policy.ConditionFalse},
		{confirm, `{}`, `request.app_id in ["a", "b"]`, policy.ConditionFalse},
		{confirm, `{}`, `request.app_id == "" && !has(request.app_id)`, policy.Allows},
		{confirm, `{"appId":""}`, `has(request.app_id)`, policy.ConditionFalse},
		{list, `{"pageSize":10}`, `request.page_size <= 10`, policy.Allows},
		{list, `{}`, `request.page_size == 0`, policy.Allows},
		{list, `{"pageSize":-1}`, `request.page_size >= 0`, policy.ConditionFalse},
		// optional: unset is 0 and has tells.
		{searched, `{}`, `!has(request.is_draft) && request.is_draft == false`, policy.Allows},
		{searched, `{"isDraft":false}`, `has(request.is_draft)`, policy.Allows},
		// An enum is its number; unknown numbers too.
		{feedback, `{}`, `request.sentiment == 0`, policy.Allows},
		{feedback, `{"sentiment":77}`, `request.sentiment == 77`, policy.Allows},
		{feedback, `{"sentiment":2}`, `request.sentiment == c1.api.a2ui.v1.A2UIServiceCreateSurfaceFeedbackRequest.Sentiment.A2UI_SURFACE_FEEDBACK_SENTIMENT_UNSPECIFIED`, policy.ConditionFalse},
		// 64 bits are whole.
		{spill, `{"aiGovernanceSettings":{"c1awAutospillThresholdBytes":4294967295}}`, `request.ai_governance_settings.c1aw_autospill_threshold_bytes == 4294967295u`, policy.Allows},
		{submit, `{"clientTimestamp":"2026-01-02T03:04:05Z"}`, `request.client_timestamp > timestamp("2026-01-01T00:00:00Z")`, policy.Allows},
		{submit, `{}`, `request.client_timestamp > timestamp("2026-01-01T00:00:00Z")`, policy.ConditionFalse},
		{submit, `{}`, `has(request.client_timestamp)`, policy.ConditionFalse},
		{review, `{"scopeV2":{"grantsByCriteria":{"daysSinceLastUsed":"7200s"}}}`, `request.scope_v2.grants_by_criteria.days_since_last_used == duration("2h")`, policy.Allows},
		// Messages that are not there read as empty ones.
		{review, `{}`, `request.scope_v2.account_criteria.account_types == []`, policy.Allows},
		{review, `{"scopeV2":{"allAccounts":{}}}`, `has(request.scope_v2.all_accounts) && !has(request.scope_v2.account_criteria)`, policy.Allows},
		{review, `{"scopeV2":{"accountCriteria":{"accountTypes":[1,2]}}}`, `request.scope_v2.account_criteria.account_types.all(x, x in [1, 2])`, policy.Allows},
		// A field mask is its paths, by proto names however JSON spells them.
		{updated, `{"updateMask":"displayName,x.y"}`, `request.update_mask.paths == ["display_name", "x.y"]`, policy.Allows},
		// A map, and one without the key.
		{submit, `{"context":{"k":"v"}}`, `"k" in request.context`, policy.Allows},
		{submit, `{"context":{"k":"v"}}`, `request.context["other"] == "v"`, policy.ConditionFailed},
		// A Struct is a map of any values; what is not there fails.
		{resource, `{"appResource":{"profile":{"owner":"me","n":3}}}`, `request.app_resource.profile.owner == "me" && request.app_resource.profile.n == 3`, policy.Allows},
		{resource, `{"appResource":{"profile":{"n":"x"}}}`, `request.app_resource.profile.n > 3`, policy.ConditionFailed},
		{resource, `{}`, `request.app_resource.profile.owner == "me"`, policy.ConditionFailed},
		{resource, `{}`, `!has(request.app_resource.profile.owner)`, policy.Allows},
		// An Any is what it holds.
		{create, `{"config":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"3s"}}`, `request.config == duration("3s")`, policy.Allows},
		{create, `{"config":{"@type":"type.googleapis.com/google.protobuf.Struct","value":{"a":1}}}`, `request.config.a == 1`, policy.Allows},
		{create, `{}`, `has(request.config)`, policy.ConditionFalse},
		{update, `{"connector":{"parallelSyncWorkerCount":0}}`, `has(request.connector.parallel_sync_worker_count)`, policy.Allows},
		// Words that CEL keeps for itself are names of fields all the same.
		{function, `{"function":{"displayName":"f"}}`, `request.function.display_name == "f"`, policy.Allows},
		{function, `{"function":{"displayName":"f"}}`, "request.`function`.display_name == \"f\"", policy.Allows},
		// The caller and its claims.
		{confirm, `{}`, `caller.name == "bot" && caller.team == "t" && caller.tenant == "acme" && caller.subject == "sub-1"`, policy.Allows},
		{confirm, `{}`, `claims.level >= 3 && "b" in claims.groups && claims.nested.x && claims.nothing == null`, policy.Allows},
		{confirm, `{}`, `claims.level > 3`, policy.ConditionFalse},
		{confirm, `{}`, `claims.unknown == 1`, policy.ConditionFailed},
		{confirm, `{}`, `has(claims.unknown) && claims.unknown == 1`, policy.ConditionFalse},
		{confirm, `{"appId":"bot"}`, `request.app_id == caller.name || claims.unknown == 1`, policy.Allows},
	}
	all := mirrored(t)
	for _, tt := range tests {
		p := one(t, all, policy.Rule{Methods: []string{tt.method}, Condition: tt.condition})
		call := policy.Call{Who: bot, Method: tt.method, Message: requestOf(t, all, tt.method, tt.request)}
		e := p.Explain(call)
		if s := e.Steps[0]; s.Outcome != tt.want || (s.Cause != nil) != (tt.want == policy.ConditionFailed) || s.Decides != (tt.want == policy.Allows) {
			t.Errorf("%s of %s: got %+v, want %s", tt.condition, tt.request, s, tt.want)
		}
		d, err := p.Allow(call)
		if (err == nil) != (tt.want == policy.Allows) || d.Read != (err == nil && strings.Contains(tt.condition, "request")) {
			t.Errorf("%s of %s: got %+v, %v", tt.condition, tt.request, d, err)
		}
	}
}

// A caller without claims has none, and no condition fails for want of the map.
func TestNoClaims(t *testing.T) {
	all := mirrored(t)
	p := one(t, all, policy.Rule{Methods: []string{"c1.**/*"}, Condition: `!has(claims.admin) && caller.subject == ""`})
	if d, err := p.Allow(policy.Call{Who: &principal.Principal{Team: "t"}, Method: all[0].Name}); err != nil || d.Rule != "t/allow/0" {
		t.Errorf("got %+v, %v", d, err)
	}
}

// What is wrong with a condition is found when it is compiled, with the first of
// the methods that it does not fit.
func TestConditionProblems(t *testing.T) {
	const service, method = "c1.api.app.v1.ConnectorService/*", "c1.api.app.v1.ConnectorService/ConfirmSyncValid"
	tests := []struct{ pattern, condition, want string }{
		{method, `request.app_idd == "a"`, `does not fit the request of ` + method + `: 1:8: undefined field 'app_idd'; did you mean "app_id"?`},
		{method, `request.appId == "a"`, `does not fit the request of ` + method + `: 1:8: undefined field 'appId'; did you mean "app_id"?`},
		{method, `true || request.zzzzzzzz == "a"`, `does not fit the request of ` + method + `: 1:16: undefined field 'zzzzzzzz'`},
		{service, `request.app_id == "a"`, `does not fit the request of c1.api.app.v1.ConnectorService/UpdateDelegated and 1 more method: 1:8: undefined field 'app_id'`},
		{method, `request.app_id == 1`, `does not fit the request of ` + method + `: 1:16: found no matching overload for '_==_' applied to '(string, int)'`},
		{method, `request.app_id`, `does not fit the request of ` + method + `: it is of type string: write a comparison, which is true or false, such as caller.name == "sync-bot"`},
		{method, `claims.admin`, `is no condition over request, caller and claims: it is of type dyn: write a comparison, which is true or false, such as caller.name == "sync-bot"`},
		{method, `caller.nam == "x"`, `is no condition over request, caller and claims: 1:7: undeclared reference to 'caller.nam' (did you mean 'caller.name'?)`},
		{method, `caller == "x"`, `is no condition over request, caller and claims: 1:1: undeclared reference to 'caller': caller has name, team, tenant and subject`},
		{method, `password == "x"`, `is no condition over request, caller and claims: 1:1: undeclared reference to 'password'`},
		{method, "true &&\n request.app_id.(", `is no CEL expression: 2:17: Syntax error: no viable alternative at input '.('`},
		{method, strings.Repeat("(", 60) + "true" + strings.Repeat(")", 60), `is no CEL expression: `},
		{method, `"a".matches(request.app_id)`, `does not fit the request of ` + method + `: the pattern of matches() must be a text in the condition: one that a caller sends could take any time`},
		{method, `caller.name.matches(claims.x)`, `is no condition over request, caller and claims: the pattern of matches()`},
		{"c1.**/*", `request.app_id == "a"`, `does not fit the request of c1.api.a2ui.v1.A2UIService/CreateSurfaceFeedback and `},
	}
	all := mirrored(t)
	for _, tt := range tests {
		rule := policy.Rule{Team: "t", Methods: []string{tt.pattern}, Condition: tt.condition, IncludeDraft: true}
		p, problems := policy.Compile([]policy.Rule{{Team: "t", Methods: []string{method}, Condition: "true"}, rule}, all)
		if p != nil || len(problems) != 1 {
			t.Errorf("%s: got %v", tt.condition, problems)
			continue
		}
		if got := problems[0]; got.Rule != 1 || got.Method != -1 || got.Key != "condition" || !strings.HasPrefix(got.Message, tt.want) || strings.Contains(got.Message, "\n") {
			t.Errorf("%s:\ngot  %+v\nwant %s", tt.condition, got, tt.want)
		}
	}
	_, problems := policy.Compile([]policy.Rule{{Team: "t", Methods: []string{method}, Shadow: true}}, all)
	if len(problems) != 1 || problems[0].Key != "shadow" {
		t.Errorf("a shadow of nothing: %v", problems)
	}
	_, problems = policy.Compile([]policy.Rule{{Team: "t", Methods: []string{methods[0].Name}, Condition: "request.x == 1"}}, methods)
	if len(problems) != 1 || !strings.HasSuffix(problems[0].Message, "its request is not known") {
		t.Errorf("a method without a request: %v", problems)
	}
}

// A condition must fit the methods that its rule allows, and no others.
func TestConditionOfLeftOut(t *testing.T) {
	all := mirrored(t)
	// Of this service's methods, those with side effects have no app_id at all.
	rule := policy.Rule{Team: "t", Name: "r", Methods: []string{"c1.api.app.v1.ConnectorService/*"}, Class: policy.Read, Condition: `request.app_id == "a"`}
	if _, problems := policy.Compile([]policy.Rule{rule}, all); len(problems) > 0 {
		t.Errorf("got %v", problems)
	}
}

// However large a request is, a condition ends soon, and one that does not end
// refuses.
func TestConditionCost(t *testing.T) {
	const review, create = "c1.api.accessreview.v1.AccessReviewService/Create", "c1.api.app.v1.AppResourceService/Update"
	all := mirrored(t)
	ids := strings.Repeat(`"0123456789",`, 30_000)
	large := requestOf(t, all, review, `{"description":"`+strings.Repeat("a", 3<<20)+`","expandMask":{"paths":[`+strings.TrimSuffix(ids, ",")+`]}}`)
	deep := requestOf(t, all, create, `{"appResource":{"profile":{"ids":[`+strings.TrimSuffix(ids, ",")+`]}}}`)
	const anys = "c1.api.app.v1.ConnectorService/Create"
	held := requestOf(t, all, anys, `{"config":{"@type":"type.googleapis.com/google.protobuf.Struct","value":{"ids":[`+strings.TrimSuffix(ids, ",")+`]}}}`)
	for _, tt := range []struct {
		method  string
		message proto.Message
		text    string
		want    policy.Outcome
	}{
		{review, large, `request.expand_mask.paths.all(x, request.expand_mask.paths.all(y, x != "" && y != ""))`, policy.ConditionFailed},
		{review, large, `request.expand_mask.paths.exists(x, x.matches("(a|b|c|d)*z"))`, policy.ConditionFailed},
		{review, large, `request.description.matches("(a|aa)*b")`, policy.ConditionFailed},
		{review, large, `request.expand_mask.paths.map(x, request.expand_mask.paths).size() > 0`, policy.ConditionFailed},
		{review, large, `request.expand_mask.paths.all(x, request.expand_mask == request.expand_mask)`, policy.ConditionFailed},
		{review, large, `request.expand_mask.paths.all(x, request.expand_mask.paths == request.expand_mask.paths)`, policy.ConditionFailed},
		{review, large, `request.expand_mask.paths.all(x, request == request)`, policy.ConditionFailed},
		{review, large, `request.expand_mask.paths.all(x, "nothing" in request.expand_mask.paths || true)`, policy.ConditionFailed},
		{review, large, `(request.description + request.description + request.description).contains("aab")`, policy.ConditionFailed},
		{create, deep, `request.app_resource.profile.ids.all(x, request.app_resource.profile == request.app_resource.profile)`, policy.ConditionFailed},
		{create, deep, `request.app_resource.profile.ids.all(x, request.app_resource.profile.ids == request.app_resource.profile.ids)`, policy.ConditionFailed},
		{create, deep, `request.app_resource.profile.ids.all(x, has(request.app_resource.profile.other) || x != "")`, policy.ConditionFailed},
		{anys, held, `request.config.ids.all(x, has(request.config.other) || x != "")`, policy.ConditionFailed},
		{anys, held, `request.config.ids[0] == "0123456789" && !has(request.config.other)`, policy.Allows},
		{review, large, `request.description == "x"`, policy.ConditionFalse},
		{review, large, `request.description.startsWith("aaa")`, policy.Allows},
	} {
		p := one(t, all, policy.Rule{Methods: []string{tt.method}, Condition: tt.text})
		call := policy.Call{Who: bot, Method: tt.method, Message: tt.message}
		p.Explain(call) // compiles it
		began := time.Now()
		s := p.Explain(call).Steps[0]
		took := time.Since(began)
		t.Logf("%v for %.80s: %s", took, tt.text, s.Why)
		if s.Outcome != tt.want || tt.want == policy.ConditionFailed && !strings.Contains(s.Why, "too long") {
			t.Errorf("%.80s: got %+v", tt.text, s)
		}
		bound := 5 * time.Second // a hundred times what it takes: it is a bound, not a figure
		if raceEnabled {
			bound = 30 * time.Second // the race detector slows it many times over
		}
		if took > bound {
			t.Errorf("%.80s took %v", tt.text, took)
		}
	}
}

// A refusal says what each rule that came near lacks, in few words, and nothing
// of what the call holds.
func TestRefusals(t *testing.T) {
	const method = "c1.api.app.v1.ConnectorService/ConfirmSyncValid"
	all := mirrored(t)
	rules := []policy.Rule{
		{Name: "t/allow/reads", Methods: []string{"c1.**/*"}, Class: policy.Read},
		{Name: "t/allow/own", Methods: []string{method}, Condition: `request.app_id == "secret-1"`},
		{Name: "t/allow/level", Methods: []string{method}, Condition: `claims["secret-2"] == 1`},
		{Name: "t/allow/why", Methods: []string{method}, RequireReason: true, Condition: `request.app_id != ""`},
	}
	refuse := func(n int, call policy.Call) *fault.Fault {
		t.Helper()
		of := rules[:n:n]
		for i := range of {
			of[i].Team = "t"
		}
		p, problems := policy.Compile(of, all)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		_, err := p.Allow(call)
		var f *fault.Fault
		if !errors.As(err, &f) {
			t.Fatalf("got %v", err)
		}
		if strings.Contains(f.Message+fmt.Sprint(f.Metadata), "secret") {
			t.Errorf("%s %v", f.Message, f.Metadata)
		}
		return f
	}
	call := policy.Call{Who: bot, Method: method, Message: requestOf(t, all, method, `{"appId":"secret-3"}`)}
	for n, want := range map[int]struct{ reason, rules string }{
		1: {"METHOD_DENIED", "t/allow/reads: it has side effects, which class: read leaves out"},
		2: {"CONDITION_DENIED", "t/allow/own: its condition is false"},
		3: {"CONDITION_DENIED", "t/allow/own: its condition is false; t/allow/level: its condition fails, as on something that is not there"},
		4: {"REASON_REQUIRED", "t/allow/own: its condition is false; t/allow/level: its condition fails, as on something that is not there; " +
			"t/allow/why: requires a reason: say why in the header C1proxy-Reason, percent-encoded"},
	} {
		f := refuse(n, call)
		if string(f.Reason) != want.reason || f.Metadata["rules"] != want.rules || f.Metadata["team"] != "t" || f.Metadata["method"] != method {
			t.Errorf("%d: got %s %v, want %v", n, f.Reason, f.Metadata, want)
		}
	}
	call.Unseen = "unknown_field"
	if f := refuse(2, call); f.Metadata["rules"] != "t/allow/own: its condition reads the request, of which c1proxy does not know unknown_field" {
		t.Errorf("got %v", f.Metadata)
	}
	// Many rules are not all named.
	rules = nil
	for i := range 50 {
		rules = append(rules, policy.Rule{Name: fmt.Sprint("t/allow/", i), Methods: []string{method}, Condition: "false"})
	}
	if f := refuse(50, policy.Call{Who: bot, Method: method}); len(f.Message) > 1500 || !strings.HasSuffix(f.Metadata["rules"], "t/allow/4: its condition is false; ...") {
		t.Errorf("%d bytes: %s", len(f.Message), f.Metadata["rules"])
	}
}

// What says nothing is no reason.
func TestReasons(t *testing.T) {
	all := mirrored(t)
	p := one(t, all, policy.Rule{Methods: []string{"c1.**/*"}, RequireReason: true})
	for reason, want := range map[string]bool{"": false, " \t": false, "-": false, "...": false, "\u200b": false, "%20": true, "x": true, "7": true, "因为": true} {
		if _, err := p.Allow(policy.Call{Who: bot, Method: all[0].Name, Reason: reason}); (err == nil) != want {
			t.Errorf("%q: %v", reason, err)
		}
	}
}
