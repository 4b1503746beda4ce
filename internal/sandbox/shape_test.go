package sandbox_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// wide is a message that holds itself ten times over: six deep, a million.
const wide = `
name: "c1/test/v1/wide.proto" package: "c1.test.v1" syntax: "proto3" dependency: "google/api/annotations.proto" dependency: "google/protobuf/any.proto"
message_type { name: "WideRequest" field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } }
message_type { name: "Wide"
  field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "a" number: 2 type: TYPE_MESSAGE type_name: ".c1.test.v1.Wide" label: LABEL_REPEATED }
  field { name: "b" number: 3 type: TYPE_MESSAGE type_name: ".c1.test.v1.Wide" label: LABEL_REPEATED }
  field { name: "c" number: 4 type: TYPE_MESSAGE type_name: ".c1.test.v1.Wide" label: LABEL_OPTIONAL }
  field { name: "d" number: 5 type: TYPE_MESSAGE type_name: ".c1.test.v1.Wide" label: LABEL_OPTIONAL }
  field { name: "e" number: 6 type: TYPE_MESSAGE type_name: ".c1.test.v1.Wide" label: LABEL_OPTIONAL }
  field { name: "f" number: 7 type: TYPE_MESSAGE type_name: ".c1.test.v1.Wide" label: LABEL_OPTIONAL }
  field { name: "g" number: 8 type: TYPE_MESSAGE type_name: ".c1.test.v1.Wide" label: LABEL_OPTIONAL }
  field { name: "h" number: 9 type: TYPE_MESSAGE type_name: ".c1.test.v1.Wide" label: LABEL_OPTIONAL }
  field { name: "i" number: 10 type: TYPE_MESSAGE type_name: ".c1.test.v1.Wide" label: LABEL_OPTIONAL }
  field { name: "j" number: 11 type: TYPE_MESSAGE type_name: ".c1.test.v1.Wide" label: LABEL_OPTIONAL }
  field { name: "k" number: 12 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL } }
service { name: "WideService"
  method { name: "Get" input_type: ".c1.test.v1.WideRequest" output_type: ".c1.test.v1.Wide" options { [google.api.http] { get: "/api/v1/wide/{id}" } } } }
`

// TestWideAnswer holds that an answer is bounded in size, whatever the message
// and the request, and that the bound is taken from the deep, not the shallow.
func TestWideAnswer(t *testing.T) {
	h := start(t, sandbox.Config{Files: register(t, wide)})
	for name, id := range map[string]string{"short": "x", "all escapes": strings.Repeat("\x01", 128), "long": strings.Repeat("x", 8000)} {
		got := h.call("GET", "/api/v1/wide/"+url.PathEscape(id), "")
		got.want(t, 200, -1)
		if len(got.body) > maxAnswer || len(got.body) < maxAnswer/16 {
			t.Errorf("%s: the answer has %d bytes", name, len(got.body))
		}
		var top map[string]any
		if err := json.Unmarshal([]byte(got.body), &top); err != nil {
			t.Fatal(err)
		}
		for field, value := range top {
			if list, ok := value.([]any); ok {
				value = list[0]
			}
			if within, ok := value.(map[string]any); ok && len(within) == 0 {
				t.Errorf("%s: %s is empty", name, field)
			}
		}
	}
	if got := h.call("GET", "/api/v1/wide/"+strings.Repeat("x", 8000), ""); strings.Contains(got.body, "xxx") {
		t.Error("a long id was repeated")
	}
}

// TestAny turns through what an Any that stands alone may hold.
func TestAny(t *testing.T) {
	h := start(t, sandbox.Config{Files: register(t, wide)})
	for turn, name := range []string{"c1.test.v1.Wide", "google.protobuf.Timestamp", "c1.test.v1.Wide", "google.protobuf.Struct", "c1.test.v1.Wide"} {
		h.Vary(uint16(turn))
		if got := h.call("GET", "/api/v1/wide/x", ""); !strings.Contains(got.body, `"k":{"@type":"type.googleapis.com/`+name+`"`) {
			t.Errorf("turn %d: no %s in %.300s", turn, name, got.body)
		}
	}
}

// TestEveryAny holds that a list of Any's has a message of C1's, where there is
// one beside it with an id, and a type that is known everywhere.
func TestEveryAny(t *testing.T) {
	s, err := sandbox.New(sandbox.Config{Remember: -1})
	if err != nil {
		t.Fatal(err)
	}
	ours, others := 0, map[protoreflect.FullName]bool{}
	operations(t, catalog.Files(), func(method protoreflect.MethodDescriptor, verb, template string) {
		if known[procedureOf(method)] != nil {
			return
		}
		r, _ := request(t, method, verb, template)
		anys(read(t, method, answer(t, s, procedureOf(method), r)), func(field protoreflect.FieldDescriptor, types []string) {
			if len(types) != 2 || !strings.HasPrefix(types[1], "type.googleapis.com/google.protobuf.") {
				t.Errorf("%s: %s holds %v", method.FullName(), field.FullName(), types)
			}
			if strings.HasPrefix(types[0], "type.googleapis.com/c1.") {
				ours++
			} else {
				others[field.FullName().Parent()] = true
			}
		})
	})
	if ours < 10*len(others) {
		t.Errorf("%d lists have a message of C1's, but not those of %v", ours, others)
	}
}

// anys visits the fields of type Any in a message, with the @types in them.
func anys(message protoreflect.Message, visit func(protoreflect.FieldDescriptor, []string)) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Message() == nil || field.IsMap() {
			return true
		}
		var within []protoreflect.Message
		if field.IsList() {
			for i := range value.List().Len() {
				within = append(within, value.List().Get(i).Message())
			}
		} else {
			within = append(within, value.Message())
		}
		var types []string
		for _, m := range within {
			if m.Descriptor().FullName() == "google.protobuf.Any" {
				types = append(types, m.Get(m.Descriptor().Fields().ByName("type_url")).String())
			} else {
				anys(m, visit)
			}
		}
		if len(types) > 0 {
			visit(field, types)
		}
		return true
	})
}
