package sandbox

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// maxDepth is how deep an answer that is made from a descriptor nests.
const maxDepth = 4

// shape makes a valid answer from nothing but its descriptor: every field
// set, one element in each list and map, one member of each oneof, the same
// each time. A string that the request has too, such as an id, is the request's.
func shape(descriptor protoreflect.MessageDescriptor, request proto.Message) proto.Message {
	response := newMessage(descriptor)
	fill(response.ProtoReflect(), request.ProtoReflect(), maxDepth)
	return response
}

// fill sets the fields of message, and for depth levels the messages in them.
// Of a oneof it sets the first member; optional fields count as fields.
func fill(message, request protoreflect.Message, depth int) {
	fields := message.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		oneof := field.ContainingOneof()
		if oneof != nil && !oneof.IsSynthetic() && oneof.Fields().Get(0) != field {
			continue
		}
		if strings.HasSuffix(string(field.Name()), "page_token") {
			continue // a page token would never end
		}
		if depth == 0 && field.Message() != nil {
			continue
		}
		fillField(message, field, request, depth)
	}
}

// fillField sets one field, to one element if it is a list or a map.
func fillField(message protoreflect.Message, field protoreflect.FieldDescriptor, request protoreflect.Message, depth int) {
	switch {
	case field.IsMap():
		entries := message.Mutable(field).Map()
		key := plausible(field.MapKey(), request).MapKey()
		if field.MapValue().Message() == nil {
			entries.Set(key, plausible(field.MapValue(), request))
			return
		}
		fillMessage(entries.Mutable(key).Message(), request, depth)
	case field.IsList() && field.Message() != nil:
		fillMessage(message.Mutable(field).List().AppendMutable().Message(), request, depth)
	case field.IsList():
		message.Mutable(field).List().Append(plausible(field, request))
	case field.Message() != nil:
		fillMessage(message.Mutable(field).Message(), request, depth)
	default:
		message.Set(field, plausible(field, request))
	}
}

// fillMessage fills message, or makes it the sample of a well-known type.
func fillMessage(message, request protoreflect.Message, depth int) {
	sample, ok := samples[message.Descriptor().FullName()]
	if !ok {
		fill(message, request, depth-1)
		return
	}
	// Through the wire, since message may be dynamic where sample is not.
	text, err := proto.Marshal(sample)
	if err == nil {
		_ = proto.Unmarshal(text, message.Interface())
	}
}

// samples are the types whose JSON is not that of their fields.
var samples = map[protoreflect.FullName]proto.Message{
	"google.protobuf.Any":       sampleAny(),
	"google.protobuf.Duration":  durationpb.New(3600e9),
	"google.protobuf.FieldMask": &fieldmaskpb.FieldMask{Paths: []string{"display_name"}},
	"google.protobuf.ListValue": &structpb.ListValue{Values: []*structpb.Value{structpb.NewNumberValue(1)}},
	"google.protobuf.Struct":    &structpb.Struct{Fields: map[string]*structpb.Value{"key": structpb.NewStringValue("value")}},
	"google.protobuf.Timestamp": timestamppb.New(epoch),
	"google.protobuf.Value":     structpb.NewStringValue("value"),
}

// sampleAny holds a type that every Go program with protobuf can resolve.
func sampleAny() *anypb.Any {
	sample, err := anypb.New(wrapperspb.String("any"))
	if err != nil {
		return &anypb.Any{}
	}
	return sample
}

// plausible is a value for a field that is no message: never the zero value,
// which proto3 leaves out, save for an enum that has no other.
func plausible(field protoreflect.FieldDescriptor, request protoreflect.Message) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(min(1, values.Len()-1)).Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(42)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(42)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(1<<53 + 1) // no float64 holds it
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(1<<53 + 1)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(0.5)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(0.5)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("sandbox"))
	default:
		return protoreflect.ValueOfString(plausibleText(field, request))
	}
}

// plausibleText is what the request says in its field of the same name, or
// else the field's own name.
func plausibleText(field protoreflect.FieldDescriptor, request protoreflect.Message) string {
	asked := request.Descriptor().Fields().ByName(field.Name())
	if asked != nil && asked.Kind() == protoreflect.StringKind && !asked.IsList() && request.Has(asked) {
		return request.Get(asked).String()
	}
	return "sandbox " + strings.ReplaceAll(string(field.Name()), "_", " ")
}
