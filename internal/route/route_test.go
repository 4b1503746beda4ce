package route_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/api/visibility"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
)

func load(t testing.TB) map[string]*route.Route {
	routes, err := route.Load(protoregistry.GlobalFiles, protoregistry.GlobalTypes, "c1.")
	if err != nil {
		t.Fatal(err)
	}
	byMethod := make(map[string]*route.Route)
	for _, r := range routes {
		byMethod[r.Method()] = r
	}
	return byMethod
}

func confirm(t testing.TB) *route.Route {
	return load(t)["c1.api.app.v1.ConnectorService/ConfirmSyncValid"]
}

// Every registered method of the mirror has a route, and the class that its
// verb calls for.
func TestLoad(t *testing.T) {
	routes := load(t)
	service := appv1.File_c1_api_app_v1_app_proto.Services().ByName("ConnectorService")
	for i := range service.Methods().Len() {
		name := string(service.FullName()) + "/" + string(service.Methods().Get(i).Name())
		r := routes[name]
		if r == nil {
			t.Fatalf("%s has no route", name)
		}
		if r.ReadOnly != (r.Verb == "GET") || r.HasBody == (r.Verb == "GET") {
			t.Errorf("%s: verb %s, read-only %v, body %v", name, r.Verb, r.ReadOnly, r.HasBody)
		}
	}
}

func TestExpand(t *testing.T) {
	long := strings.Repeat("x", 257)
	tests := []struct {
		id, want string // want is the segment; "" if it is refused
	}{
		{"2mPv3", "2mPv3"},
		{"a.b", "a.b"},
		{"...", "..."},
		{".a", ".a"},
		{"a b", "a%20b"},
		{"a&b@c:d+e=f$g,h!i", "a%26b%40c%3Ad%2Be%3Df%24g%2Ch%21i"},
		{"a~b_c-d", "a~b_c-d"},
		{`"<>`, "%22%3C%3E"},
		{long[:256], long[:256]},
		{"", ""}, {".", ""}, {"..", ""}, {"a/b", ""}, {"/", ""}, {`\`, ""}, {"%2f", ""}, {"%252e", ""},
		{"a?b", ""}, {"a#b", ""}, {"a;b", ""}, {"a\r\nb", ""}, {"a\x00b", ""}, {"a\x7fb", ""}, {"é", ""}, {long, ""},
	}
	r := confirm(t)
	for _, tt := range tests {
		for field := range 3 {
			ids := [3]string{"app", "con", "syn"}
			ids[field] = tt.id
			message := &appv1.ConfirmSyncValidRequest{AppId: ids[0], ConnectorId: ids[1], SyncLifecycleId: ids[2]}
			path, values, err := r.Expand(message.ProtoReflect())
			ids[field] = tt.want
			want := "/api/v1/apps/" + ids[0] + "/connectors/" + ids[1] + "/confirm_sync_valid/" + ids[2]
			if tt.want != "" {
				if err != nil || path != want || len(values) != 3 || values[field].Text != tt.id {
					t.Errorf("%q: got %q, %v, %v; want %q", tt.id, path, values, err, want)
				}
				continue
			}
			var f *fault.Fault
			if !errors.As(err, &f) || f.Code != connect.CodeInvalidArgument || f.Reason != fault.BadPathValue {
				t.Errorf("%q: got %q, %v; want a refusal", tt.id, path, err)
			} else if got := f.Metadata["field"]; got != values[field].Field {
				t.Errorf("%q: the refusal names %q, want %q", tt.id, got, values[field].Field)
			}
		}
	}
}

// P6: whatever the values are, the path has exactly the template's segments
// and decodes to exactly the values, or there is no path.
func FuzzExpand(f *testing.F) {
	for _, id := range []string{"a", "..", "%2e", "a/b", "é", "a b", "\x00"} {
		f.Add(id, "c", id)
	}
	r := confirm(f)
	f.Fuzz(func(t *testing.T, app, connector, sync string) {
		message := &appv1.ConfirmSyncValidRequest{AppId: app, ConnectorId: connector, SyncLifecycleId: sync}
		path, _, err := r.Expand(message.ProtoReflect())
		if err != nil {
			if path != "" {
				t.Fatalf("a refusal came with the path %q", path)
			}
			return
		}
		want := []string{"", "api", "v1", "apps", app, "connectors", connector, "confirm_sync_valid", sync}
		segments := strings.Split(path, "/")
		if len(segments) != len(want) {
			t.Fatalf("%q has %d segments, want %d", path, len(segments), len(want))
		}
		for i, segment := range segments {
			decoded, err := url.PathUnescape(segment)
			if err != nil || decoded != want[i] || segment == "." || segment == ".." {
				t.Fatalf("segment %d of %q decodes to %q, %v; want %q", i, path, decoded, err, want[i])
			}
		}
	})
}

// A rule that this package does not understand fails the start and is named.
func TestLoadRefuses(t *testing.T) {
	get := func(path string) *annotations.HttpRule {
		return &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: path}}
	}
	post := func(path, body string) *annotations.HttpRule {
		return &annotations.HttpRule{Pattern: &annotations.HttpRule_Post{Post: path}, Body: body}
	}
	tests := []struct {
		name string
		rule *annotations.HttpRule
		safe bool
		want string
	}{
		{"no rule", nil, false, "no google.api.http rule"},
		{"custom verb", &annotations.HttpRule{Pattern: &annotations.HttpRule_Custom{}}, false, "no get, put"},
		{"no slash", post("a", "*"), false, "begin with a slash"},
		{"empty segment", post("/a//b", "*"), false, "no literal"},
		{"dot segment", post("/a/../b", "*"), false, "no literal"},
		{"wildcard", post("/a/*", "*"), false, "no literal"},
		{"unknown field", post("/a/{b}", "*"), false, "no singular"},
		{"pattern variable", post("/a/{id=x/*}", "*"), false, "no singular"},
		{"twice", post("/a/{id}/{id}", "*"), false, "standing once"},
		{"repeated", post("/a/{list}", "*"), false, "no singular"},
		{"body field", post("/a/{id}", "id"), false, "only \"*\""},
		{"post without body", post("/a", ""), true, "has body"},
		{"get with effects", get("/a"), false, "NO_SIDE_EFFECTS"},
		{"additional", &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: "/a"}, AdditionalBindings: []*annotations.HttpRule{get("/b")}}, true, "additional_bindings"},
	}
	for _, tt := range tests {
		files, types := service(t, options(tt.rule, tt.safe), nil)
		_, err := route.Load(files, types, "x.")
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "x.S/M") {
			t.Errorf("%s: got %v, want %q of x.S/M", tt.name, err, tt.want)
		}
	}
}

// A method is as stable as its visibility says, on either kind of route.
func TestStability(t *testing.T) {
	restricted := func(label string) *visibility.VisibilityRule {
		return &visibility.VisibilityRule{Restriction: label}
	}
	tests := []struct {
		name    string
		rule    *visibility.VisibilityRule
		service *visibility.VisibilityRule
		want    route.Stability
		refused string // what the error says; "" for none
	}{
		{"none", nil, nil, route.Stable, ""},
		{"draft", restricted("DRAFT"), nil, route.Draft, ""},
		{"alpha", restricted("ALPHA"), nil, route.Alpha, ""},
		{"beta", restricted("BETA"), nil, route.Beta, ""},
		{"empty", restricted(""), nil, "", `label ""`},
		{"other", restricted("PREVIEW"), nil, "", `label "PREVIEW"`},
		{"draft and other", restricted("DRAFT,INTERNAL"), nil, "", `label "DRAFT,INTERNAL"`},
		{"other case", restricted("draft"), nil, "", `label "draft"`},
		{"comma at the end", restricted("DRAFT,"), nil, "", `label "DRAFT,"`},
		{"service", restricted("DRAFT"), restricted("DRAFT"), "", "google.api.api_visibility"},
	}
	for _, tt := range tests {
		method := options(&annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: "/a"}}, true)
		if tt.rule != nil {
			proto.SetExtension(method, visibility.E_MethodVisibility, tt.rule)
		}
		of := &descriptorpb.ServiceOptions{}
		if tt.service != nil {
			proto.SetExtension(of, visibility.E_ApiVisibility, tt.service)
		}
		files, types := service(t, method, of)
		found, err := files.FindDescriptorByName("x.S.M")
		if err != nil {
			t.Fatal(err)
		}
		mirrored, mirroredErr := route.Load(files, types, "x.")
		local, localErr := route.Local(types, found.(protoreflect.MethodDescriptor))
		if tt.refused != "" {
			for _, err := range []error{mirroredErr, localErr} {
				if err == nil || !strings.Contains(err.Error(), "x.S/M: ") || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("%s: got %v, want %q of x.S/M", tt.name, err, tt.refused)
				}
			}
			continue
		}
		if err := errors.Join(mirroredErr, localErr); err != nil || mirrored[0].Stability != tt.want || local.Stability != tt.want {
			t.Errorf("%s: got %+v, %+v, %v", tt.name, mirrored, local, err)
		}
	}
}

// options are those of a method with an HTTP rule, nil for none.
func options(rule *annotations.HttpRule, safe bool) *descriptorpb.MethodOptions {
	options := &descriptorpb.MethodOptions{}
	if rule != nil {
		proto.SetExtension(options, annotations.E_Http, rule)
	}
	if safe {
		options.IdempotencyLevel = descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum()
	}
	return options
}

// service registers a service x.S with one method M.
func service(t *testing.T, options *descriptorpb.MethodOptions, of *descriptorpb.ServiceOptions) (*protoregistry.Files, *protoregistry.Types) {
	t.Helper()
	text := descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("x.proto"), Package: proto.String("x"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("R"), Field: []*descriptorpb.FieldDescriptorProto{
			{Name: proto.String("id"), Number: proto.Int32(1), Type: text, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()},
			{Name: proto.String("list"), Number: proto.Int32(2), Type: text, Label: descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()},
		}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Options: of, Method: []*descriptorpb.MethodDescriptorProto{
			{Name: proto.String("M"), InputType: proto.String(".x.R"), OutputType: proto.String(".x.R"), Options: options},
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, types := new(protoregistry.Files), new(protoregistry.Types)
	if err := errors.Join(files.RegisterFile(file), types.RegisterMessage(dynamicpb.NewMessageType(file.Messages().Get(0)))); err != nil {
		t.Fatal(err)
	}
	return files, types
}
