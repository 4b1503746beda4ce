package c1proxy_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// restSeeds are operations of every shape, and what is odd about them.
var restSeeds = [][4]string{ // verb, target, media type, body
	{"GET", "/api/v1/apps/a/connectors?page_size=1&page_token=a%20b", "", ""},
	{"GET", "/api/v1/apps/a/connectors/c", "", ""},
	{"GET", "/api/v1/apps", "", ""},
	{"GET", "/api/v1/apps?page_size=-1&page_size=2", "", ""},
	{"GET", "/api/v1/automation_executions/-9223372036854775808", "", ""},
	{"GET", "/api/v1/automation_executions/01", "", ""},
	{"GET", "/api/v1/users/u/mcp_toolsets/requestable_connectors/search?grant_enrollment_status=NEWER&query=x", "", ""},
	{"GET", "/api/v1/apps/%2e%2e/connectors", "", ""},
	{"GET", "/api/v1/apps//connectors", "", ""},
	{"GET", "/api/v1/apps/a%2Fb/connectors?page_token=#", "", ""},
	{"GET", "/api/v1/apps/%61/connectors?page_token=a HTTP/1.1", "", ""},
	{"POST", "/api/v1/apps/a/connectors/c/confirm_sync_valid/s", "application/json", "{}"},
	{"POST", "/api/v1/apps/a/connectors/c/confirm_sync_valid/s", "", ""},
	{"POST", "/api/v1/apps/a/connectors/c/confirm_sync_valid/s?x=y", "text/plain", "{}"},
	{"POST", "/api/v1/apps/a/connectors/create", "application/json; charset=utf-8", `{"userIds":["a"],"config":{"@type":"type.googleapis.com/c1.api.app.v1.OAuth2AuthorizedAs","authEmail":"e"},"x":[1e3]}`},
	{"POST", "/api/v1/apps/a/connectors/create", "application/json", `{"app_id":"b","config":{"@type":"u","n":{"a":1,"a":2}}}`},
	{"POST", "/api/v1/apps/a/entitlements", "application/json", `{"durationGrant":"1s","durationUnset":{},"annotations":{"a":"b","\u0061":"c"}}`},
	{"POST", "/api/v1/apps", "application/json", `{"displayName":"é","annotations":{"k":"v"},"owners":[null]}`},
	{"POST", "/api/v1/search/automation_executions", "application/json", `{"executionId":9007199254740993,"executionStepStates":["NEWER",7],"page_size":1.0}`},
	{"POST", "/api/v1/automation_executions/7/actions/terminate", "application/json", ` { } `},
	{"POST", "/api/v1/reporting/reports/r", "application/json", `{"parameterValues":{"@type":"mine","n":12345678901234567890,"l":[null]}}`},
	{"POST", "/api/v1/apps/a/connectors/c/delete", "application/json", `{"x":"\ud83d"}`},
	{"DELETE", "/api/v1/apps/a/connectors/c", "application/json", `{}`},
	{"PUT", "/c1.api.app.v1.ConnectorService/List", "application/json", `{}`},
	{"HEAD", "http://evil.example.com/api/v1/apps/a/connectors", "", ""},
}

// FuzzREST sends requests through the whole gateway to a strict C1 of other
// hands, and asks that C1 what it would have said without a gateway.
//
//   - A request is no call, and then nothing happens, and C1 has no such
//     operation either; or it is a call of the procedure that C1 takes it for,
//     with exactly one final record that names its path's values.
//   - What goes up, once at most, is the path in its one spelling, the query and
//     the body byte for byte.
//   - What C1 would refuse is refused, by c1proxy or by C1; what goes up and is
//     good comes back byte for byte as C1 would have answered.
//   - Nothing ever fails inside.
func FuzzREST(f *testing.F) {
	for _, seed := range restSeeds {
		f.Add(seed[0], seed[1], seed[2], []byte(seed[3]))
	}
	both := startBoth(f)
	f.Fuzz(func(t *testing.T, verb, target, media string, body []byte) { both.ask(t, verb, target, media, body) })
}

// FuzzRESTOperation does so with requests that are good, with every field set,
// but for what a recipe changes. Without one they succeed.
func FuzzRESTOperation(f *testing.F) {
	all := operations(f)
	for kind := range changes {
		for arg := range uint8(8) {
			f.Add(uint16(int(arg)*71+kind), arg, []byte{byte(kind), arg})
		}
	}
	f.Add(uint16(0), uint8(0), []byte{})
	both := startBoth(f)
	f.Fuzz(func(t *testing.T, op uint16, turn uint8, recipe []byte) {
		o := operationOf(t, all[int(op)%len(all)], int(turn))
		r := restRequest{verb: o.verb, media: "application/json", body: []byte(o.body), method: o.method}
		r.path, r.query, _ = strings.Cut(o.uri, "?")
		for len(recipe) >= 2 && len(r.body) < 16<<10 {
			changes[int(recipe[0])%len(changes)](&r, int(recipe[1]))
			recipe = recipe[2:]
		}
		target := r.path
		if r.query != "" {
			target += "?" + r.query
		}
		if got := both.ask(t, r.verb, target, r.media, r.body); len(recipe) < 2 && !r.changed && got.status != http.StatusOK {
			t.Fatalf("%s %s %s: got %d %s", r.verb, target, r.body, got.status, got.answer)
		}
	})
}

// bothSides are a gateway with its C1, and a C1 that is asked directly.
type bothSides struct {
	gateway *gateway
	oracle  *sandbox.Sandbox
	log     *tail
}

func startBoth(f *testing.F) *bothSides {
	g := start(f, func(s *setup) {
		everything(s)
		s.yaml = func(inner func(string) string) func(string) string {
			return func(text string) string { return strings.Replace(inner(text), ", max_message_bytes: 4096", "", 1) }
		}(s.yaml)
		s.c1.Stateless, s.c1.Remember = true, 2
	})
	oracle, err := sandbox.New(sandbox.Config{Stateless: true, Remember: 1})
	if err != nil {
		f.Fatal(err)
	}
	log := &tail{dir: g.dir, offsets: make(map[string]int)}
	log.read(f)
	return &bothSides{g, oracle, log}
}

// ask sends a request both ways and checks what comes of it.
func (b *bothSides) ask(t *testing.T, verb, target, media string, body []byte) outcome {
	r := served(verb, target, media, body)
	if r == nil || len(body) > 64<<10 {
		return outcome{}
	}
	g := b.gateway
	r.Header.Set("Authorization", "Bearer "+g.keys["sync-bot"])
	g.c1.Reset()
	w := httptest.NewRecorder()
	g.proxy.Handler().ServeHTTP(w, r)
	status := w.Code
	if w.Header().Get("Grpc-Status") == "12" { // a path of nobody's is answered in the caller's protocol
		status = http.StatusNotFound
	}
	got := outcome{verb: verb, target: target, body: body, status: status, answer: w.Body.String(), id: w.Header().Get("X-Request-Id"),
		seen: g.c1.Requests(), records: b.log.read(t)}
	direct := served(verb, target, media, body)
	direct.Header.Set("Authorization", "Bearer "+b.oracle.Facts().StaticToken)
	said := httptest.NewRecorder()
	b.oracle.ServeHTTP(said, direct)
	got.check(t, b.oracle.Requests()[0].Procedure, said)
	return got
}

// served is the request that a server's handler gets, over HTTP/2, where a
// target may hold the most; nil if it would not get one.
func served(verb, target, media string, body []byte) *http.Request {
	parsed, err := url.ParseRequestURI(target)
	if err != nil || !httpguts.ValidHeaderFieldName(verb) || !httpguts.ValidHeaderFieldValue(target) || !httpguts.ValidHeaderFieldValue(media) || verb == "CONNECT" {
		return nil
	}
	r := httptest.NewRequest("GET", "/", bytes.NewReader(body))
	r.Method, r.URL, r.RequestURI, r.ContentLength = verb, parsed, target, int64(len(body))
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	return r
}

// A tail reads what has been added to an audit log since it was last read.
type tail struct {
	dir     string
	offsets map[string]int
}

func (l *tail) read(t testing.TB) (added []audit.Record) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(l.dir, "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(io.NewSectionReader(file, int64(l.offsets[name]), 1<<40))
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			var r audit.Record
			if err := json.Unmarshal(line, &r); err != nil {
				break
			}
			l.offsets[name] += len(line)
			if r.Kind != audit.KindEvent {
				added = append(added, r)
			}
		}
	}
	return added
}

// An outcome is what became of one request.
type outcome struct {
	verb, target string
	body         []byte
	status       int
	answer, id   string
	seen         []sandbox.Request
	records      []audit.Record
}

// check holds it against the procedure that the oracle took the request for, ""
// if none, and what it said.
func (o outcome) check(t *testing.T, procedure string, said *httptest.ResponseRecorder) {
	if o.status >= 500 {
		t.Fatalf("it failed inside: %d %s", o.status, o.answer)
	}
	path, query, _ := strings.Cut(o.target, "?")
	if !strings.HasPrefix(path, "/") { // the oracle reads other forms otherwise
		procedure = ""
	}
	if o.id == "" {
		if len(o.seen)+len(o.records) > 0 || o.status != 404 && o.status != 405 || procedure != "" {
			t.Fatalf("%s %q is no call: %d %s, C1 saw %+v, records %+v; C1 takes it for %q", o.verb, o.target, o.status, o.answer, o.seen, o.records, procedure)
		}
		return
	}
	if len(o.records) != 1+len(o.seen) || len(o.seen) > 1 {
		t.Fatalf("C1 saw %+v, records %+v", o.seen, o.records)
	}
	final := o.records[len(o.records)-1]
	if o.records[0].Door != "rest" {
		return // a procedure's own path
	}
	for _, r := range o.records {
		if r.RequestID != o.id || procedure != "" && r.Procedure != procedure {
			t.Fatalf("C1 takes it for %q, on record is %+v", procedure, r)
		}
	}
	switch final.Kind {
	case audit.KindDenied:
		if len(o.seen) > 0 || o.status < 400 || final.Outcome != audit.OutcomeNotSent {
			t.Fatalf("refused with %d %s, but C1 saw %+v, on record is %+v", o.status, o.answer, o.seen, final)
		}
	case audit.KindOutcome:
		if len(o.seen) != 1 || o.records[0].Kind != audit.KindIntent || final.UpstreamStatus != o.seen[0].Status || (final.Outcome == audit.OutcomeOK) != (o.status == 200) {
			t.Fatalf("answered %d %s, C1 saw %+v, on record is %+v", o.status, o.answer, o.seen, o.records)
		}
		o.checkSent(t, path, query)
	}
	o.checkAnswer(t, procedure, said)
}

// checkSent looks at what went up, and at the record of the path's values.
func (o outcome) checkSent(t *testing.T, path, query string) {
	seen := o.seen[0]
	method, err := methodOf(o.records[0].Procedure)
	if err != nil {
		t.Fatal(err)
	}
	verb, template := pathOf(method)
	if i := strings.Index(path, "://"); i >= 0 {
		path = path[i+3:]
		path = path[strings.IndexByte(path, '/'):]
	}
	var values audit.Fields
	segments, templates := strings.Split(path, "/"), strings.Split(template, "/")
	if len(segments) != len(templates) {
		t.Fatalf("%q goes up for %q", path, template)
	}
	for i, name := range templates {
		text := segments[i]
		if variable.MatchString(name) {
			if text, err = url.PathUnescape(text); err != nil {
				t.Fatal(err)
			}
			values = append(values, audit.Field{Name: name[1 : len(name)-1], Value: text})
			text = strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
		} else if text != name {
			t.Fatalf("%q goes up for %q", path, template)
		}
		segments[i] = text
	}
	want, body := strings.Join(segments, "/"), ""
	if verb == http.MethodGet {
		if query != "" {
			want += "?" + query
		}
	} else {
		body = string(o.body)
	}
	if seen.Method != verb || o.verb != verb || seen.URI != want || string(seen.Body) != body || seen.Procedure != o.records[0].Procedure {
		t.Fatalf("%s %q %q went up as %s %q %q for %s; want %s %q", o.verb, o.target, o.body, seen.Method, seen.URI, seen.Body, seen.Procedure, verb, want)
	}
	for _, r := range o.records {
		if len(r.Path) != len(values) || string(mustJSON(r.Path)) != string(mustJSON(values)) {
			t.Fatalf("on record are %v, C1 reads %v", r.Path, values)
		}
	}
}

func mustJSON(f audit.Fields) []byte {
	text, _ := f.MarshalJSON() // has no error
	return text
}

// checkAnswer compares the answer with C1's own to the same request.
func (o outcome) checkAnswer(t *testing.T, procedure string, said *httptest.ResponseRecorder) {
	if o.status == http.StatusOK {
		if procedure != "" && (said.Code != http.StatusOK || o.answer != said.Body.String()) {
			t.Fatalf("answered\n%s\nC1 says %d\n%s", o.answer, said.Code, said.Body)
		}
		return
	}
	var failed struct{ Code int }
	if err := json.Unmarshal([]byte(o.answer), &failed); o.verb != http.MethodHead && (err != nil || failed.Code == 0) {
		t.Fatalf("answered %d %s: %v", o.status, o.answer, err)
	}
	if len(o.seen) > 0 && o.status != o.seen[0].Status {
		t.Fatalf("C1 answered %d, the caller got %d %s", o.seen[0].Status, o.status, o.answer)
	}
}
