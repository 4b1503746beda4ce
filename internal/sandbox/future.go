package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// The faults of this file make the true answer one of a C1 that is newer, or
// careless. It stays good JSON.

// UnknownField adds a field that no descriptor has to every message of the answer.
func UnknownField() Fault {
	return rewriting("unknown field", visitor{object: func(object map[string]any) {
		object["sandboxUnknownField"] = map[string]any{"since": "tomorrow", "list": []any{1, nil}}
	}})
}

// UnknownEnum sets every enum of the answer, in lists too, to a value that no
// descriptor has.
func UnknownEnum() Fault {
	return rewriting("unknown enum", visitor{value: func(field protoreflect.FieldDescriptor, value any) any {
		if field.Kind() != protoreflect.EnumKind {
			return value
		}
		return "SANDBOX_VALUE_OF_TOMORROW"
	}})
}

// NullElement puts a null at the end of every list of the answer.
func NullElement() Fault {
	return rewriting("null element", visitor{list: func(_ protoreflect.FieldDescriptor, list []any) []any {
		return append(list, nil)
	}})
}

// NullMessage does so in the lists of messages alone.
func NullMessage() Fault {
	return rewriting("null message", visitor{list: func(field protoreflect.FieldDescriptor, list []any) []any {
		if field.Message() == nil {
			return list
		}
		return append(list, nil)
	}})
}

// UnknownAny sets every google.protobuf.Any of the answer to one of an unknown
// @type, and adds such a one, and one without a type, to every list of them:
// there is one named "expanded" in any case.
func UnknownAny() Fault {
	unheard := map[string]any{"@type": "type.googleapis.com/c1.sandbox.v1.Unheard", "id": "sandbox", "n": 1}
	untyped := map[string]any{"id": "no type at all"}
	return rewriting("unknown @type", visitor{
		message: func(message protoreflect.MessageDescriptor, object map[string]any) {
			for i := range message.Fields().Len() {
				field := message.Fields().Get(i)
				switch key := field.JSONName(); {
				case field.IsMap() && isAny(field.MapValue()):
					entries, _ := object[key].(map[string]any)
					for entry := range entries {
						entries[entry] = unheard
					}
				case !isAny(field):
				case !field.IsList():
					object[key] = unheard
				case field.Name() == "expanded" && object[key] == nil:
					object[key] = []any{}
				}
			}
		},
		list: func(field protoreflect.FieldDescriptor, list []any) []any {
			if !isAny(field) {
				return list
			}
			return append(list, unheard, untyped)
		},
	})
}

// isAny says whether a field holds google.protobuf.Any, one or many.
func isAny(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && field.Message().FullName() == "google.protobuf.Any"
}

// TwoOfOneof sets a second member in every oneof of the answer that has one
// set and another to set.
func TwoOfOneof() Fault {
	return rewriting("two of a oneof", visitor{message: func(message protoreflect.MessageDescriptor, object map[string]any) {
		for i := range message.Oneofs().Len() {
			members := message.Oneofs().Get(i).Fields()
			for j := range members.Len() {
				member, next := members.Get(j), members.Get((j+1)%members.Len())
				if _, ok := object[member.JSONName()]; ok && next != member {
					object[next.JSONName()] = plausibleJSON(next)
					break
				}
			}
		}
	}})
}

// plausibleJSON is a value for a field that is not repeated: as members of a
// oneof are.
func plausibleJSON(field protoreflect.FieldDescriptor) any {
	message := dynamicpb.NewMessage(field.ContainingMessage())
	s := &shape{request: message}
	s.fillField(level{message: message}, field)
	text, err := protojson.Marshal(message)
	var object map[string]any
	if err != nil || json.Unmarshal(text, &object) != nil || object[field.JSONName()] == nil {
		return map[string]any{} // a message, with fields of its own
	}
	return object[field.JSONName()]
}

// OddForms writes every field mask of the answer as "*", every duration as
// "PT1H", and every time as "", which protobuf's JSON does not know.
func OddForms() Fault {
	forms := map[protoreflect.FullName]string{"google.protobuf.FieldMask": "*", "google.protobuf.Duration": "PT1H", "google.protobuf.Timestamp": ""}
	return rewriting("odd forms", visitor{value: func(field protoreflect.FieldDescriptor, value any) any {
		if field.Message() == nil {
			return value
		}
		if form, ok := forms[field.Message().FullName()]; ok {
			return form
		}
		return value
	}})
}

// Rewritten lets change do what it likes to the true answer, if that is a JSON
// object. Numbers in it are json.Number.
func Rewritten(name string, change func(answer map[string]any)) Fault {
	return damaging(name, func(_ *exchange, a *answer) { a.rewrite(change) })
}

// DuplicateKey gives the first field of the answer twice, the second time as
// null; an answer without fields gets an unknown one, twice.
func DuplicateKey() Fault {
	return damaging("duplicate key", func(_ *exchange, a *answer) {
		key, value := firstField(a.body)
		rest := bytes.TrimPrefix(bytes.TrimSpace(a.body), []byte("{"))
		if !bytes.HasPrefix(bytes.TrimSpace(rest), []byte("}")) {
			rest = append([]byte(","), rest...)
		}
		a.body = append(fmt.Appendf(nil, "{%s:%s,%s:null", key, value, key), rest...)
	})
}

// firstField is the first key and value of a JSON object, as they are written.
func firstField(object []byte) (key, value []byte) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	for range 2 { // "{" and the key
		token, err := decoder.Token()
		if name, ok := token.(string); ok && err == nil {
			key, _ = json.Marshal(name)
		}
	}
	var raw json.RawMessage
	if key == nil || decoder.Decode(&raw) != nil {
		return []byte(`"sandboxTwice"`), []byte("1")
	}
	return key, raw
}

// ExpiresIn sets the expires_in of a token answer: 0, -1, 1e300, "soon".
func ExpiresIn(value any) Fault {
	f := rewriting("", visitor{object: func(object map[string]any) { object["expires_in"] = value }})
	f.name = fmt.Sprintf("expires_in %v", value)
	return f
}

// A visitor changes the parts of an answer that it has a function for.
type visitor struct {
	object  func(map[string]any)
	message func(protoreflect.MessageDescriptor, map[string]any)
	list    func(protoreflect.FieldDescriptor, []any) []any
	value   func(protoreflect.FieldDescriptor, any) any
	types   *types // of what is in an Any
}

// rewriting makes a fault that parses the true answer, visits and writes it.
func rewriting(name string, v visitor) Fault {
	return damaging(name, func(x *exchange, a *answer) {
		v := v // a Fault never changes
		v.types = x.sandbox.types
		a.rewrite(func(object map[string]any) { v.visit(a.message, object) })
	})
}

// rewrite changes the body of an answer, if it is a JSON object.
func (a *answer) rewrite(change func(map[string]any)) {
	decoder := json.NewDecoder(bytes.NewReader(a.body))
	decoder.UseNumber()
	var object map[string]any
	if decoder.Decode(&object) != nil || object == nil {
		return
	}
	change(object)
	if text, err := json.Marshal(object); err == nil {
		a.body = text
	}
}

// visit goes through an object, and the messages in it as far as descriptors
// tell: message is nil beyond.
func (v visitor) visit(message protoreflect.MessageDescriptor, object map[string]any) {
	if message != nil {
		fields := message.Fields()
		for i := range fields.Len() {
			field := fields.Get(i)
			if value, ok := object[field.JSONName()]; ok {
				object[field.JSONName()] = v.visitField(field, value)
			}
		}
		if v.message != nil {
			v.message(message, object)
		}
	}
	if v.object != nil {
		v.object(object)
	}
	if message != nil && v.list != nil {
		v.visitLists(message, object)
	}
}

// visitLists comes last, since message may have added a list.
func (v visitor) visitLists(message protoreflect.MessageDescriptor, object map[string]any) {
	fields := message.Fields()
	for i := range fields.Len() {
		if list, ok := object[fields.Get(i).JSONName()].([]any); ok && fields.Get(i).IsList() {
			object[fields.Get(i).JSONName()] = v.list(fields.Get(i), list)
		}
	}
}

// visitField returns what a field of message type, or a scalar, becomes. A null
// stays one.
func (v visitor) visitField(field protoreflect.FieldDescriptor, value any) any {
	switch value := value.(type) {
	case []any:
		for i := range value {
			value[i] = v.visitField(field, value[i])
		}
		return value
	case map[string]any:
		if field.IsMap() {
			for key := range value {
				value[key] = v.visitField(field.MapValue(), value[key])
			}
		} else if message := v.within(field, value); message != nil {
			v.visit(message, value)
		}
		return value
	}
	if v.value != nil {
		return v.value(field, value)
	}
	return value
}

// within describes the object that a field holds, which for an Any is what its
// @type says. It is nil where the JSON is not that of fields: of a well-known
// type, and of a type that is not known.
func (v visitor) within(field protoreflect.FieldDescriptor, object map[string]any) protoreflect.MessageDescriptor {
	message := field.Message()
	if isAny(field) {
		url, _ := object["@type"].(string)
		found, err := v.types.FindMessageByURL(url)
		if err != nil {
			return nil
		}
		message = found.Descriptor()
	}
	if message == nil || message.ParentFile().Package() == "google.protobuf" {
		return nil
	}
	return message
}
