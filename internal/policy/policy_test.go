package policy_test

import (
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/policy"
)

var methods = []string{"c1.a.S/Get", "c1.a.S/List", "c1.a.SX/Get", "c1.b.T/Confirm"}

func TestAllow(t *testing.T) {
	p, problems := policy.Compile([]policy.Rule{
		{Name: "one/0", Team: "one", Methods: []string{"c1.a.S/Get"}},
		{Name: "two/0", Team: "two", Methods: []string{"c1.a.S/*", "c1.b.T/Confirm"}},
		{Name: "two/1", Team: "two", Methods: []string{"c1.a.S/Get"}},
	}, methods)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := map[[2]string]string{
		{"one", "c1.a.S/Get"}: "one/0",
		{"two", "c1.a.S/Get"}: "two/0", {"two", "c1.a.S/List"}: "two/0", {"two", "c1.b.T/Confirm"}: "two/0",
	}
	for _, team := range []string{"one", "two", "", "nobody"} {
		for _, method := range append(methods, "c1.a.S/*", "", "c1.a.S/get", "/c1.a.S/Get") {
			rule, err := p.Allow(team, method)
			if rule != want[[2]string{team, method}] {
				t.Errorf("%s %s: got rule %q", team, method, rule)
			}
			var f *fault.Fault
			if denied := rule == ""; denied != errors.As(err, &f) || denied && f.Code != connect.CodePermissionDenied {
				t.Errorf("%s %s: got rule %q with %v", team, method, rule, err)
			}
		}
	}
}

func TestCompileProblems(t *testing.T) {
	tests := map[string]string{
		"c1.a.S/Gte":    `did you mean "c1.a.S/Get"?`,
		"c1.b.T/confrm": `did you mean "c1.b.T/Confirm"?`,
		"c1.a.Sx/*":     `did you mean "c1.a.S`,
		"Confirm":       `did you mean "c1.b.T/Confirm"?`,
		"T/Confirm":     `did you mean "c1.b.T/Confirm"?`,
		"*":             `a method is written`,
		"":              `a method is written`,
		"c1.a.*/*":      `no method is named`,
	}
	for pattern, want := range tests {
		p, problems := policy.Compile([]policy.Rule{{Team: "t", Methods: []string{"c1.a.S/Get"}}, {Team: "t", Methods: []string{"c1.a.S/*", pattern}}}, methods)
		if p != nil || len(problems) != 1 || problems[0].Rule != 1 || problems[0].Method != 1 || !strings.Contains(problems[0].Message, want) {
			t.Errorf("%q: got %v, want %q", pattern, problems, want)
		}
	}
}
