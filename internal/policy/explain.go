package policy

import (
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// An Outcome is what one rule says of a call.
type Outcome string

// The outcomes. Only those from NeedsReason on depend on more than the method.
const (
	// NoMatch is of a rule that does not name the method.
	NoMatch Outcome = "no_match"
	// LeftOut is of a rule whose class, or want of include_draft, leaves it out.
	LeftOut Outcome = "left_out"
	// NeedsReason is of a rule that would have the caller state a reason.
	NeedsReason Outcome = "needs_reason"
	// ConditionFalse is of a rule whose condition is false.
	ConditionFalse Outcome = "condition_false"
	// ConditionFailed is of a rule whose condition could not be told.
	ConditionFailed Outcome = "condition_failed"
	// Pending is of a rule whose condition reads a request that is not there yet.
	Pending Outcome = "pending"
	// Allows is of a rule that allows the call.
	Allows Outcome = "allows"
)

// A Step is what one rule says of a call.
type Step struct {
	Rule    string
	Outcome Outcome
	// Why is the outcome in words, which hold nothing of the call but the name of
	// an unknown field.
	Why string
	// Shadow says that the rule is in shadow.
	Shadow bool
	// Decides says that this rule decided.
	Decides bool
	// Cause is how the condition failed; nil if it did not. It may quote the call,
	// so it is for whoever made up the call alone.
	Cause error
}

// An Explanation is a decision, and what each of the team's rules says, in their
// order.
type Explanation struct {
	Decision
	// Refusal is why not; nil if the call is allowed.
	Refusal *fault.Fault
	Steps   []Step
}

// Explain decides as Allow does, and says what each rule contributed.
func (p *Policy) Explain(call Call) Explanation {
	var e Explanation
	var known map[int]Step
	if v := p.verdict(&call); v > 0 && v < chained {
		e.Rule = p.rules[v-1].Name
	} else {
		e.Decision, known = p.ask(&call, v)
	}
	e.Steps = p.steps(&call, known)
	if e.Decision == (Decision{}) {
		e.Refusal = refusal(&call, e.Steps)
	}
	for i := range e.Steps {
		e.Steps[i].Decides = e.Rule != "" && e.Steps[i].Rule == e.Rule
	}
	return e
}

// steps asks all the rules of the caller's team, also those after the one that
// decides, but for those of which it is known what they say.
func (p *Policy) steps(call *Call, known map[int]Step) []Step {
	at, exists := p.index[call.Method]
	var steps []Step
	for _, i := range p.of[call.Who.Team] {
		rule := &p.rules[i]
		s, told := known[i]
		switch {
		case told:
		case !exists || !p.names(i, call.Method):
			s = Step{Outcome: NoMatch, Why: "does not name the method"}
		case !rule.admits(p.methods[at]):
			s = Step{Outcome: LeftOut, Why: rule.without(p.methods[at])}
		default:
			s = p.judge(i, call)
		}
		s.Rule, s.Shadow = rule.Name, rule.Shadow
		steps = append(steps, s)
	}
	return steps
}

// names tells whether one of a rule's patterns matches a method.
func (p *Policy) names(i int, method string) bool {
	return slices.ContainsFunc(p.parsed[i], func(pattern pattern) bool {
		return strings.HasPrefix(method, pattern.begin) && pattern.matches(method)
	})
}

const (
	// maxNamed is how many rules a refusal names.
	maxNamed = 5
	// maxWhy bounds, in bytes, what it says of them.
	maxWhy = 1024
)

// refusal is the fault of a call that no rule allows: what came nearest, and what
// would change it.
func refusal(call *Call, steps []Step) *fault.Fault {
	asked := slices.DeleteFunc(slices.Clone(steps), func(s Step) bool { return s.Outcome == NoMatch || s.Outcome == LeftOut })
	if len(asked) == 0 {
		return unnamed(call, slices.DeleteFunc(slices.Clone(steps), func(s Step) bool { return s.Outcome != LeftOut }))
	}
	reason, help := fault.ConditionDenied, "change the call, or ask its operator to change the rule"
	if slices.ContainsFunc(asked, func(s Step) bool { return s.Outcome == NeedsReason }) {
		reason, help = fault.ReasonRequired, "state a reason, or ask its operator to change the rule"
	}
	why := list(asked)
	return fault.New(connect.CodePermissionDenied, reason,
		"team %s has no rule that allows this call of %s: %s; %s", call.Who.Team, call.Method, why, help).
		With("team", call.Who.Team).With("method", call.Method).With("rules", why)
}

// unnamed is the refusal of a method that no rule allows, whatever the call is.
func unnamed(call *Call, near []Step) *fault.Fault {
	help := "ask its operator for an allow rule"
	if len(near) > 0 {
		help = near[0].Rule + " matches it, but " + near[0].Why
	}
	f := fault.New(connect.CodePermissionDenied, fault.MethodDenied,
		"team %s has no rule that allows %s: %s", call.Who.Team, call.Method, help).
		With("team", call.Who.Team).With("method", call.Method)
	if len(near) > 0 {
		f.With("rules", list(near))
	}
	return f
}

// list says of each rule why it does not allow a call.
func list(steps []Step) string {
	var parts []string
	size := 0
	for i, s := range steps {
		part := s.Rule + ": " + s.Why
		if size += len(part); i == maxNamed || size > maxWhy {
			parts = append(parts, "...")
			break
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}
