package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/c1proxy/c1proxy/internal/telemetry"
)

// export makes spans for a collector, whose n-th answer is the n-th of answers,
// and returns the requests that came and the metrics after the end.
func export(t *testing.T, spans int, header func() (http.Header, error), answers ...http.HandlerFunc) (requests int, metrics string) {
	t.Helper()
	var hits atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(hits.Add(1))
		data, err := io.ReadAll(r.Body)
		if err != nil || proto.Unmarshal(data, new(tracepb.TracesData)) != nil || r.URL.Path != "/base/v1/traces" {
			t.Errorf("got %s: %v", r.URL, err)
		}
		answers[min(n, len(answers))-1](w, r)
	}))
	defer collector.Close()
	endpoint, err := url.Parse(collector.URL + "/base/")
	if err != nil {
		t.Fatal(err)
	}
	m := telemetry.New()
	traces := m.OpenTraces(telemetry.TracesConfig{Endpoint: endpoint, Header: header, Ratio: 1, Service: "test", Logger: slog.New(slog.DiscardHandler)})
	for range spans {
		traces.Call("a.B/C", time.Now(), nil).End(telemetry.Answered{})
	}
	traces.Close(t.Context())
	traces.Close(t.Context())
	traces.Call("a.B/C", time.Now(), nil).End(telemetry.Answered{}) // too late, and no harm
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return int(hits.Load()), w.Body.String()
}

func ok(http.ResponseWriter, *http.Request) {}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// Every span is counted as what became of it, once.
func TestExport(t *testing.T) {
	for _, test := range []struct {
		name                   string
		spans                  int
		answers                []http.HandlerFunc
		requests               int
		sent, unsent, rejected int
	}{
		{"taken", 3, []http.HandlerFunc{ok}, 1, 3, 0, 0},
		{"more than a batch", 1000, []http.HandlerFunc{ok}, 2, 1000, 0, 0},
		{"refused", 3, []http.HandlerFunc{status(400)}, 1, 0, 3, 0},
		{"an error", 3, []http.HandlerFunc{status(500)}, 1, 0, 3, 0},
		{"busy once", 3, []http.HandlerFunc{status(503), ok}, 2, 3, 0, 0},
		{"too many, once", 3, []http.HandlerFunc{status(429), ok}, 2, 3, 0, 0},
		{"not OK", 3, []http.HandlerFunc{status(204)}, 1, 0, 3, 0},
		{"partly rejected", 3, []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "\x0a\x07\x08\x02\x12\x03why") // ExportTraceServiceResponse: 2 spans are rejected
		}}, 1, 1, 0, 2},
		{"more rejected than sent", 3, []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "\x0a\x02\x08\x7f")
		}}, 1, 0, 0, 3},
		{"garbage", 3, []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "\xff\xff\xff\x0a") }}, 1, 3, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			requests, metrics := export(t, test.spans, nil, test.answers...)
			if requests != test.requests {
				t.Errorf("%d requests, want %d", requests, test.requests)
			}
			for result, n := range map[string]int{"sent": test.sent, "queue_full": 0, "unsent": test.unsent, "rejected": test.rejected} {
				if line := fmt.Sprintf("c1proxy_trace_spans_total{result=%q} %d\n", result, n); !strings.Contains(metrics, line) {
					t.Errorf("no %s", line)
				}
			}
			if !strings.Contains(metrics, "c1proxy_trace_spans_pending 0\n") {
				t.Error("spans are still pending")
			}
		})
	}
}

// The header is asked for anew for each export; one that cannot be had fails the
// export, and no other.
func TestExportHeader(t *testing.T) {
	n := 0
	requests, metrics := export(t, 1000, func() (http.Header, error) {
		if n++; n == 1 {
			return nil, errors.New("the file is gone")
		}
		return http.Header{"X-Key": {fmt.Sprint(n)}}, nil
	}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Key") != "2" {
			t.Errorf("header %v", r.Header)
		}
	})
	if requests != 1 || !strings.Contains(metrics, `{result="unsent"} 512`) || !strings.Contains(metrics, `{result="sent"} 488`) {
		t.Errorf("%d requests; %s", requests, metrics)
	}
}

// Where nothing is traced, nothing is made.
func TestNoSpan(t *testing.T) {
	var off *telemetry.Traces
	endpoint := &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	on := telemetry.New().OpenTraces(telemetry.TracesConfig{Endpoint: endpoint, Ratio: 0, Logger: slog.New(slog.DiscardHandler)})
	defer on.Close(t.Context())
	for name, traces := range map[string]*telemetry.Traces{"off": off, "ratio 0": on} {
		allocations := testing.AllocsPerRun(100, func() {
			span := traces.Call("a.B/C", time.Time{}, nil)
			span.Mark(telemetry.Prepared)
			span.Attempt(telemetry.Attempt{}).Sent(200, "")
			if span.TraceID() != "" || span != nil || telemetry.SpanOf(context.Background()) != nil {
				t.Error("there is a span")
			}
			span.End(telemetry.Answered{})
			traces.Token("acme", endpoint, "ok", time.Second)
		})
		if traces.Stranger("a.B/C", time.Time{}) != nil || allocations != 0 {
			t.Errorf("%s: %v allocations", name, allocations)
		}
	}
	off.Close(t.Context())
}
