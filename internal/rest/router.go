package rest

import (
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
)

// A Router finds the route of a verb and a path. It is immutable and safe for
// concurrent use.
type Router struct {
	root node
}

// A node is the segments so far: the templates that end there, and those that
// go on.
type node struct {
	literals map[string]*node
	variable *node
	routes   map[string]*route.Route // by verb
}

// New returns a Router of the routes. A procedure that does not travel to C1
// has no path of C1's, and is left out. Two routes of the same verb whose
// templates differ in the names of their variables at most are an error that
// names both.
func New(routes []*route.Route) (*Router, error) {
	t := new(Router)
	for _, r := range routes {
		if r.Verb == "" {
			continue
		}
		at := &t.root
		for _, s := range r.Segments {
			at = at.grow(s)
		}
		if twin := at.routes[r.Verb]; twin != nil {
			return nil, fmt.Errorf("route C1's paths: %s and %s have the same verb and path", twin.Method(), r.Method())
		}
		if at.routes == nil {
			at.routes = make(map[string]*route.Route)
		}
		at.routes[r.Verb] = r
	}
	return t, nil
}

// grow returns the node behind a segment, which it makes if need be.
func (n *node) grow(s route.Segment) *node {
	if s.Field != nil {
		if n.variable == nil {
			n.variable = new(node)
		}
		return n.variable
	}
	if n.literals == nil {
		n.literals = make(map[string]*node)
	}
	if n.literals[s.Literal] == nil {
		n.literals[s.Literal] = new(node)
	}
	return n.literals[s.Literal]
}

// A Match is what a verb and a path lead to.
type Match struct {
	// Route is nil if no template with the verb fits the path.
	Route *route.Route
	// Values are the segments of the route's variables, raw, in the template's
	// order, for Route.Bind. They are parts of the path, not copies.
	Values []string
	// Allowed are the verbs with which a template does fit, sorted; nil where
	// Route is set, and where no template fits at all.
	Allowed []string
}

// Match finds the route of a verb and a raw path, which is RawPath's. A verb
// is matched byte for byte: no header overrides it, and HEAD is not GET.
func (t *Router) Match(verb, rawPath string) Match {
	for end := range t.root.fitting(rawPath) {
		if r := end.routes[verb]; r != nil {
			return Match{Route: r, Values: values(r, rawPath)}
		}
	}
	var allowed []string
	for end := range t.root.fitting(rawPath) {
		for verb := range end.routes {
			allowed = append(allowed, verb)
		}
	}
	slices.Sort(allowed)
	return Match{Allowed: slices.Compact(allowed)}
}

// Owns says whether a raw path begins as C1's paths do, with a literal of
// theirs, so that an answer to it is best given in this door's form even
// where nothing matches.
func (t *Router) Owns(rawPath string) bool {
	segment, _ := cut(rawPath)
	return strings.HasPrefix(rawPath, "/") && t.root.literals[segment] != nil
}

// fitting yields the ends of the templates that fit, those with a literal
// first where they part. It visits no node twice.
func (n *node) fitting(rest string) iter.Seq[*node] {
	return func(yield func(*node) bool) { n.walk(rest, yield) }
}

func (n *node) walk(rest string, yield func(*node) bool) bool {
	if rest == "" {
		return n.routes == nil || yield(n)
	}
	if rest[0] != '/' {
		return true
	}
	segment, rest := cut(rest)
	if next := n.literals[segment]; next != nil && !next.walk(rest, yield) {
		return false
	}
	return n.variable == nil || n.variable.walk(rest, yield)
}

// cut splits "/a/b/c" into "a" and "/b/c".
func cut(rest string) (segment, after string) {
	if rest == "" {
		return "", ""
	}
	if end := strings.IndexByte(rest[1:], '/'); end >= 0 {
		return rest[1 : 1+end], rest[1+end:]
	}
	return rest[1:], ""
}

// values are the segments of the variables of a route that fits the path.
func values(r *route.Route, rest string) []string {
	count := 0
	for _, s := range r.Segments {
		if s.Field != nil {
			count++
		}
	}
	if count == 0 {
		return nil
	}
	values := make([]string, 0, count)
	for _, s := range r.Segments {
		var segment string
		if segment, rest = cut(rest); s.Field != nil {
			values = append(values, segment)
		}
	}
	return values
}

// Refuse answers a request that leads to no route: 404, or 405 with Allow (RFC
// 9110, section 15.5.6). The error is that of writing it.
func (m Match) Refuse(w http.ResponseWriter, r *http.Request) error {
	if len(m.Allowed) == 0 {
		return ErrorWriter{}.Write(w, r, fault.New(connect.CodeNotFound, fault.NotServed,
			"C1 has no operation with this path: paths are matched as they are spelled, without decoding or cleaning"))
	}
	allow := strings.Join(m.Allowed, ", ")
	w.Header().Set("Allow", allow)
	f := fault.New(connect.CodeUnimplemented, fault.NotServed, "C1 has no operation with this verb and path: it has %s", allow)
	f.Status = http.StatusMethodNotAllowed
	return ErrorWriter{}.Write(w, r, f)
}

// RawPath returns the path of a request's target (RFC 9112, section 3.2), byte
// for byte as the caller sent it, without the query. r is a server's request:
// it goes by r.RequestURI, and so does not see what a handler did to r.URL.
//
//   - Of the origin-form, "/path?query", it is what stands before the first
//     question mark.
//   - Of the absolute-form, "scheme://authority/path?query", it is the same
//     behind the authority, which is ignored: section 3.2.2 wants this form
//     accepted, and where a call goes is the configuration's alone. Without a
//     path it is "/".
//   - Of the asterisk-form ("*"), the authority-form of CONNECT, and anything
//     else, an empty one included, it is "", which fits no template.
func RawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if strings.HasPrefix(path, "/") {
		return path
	}
	scheme, after, ok := strings.Cut(path, "://")
	if !ok || scheme == "" || strings.ContainsAny(scheme, "/:") {
		return ""
	}
	if slash := strings.IndexByte(after, '/'); slash >= 0 {
		return after[slash:]
	}
	return "/"
}
