package policy_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/policy"
)

// written is the grammar of a pattern, and readings are the texts that each of
// its forms matches, in the words of regular expressions.
var (
	written  = regexp.MustCompile(`^([A-Za-z_]\w*\.)+([A-Za-z_]\w*/([A-Za-z_]\w*|\*)|\*\*?/\*)$`)
	readings = strings.NewReplacer(".**/*", `(\.\w+)+/\w+`, ".*/*", `\.\w+/\w+`, "/*", `/\w+`, ".", `\.`)
)

// naively tells whether a pattern matches a method.
func naively(pattern, method string) bool {
	return written.MatchString(pattern) && regexp.MustCompile("^"+readings.Replace(pattern)+"$").MatchString(method)
}

// leaves tells whether a rule leaves out a method that it matches.
func leaves(rule policy.Rule, m policy.Method) bool {
	return rule.Class == policy.Read && !m.ReadOnly || rule.Class == policy.Write && m.ReadOnly || m.Draft && !rule.IncludeDraft
}

// decide reads the rules in their order, for each decision again.
func decide(rules []policy.Rule, team string, m policy.Method) (allows, near string) {
	for _, rule := range rules {
		if rule.Team != team || !slices.ContainsFunc(rule.Methods, func(pattern string) bool { return naively(pattern, m.Name) }) {
			continue
		}
		if !leaves(rule, m) {
			return rule.Name, ""
		}
		if near == "" {
			near = rule.Name
		}
	}
	return "", near
}

// Methods and patterns are of few names, so that they meet.
var (
	packages = rapid.SampledFrom([]string{"c1", "c1.a", "c1.a.b", "c1.a_b", "c1.A", "c1x", "c1.a.S"})
	services = rapid.SampledFrom([]string{"S", "SX", "a"})
	actions  = rapid.SampledFrom([]string{"Get", "GetX", "Set"})

	anyMethod = rapid.Custom(func(t *rapid.T) policy.Method {
		return policy.Method{Name: packages.Draw(t, "package") + "." + services.Draw(t, "service") + "/" + actions.Draw(t, "method"),
			ReadOnly: rapid.Bool().Draw(t, "read-only"), Draft: rapid.Bool().Draw(t, "draft")}
	})
	anyPattern = rapid.Custom(func(t *rapid.T) string {
		container := packages.Draw(t, "package") + "." + rapid.OneOf(services, rapid.Just("*"), rapid.Just("**")).Draw(t, "service")
		return container + rapid.SampledFrom([]string{"/*", "/*", "/*", "/Get", "/Set", "", "/", "/**", "/G*"}).Draw(t, "method")
	})
	anyRule = rapid.Custom(func(t *rapid.T) policy.Rule {
		return policy.Rule{Team: rapid.SampledFrom([]string{"one", "two"}).Draw(t, "team"),
			Methods:      rapid.SliceOfN(anyPattern, 1, 4).Draw(t, "methods"),
			Class:        rapid.SampledFrom([]policy.Class{policy.Both, policy.Read, policy.Write}).Draw(t, "class"),
			IncludeDraft: rapid.Bool().Draw(t, "include draft")}
	})
)

// A policy's problems are the patterns by which their rule allows nothing, and
// no others; and what it allows, without them, is what the rules say when they
// are read one by one.
func TestPolicyIsItsRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfNDistinct(anyMethod, 1, 20, func(m policy.Method) string { return m.Name }).Draw(t, "methods")
		rules := rapid.SliceOfN(anyRule, 0, 6).Draw(t, "rules")
		var wrong, found []string
		for i := range rules {
			rules[i].Name = fmt.Sprintf("%s/allow/%d", rules[i].Team, i)
			for j, pattern := range rules[i].Methods {
				if !slices.ContainsFunc(all, func(m policy.Method) bool { return naively(pattern, m.Name) && !leaves(rules[i], m) }) {
					wrong = append(wrong, fmt.Sprint(i, j))
				}
			}
		}
		p, problems := policy.Compile(rules, all)
		for _, problem := range problems {
			found = append(found, fmt.Sprint(problem.Rule, problem.Method))
		}
		if !slices.Equal(wrong, found) || (p == nil) != (len(wrong) > 0) {
			t.Fatalf("the problems are %v, want those at %v", problems, wrong)
		}
		for _, problem := range slices.Backward(problems) {
			rule := &rules[problem.Rule]
			rule.Methods = slices.Delete(rule.Methods, problem.Method, problem.Method+1)
		}
		if p, problems = policy.Compile(rules, all); p == nil {
			t.Fatalf("without the problems there are %v", problems)
		}
		for _, team := range []string{"one", "two", "three"} {
			for _, m := range all {
				agree(t, p, rules, team, m)
			}
		}
	})
}

// agree holds one decision against the rules.
func agree(t *rapid.T, p *policy.Policy, rules []policy.Rule, team string, m policy.Method) {
	allows, near := decide(rules, team, m)
	d, err := p.Allow(calling(team, m.Name))
	got := d.Rule
	if got != allows || (err == nil) != (allows != "") {
		t.Fatalf("%s %s: got %q, %v; want %q", team, m.Name, got, err, allows)
	}
	if err == nil {
		return
	}
	var f *fault.Fault
	want := ": " + near + " matches it, but "
	if near == "" {
		want = ": ask its operator for an allow rule"
	}
	if !errors.As(err, &f) || !strings.Contains(f.Message, want) {
		t.Fatalf("%s %s: got %v, want %q", team, m.Name, err, want)
	}
}

var meant = regexp.MustCompile(`did you mean (.*)\?$`)

// Whatever stands for a pattern, it matches what its grammar says; a problem is
// one line, every suggestion in it matches something, and a text that is no
// pattern is not shown.
func FuzzPattern(f *testing.F) {
	for _, m := range methods {
		f.Add(m.Name)
	}
	for _, text := range []string{"c1.a.v1.S/*", "c1.a.v1.*/*", "c1.**/*", "*", "**/*", "c1.*", "S/Get", "c1.a.v1.S/Get*", ".S/Get", "c1..S/Get", "c1.*.S/*",
		"c1.a.v1.**/Get", "c1.***/*", "c1.a.v1.S/Get/", "c1.a.v1.S//*", "c1.1.S/*", "c1.é.S/*", "c1.a.v1.S/*\n", " c1.**/*", "/", "./", "", "\x00",
		"c1p_0123456789abcdefghijklmnop", "AbCd0123456789+/EfGh456789012345"} {
		f.Add(text)
	}
	_, problems := policy.Compile([]policy.Rule{{Methods: []string{"?", "S/G*"}}}, methods)
	words := problems[0].Message + problems[1].Message
	compile := func(text string) (*policy.Policy, []policy.Problem) {
		return policy.Compile([]policy.Rule{{Name: "r", Team: "t", Methods: []string{text}, IncludeDraft: true}}, methods)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, problems := compile(text)
		matched := 0
		for _, m := range methods {
			want := naively(text, m.Name)
			if want {
				matched++
			}
			if p != nil {
				if _, err := p.Allow(calling("t", m.Name)); (err == nil) != want {
					t.Errorf("%q: %s: got %v, want %v", text, m.Name, err, want)
				}
			}
		}
		if (p == nil) != (matched == 0) || len(problems) > 1 || (p == nil) != (len(problems) == 1) {
			t.Fatalf("%q matches %d methods, and yet %v", text, matched, problems)
		}
		if p != nil {
			return
		}
		message := problems[0].Message
		if strings.ContainsAny(message, "\r\n") || strings.HasPrefix(message, "is no method or pattern") == written.MatchString(text) {
			t.Errorf("%q: %s", text, message)
		}
		// Longer than any name, and none of the message's own words.
		if !written.MatchString(text) && len(text) > 20 && strings.Contains(message, text) && !strings.Contains(words, text) {
			t.Errorf("%q is shown: %s", text, message)
		}
		if said := meant.FindStringSubmatch(message); said != nil {
			for other := range strings.SplitSeq(said[1], " or ") {
				if p, problems := compile(strings.Trim(other, `"`)); p == nil {
					t.Errorf("%q suggests %s: %v", text, other, problems)
				}
			}
		}
	})
}
