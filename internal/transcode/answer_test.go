package transcode_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// What a C1 that is newer, or careless, says is dropped and counted, and the
// rest of the answer is there.
func TestAnswerDrops(t *testing.T) {
	tests := []struct{ name, data, want, strays string }{
		{"unknown field", `{"id":"a","newField":{"a":[1,{"b":null}]}}`, `{"id":"a"}`, "1 unknown_field (first: newField)"},
		{"unknown fields deep", `{"children":[{},{"child":{"x":1,"id":"a","y-z":2,"a b\n":3}}]}`, `{"children":[{},{"child":{"id":"a"}}]}`,
			"3 unknown_field (first: children[1].child.x)"},
		{"unknown field, not printable", `{"é\u0000\n":1}`, `{}`, `1 unknown_field (first: ["\u00e9\x00\n"])`},
		{"unknown field in a map", `{"byName":{"k e y":{"x":1}}}`, `{"byName":{"k e y":{}}}`, `1 unknown_field (first: by_name["k e y"].x)`},
		{"extension", `{"[transcode.test.v1.ext]":1}`, `{}`, `1 unknown_field (first: ["[transcode.test.v1.ext]"])`},
		{"unknown enum", `{"id":"a","color":"GREEN"}`, `{"id":"a"}`, "1 unknown_enum_value (first: color)"},
		{"unknown enum, optional", `{"maybeColor":"GREEN"}`, `{}`, "1 unknown_enum_value (first: maybe_color)"},
		{"unknown enum in a oneof", `{"right":"GREEN"}`, `{}`, "1 unknown_enum_value (first: right)"},
		{"unknown enum in a list", `{"colors":["RED","GREEN","BLUE","x"]}`, `{"colors":["RED","BLUE"]}`, "2 unknown_enum_value (first: colors[1])"},
		{"unknown enum in a map", `{"colorByName":{"a":"RED","b":"GREEN"}}`, `{"colorByName":{"a":"RED"}}`,
			"1 unknown_enum_value (first: color_by_name.b)"},
		{"unknown enum number", `{"color":7,"colors":[8,1]}`, `{"color":7,"colors":[8,1]}`, ""},
		{"null in a list of messages", `{"children":[null,{"id":"a"},null]}`, `{"children":[{"id":"a"}]}`, "2 null_element (first: children[0])"},
		{"null in a list of scalars", `{"texts":["a",null,"b"],"numbers":[null]}`, `{"texts":["a","b"]}`, "2 null_element (first: texts[1])"},
		{"null in other lists", `{"times":[null],"anys":[null],"colors":[null],"wrappeds":[null,"a"]}`, `{"wrappeds":["a"]}`,
			"4 null_element (first: times[0])"},
		{"null in maps", `{"labels":{"a":null,"b":"c"},"byName":{"a":null},"timeByName":{"a":null},"anyByName":{"a":null}}`, `{"labels":{"b":"c"}}`,
			"4 null_element (first: labels.a)"},
		{"null where it is a value", `{"values":[null,1],"nothings":[null],"valueByName":{"a":null},"value":null,"free":null,"nothing":null}`,
			`{"values":[null,1],"nothings":[null],"valueByName":{"a":null},"value":null,"free":null,"nothing":null}`, ""},
		{"null fields", `{"id":null,"big":null,"child":null,"texts":null,"labels":null,"any":null,"createdAt":null,"mask":null,"wrapped":null,
			"maybeInt":null,"struct":null,"left":null,"right":"RED"}`, `{"right":"RED"}`, ""},
		{"in an Any of a known type", `{"any":{"@type":"x/transcode.test.v1.Everything","new":1,"color":"GREEN","texts":[null],"id":"a"}}`,
			`{"any":{"@type":"x/transcode.test.v1.Everything","id":"a"}}`,
			"1 unknown_field (first: any.new), 1 unknown_enum_value (first: any.color), 1 null_element (first: any.texts[0])"},
		{"in an Any of a well-known type", `{"any":{"@type":"x/google.protobuf.Duration","new":1,"value":"1s"}}`,
			`{"any":{"@type":"x/google.protobuf.Duration","value":"1s"}}`, "1 unknown_field (first: any.new)"},
		{"@type is no field of a message", `{"@type":"x"}`, `{}`, "1 unknown_field (first: @type)"},
		{"@type in a Struct", `{"struct":{"@type":"x","a":{"@type":1}},"value":{"@type":"y"}}`,
			`{"struct":{"@type":"x","a":{"@type":1}},"value":{"@type":"y"}}`, ""},
		{"white space", " \n{\t\"id\" :\r\"a\" , \"texts\" : [ \"b\" , \"c\" ] } \n", `{"id":"a","texts":["b","c"]}`, ""},
	}
	for _, tt := range tests {
		got, strays := answered(t, tt.data)
		if diff := cmp.Diff(parsed(t, tt.want), got, protocmp.Transform()); diff != "" || strays.String() != tt.strays {
			t.Errorf("%s: strays %q, want %q %s", tt.name, strays.String(), tt.strays, diff)
		}
	}
}

// What protojson reads in ways of its own is read in the same way.
func TestAnswerKeeps(t *testing.T) {
	for _, data := range []string{
		`{"big":"9223372036854775807","huge":"18446744073709551615","int":-2147483648,"uint":4294967295}`,
		`{"big":-9223372036854775808,"huge":18446744073709551615,"int":"-1","numbers":["9007199254740993",9007199254740993,1e3,"1.5e1",-0]}`,
		`{"big":"0","int":0,"maybeInt":0,"maybeText":"","maybeColor":"COLOR_UNSPECIFIED"}`,
		`{"data":"AQID","real":1.5e300,"half":"Infinity"}`, `{"data":"_-8","real":"NaN","half":-0.0}`, `{"data":"_-8=","real":"1e3"}`,
		`{"created_at":"2026-01-02T03:04:05.678901234+02:00","maybe_int":1,"wait":"-0.5s","mask":"aB,c.dE"}`,
		`{"times":["0001-01-01T00:00:00Z","9999-12-31T23:59:59.999999999Z"],"wait":"315576000000s","mask":""}`,
		`{"wrapped":"","wrappedBig":"9007199254740993","wrappeds":["a",""],"empty":{}}`,
		`{"byNumber":{"-1":"a","9007199254740993":"b"},"byFlag":{"true":"x","false":"y"}}`,
		`{"id":"\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t","labels":{"\"\\":"\u0000","":"é"}}`,
		`{"struct":{"a":[1,"b",null,true,{"c":{}}]},"valuesList":[[],{},1e300],"value":"NaN"}`,
		`{"any":{"@type":"x/google.protobuf.Empty","value":{}}}`, `{"left":"","both":null}`, `{"both":{"both":{"left":"x"}}}`, `{"free":{"a":1}}`,
	} {
		got, strays := answered(t, data)
		if want := parsed(t, data); !proto.Equal(got, want) || strays.Any() { // NaN is equal here, and not to cmp
			t.Errorf("%s: strays %q, got %v, want %v", data, strays.String(), got, want)
		}
	}
}

// A field that is there is not the same as one that is not, in any codec.
func TestPresence(t *testing.T) {
	for data, there := range map[string]bool{`{"maybeInt":0,"maybeText":"","maybeColor":0,"child":{},"wrapped":""}`: true, `{}`: false, `{"maybeInt":null}`: false} {
		for _, codec := range []transcode.Codec{transcode.JSON, transcode.Binary} {
			message, _ := answered(t, data)
			encoded, err := transcode.Encode(codec, message)
			if err != nil {
				t.Fatal(err)
			}
			again, _, err := transcode.Decode(codec, encoded, testType)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []protoreflect.Name{"maybe_int", "maybe_text", "maybe_color", "child", "wrapped"} {
				m := again.ProtoReflect()
				if m.Has(m.Descriptor().Fields().ByName(name)) != there {
					t.Errorf("%s, %s: %s is there: %v, want %v", data, codec, name, !there, there)
				}
			}
		}
	}
}

// mistakes are bodies that nobody can read, with the path and the reason. What
// they say of a value is SECRET, which no error may repeat.
var mistakes = map[string]string{
	`{"left":"SECRET","right":"RED"}`: "right: another field of the oneof choice is set too",
	`{"right":"RED","both":{}}`:       "both: another field",
	`{"right":"RED","free":null}`:     "free: another field",
	`{"mask":"*"}`:                    "mask: it is not a field mask",
	`{"mask":"display_name"}`:         "mask: it is not a field mask",
	`{"wait":"PT1H"}`:                 "wait: it is not a duration in seconds such as 1.5s",
	`{"wait":"315576000001s"}`:        "wait: it is not a duration",
	`{"createdAt":""}`:                "created_at: it is not a time such as 2006",
	`{"children":[{},{},{},{"child":{"created_at":"SECRET"}}]}`:           "children[3].child.created_at: it is not a time",
	`{"byName":{"a b":{"times":["2026-01-02T03:04:05Z","SECRET"]}}}`:      `by_name["a b"].times[1]: it is not a time`,
	`{"id":"SECRET","id":"b"}`:                                            "id: duplicate field",
	`{"createdAt":null,"created_at":null}`:                                "created_at: duplicate field",
	`{"child":{"maybeInt":1,"maybe_int":2}}`:                              "child.maybe_int: duplicate field",
	`{"new":1,"new":2}`:                                                   "new: duplicate field",
	`{"new":{"a":[{"b":1,"\u0062":2}]}}`:                                  "new.a[0].b: duplicate field",
	`{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"c":2}`: "c: duplicate field",
	`{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"j":2}`: "j: duplicate field",
	`{"labels":{"a":"SECRET","a":"b"}}`:                                   "labels.a: duplicate field",
	`{"labels":{"a":null,"a":"b"}}`:                                       "labels.a: ",
	`{"byNumber":{"1":"a","01":"b"}}`:                                     "by_number.01: duplicate field",
	`{"struct":{"a":{"b":1,"b":2}}}`:                                      "struct.a.b: duplicate field",
	`{"any":{"@type":"u","a":{"b":1,"b":2}}}`:                             "any.a.b: duplicate field",
	`{"any":{"@type":"u","@type":"u"}}`:                                   "any.@type: duplicate field",
	`{"any":{"@type":"x/transcode.test.v1.Everything","texts":1}}`:        "any.texts: it is not an array",
	`{"any":{"@type":"x/transcode.test.v1.Everything","a":1,"a":1}}`:      "any.a: duplicate field",
	`{"any":{"@type":"x/google.protobuf.Duration"}}`:                      "any: an Any of this @type needs a value",
	`{"any":{"@type":"x/google.protobuf.Duration","value":"SECRET"}}`:     "any.value: it is not a duration",
	`{"any":{"a":1e999}}`:                                                 "any: it is not an object, or holds a number that is too large",
	`{"any":"SECRET"}`:                                                    "any: it is not an object",
	`{"anys":[{},[]]}`:                                                    "anys[1]: it is not an object",
	`{"value":1e999}`:                                                     "value: it is not a value",
	`{"struct":["SECRET"]}`:                                               "struct: it is not an object",
	`{"id":1}`:                                                            "id: it is not a string",
	`{"flag":"true"}`:                                                     "flag: it is not true or false",
	`{"big":"SECRET"}`:                                                    "big: it is not an integer of 64 bits",
	`{"big":9223372036854775808}`:                                         "big: it is not an integer of 64 bits",
	`{"big":"01"}`:                                                        "big: it is not an integer",
	`{"big":" 1"}`:                                                        "big: it is not an integer",
	`{"big":1.5}`:                                                         "big: it is not an integer",
	`{"huge":-1}`:                                                         "huge: it is not an unsigned integer of 64 bits",
	`{"int":2147483648}`:                                                  "int: it is not an integer of 32 bits",
	`{"uint":4294967296}`:                                                 "uint: it is not an unsigned integer of 32 bits",
	`{"uint":-1}`:                                                         "uint: it is not an unsigned integer of 32 bits",
	`{"half":1e39}`:                                                       "half: it is not a number of 32 bits",
	`{"real":{"a":"SECRET"}}`:                                             "real: it is not a number of 64 bits",
	`{"data":"*"}`:                                                        "data: it is not base64",
	`{"color":true}`:                                                      "color: it is not the name of an enum value",
	`{"color":1.5}`:                                                       "color: it is not the name of an enum value",
	`{"texts":"SECRET"}`:                                                  "texts: it is not an array",
	`{"child":[]}`:                                                        "child: it is not an object",
	`{"labels":[]}`:                                                       "labels: it is not an object",
	`{"byNumber":{"SECRET":"a"}}`:                                         "by_number.SECRET: the key is no int64",
	`{"byFlag":{"1":"a"}}`:                                                "by_flag.1: the key is no bool",
	"{\"id\":\"\xff\"}":                                                   "id: the string at byte 6 is not valid UTF-8",
	"{\"\xff\":1}":                                                        "the string at byte 1 is not valid UTF-8",
	"{\"new\":[\"\xc0\xaf\"]}":                                            "new[0]: the string",
	`{"id":"\ud800"}`:                                                     "id: the string",
	`{"new":"\ud800\u0041"}`:                                              "new: the string",
	`{"id":"\x"}`:                                                         "id: the string",
	"{\"id\":\"a\nb\"}":                                                   "id: unexpected token at byte 8",
	`{"id":"a`:                                                            "id: the JSON ends too early",
	`{"id":"a\`:                                                           "id: the JSON ends too early",
	`{"id":`:                                                              "id: the JSON ends too early",
	`{"id"`:                                                               "the JSON ends too early",
	`{"texts":["a"`:                                                       "texts[0]: the JSON ends too early",
	`{"int":01}`:                                                          "unexpected token",
	`{"int":1.}`:                                                          "unexpected token",
	`{"int":1e}`:                                                          "unexpected token",
	`{"new":-}`:                                                           "unexpected token",
	`{"new":+1}`:                                                          "unexpected token",
	`{"new":nul}`:                                                         "unexpected token",
	`{"flag":truE}`:                                                       "unexpected token",
	`{"new":truefalse}`:                                                   "unexpected token",
	`{"id":"a",}`:                                                         "unexpected token",
	`{"texts":["a",]}`:                                                    "unexpected token",
	`{,}`:                                                                 "unexpected token",
	`{"a" 1}`:                                                             "unexpected token",
	`{a:1}`:                                                               "unexpected token",
	`{"new":[1}`:                                                          "unexpected token",
	`{} SECRET`:                                                           "unexpected token at byte 3",
	`{}{}`:                                                                "unexpected token at byte 2",
	"{}\x00":                                                              "unexpected token at byte 2",
	"\ufeff{}":                                                            "",
	``:                                                                    "",
	`null`:                                                                "",
	`[]`:                                                                  "",
	`"SECRET"`:                                                            "",
	`<html>SECRET`:                                                        "",
	`{"new":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`:    "it nests deeper than 100",
	strings.Repeat(`{"child":`, 100) + `{}` + strings.Repeat(`}`, 100):       "it nests deeper than 100",
	strings.Repeat(`{"new":`, 100000):                                        "it nests deeper than 100",
	strings.Repeat(`{"any":{"@type":"x/transcode.test.v1.Everything",`, 200): "unexpected token",
}

func TestMistakes(t *testing.T) {
	r := testRoute(t, "Change")
	for data, want := range mistakes {
		_, _, answer := transcode.Answer([]byte(data), testType)
		_, _, body := readBody(r, []byte(strings.ReplaceAll(data, `"id":`, `"maybeText":`)))
		_, _, request := transcode.Decode(transcode.JSON, []byte(data), testType)
		for reader, err := range map[string]error{"Answer": answer, "Body": body, "Decode": request} {
			if err == nil {
				t.Errorf("%s: %.80q was read", reader, data)
				continue
			}
			text := err.Error()
			if strings.Contains(text, "SECRET") && !strings.Contains(want, "SECRET") {
				t.Errorf("%s: %.80q: %q repeats a value", reader, data, text)
			}
			if reader == "Answer" && !strings.Contains(text, want) {
				t.Errorf("%s: %.80q: got %q, want %q", reader, data, text, want)
			}
			var f *fault.Fault
			if reader != "Answer" && (!errors.As(err, &f) || f.Code != connect.CodeInvalidArgument || f.Reason != fault.BadRequest) {
				t.Errorf("%s: %.80q: got %v", reader, data, err)
			}
			if path, _, ok := strings.Cut(want, ": it is "); ok && reader == "Body" && path != "id" && f.Metadata["field"] != path {
				t.Errorf("%s: %.80q: the field is %q, want %q", reader, data, f.Metadata["field"], path)
			}
		}
	}
}

// Depth is what is open at one time, and 100 is not too deep.
func TestDepth(t *testing.T) {
	deep := `{"new":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `,"child":` + strings.Repeat(`{"child":`, 98) + `{"texts":[]}` + strings.Repeat("}", 98)
	_, strays := answered(t, deep[:len(deep)-len(`[]}`+strings.Repeat("}", 98))]+`null}`+strings.Repeat("}", 98)+`,"struct":{"a":[`+strings.Repeat("[],{},", 200)+`[]]}}`)
	if strays.Count(transcode.UnknownField) != 1 {
		t.Errorf("strays %s", &strays)
	}
	for _, deep := range []string{ // 100 objects and arrays each
		strings.Repeat(`{"any":`, 99) + `{"id":"a"` + strings.Repeat(`,"@type":"`+ourType+`"}`, 99) + `}`,
		strings.Repeat(`{"any":{"@type":"x/google.protobuf.Any","value":`, 49) + `{"any":{}}` + strings.Repeat(`}}`, 49),
		strings.Repeat(`{"children":[`, 50) + strings.Repeat(`]}`, 50),
		strings.Repeat(`{"byName":{"k":`, 49) + `{"byName":{}}` + strings.Repeat(`}}`, 49),
		`{"struct":` + strings.Repeat(`{"a":`, 99) + `1` + strings.Repeat(`}`, 99) + `}`,
		`{"value":` + strings.Repeat(`[`, 99) + strings.Repeat(`]`, 99) + `}`,
		`{"any":` + strings.Repeat(`{"a":`, 99) + `1` + strings.Repeat(`}`, 99) + `}`,
		strings.Repeat(`{"child":`, 99) + `{}` + strings.Repeat(`}`, 99),
	} {
		message, _ := answered(t, deep)
		survives(t, message)
		if _, _, err := transcode.Answer([]byte(`{"both":`+deep+`}`), testType); err == nil {
			t.Errorf("101 deep: %.60s was read", deep)
		}
	}
	wide, _ := answered(t, `{"children":[`+strings.Repeat(`{"child":{"any":{"@type":"`+ourType+`","child":{}}}},`, 200)+`{}]}`)
	survives(t, wide)
}

// A path is bounded, however long the keys are.
func TestPathBounded(t *testing.T) {
	key := strings.Repeat("k", 64)
	_, strays := answered(t, strings.Repeat(`{"byName":{"`+key+`":`, 20)+`{"`+strings.Repeat(`\u0000`, 1000)+`":1}`+strings.Repeat("}}", 20))
	if first := strays.First(transcode.UnknownField); len(first) != 256 || !strings.HasSuffix(first, "...") {
		t.Errorf("got %d bytes: %s", len(first), first)
	}
	_, strays = answered(t, `{"`+strings.Repeat("x", 5000)+`":1}`)
	if first := strays.First(transcode.UnknownField); len(first) > 70 {
		t.Errorf("got %d bytes: %s", len(first), first)
	}
}

func TestStrays(t *testing.T) {
	_, strays := answered(t, `{"a":1,"b":2,"color":"x","any":{"a":1},"texts":[null]}`)
	want := map[transcode.Kind]int{transcode.UnknownField: 2, transcode.UnknownEnum: 1, transcode.UnknownType: 1, transcode.NullElement: 1}
	if diff := cmp.Diff(want, maps.Collect(strays.All())); diff != "" {
		t.Error(diff)
	}
	for kind, n := range want {
		if strays.Count(kind) != n || strays.First(kind) == "" || kind.String() == "" {
			t.Errorf("%v: got %d at %q", kind, strays.Count(kind), strays.First(kind))
		}
	}
	if got := strays.LogValue().String(); got != strays.String() || !strays.Any() {
		t.Errorf("LogValue: got %q", got)
	}
	if _, none := answered(t, `{}`); none.Any() || none.String() != "" {
		t.Errorf("got %q of nothing", none.String())
	}
}

// The proto module's own JSON of a message without an Any is the writer's.
func TestEncodeAsProtojson(t *testing.T) {
	message, _ := answered(t, fullText)
	encoded, err := transcode.Encode(transcode.JSON, message)
	if err != nil {
		t.Fatal(err)
	}
	if again := parsed(t, string(encoded)); !proto.Equal(message, again) {
		t.Error(cmp.Diff(message, again, protocmp.Transform()))
	}
	sameJSON(t, "everything", encoded, protojsonOf(t, message))
}
