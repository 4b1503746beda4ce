package c1proxy_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/sandbox"
	"github.com/c1proxy/c1proxy/internal/telemetry"
)

// resourceKeys are the attributes of a resource, all of them.
var resourceKeys = []string{"host.name", "service.name", "service.version", "telemetry.sdk.language", "telemetry.sdk.name"}

// collectorKey is what the gateway shows to the collector.
const collectorKey = "Bearer collector-canary"

// A collector takes spans by OTLP over HTTP.
type collector struct {
	*httptest.Server
	hits atomic.Int64
	// answer stands in for a collector's answer, where it is set; it returns
	// whether the spans were taken.
	answer func(w http.ResponseWriter, r *http.Request) bool

	mu      sync.Mutex
	headers bytes.Buffer
	bodies  []byte
	spans   []*tracepb.Span
	keys    map[string]bool // attributes' keys
	text    map[string]bool // their texts
}

func newCollector(t testing.TB) *collector {
	c := &collector{keys: make(map[string]bool), text: make(map[string]bool)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.hits.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil || c.answer != nil && !c.answer(w, r) {
			return
		}
		if err := c.take(r, body); err != nil {
			t.Errorf("the collector got %s %s: %v", r.Method, r.URL, err)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// take reads what was exported.
func (c *collector) take(r *http.Request, body []byte) error {
	data := new(tracepb.TracesData)
	if err := proto.Unmarshal(body, data); err != nil {
		return err
	}
	if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" ||
		r.Header.Get("Authorization") != collectorKey {
		return fmt.Errorf("header %v", r.Header)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies = append(c.bodies, body...)
	r.Header.Write(&c.headers)
	for _, resource := range data.GetResourceSpans() {
		for _, pair := range resource.GetResource().GetAttributes() {
			if !slices.Contains(resourceKeys, pair.GetKey()) {
				return fmt.Errorf("the resource has %v", pair)
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			if scope.GetSchemaUrl() != "https://opentelemetry.io/schemas/1.43.0" {
				return fmt.Errorf("schema %s", scope.GetSchemaUrl())
			}
			for _, span := range scope.GetSpans() {
				c.spans = append(c.spans, span)
				for key, value := range attributesOf(span) {
					c.keys[key], c.text[fmt.Sprint(value)] = true, true
				}
			}
		}
	}
	return nil
}

// all returns the spans that have come.
func (c *collector) all() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

func (c *collector) raw() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.bodies)
}

func (c *collector) header() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.headers.String()
}

func attributesOf(span *tracepb.Span) map[string]any {
	found := make(map[string]any)
	for _, pair := range span.GetAttributes() {
		if text, number := pair.GetValue().GetStringValue(), pair.GetValue().GetIntValue(); text != "" {
			found[pair.GetKey()] = text
		} else {
			found[pair.GetKey()] = number
		}
	}
	return found
}

// traced starts a gateway that sends its traces to the collector.
func traced(t *testing.T, c *collector, ratio string) *gateway {
	t.Helper()
	key := filepath.Join(t.TempDir(), "collector-key")
	if err := os.WriteFile(key, []byte(collectorKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := start(t, func(s *setup) {
		s.yaml = func(text string) string {
			return text + fmt.Sprintf("telemetry: {traces: {endpoint: %q, sample_ratio: %s, headers: [{name: authorization, value: {file: %q}}]}}\n", c.URL, ratio, key)
		}
	})
	g.sinks = append(g.sinks, c.raw)
	return g
}

// spansOf waits for the span of a call, and returns it and its children.
func (c *collector) spansOf(t *testing.T, requestID string, children int) (call *tracepb.Span, below []*tracepb.Span) {
	t.Helper()
	until(t, fmt.Sprintf("the span of %s and %d children have come", requestID, children), func() bool {
		call, below = nil, nil
		spans := c.all()
		for _, span := range spans {
			if attributesOf(span)["c1proxy.request_id"] == requestID {
				call = span
			}
		}
		for _, span := range spans {
			if call != nil && string(span.GetParentSpanId()) == string(call.GetSpanId()) {
				below = append(below, span)
			}
		}
		return call != nil && len(below) >= children
	})
	if len(below) != children {
		t.Errorf("%d children, want %d: %v", len(below), children, below)
	}
	slices.SortFunc(below, func(a, b *tracepb.Span) int { return int(a.GetStartTimeUnixNano()) - int(b.GetStartTimeUnixNano()) })
	return call, below
}

// A fate is a call and the spans that it must have.
type fate struct {
	name, caller string
	sync         func(g *gateway) string
	code         connect.Code
	statuses     []int64 // of the attempts
}

var fates = []fate{
	{"ok", "sync-bot", confirmable, 0, []int64{200}},
	{"token refused once", "sync-bot", func(g *gateway) string {
		g.c1.Inject(sandbox.Rule{Fault: sandbox.Unauthorized(), On: confirmMethod, Times: 1})
		return confirmable(g)
	}, 0, []int64{401, 200}},
	{"C1 refuses", "sync-bot", func(*gateway) string { return "nowhere" }, connect.CodeNotFound, []int64{404}},
	{"C1 fails", "sync-bot", func(g *gateway) string {
		g.c1.Inject(sandbox.Rule{Fault: sandbox.Failing(503), On: confirmMethod, Times: 1})
		return confirmable(g)
	}, connect.CodeUnknown, []int64{503}},
	{"C1 hangs up", "sync-bot", func(g *gateway) string {
		g.c1.Inject(sandbox.Rule{Fault: sandbox.Disconnect(), On: confirmMethod, Times: 1})
		return confirmable(g)
	}, connect.CodeUnknown, []int64{0}},
	{"bad path value", "sync-bot", func(*gateway) string { return "a%b" }, connect.CodeInvalidArgument, nil},
	{"denied", "reader", confirmable, connect.CodePermissionDenied, nil},
	{"unknown caller", "", confirmable, connect.CodeUnauthenticated, nil},
}

// One span for each call on every door, refusals included, and below it one for
// each request to C1, whose traceparent names it.
func TestTraces(t *testing.T) {
	c := newCollector(t)
	g := traced(t, c, "1")
	type made struct {
		protocol
		fate
		id   string
		sent []sandbox.Request
	}
	var calls []made
	for _, p := range protocols {
		for _, f := range fates {
			sync := f.sync(g)
			before := len(g.c1.Requests())
			response, err := g.client(p, f.caller).ConfirmSyncValid(t.Context(), g.confirmation(sync))
			calls = append(calls, made{p, f, requestID(response, err), g.c1.Requests()[before:]})
		}
	}
	for _, m := range calls {
		t.Run(m.protocol.name+"/"+m.fate.name, func(t *testing.T) {
			call, below := c.spansOf(t, m.id, len(m.statuses))
			checkCallSpan(t, call, m.protocol, m.fate)
			for i, span := range below {
				checkAttempt(t, g, span, i, m.fate)
				sent := m.sent[i].Header["Traceparent"]
				if want := fmt.Sprintf("00-%x-%x-01", call.GetTraceId(), span.GetSpanId()); len(sent) != 1 || sent[0] != want {
					t.Errorf("attempt %d: C1 got traceparent %q, want %q", i, sent, want)
				}
			}
		})
	}
	until(t, "the token exchange has its span", func() bool {
		return slices.ContainsFunc(c.all(), func(s *tracepb.Span) bool { return s.GetName() == "token exchange" })
	})
	checkKeys(t, c)
	if !strings.Contains(g.logs.String(), `"trace_id":"`) {
		t.Error("no log line has a trace_id")
	}
}

func checkCallSpan(t *testing.T, call *tracepb.Span, p protocol, f fate) {
	t.Helper()
	got := attributesOf(call)
	want := map[string]any{"rpc.method": confirmMethod, "c1proxy.door": p.door, "rpc.response.status_code": strings.ToUpper(telemetry.CodeName(f.code))}
	if f.caller != "" {
		want["c1proxy.caller"], want["c1proxy.tenant"] = f.caller, "acme"
		want["c1proxy.team"] = map[string]string{"sync-bot": "payments", "reader": "readers"}[f.caller]
	}
	switch p.door {
	case "rest":
		want["http.request.method"] = "POST"
		want["http.route"] = "/api/v1/apps/{app_id}/connectors/{connector_id}/confirm_sync_valid/{sync_lifecycle_id}"
	case "connect":
		want["rpc.system.name"] = "connectrpc"
	default:
		want["rpc.system.name"] = "grpc"
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s is %v, want %v", key, got[key], value)
		}
	}
	failed := f.code == connect.CodeUnknown
	if (call.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR) != failed || call.GetStatus().GetMessage() != "" {
		t.Errorf("status %v", call.GetStatus())
	}
	if (got["c1proxy.reason"] != nil) != (f.code != 0) || (got["error.type"] != nil) != failed {
		t.Errorf("reason %v, error.type %v", got["c1proxy.reason"], got["error.type"])
	}
	var marks []string
	for _, event := range call.GetEvents() {
		marks = append(marks, event.GetName())
	}
	if all := "prepared,intent durable,outcome durable"; (strings.Join(marks, ",") == all) != (f.statuses != nil) {
		t.Errorf("marks %v", marks)
	}
	if call.GetName() != confirmMethod || call.GetKind() != tracepb.Span_SPAN_KIND_SERVER || len(call.GetParentSpanId()) != 0 || call.GetTraceState() != "" {
		t.Errorf("span %v", call)
	}
}

func checkAttempt(t *testing.T, g *gateway, span *tracepb.Span, i int, f fate) {
	t.Helper()
	got := attributesOf(span)
	template := "/api/v1/apps/{app_id}/connectors/{connector_id}/confirm_sync_valid/{sync_lifecycle_id}"
	if span.GetName() != "POST "+template || span.GetKind() != tracepb.Span_SPAN_KIND_CLIENT || got["url.template"] != template ||
		got["http.request.method"] != "POST" || got["server.address"] != "127.0.0.1" || got["c1proxy.tenant"] != "acme" ||
		fmt.Sprint(got["server.port"]) != g.c1.URL()[strings.LastIndex(g.c1.URL(), ":")+1:] {
		t.Errorf("attempt %d: %v", i, span)
	}
	if status, _ := got["http.response.status_code"].(int64); status != f.statuses[i] {
		t.Errorf("attempt %d: status %v, want %d", i, got["http.response.status_code"], f.statuses[i])
	}
	if resend, _ := got["http.request.resend_count"].(int64); resend != int64(i) {
		t.Errorf("attempt %d: resend_count %v", i, got["http.request.resend_count"])
	}
	if failed := f.statuses[i] != 200; (span.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR) != failed || (got["error.type"] != nil) != failed {
		t.Errorf("attempt %d: status %v, error.type %v", i, span.GetStatus(), got["error.type"])
	}
}

// checkKeys holds what came against the documented list, both ways.
func checkKeys(t *testing.T, c *collector) {
	t.Helper()
	page, err := os.ReadFile("docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := telemetry.Attributes()
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.keys {
		if documented[key] == "" {
			t.Errorf("the attribute %s is not documented", key)
		}
	}
	for key, text := range documented {
		if row := "| `" + key + "` | " + text + " |"; !strings.Contains(string(page), row) {
			t.Errorf("docs/operate.md has no row %s", row)
		}
		if !c.keys[key] {
			t.Errorf("no span has %s", key)
		}
	}
	for text := range c.text {
		if len(text) > 256 {
			t.Errorf("an attribute has %d bytes: %.80s", len(text), text)
		}
	}
	t.Logf("%d spans, %d attributes, %d values, %d bytes", len(c.spans), len(c.keys), len(c.text), len(c.bodies))
}

// W3C trace context in: what a caller may and may not have with it.
func TestTraceContext(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	tests := []struct {
		name, caller string
		header       []string
		joined, none bool
	}{
		{"sampled", "sync-bot", []string{"00-" + trace + "-" + parent + "-01"}, true, false},
		{"newer version", "sync-bot", []string{"cc-" + trace + "-" + parent + "-01-what"}, true, false},
		{"not sampled", "sync-bot", []string{"00-" + trace + "-" + parent + "-00"}, false, true},
		{"stranger", "", []string{"00-" + trace + "-" + parent + "-01"}, false, false},
		{"stranger, not sampled", "", []string{"00-" + trace + "-" + parent + "-00"}, false, false},
		{"twice", "sync-bot", []string{"00-" + trace + "-" + parent + "-01", "00-" + trace + "-" + parent + "-01"}, false, false},
		{"capitals", "sync-bot", []string{"00-" + strings.ToUpper(trace) + "-" + parent + "-01"}, false, false},
		{"zeros", "sync-bot", []string{"00-00000000000000000000000000000000-" + parent + "-01"}, false, false},
		{"version ff", "sync-bot", []string{"ff-" + trace + "-" + parent + "-01"}, false, false},
		{"long", "sync-bot", []string{"cc-" + trace + "-" + parent + "-01-" + strings.Repeat("x", 4096)}, false, false},
		{"text", "sync-bot", []string{"canary"}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			g := traced(t, c, "1")
			warmTraced(t, g, c)
			r := g.post(confirmMethod, g.keys[tt.caller], g.confirmJSON(confirmable(g)))
			r.Header["Traceparent"] = tt.header
			r.Header.Set("Tracestate", "canary=state-of-the-caller")
			r.Header.Set("Baggage", "canary=baggage-of-the-caller")
			status, header, body := do(t, g.httpClient(true), r)
			if want := map[string]int{"": 401, "sync-bot": 200}[tt.caller]; status != want {
				t.Fatalf("got %d %s", status, body)
			}
			if tt.none {
				if sent := g.c1.Requests(); len(sent[len(sent)-1].Header["Traceparent"]) != 0 {
					t.Errorf("C1 got %v", sent[len(sent)-1].Header)
				}
				g.stop()
				if text := c.raw(); strings.Contains(text, header.Get("X-Request-Id")) {
					t.Error("a call that its caller does not trace has a span")
				}
				return
			}
			children := map[string]int{"": 0, "sync-bot": 1}[tt.caller]
			call, _ := c.spansOf(t, header.Get("X-Request-Id"), children)
			if joined := hex.EncodeToString(call.GetTraceId()) == trace && hex.EncodeToString(call.GetParentSpanId()) == parent; joined != tt.joined {
				t.Errorf("trace %x, parent %x", call.GetTraceId(), call.GetParentSpanId())
			}
			if !tt.joined && (len(call.GetParentSpanId()) != 0 || hex.EncodeToString(call.GetTraceId()) == trace) {
				t.Errorf("trace %x, parent %x", call.GetTraceId(), call.GetParentSpanId())
			}
			if strings.Contains(c.raw()+fmt.Sprint(g.c1.Requests()), "canary=") {
				t.Error("the caller's tracestate or baggage went on")
			}
		})
	}
}

// warmTraced makes a call, and returns when the collector has its span.
func warmTraced(t *testing.T, g *gateway, c *collector) {
	t.Helper()
	warm(g)
	until(t, "the first span has come", func() bool { return len(c.all()) > 0 })
}

// A caller cannot raise its part of the traces, though it says that it samples
// and chooses the trace ids; a stranger cannot flood the collector.
func TestTraceSampling(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	g := traced(t, c, "0.5")
	client := g.httpClient(true)
	const calls, strangers = 400, 200
	for range calls {
		r := g.post("c1.api.app.v1.ConnectorService/List", g.keys["sync-bot"], `{"appId":"`+g.facts.AppID+`"}`)
		r.Header.Set("Traceparent", "00-0af7651916cd43dd0000000000000000-b7ad6b7169203331-01")
		if status, _, body := do(t, client, r); status != 200 {
			t.Fatalf("got %d %s", status, body)
		}
	}
	begun := time.Now()
	for range strangers {
		do(t, client, g.post(confirmMethod, "", "{}"))
	}
	seconds := int(time.Since(begun)/time.Second) + 2 // whole ones that were begun
	g.stop()
	known, unknown := 0, 0
	for _, span := range c.all() {
		switch attributes := attributesOf(span); {
		case attributes["c1proxy.caller"] != nil:
			known++
		case attributes["c1proxy.request_id"] != nil:
			unknown++
		}
	}
	// Outside of these a fair coin falls once in 10^15.
	if known < 120 || known > 280 {
		t.Errorf("%d of %d calls have a span, want about half", known, calls)
	}
	if unknown == 0 || unknown > 10*seconds {
		t.Errorf("%d of %d calls of strangers have a span, in %d s", unknown, strangers, seconds)
	}
	t.Logf("%d of %d calls, %d of %d strangers'", known, calls, unknown, strangers)
}

// Nothing goes out that is not configured, whatever the environment says.
func TestTracesAreOff(t *testing.T) {
	c := newCollector(t)
	for name, value := range map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": c.URL,
		"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "canary-sampler", "OTEL_RESOURCE_ATTRIBUTES": "canary-attribute",
		"OTEL_SERVICE_NAME": "canary-service", "OTEL_BSP_MAX_QUEUE_SIZE": "1", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0"} {
		t.Setenv(name, value)
	}
	for _, g := range []*gateway{start(t), traced(t, c, "0")} {
		if _, err := g.client(protocols[2], "sync-bot").ConfirmSyncValid(t.Context(), g.confirmation(confirmable(g))); err != nil {
			t.Fatal(err)
		}
		if status, _, _ := do(t, g.httpClient(true), g.post(confirmMethod, "", "{}")); status != 401 {
			t.Errorf("got %d", status)
		}
		for _, request := range g.c1.Requests() {
			if request.Header["Traceparent"] != nil {
				t.Errorf("C1 got %v", request.Header)
			}
		}
		g.stop()
	}
	if hits := c.hits.Load(); hits != 0 {
		t.Errorf("%d exports without a configured collector or a traced call", hits)
	}
	// With a collector, the environment changes nothing about it.
	g := traced(t, c, "1")
	warmTraced(t, g, c)
	if text := c.raw() + g.logs.String(); strings.Contains(text, "canary-s") || strings.Contains(text, "canary-a") {
		t.Error("the environment went out")
	}
}

// A collector that takes spans and never answers hurts no call; what does not
// fit is dropped and counted; and the end waits no longer than it may.
func TestTraceStall(t *testing.T) {
	if testing.Short() {
		t.Skip("short: it waits for a flush of 5 s")
	}
	t.Parallel()
	c := newCollector(t)
	release := make(chan struct{})
	c.answer = func(http.ResponseWriter, *http.Request) bool {
		<-release
		return false
	}
	t.Cleanup(func() { close(release) })
	g := traced(t, c, "1")
	client := g.client(protocols[2], "sync-bot")
	const calls = 1500 // two spans each: more than the queue holds
	failed := make(chan error, calls)
	for range 50 {
		go func() {
			for range calls / 50 {
				_, err := client.List(t.Context(), connect.NewRequest(&appv1.ConnectorServiceListRequest{AppId: g.facts.AppID}))
				failed <- err
			}
		}()
	}
	for range calls {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	// Of the spans that never fitted, and of those that waited for 10 s, none is
	// forgotten: 2 for each call, and 1 for the token.
	metrics, counted := g.metrics(), 0
	for _, series := range []string{`spans_total{result="queue_full"}`, `spans_total{result="unsent"}`, "spans_pending"} {
		var n int
		if _, err := fmt.Sscanf(grep(metrics, "c1proxy_trace_"+series+" "), "c1proxy_trace_"+series+" %d", &n); err != nil {
			t.Errorf("no %s: %v", series, err)
		}
		if counted += n; series == "spans_pending" && (n == 0 || n > 2048) {
			t.Errorf("%d spans wait", n)
		}
	}
	if counted != 2*calls+1 {
		t.Errorf("%d spans are accounted for, want %d:\n%s", counted, 2*calls+1, grep(metrics, "c1proxy_trace"))
	}
	begun := time.Now()
	if err := g.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the end took %v", took)
	}
	if !strings.Contains(g.logs.String(), `"spans were not sent before the end","spans":`) {
		t.Error("the log does not say that spans are lost")
	}
}

// What a collector says is neither followed nor repeated.
func TestTraceCollectorFails(t *testing.T) {
	elsewhere := newCollector(t)
	for name, answer := range map[string]http.HandlerFunc{
		"refuses": func(w http.ResponseWriter, r *http.Request) { echo(w, r, 401) },
		"fails":   func(w http.ResponseWriter, r *http.Request) { echo(w, r, 500) },
		"busy":    func(w http.ResponseWriter, r *http.Request) { echo(w, r, 503) },
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/v1/traces", http.StatusTemporaryRedirect)
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"garbage": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				fmt.Fprintf(conn, "HTTP/1.1 %s\r\n\r\n", r.Header.Get("Authorization"))
				conn.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			c.answer = func(w http.ResponseWriter, r *http.Request) bool {
				answer(w, r)
				return false
			}
			g := traced(t, c, "1")
			warm(g)
			until(t, "an export was tried", func() bool { return c.hits.Load() > 0 })
			if err := g.stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
			log := g.logs.String()
			if !strings.Contains(log, "spans cannot be sent") && !strings.Contains(log, "spans were not sent") || strings.Contains(log, "canary") {
				t.Errorf("log: %s", log)
			}
		})
	}
	t.Cleanup(func() {
		if hits := elsewhere.hits.Load(); hits != 0 {
			t.Errorf("%d exports followed a redirect", hits)
		}
	})
}

// echo answers with what it was sent.
func echo(w http.ResponseWriter, r *http.Request, status int) {
	w.Header().Set("X-Echo", r.Header.Get("Authorization"))
	w.WriteHeader(status)
	fmt.Fprint(w, slices.Collect(maps.Values(r.Header)))
}
