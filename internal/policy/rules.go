package policy

import "iter"

// Rules yields the rules of a team, in the order in which they are asked. What
// they hold is not to be changed.
func (p *Policy) Rules(team string) iter.Seq[*Rule] {
	return func(yield func(*Rule) bool) {
		for i := range p.rules {
			if p.rules[i].Team == team && !yield(&p.rules[i]) {
				return
			}
		}
	}
}
