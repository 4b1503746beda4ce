package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/principal"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// A clause is a condition, and what it says, in Go.
type clause struct {
	text  string
	reads bool
	says  func(c policy.Call, app string) (holds, failed bool)
}

var clauses = []clause{
	{"", false, func(policy.Call, string) (bool, bool) { return true, false }},
	{`caller.name == "x"`, false, func(c policy.Call, _ string) (bool, bool) { return c.Who.Caller == "x", false }},
	{`claims.admin == true`, false, func(c policy.Call, _ string) (bool, bool) {
		admin, given := c.Who.Claims["admin"]
		return admin == true, !given
	}},
	{`request.app_id == "a"`, true, func(_ policy.Call, app string) (bool, bool) { return app == "a", false }},
	{`request.app_id != caller.name`, true, func(c policy.Call, app string) (bool, bool) { return app != c.Who.Caller, false }},
}

// The methods that conditions are tried on, all with an app_id.
var appMethods = []string{"c1.api.app.v1.ConnectorService/ConfirmSyncValid", "c1.api.app.v1.ConnectorService/List", "c1.api.app.v1.ConnectorService/Delete"}

// outcome is what a rule says, read alone.
func outcome(rule policy.Rule, c clause, call policy.Call, m policy.Method, app string) policy.Outcome {
	switch {
	case !slices.ContainsFunc(rule.Methods, func(pattern string) bool { return naively(pattern, m.Name) }):
		return policy.NoMatch
	case leaves(rule, m):
		return policy.LeftOut
	}
	holds, failed := c.says(call, app)
	reason := !rule.RequireReason || call.Reason != ""
	switch {
	case !c.reads && failed:
		return policy.ConditionFailed
	case !c.reads && !holds:
		return policy.ConditionFalse
	case !reason:
		return policy.NeedsReason
	case c.reads && call.Message == nil:
		return policy.Pending
	case c.reads && (call.Unseen != "" || failed):
		return policy.ConditionFailed
	case !holds:
		return policy.ConditionFalse
	}
	return policy.Allows
}

// What the policy decides is what its rules say, read one by one: the first that
// allows; without one, the first in shadow; and before the request is known, a
// call passes if and only if some request could still be allowed.
func TestCallIsItsRules(t *testing.T) {
	all := slices.DeleteFunc(mirrored(t), func(m policy.Method) bool { return !slices.Contains(appMethods, m.Name) })
	messages := map[string]map[string]proto.Message{}
	for _, m := range all {
		messages[m.Name] = map[string]proto.Message{}
		for _, app := range []string{"a", "b", "x", ""} {
			messages[m.Name][app] = requestOf(t, all, m.Name, `{"appId":"`+app+`"}`)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		var rules []policy.Rule
		var of []clause
		for i := range rapid.IntRange(1, 6).Draw(t, "rules") {
			c := rapid.SampledFrom(clauses).Draw(t, "condition")
			rule := policy.Rule{Name: fmt.Sprint("t/allow/", i), Team: rapid.SampledFrom([]string{"t", "t", "u"}).Draw(t, "team"), Condition: c.text,
				Methods:       rapid.SampledFrom([][]string{appMethods[:1], appMethods[1:], {"c1.**/*", appMethods[0]}}).Draw(t, "methods"),
				Class:         rapid.SampledFrom([]policy.Class{policy.Both, policy.Both, policy.Write}).Draw(t, "class"),
				RequireReason: rapid.Bool().Draw(t, "require reason"), IncludeDraft: true}
			if rule.Class == policy.Write {
				rule.Methods = []string{"c1.**/*"}
			}
			rule.Shadow = (c.text != "" || rule.RequireReason) && rapid.Bool().Draw(t, "shadow")
			rules, of = append(rules, rule), append(of, c)
		}
		p, problems := policy.Compile(rules, all)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		who := &principal.Principal{Team: "t", Caller: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "caller"),
			Claims: rapid.SampledFrom([]map[string]any{nil, {"admin": true}, {"admin": "no"}}).Draw(t, "claims")}
		call := policy.Call{Who: who, Reason: rapid.SampledFrom([]string{"", "why"}).Draw(t, "reason")}
		for _, m := range all {
			call.Method = m.Name
			could := false
			for app, message := range messages[m.Name] {
				for _, unseen := range []string{"", "new_field"} {
					call.Message, call.Unseen = message, unseen
					could = settled(t, p, rules, of, call, m, app) || could
				}
			}
			call.Message, call.Unseen = nil, ""
			first, err := p.Allow(call)
			if (err == nil) != could || first.Pending != (first.Rule == "" && err == nil) {
				t.Fatalf("%s before the request: %+v, %v; could be allowed: %v", m.Name, first, err, could)
			}
			if first.Rule != "" {
				for _, message := range messages[m.Name] {
					call.Message = message
					if d, _ := p.Allow(call); d.Rule != first.Rule {
						t.Fatalf("%s: %q before the request and %q after", m.Name, first.Rule, d.Rule)
					}
				}
			}
		}
	})
}

// settled holds one decision, with the request known, against the rules, and
// tells whether it allows.
func settled(t *rapid.T, p *policy.Policy, rules []policy.Rule, of []clause, call policy.Call, m policy.Method, app string) bool {
	want, shadowed, read := "", "", false
	var outcomes []policy.Outcome
	for i, rule := range rules {
		if rule.Team != "t" {
			continue
		}
		said := outcome(rule, of[i], call, m, app)
		outcomes = append(outcomes, said)
		switch {
		case said == policy.Allows && want == "":
			want, read = rule.Name, of[i].reads && !rule.Shadow
		case rule.Shadow && shadowed == "" && said != policy.NoMatch && said != policy.LeftOut && said != policy.Allows:
			shadowed = rule.Name
		}
	}
	d, err := p.Allow(call)
	e := p.Explain(call)
	var got []policy.Outcome
	for _, s := range e.Steps {
		got = append(got, s.Outcome)
	}
	if want == "" && shadowed != "" {
		if d.Rule != shadowed || !strings.HasPrefix(d.Shadow, shadowed+": ") || d.Read || err != nil {
			t.Fatalf("%+v: got %+v, %v; want %s in shadow", call, d, err, shadowed)
		}
	} else if d.Rule != want || d.Shadow != "" || d.Read != read || (err == nil) != (want != "") {
		t.Fatalf("%+v: got %+v, %v; want %q", call, d, err, want)
	}
	if e.Decision != d || (e.Refusal == nil) != (err == nil) || !slices.Equal(got, outcomes) {
		t.Fatalf("%+v: explained as %+v, want %v", call, e, outcomes)
	}
	var f *fault.Fault
	if errors.As(err, &f) && (e.Refusal.Message != f.Message || (f.Reason == fault.ReasonRequired) != slices.Contains(outcomes, policy.NeedsReason)) {
		t.Fatalf("refused with %v, explained as %v", f, e.Refusal)
	}
	return err == nil
}

// Whatever a request is, conditions neither panic nor take long, the decision is
// the same each time, and the request says afterwards what it said before.
func FuzzCondition(f *testing.F) {
	const method = "c1.api.app.v1.AppResourceService/Update"
	all := mirrored(f)
	var rules []policy.Rule
	for i, text := range []string{
		`request.app_id.startsWith("a") && request.app_resource.profile.level > 3`,
		`request.app_resource.profile.all(k, k != request.app_id)`,
		`request.app_resource.created_at > timestamp("2026-01-01T00:00:00Z") || request.app_resource.display_name.size() > 3`,
		`has(request.app_resource.profile.a.b.c) && request.app_resource.profile.a.b.c in [1, "x", null]`,
		`request == request && request.app_resource.profile == request.app_resource.profile`,
	} {
		rules = append(rules, policy.Rule{Name: fmt.Sprint("t/allow/", i), Team: "t", Methods: []string{method}, Condition: text})
	}
	p, problems := policy.Compile(rules, all)
	if len(problems) > 0 {
		f.Fatal(problems)
	}
	found, err := catalog.Types{}.FindMessageByName(inputOf(f, all, method).FullName())
	if err != nil {
		f.Fatal(err)
	}
	for _, json := range []string{`{}`, `{"appId":"abc","appResource":{"profile":{"level":4}}}`, `{"appResource":{"createdAt":"2026-02-01T00:00:00Z","profile":{"a":{"b":{"c":null}}}}}`} {
		data, _ := proto.Marshal(requestOf(f, all, method, json))
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		message, _, err := transcode.Decode(transcode.Binary, data, found) // as a caller's is, which bears what protobuf-go panics at
		if err != nil {
			return
		}
		before := proto.Clone(message)
		call := policy.Call{Who: bot, Method: method, Message: message}
		first := p.Explain(call)
		for _, s := range first.Steps {
			if s.Cause != nil && strings.Contains(s.Cause.Error(), "internal error") {
				t.Errorf("%s: %v", s.Rule, s.Cause)
			}
		}
		if again, err := p.Allow(call); again != first.Decision || (err == nil) != (first.Refusal == nil) {
			t.Errorf("%+v, and again %+v, %v", first.Decision, again, err)
		}
		was, _ := protojson.MarshalOptions{Resolver: catalog.Types{}}.Marshal(before)
		is, _ := protojson.MarshalOptions{Resolver: catalog.Types{}}.Marshal(message)
		if len(was) != len(is) && strings.ReplaceAll(string(was), " ", "") != strings.ReplaceAll(string(is), " ", "") {
			t.Errorf("%s became %s", was, is)
		}
	})
}

// manyConditions are n teams' rules with conditions on all that they name.
func manyConditions(teams int, patterns []string, text string) []policy.Rule {
	var rules []policy.Rule
	for team := range teams {
		rules = append(rules, policy.Rule{Name: fmt.Sprintf("team%d/allow/0", team), Team: fmt.Sprintf("team%d", team), IncludeDraft: true,
			Methods: patterns, Condition: fmt.Sprintf(text, team)})
	}
	return rules
}

func BenchmarkCompileConditions(b *testing.B) {
	all := mirrored(b)
	for name, rules := range map[string][]policy.Rule{
		"caller on all methods":  manyConditions(1, []string{"c1.**/*"}, `caller.name == "x%d"`),
		"request on all methods": manyConditions(1, []string{"c1.**/*"}, `type(request) == type(request) || caller.name == "x%d"`),
		"caller, 200 teams":      manyConditions(200, []string{"c1.**/*"}, `caller.name == "x%d"`),
		"request, 200 teams":     manyConditions(200, appMethods, `request.app_id == "x%d"`),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, problems := policy.Compile(rules, all); len(problems) > 0 {
					b.Fatal(problems)
				}
			}
		})
	}
}

func BenchmarkConditions(b *testing.B) {
	all := mirrored(b)
	for _, text := range []string{`caller.name == "bot"`, `"a" in claims.groups`, `request.app_id in ["a", "b", "c"]`, `request.app_id == "a" || claims.level > 3`} {
		p := one(b, all, policy.Rule{Methods: appMethods, Condition: text})
		call := policy.Call{Who: bot, Method: appMethods[0], Message: requestOf(b, all, appMethods[0], `{"appId":"a"}`)}
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Allow(call); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	p := one(b, all, policy.Rule{Methods: appMethods, Condition: `request.app_id == "x"`})
	call := policy.Call{Who: bot, Method: appMethods[0], Message: requestOf(b, all, appMethods[0], `{"appId":"a"}`)}
	b.Run("refused", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Allow(call); err == nil {
				b.Fatal("allowed")
			}
		}
	})
}
