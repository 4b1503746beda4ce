// Package route says how a procedure travels: the HTTP method, the path
// template and the body rule of C1's API, whether it has side effects, and
// how stable it is. All of it is read from the descriptors' options at
// start (google.api.http, idempotency_level, google.api.method_visibility) and
// checked there, so that nothing is written per procedure and nothing about a
// route can be wrong at the time of a call.
package route

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/api/visibility"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// A Route is one procedure. It is immutable and safe for concurrent use.
type Route struct {
	// Procedure is the RPC path, "/package.Service/Method".
	Procedure string
	// Descriptor is the method's own.
	Descriptor protoreflect.MethodDescriptor
	// Input and Output make the request and response messages.
	Input, Output protoreflect.MessageType
	// Verb is the HTTP method, in capitals; "" for a procedure that does not
	// travel to C1.
	Verb string
	// Template is the path template as the descriptor has it, and Segments the
	// same, one entry a segment.
	Template string
	Segments []Segment
	// HasBody says that the fields which the path does not bind travel as a
	// JSON body; otherwise they travel in the query.
	HasBody bool
	// ReadOnly says that the method has no side effects. Everything that may be
	// repeated, cached or sent by GET depends on it.
	ReadOnly bool
	// Stability says whether C1 may still change or remove the method.
	Stability Stability
	// rivals share some paths with this route.
	rivals []*Route
}

// A Stability is a level at which C1 publishes a method; Stable where it names
// none.
type Stability string

// The levels, from the least stable.
const (
	Draft  Stability = "draft"
	Alpha  Stability = "alpha"
	Beta   Stability = "beta"
	Stable Stability = "stable"
)

// A Segment of a path template is either a literal or one field's value.
type Segment struct {
	// Literal is the segment's text; "" where Field is set.
	Literal string
	// Field is the request's field whose value stands here; nil for a literal.
	Field protoreflect.FieldDescriptor
}

// Method is the procedure without its leading slash, as policies name it.
func (r *Route) Method() string { return r.Procedure[1:] }

// Binds says whether the path template holds the field.
func (r *Route) Binds(field protoreflect.FieldDescriptor) bool {
	return slices.ContainsFunc(r.Segments, func(s Segment) bool { return s.Field == field })
}

// MessageTypes finds the types of messages by their names.
type MessageTypes interface {
	FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error)
}

// Load returns the routes of every method of every registered service whose
// package lies under prefix (such as "c1."), sorted by procedure. A method
// without a google.api.http rule, or with an option that says what this package
// does not understand, is an error that names it, as are two with the same verb
// and path.
func Load(files *protoregistry.Files, types MessageTypes, prefix string) ([]*Route, error) {
	var routes []*Route
	var failed error
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package())+".", prefix) {
			return true
		}
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				r, err := newRoute(types, methods.Get(j))
				if err != nil {
					failed = err
					return false
				}
				routes = append(routes, r)
			}
		}
		return true
	})
	slices.SortFunc(routes, func(a, b *Route) int { return strings.Compare(a.Procedure, b.Procedure) })
	if failed == nil {
		failed = findRivals(routes)
	}
	return routes, failed
}

// Local returns the route of a procedure that c1proxy answers itself.
func Local(types MessageTypes, method protoreflect.MethodDescriptor) (*Route, error) {
	r := &Route{
		Procedure:  "/" + string(method.Parent().FullName()) + "/" + string(method.Name()),
		Descriptor: method,
	}
	options, _ := method.Options().(*descriptorpb.MethodOptions)
	r.ReadOnly = options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
	if method.IsStreamingClient() {
		return nil, fmt.Errorf("load route %s: streams of requests are not supported", r.Method())
	}
	var err error
	if r.Stability, err = stability(method); err != nil {
		return nil, fmt.Errorf("load route %s: %w", r.Method(), err)
	}
	if r.Input, err = types.FindMessageByName(method.Input().FullName()); err != nil {
		return nil, fmt.Errorf("load route %s: find %s: %w", r.Method(), method.Input().FullName(), err)
	}
	if r.Output, err = types.FindMessageByName(method.Output().FullName()); err != nil {
		return nil, fmt.Errorf("load route %s: find %s: %w", r.Method(), method.Output().FullName(), err)
	}
	return r, nil
}

// stabilities are the labels of google.api.visibility that are known.
var stabilities = []Stability{Draft, Alpha, Beta}

// stability reads the label of a method's visibility. One that it does not know
// may say that nobody is to call the method, so it is an error.
func stability(method protoreflect.MethodDescriptor) (Stability, error) {
	if proto.HasExtension(method.Parent().Options(), visibility.E_ApiVisibility) {
		return "", fmt.Errorf("its service has google.api.api_visibility: only methods may have a visibility")
	}
	if !proto.HasExtension(method.Options(), visibility.E_MethodVisibility) {
		return Stable, nil
	}
	rule, _ := proto.GetExtension(method.Options(), visibility.E_MethodVisibility).(*visibility.VisibilityRule)
	label := Stability(strings.ToLower(rule.GetRestriction()))
	if !slices.Contains(stabilities, label) || string(label) == rule.GetRestriction() {
		return "", fmt.Errorf("visibility label %q is not known: only DRAFT, ALPHA and BETA are", rule.GetRestriction())
	}
	return label, nil
}

func newRoute(types MessageTypes, method protoreflect.MethodDescriptor) (*Route, error) {
	r, err := Local(types, method)
	if err != nil {
		return nil, err
	}
	rule, ok := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return nil, fmt.Errorf("load route %s: it has no google.api.http rule", r.Method())
	}
	if len(rule.GetAdditionalBindings()) > 0 || rule.GetResponseBody() != "" {
		return nil, fmt.Errorf("load route %s: additional_bindings and response_body are not supported", r.Method())
	}
	if r.Verb, r.Template, err = pattern(rule); err != nil {
		return nil, fmt.Errorf("load route %s: %w", r.Method(), err)
	}
	if r.Segments, err = parseTemplate(r.Template, method.Input()); err != nil {
		return nil, fmt.Errorf("load route %s: %w", r.Method(), err)
	}
	return r, r.checkBody(rule.GetBody())
}

func pattern(rule *annotations.HttpRule) (verb, template string, err error) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get, nil
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put, nil
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post, nil
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete, nil
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch, nil
	}
	return "", "", fmt.Errorf("its google.api.http rule has no get, put, post, delete or patch")
}

func (r *Route) checkBody(body string) error {
	switch {
	case body != "" && body != "*":
		return fmt.Errorf("load route %s: body %q: only \"*\" is supported", r.Method(), body)
	case (body == "") != (r.Verb == http.MethodGet):
		return fmt.Errorf("load route %s: a GET has no body, and every other method has body \"*\"", r.Method())
	case r.Verb == http.MethodGet && !r.ReadOnly:
		return fmt.Errorf("load route %s: a GET must say idempotency_level = NO_SIDE_EFFECTS", r.Method())
	}
	r.HasBody = body == "*"
	return nil
}

// parseTemplate reads "/a/{field}/b": segments that are a literal or one
// whole singular field of string or integer kind.
func parseTemplate(template string, input protoreflect.MessageDescriptor) ([]Segment, error) {
	rest, ok := strings.CutPrefix(template, "/")
	if !ok {
		return nil, fmt.Errorf("path template %q does not begin with a slash", template)
	}
	var segments []Segment
	seen := make(map[protoreflect.FieldDescriptor]bool)
	for text := range strings.SplitSeq(rest, "/") {
		name, variable := strings.CutPrefix(text, "{")
		if !variable {
			if text == "" || strings.ContainsAny(text, "{}*%?#") || text == "." || text == ".." {
				return nil, fmt.Errorf("path template %q: segment %q is no literal", template, text)
			}
			segments = append(segments, Segment{Literal: text})
			continue
		}
		name, closed := strings.CutSuffix(name, "}")
		field := input.Fields().ByName(protoreflect.Name(name))
		if !closed || field == nil || seen[field] || !bindable(field) {
			return nil, fmt.Errorf("path template %q: %q is no singular string or integer field of %s, standing once", template, text, input.FullName())
		}
		seen[field] = true
		segments = append(segments, Segment{Field: field})
	}
	return segments, nil
}

func bindable(field protoreflect.FieldDescriptor) bool {
	if field.Cardinality() == protoreflect.Repeated || field.HasOptionalKeyword() {
		return false
	}
	switch field.Kind() {
	case protoreflect.StringKind, protoreflect.Int32Kind, protoreflect.Int64Kind,
		protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return true
	}
	return false
}
