package route_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
)

// findings is a service with the oddities of C1's paths: a number of each
// kind in a path, and paths that are another operation's for some values.
const findings = `
name: "t/v1/findings.proto" package: "t.v1" syntax: "proto3" dependency: "google/api/annotations.proto"
message_type { name: "R"
  field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "other_id" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "i32" number: 3 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "i64" number: 4 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "u32" number: 5 type: TYPE_UINT32 label: LABEL_OPTIONAL }
  field { name: "u64" number: 6 type: TYPE_UINT64 label: LABEL_OPTIONAL } }
service { name: "S"
  method { name: "I32" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { post: "/i32/{i32}" body: "*" } } }
  method { name: "I64" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { post: "/i64/{i64}" body: "*" } } }
  method { name: "U32" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { post: "/u32/{u32}" body: "*" } } }
  method { name: "U64" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { post: "/u64/{u64}" body: "*" } } }
  method { name: "Two" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { post: "/two/{other_id}/of/{id}" body: "*" } } }
  method { name: "State" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { post: "/findings/{id}/state" body: "*" } } }
  method { name: "BulkState" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { post: "/findings/bulk/state" body: "*" } } }
  method { name: "PutState" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { put: "/findings/{id}/state" body: "*" } } }
  method { name: "Bind" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { post: "/apps/{id}/bindings/{other_id}" body: "*" } } }
  method { name: "Confirm" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { post: "/apps/connectors/{id}/confirm" body: "*" } } }
  method { name: "Talk" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { post: "/talks/{id}" body: "*" } } }
  method { name: "Ensure" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { post: "/talks/onboarding:ensure" body: "*" } } } }
`

// parse loads the routes of a file that is written as text.
func parse(t testing.TB, text string) (map[string]*route.Route, error) {
	t.Helper()
	var described descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(text), &described); err != nil {
		t.Fatal(err)
	}
	file, err := protodesc.NewFile(&described, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	files, types := new(protoregistry.Files), new(protoregistry.Types)
	if err := errors.Join(files.RegisterFile(file), types.RegisterMessage(dynamicpb.NewMessageType(file.Messages().Get(0)))); err != nil {
		t.Fatal(err)
	}
	routes, err := route.Load(files, types, "t.")
	byName := make(map[string]*route.Route)
	for _, r := range routes {
		byName[string(r.Descriptor.Name())] = r
	}
	return byName, err
}

func findingsRoutes(t testing.TB) map[string]*route.Route {
	routes, err := parse(t, findings)
	if err != nil {
		t.Fatal(err)
	}
	return routes
}

// refused says whether err is the refusal of a path value, and of which field.
func refused(err error) (field string, ok bool) {
	var f *fault.Fault
	if !errors.As(err, &f) || f.Code != connect.CodeInvalidArgument || f.Reason != fault.BadPathValue {
		return "", false
	}
	return f.Metadata["field"], true
}

// What a path holds is decoded once and then held to the same checks as what
// a message holds.
func TestBind(t *testing.T) {
	long := strings.Repeat("x", 257)
	tests := []struct {
		method, raw string
		want        string // the value in clear; of a refusal, what the record shows
		ok          bool
	}{
		{"Two", "2mPv3", "2mPv3", true},
		{"Two", "a%20b", "a b", true},
		{"Two", "a+b", "a+b", true},
		{"Two", "a%3ab", "a:b", true},
		{"Two", "a:b@c", "a:b@c", true},
		{"Two", "%61", "a", true},
		{"Two", "...", "...", true},
		{"Two", long[:256], long[:256], true},
		{"Two", strings.Repeat("%41", 256), strings.Repeat("A", 256), true},
		{"Two", "", "", false}, {"Two", ".", ".", false}, {"Two", "..", "..", false},
		{"Two", "%2e%2e", "..", false}, {"Two", "%2E", ".", false}, {"Two", ".%2e", "..", false},
		{"Two", "a%2fb", "a/b", false}, {"Two", "%2F", "/", false}, {"Two", "%5c", `\`, false}, {"Two", `\`, `\`, false},
		{"Two", "%252e", "%2e", false}, {"Two", "%25", "%", false}, {"Two", "%3f", "?", false}, {"Two", "%23", "#", false},
		{"Two", "a;b=c", "a;b=c", false}, {"Two", "a%3Bb", "a;b", false}, {"Two", "%00", "\x00", false}, {"Two", "%0d%0a", "\r\n", false},
		{"Two", "%c3%a9", "é", false}, {"Two", "é", "é", false}, {"Two", "%ff", "\xff", false}, {"Two", "a\x00", "a\x00", false},
		{"Two", "%", "%", false}, {"Two", "%2", "%2", false}, {"Two", "%zz", "%zz", false}, {"Two", "a%2", "a%2", false}, {"Two", "% 41", "% 41", false},
		{"Two", long, long, false}, {"Two", strings.Repeat("%41", 257), strings.Repeat("%41", 257), false},
		{"I32", "0", "0", true}, {"I32", "-2147483648", "-2147483648", true}, {"I32", "2147483648", "2147483648", false},
		{"I64", "9223372036854775807", "9223372036854775807", true}, {"I64", "9223372036854775808", "9223372036854775808", false},
		{"I64", "%37", "7", true}, {"I64", "-1", "-1", true},
		{"U32", "4294967295", "4294967295", true}, {"U32", "4294967296", "4294967296", false}, {"U32", "-1", "-1", false},
		{"U64", "18446744073709551615", "18446744073709551615", true}, {"U64", "18446744073709551616", "18446744073709551616", false},
	}
	for _, method := range []string{"I32", "I64", "U32", "U64"} {
		for _, raw := range []string{"", "+1", "-0", "007", "1.0", "1e3", "0x1", "1_0", " 1", "a"} {
			tests = append(tests, struct {
				method, raw, want string
				ok                bool
			}{method, raw, raw, false})
		}
	}
	routes := findingsRoutes(t)
	for _, tt := range tests {
		r := routes[tt.method]
		raw, at := []string{tt.raw}, 0
		if tt.method == "Two" {
			raw, at = []string{"first", tt.raw}, 1
		}
		message := r.Input.New()
		values, err := r.Bind(message, raw)
		if len(values) != len(raw) || values[at].Text != tt.want {
			t.Errorf("%s %.40q: got the values %.80v, want %.40q", tt.method, tt.raw, values, tt.want)
			continue
		}
		if field, bad := refused(err); bad == tt.ok || (err != nil) != bad || bad && field != values[at].Field {
			t.Errorf("%s %.40q: got %v, want ok %v", tt.method, tt.raw, err, tt.ok)
			continue
		}
		if tt.ok {
			if _, again, err := r.Expand(message); err != nil || again[at].Text != tt.want {
				t.Errorf("%s %.40q: expands to %v, %v", tt.method, tt.raw, again, err)
			}
		}
	}
}

// Values come in the template's order, and exactly as many as it has.
func TestBindCounts(t *testing.T) {
	r := findingsRoutes(t)["Two"]
	message := r.Input.New()
	if _, err := r.Bind(message, []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	if path, _, err := r.Expand(message); err != nil || path != "/two/a/of/b" {
		t.Errorf("got %q, %v", path, err)
	}
	for _, raw := range [][]string{nil, {"a"}, {"a", "b", "c"}} {
		if _, err := r.Bind(r.Input.New(), raw); fault.Of(err) == nil || fault.Of(err).Code != connect.CodeInternal {
			t.Errorf("%d values: got %v", len(raw), err)
		}
	}
}

// A value never makes a call another operation's, by message or by path.
func TestRivals(t *testing.T) {
	tests := []struct {
		method, id, other string
		rival, field      string // "" if it is legal
	}{
		{"State", "bulk", "", "BulkState", "id"},
		{"State", "Bulk", "", "", ""},
		{"State", "bulk2", "", "", ""},
		{"PutState", "bulk", "", "", ""},
		{"Bind", "connectors", "confirm", "Confirm", "id"},
		{"Bind", "connectors", "x", "", ""},
		{"Bind", "x", "confirm", "", ""},
		{"Confirm", "bindings", "", "Bind", "id"},
		{"Confirm", "x", "", "", ""},
		{"Talk", "onboarding:ensure", "", "Ensure", "id"},
		{"Talk", "onboarding", "", "", ""},
		{"BulkState", "", "", "", ""},
		{"Ensure", "", "", "", ""},
	}
	routes := findingsRoutes(t)
	for _, tt := range tests {
		r := routes[tt.method]
		message := r.Input.New()
		fields := message.Descriptor().Fields()
		var raw []string
		for _, s := range r.Segments {
			if s.Field != nil {
				text := map[string]string{"id": tt.id, "other_id": tt.other}[string(s.Field.Name())]
				message.Set(fields.ByName(s.Field.Name()), protoString(text))
				raw = append(raw, url.PathEscape(text))
			}
		}
		path, _, expandErr := r.Expand(message)
		_, bindErr := r.Bind(r.Input.New(), raw)
		for door, err := range map[string]error{"message": expandErr, "path": bindErr} {
			field, bad := refused(err)
			switch {
			case tt.rival == "" && err != nil:
				t.Errorf("%s %s %s by %s: %v", tt.method, tt.id, tt.other, door, err)
			case tt.rival != "" && (!bad || field != tt.field || !strings.Contains(err.Error(), "t.v1.S/"+tt.rival)):
				t.Errorf("%s %s %s by %s: got %q, %v, want a refusal that names %s", tt.method, tt.id, tt.other, door, path, err, tt.rival)
			}
		}
	}
}

// Two operations that no path tells apart fail the start, and both are named.
func TestLoadRefusesTwins(t *testing.T) {
	twin := `method { name: "Twin" input_type: ".t.v1.R" output_type: ".t.v1.R" options { [google.api.http] { post: "/findings/{other_id}/state" body: "*" } } } }`
	_, err := parse(t, strings.TrimSuffix(strings.TrimSpace(findings), "}")+twin)
	if err == nil || !strings.Contains(err.Error(), "t.v1.S/Twin") || !strings.Contains(err.Error(), "t.v1.S/State") {
		t.Errorf("got %v, want an error that names both", err)
	}
}

// P6, by path: what is bound expands to exactly the template's segments, each
// of which decodes to what the raw one decoded to; or it is refused, and then
// Expand refuses a message with that value too.
func FuzzBind(f *testing.F) {
	for _, raw := range []string{"a", "..", "%2e", "%252e", "a%2fb", "é", "a+b", "%", "007", "bulk"} {
		f.Add(raw, raw)
	}
	routes := findingsRoutes(f)
	r := routes["Two"]
	fields := r.Input.Descriptor().Fields()
	f.Fuzz(func(t *testing.T, first, second string) {
		message := r.Input.New()
		_, err := r.Bind(message, []string{first, second})
		one, err1 := url.PathUnescape(first)
		two, err2 := url.PathUnescape(second)
		if err != nil {
			if _, ok := refused(err); !ok {
				t.Fatalf("%q, %q: %v", first, second, err)
			}
			if err1 != nil || err2 != nil {
				return
			}
			message.Set(fields.ByName("other_id"), protoString(one))
			message.Set(fields.ByName("id"), protoString(two))
			if path, _, err := r.Expand(message); err == nil {
				t.Fatalf("%q, %q is refused as a path, and as a message is %q", first, second, path)
			}
			return
		}
		path, _, err := r.Expand(message)
		if err != nil {
			t.Fatalf("%q, %q is bound, and then refused: %v", first, second, err)
		}
		want := []string{"", "two", one, "of", two}
		segments := strings.Split(path, "/")
		if len(segments) != len(want) {
			t.Fatalf("%q has %d segments", path, len(segments))
		}
		for i, segment := range segments {
			if text, err := url.PathUnescape(segment); err != nil || text != want[i] || text == "." || text == ".." {
				t.Fatalf("segment %d of %q is %q, want %q", i, path, text, want[i])
			}
		}
	})
}

func protoString(text string) protoreflect.Value { return protoreflect.ValueOfString(text) }
