package c1proxy_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/visibility"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The rules of the matrix's teams are made of a seed; what a team may call is
// worked out here, from the descriptors and in the words of the documentation,
// and by none of the gateway's code.

// A grant is an allow rule.
type grant struct {
	pattern, class string
	drafts         bool
	words          *regexp.Regexp // the methods that pattern names
	condition      string         // "" for none
	// holds says whether the condition is true of a call; reads that it is about
	// the request.
	holds          func(operation) bool
	reads          bool
	reason, shadow bool
}

func (g grant) String() string {
	text := fmt.Sprintf("{methods: [%q], include_draft: %v", g.pattern, g.drafts)
	if g.class != "" {
		text += ", class: " + g.class
	}
	if g.condition != "" {
		text += ", condition: '" + g.condition + "'"
	}
	return text + fmt.Sprintf(", require_reason: %v, shadow: %v}", g.reason, g.shadow)
}

// names says whether a rule is for an operation.
func (g grant) names(o operation) bool {
	return g.words.MatchString(o.procedure()) && (g.class == "" || (g.class == "read") == o.reads) && (g.drafts || !isDraft(o.method))
}

func isDraft(method protoreflect.MethodDescriptor) bool {
	rule, _ := proto.GetExtension(method.Options(), visibility.E_MethodVisibility).(*visibility.VisibilityRule)
	return strings.EqualFold(rule.GetRestriction(), "draft")
}

// grantsOf are a few rules of a team, each of which is for something.
func grantsOf(random *rand.Rand, team string, all []operation) (grants []grant) {
	for want := 1 + random.IntN(4); len(grants) < want; {
		o := all[random.IntN(len(all))]
		service := string(o.method.Parent().FullName())
		g := grant{pattern: []string{o.procedure(), service + "/*", string(o.method.Parent().Parent().FullName()) + ".*/*", "c1.**/*"}[random.IntN(4)],
			class: []string{"", "read", "write"}[random.IntN(3)], drafts: random.IntN(2) == 0}
		words := strings.NewReplacer(".**/*", `(\.\w+)+/\w+`, ".*/*", `\.\w+/\w+`, "/*", `/\w+`, ".", `\.`).Replace(g.pattern)
		g.words = regexp.MustCompile("^" + words + "$")
		var named []operation
		for _, o := range all {
			if g.names(o) {
				named = append(named, o)
			}
		}
		if len(named) == 0 {
			continue
		}
		if random.IntN(3) > 0 {
			g.ask(random, team, named)
			g.reason = random.IntN(3) == 0
			g.shadow = (g.reason || g.condition != "") && random.IntN(3) == 0
		}
		grants = append(grants, g)
	}
	return grants
}

// ask gives a rule for some operations a condition that all proofs of a caller
// meet, or none does: on a field that all their requests have, if there is one,
// or on who calls.
func (g *grant) ask(random *rand.Rand, team string, named []operation) {
	truth := func(is bool) func(operation) bool { return func(operation) bool { return is } }
	other := fmt.Sprint("team-", random.IntN(matrixTeams))
	switch random.IntN(6) {
	case 0:
		g.condition, g.holds = fmt.Sprintf(`caller.name == "caller" && caller.team in [%q, "x"]`, other), truth(other == team)
	case 1:
		g.condition, g.holds = `claims.level > 3`, truth(false) // which no proof has: it fails
	case 2:
		g.condition, g.holds = `!has(claims.level)`, truth(true)
	default:
		fields := common(named)
		if len(fields) == 0 {
			return
		}
		field := fields[random.IntN(len(fields))]
		value := func(o operation) string {
			return o.request.Get(o.method.Input().Fields().ByName(field)).String()
		}
		want := []string{value(named[0]), "other"}[random.IntN(2)]
		g.reads = true
		if random.IntN(2) == 0 {
			g.condition, g.holds = fmt.Sprintf(`request.%s in ["a", %q]`, field, want), func(o operation) bool { return value(o) == want }
		} else {
			g.condition, g.holds = fmt.Sprintf(`request.%s != %q`, field, want), func(o operation) bool { return value(o) != want }
		}
	}
}

// common are the fields that hold an id in the requests of all operations.
func common(named []operation) (fields []protoreflect.Name) {
	isID := func(o operation, name protoreflect.Name) bool {
		field := o.method.Input().Fields().ByName(name)
		return field != nil && field.Kind() == protoreflect.StringKind && !field.IsList() && (name == "id" || strings.HasSuffix(string(name), "_id"))
	}
	first := named[0].method.Input().Fields()
	for i := range first.Len() {
		name := first.Get(i).Name()
		if !slices.ContainsFunc(named, func(o operation) bool { return !isID(o, name) }) {
			fields = append(fields, name)
		}
	}
	return fields
}

// A ruling is what a team's rules say of a call.
type ruling struct {
	// rule is the name of the one that lets it pass; "" with denied, which is why
	// none does.
	rule, denied string
	// shadow says that the rule would refuse it, and is in shadow. asked says that
	// the rule has a condition, or wants a reason.
	shadow, asked bool
}

// kind is a ruling but for the names in it.
func (r ruling) kind() string {
	return fmt.Sprintf("%s shadow=%v asked=%v", r.denied, r.shadow, r.asked)
}

// kinds is how many kinds of rulings there are: two allow, one lets pass in
// shadow, and three deny.
const kinds = 6

// ruling asks the rules in their order about a call that states a reason, or none.
func (m *matrixTeam) ruling(o operation, stated bool) ruling {
	denied, shadowed := "METHOD_DENIED", ""
	for i, g := range m.grants {
		if !g.names(o) {
			continue
		}
		name := fmt.Sprintf("%s/allow/%d", m.name, i)
		holds, wanting := g.condition == "" || g.holds(o), g.reason && !stated
		switch {
		case holds && !wanting:
			return ruling{rule: name, asked: g.condition != "" || g.reason}
		case g.shadow && shadowed == "":
			shadowed = name
		case wanting && (holds || g.reads): // a reason is wanted before the request is looked at
			denied = "REASON_REQUIRED"
		case denied == "METHOD_DENIED":
			denied = "CONDITION_DENIED"
		}
	}
	if shadowed != "" {
		return ruling{rule: shadowed, shadow: true, asked: true}
	}
	return ruling{denied: denied}
}
