package transcode_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

var idValue = protoreflect.ValueOfString("the-id")

// checkRequest holds the body that C1 gets for a message against want. The
// message gets an id, which travels in the path.
func checkRequest(t testing.TB, r *route.Route, message proto.Message, want string) {
	t.Helper()
	message = proto.Clone(message)
	message.ProtoReflect().Set(r.Input.Descriptor().Fields().ByName("id"), idValue)
	target, err := transcode.Request(r, message)
	if err != nil {
		t.Errorf("%s: %v", want, err)
		return
	}
	sameJSON(t, "to C1", target.Body, []byte(want))
}

// in is the binary form of a message with the field set to value.
func in(field protoreflect.Name, value []byte) []byte {
	number := testType.Descriptor().Fields().ByName(field).Number()
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), value)
}

func marshaled(m proto.Message) []byte {
	data, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return data
}

// A caller's own JSON is read strictly, but for an Any.
func TestDecodeStrict(t *testing.T) {
	for data, want := range map[string]string{
		`{"new":1}`:                                   "new: unknown field",
		`{"children":[{},{"new":1}]}`:                 "children[1].new: unknown field",
		`{"byName":{"k":{"new":1}}}`:                  "by_name.k.new: unknown field",
		`{"any":{"@type":"` + ourType + `","new":1}}`: "any.new: unknown field",
		`{"any":{"@type":"x/google.protobuf.Duration","value":"1s","new":1}}`: "any.new: unknown field",
		`{"empty":{"new":1}}`:                                 "empty.new: unknown field",
		`{"color":"GREEN"}`:                                   "color: unknown enum value: Color has none",
		`{"colors":["RED","GREEN"]}`:                          "colors[1]: unknown enum value",
		`{"any":{"@type":"` + ourType + `","color":"GREEN"}}`: "any.color: unknown enum value",
		`{"texts":[null]}`:                                    "texts[0]: null is no value here",
		`{"byName":{"k":null}}`:                               "by_name.k: null is no value here",
	} {
		_, _, err := transcode.Decode(transcode.JSON, []byte(data), testType)
		var f *fault.Fault
		if !errors.As(err, &f) || f.Code != connect.CodeInvalidArgument || !strings.Contains(f.Message, want) {
			t.Errorf("%s: got %v, want %q", data, err, want)
			continue
		}
		if field, _, _ := strings.Cut(want, ": "); f.Metadata["field"] != field {
			t.Errorf("%s: the field is %q, want %q", data, f.Metadata["field"], field)
		}
	}
	message, strays, err := transcode.Decode(transcode.JSON, []byte(`{"id":"a","color":9,"any":{"@type":"u","new":1},"anys":[{"a":{"b":1}}]}`), testType)
	if err != nil || strays.Count(transcode.UnknownType) != 2 || strays.Count(transcode.UnknownField) != 0 {
		t.Fatalf("got %v, strays %s", err, &strays)
	}
	checkRequest(t, testRoute(t, "Change"), message, `{"color":9,"any":{"@type":"u","new":1},"anys":[{"a":{"b":1}}]}`)
}

// A newer client's fields are dropped and counted wherever they are, also
// in an Any and in what that holds.
func TestDecodeBinaryDrops(t *testing.T) {
	newer := func(data []byte, number protowire.Number) []byte {
		return protowire.AppendVarint(protowire.AppendTag(append([]byte{}, data...), number, protowire.VarintType), 1)
	}
	inner := newer(in("wrapped", newer(marshaled(wrapperspb.String("x")), 900)), 901)
	packed := marshaled(&anypb.Any{TypeUrl: ourType, Value: newer(in("any", marshaled(&anypb.Any{TypeUrl: "o/transcode.test.v1.Everything", Value: inner})), 902)})
	tests := []struct {
		name, strays, want string
		data               []byte
	}{
		{"top", "2 unknown_field (first: 99)", `{}`, newer(newer(nil, 99), 98)},
		{"child", "1 unknown_field (first: child.99)", `{"child":{}}`, in("child", newer(nil, 99))},
		{"list", "1 unknown_field (first: children[1].99)", `{"children":[{},{}]}`, append(in("children", nil), in("children", newer(nil, 99))...)},
		{"timestamp", "1 unknown_field (first: created_at.99)", `{"createdAt":"1970-01-01T00:00:00Z"}`, in("created_at", newer(nil, 99))},
		{"map", "1 unknown_field (first: by_name.k.99)", `{"byName":{"k":{}}}`, in("by_name", append(protowire.AppendString([]byte{0x0a}, "k"),
			protowire.AppendBytes([]byte{0x12}, newer(nil, 99))...))},
		{"any, its own", "1 unknown_field (first: any.99)", `{"any":{"@type":"` + ourType + `"}}`, in("any", newer(marshaled(&anypb.Any{TypeUrl: ourType}), 99))},
		{"any in any", "3 unknown_field (first: any.902)",
			`{"any":{"@type":"` + ourType + `","any":{"@type":"o/transcode.test.v1.Everything","wrapped":"x"}}}`, in("any", packed)},
		{"any, unchanged in a changed one", "1 unknown_field (first: any.99)", `{"any":{"@type":"` + ourType + `","any":{"@type":"` + ourType + `"}}}`,
			in("any", marshaled(&anypb.Any{TypeUrl: ourType, Value: newer(in("any", marshaled(&anypb.Any{TypeUrl: ourType})), 99)}))},
		{"anys, one of them", "1 unknown_field (first: anys[1].99)", `{"anys":[{"@type":"` + ourType + `","int":1},{"@type":"` + ourType + `"}]}`,
			append(in("anys", marshaled(&anypb.Any{TypeUrl: ourType, Value: []byte{5 << 3, 1}})), in("anys", marshaled(&anypb.Any{TypeUrl: ourType, Value: newer(nil, 99)}))...)},
		{"nothing", "", `{"id":"a"}`, in("id", []byte("a"))},
	}
	for _, tt := range tests {
		message, strays, err := transcode.Decode(transcode.Binary, tt.data, testType)
		if err != nil || strays.String() != tt.strays {
			t.Errorf("%s: got %v, strays %q, want %q", tt.name, err, strays.String(), tt.strays)
			continue
		}
		encoded, err := transcode.Encode(transcode.Binary, message)
		if want := parsed(t, tt.want); err != nil || !proto.Equal(message, want) {
			t.Errorf("%s: got %v, want %v", tt.name, message, want)
		}
		if _, strays, err := transcode.Decode(transcode.Binary, encoded, testType); err != nil || strays.Any() {
			t.Errorf("%s: again: %v, strays %s", tt.name, err, &strays)
		}
	}
}

// What binary can say and JSON cannot is refused with the field's path, and
// nothing is sent.
func TestRequestInexpressible(t *testing.T) {
	mask := func(paths ...string) []byte { return marshaled(&fieldmaskpb.FieldMask{Paths: paths}) }
	nan := structpb.NewNumberValue(math.NaN())
	tests := []struct {
		name, want string
		data       []byte
	}{
		{"mask *", "mask: it is not a field mask that JSON can express", in("mask", mask("*"))},
		{"mask in camelCase", "mask: it is not", in("mask", mask("displayName"))},
		{"mask with digits", "mask: it is not", in("mask", mask("a_1"))},
		{"deep mask", "child.children[1].mask: it is not", in("child", append(in("children", nil), in("children", in("mask", mask("a", "*")))...))},
		{"mask in a map", `by_name["a b"].mask: it is not`, in("by_name", append(protowire.AppendString([]byte{0x0a}, "a b"),
			protowire.AppendBytes([]byte{0x12}, in("mask", mask("*")))...))},
		{"mask in an Any", "any.mask: it is not", in("any", marshaled(&anypb.Any{TypeUrl: ourType, Value: in("mask", mask("*"))}))},
		{"duration, signs", "wait: it is not a duration", in("wait", marshaled(&durationpb.Duration{Seconds: 1, Nanos: -1}))},
		{"duration, range", "wait: it is not a duration", in("wait", marshaled(&durationpb.Duration{Seconds: 315576000001}))},
		{"time, range", "times[1]: it is not a time", append(in("times", nil), in("times", marshaled(&timestamppb.Timestamp{Seconds: 253402300800}))...)},
		{"time, nanos", "created_at: it is not a time", in("created_at", marshaled(&timestamppb.Timestamp{Nanos: -1}))},
		{"value, unset", "value: it is not what JSON can express", in("value", nil)},
		{"value, NaN", "value: it is not what JSON can express", in("value", marshaled(nan))},
		{"values", "values[0]: it is not what JSON can express", in("values", nil)},
		{"struct", "struct: it is not what JSON can express", in("struct", marshaled(&structpb.Struct{Fields: map[string]*structpb.Value{"a": nan}}))},
	}
	r := testRoute(t, "Change")
	for _, tt := range tests {
		message, _, err := transcode.Decode(transcode.Binary, tt.data, testType)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		message.ProtoReflect().Set(r.Input.Descriptor().Fields().ByName("id"), idValue)
		_, err = transcode.Request(r, message)
		var f *fault.Fault
		if !errors.As(err, &f) || f.Code != connect.CodeInvalidArgument || !strings.Contains(f.Message, tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
			continue
		}
		if field, _, _ := strings.Cut(tt.want, ": "); f.Metadata["field"] != field {
			t.Errorf("%s: the field is %q, want %q", tt.name, f.Metadata["field"], field)
		}
	}
}

// C1 gets what the message says: the path's field is not in the body, what is
// there and zero is.
func TestRequestBody(t *testing.T) {
	message, _ := answered(t, fullText)
	full := parsed(t, fullText).ProtoReflect()
	full.Clear(full.Descriptor().Fields().ByName("id"))
	checkRequest(t, testRoute(t, "Change"), message, string(protojsonOf(t, full.Interface())))
	message, _ = answered(t, `{"maybeInt":0,"int":0,"maybeText":""}`)
	checkRequest(t, testRoute(t, "Change"), message, `{"maybeInt":0,"maybeText":""}`)
}

// Text that is none, which only a program of our own can put in a message, is
// not written.
func TestEncodeText(t *testing.T) {
	for _, text := range []string{"\xff", "é\xff", "\"\xff", "a\xc0\xaf"} {
		message := &appv1.ConnectorView{Connector: &appv1.Connector{UserIds: []string{"a", text}}}
		if _, err := transcode.Encode(transcode.JSON, message); err == nil || !strings.Contains(err.Error(), "connector.user_ids[1]: it is not text") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}
