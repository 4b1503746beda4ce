package c1proxy_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/gen/c1/api/app/v1/appv1connect"
	"github.com/c1proxy/c1proxy/internal/audit"
)

const page = "https://app.example.com"

// startForPages starts a gateway that the page may call.
func startForPages(t testing.TB) *gateway {
	return start(t, func(s *setup) {
		s.yaml = func(text string) string {
			return text + "cors: {allowed_origins: [" + page + ", \"http://localhost:3000\"]}\n"
		}
	})
}

// A browser adds headers to each request, and keeps those of the last answer.
type browser struct {
	client connect.HTTPClient
	header http.Header
	last   *http.Response
}

func (b *browser) Do(r *http.Request) (*http.Response, error) {
	for name, values := range b.header {
		r.Header[name] = values
	}
	response, err := b.client.Do(r)
	b.last = response
	return response, err
}

// browse returns a client of the protocol that sends headers more.
func (g *gateway) browse(p protocol, caller string, header http.Header) (appv1connect.ConnectorServiceClient, *browser) {
	b := &browser{client: g.httpClient(p.name == "Connect JSON"), header: header}
	var client connect.HTTPClient = b
	if p.door == "rest" {
		client = pathsClient{b}
	}
	return appv1connect.NewConnectorServiceClient(client, g.url, append([]connect.ClientOption{connect.WithInterceptors(bearer(g.keys[caller]))}, p.options...)...), b
}

// preflight asks what a page may send.
func (g *gateway) preflight(path, origin, method, headers string) *http.Request {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodOptions, g.url+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Origin", origin)
	r.Header.Set("Access-Control-Request-Method", method)
	if headers != "" {
		r.Header.Set("Access-Control-Request-Headers", headers)
	}
	return r
}

func (g *gateway) recordCount() (n int) {
	for _, records := range allRecords(g.t, g) {
		n += len(records)
	}
	return n
}

// foreign are origins that only look like allowed ones, and worse.
var foreign = []string{"https://evil.example.com", "null", "https://app.example.com.evil.example", "https://evil-app.example.com", "https://evilapp.example.com",
	"http://app.example.com", "https://app.example.com:8443", "https://app.example.com:443", "https://APP.example.com", "HTTPS://app.example.com", "https://app.example.com/",
	"https://app.example.com.", "https://sub.app.example.com", "http://localhost", "http://localhost:30000", "*", "", " ", "https://app.example.com, https://evil.example.com", "https://*.example.com"}

// D9: a page of any other origin gets no leave to read, on no door; its call is
// refused and on record; its preflight gets no leave either, and is no call.
func TestForeignOrigins(t *testing.T) {
	g := startForPages(t)
	warm(g)
	g.c1.Reset()
	for _, origin := range foreign {
		for _, p := range protocols {
			client, b := g.browse(p, "sync-bot", http.Header{"Origin": {origin}})
			response, err := client.List(t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
			if codeOf(err) != connect.CodePermissionDenied || reasonOf(err) != "ORIGIN_DENIED" || b.last.Header["Access-Control-Allow-Origin"] != nil || !slices.Contains(b.last.Header["Vary"], "Origin") {
				t.Errorf("%q, %s: %v with %v", origin, p.name, err, b.last.Header)
			}
			records := g.records(requestID(response, err))
			if len(records) != 1 || records[0].Kind != audit.KindDenied || records[0].Error != "ORIGIN_DENIED" || records[0].Caller != "" || strings.TrimSpace(records[0].Detail["origin"]) != strings.TrimSpace(origin) {
				t.Errorf("%q, %s: records %+v", origin, p.name, records)
			}
			if p.door == "grpc" {
				time.Sleep(20 * time.Millisecond) // so that each refusal keeps a record of its own
			}
		}
		before := g.recordCount()
		for _, path := range []string{"/" + listMethod, g.listPath()} {
			status, header, body := do(t, g.httpClient(true), g.preflight(path, origin, "POST", "authorization,content-type"))
			if status != http.StatusNoContent || body != "" || leave(header) != "" {
				t.Errorf("preflight of %q: %d %v %q", origin, status, header, body)
			}
		}
		if got := g.recordCount(); got != before {
			t.Errorf("preflights of %q made %d records", origin, got-before)
		}
	}
	two := g.post(listMethod, g.keys["sync-bot"], "{}")
	two.Header["Origin"] = []string{page, "https://evil.example.com"}
	if status, _, body := do(t, g.httpClient(true), two); status != http.StatusForbidden || !strings.Contains(body, "ORIGIN_DENIED") {
		t.Errorf("two origins: %d %s", status, body)
	}
	if g.c1.Hits() != 0 {
		t.Errorf("C1 saw %d requests", g.c1.Hits())
	}
	if m := g.metrics(); !strings.Contains(m, `c1proxy_preflights_total{result="allowed"} 0`) || strings.Contains(m, `c1proxy_preflights_total{result="refused"} 0`) {
		t.Error(grep(m, "preflights"))
	}
}

// leave is what of an answer gives a page leave to do something.
func leave(header http.Header) (found string) {
	for name := range header {
		if strings.HasPrefix(name, "Access-Control-Allow") || strings.HasPrefix(name, "Access-Control-Max") {
			found += name + " "
		}
	}
	return found
}

// exposes tells whether a page may read a header of an answer.
func exposes(header http.Header, name string) bool {
	return slices.ContainsFunc(strings.Split(header.Get("Access-Control-Expose-Headers"), ","), func(one string) bool {
		return strings.EqualFold(strings.TrimSpace(one), name)
	})
}

// The page's own calls work on every door that browsers have, and it can read
// every answer: results, refusals of each stage, and what is no call at all. It is
// never let to send cookies or a certificate.
func TestAllowedOrigin(t *testing.T) {
	g := startForPages(t)
	header := http.Header{"Origin": {page}, "Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"cors"}}
	readable := func(what string, header http.Header, names ...string) {
		t.Helper()
		if !slices.Equal(header["Access-Control-Allow-Origin"], []string{page}) || header["Access-Control-Allow-Credentials"] != nil || !slices.Contains(header["Vary"], "Origin") {
			t.Errorf("%s: %v", what, header)
		}
		for _, name := range append(names, "X-Request-Id") {
			if header.Get(name) == "" && name != "X-Request-Id" || !exposes(header, name) {
				t.Errorf("%s: the page cannot read %s of %v", what, name, header)
			}
		}
	}
	for _, p := range protocols {
		if p.door == "grpc" {
			continue // which no browser speaks
		}
		for caller, want := range map[string]connect.Code{"sync-bot": 0, "": connect.CodeUnauthenticated, "reader": connect.CodePermissionDenied} {
			client, b := g.browse(p, caller, header)
			response, err := client.ConfirmSyncValid(t.Context(), g.confirmation(confirmable(g)))
			if codeOf(err) != want {
				t.Errorf("%s, %q: %v", p.name, caller, err)
			}
			readable(p.name+" of "+caller, b.last.Header)
			if want == connect.CodeUnauthenticated && !exposes(b.last.Header, "WWW-Authenticate") {
				t.Errorf("%s: WWW-Authenticate cannot be read", p.name)
			}
			if records := g.records(requestID(response, err)); len(records) == 0 || records[len(records)-1].Detail["origin"] != page {
				t.Errorf("%s: records %+v", p.name, records)
			}
		}
		for range 2 { // the second is over the limit
			client, b := g.browse(p, "slow-bot", header)
			if _, err := client.List(t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID})); err != nil {
				readable("429 "+p.name, b.last.Header, "Retry-After", "RateLimit", "RateLimit-Policy")
			}
		}
	}
	for _, seen := range g.c1.Requests() {
		if seen.Header.Get("Origin")+seen.Header.Get("Sec-Fetch-Site") != "" {
			t.Errorf("C1 saw the page's headers: %v", seen.Header)
		}
	}
	for _, path := range []string{"/nothing", "/api/v1/nothing", "/c1.api.app.v1.Apps/Nothing"} {
		r := g.own("GET", path, "", "")
		r.Header.Set("Origin", page)
		_, header, _ := do(t, g.httpClient(true), r)
		readable(path, header)
	}
	get := g.own("GET", "/"+listMethod+"?connect=v1&encoding=json&message=%7B%22appId%22%3A%22"+g.facts.AppID+"%22%7D", "sync-bot", "")
	get.Header.Set("Origin", page)
	status, answer, body := do(t, g.httpClient(true), get)
	if readable("Connect's GET", answer); status != http.StatusOK {
		t.Errorf("Connect's GET: %d %s", status, body)
	}
}

// A preflight of the page's is answered for what the clients of each door send, and
// for nothing else; browsers may remember it.
func TestPreflight(t *testing.T) {
	g := startForPages(t)
	const web = "authorization,c1proxy-reason,c1proxy-team,content-type,traceparent,x-request-id"
	for _, tt := range []struct {
		name, path, method, headers string
		allowed                     bool
	}{
		{"Connect-Web", "/" + confirmMethod, "POST", "authorization,connect-protocol-version,connect-timeout-ms,content-type", true},
		{"gRPC-Web", "/" + confirmMethod, "POST", "authorization,content-type,grpc-timeout,x-grpc-web,x-user-agent", true},
		{"Connect's GET", "/" + listMethod, "GET", "authorization,connect-timeout-ms", true},
		{"C1's paths", "/api/v1/apps/1", "DELETE", web, true},
		{"C1's paths, to write", "/api/v1/apps", "POST", web, true},
		{"a path that is none", "/nothing", "POST", web, true},
		{"a cookie", "/" + confirmMethod, "POST", "authorization,cookie", false},
		{"an unknown header", "/" + confirmMethod, "POST", "authorization,x-evil", false},
		{"an unknown verb", "/" + confirmMethod, "TRACE", "authorization", false},
	} {
		status, header, body := do(t, g.httpClient(true), g.preflight(tt.path, page, tt.method, tt.headers))
		allowed := header.Get("Access-Control-Allow-Origin") == page && header.Get("Access-Control-Allow-Methods") == tt.method
		if status != http.StatusNoContent || body != "" || allowed != tt.allowed || !strings.Contains(header.Get("Vary"), "Origin") || header["Access-Control-Allow-Credentials"] != nil {
			t.Errorf("%s: %d %v", tt.name, status, header)
		}
		if tt.allowed && (!strings.EqualFold(header.Get("Access-Control-Allow-Headers"), tt.headers) || header.Get("Access-Control-Max-Age") != "7200") {
			t.Errorf("%s: %v", tt.name, header)
		}
	}
	if n := g.recordCount(); n != 0 {
		t.Errorf("preflights made %d records", n)
	}
}

// D10: a preflight that is as long as a header may be costs no more than to read
// it, however many commas it holds.
func TestPreflightFlood(t *testing.T) {
	g := startForPages(t)
	client := g.httpClient(true)
	median := func(r func() *http.Request, want int) time.Duration {
		var took []time.Duration
		for range 200 {
			begun := time.Now()
			if status, header, _ := do(t, client, r()); status != want || leave(header) != "" {
				t.Fatalf("%d %v", status, header)
			}
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	long := strings.Repeat(",", 60<<10)
	plain := median(func() *http.Request {
		r := g.own("GET", "/nothing", "", "")
		r.Header.Set("X-Long", long)
		return r
	}, http.StatusNotFound)
	for name, headers := range map[string]string{"commas": long, "names": strings.Repeat("authorization,", 4<<10), "one name": strings.Repeat("a", 60<<10)} {
		took := median(func() *http.Request { return g.preflight("/"+listMethod, page, "POST", headers) }, http.StatusNoContent)
		t.Logf("%s: %v, and %v for a request that leads nowhere with as long a header", name, took, plain)
		if took > 4*plain {
			t.Errorf("%s: a preflight takes %v, a request that leads nowhere %v", name, took, plain)
		}
	}
	if status, _, _ := do(t, client, g.preflight("/"+listMethod, page, "POST", strings.Repeat(",", 100<<10))); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("one that is too long: %d", status)
	}
	if n := g.recordCount(); n != 0 {
		t.Errorf("preflights made %d records", n)
	}
}

// D13: a cookie proves nothing; what a browser makes for another site without
// telling whose page it is, is refused even with a proof; and c1proxy's own site, and
// what a person opens, are not.
func TestFetchedFromElsewhere(t *testing.T) {
	g := start(t) // no page may call
	for _, tt := range []struct {
		name   string
		header http.Header
		want   string
	}{
		{"no browser", nil, ""},
		{"a cookie alone", http.Header{"Cookie": {"key=" + g.keys["sync-bot"]}, "Authorization": nil}, "UNAUTHENTICATED"},
		{"another site", http.Header{"Sec-Fetch-Site": {"cross-site"}}, "ORIGIN_DENIED"},
		{"a sibling", http.Header{"Sec-Fetch-Site": {"same-site"}}, "ORIGIN_DENIED"},
		{"an odd word", http.Header{"Sec-Fetch-Site": {"x"}}, "ORIGIN_DENIED"},
		{"a person", http.Header{"Sec-Fetch-Site": {"none"}}, ""},
		{"the same origin", http.Header{"Sec-Fetch-Site": {"same-origin"}}, ""},
		{"the same origin, named", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://c1proxy.example.com"}}, ""},
		{"another origin, named", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {page}}, "ORIGIN_DENIED"},
		{"another origin, without more", http.Header{"Origin": {page}}, "ORIGIN_DENIED"},
		{"the same host over plain http, without more", http.Header{"Origin": {g.url}}, ""},
		{"another port of it", http.Header{"Origin": {g.url + "0"}}, "ORIGIN_DENIED"},
		{"the same host by another scheme", http.Header{"Origin": {strings.Replace(g.url, "http:", "https:", 1)}}, "ORIGIN_DENIED"},
		{"the same host from another site", http.Header{"Origin": {g.url}, "Sec-Fetch-Site": {"cross-site"}}, "ORIGIN_DENIED"},
	} {
		for _, r := range []*http.Request{g.post(listMethod, g.keys["sync-bot"], `{"appId":"`+g.facts.AppID+`"}`), g.own("GET", g.listPath(), "sync-bot", "")} {
			for name, values := range tt.header {
				r.Header[name] = values
			}
			status, header, body := do(t, g.httpClient(true), r)
			if tt.want == "" && status != http.StatusOK || !strings.Contains(body, tt.want) || leave(header) != "" || header["Vary"] != nil {
				t.Errorf("%s, %s: %d %v %s", tt.name, r.Method, status, header, body)
			}
		}
	}
}
