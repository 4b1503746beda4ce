package sandbox_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// A census counts what the strange faults are for, by looking at messages
// where they look at JSON.
type census struct {
	messages, enums, lists, messageLists, anys, anyLists, oneofs, forms int
}

// count adds message and all within, also within an Any.
func (c *census) count(t testing.TB, message protoreflect.Message) {
	t.Helper()
	descriptor := message.Descriptor()
	c.messages++
	for i := range descriptor.Oneofs().Len() {
		if oneof := descriptor.Oneofs().Get(i); oneof.Fields().Len() > 1 && message.WhichOneof(oneof) != nil {
			c.oneofs++
		}
	}
	for i := range descriptor.Fields().Len() {
		field := descriptor.Fields().Get(i)
		switch present := message.Has(field); {
		case field.IsMap():
			message.Get(field).Map().Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
				c.value(t, field.MapValue(), value)
				return true
			})
		case field.IsList():
			c.list(t, field, message.Get(field).List())
		case present || field.Message() != nil && field.Message().FullName() == "google.protobuf.Any":
			c.value(t, field, message.Get(field))
		}
	}
}

// list adds a list. One of Any's that is named expanded is there in any case.
func (c *census) list(t testing.TB, field protoreflect.FieldDescriptor, list protoreflect.List) {
	t.Helper()
	isAny := field.Message() != nil && field.Message().FullName() == "google.protobuf.Any"
	if list.Len() == 0 && !(isAny && field.Name() == "expanded") {
		return
	}
	if isAny {
		c.anyLists++
	}
	if list.Len() == 0 {
		return
	}
	c.lists++
	if field.Message() != nil {
		c.messageLists++
	}
	for i := range list.Len() {
		if isAny {
			c.content(t, list.Get(i).Message())
			continue
		}
		c.value(t, field, list.Get(i))
	}
}

// value adds one that is no list.
func (c *census) value(t testing.TB, field protoreflect.FieldDescriptor, value protoreflect.Value) {
	t.Helper()
	if field.Enum() != nil {
		c.enums++
	}
	if field.Message() == nil {
		return
	}
	switch name := field.Message().FullName(); {
	case name == "google.protobuf.Any":
		c.anys++
		if value.Message().IsValid() {
			c.content(t, value.Message())
		}
	case name == "google.protobuf.Timestamp" || name == "google.protobuf.Duration" || name == "google.protobuf.FieldMask":
		c.forms++
	case field.Message().ParentFile().Package() != "google.protobuf":
		c.count(t, value.Message())
	}
}

// content adds what is in an Any, if its JSON is that of fields.
func (c *census) content(t testing.TB, message protoreflect.Message) {
	t.Helper()
	packed := new(anypb.Any)
	text, err := proto.Marshal(message.Interface())
	if err != nil || proto.Unmarshal(text, packed) != nil {
		t.Fatalf("read %v: %v", message, err)
	}
	content, err := anypb.UnmarshalNew(packed, proto.UnmarshalOptions{Resolver: catalog.Types{}})
	if err != nil {
		t.Fatal(err)
	}
	if content.ProtoReflect().Descriptor().ParentFile().Package() != "google.protobuf" {
		c.count(t, content.ProtoReflect())
	}
}

// A hostility is a fault, what it leaves in an answer, and how often.
type hostility struct {
	fault sandbox.Fault
	mark  string // empty: it is not counted
	marks int
	rest  func(testing.TB, protoreflect.MethodDescriptor, []byte) any // what has not changed; nil: not compared
}

func hostilities(c census) []hostility {
	return []hostility{
		{sandbox.UnknownField(), `"sandboxUnknownField":{`, c.messages, discarding},
		{sandbox.UnknownEnum(), `"SANDBOX_VALUE_OF_TOMORROW"`, c.enums, nil},
		{sandbox.NullElement(), `,null]`, c.lists, withoutNulls},
		{sandbox.NullMessage(), `,null]`, c.messageLists, withoutNulls},
		{sandbox.OddForms(), ``, c.forms, nil},
		{sandbox.TwoOfOneof(), ``, c.oneofs, nil},
		{sandbox.UnknownAny(), `c1.sandbox.v1.Unheard"`, c.anys + c.anyLists, nil},
		{sandbox.UnknownAny(), `"no type at all"`, c.anyLists, nil},
	}
}

// TestEveryHostileAnswer holds, of each operation of C1's and of the shelf,
// that each fault is in the answer as often as there is place for it.
func TestEveryHostileAnswer(t *testing.T) {
	for _, files := range []*protoregistry.Files{catalog.Files(), shelfFiles(t)} {
		s, err := sandbox.New(sandbox.Config{Files: files, Remember: -1})
		if err != nil {
			t.Fatal(err)
		}
		operations(t, files, func(method protoreflect.MethodDescriptor, verb, template string) {
			ask := func(fault sandbox.Fault) []byte {
				if known[procedureOf(method)] != nil {
					s.Restore()
				}
				s.Inject(sandbox.Rule{Fault: fault, On: procedureOf(method), Times: 1})
				r, _ := request(t, method, verb, template)
				return []byte(timeless(answer(t, s, procedureOf(method)+" "+fault.String(), r)))
			}
			plain := ask(sandbox.Fault{})
			var c census
			c.count(t, read(t, method, plain))
			for _, test := range hostilities(c) {
				test.check(t, method, plain, ask(test.fault))
			}
		})
	}
}

// check compares a hostile answer with the plain one.
func (h hostility) check(t *testing.T, method protoreflect.MethodDescriptor, plain, hostile []byte) {
	t.Helper()
	if got := bytes.Count(hostile, []byte(h.mark)) - bytes.Count(plain, []byte(h.mark)); h.mark != "" && got != h.marks {
		t.Errorf("%s: %s: %d times, not %d: %.300s", method.FullName(), h.fault, got, h.marks, hostile)
	}
	strict := protojson.UnmarshalOptions{Resolver: catalog.Types{}}.Unmarshal(hostile, dynamicpb.NewMessage(method.Output()))
	if (strict != nil) != (h.marks > 0) {
		t.Errorf("%s: %s: with %d places read as %v: %.300s", method.FullName(), h.fault, h.marks, strict, hostile)
	}
	if h.rest != nil && !cmp.Equal(h.rest(t, method, hostile), h.rest(t, method, plain), protocmp.Transform()) {
		t.Errorf("%s: %s: more has changed: %.300s, not %.300s", method.FullName(), h.fault, hostile, plain)
	}
}

// discarding is the message of an answer, without what is not known.
func discarding(t testing.TB, method protoreflect.MethodDescriptor, text []byte) any {
	t.Helper()
	message := dynamicpb.NewMessage(method.Output())
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true, Resolver: catalog.Types{}}).Unmarshal(text, message); err != nil {
		t.Errorf("%s: read %.300s: %v", method.FullName(), text, err)
	}
	return message
}

// withoutNulls is the JSON of an answer, without those at the ends of lists.
func withoutNulls(t testing.TB, method protoreflect.MethodDescriptor, text []byte) any {
	t.Helper()
	var value any
	if err := json.Unmarshal(bytes.ReplaceAll(text, []byte(",null]"), []byte("]")), &value); err != nil {
		t.Errorf("%s: read %.300s: %v", method.FullName(), text, err)
	}
	return value
}
