package redact

import (
	"encoding/base64"
	"encoding/json"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// read returns the text of a field: of one value what text makes of it, and of
// a list, also one on the way, a JSON array of those. ok is false if it is not
// set.
func read(message protoreflect.Message, chain []protoreflect.FieldDescriptor, text func(string) string) (value string, ok bool) {
	var values []string
	list := false
	var walk func(protoreflect.Message, []protoreflect.FieldDescriptor)
	walk = func(m protoreflect.Message, chain []protoreflect.FieldDescriptor) {
		field := chain[0]
		list = list || field.IsList()
		if !m.Has(field) {
			return
		}
		each := func(v protoreflect.Value) {
			if len(chain) > 1 {
				walk(v.Message(), chain[1:])
				return
			}
			values = append(values, text(plain(field, v)))
		}
		if !field.IsList() {
			each(m.Get(field))
			return
		}
		for i, items := 0, m.Get(field).List(); i < items.Len() && len(values) < maxValues; i++ {
			each(items.Get(i))
		}
	}
	walk(message, chain)
	switch {
	case len(values) == 0:
		return "", false
	case !list:
		return values[0], true
	}
	array, _ := json.Marshal(values) // strings cannot fail
	return string(array), true
}

// maxValues bounds what is read of a list: a record cuts its text far earlier.
const maxValues = 256

// plain is one value as C1's JSON has it, without quotes.
func plain(field protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch field.Kind() {
	case protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	case protoreflect.EnumKind:
		if value := field.Enum().Values().ByNumber(v.Enum()); value != nil {
			return string(value.Name())
		}
		return strconv.Itoa(int(v.Enum()))
	case protoreflect.MessageKind, protoreflect.GroupKind:
		text, err := protojson.Marshal(v.Message().Interface())
		if err != nil {
			return "invalid " + string(field.Message().Name())
		}
		var unquoted string
		if json.Unmarshal(text, &unquoted) == nil {
			return unquoted
		}
		return string(text)
	default:
		return v.String()
	}
}
