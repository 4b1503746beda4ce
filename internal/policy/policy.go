// Package policy decides whether a team may call a procedure. It is pure, and
// it denies what no rule allows.
//
// Rules name methods by patterns, which are resolved against the methods that
// exist when a Policy is compiled: a decision is then two look-ups, whatever
// the rules are, and a pattern that does nothing is found before any call. Where
// rules have conditions, those that match the method are asked in their order;
// each condition is compiled for each method that its rule allows, so that a
// field which a request does not have is found before any call too.
package policy

import (
	"iter"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// A Method is one that exists.
type Method struct {
	// Name is "package.Service/Method".
	Name string
	// ReadOnly says that the method has no side effects.
	ReadOnly bool
	// Draft says that C1 may still change or remove the method.
	Draft bool
	// Input is the request's type; nil where no condition can read the request.
	Input protoreflect.MessageDescriptor
}

// A Class is a part of the methods, by their side effects.
type Class string

// The classes.
const (
	// Both is every method.
	Both Class = ""
	// Read is the methods without side effects.
	Read Class = "read"
	// Write is the methods with side effects, which are all others.
	Write Class = "write"
)

// A Rule allows a team the methods that one of its patterns matches, less
// those that Class and IncludeDraft leave out.
type Rule struct {
	// Name identifies the rule in records and refusals, such as "payments/allow/0".
	Name string
	// Team is the team that the rule is for.
	Team string
	// Methods are patterns: "package.Service/Method" matches one method,
	// "package.Service/*" all of a service, "package.*/*" all of exactly that
	// package, "package.**/*" all of that package and of those below it.
	Methods []string
	// Class leaves out the methods of the other class.
	Class Class
	// IncludeDraft lets the rule allow draft methods too. Without it they are
	// left out, also where the rule names one exactly.
	IncludeDraft bool
	// Condition is a CEL expression, true or false, over the call: request, as
	// the method's message; caller.name, caller.team, caller.tenant and
	// caller.subject, which are texts; claims, a map, of a token. The rule allows
	// a call for which it is true. "" is true of all.
	Condition string
	// RequireReason lets the rule allow only calls that state a reason.
	RequireReason bool
	// Shadow tries Condition and RequireReason out: what they would refuse, and no
	// other rule allows, is let through all the same, and is told of.
	Shadow bool
}

// admits tells whether the rule allows a method that one of its patterns
// matches.
func (r *Rule) admits(m Method) bool {
	return r.Class.holds(m) && (r.IncludeDraft || !m.Draft)
}

func (c Class) holds(m Method) bool { return c == Both || (c == Read) == m.ReadOnly }

// A Policy is a set of rules, compiled. It is immutable and safe for
// concurrent use.
type Policy struct {
	rules []Rule
	// conditions are the rules', nil for those without one.
	conditions []*condition
	// methods are sorted by name, so that all but the exact patterns match
	// neighbours; index has the place of each.
	methods []Method
	index   map[string]int
	// teams has a verdict for each method: four bytes a method and team.
	teams map[string][]verdict
	// chains are of the rules that depend on the call.
	chains chains
	// of has the rules of each team, parsed the patterns of each rule, for what a
	// refusal says.
	of     map[string][]int
	parsed [][]pattern
}

// A verdict is what a team's rules say of a method: 0 if none matches it, the
// index of the first rule that allows it plus 1, or else, negated, the index
// of the first rule that matches it but leaves it out, plus 1. Where what a rule
// says depends on the call, it is the index of a chain plus chained.
type verdict int32

// chained is more than any configuration has rules.
const chained = 1 << 30

// Compile makes a Policy of the rules, for the methods that exist; their names
// differ. A pattern that is none, or by which its rule allows nothing, is a
// problem; with one, the policy is nil. At most 100 problems are returned: as
// many as people read.
func Compile(rules []Rule, methods []Method) (*Policy, []Problem) {
	p := &Policy{rules: slices.Clone(rules), methods: slices.Clone(methods),
		index: make(map[string]int, len(methods)), teams: make(map[string][]verdict),
		conditions: make([]*condition, len(rules)), of: make(map[string][]int), parsed: make([][]pattern, len(rules)), chains: chains{known: make(map[link]verdict)}}
	slices.SortFunc(p.methods, func(a, b Method) int { return strings.Compare(a.Name, b.Name) })
	for i, m := range p.methods {
		p.index[m.Name] = i
	}
	var problems []Problem
	var conditions language
	for i := range p.rules {
		if problems = p.add(i, &conditions, problems); len(problems) == maxProblems {
			break
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return p, nil
}

// Select returns the names of the methods that one of the patterns matches,
// draft or not, sorted. The problems are those of a rule with these patterns.
func Select(patterns []string, methods []Method) ([]string, []Problem) {
	p, problems := Compile([]Rule{{Methods: patterns, IncludeDraft: true}}, methods)
	if len(problems) > 0 {
		return nil, problems
	}
	var names []string
	for i, v := range p.teams[""] {
		if v > 0 {
			names = append(names, p.methods[i].Name)
		}
	}
	return names, nil
}

// add puts the verdicts of a rule after those of the rules before it, and
// appends the rule's problems, until there are maxProblems.
func (p *Policy) add(i int, conditions *language, problems []Problem) []Problem {
	rule := &p.rules[i]
	switch {
	case rule.Class != Both && rule.Class != Read && rule.Class != Write:
		return append(problems, Problem{Rule: i, Method: -1, Key: "class", Message: "a class is read or write"})
	case rule.Shadow && rule.Condition == "" && !rule.RequireReason:
		problems = append(problems, Problem{Rule: i, Method: -1, Key: "shadow", Message: "there is nothing to try out: write a condition or require_reason: true"})
	}
	verdicts := p.teams[rule.Team]
	if verdicts == nil {
		verdicts = make([]verdict, len(p.methods))
		p.teams[rule.Team] = verdicts
	}
	p.of[rule.Team] = append(p.of[rule.Team], i)
	for j, text := range rule.Methods {
		pattern, ok := parsePattern(text)
		if ok {
			p.parsed[i] = append(p.parsed[i], pattern)
		}
		switch {
		case ok && p.apply(i, pattern, verdicts):
			continue
		case ok:
			problems = append(problems, Problem{Rule: i, Method: j, Message: p.idle(rule, text, pattern)})
		default:
			problems = append(problems, Problem{Rule: i, Method: j, Message: p.malformed(text)})
		}
		if len(problems) == maxProblems {
			return problems
		}
	}
	if rule.Condition != "" {
		var problem string
		if p.conditions[i], problem = conditions.compile(rule.Condition, p.admitted(i)); problem != "" {
			problems = append(problems, Problem{Rule: i, Method: -1, Key: "condition", Message: problem})
		}
	}
	return problems
}

// admitted are the methods that a rule allows if its condition holds.
func (p *Policy) admitted(i int) []Method {
	var found []int
	for _, pattern := range p.parsed[i] {
		for m := range p.matching(pattern) {
			if p.rules[i].admits(p.methods[m]) {
				found = append(found, m)
			}
		}
	}
	slices.Sort(found)
	var all []Method
	for _, m := range slices.Compact(found) {
		all = append(all, p.methods[m])
	}
	return all
}

// apply puts the verdicts of a pattern of a rule after those before it, and
// tells whether the rule allows anything by it.
func (p *Policy) apply(i int, pattern pattern, verdicts []verdict) (allows bool) {
	rule := &p.rules[i]
	for m := range p.matching(pattern) {
		switch {
		case rule.admits(p.methods[m]):
			allows = true
			verdicts[m] = p.chains.after(verdicts[m], i, rule)
		case verdicts[m] == 0:
			verdicts[m] = -verdict(i + 1)
		}
	}
	return allows
}

// matching yields the indexes of the methods that a pattern matches.
func (p *Policy) matching(pattern pattern) iter.Seq[int] {
	return func(yield func(int) bool) {
		first, _ := slices.BinarySearchFunc(p.methods, pattern.begin, func(m Method, begin string) int {
			return strings.Compare(m.Name, begin)
		})
		for i := first; i < len(p.methods) && strings.HasPrefix(p.methods[i].Name, pattern.begin); i++ {
			if pattern.matches(p.methods[i].Name) && !yield(i) {
				return
			}
		}
	}
}

// without says why the rule, although a pattern of it matches the method, does
// not allow it.
func (r *Rule) without(m Method) string {
	switch inClass := r.Class.holds(m); {
	case inClass:
		return "it is a draft method: ask its operator for include_draft: true"
	case m.Draft && !r.IncludeDraft:
		return "it is a draft method, and it has " + effects(m) + ", which class: " + string(r.Class) + " leaves out"
	}
	return "it has " + effects(m) + ", which class: " + string(r.Class) + " leaves out"
}

// effects says in words what class a method is of.
func effects(m Method) string {
	if m.ReadOnly {
		return "no side effects"
	}
	return "side effects"
}
