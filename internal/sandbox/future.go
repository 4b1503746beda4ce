package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
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
				case !isAny(field) || field.IsMap():
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
}

// rewriting makes a fault that parses the true answer, visits and writes it.
func rewriting(name string, v visitor) Fault {
	return damaging(name, func(_ *exchange, a *answer) {
		decoder := json.NewDecoder(bytes.NewReader(a.body))
		decoder.UseNumber()
		var object map[string]any
		if decoder.Decode(&object) != nil || object == nil {
			return
		}
		v.visit(a.message, object)
		if text, err := json.Marshal(object); err == nil {
			a.body = text
		}
	})
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
		if structured(field) {
			v.visit(field.Message(), value)
		}
		return value
	}
	if v.value != nil {
		return v.value(field, value)
	}
	return value
}

// structured says whether the JSON of a field's message is that of its fields:
// not so for a map, nor for the well-known types.
func structured(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && !field.IsMap() && field.Message().ParentFile().Package() != "google.protobuf"
}
