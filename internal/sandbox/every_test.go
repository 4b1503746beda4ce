package sandbox_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
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

	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// maxAnswer is what every answer stays below, in bytes.
const maxAnswer = 64 << 10

// The tests of this file loop over every operation of C1's that is linked.

// operations walks through those of files, with what their google.api.http says.
func operations(t testing.TB, files *protoregistry.Files, visit func(method protoreflect.MethodDescriptor, verb, template string)) {
	t.Helper()
	count := 0
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package()), "c1.") {
			return true
		}
		for i := range file.Services().Len() {
			for methods, j := file.Services().Get(i).Methods(), 0; j < methods.Len(); j++ {
				rule, ok := proto.GetExtension(methods.Get(j).Options(), annotations.E_Http).(*annotations.HttpRule)
				if !ok || rule == nil {
					continue
				}
				count++
				for verb, template := range map[string]string{"GET": rule.GetGet(), "POST": rule.GetPost(), "PUT": rule.GetPut(),
					"DELETE": rule.GetDelete(), "PATCH": rule.GetPatch()} {
					if template != "" {
						visit(methods.Get(j), verb, template)
					}
				}
			}
		}
		return true
	})
	if count == 0 {
		t.Fatalf("there are no operations")
	}
}

func procedureOf(method protoreflect.MethodDescriptor) string {
	return string(method.Parent().FullName()) + "/" + string(method.Name())
}

// sample is JSON for a field, with messages as deep as asked for; of a oneof
// the last member.
func sample(field protoreflect.FieldDescriptor, depth int) any {
	switch {
	case field.IsMap():
		return map[string]any{"7": one(field.MapValue(), depth)}
	case field.IsList():
		return []any{one(field, depth), one(field, depth)}
	}
	return one(field, depth)
}

func one(field protoreflect.FieldDescriptor, depth int) any {
	switch field.Kind() {
	case protoreflect.StringKind:
		return "a/b é?" + string(field.Name())
	case protoreflect.BoolKind:
		return true
	case protoreflect.BytesKind:
		return "/+8="
	case protoreflect.EnumKind:
		return string(field.Enum().Values().Get(field.Enum().Values().Len() - 1).Name())
	case protoreflect.Int64Kind, protoreflect.Uint64Kind:
		return "9007199254740995"
	case protoreflect.MessageKind:
		return object(field.Message(), depth-1)
	}
	return 7
}

func object(message protoreflect.MessageDescriptor, depth int) any {
	switch message.FullName() {
	case "google.protobuf.Timestamp":
		return "2026-02-01T00:00:00Z"
	case "google.protobuf.Duration":
		return "1.5s"
	case "google.protobuf.FieldMask":
		return "description"
	case "google.protobuf.Struct":
		return map[string]any{"@type": 1, "b": nil}
	case "google.protobuf.Value", "google.protobuf.ListValue":
		return []any{1, nil}
	case "google.protobuf.Int64Value":
		return "7"
	case "google.protobuf.Any":
		return map[string]any{"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"}
	}
	filled := map[string]any{}
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		oneof := field.ContainingOneof()
		last := oneof == nil || oneof.Fields().Get(oneof.Fields().Len()-1) == field
		if last && (depth > 0 || field.Message() == nil) {
			filled[field.JSONName()] = sample(field, depth)
		}
	}
	return filled
}

// known are the values that the requests of stateful procedures need.
var known = map[string]map[string]string{
	sandbox.ListApps:   {"page_size": "7", "page_token": ""},
	sandbox.GetApp:     {"id": sandbox.AppID},
	sandbox.CreateApp:  {},
	sandbox.UpdateApp:  {"id": sandbox.AppID},
	sandbox.DeleteApp:  {"id": sandbox.AppID},
	sandbox.SearchApps: {"page_size": "7", "page_token": ""},

	sandbox.ListConnectors:           {"app_id": sandbox.AppID, "page_size": "7", "page_token": ""},
	sandbox.GetConnector:             {"app_id": sandbox.AppID, "id": sandbox.ConnectorID},
	sandbox.CreateConnector:          {"app_id": sandbox.AppID},
	sandbox.CreateDelegatedConnector: {"app_id": sandbox.AppID},
	sandbox.UpdateConnector:          {"app_id": sandbox.AppID, "id": sandbox.ConnectorID},
	sandbox.UpdateDelegatedConnector: {"connector_app_id": sandbox.AppID, "connector_id": sandbox.ConnectorID},
	sandbox.UpdateConnectorSchedule:  {"app_id": sandbox.AppID, "connector_id": sandbox.ConnectorID},
	sandbox.DeleteConnector:          {"app_id": sandbox.AppID, "id": sandbox.ConnectorID},

	sandbox.ConfirmSyncValid: {"app_id": sandbox.AppID, "connector_id": sandbox.ConnectorID, "sync_lifecycle_id": sandbox.SyncLifecycleID},
	sandbox.ForceSync:        {"app_id": sandbox.AppID, "connector_id": sandbox.ConnectorID},
	sandbox.PauseSync:        {"app_id": sandbox.AppID, "connector_id": sandbox.ConnectorID},
	sandbox.ResumeSync:       {"app_id": sandbox.AppID, "connector_id": sandbox.ConnectorID},
}

var variable = regexp.MustCompile(`\{\w+\}`)

// request makes a call of an operation with every field of its request filled.
// The path values are returned by the names of their fields.
func request(t testing.TB, method protoreflect.MethodDescriptor, verb, template string) (*http.Request, map[string]string) {
	t.Helper()
	filled, ok := object(method.Input(), 2).(map[string]any)
	if !ok {
		t.Fatalf("%s is a well-known type", method.Input().FullName())
	}
	values := map[string]string{}
	take := func(field protoreflect.FieldDescriptor) string {
		text, given := known[procedureOf(method)][string(field.Name())]
		if !given {
			raw, err := json.Marshal(filled[field.JSONName()])
			if err != nil {
				t.Fatal(err)
			}
			text = strings.Trim(string(raw), `"`)
		}
		delete(filled, field.JSONName())
		return text
	}
	fields := method.Input().Fields()
	target := variable.ReplaceAllStringFunc(template, func(segment string) string {
		name := strings.Trim(segment, "{}")
		values[name] = take(fields.ByName(protoreflect.Name(name)))
		return url.PathEscape(values[name])
	})
	body := ""
	if verb == "GET" {
		query := url.Values{}
		for i := range fields.Len() {
			if _, left := filled[fields.Get(i).JSONName()]; left && fields.Get(i).Message() == nil && !fields.Get(i).IsList() {
				query.Set(string(fields.Get(i).Name()), take(fields.Get(i)))
			}
		}
		target += "?" + query.Encode()
	} else {
		for name, value := range known[procedureOf(method)] {
			filled[fields.ByName(protoreflect.Name(name)).JSONName()] = value
		}
		for name := range values {
			delete(filled, fields.ByName(protoreflect.Name(name)).JSONName())
		}
		text, err := json.Marshal(filled)
		if err != nil {
			t.Fatal(err)
		}
		body = string(text)
	}
	r := httptest.NewRequest(verb, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r, values
}

// answer sends a request to s, without a network, and wants 200.
func answer(t testing.TB, s *sandbox.Sandbox, name string, r *http.Request) []byte {
	t.Helper()
	r.Header.Set("Authorization", "Bearer "+s.Facts().StaticToken)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != 200 || w.Body.Len() > maxAnswer {
		t.Fatalf("%s: got %d with %d bytes: %.300s", name, w.Code, w.Body.Len(), w.Body)
	}
	return w.Body.Bytes()
}

// read reads an answer as strictly as protojson can.
func read(t testing.TB, method protoreflect.MethodDescriptor, text []byte) protoreflect.Message {
	t.Helper()
	message := dynamicpb.NewMessage(method.Output())
	if err := (protojson.UnmarshalOptions{Resolver: catalog.Types{}}).Unmarshal(text, message); err != nil {
		t.Fatalf("%s: read %.300s: %v", method.FullName(), text, err)
	}
	return message
}

// TestEveryOperation holds that each one takes a request in which every field
// is filled, and answers what is valid, complete as far as it nests, bounded,
// and the same each time; and that the ids of the path are in it.
func TestEveryOperation(t *testing.T) {
	s, err := sandbox.New(sandbox.Config{Remember: 1})
	if err != nil {
		t.Fatal(err)
	}
	operations(t, catalog.Files(), func(method protoreflect.MethodDescriptor, verb, template string) {
		if known[procedureOf(method)] != nil {
			s.Restore()
		}
		r, values := request(t, method, verb, template)
		text := answer(t, s, procedureOf(method), r)
		if seen := s.Requests()[0]; seen.Procedure != procedureOf(method) || seen.Acted == reads(method) {
			t.Errorf("%s: led to %s, acted %v", method.FullName(), seen.Procedure, seen.Acted)
		}
		message := read(t, method, text)
		if _, state := known[procedureOf(method)]; state {
			return
		}
		checkComplete(t, message, 0)
		for name, value := range values {
			field := message.Descriptor().Fields().ByName(protoreflect.Name(name))
			if field != nil && field.Kind() == protoreflect.StringKind && !field.IsList() && message.Get(field).String() != value {
				t.Errorf("%s: %s is %q, not %q", method.FullName(), name, message.Get(field), value)
			}
		}
		again, _ := request(t, method, verb, template)
		if second := answer(t, s, procedureOf(method), again); string(second) != string(text) {
			t.Errorf("%s: two answers: %.300s and %.300s", method.FullName(), text, second)
		}
	})
}

// reads says whether a method is declared to change nothing.
func reads(method protoreflect.MethodDescriptor) bool {
	options, ok := method.Options().(*descriptorpb.MethodOptions)
	return ok && options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
}

// checkComplete wants every field set but those that a client would follow for
// ever, one member of each oneof, and so on in the messages, four deep.
func checkComplete(t testing.TB, message protoreflect.Message, depth int) {
	t.Helper()
	descriptor := message.Descriptor()
	if descriptor.ParentFile().Package() == "google.protobuf" {
		return
	}
	for i := range descriptor.Fields().Len() {
		field := descriptor.Fields().Get(i)
		name := string(field.Name())
		switch oneof := field.ContainingOneof(); {
		case strings.HasSuffix(name, "page_token") || name == "has_more":
			if message.Has(field) {
				t.Errorf("%s is set", field.FullName())
			}
		case oneof != nil && !oneof.IsSynthetic():
			if message.WhichOneof(oneof) == nil {
				t.Errorf("%s: no member is set", oneof.FullName())
			}
		case !message.Has(field) && !(field.Enum() != nil && field.Enum().Values().Len() == 1):
			t.Errorf("%s is not set", field.FullName())
		}
		if field.Message() == nil || field.IsMap() || !message.Has(field) || depth == 3 {
			continue
		}
		within := message.Get(field)
		if field.IsList() {
			within = within.List().Get(0)
		}
		checkComplete(t, within.Message(), depth+1)
	}
}

// TestEveryMember turns through the oneofs until each member of each was seen,
// as far as an answer nests four deep.
func TestEveryMember(t *testing.T) {
	s, err := sandbox.New(sandbox.Config{Remember: -1})
	if err != nil {
		t.Fatal(err)
	}
	operations(t, catalog.Files(), func(method protoreflect.MethodDescriptor, verb, template string) {
		if _, state := known[procedureOf(method)]; state {
			return
		}
		missing := map[protoreflect.FullName]bool{}
		members(method.Output(), 4, missing)
		for turn := uint16(0); turn == 0 || len(missing) > 0; turn++ {
			if turn == 1000 {
				t.Fatalf("%s: not seen: %v", method.FullName(), missing)
			}
			s.Vary(turn)
			r, _ := request(t, method, verb, template)
			strike(read(t, method, answer(t, s, procedureOf(method), r)), missing)
		}
	})
}

// members adds the members of the oneofs in what nests so deep.
func members(message protoreflect.MessageDescriptor, depth int, all map[protoreflect.FullName]bool) {
	if message.ParentFile().Package() == "google.protobuf" || depth == 0 {
		return
	}
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		if oneof := field.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
			all[field.FullName()] = true
		}
		if field.Message() != nil && !field.IsMap() {
			members(field.Message(), depth-1, all)
		}
	}
}

// strike takes off what is set in message.
func strike(message protoreflect.Message, missing map[protoreflect.FullName]bool) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		delete(missing, field.FullName())
		switch {
		case field.IsMap() || field.Message() == nil:
		case field.IsList():
			strike(value.List().Get(0).Message(), missing)
		default:
			strike(value.Message(), missing)
		}
		return true
	})
}

// TestTypes answers with types of several kinds, byte for byte the same. Some
// of C1's generated types are linked into this test.
func TestTypes(t *testing.T) {
	want := map[string]string{}
	for _, config := range []sandbox.Config{{}, {Types: protoregistry.GlobalTypes}, {Types: dynamicpb.NewTypes(copied(t))}, {Files: copied(t), Types: new(protoregistry.Types)}} {
		config.Remember = -1
		s, err := sandbox.New(config)
		if err != nil {
			t.Fatal(err)
		}
		operations(t, catalog.Files(), func(method protoreflect.MethodDescriptor, verb, template string) {
			if known[procedureOf(method)] != nil {
				s.Restore()
			}
			r, _ := request(t, method, verb, template)
			got, name := timeless(answer(t, s, procedureOf(method), r)), procedureOf(method)
			if want[name] == "" {
				want[name] = got
			}
			if got != want[name] {
				t.Errorf("%s: got %.300s, want %.300s", name, got, want[name])
			}
		})
	}
}

// A countedResolver counts how often it is asked for a message by name.
type countedResolver struct {
	sandbox.Resolver
	asked map[protoreflect.FullName]int
}

func (c countedResolver) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	c.asked[name]++
	return c.Resolver.FindMessageByName(name)
}

// TestGivenTypes sees that it is the given types of which messages are made.
func TestGivenTypes(t *testing.T) {
	types := countedResolver{protoregistry.GlobalTypes, map[protoreflect.FullName]int{}}
	s, err := sandbox.New(sandbox.Config{Types: types, Remember: -1})
	if err != nil {
		t.Fatal(err)
	}
	operations(t, catalog.Files(), func(method protoreflect.MethodDescriptor, verb, template string) {
		r, _ := request(t, method, verb, template)
		if known[procedureOf(method)] == nil {
			answer(t, s, procedureOf(method), r)
			if types.asked[method.Input().FullName()] == 0 || types.asked[method.Output().FullName()] == 0 {
				t.Errorf("%s: its types were not asked for", method.FullName())
			}
		}
	})
}

// timeless is an answer in which all is at one time, since state has times of
// now.
func timeless(text []byte) string {
	return regexp.MustCompile(`"[0-9-]{10}T[0-9:.]+Z"`).ReplaceAllString(string(text), `"2026-01-05T09:00:00Z"`)
}

// copied are the files of C1's, made anew from their descriptors.
func copied(t testing.TB) *protoregistry.Files {
	t.Helper()
	files := new(protoregistry.Files)
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if _, err := files.FindFileByPath(file.Path()); err == nil || !strings.HasPrefix(string(file.Package()), "c1.") {
			return
		}
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		made, err := protodesc.NewFile(protodesc.ToFileDescriptorProto(file), catalog.Resolver{Files: files})
		if err == nil {
			err = files.RegisterFile(made)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	catalog.Files().RangeFiles(func(file protoreflect.FileDescriptor) bool {
		add(file)
		return true
	})
	return files
}

// BenchmarkAnswers answers every operation without state once.
func BenchmarkAnswers(b *testing.B) {
	s, err := sandbox.New(sandbox.Config{Remember: -1})
	if err != nil {
		b.Fatal(err)
	}
	var requests []func() *http.Request
	operations(b, catalog.Files(), func(method protoreflect.MethodDescriptor, verb, template string) {
		if _, state := known[procedureOf(method)]; state {
			return
		}
		target := variable.ReplaceAllString(template, "7")
		requests = append(requests, func() *http.Request {
			r := httptest.NewRequest(verb, target, nil)
			r.Header.Set("Authorization", "Bearer "+s.Facts().StaticToken)
			return r
		})
	})
	size, largest := 0, 0
	for b.Loop() {
		size = 0
		for _, request := range requests {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, request())
			size, largest = size+w.Body.Len(), max(largest, w.Body.Len())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(requests)), "µs/answer")
	b.ReportMetric(float64(size)/float64(len(requests)), "B/answer")
	b.ReportMetric(float64(largest), "B-largest")
}
