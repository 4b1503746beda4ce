package rest_test

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/rest"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// What a verb and a path lead to: a call, a call with a bad value, another
// verb's path, or nothing.
func TestMatch(t *testing.T) {
	const call, bad, wrong, nothing = "call", "bad value", "405", "404"
	tests := []struct {
		verb, path string
		want       string
		detail     string // the method and its values, or the verbs allowed
	}{
		{"GET", "/api/v1/apps", call, "List"},
		{"POST", "/api/v1/apps", call, "Create"},
		{"GET", "/api/v1/apps/a", call, "Get a"},
		{"GET", "/api/v1/apps/a%20b", call, "Get a%20b"},
		{"GET", "/api/v1/apps/special", call, "Special"},
		{"PUT", "/api/v1/apps/special", call, "Put special"},
		{"POST", "/api/v1/apps/search", call, "Search"},
		{"GET", "/api/v1/apps/search", call, "Get search"},
		{"GET", "/api/v1/apps/Special", call, "Get Special"},
		{"POST", "/api/v1/apps/x/y/bindings/z/w", call, "Bind x y z w"},
		{"POST", "/api/v1/apps/x/connectors/y/confirm/z", call, "Confirm x y z"},
		{"POST", "/api/v1/apps/x/connectors/bindings/z/w", call, "Bind x connectors z w"}, // back from connectors
		{"POST", "/api/v1/apps/x/connectors/y/tools/by_tools", call, "ByTools x y"},
		{"POST", "/api/v1/findings/x/state", call, "State x"},
		{"POST", "/api/v1/findings/bulk/state", call, "BulkState"},
		{"POST", "/api/v1/conversations/onboarding:ensure", call, "Ensure"},
		{"POST", "/api/v1/conversations/onboarding", call, "Talk onboarding"},
		{"POST", "/api/v1/conversations/other:ensure", call, "Talk other:ensure"},
		{"GET", "/api/v1/policies/p/versions/7", call, "Version p 7"},
		{"DELETE", "/api/v2/a/b/c/d/5", call, "Five a b c d 5"},

		{"GET", "/api/v1/apps/", bad, "Get "},
		{"GET", "/api/v1/apps/.", bad, "Get ."},
		{"GET", "/api/v1/apps/..", bad, "Get .."},
		{"GET", "/api/v1/apps/%2e%2e", bad, "Get %2e%2e"},
		{"GET", "/api/v1/apps/a%2fb", bad, "Get a%2fb"},
		{"GET", "/api/v1/apps/%252e", bad, "Get %252e"},
		{"GET", "/api/v1/apps/a;b=c", bad, "Get a;b=c"},
		{"GET", "/api/v1/apps/%zz", bad, "Get %zz"},
		{"GET", "/api/v1/apps/a#b", bad, "Get a#b"},
		{"GET", "/api/v1/apps/a?b", bad, "Get a?b"}, // RawPath would have cut it
		{"GET", "/api/v1/apps/speci%61l", bad, "Get speci%61l"},
		{"POST", "/api/v1/apps//y/bindings/z/w", bad, "Bind  y z w"},
		{"POST", "/api/v1/apps/x/../bindings/z/w", bad, "Bind x .. z w"},
		{"POST", "/api/v1/apps/x/connectors/bindings/confirm/w", bad, "Confirm x bindings w"},
		{"POST", "/api/v1/apps/x/%63onnectors/bindings/confirm/w", bad, "Bind x %63onnectors confirm w"},
		{"POST", "/api/v1/findings/bul%6b/state", bad, "State bul%6b"},
		{"POST", "/api/v1/conversations/onboarding%3Aensure", bad, "Talk onboarding%3Aensure"},
		{"GET", "/api/v1/policies/p/versions/07", bad, "Version p 07"},
		{"GET", "/api/v1/policies/p/versions/latest", bad, "Version p latest"},
		{"GET", "/api/v1/policies/p/versions/", bad, "Version p "},

		{"PATCH", "/api/v1/apps", wrong, "GET, POST"},
		{"HEAD", "/api/v1/apps", wrong, "GET, POST"},
		{"OPTIONS", "/api/v1/apps", wrong, "GET, POST"},
		{"get", "/api/v1/apps", wrong, "GET, POST"},
		{"", "/api/v1/apps", wrong, "GET, POST"},
		{"POST", "/api/v1/apps/special", wrong, "DELETE, GET, PUT"},
		{"PATCH", "/api/v1/apps/search", wrong, "DELETE, GET, POST, PUT"},
		{"POST", "/api/v1/apps/", wrong, "DELETE, GET, PUT"},
		{"GET", "/api/v1/findings/bulk/state", wrong, "POST"},
		{"POST", "/api/v1/findings/bulk/other", wrong, "PATCH"},
		{"GET", "/api/v1/conversations/onboarding:ensure", wrong, "POST"},

		{"GET", "", nothing, ""},
		{"GET", "/", nothing, ""},
		{"GET", "*", nothing, ""},
		{"GET", "api/v1/apps", nothing, ""},
		{"GET", "//api/v1/apps", nothing, ""},
		{"GET", "/api//v1/apps", nothing, ""},
		{"GET", "/api/v1//apps", nothing, ""},
		{"GET", "/api/./v1/apps", nothing, ""},
		{"GET", "/api/v1/x/../apps", nothing, ""},
		{"GET", "/api/v1", nothing, ""},
		{"GET", "/API/v1/apps", nothing, ""},
		{"GET", "/api/v1/app", nothing, ""},
		{"GET", "/api/v1/appss", nothing, ""},
		{"GET", "/api/v1/%61pps", nothing, ""},
		{"GET", "/api%2fv1/apps", nothing, ""},
		{"GET", "/api/v1/apps;a=b", nothing, ""},
		{"GET", "/api/v1/apps?a=b", nothing, ""},
		{"GET", "/api/v1/apps/a/", nothing, ""},
		{"GET", "/api/v1/apps/a/b", nothing, ""},
		{"POST", "/api/v1/apps/x/y/bindings/z/w/", nothing, ""},
		{"POST", "/api/v1/findings//state/", nothing, ""},
		{"GET", "http://c1/api/v1/apps", nothing, ""},
		{"GET", strings.Repeat("/", 64<<10), nothing, ""},
	}
	_, routes := described(t, shelf)
	router := newRouter(t, routes)
	for _, tt := range tests {
		m := router.Match(tt.verb, tt.path)
		got, detail := nothing, strings.Join(m.Allowed, ", ")
		switch {
		case m.Route != nil:
			got, detail = call, strings.Join(append([]string{name(m.Route)}, m.Values...), " ")
			if _, err := m.Route.Bind(m.Route.Input.New(), m.Values); err != nil {
				got = bad
			}
		case m.Allowed != nil:
			got = wrong
		}
		if got != tt.want || detail != tt.detail || (m.Route != nil && m.Allowed != nil) {
			t.Errorf("%s %.60s: got %s %q, want %s %q", tt.verb, tt.path, got, detail, tt.want, tt.detail)
		}
	}
}

// For every operation that is linked: a path that Expand writes leads back to
// it and to its values, and with a literal changed it never does.
func TestEveryRoute(t *testing.T) {
	for _, routes := range [][]*route.Route{mirrored(t), func() []*route.Route { _, r := described(t, shelf); return r }()} {
		router := newRouter(t, routes)
		for _, r := range routes {
			path, want := sample(t, r)
			m := router.Match(r.Verb, path)
			if m.Route != r || !slices.Equal(m.Values, want) {
				t.Errorf("%s: %s leads to %s %q, want %q", r.Method(), path, name(m.Route), m.Values, want)
				continue
			}
			message := r.Input.New()
			if _, err := m.Route.Bind(message, m.Values); err != nil {
				t.Errorf("%s: %v", r.Method(), err)
			}
			if again, _, err := r.Expand(message); err != nil || again != path {
				t.Errorf("%s: %s expands to %s, %v", r.Method(), path, again, err)
			}
			for _, other := range mutations(r, path) {
				if m := router.Match(r.Verb, other); m.Route == r {
					t.Errorf("%s: %s leads there too", r.Method(), other)
				}
			}
			if !router.Owns(path) {
				t.Errorf("%s is not owned", path)
			}
		}
	}
}

// For every two linked operations of one verb that share a path: values with
// which the path of one fits the other are refused, so that who may call the
// one cannot call the other. The sandbox shows that it would have.
func TestEveryOverlap(t *testing.T) {
	files, own := described(t, shelf)
	c1, err := sandbox.New(sandbox.Config{Files: files, Remember: 1})
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for i, routes := range [][]*route.Route{own, mirrored(t)} {
		pairs := 0
		for _, r := range routes {
			for _, other := range routes {
				raw, path, ok := shared(r, other)
				if !ok {
					continue
				}
				pairs++
				if _, err := r.Bind(r.Input.New(), raw); err == nil || !strings.Contains(err.Error(), other.Method()) {
					t.Errorf("%s with the path %s of %s: got %v", r.Method(), path, other.Method(), err)
				}
				if seen, _ := ask(c1, r.Verb, path); i == 0 && seen == other.Method() {
					taken++
				}
			}
		}
		t.Logf("%d ways from one operation to another", pairs)
	}
	if taken == 0 {
		t.Error("the sandbox took none for the other operation: the test shows nothing")
	}
}

// shared returns a path that fits the templates of both routes for some values
// of r's only, with those. The more special of two is not such: its own path
// is all that it has.
func shared(r, other *route.Route) (raw []string, path string, ok bool) {
	if r == other || r.Verb != other.Verb || len(r.Segments) != len(other.Segments) {
		return nil, "", false
	}
	for i, s := range r.Segments {
		o := other.Segments[i]
		if s.Field == nil && o.Field == nil && s.Literal != o.Literal {
			return nil, "", false
		}
		segment := cmp.Or(s.Literal, o.Literal, "7")
		path += "/" + segment
		if s.Field != nil {
			raw = append(raw, segment)
			ok = ok || o.Field == nil
		}
	}
	return raw, path, ok
}

// sample expands a route with a distinct value for each variable.
func sample(t *testing.T, r *route.Route) (path string, raw []string) {
	t.Helper()
	message := r.Input.New()
	for i, s := range r.Segments {
		if s.Field == nil {
			continue
		}
		raw = append(raw, fmt.Sprint(i+1))
		value := protoreflect.ValueOfString(raw[len(raw)-1])
		switch s.Field.Kind() {
		case protoreflect.Int64Kind:
			value = protoreflect.ValueOfInt64(int64(i + 1))
		case protoreflect.Int32Kind:
			value = protoreflect.ValueOfInt32(int32(i + 1))
		case protoreflect.Uint64Kind:
			value = protoreflect.ValueOfUint64(uint64(i + 1))
		case protoreflect.Uint32Kind:
			value = protoreflect.ValueOfUint32(uint32(i + 1))
		}
		message.Set(s.Field, value)
	}
	path, _, err := r.Expand(message)
	if err != nil {
		t.Fatal(err)
	}
	return path, raw
}

// mutations are spellings of a path that a sloppy hop would take for the
// same, and paths one segment longer or shorter.
func mutations(r *route.Route, path string) []string {
	segments := strings.Split(path, "/")[1:]
	all := []string{path + "/", "/" + path, path + "/x", path[:strings.LastIndexByte(path, '/')], path[1:], "/." + path, "/x/.." + path}
	for i, s := range r.Segments {
		if s.Field != nil {
			continue
		}
		first := s.Literal[0]
		for _, text := range []string{
			strings.ToUpper(s.Literal), fmt.Sprintf("%%%02x", first) + s.Literal[1:], s.Literal + ";a=b", s.Literal + "x",
			s.Literal[1:], s.Literal + "%20", "", ".", "..", s.Literal + "/", "./" + s.Literal,
		} {
			changed := slices.Clone(segments)
			changed[i] = text
			all = append(all, "/"+strings.Join(changed, "/"))
		}
	}
	return all
}

// Two operations that no request tells apart are an error that names both,
// and what does not travel to C1 has no path.
func TestNewRefusesTwins(t *testing.T) {
	_, routes := described(t, shelf)
	_, others := described(t, strings.NewReplacer(`"Shelf"`, `"Other"`, "{a}", "{d}", "{d}", "{a}").Replace(shelf))
	_, err := rest.New(append(routes, others[0]))
	if err == nil || !strings.Contains(err.Error(), "c1.test.v1.Shelf/"+name(others[0])) || !strings.Contains(err.Error(), others[0].Method()) {
		t.Errorf("got %v, want an error that names both", err)
	}
	local := *routes[0]
	local.Verb = ""
	if _, err := rest.New([]*route.Route{&local, &local}); err != nil {
		t.Errorf("without a verb: %v", err)
	}
}

func TestOwns(t *testing.T) {
	router := newRouter(t, mirrored(t))
	for path, want := range map[string]bool{
		"/api/v1/apps": true, "/api": true, "/api/": true, "/api/nope": true,
		"": false, "/": false, "api": false, "//api": false, "/apix": false, "/API": false, "*": false,
		"/c1.api.app.v1.ConnectorService/Get": false, "xapi/v1": false,
	} {
		if got := router.Owns(path); got != want {
			t.Errorf("%q: got %v", path, got)
		}
	}
}

// Over a real connection: RawPath is what the caller sent, or nothing.
func TestRawPath(t *testing.T) {
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- rest.RawPath(r) }))
	defer server.Close()
	for _, tt := range []struct{ verb, target, want string }{
		{"GET", "/api/v1/apps", "/api/v1/apps"},
		{"GET", "/api/v1/%61pps/%2e%2E/a%2Fb?x=y?z", "/api/v1/%61pps/%2e%2E/a%2Fb"},
		{"GET", "//api/./v1/../apps/", "//api/./v1/../apps/"},
		{"GET", "/?", "/"},
		{"GET", "/a#b", "/a#b"},
		{"GET", "http://evil.example/api/v1/%61pps?x", "/api/v1/%61pps"},
		{"GET", "http://evil.example", "/"},
		{"GET", "http://evil.example?x=/y", "/"},
		{"GET", "http:///api", "/api"},
		{"GET", "x-y://h/a://b", "/a://b"},
		{"GET", "http:/api/v1", ""},
		{"OPTIONS", "*", ""},
		{"CONNECT", "evil.example:443", ""},
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: c1\r\nConnection: close\r\n\r\n", tt.verb, tt.target)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(response.Body.Close(), conn.Close()); err != nil {
			t.Error(err)
		}
		select {
		case path := <-got:
			if path != tt.want {
				t.Errorf("%s %s: got %q, want %q", tt.verb, tt.target, path, tt.want)
			}
		default: // net/http's own answer
			t.Logf("%s %s did not arrive: %s", tt.verb, tt.target, response.Status)
			if response.StatusCode == http.StatusOK && tt.target != "*" {
				t.Errorf("%s %s: lost", tt.verb, tt.target)
			}
		}
	}
	for _, target := range []string{"", "*", "a", "://h/a", "a/b://h/c", "a:b://h/c"} {
		if got := rest.RawPath(&http.Request{RequestURI: target}); got != "" {
			t.Errorf("%q: got %q, want none", target, got)
		}
	}
}

// What leads nowhere is answered in this door's form.
func TestRefuse(t *testing.T) {
	for _, tt := range []struct {
		match  rest.Match
		status int
		allow  string
		body   string
	}{
		{rest.Match{}, 404, "", `{"code":5,"message":"C1 has no operation with this path: paths are matched as they are spelled, without decoding or cleaning",` + details(fault.NotServed) + `}`},
		{rest.Match{Allowed: []string{"GET", "PUT"}}, 405, "GET, PUT", `{"code":12,"message":"C1 has no operation with this verb and path: it has GET, PUT",` + details(fault.NotServed) + `}`},
	} {
		w := httptest.NewRecorder()
		if err := tt.match.Refuse(w, httptest.NewRequest("POST", "/", nil)); err != nil {
			t.Error(err)
		}
		if w.Code != tt.status || w.Header().Get("Allow") != tt.allow || w.Body.String() != tt.body {
			t.Errorf("got %d, Allow %q, %s; want %d, %q, %s", w.Code, w.Header().Get("Allow"), w.Body, tt.status, tt.allow, tt.body)
		}
	}
}

func details(reason fault.Reason) string {
	return `"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"` + string(reason) + `","domain":"c1proxy"}]`
}

// A match allocates its values and nothing else, and a miss of a long path
// costs no more than the templates are deep.
func TestMatchAllocates(t *testing.T) {
	_, routes := described(t, shelf)
	router := newRouter(t, routes)
	for path, want := range map[string]float64{"/api/v1/apps": 0, "/api/v1/apps/x": 1, strings.Repeat("/x", 10_000): 0} {
		if got := testing.AllocsPerRun(100, func() { router.Match("GET", path) }); got > want {
			t.Errorf("%.20s: %v allocations, want %v", path, got, want)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	_, routes := described(b, shelf)
	router := newRouter(b, routes)
	b.ReportAllocs()
	for b.Loop() {
		if router.Match("POST", "/api/v1/apps/2mPv3/connectors/2mPv4/confirm/2mPv5").Route == nil {
			b.Fatal("no match")
		}
	}
}
