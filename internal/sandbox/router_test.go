package sandbox_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// shelf is a service without state, with every oddity of C1's paths: routes
// that overlap, a custom verb, an int64 in the path, a read by POST.
const shelf = `
name: "c1/test/v1/shelf.proto" package: "c1.test.v1" syntax: "proto3"
dependency: "google/api/annotations.proto" dependency: "google/protobuf/timestamp.proto"
dependency: "google/protobuf/any.proto" dependency: "google/protobuf/struct.proto" dependency: "google/protobuf/duration.proto"
dependency: "google/protobuf/field_mask.proto" dependency: "google/protobuf/wrappers.proto"
enum_type { name: "Color" value { name: "COLOR_UNSPECIFIED" number: 0 } value { name: "COLOR_RED" number: 1 } }
message_type { name: "Request"
  field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "other_id" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "version" number: 3 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "page_size" number: 4 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "color" number: 5 type: TYPE_ENUM type_name: ".c1.test.v1.Color" label: LABEL_OPTIONAL }
  field { name: "deep" number: 6 type: TYPE_BOOL label: LABEL_OPTIONAL }
  field { name: "names" number: 7 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: "limit" number: 8 type: TYPE_UINT64 label: LABEL_OPTIONAL }
  field { name: "book" number: 9 type: TYPE_MESSAGE type_name: ".c1.test.v1.Book" label: LABEL_OPTIONAL } }
message_type { name: "Response"
  field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "other_id" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "book" number: 3 type: TYPE_MESSAGE type_name: ".c1.test.v1.Book" label: LABEL_OPTIONAL }
  field { name: "expanded" number: 4 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_REPEATED }
  field { name: "next_page_token" number: 5 type: TYPE_STRING label: LABEL_OPTIONAL } }
message_type { name: "Book"
  field { name: "title" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "color" number: 2 type: TYPE_ENUM type_name: ".c1.test.v1.Color" label: LABEL_OPTIONAL }
  field { name: "colors" number: 3 type: TYPE_ENUM type_name: ".c1.test.v1.Color" label: LABEL_REPEATED }
  field { name: "sequels" number: 4 type: TYPE_MESSAGE type_name: ".c1.test.v1.Book" label: LABEL_REPEATED }
  field { name: "at" number: 5 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL }
  field { name: "config" number: 6 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL }
  field { name: "profile" number: 7 type: TYPE_MESSAGE type_name: ".google.protobuf.Struct" label: LABEL_OPTIONAL }
  field { name: "anything" number: 8 type: TYPE_MESSAGE type_name: ".google.protobuf.Value" label: LABEL_OPTIONAL }
  field { name: "some" number: 9 type: TYPE_MESSAGE type_name: ".google.protobuf.ListValue" label: LABEL_OPTIONAL }
  field { name: "lasts" number: 10 type: TYPE_MESSAGE type_name: ".google.protobuf.Duration" label: LABEL_OPTIONAL }
  field { name: "mask" number: 11 type: TYPE_MESSAGE type_name: ".google.protobuf.FieldMask" label: LABEL_OPTIONAL }
  field { name: "boxed" number: 12 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" label: LABEL_OPTIONAL }
  field { name: "pages" number: 13 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "words" number: 14 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "small" number: 15 type: TYPE_UINT32 label: LABEL_OPTIONAL }
  field { name: "big" number: 16 type: TYPE_FIXED64 label: LABEL_OPTIONAL }
  field { name: "price" number: 17 type: TYPE_FLOAT label: LABEL_OPTIONAL }
  field { name: "weight" number: 18 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  field { name: "cover" number: 19 type: TYPE_BYTES label: LABEL_OPTIONAL }
  field { name: "sold" number: 20 type: TYPE_BOOL label: LABEL_OPTIONAL }
  field { name: "first" number: 21 type: TYPE_STRING label: LABEL_OPTIONAL oneof_index: 0 }
  field { name: "second" number: 22 type: TYPE_STRING label: LABEL_OPTIONAL oneof_index: 0 }
  field { name: "maybe" number: 23 type: TYPE_STRING label: LABEL_OPTIONAL oneof_index: 1 proto3_optional: true }
  field { name: "labels" number: 24 type: TYPE_MESSAGE type_name: ".c1.test.v1.Book.LabelsEntry" label: LABEL_REPEATED }
  field { name: "shelves" number: 25 type: TYPE_MESSAGE type_name: ".c1.test.v1.Book.ShelvesEntry" label: LABEL_REPEATED }
  nested_type { name: "LabelsEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
  nested_type { name: "ShelvesEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL } field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".c1.test.v1.Book" label: LABEL_OPTIONAL } }
  oneof_decl { name: "which" } oneof_decl { name: "_maybe" } }
service { name: "ShelfService"
  method { name: "List" input_type: ".c1.test.v1.Request" output_type: ".c1.test.v1.Response" options { [google.api.http] { get: "/api/v1/shelves" } } }
  method { name: "Get" input_type: ".c1.test.v1.Request" output_type: ".c1.test.v1.Response" options { [google.api.http] { get: "/api/v1/shelves/{id}" } } }
  method { name: "Special" input_type: ".c1.test.v1.Request" output_type: ".c1.test.v1.Response" options { [google.api.http] { get: "/api/v1/shelves/special" } } }
  method { name: "Put" input_type: ".c1.test.v1.Request" output_type: ".c1.test.v1.Response" options { [google.api.http] { put: "/api/v1/shelves/{id}" body: "*" } } }
  method { name: "Delete" input_type: ".c1.test.v1.Request" output_type: ".c1.test.v1.Response" options { [google.api.http] { delete: "/api/v1/shelves/{id}" body: "*" } } }
  method { name: "Bind" input_type: ".c1.test.v1.Request" output_type: ".c1.test.v1.Response" options { [google.api.http] { get: "/api/v1/shelves/{id}/bindings/{other_id}/{version}" } } }
  method { name: "Confirm" input_type: ".c1.test.v1.Request" output_type: ".c1.test.v1.Response" options { [google.api.http] { get: "/api/v1/shelves/books/{id}/confirm/{other_id}" } } }
  method { name: "Ensure" input_type: ".c1.test.v1.Request" output_type: ".c1.test.v1.Response" options { [google.api.http] { post: "/api/v1/shelves/books:ensure" body: "*" } } }
  method { name: "Search" input_type: ".c1.test.v1.Request" output_type: ".c1.test.v1.Response" options { idempotency_level: NO_SIDE_EFFECTS [google.api.http] { post: "/api/v1/search/shelves" body: "*" additional_bindings { post: "/api/v1/find/shelves" body: "*" } } } }
  method { name: "Unrouted" input_type: ".c1.test.v1.Request" output_type: ".c1.test.v1.Response" } }
`

// shelfFiles holds the shelf, and nothing of C1's.
func shelfFiles(t testing.TB) *protoregistry.Files {
	t.Helper()
	return register(t, shelf)
}

func register(t testing.TB, text string) *protoregistry.Files {
	t.Helper()
	var file descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	descriptor, err := protodesc.NewFile(&file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	files := new(protoregistry.Files)
	if err := files.RegisterFile(descriptor); err != nil {
		t.Fatal(err)
	}
	return files
}

const shelfService = "c1.test.v1.ShelfService/"

func TestProcedures(t *testing.T) {
	s, err := sandbox.New(sandbox.Config{Files: shelfFiles(t)})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range []string{"Bind", "Confirm", "Delete", "Ensure", "Get", "List", "Put", "Search", "Special"} {
		want = append(want, shelfService+name)
	}
	if diff := cmp.Diff(want, s.Procedures()); diff != "" {
		t.Errorf("procedures (-want +got):\n%s", diff)
	}
}

// raw sends a request line as it stands, over a connection of its own.
func (h *harness) raw(method, target string) int {
	h.t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(h.t.Context(), "tcp", strings.TrimPrefix(h.URL(), "http://"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", method, target, h.token)
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		h.t.Fatal(err)
	}
	return response.StatusCode
}

// TestRoutes sends raw targets and reads in the record where they led, and
// that they are kept to the byte.
func TestRoutes(t *testing.T) {
	h := start(t, sandbox.Config{Files: shelfFiles(t)})
	for _, test := range []struct {
		method, target string
		status         int
		procedure      string
	}{
		{"GET", "/api/v1/shelves", 200, "List"},
		{"GET", "/api/v1/shelves?page_size=3", 200, "List"},
		{"GET", "/api/v1/shelves/a", 200, "Get"},
		{"GET", "/api/v1/shelves/special", 200, "Special"},
		{"GET", "/api/v1/shelves/speci%61l", 200, "Get"},
		{"GET", "/api/v1/shelves/special2", 200, "Get"},
		{"PUT", "/api/v1/shelves/special", 200, "Put"},
		{"DELETE", "/api/v1/shelves/special", 200, "Delete"},
		{"GET", "/api/v1/shelves/a/bindings/b/7", 200, "Bind"},
		{"GET", "/api/v1/shelves/books/bindings/b/7", 200, "Bind"},
		{"GET", "/api/v1/shelves/books/a/confirm/b", 200, "Confirm"},
		{"GET", "/api/v1/shelves/books/bindings/confirm/7", 200, "Confirm"},
		{"GET", "/api/v1/shelves/a/bindings/b/seven", 400, "Bind"},
		{"GET", "/api/v1/shelves/a/bindings/b/9223372036854775808", 400, "Bind"},
		{"POST", "/api/v1/shelves/books:ensure", 200, "Ensure"},
		{"POST", "/api/v1/shelves/books%3Aensure", 405, ""},
		{"POST", "/api/v1/find/shelves", 200, "Search"},
		{"GET", "/api/v1/shelves/a%2Fb", 200, "Get"},
		{"GET", "/api/v1/shelves/a%252Fb", 200, "Get"},
		{"GET", "/api/v1/shelves/%ff", 400, "Get"},
		{"GET", "/api/v1/shelves/", 404, ""},
		{"GET", "/api/v1/shelves/..", 404, ""},
		{"GET", "/api/v1/shelves/.", 404, ""},
		{"GET", "/api/v1/shelves/%2e%2E", 404, ""},
		{"GET", "/api/v1/shelves/a/", 404, ""},
		{"GET", "/api/v1//shelves", 404, ""},
		{"GET", "//api/v1/shelves", 404, ""},
		{"GET", "/api/v1/x/../shelves", 404, ""},
		{"GET", "/API/v1/shelves", 404, ""},
		{"GET", "/api/v1/shelve%73", 404, ""},
		{"GET", "/api/v1/shelves;a=b", 404, ""},
		{"GET", "/api/v1/apps/../shelves", 404, ""},
		{"GET", "/", 404, ""},
		{"POST", "/api/v1/shelves", 405, ""},
		{"HEAD", "/api/v1/shelves", 405, ""},
		{"PATCH", "/api/v1/shelves/a", 405, ""},
		{"GET", "/api/v1/shelves/books:ensure", 200, "Get"},
	} {
		status := h.raw(test.method, test.target)
		procedure := strings.TrimPrefix(h.last().Procedure, shelfService)
		if status != test.status || procedure != test.procedure || h.last().URI != test.target || h.last().Status != status {
			t.Errorf("%s %s: got %d %q, want %d %q; recorded %s %d", test.method, test.target, status, procedure,
				test.status, test.procedure, h.last().URI, h.last().Status)
		}
	}
}

func TestWrongVerb(t *testing.T) {
	h := start(t, sandbox.Config{Files: shelfFiles(t)})
	got := h.call("PATCH", "/api/v1/shelves/a", "{}")
	got.want(t, 405, 12)
	if allow := got.header.Get("Allow"); allow != "DELETE, GET, PUT" {
		t.Errorf("got Allow %q", allow)
	}
	h.call("GET", "/api/v1/nope", "").want(t, 404, 5)
}

func TestNewRefusesRoutes(t *testing.T) {
	for name, change := range map[string][2]string{
		"two methods at one path": {`"/api/v1/shelves/special"`, `"/api/v1/shelves/{other_id}"`},
		"unknown variable":        {`"/api/v1/shelves/special"`, `"/api/v1/shelves/{nope}/x"`},
		"message as a variable":   {`"/api/v1/shelves/special"`, `"/api/v1/shelves/{book}/x"`},
		"wildcard":                {`"/api/v1/shelves/special"`, `"/api/v1/shelves/{id=**}"`},
		"verb after a variable":   {`"/api/v1/shelves/special"`, `"/api/v1/shelves/{id}:verb"`},
		"no path":                 {`"/api/v1/shelves/special"`, `"api"`},
		"body of a field":         {`put: "/api/v1/shelves/{id}" body: "*"`, `put: "/api/v1/shelves/{id}" body: "id"`},
	} {
		text := strings.Replace(shelf, change[0], change[1], 1)
		_, err := sandbox.New(sandbox.Config{Files: register(t, text)})
		if err == nil || !strings.Contains(err.Error(), shelfService) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A pattern is a route as this test reads it, by other means than the router.
type pattern struct {
	verb, template, procedure string
	matches                   *regexp.Regexp
}

func patterns() []pattern {
	var all []pattern
	service := ""
	head := regexp.MustCompile(`service \{ name: "(\w+)"`)
	method := regexp.MustCompile(`method \{ name: "(\w+)"`)
	binding := regexp.MustCompile(`(get|put|post|delete|patch): "([^"]+)"`)
	variable := regexp.MustCompile(`\\\{\w+\\\}`)
	for _, line := range strings.Split(shelf, "\n") {
		if found := head.FindStringSubmatch(line); found != nil {
			service = "c1.test.v1." + found[1]
		}
		name := method.FindStringSubmatch(line)
		for _, found := range binding.FindAllStringSubmatch(line, -1) {
			expression := variable.ReplaceAllString(regexp.QuoteMeta(found[2]), `([^/]+)`)
			all = append(all, pattern{strings.ToUpper(found[1]), found[2], service + "/" + name[1], regexp.MustCompile("^(?s:" + expression + ")$")})
		}
	}
	return all
}

// expected is the procedure of the pattern that is literal where others that
// match have a variable, at the first segment in which they differ.
func expected(all []pattern, verb, path string) string {
	best, procedure := "", ""
	for _, p := range all {
		values := p.matches.FindStringSubmatch(path)
		if p.verb != verb || values == nil || slices.ContainsFunc(values[1:], impossible) {
			continue
		}
		shape := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(p.template, "\x7f\x7f") // after every literal
		if best == "" || slices.Compare(strings.Split(shape, "/"), strings.Split(best, "/")) < 0 {
			best, procedure = shape, p.procedure
		}
	}
	return procedure
}

// impossible says that no variable takes the raw segment.
func impossible(segment string) bool {
	value, err := url.PathUnescape(segment)
	return err != nil || value == "." || value == ".."
}

// FuzzRouter throws raw targets at the sandbox: it never panics, leads each to
// where the templates say, and answers the same to the same.
func FuzzRouter(f *testing.F) {
	all := patterns()
	for _, p := range all {
		f.Add(p.verb, p.template)
		f.Add(p.verb, strings.NewReplacer("{", "a%2F", "}", "").Replace(p.template))
	}
	for _, path := range []string{"", "*", "//", "/%", "/api/v1/shelves/%zz", "/api/v1/shelves/a%00b", "/api/v1/shelves/%", "http://evil/api/v1/shelves",
		"/api/v1/shelves/books/bindings/confirm/7", "/api/v1/shelves/books/bindings/b/7", "/api/v1/shelves/a?b#c", "/api/v1/shelves/a#c"} {
		f.Add("GET", path)
	}
	s, err := sandbox.New(sandbox.Config{Files: shelfFiles(f), Remember: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, verb, target string) {
		parsed, err := url.ParseRequestURI(target)
		if err != nil {
			parsed = &url.URL{Path: target}
		}
		send := func() (int, string, string) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Method, r.RequestURI, r.URL = verb, target, parsed
			r.Header.Set("Authorization", "Bearer "+s.Facts().StaticToken)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			seen := s.Requests()[0]
			if seen.URI != target || seen.Status != w.Code {
				t.Errorf("recorded %q %d, not %q %d", seen.URI, seen.Status, target, w.Code)
			}
			return w.Code, w.Body.String(), seen.Procedure
		}
		status, body, procedure := send()
		if again, bodyAgain, procedureAgain := send(); again != status || bodyAgain != body || procedureAgain != procedure {
			t.Errorf("%s %q: %d %s %s, then %d %s %s", verb, target, status, procedure, body, again, procedureAgain, bodyAgain)
		}
		path, _, _ := strings.Cut(target, "?")
		if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "/api/v1/apps/") || path == sandbox.TokenPath {
			return
		}
		if want := expected(all, verb, path); procedure != want {
			t.Errorf("%s %q: led to %q, not %q", verb, target, procedure, want)
		}
		if procedure == "" && status != 404 && status != 405 || procedure != "" && status != 200 && status != 400 {
			t.Errorf("%s %q: %d from %q", verb, target, status, procedure)
		}
	})
}
