package c1proxy_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// everything lets sync-bot call all of C1, and bodies be of 4 KiB.
func everything(s *setup) {
	s.yaml = func(text string) string {
		text = strings.Replace(text, `      - methods: ["c1.api.app.v1.ConnectorService/*"]`, `      - {methods: ["c1.**/*"], include_draft: true}`, 1)
		return strings.Replace(text, `listen: {address: "127.0.0.1:0"}`, `listen: {address: "127.0.0.1:0", max_message_bytes: 4096}`, 1)
	}
}

// What comes from a caller goes up byte for byte, and what comes from C1 comes
// back byte for byte; the path goes up in its one spelling.
func TestRESTBytes(t *testing.T) {
	g := start(t, everything)
	create := "/api/v1/apps/a/connectors/create"
	up := []struct{ verb, target, body, uri string }{
		{"POST", create, " {\n\t\"userIds\" : [ \"b\" ,\"a\"],\r\n\"description\":\"\\u00e9\\/\\ud83d\\ude00é\\u0000\" } \n", create},
		{"POST", create, `{"description":"x","catalog_id":"y","zzz":{"b":[1e400,-0.0,null,{"":""}],"a":"unknown"},"userIds":null}`, create},
		{"POST", create, `{"config":{"@type":"type.googleapis.com/c1.sandbox.v1.Unheard","n":123456789012345678901234567890,"a":[[]]}}`, create},
		{"POST", create, `{"config":{"id":"no type at all"}}`, create},
		{"POST", create, `{}`, create},
		{"POST", create, ``, create},
		{"POST", "/api/v1/apps/%61%2b b/connectors/create", `{ }`, "/api/v1/apps/a%2B%20b/connectors/create"},
		{"POST", "/api/v1/reporting/reports/r", `{"parameterValues":{"n":12345678901234567890,"f":1e2,"@type":"mine","nested":{"z":1,"a":0.10}}}`, "/api/v1/reporting/reports/r"},
		{"POST", "/api/v1/search/automation_executions", `{"executionId":9007199254740993,"pageSize":1e1}`, "/api/v1/search/automation_executions"},
		{"POST", "/api/v1/search/automation_executions", `{"executionId":"9007199254740993","executionStepStates":["NEWER_STATE",77]}`, "/api/v1/search/automation_executions"},
		{"POST", "/api/v1/automation_executions/9223372036854775807/actions/terminate", `{}`, "/api/v1/automation_executions/9223372036854775807/actions/terminate"},
		{"GET", "/api/v1/automation_executions/-7", "", "/api/v1/automation_executions/-7"},
		{"GET", "/api/v1/apps/a/connectors?page_token=%61+b%20%3D%3d&page_size=7", "", "/api/v1/apps/a/connectors?page_token=%61+b%20%3D%3d&page_size=7"},
		{"GET", "/api/v1/apps/a/connectors?p%61ge_token&page_size=0", "", "/api/v1/apps/a/connectors?p%61ge_token&page_size=0"},
		{"GET", "/api/v1/users/u/mcp_toolsets/requestable_connectors/search?grant_enrollment_status=NEWER_VALUE&query=[a]{b}|^`'\\/?:@!$,*~", "",
			"/api/v1/users/u/mcp_toolsets/requestable_connectors/search?grant_enrollment_status=NEWER_VALUE&query=[a]{b}|^`'\\/?:@!$,*~"},
	}
	down := []string{
		`{}`, " {\n\t\"b\" : 1 ,\"a\":[ 2.0 , 1E400 , -0 ]}\r\n ", `{"é\u00e9":"\ud83d\ude00é<>&","new":{"@type":"x"}}`,
		`{"twice":1,"twice":2,"connectorView":null}`, `{"n":12345678901234567890123}`,
	}
	i := 0
	for _, status := range []int{200, 201, 202, 203, 206, 299} {
		for _, body := range down {
			tt := up[i%len(up)]
			i++
			g.c1.Reset()
			g.c1.Inject(sandbox.Rule{Fault: sandbox.Answer(status, "text/javascript; charset=latin1", body), Times: 1})
			answer := g.rawHTTP2
			if tt.body == "" && !strings.Contains(tt.target, " ") {
				answer = g.rawHTTP1
			}
			got := answer(wireRequest{verb: tt.verb, target: tt.target, body: tt.body, header: [][2]string{
				{"authorization", "Bearer " + g.keys["sync-bot"]}, {"content-type", "application/json; charset=UTF-8"}, {"accept-encoding", "gzip, br"}}})
			if got.status != status || got.body != body || got.header.Get("Content-Type") != "application/json" || got.header.Get("Content-Encoding") != "" {
				t.Errorf("%s %s: got %d %q %v, want %d %q", tt.verb, tt.target, got.status, got.body, got.header, status, body)
			}
			seen := g.c1.Requests()
			if len(seen) != 1 || seen[0].Method != tt.verb || seen[0].URI != tt.uri || string(seen[0].Body) != tt.body || seen[0].Header.Get("Accept-Encoding") != "gzip" {
				t.Errorf("%s %s: C1 saw %+v\n%q, want %s\n%q", tt.verb, tt.target, seen, seen[0].Body, tt.uri, tt.body)
			}
			records := g.records(got.header.Get("X-Request-Id"))
			if len(records) != 2 || records[1].Outcome != audit.OutcomeOK || records[1].Code != "ok" || records[1].UpstreamStatus != status || records[0].Procedure != seen[0].Procedure {
				t.Errorf("%s %s: records %+v", tt.verb, tt.target, records)
			}
		}
	}
	if metrics := grep(g.metrics(), "c1proxy_calls_total"); strings.Contains(metrics, `code="unknown"`) {
		t.Errorf("a success was counted as none:\n%s", metrics)
	}
}

// A front stands before the sandbox, and can do what a fault cannot.
type front struct {
	proxy  *httputil.ReverseProxy
	change func(w http.ResponseWriter, r *http.Request) bool // false: it has answered
}

// withFront starts a gateway whose C1 is behind a front.
func withFront(t *testing.T, change func(http.ResponseWriter, *http.Request) bool, more ...func(*setup)) *gateway {
	t.Helper()
	f := &front{change: change}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	g := start(t, append(more, func(s *setup) { s.tenant = server.URL })...)
	target, err := url.Parse(g.c1.URL())
	if err != nil {
		t.Fatal(err)
	}
	f.proxy = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	return g
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == sandbox.TokenPath || f.change(w, r) {
		f.proxy.ServeHTTP(w, r)
	}
}

// B1: the headers that go up are the same as for RPC and none is the caller's;
// those that come back are c1proxy's own and none is C1's. An answer that C1
// compresses is unpacked, whatever the caller accepts.
func TestRESTHeaders(t *testing.T) {
	g := withFront(t, func(w http.ResponseWriter, r *http.Request) bool {
		header := w.Header()
		for _, name := range []string{"Set-Cookie", "X-Secret", "Location", "Etag", "Vary", "Server", "Link", "Access-Control-Allow-Origin", "X-Request-Id", "Www-Authenticate", "Refresh", "Alt-Svc"} {
			header.Set(name, "canary")
		}
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			return true
		}
		header.Set("Content-Type", "application/json")
		header.Set("Content-Encoding", "gzip")
		packed := gzip.NewWriter(w)
		io.WriteString(packed, `{"packed": true}`)
		packed.Close()
		return false
	})
	for _, accept := range []string{"", "gzip", "br, *;q=0"} {
		r := g.own("POST", g.confirmPath("nodata-"+accept[:min(2, len(accept))]), "sync-bot", "{}")
		if accept != "" {
			r.Header.Set("Accept-Encoding", accept)
		} else {
			r.Header.Set("Accept-Encoding", "identity")
		}
		status, header, body := do(t, g.httpClient(true), r)
		if status != 200 || body != `{"packed": true}` {
			t.Errorf("%q: got %d %q", accept, status, body)
		}
		names := slices.Sorted(maps.Keys(header))
		want := []string{"Cache-Control", "Content-Length", "Content-Type", "Date", "X-Content-Type-Options", "X-Request-Id"}
		if diff := cmp.Diff(want, names); diff != "" || strings.Contains(fmt.Sprint(header), "canary") {
			t.Errorf("%q: %s%v", accept, diff, header)
		}
	}
}

// The headers that C1 sees are a fixed list on this door as on every other.
func TestRESTHeadersUp(t *testing.T) {
	g := start(t)
	client := g.httpClient(true)
	seen := func(r *http.Request) sandbox.Request {
		for _, name := range []string{"Cookie", "Idempotency-Key", "X-Idempotency-Key", "X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-Ip",
			"Traceparent", "X-Secret", "X-Http-Method-Override", "Dpop", "User-Agent", "Te", "Accept-Language", "Accept", "Range", "If-None-Match",
			"If-Modified-Since", "Grpc-Timeout", "Content-Language", "Via"} {
			r.Header.Set(name, "canary")
		}
		r.Host = "canary.example.com"
		r.Header.Set("X-Request-Id", "mine")
		r.Header.Set("C1proxy-Reason", "because%20of%20%C3%BC")
		status, header, body := do(t, client, r)
		if status != 200 {
			t.Fatalf("got %d %s", status, body)
		}
		requests := g.c1.Requests()
		last := requests[len(requests)-1]
		id := header.Get("X-Request-Id")
		if last.Header.Get("X-Request-Id") != id || id == "mine" || strings.Contains(last.Host+fmt.Sprint(last.Header), "canary") {
			t.Errorf("C1 saw %s %v", last.Host, last.Header)
		}
		for _, record := range g.records(id) {
			if record.ClientRequestID != "mine" || record.Reason != "because of ü" {
				t.Errorf("record %+v", record)
			}
		}
		last.Header.Del("X-Request-Id")
		last.Header.Del("Date")
		return last
	}
	for name, pair := range map[string][2]*http.Request{
		"write": {g.post(confirmMethod, g.keys["sync-bot"], g.confirmJSON("nodata-1")), g.own("POST", g.confirmPath("nodata-2"), "sync-bot", "{}")},
		"read":  {g.post(listMethod, g.keys["sync-bot"], `{"appId":"`+g.facts.AppID+`"}`), g.own("GET", g.listPath(), "sync-bot", "")},
	} {
		rpc, own := seen(pair[0]), seen(pair[1])
		if diff := cmp.Diff(rpc.Header, own.Header); diff != "" || len(own.Header) > 6 || rpc.Host != own.Host {
			t.Errorf("%s: %s %v", name, diff, own.Header)
		}
		if rpc.ContentLength != own.ContentLength || !cmp.Equal(rpc.TransferEncoding, own.TransferEncoding) {
			t.Errorf("%s: framed as %d %v by RPC, and %d %v here", name, rpc.ContentLength, rpc.TransferEncoding, own.ContentLength, own.TransferEncoding)
		}
	}
}

// What a request has wrong is refused in C1's form, with its own HTTP status,
// is on record once, and reaches nobody.
func TestRESTRefusals(t *testing.T) {
	g := start(t, everything)
	create, list := g.listPath()+"/create", g.listPath()
	json := [][2]string{{"Content-Type", "application/json"}}
	media := func(values ...string) (header [][2]string) {
		for _, value := range values {
			header = append(header, [2]string{"Content-Type", value})
		}
		return header
	}
	coding := func(value string) [][2]string {
		return append(media("application/json"), [2]string{"Content-Encoding", value})
	}
	tests := []struct {
		name, verb, target string
		header             [][2]string
		body               string
		status             int
		field              string
	}{
		{"undeclared key", "GET", list + "?nope=1", nil, "", 400, "nope"},
		{"JSON name", "GET", list + "?pageSize=1", nil, "", 400, "pageSize"},
		{"key twice", "GET", list + "?page_size=1&page_size=1", nil, "", 400, "page_size"},
		{"key twice, spelled twice", "GET", list + "?page_size=1&p%61ge_size=1", nil, "", 400, "page_size"},
		{"key of the path", "GET", list + "?app_id=x", nil, "", 400, "app_id"},
		{"leading zero", "GET", list + "?page_size=01", nil, "", 400, "page_size"},
		{"sign", "GET", list + "?page_size=%2B1", nil, "", 400, "page_size"},
		{"too many digits", "GET", list + "?page_size=2147483648", nil, "", 400, "page_size"},
		{"broken escape", "GET", list + "?page_token=%zz", nil, "", 400, "page_token"},
		{"not UTF-8", "GET", list + "?page_token=%ff", nil, "", 400, "page_token"},
		{"semicolon", "GET", list + "?page_size=1;page_token=a", nil, "", 400, ""},
		{"empty pair", "GET", list + "?page_size=1&", nil, "", 400, ""},
		{"enum that is no name", "GET", "/api/v1/users/u/mcp_toolsets/requestable_connectors/search?grant_enrollment_status=a-b", nil, "", 400, "grant_enrollment_status"},
		{"query beside a body", "POST", create + "?description=x", json, "{}", 400, ""},
		{"query without a body", "POST", create + "?description=x", nil, "", 400, ""},
		{"body of a GET", "GET", list, json, "{}", 400, ""},
		{"bound field", "POST", create, json, `{"appId":"x"}`, 400, "app_id"},
		{"bound field, proto name", "POST", create, json, `{"app_id":"x"}`, 400, "app_id"},
		{"bound field, null", "POST", create, json, `{"appId":null}`, 400, "app_id"},
		{"bound field, escaped", "POST", create, json, `{"\u0061ppId":"x"}`, 400, "app_id"},
		{"key twice", "POST", create, json, `{"description":"a","description":"a"}`, 400, "description"},
		{"both spellings", "POST", create, json, `{"catalogId":"a","catalog_id":"a"}`, 400, "catalog_id"},
		{"both spellings, null", "POST", create, json, `{"catalogId":null,"catalog_id":"a"}`, 400, "catalog_id"},
		{"unknown key twice", "POST", create, json, `{"x":1,"x":1}`, 400, "x"},
		{"unknown key twice, escaped", "POST", create, json, `{"x":1,"\u0078":1}`, 400, "x"},
		{"key twice in an unknown part", "POST", create, json, `{"x":[{"y":{"z":1,"z":2}}]}`, 400, "x[0].y.z"},
		{"key twice in an Any", "POST", create, json, `{"config":{"@type":"u","a":1,"a":1}}`, 400, "config.a"},
		{"key twice in a Struct", "POST", "/api/v1/reporting/reports/r", json, `{"parameterValues":{"a":{"b":1,"b":2}}}`, 400, "parameter_values.a.b"},
		{"@type twice", "POST", create, json, `{"config":{"@type":"u","@type":"v"}}`, 400, "config.@type"},
		{"wrong type", "POST", create, json, `{"description":1}`, 400, "description"},
		{"object for a list", "POST", create, json, `{"userIds":{}}`, 400, "user_ids"},
		{"null in a list", "POST", create, json, `{"userIds":[null]}`, 400, "user_ids[0]"},
		{"two of a oneof", "POST", "/api/v1/apps/a/entitlements", json, `{"durationUnset":{},"durationGrant":"1s"}`, 400, ""},
		{"number too large", "POST", "/api/v1/search/automation_executions", json, `{"executionId":9223372036854775808}`, 400, "execution_id"},
		{"fraction", "POST", "/api/v1/search/automation_executions", json, `{"executionId":1.5}`, 400, "execution_id"},
		{"array", "POST", create, json, `[]`, 400, ""},
		{"string", "POST", create, json, `"a"`, 400, ""},
		{"null", "POST", create, json, `null`, 400, ""},
		{"white space", "POST", create, json, " \n", 400, ""},
		{"two values", "POST", create, json, `{}{}`, 400, ""},
		{"cut", "POST", create, json, `{"description":"a`, 400, "description"},
		{"mark of byte order", "POST", create, json, "\ufeff{}", 400, ""},
		{"comment", "POST", create, json, "{}//", 400, ""},
		{"not UTF-8", "POST", create, json, "{\"description\":\"\xff\"}", 400, "description"},
		{"not UTF-8 in an unknown part", "POST", create, json, "{\"x\":\"\xc0\xaf\"}", 400, "x"},
		{"half a pair", "POST", create, json, `{"description":"\ud83d"}`, 400, "description"},
		{"101 deep", "POST", create, json, `{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}", 400, ""},
		{"1000 deep", "POST", create, json, strings.Repeat(`{"x":`, 600) + "1" + strings.Repeat("}", 600), 400, ""},
		{"no media type", "POST", create, nil, "{}", 415, ""},
		{"text", "POST", create, media("text/plain"), "{}", 415, ""},
		{"form", "POST", create, media("application/x-www-form-urlencoded"), "description=x", 415, ""},
		{"gRPC", "POST", create, media("application/grpc+json"), "\x00\x00\x00\x00\x02{}", 415, ""},
		{"Connect", "POST", create, media("application/connect+json"), "{}", 415, ""},
		{"protobuf", "POST", create, media("application/proto"), "\x0a\x01a", 415, ""},
		{"charset", "POST", create, media("application/json; charset=utf-16"), "{}", 415, ""},
		{"two media types", "POST", create, media("application/json", "application/json"), "{}", 415, ""},
		{"gzip", "POST", create, coding("gzip"), "\x1f\x8b", 415, ""},
		{"br", "POST", create, coding("identity, br"), "{}", 415, ""},
		{"too large", "POST", create, json, `{"description":"` + strings.Repeat("a", 4096) + `"}`, 413, ""},
		{"large white space", "POST", create, json, "{}" + strings.Repeat(" ", 5000), 413, ""},
	}
	calls := 0
	for _, tt := range tests {
		for way, send := range map[string]func(wireRequest) wireAnswer{"HTTP/1": g.rawHTTP1, "HTTP/2": g.rawHTTP2, "chunked": g.rawChunked} {
			if way == "chunked" && tt.body == "" {
				continue
			}
			name := tt.name + ", " + way
			answer := send(wireRequest{tt.verb, tt.target, append([][2]string{{"Authorization", "Bearer " + g.keys["sync-bot"]}}, tt.header...), tt.body})
			calls++
			checkRefused(t, g, name, answer, tt.status, tt.field)
		}
	}
	checkFinals(t, g, calls)
	if hits := g.c1.Hits(); hits != 0 {
		t.Errorf("%d requests reached C1", hits)
	}
}

// checkRefused looks at one refusal of a caller's mistake.
func checkRefused(t *testing.T, g *gateway, name string, answer wireAnswer, status int, field string) {
	t.Helper()
	code, reason := connect.CodeInvalidArgument, "BAD_REQUEST"
	if status == 413 {
		code, reason = connect.CodeResourceExhausted, "TOO_LARGE"
	}
	got, info, err := readStatus(answer.header, answer.body)
	if err != nil || answer.status != status || got != code || info.GetReason() != reason || field != "" && info.GetMetadata()["field"] != field {
		t.Errorf("%s: got %d %s (%v), want %d about %q", name, answer.status, answer.body, err, status, field)
	}
	records := g.records(answer.header.Get("X-Request-Id"))
	if len(records) != 1 || records[0].Kind != audit.KindDenied || records[0].Door != "rest" || records[0].Outcome != audit.OutcomeNotSent ||
		records[0].Error != reason || records[0].Code != code.String() || records[0].Rule == "" || records[0].Field != info.GetMetadata()["field"] {
		t.Errorf("%s: records %+v", name, records)
	}
}

// rawChunked sends a request over HTTP/1.1 whose length is not declared.
func (g *gateway) rawChunked(r wireRequest) wireAnswer {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n", r.verb, r.target)
	for _, pair := range r.header {
		fmt.Fprintf(&text, "%s: %s\r\n", pair[0], pair[1])
	}
	text.WriteString("\r\n")
	for part := range slices.Chunk([]byte(r.body), max(1, len(r.body)/2)) {
		fmt.Fprintf(&text, "%x\r\n%s\r\n", len(part), part)
	}
	return g.rawText(r.verb, text.String()+"0\r\n\r\n")
}

// A body that is empty is none, however that is said, and may be on a write;
// one that ends before its end is refused.
func TestRESTEmptyAndCutBodies(t *testing.T) {
	g := start(t)
	auth := "Authorization: Bearer " + g.keys["sync-bot"] + "\r\n"
	force, list := g.listPath()+"/"+g.facts.ConnectorID+"/force_sync", g.listPath()
	for _, text := range []string{
		"POST " + force + " HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n",
		"POST " + force + " HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 0\r\nContent-Type: text/html\r\n\r\n",
		"POST " + force + " HTTP/1.1\r\nHost: x\r\n" + auth + "Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n0\r\n\r\n",
		"POST " + force + " HTTP/1.0\r\n" + auth + "\r\n",
		"GET " + list + " HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET " + list + " HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 0\r\n\r\n",
	} {
		g.c1.Reset()
		answer := g.rawText("POST", text)
		if seen := g.c1.Requests(); answer.status != 200 || len(seen) != 1 || len(seen[0].Body) != 0 {
			t.Errorf("%q: got %d %s, C1 saw %+v", text, answer.status, answer.body, seen)
		}
	}
	g.c1.Reset()
	for text, want := range map[string]string{ // a caller who ends has gone: net/http knows no half-open connection
		"POST " + force + " HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Type: application/json\r\nContent-Length: 3\r\n\r\n{}":                    "499",
		"POST " + force + " HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n":  "499",
		"POST " + force + " HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n": "400",
		"GET " + list + " HTTP/1.1\r\nHost: x\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\nzz\r\n":                                           "400",
	} {
		conn := g.dial().(*net.TCPConn)
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 "+want) || want == "400" && !strings.Contains(string(answer), "BAD_REQUEST") {
			t.Errorf("%q: got %q, %v", text, answer, err)
		}
	}
	checkFinals(t, g, 10)
	if hits := g.c1.Hits(); hits != 0 {
		t.Errorf("%d requests reached C1", hits)
	}
}
