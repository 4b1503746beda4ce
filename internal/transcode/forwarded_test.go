package transcode_test

import (
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// refused says whether err is a caller's mistake with the field.
func refused(err error, field string) bool {
	var f *fault.Fault
	return errors.As(err, &f) && f.Code == connect.CodeInvalidArgument && f.Reason == fault.BadRequest && f.Metadata["field"] == field
}

// What C1 will read anyway passes, and is counted.
func TestBodyPasses(t *testing.T) {
	r := testRoute(t, "Change")
	for data, want := range map[string]struct{ message, strays string }{
		`{}`:     {`{}`, ""},
		" {}\n ": {`{}`, ""},
		`{"new":{"a":[null]},"child":{"newer":1}}`:                  {`{"child":{}}`, "2 unknown_field (first: new)"},
		`{"color":"GREEN","colors":["RED","BLACK"]}`:                {`{"colors":["RED"]}`, "2 unknown_enum_value (first: color)"},
		`{"child":{"id":"the path holds only the one at the top"}}`: {`{"child":{"id":"the path holds only the one at the top"}}`, ""},
		`{"any":{"@type":"` + ourType + `","new":1,"id":"a"}}`:      {`{"any":{"@type":"` + ourType + `","id":"a"}}`, "1 unknown_field (first: any.new)"},
		`{"struct":{"id":1,"n":9007199254740993}}`:                  {`{"struct":{"id":1,"n":9007199254740992}}`, ""},
		`{"values":[null],"maybe_int":0,"createdAt":null}`:          {`{"values":[null],"maybeInt":0}`, ""},
	} {
		got, strays, err := readBody(r, []byte(data))
		if err != nil || !proto.Equal(got, parsed(t, want.message)) || strays.String() != want.strays {
			t.Errorf("%s: got %v, %v, strays %q, want %q", data, got, err, strays.String(), want.strays)
		}
	}
	got, strays, err := readBody(r, []byte(`{"any":{"@type":"u","a":1}}`))
	if err != nil || strays.Count(transcode.UnknownType) != 1 {
		t.Fatalf("got %v, strays %s", err, &strays)
	}
	checkRequest(t, r, got, `{"any":{"@type":"u","a":1}}`)
}

// What C1 could read otherwise than c1proxy does is refused, with its path.
// All that nobody can read is in TestMistakes.
func TestBodyRefused(t *testing.T) {
	r := testRoute(t, "Change")
	for data, field := range map[string]string{
		``:                             "",
		` `:                            "",
		`null`:                         "",
		`[]`:                           "",
		`"a"`:                          "",
		`{}{}`:                         "",
		`{} x`:                         "",
		`{"id":"a"}`:                   "id",
		`{"id":null}`:                  "id",
		`{"\u0069d":null}`:             "id",
		`{"texts":["a",null]}`:         "texts[1]",
		`{"children":[null]}`:          "children[0]",
		`{"labels":{"a":null}}`:        "labels.a",
		`{"maybe_int":1,"maybeInt":2}`: "maybe_int",
		`{"children":[{"createdAt":null,"created_at":null}]}`:                   "children[0].created_at",
		`{"new":{"a":1,"a":1}}`:                                                 "new.a",
		`{"any":{"@type":"u","a":[{"b":1,"b":2}]}}`:                             "any.a[0].b",
		`{"any":{"@type":"` + ourType + `","maybeInt":1,"maybe_int":1}}`:        "any.maybe_int",
		`{"left":"a","right":"RED"}`:                                            "right",
		`{"any":{"@type":"` + transcode.ObjectURL + `","value":{"@type":"u"}}}`: "any",
		`{"color":"3"}`:    "color",
		`{"color":" RED"}`: "color",
		`{"color":""}`:     "color",
	} {
		if _, _, err := readBody(r, []byte(data)); !refused(err, field) {
			t.Errorf("%s: got %v, want a refusal of %q", data, err, field)
		}
	}
	// An input that is not an object in JSON.
	whole := &route.Route{Input: (*structpb.Value)(nil).ProtoReflect().Type()}
	if _, _, err := readBody(whole, []byte(`[1]`)); !refused(err, "") {
		t.Errorf("an array: got %v", err)
	}
	// Both spellings of a field that the path binds.
	force := routeOf(t, "ForceSync")
	for _, key := range []string{"appId", "app_id", "connectorId", "connector_id"} {
		_, _, err := readBody(force, []byte(`{"`+key+`":"a"}`))
		if !refused(err, strings.NewReplacer("I", "_i").Replace(key)) {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

func TestQuery(t *testing.T) {
	r := testRoute(t, "Look")
	tests := []struct{ raw, want, strays, field string }{
		{raw: "", want: `{}`},
		{raw: "page_size=5&maybe=", want: `{"pageSize":5,"maybe":""}`},
		{raw: "maybe", want: `{"maybe":""}`},
		{raw: "maybe=a%20b+c%3B%26=%C3%A9", want: `{"maybe":"a b c;&=é"}`},
		{raw: "texts=a&texts=&texts=a&p%61ge_size=0", want: `{"texts":["a","","a"]}`},
		{raw: "big=-9223372036854775808&huge=18446744073709551615&uint=0&flag=true&real=1.5e3&half=-0.5&data=AQI%3D",
			want: `{"big":"-9223372036854775808","huge":"18446744073709551615","flag":true,"real":1500,"half":-0.5,"data":"AQI="}`},
		{raw: "data=_-8%3D&flag=false&real=1", want: `{"data":"/+8=","real":1}`},
		{raw: "color=RED&colors=BLUE&colors=GREEN&colors=7", want: `{"color":"RED","colors":["BLUE",7]}`, strays: "1 unknown_enum_value (first: colors)"},
		{raw: "color=GREEN", want: `{}`, strays: "1 unknown_enum_value (first: color)"},
		{raw: "nope=1", field: "nope"},
		{raw: "pageSize=1", field: "pageSize"},
		{raw: "id=a", field: "id"},
		{raw: "child=a", field: "child"},
		{raw: "child.id=a", field: `["child.id"]`},
		{raw: "labels=a", field: "labels"},
		{raw: "page_size=1&page_size=1", field: "page_size"},
		{raw: "maybe=&maybe=a", field: "maybe"},
		{raw: "maybe=a;texts=b"},
		{raw: "maybe=a HTTP/1.1"},
		{raw: "maybe=a#b"},
		{raw: "maybe=é"},
		{raw: "maybe=\xff"},
		{raw: "maybe=\x7f"},
		{raw: "maybe=a\r\n"},
		{raw: `maybe="`},
		{raw: "maybe=<b>"},
		{raw: "maybe=[a]{b}|^`\\'/?:@!$,*~", want: `{"maybe":"[a]{b}|^` + "`" + `\\'/?:@!$,*~"}`},
		{raw: "maybe=a&"},
		{raw: "&maybe=a"},
		{raw: "maybe=a&&texts=b"},
		{raw: "=a"},
		{raw: "%6"},
		{raw: "%ff=a"},
		{raw: "maybe=%zz", field: "maybe"},
		{raw: "maybe=%ff", field: "maybe"},
		{raw: "maybe=%c0%af", field: "maybe"},
		{raw: "page_size=", field: "page_size"},
		{raw: "page_size=010", field: "page_size"},
		{raw: "page_size=0x10", field: "page_size"},
		{raw: "page_size=%2B5", field: "page_size"},
		{raw: "page_size=+5", field: "page_size"},
		{raw: "page_size=1e1", field: "page_size"},
		{raw: "page_size=-0", field: "page_size"},
		{raw: "page_size=1_0", field: "page_size"},
		{raw: "page_size=2147483648", field: "page_size"},
		{raw: "uint=-1", field: "uint"},
		{raw: "uint=4294967296", field: "uint"},
		{raw: "huge=01", field: "huge"},
		{raw: "big=9223372036854775808", field: "big"},
		{raw: "flag=1", field: "flag"},
		{raw: "flag=True", field: "flag"},
		{raw: "flag=", field: "flag"},
		{raw: "real=NaN", field: "real"},
		{raw: "real=0x1p3", field: "real"},
		{raw: "real=1.", field: "real"},
		{raw: "real=+1", field: "real"},
		{raw: "real=1+", field: "real"},
		{raw: "real=1e999", field: "real"},
		{raw: "half=1e39", field: "half"},
		{raw: "data=AQ", field: "data"},
		{raw: "data=A*", field: "data"},
		{raw: "data=AQ%0AI%3D", field: "data"},
		{raw: "color=3x", field: "color"},
		{raw: "color=0x1", field: "color"},
		{raw: "color=01", field: "color"},
		{raw: "color=-0", field: "color"},
		{raw: "color=", field: "color"},
	}
	for _, tt := range tests {
		got := r.Input.New().Interface()
		strays, err := transcode.Query(r, tt.raw, got)
		if tt.want == "" {
			if !refused(err, tt.field) {
				t.Errorf("%s: got %v, want a refusal of %q", tt.raw, err, tt.field)
			}
			continue
		}
		want := r.Input.New().Interface()
		if err := protojson.Unmarshal([]byte(tt.want), want); err != nil {
			t.Fatal(err)
		}
		if err != nil || !proto.Equal(got, want) || strays.String() != tt.strays {
			t.Errorf("%s: got %v, %v, strays %q", tt.raw, got, err, strays.String())
		}
	}
	// What is no parameter is said to be none.
	for _, raw := range []string{"nope=1", "id=a", "child=1", "labels=1"} {
		if _, err := transcode.Query(r, raw, r.Input.New().Interface()); err == nil || !strings.Contains(err.Error(), "does not declare") {
			t.Errorf("%s: got %v", raw, err)
		}
	}
	// A method with a body has no query.
	if _, err := transcode.Query(testRoute(t, "Change"), "int=1", testType.New().Interface()); !refused(err, "int") {
		t.Errorf("a POST: got %v", err)
	}
}
