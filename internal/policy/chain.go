package policy

// Chains are lists of rules that match a method, in their order: those whose
// answer depends on the call, and at the end, if there is one, the first whose
// answer does not. Teams and methods with the same list share it.
type chains struct {
	all   []chain
	known map[link]verdict
}

type chain struct {
	rules []int32
	// closed says that the last rule allows whatever the call is.
	closed bool
}

// A link is a chain, or none, and the rule that follows.
type link struct {
	before verdict
	rule   int
}

// after is the verdict when the rule i, which allows the method, comes after
// those of a verdict.
func (c *chains) after(before verdict, i int, rule *Rule) verdict {
	plain := rule.Condition == "" && !rule.RequireReason
	if before < chained {
		switch {
		case before > 0:
			return before // a rule that comes first allows all of it
		case plain:
			return verdict(i + 1)
		}
		before = 0
	}
	var rules []int32
	if before != 0 {
		last := c.all[before-chained]
		if last.closed || last.rules[len(last.rules)-1] == int32(i) { // by another of its patterns
			return before
		}
		rules = last.rules
	}
	at := link{before, i}
	if known := c.known[at]; known != 0 {
		return known
	}
	c.all = append(c.all, chain{rules: append(rules[:len(rules):len(rules)], int32(i)), closed: plain})
	c.known[at] = chained + verdict(len(c.all)-1)
	return c.known[at]
}
