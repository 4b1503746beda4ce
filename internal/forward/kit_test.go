package forward_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/gate"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// routes are all of the mirror's.
var routes = sync.OnceValues(func() ([]*route.Route, error) {
	return route.Load(catalog.Files(), catalog.Types{}, "c1.")
})

func allRoutes(t testing.TB) []*route.Route {
	t.Helper()
	all, err := routes()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// routeOf is one route, such as c1.api.app.v1.Apps/List.
func routeOf(t testing.TB, method string) *route.Route {
	t.Helper()
	for _, r := range allRoutes(t) {
		if r.Method() == method {
			return r
		}
	}
	t.Fatalf("no route %s", method)
	return nil
}

// targetOf is a request of a route, with a value in each part of its path.
func targetOf(t testing.TB, r *route.Route) transcode.Target {
	t.Helper()
	target, err := transcode.Request(r, filled(r, func(protoreflect.FieldDescriptor) string { return "7" }))
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// filled is a request whose path values are given as text.
func filled(r *route.Route, value func(protoreflect.FieldDescriptor) string) protoreflect.ProtoMessage {
	m := r.Input.New()
	for _, s := range r.Segments {
		if s.Field == nil {
			continue
		}
		if s.Field.Kind() == protoreflect.StringKind {
			m.Set(s.Field, protoreflect.ValueOfString(value(s.Field)))
			continue
		}
		m.Set(s.Field, number(s.Field, 7))
	}
	return m.Interface()
}

func number(field protoreflect.FieldDescriptor, n int64) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(n)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	}
	return protoreflect.ValueOfUint64(uint64(n))
}

// A step is what a scripted C1 does with one request.
type step struct {
	status     int
	retryAfter string
	body       string // "{}" if empty
	cut        bool   // the body ends too early
	err        error  // in place of an answer
	unsent     bool   // err came before there was a connection
	stall      bool   // nothing until the request's context ends
}

var (
	errReset   = errors.New("connection reset by peer")
	errRefused = errors.New("connection refused")
)

// A script is an http.RoundTripper that goes from step to step, and then stays
// at the last one.
type script struct {
	mu    sync.Mutex
	steps []step
	times []time.Time
	seen  func(*http.Request)
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	next := s.steps[min(len(s.times), len(s.steps)-1)]
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	if s.seen != nil {
		s.seen(r)
	}
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && !next.unsent {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	if next.stall {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if next.err != nil {
		return nil, next.err
	}
	if next.body == "" {
		next.body = "{}"
	}
	var body io.Reader = strings.NewReader(next.body)
	if next.cut {
		body = io.MultiReader(strings.NewReader("{"), failing{})
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if next.retryAfter != "" {
		header.Set("Retry-After", next.retryAfter)
	}
	return &http.Response{StatusCode: next.status, Header: header, Body: io.NopCloser(body), ContentLength: -1, Request: r}, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// scripted makes an Upstream for a script, with a static token.
func scripted(t testing.TB, way http.RoundTripper, timeout time.Duration) *forward.Upstream {
	t.Helper()
	base := &url.URL{Scheme: "https", Host: "acme.conductor.one"}
	source, err := credential.New(credential.Config{Tenant: "acme", URL: base, AccessToken: func() (string, error) { return "token", nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	return forward.New(forward.Config{Tenant: "acme", URL: base, Tokens: source, Transport: way, UserAgent: "c1proxy/test", Logger: slog.New(slog.DiscardHandler),
		Gate: gate.New(gate.Config{Slots: 64, Teams: []string{"payments"}}), Timeout: timeout, ResendOn401: true})
}

// prepare makes a call of the team payments ready.
func prepare(t testing.TB, u *forward.Upstream, r *route.Route) *forward.Exchange {
	t.Helper()
	exchange, err := u.Prepare(t.Context(), forward.Call{Route: r, Target: targetOf(t, r), RequestID: "request", Team: "payments"})
	if err != nil {
		t.Fatal(err)
	}
	return exchange
}

// call prepares and sends.
func call(t testing.TB, u *forward.Upstream, r *route.Route) (forward.Result, *fault.Fault) {
	t.Helper()
	result, err := prepare(t, u, r).Send(t.Context())
	return result, fault.Of(err)
}

// classes are a read by GET, a read by POST, and a write of each verb.
func classes(t testing.TB) map[string]*route.Route {
	t.Helper()
	found := make(map[string]*route.Route)
	for _, r := range allRoutes(t) {
		name := fmt.Sprintf("%s read=%v", r.Verb, r.ReadOnly)
		if found[name] == nil {
			found[name] = r
		}
	}
	for _, want := range []string{"GET read=true", "POST read=true", "POST read=false", "DELETE read=false"} {
		if found[want] == nil {
			t.Fatalf("the mirror has no %s", want)
		}
	}
	return found
}
