package transcode_test

import (
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// everything is a message with a field of every kind that C1's document could
// bring, one a line: its name, its type, and the oneof that it belongs to.
const everything = `
	id string
	created_at Timestamp
	big int64
	huge uint64
	int int32
	uint uint32
	flag bool
	data bytes
	real double
	half float
	color Color
	maybe_int ?int32
	maybe_text ?string
	maybe_color ?Color
	child Everything
	mask FieldMask
	wait Duration
	wrapped StringValue
	wrapped_big Int64Value
	struct Struct
	value Value
	values_list ListValue
	empty Empty
	nothing NullValue
	any Any
	left string choice
	right Color choice
	both Everything choice
	free Value choice
	texts []string
	numbers []int64
	colors []Color
	children []Everything
	times []Timestamp
	anys []Any
	values []Value
	nothings []NullValue
	wrappeds []StringValue
	labels map string
	by_name map Everything
	any_by_name map Any
	color_by_name map Color
	time_by_name map Timestamp
	value_by_name map Value
	by_number intmap string
	by_flag boolmap string`

// params is a request whose fields travel in a query.
const params = `
	id string
	page_size int32
	big int64
	huge uint64
	uint uint32
	flag bool
	data bytes
	real double
	half float
	color Color
	maybe ?string
	texts []string
	colors []Color
	child Everything
	labels map string`

const testPackage = "transcode.test.v1"

var scalars = map[string]descriptorpb.FieldDescriptorProto_Type{
	"string": descriptorpb.FieldDescriptorProto_TYPE_STRING, "int64": descriptorpb.FieldDescriptorProto_TYPE_INT64,
	"uint64": descriptorpb.FieldDescriptorProto_TYPE_UINT64, "int32": descriptorpb.FieldDescriptorProto_TYPE_INT32,
	"uint32": descriptorpb.FieldDescriptorProto_TYPE_UINT32, "bool": descriptorpb.FieldDescriptorProto_TYPE_BOOL,
	"bytes": descriptorpb.FieldDescriptorProto_TYPE_BYTES, "double": descriptorpb.FieldDescriptorProto_TYPE_DOUBLE,
	"float": descriptorpb.FieldDescriptorProto_TYPE_FLOAT,
}

// typed fills in a field's type by its short name.
func typed(field *descriptorpb.FieldDescriptorProto, name string) *descriptorpb.FieldDescriptorProto {
	kind, ok := scalars[name]
	switch {
	case ok:
	case name == "Color" || name == "Everything":
		name = "." + testPackage + "." + name
	default:
		name = ".google.protobuf." + name
	}
	if !ok {
		kind = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
		if strings.HasSuffix(name, "Color") || strings.HasSuffix(name, "NullValue") {
			kind = descriptorpb.FieldDescriptorProto_TYPE_ENUM
		}
		field.TypeName = &name
	}
	field.Type = &kind
	return field
}

// messageOf builds a message from lines such as everything's.
func messageOf(name, lines string) *descriptorpb.DescriptorProto {
	message := &descriptorpb.DescriptorProto{Name: &name}
	var optional []string
	for i, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		words := strings.Fields(line)
		field := &descriptorpb.FieldDescriptorProto{Name: &words[0], Number: proto.Int32(int32(i + 1)),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
		kind := words[1]
		key, isMap := strings.CutSuffix(kind, "map")
		switch {
		case isMap:
			entry := mapEntry(words[0], map[string]string{"": "string", "int": "int64", "bool": "bool"}[key], words[2])
			message.NestedType = append(message.NestedType, entry)
			field.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			field.Type = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum()
			field.TypeName = proto.String("." + testPackage + "." + name + "." + entry.GetName())
		case strings.HasPrefix(kind, "[]"):
			field.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			typed(field, kind[2:])
		case strings.HasPrefix(kind, "?"):
			typed(field, kind[1:]).Proto3Optional = proto.Bool(true)
			optional = append(optional, words[0])
			field.OneofIndex = proto.Int32(int32(len(optional)))
		default:
			if typed(field, kind); len(words) == 3 {
				field.OneofIndex = proto.Int32(0)
			}
		}
		message.Field = append(message.Field, field)
	}
	message.OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: proto.String("choice")}}
	for _, name := range optional {
		message.OneofDecl = append(message.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String("_" + name)})
	}
	return message
}

func mapEntry(field, key, value string) *descriptorpb.DescriptorProto {
	name := ""
	for _, word := range strings.Split(field, "_") {
		name += strings.ToUpper(word[:1]) + word[1:]
	}
	one := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
	return &descriptorpb.DescriptorProto{Name: proto.String(name + "Entry"), Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
		Field: []*descriptorpb.FieldDescriptorProto{
			typed(&descriptorpb.FieldDescriptorProto{Name: proto.String("key"), Number: proto.Int32(1), Label: one}, key),
			typed(&descriptorpb.FieldDescriptorProto{Name: proto.String("value"), Number: proto.Int32(2), Label: one}, value),
		}}
}

func methodOf(name, input string, rule *annotations.HttpRule, level descriptorpb.MethodOptions_IdempotencyLevel) *descriptorpb.MethodDescriptorProto {
	options := &descriptorpb.MethodOptions{IdempotencyLevel: &level}
	proto.SetExtension(options, annotations.E_Http, rule)
	return &descriptorpb.MethodDescriptorProto{Name: &name, Options: options,
		InputType: proto.String("." + testPackage + "." + input), OutputType: proto.String("." + testPackage + ".Everything")}
}

// testFiles holds the schema. Its messages are registered with the others,
// since an Any's type is looked for there.
var testFiles = func() *protoregistry.Files {
	params := messageOf("Params", params)
	params.OneofDecl = params.OneofDecl[1:]
	for _, field := range params.Field {
		if field.OneofIndex != nil {
			*field.OneofIndex--
		}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("transcode/test/v1/test.proto"), Package: proto.String(testPackage), Syntax: proto.String("proto3"),
		Dependency: []string{"google/protobuf/any.proto", "google/protobuf/struct.proto", "google/protobuf/timestamp.proto",
			"google/protobuf/duration.proto", "google/protobuf/field_mask.proto", "google/protobuf/wrappers.proto", "google/protobuf/empty.proto"},
		MessageType: []*descriptorpb.DescriptorProto{messageOf("Everything", everything), params},
		EnumType: []*descriptorpb.EnumDescriptorProto{{Name: proto.String("Color"), Value: []*descriptorpb.EnumValueDescriptorProto{
			{Name: proto.String("COLOR_UNSPECIFIED"), Number: proto.Int32(0)}, {Name: proto.String("RED"), Number: proto.Int32(1)},
			{Name: proto.String("BLUE"), Number: proto.Int32(2)}}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("TestService"), Method: []*descriptorpb.MethodDescriptorProto{
			methodOf("Change", "Everything", &annotations.HttpRule{Pattern: &annotations.HttpRule_Post{Post: "/api/v1/things/{id}"}, Body: "*"},
				descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN),
			methodOf("Look", "Params", &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: "/api/v1/things/{id}"}},
				descriptorpb.MethodOptions_NO_SIDE_EFFECTS),
		}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		panic(err)
	}
	for i := range file.Messages().Len() {
		if err := protoregistry.GlobalTypes.RegisterMessage(dynamicpb.NewMessageType(file.Messages().Get(i))); err != nil {
			panic(err)
		}
	}
	files := new(protoregistry.Files)
	if err := files.RegisterFile(file); err != nil {
		panic(err)
	}
	return files
}()

// testRoute returns the route of a method of TestService.
func testRoute(t testing.TB, method string) *route.Route {
	routes, err := route.Load(testFiles, protoregistry.GlobalTypes, "transcode.test.")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if strings.HasSuffix(r.Procedure, "/"+method) {
			return r
		}
	}
	t.Fatalf("no method %s", method)
	return nil
}

// testType is the type of the message with everything in it.
var testType = func() protoreflect.MessageType {
	found, err := protoregistry.GlobalTypes.FindMessageByName(testPackage + ".Everything")
	if err != nil {
		panic(err)
	}
	return found
}()

// parsed reads a message's standard JSON.
func parsed(t testing.TB, text string) proto.Message {
	t.Helper()
	message := testType.New().Interface()
	if err := protojson.Unmarshal([]byte(text), message); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return message
}

// answered reads an answer that must be one.
func answered(t testing.TB, text string) (proto.Message, transcode.Strays) {
	t.Helper()
	message, strays, err := transcode.Answer([]byte(text), testType)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return message, strays
}

// readBody reads a body into a new message.
func readBody(r *route.Route, data []byte) (proto.Message, transcode.Strays, error) {
	message := r.Input.New().Interface()
	strays, err := transcode.Body(r, data, message)
	return message, strays, err
}
