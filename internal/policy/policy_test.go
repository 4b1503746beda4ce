package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/principal"
)

// methods have what patterns can get wrong: names that begin alike, a package
// below another, and every class and stability. They are not sorted.
var methods = []policy.Method{
	{Name: "c1.b.T/Confirm"},
	{Name: "c1.a.v1.S/Get", ReadOnly: true},
	{Name: "c1.a.v1.S/List", ReadOnly: true},
	{Name: "c1.a.v1.S/Set"},
	{Name: "c1.a.v1.S/Peek", ReadOnly: true, Draft: true},
	{Name: "c1.a.v1.S/Try", Draft: true},
	{Name: "c1.a.v1.SX/Get", ReadOnly: true},
	{Name: "c1.a.v1.deep.D/Get", ReadOnly: true},
	{Name: "c1.a.v10.S/Get", ReadOnly: true},
	{Name: "c1.d.N/One", ReadOnly: true, Draft: true},
	{Name: "c1.d.N/Two", Draft: true},
	{Name: "c1x.S/Get", ReadOnly: true},
}

// calling is a call of a team's.
func calling(team, method string) policy.Call {
	return policy.Call{Who: &principal.Principal{Caller: "bot", Team: team, Tenant: "acme"}, Method: method}
}

// allowed are the methods that a policy of one rule allows.
func allowed(t *testing.T, rule policy.Rule) []string {
	t.Helper()
	rule.Team, rule.Name = "team", "team/allow/0"
	p, problems := policy.Compile([]policy.Rule{rule}, methods)
	if len(problems) > 0 {
		t.Fatalf("%v: %v", rule, problems)
	}
	var names []string
	for _, m := range methods {
		if d, err := p.Allow(calling("team", m.Name)); err == nil && d.Rule == rule.Name {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return names
}

func TestPatterns(t *testing.T) {
	tests := []struct {
		pattern string
		class   policy.Class
		draft   bool
		want    []string
	}{
		{"c1.a.v1.S/Get", policy.Both, false, []string{"c1.a.v1.S/Get"}},
		{"c1.a.v1.S/Get", policy.Read, false, []string{"c1.a.v1.S/Get"}},
		{"c1.a.v1.S/Get", policy.Both, true, []string{"c1.a.v1.S/Get"}},
		{"c1.a.v1.S/Set", policy.Write, false, []string{"c1.a.v1.S/Set"}},
		{"c1.a.v1.S/Try", policy.Both, true, []string{"c1.a.v1.S/Try"}},
		{"c1.a.v1.S/*", policy.Both, false, []string{"c1.a.v1.S/Get", "c1.a.v1.S/List", "c1.a.v1.S/Set"}},
		{"c1.a.v1.S/*", policy.Read, false, []string{"c1.a.v1.S/Get", "c1.a.v1.S/List"}},
		{"c1.a.v1.S/*", policy.Read, true, []string{"c1.a.v1.S/Get", "c1.a.v1.S/List", "c1.a.v1.S/Peek"}},
		{"c1.a.v1.S/*", policy.Write, false, []string{"c1.a.v1.S/Set"}},
		{"c1.a.v1.S/*", policy.Write, true, []string{"c1.a.v1.S/Set", "c1.a.v1.S/Try"}},
		{"c1.a.v1.*/*", policy.Read, false, []string{"c1.a.v1.S/Get", "c1.a.v1.S/List", "c1.a.v1.SX/Get"}},
		{"c1.a.v1.**/*", policy.Read, false, []string{"c1.a.v1.S/Get", "c1.a.v1.S/List", "c1.a.v1.SX/Get", "c1.a.v1.deep.D/Get"}},
		{"c1.a.**/*", policy.Write, false, []string{"c1.a.v1.S/Set"}},
		{"c1.**/*", policy.Both, false, []string{"c1.a.v1.S/Get", "c1.a.v1.S/List", "c1.a.v1.S/Set", "c1.a.v1.SX/Get",
			"c1.a.v1.deep.D/Get", "c1.a.v10.S/Get", "c1.b.T/Confirm"}},
		{"c1.**/*", policy.Write, true, []string{"c1.a.v1.S/Set", "c1.a.v1.S/Try", "c1.b.T/Confirm", "c1.d.N/Two"}},
	}
	for _, tt := range tests {
		got := allowed(t, policy.Rule{Methods: []string{tt.pattern}, Class: tt.class, IncludeDraft: tt.draft})
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s, class %q, draft %v: %s", tt.pattern, tt.class, tt.draft, diff)
		}
	}
}

// The first rule that allows is named; another team's never is.
func TestAllow(t *testing.T) {
	p, problems := policy.Compile([]policy.Rule{
		{Name: "one/0", Team: "one", Methods: []string{"c1.a.v1.S/Get"}},
		{Name: "two/0", Team: "two", Methods: []string{"c1.a.v1.S/*", "c1.b.T/Confirm"}, Class: policy.Write},
		{Name: "two/1", Team: "two", Methods: []string{"c1.a.v1.S/*"}},
		{Name: "two/2", Team: "two", Methods: []string{"c1.a.v1.S/Get", "c1.a.v1.S/Try"}, IncludeDraft: true},
	}, methods)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := map[[2]string]string{
		{"one", "c1.a.v1.S/Get"}: "one/0",
		{"two", "c1.a.v1.S/Set"}: "two/0", {"two", "c1.b.T/Confirm"}: "two/0",
		{"two", "c1.a.v1.S/Get"}: "two/1", {"two", "c1.a.v1.S/List"}: "two/1",
		{"two", "c1.a.v1.S/Try"}: "two/2",
	}
	names := []string{"c1.a.v1.S/*", "c1.**/*", "", "c1.a.v1.S/get", "/c1.a.v1.S/Get"}
	for _, m := range methods {
		names = append(names, m.Name)
	}
	for _, team := range []string{"one", "two", "", "nobody"} {
		for _, method := range names {
			d, err := p.Allow(calling(team, method))
			rule := d.Rule
			if rule != want[[2]string{team, method}] {
				t.Errorf("%s %s: got rule %q", team, method, rule)
			}
			var f *fault.Fault
			if denied := rule == ""; denied != errors.As(err, &f) || denied && (f.Code != connect.CodePermissionDenied ||
				f.Reason != fault.MethodDenied || f.Metadata["team"] != team || f.Metadata["method"] != method) {
				t.Errorf("%s %s: got rule %q with %v", team, method, rule, err)
			}
		}
	}
}

// A refusal says what would change it.
func TestDenied(t *testing.T) {
	p, problems := policy.Compile([]policy.Rule{
		{Name: "t/0", Team: "t", Methods: []string{"c1.a.v1.S/*"}, Class: policy.Read},
		{Name: "t/1", Team: "t", Methods: []string{"c1.a.**/*"}, Class: policy.Read},
		{Name: "w/0", Team: "w", Methods: []string{"c1.a.**/*"}, Class: policy.Write, IncludeDraft: true},
	}, methods)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	tests := []struct{ team, method, want string }{
		{"t", "c1.b.T/Confirm", "ask its operator for an allow rule"},
		{"t", "c1.a.v1.S/Peek", "t/0 matches it, but it is a draft method: ask its operator for include_draft: true"},
		{"t", "c1.a.v1.S/Set", "t/0 matches it, but it has side effects, which class: read leaves out"},
		{"t", "c1.a.v1.S/Try", "t/0 matches it, but it is a draft method, and it has side effects, which class: read leaves out"},
		{"w", "c1.a.v10.S/Get", "w/0 matches it, but it has no side effects, which class: write leaves out"},
		{"w", "c1.a.v1.S/Peek", "w/0 matches it, but it has no side effects, which class: write leaves out"},
		{"x", "c1.a.v1.S/Get", "ask its operator for an allow rule"},
		{"t", "c1.a.v1.S/None", "ask its operator for an allow rule"},
	}
	for _, tt := range tests {
		d, err := p.Allow(calling(tt.team, tt.method))
		rule := d.Rule
		var f *fault.Fault
		want := "team " + tt.team + " has no rule that allows " + tt.method + ": " + tt.want
		if !errors.As(err, &f) || rule != "" || f.Message != want {
			t.Errorf("got %q, %v; want %s", rule, err, want)
		}
	}
}

func TestCompileProblems(t *testing.T) {
	const write = ": write PACKAGE.SERVICE/METHOD, PACKAGE.SERVICE/*, PACKAGE.*/* or, with the packages below it, PACKAGE.**/*"
	read, draft := policy.Rule{Class: policy.Read}, policy.Rule{IncludeDraft: true}
	tests := []struct {
		pattern string
		rule    policy.Rule
		want    string
	}{
		{"c1.a.v1.S/Gte", draft, `no method is named "c1.a.v1.S/Gte"; did you mean "c1.a.v1.S/Get"?`},
		{"c1.b.T/confrm", draft, `no method is named "c1.b.T/confrm"; did you mean "c1.b.T/Confirm"?`},
		{"c1.a.v1.s/*", draft, `"c1.a.v1.s/*" matches no method; did you mean "c1.a.v1.S/*"?`},
		{"c1.a.v2.*/*", draft, `"c1.a.v2.*/*" matches no method; did you mean "c1.a.v1.*/*"?`},
		{"c1.*/*", draft, `"c1.*/*" matches no method; did you mean "c1.**/*"?`},
		{"some.other.**/*", draft, `"some.other.**/*" matches no method` + write},
		{"c1.*", draft, `is no method or pattern; did you mean "c1.**/*"?`},
		{"c1.**", draft, `is no method or pattern; did you mean "c1.**/*"?`},
		{"c1.a", draft, `is no method or pattern; did you mean "c1.a.**/*"?`},
		{"c1.a.v1", draft, `is no method or pattern; did you mean "c1.a.v1.*/*"?`},
		{"c1.a.v1.S", draft, `is no method or pattern; did you mean "c1.a.v1.S/*"?`},
		{"c1.a.v1.S.Get", draft, `is no method or pattern; did you mean "c1.a.v1.S/Get"?`},
		{"/c1.a.v1.S/Get", draft, `is no method or pattern; did you mean "c1.a.v1.S/Get"?`},
		{"/c1.a", draft, `is no method or pattern; did you mean "c1.a.**/*"?`},
		{"c1.a.1.S/Get", draft, `is no method or pattern; did you mean "c1.a.v1.S/Get"?`},
		{"Confirm", draft, `is no method or pattern; did you mean "c1.b.T/Confirm"?`},
		{"T/Confirm", draft, `is no method or pattern; did you mean "c1.b.T/Confirm"?`},
		{"S/Get", draft, `is no method or pattern; did you mean "c1.a.v1.S/Get" or "c1.a.v10.S/Get" or "c1x.S/Get"?`},
		{"Get", draft, `is no method or pattern` + write},
		{"*", draft, `is no method or pattern; did you mean "c1.**/*" or "c1x.**/*"?`},
		{"*/*", draft, `is no method or pattern; did you mean "c1.**/*" or "c1x.**/*"?`},
		{"**/*", draft, `is no method or pattern; did you mean "c1.**/*" or "c1x.**/*"?`},
		{"", draft, `is no method or pattern` + write},
		{"c1.a.*.S/Get", draft, `is no method or pattern; did you mean "c1.a.v1.S/Get"?`},
		{"c1.*.v1.**/*", draft, `is no method or pattern; did you mean "c1.a.v1.**/*"?`},
		{"c1.a.v1.**/Get", draft, `is no method or pattern; did you mean "c1.a.v1.S/Get"?`},
		{"c1.some.long.package.v1.Service/Delete*", draft, `is no method or pattern: a "*" stands for a whole name: write the method's name or "*", and class: read for methods without side effects`},
		{"secret-token:conductorone.com:v1:abc", draft, `is no method or pattern` + write},

		{"c1.a.v1.S/Try", policy.Rule{}, `"c1.a.v1.S/Try" is a draft method: add include_draft: true`},
		{"c1.a.v1.S/Peek", read, `"c1.a.v1.S/Peek" is a draft method: add include_draft: true`},
		{"c1.d.N/*", policy.Rule{}, `"c1.d.N/*" matches 2 methods, all draft: add include_draft: true`},
		{"c1.a.v1.S/Set", read, `"c1.a.v1.S/Set" has side effects, which class: read leaves out: remove one of them`},
		{"c1.a.v1.S/Try", read, `"c1.a.v1.S/Try" has side effects, which class: read leaves out: remove one of them`},
		{"c1.a.v1.S/Get", policy.Rule{Class: policy.Write}, `"c1.a.v1.S/Get" has no side effects, which class: write leaves out: remove one of them`},
		{"c1.b.T/*", read, `"c1.b.T/*" matches 1 method, all with side effects, which class: read leaves out: remove one of them`},
		{"c1.a.v1.deep.**/*", policy.Rule{Class: policy.Write, IncludeDraft: true},
			`"c1.a.v1.deep.**/*" matches 1 method, all with no side effects, which class: write leaves out: remove one of them`},
		{"c1.d.**/*", read, `"c1.d.**/*" matches 2 methods, but class: read leaves out 1, and the rest are draft: add include_draft: true`},
	}
	for _, tt := range tests {
		rule := tt.rule
		rule.Team, rule.Methods = "t", []string{"c1.**/*", tt.pattern}
		p, problems := policy.Compile([]policy.Rule{{Team: "t", Methods: []string{"c1.b.T/Confirm"}}, rule}, methods)
		want := []policy.Problem{{Rule: 1, Method: 1, Message: tt.want}}
		if diff := cmp.Diff(want, problems); p != nil || diff != "" {
			t.Errorf("%q: %v %s", tt.pattern, p, diff)
		}
	}
}

// A class that is none allows nothing: it is not taken for one of the others.
func TestUnknownClass(t *testing.T) {
	p, problems := policy.Compile([]policy.Rule{{Methods: []string{"c1.**/*", "x"}, Class: "admin"}}, methods)
	if p != nil || len(problems) != 1 || problems[0].Method != -1 {
		t.Errorf("got %v, %v", p, problems)
	}
}

// However much is wrong, what is returned can be read.
func TestManyProblems(t *testing.T) {
	wrong := slices.Repeat([]string{"c1.a.v1.S/Gte"}, 70)
	p, problems := policy.Compile([]policy.Rule{{Methods: wrong}, {Methods: wrong}}, methods)
	if p != nil || len(problems) != 100 || problems[99].Rule != 1 || problems[99].Method != 29 {
		t.Errorf("got %v and %d problems", p, len(problems))
	}
	classes := slices.Repeat([]policy.Rule{{Class: "admin"}}, 101)
	if _, problems := policy.Compile(classes, methods); len(problems) != 100 {
		t.Errorf("%d problems of classes", len(problems))
	}
}

// The rules that a Policy was made of, and the methods, may be changed
// afterwards.
func TestCompileKeepsNothing(t *testing.T) {
	rules := []policy.Rule{{Name: "t/0", Team: "t", Methods: []string{"c1.b.T/Confirm"}}}
	given := []policy.Method{{Name: "c1.b.T/Confirm"}, {Name: "c1.a.S/Get"}}
	before := slices.Clone(given)
	p, problems := policy.Compile(rules, given)
	if len(problems) > 0 || !slices.Equal(given, before) {
		t.Fatalf("got %v, and the methods %v", problems, given)
	}
	rules[0].Name, given[0].Name = "other", "other"
	if d, err := p.Allow(calling("t", "c1.b.T/Confirm")); d.Rule != "t/0" {
		t.Errorf("got %q, %v", d.Rule, err)
	}
}

func TestAllowAllocatesNothing(t *testing.T) {
	p, problems := policy.Compile(manyRules(20, 10), manyMethods())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	call := calling("team7", "c1.api.p07.v1.S0Service/Method3")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := p.Allow(call); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// manyMethods are as many, in as many packages, as C1 has: 638 in 54.
func manyMethods() []policy.Method {
	var all []policy.Method
	for i := range 638 {
		pack, service := i%54, i/54%3
		all = append(all, policy.Method{ReadOnly: i%5 < 2, Draft: i/54%6 == 0,
			Name: fmt.Sprintf("c1.api.p%02d.v1.S%dService/Method%d", pack, service, i/54)})
	}
	return all
}

// manyRules are rules of patterns that match much, for many teams.
func manyRules(teams, each int) []policy.Rule {
	var rules []policy.Rule
	for team := range teams {
		for i := range each {
			rule := policy.Rule{Name: fmt.Sprintf("team%d/allow/%d", team, i), Team: fmt.Sprintf("team%d", team), IncludeDraft: i%2 == 0}
			rule.Methods = []string{"c1.**/*", "c1.api.**/*", fmt.Sprintf("c1.api.p%02d.v1.*/*", (team+i)%54)}
			rule.Class = []policy.Class{policy.Both, policy.Read, policy.Write}[i%3]
			rules = append(rules, rule)
		}
	}
	return rules
}

func BenchmarkCompile(b *testing.B) {
	rules, all := manyRules(200, 10), manyMethods()
	b.ReportAllocs()
	for b.Loop() {
		if _, problems := policy.Compile(rules, all); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}

// BenchmarkProblems compiles a file of typos.
func BenchmarkProblems(b *testing.B) {
	all := manyMethods()
	rule := policy.Rule{Methods: slices.Repeat([]string{"c1.api.p07.v1.S1Service/Metod33"}, 1000)}
	for b.Loop() {
		if _, problems := policy.Compile([]policy.Rule{rule}, all); len(problems) != 100 || !strings.Contains(problems[0].Message, "did you mean") {
			b.Fatal(problems)
		}
	}
}

func BenchmarkAllow(b *testing.B) {
	p, _ := policy.Compile(manyRules(200, 10), manyMethods())
	call := calling("team133", "c1.api.p07.v1.S0Service/Method3")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Allow(call); err != nil {
			b.Fatal(err)
		}
	}
}
