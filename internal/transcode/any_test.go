package transcode_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// fullText has every field set, of a oneof one, and no Any.
const fullText = `{"id":"a\"\\\n\u2028é","createdAt":"2026-01-02T03:04:05.678Z","big":"-9007199254740993","huge":"18446744073709551615","int":-1,
	"uint":4294967295,"flag":true,"data":"AQID/w==","real":1.5e-7,"half":3.4e38,"color":"RED","maybeInt":0,"maybeText":"","maybeColor":7,
	"child":{"id":"b","child":{}},"mask":"aB,c","wait":"1.000000001s","wrapped":"","wrappedBig":"0","struct":{"b":[1,{"a":null}],"a":"<>&"},
	"value":null,"valuesList":[1,"a"],"empty":{},"nothing":null,"both":{"right":"BLUE"},"texts":["","a"],"numbers":["1","-2"],"colors":["RED",9],
	"children":[{},{"id":"c"}],"times":["2026-01-02T03:04:05Z"],"values":[null,true,{}],"nothings":[null],"wrappeds":["","x"],
	"labels":{"z":"1","a":"2","\"":"3"},"byName":{"k":{"id":"d"}},"colorByName":{"r":"RED"},"timeByName":{"t":"1970-01-01T00:00:00Z"},
	"valueByName":{"v":1},"byNumber":{"-1":"m","10":"n"},"byFlag":{"true":"y"}}`

// value is JSON as a value, to compare.
func value(t testing.TB, data []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return v
}

func sameJSON(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if g, w := value(t, got), value(t, want); !reflect.DeepEqual(g, w) {
		t.Errorf("%s: got %s, want %s", what, got, want)
	}
}

func protojsonOf(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// held returns the Any in the field any.
func held(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	message := m.ProtoReflect()
	data, err := proto.Marshal(message.Get(message.Descriptor().Fields().ByName("any")).Message().Interface())
	if err != nil {
		t.Fatal(err)
	}
	a := new(anypb.Any)
	if err := proto.Unmarshal(data, a); err != nil {
		t.Fatal(err)
	}
	return a
}

const (
	standardStruct = "type.googleapis.com/google.protobuf.Struct"
	ourType        = "type.googleapis.com/transcode.test.v1.Everything"
)

// objects are JSON objects in the place of an Any, with the type URL that a
// binary client sees.
var objects = map[string]string{
	`{}`:                                            "",
	`{"@type":"u/no.such.Type","id":"a"}`:           transcode.ObjectURL,
	`{"id":"a","@type":"u/no.such.Type"}`:           transcode.ObjectURL,
	`{"@type":"u"}`:                                 transcode.ObjectURL,
	`{"@type":""}`:                                  transcode.ObjectURL,
	`{"@type":5,"a":1}`:                             transcode.ObjectURL,
	`{"@type":null}`:                                transcode.ObjectURL,
	`{"@type":{"@type":"u"}}`:                       transcode.ObjectURL,
	`{"a":1}`:                                       transcode.ObjectURL,
	`{"value":{"a":1}}`:                             transcode.ObjectURL,
	`{"a":{"@type":"` + ourType + `"}}`:             transcode.ObjectURL,
	`{"a":[null,{"b":[]},1.5,"x",true,0]}`:          transcode.ObjectURL,
	`{"@type":"x/google.protobuf.NullValue","a":1}`: transcode.ObjectURL, // an enum
	`{"@type":"` + standardStruct + `","value":{"a":1}}`:                                       standardStruct,
	`{"@type":"` + standardStruct + `","value":{}}`:                                            standardStruct,
	`{"@type":"` + standardStruct + `","value":{"@type":7}}`:                                   standardStruct,
	`{"@type":"` + standardStruct + `","value":{"@type":"u","a":1}}`:                           transcode.ObjectURL,
	`{"@type":"` + standardStruct + `","value":{"@type":"` + ourType + `"}}`:                   transcode.ObjectURL,
	`{"@type":"` + ourType + `","id":"a"}`:                                                     ourType,
	`{"@type":"` + ourType + `"}`:                                                              ourType,
	`{"@type":"other.host/transcode.test.v1.Everything","id":"a"}`:                             "other.host/transcode.test.v1.Everything",
	`{"@type":"` + ourType + `","any":{"@type":"u","id":"a"},"anys":[{"b":2},{}]}`:             ourType,
	`{"@type":"` + ourType + `","any":{"@type":"` + standardStruct + `","value":{"@type":1}}}`: ourType,
	`{"@type":"x/google.protobuf.Any","value":{"@type":"u","id":"a"}}`:                         "x/google.protobuf.Any",
	`{"@type":"x/google.protobuf.Duration","value":"1.500s"}`:                                  "x/google.protobuf.Duration",
	`{"@type":"x/google.protobuf.Value","value":null}`:                                         "x/google.protobuf.Value",
	`{"@type":"x/google.protobuf.Int64Value","value":"9007199254740993"}`:                      "x/google.protobuf.Int64Value",
	`{"@type":"x/google.protobuf.Empty"}`:                                                      "x/google.protobuf.Empty",
}

// Whatever object C1 puts in the place of an Any, each client gets an Any that
// its protobuf library can read, and what it sends back reaches C1 as that
// object.
func TestAnyComesBack(t *testing.T) {
	change := testRoute(t, "Change")
	for object, url := range objects {
		for _, data := range []string{`{"any":` + object + `}`, `{"anys":[{},` + object + `]}`, `{"anyByName":{"k":` + object + `}}`,
			`{"children":[{"both":{"any":` + object + `}}]}`} {
			answer, strays := answered(t, data)
			if strays.Count(transcode.UnknownField)+strays.Count(transcode.NullElement) > 0 {
				t.Errorf("%s: strays %s", data, &strays)
			}
			if strings.HasPrefix(data, `{"any":`) {
				checkHeld(t, object, url, held(t, answer))
			}
			for _, codec := range []transcode.Codec{transcode.JSON, transcode.Binary} {
				encoded, err := transcode.Encode(codec, answer)
				if err != nil {
					t.Fatalf("%s, %s: %v", data, codec, err)
				}
				if codec == transcode.JSON {
					theirs := testType.New().Interface()
					if err := protojson.Unmarshal(encoded, theirs); err != nil || !proto.Equal(theirs, answer) {
						t.Errorf("%s: a client reads %v (%v)", encoded, theirs, err)
					}
				}
				request, strays, err := transcode.Decode(codec, encoded, testType)
				if err != nil || !proto.Equal(request, answer) || strays.Count(transcode.UnknownField) > 0 {
					t.Errorf("%s, %s: came back as %v (%v)", data, codec, request, err)
					continue
				}
				request.ProtoReflect().Set(testType.Descriptor().Fields().ByName("id"), answer.ProtoReflect().NewField(testType.Descriptor().Fields().ByName("id")))
				checkRequest(t, change, request, data)
			}
		}
	}
}

// checkHeld holds what a binary client sees against the object.
func checkHeld(t *testing.T, object, url string, got *anypb.Any) {
	t.Helper()
	if got.GetTypeUrl() != url {
		t.Errorf("%s: got type URL %q, want %q", object, got.GetTypeUrl(), url)
	}
	if url != transcode.ObjectURL {
		return
	}
	kept := new(structpb.Struct)
	if err := got.UnmarshalTo(kept); err != nil {
		t.Errorf("%s: %v", object, err)
	}
	sameJSON(t, "the Struct", protojsonOf(t, kept), []byte(object))
}

// A binary client that has no such message packs a Struct; what C1 reads
// decides what it means.
func TestAnyOfStruct(t *testing.T) {
	tests := []struct{ name, url, held, want, wantURL string }{
		{"unknown type", standardStruct, `{"@type":"u","a":1}`, `{"@type":"u","a":1}`, transcode.ObjectURL},
		{"unknown type, ours", transcode.ObjectURL, `{"@type":"u","a":1}`, `{"@type":"u","a":1}`, transcode.ObjectURL},
		{"a plain Struct", standardStruct, `{"a":1}`, `{"@type":"` + standardStruct + `","value":{"a":1}}`, standardStruct},
		{"no type", transcode.ObjectURL, `{"a":1}`, `{"a":1}`, transcode.ObjectURL},
		{"nothing", transcode.ObjectURL, `{}`, `{}`, ""},
		{"known type", standardStruct, `{"@type":"` + ourType + `","id":"a"}`, `{"@type":"` + ourType + `","id":"a"}`, ourType},
		{"known type, ours", transcode.ObjectURL, `{"@type":"` + ourType + `","id":"a"}`, `{"@type":"` + ourType + `","id":"a"}`, ourType},
		{"well-known type", standardStruct, `{"@type":"x/google.protobuf.Duration","value":"1s"}`,
			`{"@type":"x/google.protobuf.Duration","value":"1s"}`, "x/google.protobuf.Duration"},
		{"standard form within", transcode.ObjectURL, `{"@type":"` + standardStruct + `","value":{"a":1}}`,
			`{"@type":"` + standardStruct + `","value":{"a":1}}`, standardStruct},
	}
	change := testRoute(t, "Change")
	for _, tt := range tests {
		kept := new(structpb.Struct)
		if err := protojson.Unmarshal([]byte(tt.held), kept); err != nil {
			t.Fatal(err)
		}
		packed, _ := proto.Marshal(kept)
		data := binaryAny(&anypb.Any{TypeUrl: tt.url, Value: packed})
		message, strays, err := transcode.Decode(transcode.Binary, data, testType)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if kept := strays.Count(transcode.UnknownType); (kept == 1) != (tt.wantURL == transcode.ObjectURL) {
			t.Errorf("%s: strays %s", tt.name, &strays)
		}
		if got := held(t, message).GetTypeUrl(); got != tt.wantURL {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.wantURL)
		}
		checkRequest(t, change, message, `{"any":`+tt.want+`}`)
		// What is decided on the message is decided on what C1 reads.
		read, _ := answered(t, `{"any":`+tt.want+`}`)
		if diff := cmp.Diff(read, message, protocmp.Transform()); diff != "" {
			t.Errorf("%s: C1 reads something else: %s", tt.name, diff)
		}
	}
}

func TestAnysOfStruct(t *testing.T) {
	kept := marshaled(&anypb.Any{TypeUrl: transcode.ObjectURL, Value: marshaled(&structpb.Struct{Fields: map[string]*structpb.Value{"a": {Kind: &structpb.Value_NullValue{}}}})})
	_, strays, err := transcode.Decode(transcode.Binary, append(in("anys", kept), in("anys", kept)...), testType)
	if want := "2 unknown_any_type (first: anys[0])"; err != nil || strays.String() != want {
		t.Errorf("got %v, strays %q, want %q", err, strays.String(), want)
	}
}

// deepAny is an empty Any in n others.
func deepAny(n int) *anypb.Any {
	a := new(anypb.Any)
	for range n {
		a = &anypb.Any{TypeUrl: "x/google.protobuf.Any", Value: marshaled(a)}
	}
	return a
}

// Messages in Anys are bounded by no parser's limit, so both ways have one.
func TestAnyDepth(t *testing.T) {
	anyType := (*anypb.Any)(nil).ProtoReflect().Type()
	for n, ok := range map[int][2]bool{99: {true, true}, 100: {true, true}, 101: {true, false}, 299: {true, false}, 300: {false, false}, 5000: {false, false}} {
		if _, _, err := transcode.Decode(transcode.Binary, marshaled(deepAny(n)), anyType); (err == nil) != ok[0] {
			t.Errorf("%d: Decode: %v", n, err)
		}
		if _, err := transcode.Encode(transcode.JSON, deepAny(n)); (err == nil) != ok[1] {
			t.Errorf("%d: Encode: %v", n, err)
		}
	}
}

// A JSON client that knows ObjectURL by its binary form may write that form.
func TestObjectURLInJSON(t *testing.T) {
	message, _, err := transcode.Decode(transcode.JSON,
		[]byte(`{"any":{"@type":"`+transcode.ObjectURL+`","value":{"@type":"u","a":1}}}`), testType)
	if err != nil {
		t.Fatal(err)
	}
	checkRequest(t, testRoute(t, "Change"), message, `{"any":{"@type":"u","a":1}}`)
}

// binaryAny is a message with the field any, in binary.
func binaryAny(a *anypb.Any) []byte {
	value, _ := proto.Marshal(a)
	number := testType.Descriptor().Fields().ByName("any").Number()
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), value)
}

// wrongAny are Anys of a binary request that no JSON can be made of.
func TestAnyRefused(t *testing.T) {
	nan, _ := proto.Marshal(&structpb.Struct{Fields: map[string]*structpb.Value{"@type": structpb.NewStringValue("u"), "n": {}}})
	unknownInside, _ := proto.Marshal(&structpb.Struct{Fields: map[string]*structpb.Value{
		"@type": structpb.NewStringValue(ourType), "nope": structpb.NewBoolValue(true)}})
	tests := []struct {
		name string
		any  *anypb.Any
		want string
	}{
		{"unknown type", &anypb.Any{TypeUrl: "u/no.such.Type", Value: []byte{1}}, "any: the Any is of a type that is not known here"},
		{"no type", &anypb.Any{Value: []byte{1}}, "any: the Any has a value, but no type URL"},
		{"garbage", &anypb.Any{TypeUrl: ourType, Value: []byte{0xff}}, "any: the Any does not hold a transcode.test.v1.Everything"},
		{"garbage for ours", &anypb.Any{TypeUrl: transcode.ObjectURL, Value: []byte{0xff}}, "any: the Any does not hold a google.protobuf.Struct"},
		{"no JSON", &anypb.Any{TypeUrl: standardStruct, Value: nan}, "any: it is not what JSON can express"},
		{"known type, unknown field", &anypb.Any{TypeUrl: standardStruct, Value: unknownInside}, "any.nope: unknown field"},
		{"deep", deepAny(350), "it nests deeper than 300"},
		{"deep for JSON", deepAny(100), "it nests deeper than 100"},
	}
	for _, tt := range tests {
		message, _, err := transcode.Decode(transcode.Binary, binaryAny(tt.any), testType)
		if err == nil {
			r := testRoute(t, "Change")
			message.ProtoReflect().Set(r.Input.Descriptor().Fields().ByName("id"), idValue)
			_, err = transcode.Request(r, message)
		}
		var f *fault.Fault
		if !errors.As(err, &f) || f.Code != connect.CodeInvalidArgument || !strings.Contains(f.Message, tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}
