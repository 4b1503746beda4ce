package c1proxy_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/c1proxy/c1proxy/internal/audit"
)

const (
	forceMethod = "c1.api.app.v1.ConnectorService/ForceSync"
	listMethod  = "c1.api.app.v1.ConnectorService/List"
)

// own makes a request of C1's own paths. The target goes out as it is written.
func (g *gateway) own(verb, target, caller, body string) *http.Request {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), verb, g.url, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.URL.Opaque, r.URL.RawQuery, _ = strings.Cut(target, "?")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if caller != "" {
		r.Header.Set("Authorization", "Bearer "+g.keys[caller])
	}
	return r
}

// listPath is C1's own path for a list of the demo's connectors.
func (g *gateway) listPath() string { return "/api/v1/apps/" + g.facts.AppID + "/connectors" }

// readStatus reads an error in C1's form. It must be whole: with a message and,
// unless the caller's own time is to blame, with an ErrorInfo of c1proxy's.
func readStatus(header http.Header, body string) (code connect.Code, info *errdetails.ErrorInfo, err error) {
	var said status.Status
	if err := protojson.Unmarshal([]byte(body), &said); err != nil {
		return 0, nil, err
	}
	if len(said.GetDetails()) > 0 {
		info = new(errdetails.ErrorInfo)
		if err := said.GetDetails()[0].UnmarshalTo(info); err != nil {
			return 0, nil, err
		}
	}
	switch {
	case said.GetMessage() == "" || info.GetDomain() != "c1proxy":
		err = errors.New("it has no message or no ErrorInfo")
	case header.Get("Content-Type") != "application/json" || header.Get("X-Content-Type-Options") != "nosniff":
		err = fmt.Errorf("its headers are %v", header)
	}
	return connect.Code(said.GetCode()), info, err
}

// A decision is what was made of one call, as far as it must not depend on the
// door.
type decision struct {
	code    connect.Code
	reason  string
	records string
}

// P9: who may call what does not depend on the door. Every procedure of C1's
// and every caller: the code, the reason, and all that the records say.
func TestSameDecision(t *testing.T) {
	g := start(t, func(s *setup) { s.c1.Stateless = true })
	g.keys["stranger"] = g.keys["reader"][:len(g.keys["reader"])-1] + "!"
	http2 := g.httpClient(false)
	decisions := make(map[string]*decision) // by request id
	calls := make(map[string][]string)      // caller and procedure -> request ids, in the order of the doors
	for _, method := range operations(t) {
		procedure := string(method.Parent().FullName()) + "/" + string(method.Name())
		for _, caller := range []string{"reader", "sync-bot", "", "stranger"} {
			// Of the service that everyone's rules speak of, all callers.
			if !strings.HasPrefix(procedure, "c1.api.app.v1.ConnectorService/") && caller != "reader" {
				continue
			}
			for _, p := range protocols {
				var inner connect.HTTPClient = http2
				if p.door == "rest" {
					inner = pathsClient{http2}
				}
				options := append([]connect.ClientOption{connect.WithInterceptors(bearer(g.keys[caller]))}, p.options...)
				client := connect.NewClient[emptypb.Empty, emptypb.Empty](inner, g.url+"/"+procedure, options...)
				response, err := client.CallUnary(t.Context(), connect.NewRequest(new(emptypb.Empty)))
				made := &decision{reason: reasonOf(err)}
				if err != nil {
					made.code = connect.CodeOf(err)
				}
				id := requestID(response, err)
				decisions[id] = made
				calls[caller+" "+procedure] = append(calls[caller+" "+procedure], id)
			}
		}
	}
	doors := make(map[string]string)
	shared, sharing := 0, 0 // strangers come so fast that some share a record
	err := audit.Query(t.Context(), g.dir, audit.Filter{}, func(r audit.Record) error {
		if count, err := strconv.Atoi(r.Detail["count"]); err == nil && r.Error == "UNAUTHENTICATED" {
			shared += count
		}
		if made := decisions[r.RequestID]; made != nil {
			doors[r.RequestID] = r.Door
			made.records += fmt.Sprintln(r.Kind, r.Caller, r.Team, r.Tenant, r.Credential, r.Procedure, r.PolicyRevision, r.Rule, r.Path, r.Error, r.Field,
				r.UpstreamStatus, r.Attempts, r.Code, r.Outcome)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	differ, counts := 0, make(map[string]int)
	for call, ids := range calls {
		first := decisions[ids[0]]
		counts[first.reason]++
		for i, id := range ids {
			if decisions[id].reason == "UNAUTHENTICATED" {
				if decisions[id].records == "" {
					sharing++
				}
				if decisions[id].records == "" || first.records == "" {
					decisions[id].records, doors[id] = first.records, protocols[i].door
					if decisions[id].reason == first.reason && decisions[id].code == first.code {
						continue
					}
				}
			}
			if got := decisions[id]; *got != *first || doors[id] != protocols[i].door || got.records == "" {
				if differ++; differ < 10 {
					t.Errorf("%s: by %s (%s)\n%+v\nby %s\n%+v", call, protocols[i].name, doors[id], *got, protocols[0].name, *first)
				}
			}
		}
	}
	if shared != sharing {
		t.Errorf("%d calls of strangers have no record of their own, and %d share one", sharing, shared)
	}
	t.Logf("%d callers' procedures on %d doors, %d decisions, %d differ: %v", len(calls), len(protocols), len(decisions), differ, counts)
	for _, reason := range []string{"", "METHOD_DENIED", "UNAUTHENTICATED", "BAD_PATH_VALUE"} {
		if counts[reason] == 0 {
			t.Errorf("no decision was %q", reason)
		}
	}
}

// A call on one door leaves less for the other: there is one bucket.
func TestRESTSpends(t *testing.T) {
	for _, first := range []string{"connect", "rest"} {
		g := start(t)
		client := g.httpClient(true)
		requests := []*http.Request{
			g.post(listMethod, g.keys["slow-bot"], `{"appId":"`+g.facts.AppID+`"}`),
			g.own("GET", g.listPath(), "slow-bot", ""),
		}
		if first == "rest" {
			requests[0], requests[1] = requests[1], requests[0]
		}
		status, header, body := do(t, client, requests[0])
		if status != 200 || header.Get("RateLimit") != `"caller";r=0;t=3600` || header.Get("RateLimit-Policy") != `"caller";q=1;w=3600` {
			t.Errorf("%s first: %d %s, %v", first, status, body, header)
		}
		status, header, body = do(t, client, requests[1])
		if status != 429 || header.Get("Retry-After") == "" || !strings.Contains(body, "RATE_LIMITED") || !strings.Contains(body, "retryDelay") {
			t.Errorf("%s first, then the other: %d %s, %v", first, status, body, header)
		}
		if records := g.records(header.Get("X-Request-Id")); len(records) != 1 || records[0].Rule != "caller" || records[0].Procedure != listMethod {
			t.Errorf("records %+v", records)
		}
	}
}

// D3: however a path is spelled, over HTTP/1 and HTTP/2, it is no call, and then
// nothing is recorded and C1 sees nothing; or it is a call of exactly that
// procedure, and its values are refused or go up in their one spelling.
func TestOddPaths(t *testing.T) {
	g := start(t)
	list, confirm := g.listPath(), g.confirmPath("nowhere")
	app := g.facts.AppID
	tests := []struct {
		target    string
		status    int    // 0: no answer at all, which only HTTP/2 gives; then HTTP/1's is 400
		procedure string // "" if it is no call
		up        string // what C1 saw, "" if nothing
	}{
		{list, 200, listMethod, list},
		{list + "?", 200, listMethod, list},
		{"http://evil.example.com" + list, 200, listMethod, list},
		{"HTTPS://u:p@evil.example.com:1" + list, 200, listMethod, list},
		{strings.Replace(list, app, "%32"+app[1:], 1), 200, listMethod, list},
		{"/api/v1/apps/a+b&c/connectors", 404, listMethod, "/api/v1/apps/a%2Bb%26c/connectors"},
		{"/api/v1/apps/a%20%26%2b/connectors", 404, listMethod, "/api/v1/apps/a%20%26%2B/connectors"},

		{"/" + list, 404, "", ""},
		{"/." + list, 404, "", ""},
		{"/x/.." + list, 404, "", ""},
		{"//evil.example.com" + list, 404, "", ""},
		{"http:" + list, 404, "", ""},
		{strings.ToUpper(list), 404, "", ""},
		{strings.Replace(list, "apps", "Apps", 1), 404, "", ""},
		{strings.Replace(list, "/apps", "/%61pps", 1), 404, "", ""},
		{strings.Replace(list, "/apps", "%2fapps", 1), 404, "", ""},
		{strings.Replace(list, "/apps", "/./apps", 1), 404, "", ""},
		{strings.Replace(list, "/apps", "/x/../apps", 1), 404, "", ""},
		{strings.Replace(list, "/apps", "/x/%2e%2e/apps", 1), 404, "", ""},
		{strings.Replace(list, "/apps", "//apps", 1), 404, "", ""},
		{strings.Replace(list, "/apps", "/apps;a=b", 1), 404, "", ""},
		{list + ";a=b", 404, "", ""},
		{list + "%3fpage_size=1", 404, "", ""},
		{list + "#", 404, "", ""},
		{list + "//", 404, "", ""},
		{list + "/./..", 404, "", ""},
		{"*", 404, "", ""},
		{"/", 404, "", ""},
		{"/api/v1", 404, "", ""},
		{"/api/v1/", 404, "", ""},
		{"http://evil.example.com", 404, "", ""},
		{"", 0, "", ""},
		{list[1:], 0, "", ""},
		{"://x" + list, 0, "", ""},
		{list + "\x00", 0, "", ""},
		{list + "?page_token=\r\nX: y", 0, "", ""},

		{list + "/", 400, "c1.api.app.v1.ConnectorService/Get", ""}, // a connector without a name
		{"/api/v1/apps//connectors", 400, listMethod, ""},
		{"/api/v1/apps/./connectors", 400, listMethod, ""},
		{"/api/v1/apps/../connectors", 400, listMethod, ""},
		{"/api/v1/apps/%2e/connectors", 400, listMethod, ""},
		{"/api/v1/apps/%2E%2e/connectors", 400, listMethod, ""},
		{"/api/v1/apps/.%2e/connectors", 400, listMethod, ""},
		{"/api/v1/apps/%252e/connectors", 400, listMethod, ""},
		{"/api/v1/apps/a%2fb/connectors", 400, listMethod, ""},
		{"/api/v1/apps/a%5cb/connectors", 400, listMethod, ""},
		{`/api/v1/apps/a\b/connectors`, 400, listMethod, ""},
		{"/api/v1/apps/a;b=c/connectors", 400, listMethod, ""},
		{"/api/v1/apps/a%3bb/connectors", 400, listMethod, ""},
		{"/api/v1/apps/a#b/connectors", 400, listMethod, ""},
		{"/api/v1/apps/%00/connectors", 400, listMethod, ""},
		{"/api/v1/apps/%0d%0a/connectors", 400, listMethod, ""},
		{"/api/v1/apps/%c3%a9/connectors", 400, listMethod, ""},
		{"/api/v1/apps/é/connectors", 400, listMethod, ""},
		{"/api/v1/apps/" + strings.Repeat("a", 257) + "/connectors", 400, listMethod, ""},
		{list + "?x=y", 400, listMethod, ""},
		{list + "?page_token=#", 400, listMethod, ""},
		{confirm, 405, "", ""},
	}
	calls := 0
	for _, tt := range tests {
		for name, send := range map[string]func(wireRequest) wireAnswer{"HTTP/1": g.rawHTTP1, "HTTP/2": g.rawHTTP2} {
			g.c1.Reset()
			answer := send(wireRequest{verb: "GET", target: tt.target, header: [][2]string{{"authorization", "Bearer " + g.keys["sync-bot"]}}})
			want := tt.status
			if want == 0 && name == "HTTP/1" {
				want = 400 // net/http's own
			}
			if tt.procedure != "" {
				calls++
			}
			if answer.status != want || answer.status == 405 && answer.header.Get("Allow") != "POST" {
				t.Errorf("%s %q: got %d %s, want %d", name, tt.target, answer.status, answer.body, want)
			}
			checkOddPath(t, g, name+" "+tt.target, answer, tt.procedure, tt.up)
		}
	}
	checkFinals(t, g, calls)
}

// D3, on a procedure's path: in absolute form or with a query it is the same call;
// spelled otherwise it is none. Over HTTP/2 too.
func TestOddProcedures(t *testing.T) {
	g := start(t)
	procedure := "/" + confirmMethod
	tests := map[string]int{
		procedure: 404, procedure + "?x=y": 404, "http://evil.example.com" + procedure: 404, // which is C1's: it has no such sync
		"/" + procedure: -1, "/." + procedure: -1, "/x/.." + procedure: -1, procedure + "/": -1, strings.ToLower(procedure): -1, procedure + ";a=b": -1,
		procedure + "%3fx=y": -1, procedure + "#": -1, procedure + "%00": -1, "/%63" + procedure[2:]: -1, strings.Replace(procedure, "Service/", "Service%2f", 1): -1,
		strings.Replace(procedure, "Service/", "Service%252f", 1): -1, "/api/v1" + procedure: -1, "*": -1, procedure[1:]: 0, procedure + "\x00": 0,
	}
	calls := 0
	for target, want := range tests {
		for name, send := range map[string]func(wireRequest) wireAnswer{"HTTP/1": g.rawHTTP1, "HTTP/2": g.rawHTTP2} {
			g.c1.Reset()
			answer := send(wireRequest{"POST", target, [][2]string{{"authorization", "Bearer " + g.keys["sync-bot"]}, {"content-type", "application/json"}}, g.confirmJSON("nowhere")})
			id := answer.header.Get("X-Request-Id")
			switch {
			case want == 404:
				calls++
				if records := g.records(id); answer.status != 404 || g.c1.Hits() != 1 || len(records) != 2 || records[0].Procedure != confirmMethod || records[0].Door != "connect" {
					t.Errorf("%s %q: got %d %s, %+v", name, target, answer.status, answer.body, records)
				}
			case id != "" || g.c1.Hits() != 0 || answer.status != map[int]map[string]int{-1: {"HTTP/1": 404, "HTTP/2": 404}, 0: {"HTTP/1": 400, "HTTP/2": 0}}[want][name]:
				t.Errorf("%s %q: got %d %s", name, target, answer.status, answer.body)
			}
		}
	}
	checkFinals(t, g, calls)
}

// checkOddPath looks at the records of a request, and at what C1 saw.
func checkOddPath(t *testing.T, g *gateway, name string, answer wireAnswer, procedure, up string) {
	t.Helper()
	id := answer.header.Get("X-Request-Id")
	if (id == "") != (procedure == "") {
		t.Errorf("%q: its request id is %q", name, id)
	}
	if id != "" {
		records := g.records(id)
		if len(records) == 0 || records[0].Procedure != procedure || records[0].Door != "rest" || (records[0].Kind == audit.KindDenied) != (up == "") {
			t.Errorf("%q: the records are %+v", name, records)
		}
	}
	seen := ""
	for _, request := range g.c1.Requests() {
		seen += request.URI
	}
	if seen != up {
		t.Errorf("%q: C1 saw %q, want %q", name, seen, up)
	}
}

// checkFinals counts the calls that have a final record, and finds none with two.
func checkFinals(t testing.TB, g *gateway, want int) {
	t.Helper()
	finals := make(map[string]int)
	err := audit.Query(t.Context(), g.dir, audit.Filter{}, func(r audit.Record) error {
		if r.Kind == audit.KindOutcome || r.Kind == audit.KindDenied {
			finals[r.RequestID]++
		}
		return nil
	})
	if err != nil || len(finals) != want {
		t.Errorf("%d calls have a final record (%v), want %d", len(finals), err, want)
	}
	for id, n := range finals {
		if n != 1 {
			t.Errorf("call %s has %d final records", id, n)
		}
	}
}

// D4: no header, query key or body field overrides the verb, and no header the
// path; and the verb is matched byte for byte.
func TestNoMethodOverride(t *testing.T) {
	g := start(t)
	for _, name := range []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url", "X-Forwarded-Uri", "X-Forwarded-Prefix"} {
		for _, value := range []string{"DELETE", "POST", g.confirmPath("nowhere")} {
			r := g.own("GET", g.listPath(), "reader", "")
			r.Header.Set(name, value)
			status, header, body := do(t, g.httpClient(true), r)
			if records := g.records(header.Get("X-Request-Id")); status != 200 || len(records) != 2 || records[0].Procedure != listMethod {
				t.Errorf("%s: %s: got %d %s, %+v", name, value, status, body, records)
			}
		}
	}
	for _, seen := range g.c1.Requests() {
		if seen.Method != "GET" || seen.URI != g.listPath() {
			t.Errorf("C1 saw %s %s", seen.Method, seen.URI)
		}
	}
	g.c1.Reset()
	for _, r := range []*http.Request{
		g.own("GET", g.listPath()+"?_method=POST", "sync-bot", ""),
		g.own("GET", g.listPath()+"?connect=v1&encoding=json&message=%7B%7D", "sync-bot", ""),
		g.own("POST", g.confirmPath("nowhere")+"?_method=GET", "sync-bot", "{}"),
	} {
		if status, _, body := do(t, g.httpClient(true), r); status != 400 || !strings.Contains(body, "declare") {
			t.Errorf("%s: got %d %s", r.URL, status, body)
		}
	}
	for _, verb := range []string{"HEAD", "OPTIONS", "PATCH", "TRACE", "get", "Get", "GETX", "CONNECT"} {
		answer := g.rawHTTP1(wireRequest{verb: verb, target: g.listPath(), header: [][2]string{{"Authorization", "Bearer " + g.keys["sync-bot"]}}})
		if answer.status != 405 || answer.header.Get("Allow") != "GET, POST" || answer.header.Get("X-Request-Id") != "" {
			t.Errorf("%s: got %d %v %s", verb, answer.status, answer.header, answer.body)
		}
	}
	if hits := g.c1.Hits(); hits != 0 {
		t.Errorf("%d requests reached C1", hits)
	}
	// In a body it is a field like any other that C1 may know.
	if status, _, body := do(t, g.httpClient(true), g.own("POST", g.confirmPath(confirmable(g)), "sync-bot", `{"_method":"DELETE"}`)); status != 200 {
		t.Errorf("got %d %s", status, body)
	}
	if seen := g.c1.Requests()[0]; seen.Method != "POST" || seen.Procedure != confirmMethod {
		t.Errorf("C1 saw %s %s", seen.Method, seen.URI)
	}
}
