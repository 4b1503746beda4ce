package sandbox

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// A route is one way to call one method.
type route struct {
	method    protoreflect.MethodDescriptor
	procedure string
	verb      string
	fields    []protoreflect.FieldDescriptor // of the path, in order
	body      bool                           // the message is the body; else it is the query
	reads     bool                           // a call has no side effects
}

// A router finds routes by the segments of a raw path. It never changes.
type router struct {
	verbs map[string]*node
	names []string // of the procedures, sorted
}

// A node is what has been matched so far: the routes that go on from there.
type node struct {
	literals map[string]*node
	variable *node
	route    *route
}

// A match is what a path leads to.
type match struct {
	route   *route   // nil if nothing serves the path with this verb
	values  []string // of the route's fields, decoded
	allowed []string // the verbs that the path has, where route is nil
}

// newRouter reads google.api.http of every method below "c1.".
func newRouter(files *protoregistry.Files) (*router, error) {
	r := &router{verbs: make(map[string]*node)}
	var failed error
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(file.Package()), "c1.") {
			failed = r.addFile(file)
		}
		return failed == nil
	})
	slices.Sort(r.names)
	return r, failed
}

// addFile adds every method of every service in a file. The first error ends it.
func (r *router) addFile(file protoreflect.FileDescriptor) error {
	for i := range file.Services().Len() {
		methods := file.Services().Get(i).Methods()
		for j := range methods.Len() {
			if err := r.addMethod(methods.Get(j)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addMethod adds the bindings of a method, the additional ones too. A method
// without google.api.http has none: it is not an operation of C1's.
func (r *router) addMethod(method protoreflect.MethodDescriptor) error {
	rule, ok := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return nil
	}
	procedure := string(method.Parent().FullName()) + "/" + string(method.Name())
	r.names = append(r.names, procedure)
	for _, rule := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		if err := r.add(method, procedure, rule); err != nil {
			return fmt.Errorf("route %s: %w", procedure, err)
		}
	}
	return nil
}

// add adds one binding. What C1's document has no example of is refused rather
// than half understood: a body of one field, wildcards, nested fields, a custom
// verb behind a variable.
func (r *router) add(method protoreflect.MethodDescriptor, procedure string, rule *annotations.HttpRule) error {
	if rule.GetBody() != "" && rule.GetBody() != "*" {
		return fmt.Errorf(`read body rule %q: only "" and "*" are known`, rule.GetBody())
	}
	verb, template := pattern(rule)
	if !strings.HasPrefix(template, "/") {
		return fmt.Errorf("read template %q: it is no path", template)
	}
	options, _ := method.Options().(*descriptorpb.MethodOptions)
	found := &route{method: method, procedure: procedure, verb: verb, body: rule.GetBody() == "*",
		reads: verb == http.MethodGet || options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS}
	at := r.verbs[verb]
	if at == nil {
		at = &node{}
		r.verbs[verb] = at
	}
	for _, segment := range strings.Split(template[1:], "/") {
		field, err := found.variable(segment)
		if err != nil {
			return fmt.Errorf("read template %q: %w", template, err)
		}
		at = at.grow(segment, field)
	}
	if at.route != nil {
		return fmt.Errorf("add %s %s: %s is already there", verb, template, at.route.procedure)
	}
	at.route = found
	return nil
}

// variable takes the segment {name} of a template to be a field, which must
// be a singular scalar of the request. It reports false for a literal.
func (r *route) variable(segment string) (bool, error) {
	name, opened := strings.CutPrefix(segment, "{")
	name, closed := strings.CutSuffix(name, "}")
	if !opened && !closed {
		if segment == "" || strings.ContainsAny(segment, "{}*") {
			return false, fmt.Errorf("segment %q is not known", segment)
		}
		return false, nil
	}
	field := r.method.Input().Fields().ByName(protoreflect.Name(name))
	if field == nil || field.IsList() || field.IsMap() || field.Message() != nil {
		return false, fmt.Errorf("segment %q is not a scalar of %s", segment, r.method.Input().FullName())
	}
	r.fields = append(r.fields, field)
	return true, nil
}

// grow returns the node behind segment, which it makes if need be.
func (n *node) grow(segment string, variable bool) *node {
	if variable {
		if n.variable == nil {
			n.variable = &node{}
		}
		return n.variable
	}
	if n.literals == nil {
		n.literals = make(map[string]*node)
	}
	if n.literals[segment] == nil {
		n.literals[segment] = &node{}
	}
	return n.literals[segment]
}

// pattern is the verb and the template of a rule.
func pattern(rule *annotations.HttpRule) (verb, template string) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch
	}
	return rule.GetCustom().GetKind(), rule.GetCustom().GetPath()
}

// match finds what serves a raw path. Literals must stand there byte for byte
// and win over variables; a variable takes exactly one segment, decoded once,
// and never an empty one nor a dot segment.
func (r *router) match(verb, path string) match {
	if !strings.HasPrefix(path, "/") {
		return match{}
	}
	segments := strings.Split(path[1:], "/")
	if at, ok := r.verbs[verb]; ok {
		if found, values := at.find(segments, nil); found != nil {
			return match{route: found, values: values}
		}
	}
	var allowed []string
	for other, at := range r.verbs {
		if found, _ := at.find(segments, nil); found != nil {
			allowed = append(allowed, other)
		}
	}
	slices.Sort(allowed)
	return match{allowed: allowed}
}

// find walks on from n. A literal that leads nowhere gives way to the
// variable beside it; no node is visited twice. The route is nil if nothing
// matches.
func (n *node) find(segments, values []string) (*route, []string) {
	if len(segments) == 0 {
		return n.route, values
	}
	if next, ok := n.literals[segments[0]]; ok {
		if found, all := next.find(segments[1:], values); found != nil {
			return found, all
		}
	}
	if n.variable == nil {
		return nil, nil
	}
	value, err := url.PathUnescape(segments[0])
	if err != nil || value == "" || value == "." || value == ".." {
		return nil, nil
	}
	return n.variable.find(segments[1:], append(values, value))
}

// refuse answers a path that has no route: 404, or 405 with Allow (RFC 9110,
// section 15.5.6) where other verbs have one.
func (m match) refuse(verb, path string) answer {
	if len(m.allowed) == 0 {
		return refuse(refused(code.Code_NOT_FOUND, "nothing is at %s", path))
	}
	a := refuse(&refusal{code: code.Code_UNIMPLEMENTED, status: http.StatusMethodNotAllowed,
		message: fmt.Sprintf("%s is not served at %s", verb, path)})
	a.header.Set("Allow", strings.Join(m.allowed, ", "))
	return a
}

// procedures is a sorted copy of the names.
func (r *router) procedures() []string { return slices.Clone(r.names) }
