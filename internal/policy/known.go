package policy

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

// settle makes the free-form values in a message, google.protobuf.Struct and what
// is in it, those of generated code, which are equal: CEL would copy others whole
// each time that a condition looks at them.
func settle(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() == nil {
				return true
			}
			entries := value.Map()
			entries.Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				if made := generated(value.Message()); made != nil {
					entries.Set(key, protoreflect.ValueOfMessage(made))
				}
				return true
			})
		case field.Message() == nil:
		case field.IsList():
			list := value.List()
			for i := range list.Len() {
				if made := generated(list.Get(i).Message()); made != nil {
					list.Set(i, protoreflect.ValueOfMessage(made))
				}
			}
		default:
			if made := generated(value.Message()); made != nil {
				m.Set(field, protoreflect.ValueOfMessage(made))
			}
		}
		return true
	})
}

// generated is a free-form value as generated code has it; nil of another
// message, which is settled.
func generated(m protoreflect.Message) protoreflect.Message {
	var made proto.Message
	switch m.Descriptor().FullName() {
	case "google.protobuf.Struct":
		made = new(structpb.Struct)
	case "google.protobuf.ListValue":
		made = new(structpb.ListValue)
	case "google.protobuf.Value":
		made = new(structpb.Value)
	default:
		settle(m)
		return nil
	}
	if m.Type() == made.ProtoReflect().Type() {
		return nil
	}
	proto.Merge(made, m.Interface())
	return made.ProtoReflect()
}
