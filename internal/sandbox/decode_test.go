package sandbox_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// TestStrictness sends what is nearly right. What is refused did not act.
func TestStrictness(t *testing.T) {
	h := start(t, sandbox.Config{Files: shelfFiles(t)})
	for _, test := range []struct {
		name, method, target, body string
		status                     int
	}{
		{"an object", "PUT", "/api/v1/shelves/a", `{"otherId":"b","book":{"title":"c","colors":["COLOR_RED"]}}`, 200},
		{"proto names", "PUT", "/api/v1/shelves/a", `{"other_id":"b"}`, 200},
		{"no body at all", "PUT", "/api/v1/shelves/a", "", 200},
		{"space around", "PUT", "/api/v1/shelves/a", " {}\n", 200},
		{"null field", "PUT", "/api/v1/shelves/a", `{"book":null}`, 200},
		{"unknown field", "PUT", "/api/v1/shelves/a", `{"nope":{"a":[1,null]}}`, 200},
		{"unknown field within", "PUT", "/api/v1/shelves/a", `{"book":{"nope":1}}`, 200},
		{"unknown enum", "PUT", "/api/v1/shelves/a", `{"color":"COLOR_NOPE","book":{"colors":["COLOR_NOPE","COLOR_RED"]}}`, 200},
		{"unknown @type", "PUT", "/api/v1/shelves/a", `{"book":{"config":{"@type":"type.googleapis.com/c1.nope.v1.Nope","a":[1]}}}`, 200},
		{"no name as @type", "PUT", "/api/v1/shelves/a", `{"book":{"config":{"@type":"type.googleapis.com/no name"}}}`, 400},
		{"unknown field twice", "PUT", "/api/v1/shelves/a", `{"nope":1,"nope":1}`, 400},
		{"known field within twice", "PUT", "/api/v1/shelves/a", `{"book":{"title":"a","title":"a"}}`, 400},
		{"unknown field, no JSON", "PUT", "/api/v1/shelves/a", `{"nope":nope}`, 400},
		{"wrong type", "PUT", "/api/v1/shelves/a", `{"otherId":1}`, 400},
		{"path field", "PUT", "/api/v1/shelves/a", `{"id":"a"}`, 400},
		{"path field, empty", "PUT", "/api/v1/shelves/a", `{"id":""}`, 400},
		{"path field, null", "PUT", "/api/v1/shelves/a", `{"id":null}`, 400},
		{"duplicate key", "PUT", "/api/v1/shelves/a", `{"otherId":"b","otherId":"b"}`, 400},
		{"both spellings", "PUT", "/api/v1/shelves/a", `{"otherId":"b","other_id":"b"}`, 400},
		{"array", "PUT", "/api/v1/shelves/a", `[]`, 400},
		{"null", "PUT", "/api/v1/shelves/a", `null`, 400},
		{"cut", "PUT", "/api/v1/shelves/a", `{`, 400},
		{"two values", "PUT", "/api/v1/shelves/a", `{}{}`, 400},
		{"not UTF-8", "PUT", "/api/v1/shelves/a", "{\"otherId\":\"\xff\"}", 400},
		{"query beside a body", "PUT", "/api/v1/shelves/a?page_size=1", `{}`, 400},
		{"body of a GET", "GET", "/api/v1/shelves/a", `{}`, 400},
		{"body of a DELETE", "DELETE", "/api/v1/shelves/a", `{}`, 200},
		{"every query key", "GET", "/api/v1/shelves?page_size=1&color=COLOR_RED&deep=true&names=a&names=b&limit=18446744073709551615&version=-1&other_id=b%26c", "", 200},
		{"camelCase key", "GET", "/api/v1/shelves?pageSize=1", "", 400},
		{"unknown key", "GET", "/api/v1/shelves?nope=1", "", 400},
		{"message as a key", "GET", "/api/v1/shelves?book=1", "", 400},
		{"key of the path", "GET", "/api/v1/shelves/a?id=b", "", 400},
		{"singular key twice", "GET", "/api/v1/shelves?page_size=1&page_size=1", "", 400},
		{"no number", "GET", "/api/v1/shelves?page_size=one", "", 400},
		{"number too large", "GET", "/api/v1/shelves?page_size=2147483648", "", 400},
		{"unknown enum key", "GET", "/api/v1/shelves?color=COLOR_NOPE", "", 400},
		{"no bool", "GET", "/api/v1/shelves?deep=2", "", 400},
		{"semicolon", "GET", "/api/v1/shelves?page_size=1;color=COLOR_RED", "", 400},
		{"bad escape", "GET", "/api/v1/shelves?other_id=%zz", "", 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.Reset()
			got := h.call(test.method, test.target, test.body)
			if got.want(t, test.status, -1); test.status == 400 && got.code() != 3 {
				t.Errorf("got %.300s", got.body)
			}
			seen := h.last()
			if seen.Acted != (test.status == 200 && test.method != "GET") || h.AcceptedHits() != 1 {
				t.Errorf("recorded %+v", seen)
			}
			if string(seen.Body) != test.body || seen.BodySize != len(test.body) || seen.URI != test.target {
				t.Errorf("recorded %s %q", seen.URI, seen.Body)
			}
		})
	}
}

func TestContentType(t *testing.T) {
	h := start(t, sandbox.Config{Files: shelfFiles(t)})
	for contentType, status := range map[string]int{
		"application/json": 200, "application/json; charset=utf-8": 200, "": 415,
		"text/plain": 415, "application/x-www-form-urlencoded": 415, "application/jsonp": 415,
	} {
		request, err := http.NewRequestWithContext(t.Context(), "PUT", h.URL()+"/api/v1/shelves/a", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+h.token)
		if contentType != "" {
			request.Header.Set("Content-Type", contentType)
		}
		if got := h.do(request); got.status != status {
			t.Errorf("%q: got %d", contentType, got.status)
		}
	}
}

func TestLargeBody(t *testing.T) {
	h := start(t, sandbox.Config{Files: shelfFiles(t)})
	fits := `{"otherId":"` + strings.Repeat("x", 1<<20) + `"}`
	h.call("PUT", "/api/v1/shelves/a", fits).want(t, 200, -1)
	if seen := h.last(); len(seen.Body) != 64<<10 || seen.BodySize != len(fits) {
		t.Errorf("kept %d of %d bytes", len(seen.Body), seen.BodySize)
	}
	h.call("PUT", "/api/v1/shelves/a", `{"otherId":"`+strings.Repeat("x", 8<<20)+`"}`).want(t, 413, 3)
	if h.last().Accepted || h.last().Acted {
		t.Error("a body that was not read to its end was accepted")
	}
}

// response reads an answer of the shelf strictly: what is not of the
// descriptor is an error.
func response(t *testing.T, text string) *dynamicpb.Message {
	t.Helper()
	found, err := shelfFiles(t).FindDescriptorByName("c1.test.v1.Response")
	if err != nil {
		t.Fatal(err)
	}
	descriptor, ok := found.(protoreflect.MessageDescriptor)
	if !ok {
		t.Fatalf("the response is a %T", found)
	}
	message := dynamicpb.NewMessage(descriptor)
	if err := protojson.Unmarshal([]byte(text), message); err != nil {
		t.Fatalf("read %s: %v", text, err)
	}
	return message
}

// TestShape holds that an answer made from a descriptor is valid, sets every
// field, ends, and repeats what the request said.
func TestShape(t *testing.T) {
	h := start(t, sandbox.Config{Files: shelfFiles(t)})
	got := h.call("GET", "/api/v1/shelves/a%2Fb+c?other_id=c", "")
	got.want(t, 200, -1)
	message := response(t, got.body)
	fields := message.Descriptor().Fields()
	if id := message.Get(fields.ByName("id")).String(); id != "a/b+c" {
		t.Errorf("got id %q", id)
	}
	if id := message.Get(fields.ByName("other_id")).String(); id != "c" {
		t.Errorf("got other_id %q", id)
	}
	if message.Has(fields.ByName("next_page_token")) {
		t.Error("the list never ends")
	}
	book := message.Get(fields.ByName("book")).Message()
	for i := range book.Descriptor().Fields().Len() {
		field := book.Descriptor().Fields().Get(i)
		if book.Has(field) == (field.Name() == "second") {
			t.Errorf("%s set: %v", field.Name(), book.Has(field))
		}
	}
	if again := h.call("GET", "/api/v1/shelves/a%2Fb+c?other_id=c", ""); again.body != got.body {
		t.Error("the same call got another answer")
	}
	if size := len(got.body); size > 64<<10 {
		t.Errorf("the answer has %d bytes", size)
	}
}

// TestReadsDoNotAct tells reads by POST from writes.
func TestReadsDoNotAct(t *testing.T) {
	h := start(t, sandbox.Config{Files: shelfFiles(t)})
	for _, call := range [][2]string{{"POST", "/api/v1/search/shelves"}, {"GET", "/api/v1/shelves"}, {"DELETE", "/api/v1/shelves/a"}} {
		body := "{}"
		if call[0] == "GET" {
			body = ""
		}
		h.call(call[0], call[1], body).want(t, 200, -1)
	}
	got := map[string]int{}
	for _, procedure := range h.Procedures() {
		if acts := h.Acts(procedure); acts > 0 {
			got[procedure] = acts
		}
	}
	if diff := cmp.Diff(map[string]int{shelfService + "Delete": 1}, got); diff != "" {
		t.Errorf("acts (-want +got):\n%s", diff)
	}
}
