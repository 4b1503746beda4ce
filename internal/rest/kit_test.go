package rest_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	_ "github.com/c1proxy/c1proxy/gen/c1/api/app/v1" // the mirror, as far as it goes
	"github.com/c1proxy/c1proxy/internal/rest"
	"github.com/c1proxy/c1proxy/internal/route"
)

// shelf has every oddity of C1's paths: templates that overlap, in one verb
// and across verbs, a colon in a literal, a number, five variables.
const shelf = `
name: "c1/test/v1/shelf.proto" package: "c1.test.v1" syntax: "proto3" dependency: "google/api/annotations.proto"
message_type { name: "R"
  field { name: "a" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "b" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "c" number: 3 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "d" number: 4 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "n" number: 5 type: TYPE_INT64 label: LABEL_OPTIONAL } }
service { name: "Shelf"
  method { name: "List" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { idempotency_level: NO_SIDE_EFFECTS [google.api.http] { get: "/api/v1/apps" } } }
  method { name: "Create" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { [google.api.http] { post: "/api/v1/apps" body: "*" } } }
  method { name: "Get" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { idempotency_level: NO_SIDE_EFFECTS [google.api.http] { get: "/api/v1/apps/{a}" } } }
  method { name: "Put" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { [google.api.http] { put: "/api/v1/apps/{a}" body: "*" } } }
  method { name: "Delete" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { [google.api.http] { delete: "/api/v1/apps/{a}" body: "*" } } }
  method { name: "Special" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { idempotency_level: NO_SIDE_EFFECTS [google.api.http] { get: "/api/v1/apps/special" } } }
  method { name: "Search" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { idempotency_level: NO_SIDE_EFFECTS [google.api.http] { post: "/api/v1/apps/search" body: "*" } } }
  method { name: "Bind" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { [google.api.http] { post: "/api/v1/apps/{a}/{b}/bindings/{c}/{d}" body: "*" } } }
  method { name: "GetBinding" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { idempotency_level: NO_SIDE_EFFECTS [google.api.http] { get: "/api/v1/apps/{a}/{b}/bindings/{c}/{d}" } } }
  method { name: "Confirm" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { [google.api.http] { post: "/api/v1/apps/{a}/connectors/{b}/confirm/{c}" body: "*" } } }
  method { name: "ByTools" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { [google.api.http] { post: "/api/v1/apps/{a}/connectors/{b}/tools/by_tools" body: "*" } } }
  method { name: "State" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { [google.api.http] { post: "/api/v1/findings/{a}/state" body: "*" } } }
  method { name: "BulkState" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { [google.api.http] { post: "/api/v1/findings/bulk/state" body: "*" } } }
  method { name: "BulkOther" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { [google.api.http] { patch: "/api/v1/findings/bulk/other" body: "*" } } }
  method { name: "Talk" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { [google.api.http] { post: "/api/v1/conversations/{a}" body: "*" } } }
  method { name: "Ensure" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { [google.api.http] { post: "/api/v1/conversations/onboarding:ensure" body: "*" } } }
  method { name: "Version" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { idempotency_level: NO_SIDE_EFFECTS [google.api.http] { get: "/api/v1/policies/{a}/versions/{n}" } } }
  method { name: "Five" input_type: ".c1.test.v1.R" output_type: ".c1.test.v1.R" options { [google.api.http] { delete: "/api/v2/{a}/{b}/{c}/{d}/{n}" body: "*" } } } }
`

// described registers a file that is written as text.
func described(t testing.TB, text string) (*protoregistry.Files, []*route.Route) {
	t.Helper()
	var file descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	descriptor, err := protodesc.NewFile(&file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	files, types := new(protoregistry.Files), new(protoregistry.Types)
	if err := errors.Join(files.RegisterFile(descriptor), types.RegisterMessage(dynamicpb.NewMessageType(descriptor.Messages().Get(0)))); err != nil {
		t.Fatal(err)
	}
	routes, err := route.Load(files, types, "c1.")
	if err != nil {
		t.Fatal(err)
	}
	return files, routes
}

// mirrored are the routes of C1's API that are linked.
func mirrored(t testing.TB) []*route.Route {
	t.Helper()
	routes, err := route.Load(protoregistry.GlobalFiles, protoregistry.GlobalTypes, "c1.")
	if err != nil || len(routes) == 0 {
		t.Fatalf("%d routes, %v", len(routes), err)
	}
	return routes
}

func newRouter(t testing.TB, routes []*route.Route) *rest.Router {
	t.Helper()
	router, err := rest.New(routes)
	if err != nil {
		t.Fatal(err)
	}
	return router
}

// naive matches by trying every template: the reference.
func naive(routes []*route.Route, verb, path string) (best *route.Route, values, allowed []string) {
	if !strings.HasPrefix(path, "/") {
		return nil, nil, nil
	}
	segments := strings.Split(path, "/")[1:]
	for _, r := range routes {
		fits := len(segments) == len(r.Segments)
		for i := 0; fits && i < len(segments); i++ {
			fits = r.Segments[i].Field != nil || r.Segments[i].Literal == segments[i]
		}
		switch {
		case !fits:
		case r.Verb != verb:
			allowed = append(allowed, r.Verb)
		case best == nil || strings.Compare(shape(r), shape(best)) < 0:
			best = r
		}
	}
	if best == nil {
		slices.Sort(allowed)
		return nil, nil, slices.Compact(allowed)
	}
	for i, s := range best.Segments {
		if s.Field != nil {
			values = append(values, segments[i])
		}
	}
	return best, values, nil
}

// shape writes "a" for a literal and "b" for a variable, so that of templates
// that fit the same path the smaller one is literal first.
func shape(r *route.Route) string {
	var b strings.Builder
	for _, s := range r.Segments {
		b.WriteByte("ab"[min(1, len(fieldName(s)))])
	}
	return b.String()
}

func fieldName(s route.Segment) string {
	if s.Field == nil {
		return ""
	}
	return string(s.Field.Name())
}

// name is a route's method name; "" for none.
func name(r *route.Route) string {
	if r == nil {
		return ""
	}
	return string(r.Descriptor.Name())
}
