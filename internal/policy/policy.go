// Package policy decides whether a team may call a procedure. It is pure, and
// it denies what no rule allows.
package policy

import (
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// A Rule allows a team some methods.
type Rule struct {
	// Name identifies the rule in records and refusals, such as "payments/allow/0".
	Name string
	// Team is the team that the rule is for.
	Team string
	// Methods are full method names, "package.Service/Method", or all methods
	// of a service, "package.Service/*".
	Methods []string
}

// A Policy is a set of rules, compiled. It is immutable and safe for
// concurrent use.
type Policy struct {
	allowed map[key]string
}

// key is one decision; its value in the map is the name of the first rule
// that allows it.
type key struct{ team, method string }

// A Problem is a method of a rule that names nothing.
type Problem struct {
	// Rule and Method are indexes into the rules and into that rule's methods.
	Rule, Method int
	// Message says what was wrong and what to write instead.
	Message string
}

// Compile makes a Policy of the rules, for the methods that exist. Every
// method of a rule that names none of them is a problem; with one, the policy
// is nil.
func Compile(rules []Rule, methods []string) (*Policy, []Problem) {
	p := &Policy{allowed: make(map[key]string)}
	var problems []Problem
	for i, rule := range rules {
		for j, pattern := range rule.Methods {
			matched := match(pattern, methods)
			if len(matched) == 0 {
				problems = append(problems, Problem{Rule: i, Method: j, Message: unknown(pattern, methods)})
			}
			for _, method := range matched {
				if k := (key{rule.Team, method}); p.allowed[k] == "" {
					p.allowed[k] = rule.Name
				}
			}
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return p, nil
}

// Allow returns the name of the rule that lets the team call the method, or a
// *fault.Fault with connect.CodePermissionDenied.
func (p *Policy) Allow(team, method string) (rule string, err error) {
	if rule, ok := p.allowed[key{team, method}]; ok {
		return rule, nil
	}
	return "", fault.New(connect.CodePermissionDenied, fault.MethodDenied,
		"team %s has no rule that allows %s: ask its operator for an allow rule", team, method).
		With("team", team).With("method", method)
}

// match returns the methods that a pattern names.
func match(pattern string, methods []string) []string {
	var matched []string
	for _, method := range methods {
		if method == pattern || serviceOf(method)+"/*" == pattern {
			matched = append(matched, method)
		}
	}
	return matched
}

func serviceOf(method string) string { return method[:strings.LastIndexByte(method, '/')] }

// unknown says that a pattern names nothing, and what comes nearest.
func unknown(pattern string, methods []string) string {
	text := fmt.Sprintf("no method is named %q", pattern)
	candidates := slices.Clone(methods)
	if strings.HasSuffix(pattern, "/*") {
		for i, method := range candidates {
			candidates[i] = serviceOf(method) + "/*"
		}
	}
	if best := nearest(pattern, candidates); best != "" {
		return text + fmt.Sprintf("; did you mean %q?", best)
	}
	return text + `; a method is written "package.Service/Method", and all of a service's "package.Service/*"`
}
