package policy

import (
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"

	"github.com/c1proxy/c1proxy/internal/principal"
)

// A Call is what is decided on.
type Call struct {
	// Who calls. Required.
	Who *principal.Principal
	// Method is "package.Service/Method".
	Method string
	// Reason is what the caller states.
	Reason string
	// Message is the request; nil as long as it is not decoded. What it says stays
	// as it is, but parts of it may be replaced by others that say the same.
	Message proto.Message
	// Unseen names what goes to C1 beside Message and is not in it, such as a
	// field that the mirror does not have; "" for nothing. No condition that reads
	// the request allows such a call: what it was shown would not be all that C1
	// is told.
	Unseen string
}

// A Decision allows a call, or lets its request be decoded.
type Decision struct {
	// Rule is the name of the rule that allows the call; "" if Pending.
	Rule string
	// Pending says that it depends on the request, which Call did not have.
	Pending bool
	// Read says that the call is allowed because of what the request says: what is
	// sent must say just that.
	Read bool
	// Shadow says why the call would be refused if no rule were in shadow; "" if
	// it would not be.
	Shadow string
}

// Allow returns by which rule the caller's team may make the call: the first
// that allows it, in their order. Without a request it says what can be said
// without one: a call passes if it may still be allowed. The error is a
// *fault.Fault with connect.CodePermissionDenied. It allocates nothing where no
// condition is asked and nothing is denied.
func (p *Policy) Allow(call Call) (Decision, error) {
	if v := p.verdict(&call); v > 0 && v < chained {
		return Decision{Rule: p.rules[v-1].Name}, nil
	}
	return p.look(call)
}

// look is Allow where the answer is not known before. It has a copy of the call
// of its own, so that Allow's need not be on the heap.
func (p *Policy) look(call Call) (Decision, error) {
	d, steps := p.ask(&call, p.verdict(&call))
	if d == (Decision{}) {
		return d, refusal(&call, p.steps(&call, steps))
	}
	return d, nil
}

// ask is Allow where the rules have to be asked. The zero Decision denies. steps
// are what the rules said that do not allow the call, by their indexes.
func (p *Policy) ask(call *Call, v verdict) (d Decision, steps map[int]Step) {
	if v < chained {
		return d, nil
	}
	if call.Message != nil {
		settle(call.Message.ProtoReflect())
	}
	for _, at := range p.chains.all[v-chained].rules {
		i := int(at)
		rule, s := &p.rules[i], p.judge(i, call)
		switch {
		case s.Outcome == Pending:
			return Decision{Pending: true}, steps
		case s.Outcome == Allows:
			return Decision{Rule: rule.Name, Read: p.conditions[i].read() && !rule.Shadow}, steps
		case rule.Shadow && d == Decision{}:
			// It lets the call through after all, if no other rule allows it.
			d = Decision{Rule: rule.Name, Shadow: rule.Name + ": " + s.Why}
		}
		if steps == nil {
			steps = make(map[int]Step)
		}
		steps[i] = s
	}
	return d, steps
}

// verdict is what the caller's team's rules say of the method.
func (p *Policy) verdict(call *Call) verdict {
	if i, exists := p.index[call.Method]; exists {
		if verdicts := p.teams[call.Who.Team]; verdicts != nil {
			return verdicts[i]
		}
	}
	return 0
}

// judge asks one rule, which matches the method and does not leave it out. What
// can be told without the request comes first.
func (p *Policy) judge(i int, call *Call) Step {
	rule, c := &p.rules[i], p.conditions[i]
	if c != nil && !c.reads {
		if s := c.judge(call); s.Outcome != Allows {
			return s
		}
	}
	switch {
	case rule.RequireReason && !states(call.Reason):
		return Step{Outcome: NeedsReason, Why: "requires a reason: say why in the header C1proxy-Reason, percent-encoded"}
	case c == nil || !c.reads:
		return Step{Outcome: Allows, Why: "allows it"}
	case call.Message == nil:
		return Step{Outcome: Pending, Why: "depends on the request"}
	case call.Unseen != "":
		return Step{Outcome: ConditionFailed, Why: "its condition reads the request, of which c1proxy does not know " + call.Unseen}
	}
	return c.judge(call)
}

// judge asks the condition.
func (c *condition) judge(call *Call) Step {
	holds, err := c.holds(call)
	switch {
	case holds:
		return Step{Outcome: Allows, Why: "allows it"}
	case err == nil:
		return Step{Outcome: ConditionFalse, Why: "its condition is false"}
	case tooCostly(err):
		return Step{Outcome: ConditionFailed, Why: "its condition takes too long on a request of this size", Cause: err}
	}
	return Step{Outcome: ConditionFailed, Why: "its condition fails, as on something that is not there", Cause: err}
}

// read tells whether the condition reads the request. Nil does not.
func (c *condition) read() bool { return c != nil && c.reads }

// states tells whether a reason says anything at all: it has a letter or a
// digit.
func states(reason string) bool {
	return strings.ContainsFunc(reason, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
}
