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

// samples are the types whose JSON is not that of their fields, each in one
// or more forms that take turns.
var samples = map[protoreflect.FullName][]proto.Message{
	"google.protobuf.Any":       sampleAnys(),
	"google.protobuf.Duration":  {durationpb.New(3600e9), durationpb.New(1500e6)},
	"google.protobuf.FieldMask": {&fieldmaskpb.FieldMask{Paths: []string{"display_name"}}},
	"google.protobuf.ListValue": {&structpb.ListValue{Values: []*structpb.Value{structpb.NewNumberValue(1), structpb.NewNullValue()}}},
	"google.protobuf.Struct":    {sampleStruct()},
	"google.protobuf.Timestamp": {timestamppb.New(epoch)},
	"google.protobuf.Value": {structpb.NewStringValue("value"), structpb.NewNumberValue(0.5), structpb.NewBoolValue(true),
		structpb.NewNullValue(), structpb.NewStructValue(sampleStruct())},
}

// sampleStruct is an object with what is meant for machines within it: such
// a key is the user's own, and stands for no type.
func sampleStruct() *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		"key":   structpb.NewStringValue("value"),
		"@type": structpb.NewStringValue("the user's own"),
	}}
}

// sampleAnys hold types that every Go program with protobuf can resolve.
func sampleAnys() []proto.Message {
	var anys []proto.Message
	for _, content := range []proto.Message{wrapperspb.String("any"), timestamppb.New(epoch), durationpb.New(3600e9), &structpb.Struct{}} {
		packed, err := anypb.New(content)
		if err != nil {
			panic(err) // never: these have no required fields
		}
		anys = append(anys, packed)
	}
	return anys
}

// wellKnown is the form of a well-known type whose turn it is; nil if name is
// none of them.
func wellKnown(name protoreflect.FullName, turn int) proto.Message {
	forms := samples[name]
	if len(forms) == 0 {
		return nil
	}
	return forms[turn%len(forms)]
}

// pack makes an Any of one of the messages beside the field's own, without
// the messages in it. It is nil where the file has none that would do.
func (s *shape) pack(field protoreflect.FieldDescriptor, turn int) proto.Message {
	var things []protoreflect.MessageDescriptor
	messages := field.ParentFile().Messages()
	for i := range messages.Len() {
		if isThing(messages.Get(i)) {
			things = append(things, messages.Get(i))
		}
	}
	if len(things) == 0 {
		return nil
	}
	content := s.types.newMessage(things[turn%len(things)])
	s.fill(level{message: content.ProtoReflect(), turn: turn})
	packed, err := anypb.New(content)
	if err != nil {
		return nil
	}
	return packed
}

// isThing says whether a message is likely to be found in an Any of C1's: not
// what a method takes or gives, nor a bare one.
func isThing(message protoreflect.MessageDescriptor) bool {
	name := string(message.Name())
	return message.Fields().ByName("id") != nil && !strings.HasSuffix(name, "Request") && !strings.HasSuffix(name, "Response")
}
