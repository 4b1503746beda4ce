package rest_test

import (
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/c1proxy/c1proxy/internal/rest"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// seeds are verbs and targets at the edges of what matches.
func seeds(f *testing.F, routes []*route.Route) {
	for _, r := range routes {
		var path, odd strings.Builder
		for _, s := range r.Segments {
			path.WriteString("/" + s.Literal + strings.Repeat("7", min(1, len(fieldName(s)))))
			odd.WriteString("/" + strings.ToUpper(s.Literal) + strings.Repeat("%2e", min(1, len(fieldName(s)))))
		}
		f.Add(r.Verb, path.String())
		f.Add("GET", odd.String())
		f.Add("PATCH", path.String()+"/")
	}
	for _, target := range []string{"", "*", "/", "//", "/%", "/api/v1/apps//x/bindings/./..", "http://evil/api/v1/apps/a", "/api/v1/apps/speci%61l",
		"/api/v1/apps/x/connectors/bindings/confirm/7", "/api/v1/apps/x/connectors/bindings/y/7", "/api/v1/findings/bul%6B/state",
		"/api/v1/conversations/onboarding%3Aensure", "/api/v1/conversations/onboarding:ensure", "/api/v1/apps/a?b=/c", "/api/v1/apps/a#b"} {
		f.Add("POST", target)
		f.Add("GET", target)
	}
}

// The router finds what trying every template finds, and what the sandbox
// finds, which was written by other hands. What it finds is refused, or (P6)
// goes up to C1 as a path with exactly the template's segments, which the
// sandbox takes for the same procedure with the same values.
func FuzzMatch(f *testing.F) {
	files, routes := described(f, shelf)
	seeds(f, routes)
	router := newRouter(f, routes)
	c1, err := sandbox.New(sandbox.Config{Files: files, Remember: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, verb, target string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RequestURI = target
		path := rest.RawPath(r)
		m := router.Match(verb, path)
		best, values, allowed := naive(routes, verb, path)
		if m.Route != best || !slices.Equal(m.Values, values) || !slices.Equal(m.Allowed, allowed) {
			t.Fatalf("%s %q: got %s %q %q, the reference %s %q %q", verb, path, name(m.Route), m.Values, m.Allowed, name(best), values, allowed)
		}
		seen, _ := ask(c1, verb, path)
		if m.Route == nil {
			if seen != "" {
				t.Fatalf("%s %q: leads nowhere, and the sandbox takes it for %s", verb, path, seen)
			}
			return
		}
		message := m.Route.Input.New()
		bound, err := m.Route.Bind(message, m.Values)
		if err != nil {
			return
		}
		if seen != m.Route.Method() {
			t.Fatalf("%s %q: leads to %s, and the sandbox takes it for %q", verb, path, m.Route.Method(), seen)
		}
		up, expanded, err := m.Route.Expand(message)
		if err != nil || !slices.Equal(bound, expanded) {
			t.Fatalf("%s %q: bound %q, expanded %q, %v", verb, path, bound, expanded, err)
		}
		if again := router.Match(verb, up); again.Route != m.Route {
			t.Fatalf("%s %q: goes up as %q, which is %s's", verb, path, up, name(again.Route))
		}
		if seen, status := ask(c1, verb, up); seen != m.Route.Method() || status != 200 {
			t.Fatalf("%s %q: goes up as %q, which the sandbox takes for %q, %d", verb, path, up, seen, status)
		}
		within(t, m.Route, up, bound)
	})
}

// ask sends a raw path to the sandbox, and returns the procedure that it has
// recorded and the status.
func ask(c1 *sandbox.Sandbox, verb, path string) (procedure string, status int) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Method, r.RequestURI = verb, path
	r.Header.Set("Authorization", "Bearer "+c1.Facts().StaticToken)
	w := httptest.NewRecorder()
	c1.ServeHTTP(w, r)
	return c1.Requests()[0].Procedure, w.Code
}

// within holds a path against the template, by other means than route's.
func within(t *testing.T, r *route.Route, path string, values []route.Value) {
	t.Helper()
	segments := strings.Split(path, "/")
	if len(segments) != len(r.Segments)+1 || segments[0] != "" {
		t.Fatalf("%q has %d segments, want %d", path, len(segments)-1, len(r.Segments))
	}
	bound := 0
	for i, s := range r.Segments {
		want := s.Literal
		if s.Field != nil {
			want = values[bound].Text
			bound++
		}
		text, err := url.PathUnescape(segments[i+1])
		if err != nil || text != want || text == "" || text == "." || text == ".." || strings.ContainsAny(text, `/\%?#;`) {
			t.Fatalf("segment %d of %q is %q, want %q", i, path, text, want)
		}
	}
}
