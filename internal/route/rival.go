package route

import "fmt"

// findRivals tells each route its rivals. Two routes of the same verb whose
// templates fit the same paths are an error that names both.
//
// A rival of a route is another one of the same verb whose template some path
// fits as well. C1's document has dozens: POST /findings/{finding_id}/state is
// one finding's, and POST /findings/bulk/state is the state of many. With the
// finding_id "bulk" the path of the first operation is that of the second, and
// who may call the one would call the other. How C1 chooses between the two is
// not published, so that of both a value that leads to such a path is refused.
// An operation whose own template says it in literals is not in question.
func findRivals(routes []*Route) error {
	type group struct {
		verb     string
		segments int
	}
	seen := make(map[group][]*Route)
	for _, r := range routes {
		g := group{r.Verb, len(r.Segments)}
		for _, other := range seen[g] {
			overlap, same := r.compare(other)
			if same {
				return fmt.Errorf("load route %s: %s has the same verb and path", r.Method(), other.Method())
			}
			if overlap {
				r.rivals, other.rivals = append(r.rivals, other), append(other.rivals, r)
			}
		}
		seen[g] = append(seen[g], r)
	}
	return nil
}

// compare says whether some path fits both templates, which have as many
// segments, and whether every path that fits one fits the other.
func (r *Route) compare(other *Route) (overlap, same bool) {
	same = true
	for i, s := range r.Segments {
		o := other.Segments[i]
		if s.Field == nil && o.Field == nil && s.Literal != o.Literal {
			return false, false
		}
		same = same && (s.Field == nil) == (o.Field == nil)
	}
	return true, same
}

// contest refuses values with which the path would be a rival's too.
func (r *Route) contest(values []Value) error {
	for _, rival := range r.rivals {
		if v := r.fits(rival, values); v != nil {
			return v.refuse("with it the path is that of " + rival.Method())
		}
	}
	return nil
}

// fits returns the first value that is a literal of the rival, if with all of
// them the path fits the rival's template; else nil.
func (r *Route) fits(rival *Route, values []Value) (first *Value) {
	bound := 0
	for i, s := range r.Segments {
		literal := rival.Segments[i].Literal
		if s.Field == nil {
			continue // equal to the rival's, or the rival has a variable here
		}
		v := &values[bound]
		bound++
		if rival.Segments[i].Field != nil {
			continue
		}
		if v.Text != literal {
			return nil
		}
		if first == nil {
			first = v
		}
	}
	return first
}
