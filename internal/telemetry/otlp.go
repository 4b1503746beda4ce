package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// maxReport bounds what is read of a collector's answer, in bytes.
const maxReport = 64 << 10

// An exporter sends spans by OTLP over HTTP (OTLP 1.11, section OTLP/HTTP), in
// protobuf. It is otlptrace's client in place of otlptracehttp, which quotes the
// collector's answer in its errors, takes its settings from the environment
// too, and brings all of grpc-go along.
type exporter struct {
	cfg       TracesConfig
	url       string
	transport *http.Transport
	resource  *resourcepb.Resource
	ctx       context.Context // ends with close
	cancel    context.CancelFunc

	// pending are the spans that have ended and have not been disposed of.
	pending atomic.Int64
	closed  atomic.Bool
	failing atomic.Bool
	// What became of spans.
	sent, full, unsent, rejected prometheus.Counter
}

func newExporter(cfg TracesConfig, m *Metrics) *exporter {
	e := &exporter{
		cfg: cfg,
		url: cfg.Endpoint.JoinPath("v1/traces").String(),
		transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: exportTimeout}).DialContext, TLSHandshakeTimeout: exportTimeout,
			IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxReport, ForceAttemptHTTP2: true,
		},
		resource: resourceOf(cfg),
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	spans := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c1proxy_trace_spans_total",
		Help: "Spans by what became of them: sent, or dropped because the queue was full, they could not be sent, or the collector rejected them."},
		[]string{"result"})
	m.registry.MustRegister(spans)
	e.sent, e.full = spans.WithLabelValues("sent"), spans.WithLabelValues("queue_full")
	e.unsent, e.rejected = spans.WithLabelValues("unsent"), spans.WithLabelValues("rejected")
	return e
}

// resourceOf says who sends the spans.
func resourceOf(cfg TracesConfig) *resourcepb.Resource {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	out := new(resourcepb.Resource)
	for _, pair := range [][2]string{
		{"service.name", cfg.Service}, {"service.version", cfg.Version}, {"host.name", host},
		{"telemetry.sdk.language", "go"}, {"telemetry.sdk.name", "opentelemetry"},
	} {
		out.Attributes = append(out.Attributes, &commonpb.KeyValue{Key: pair[0],
			Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: pair[1]}}})
	}
	return out
}

// Start implements otlptrace.Client.
func (e *exporter) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client. close does the rest.
func (e *exporter) Stop(context.Context) error { return nil }

// close ends what is under way, and says what is lost by that.
func (e *exporter) close() {
	if e.closed.Swap(true) {
		return
	}
	if lost := e.pending.Load(); lost > 0 {
		e.cfg.Logger.Warn("spans were not sent before the end", "spans", lost, "collector", e.cfg.Endpoint.Host)
	}
	e.cancel()
	e.transport.CloseIdleConnections()
}

// UploadTraces implements otlptrace.Client. It returns no error: what happened
// is counted, and logged when it is new.
func (e *exporter) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	n := 0
	for _, r := range spans {
		r.Resource = e.resource
		for _, scope := range r.GetScopeSpans() {
			n += len(scope.GetSpans())
		}
	}
	defer e.pending.Add(int64(-n))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	rejected, err := e.deliver(ctx, spans)
	if err != nil {
		e.unsent.Add(float64(n))
		if !e.failing.Swap(true) {
			e.cfg.Logger.Warn("spans cannot be sent; they are dropped until it works again", "collector", e.cfg.Endpoint.Host, "error", err)
		}
		return nil
	}
	rejected = min(rejected, n)
	e.rejected.Add(float64(rejected))
	e.sent.Add(float64(n - rejected))
	if e.failing.Swap(false) {
		e.cfg.Logger.Info("spans are sent again", "collector", e.cfg.Endpoint.Host)
	}
	return nil
}

// deliver sends spans, again where the collector says that this helps, until
// ctx ends. It returns how many the collector rejected.
func (e *exporter) deliver(ctx context.Context, spans []*tracepb.ResourceSpans) (rejected int, err error) {
	// TracesData has the bytes of an ExportTraceServiceRequest, whose package
	// would bring grpc-go along.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return 0, fmt.Errorf("write spans: %w", err)
	}
	for pause := 500 * time.Millisecond; ; pause *= 2 {
		rejected, wait, err := e.post(ctx, body)
		if err == nil || wait == 0 {
			return rejected, err
		}
		select {
		case <-time.After(max(wait, pause)):
		case <-ctx.Done():
			return 0, err
		}
	}
}

// again are the statuses after which OTLP lets a client send once more.
var again = map[int]bool{429: true, 502: true, 503: true, 504: true}

// post sends a body once. wait is how long to wait before it may be sent again,
// 0 if it may not. The error holds nothing that the collector said.
func (e *exporter) post(ctx context.Context, body []byte) (rejected int, wait time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return 0, 0, errors.New("write request: the collector's URL does not read")
	}
	if e.cfg.Header != nil {
		if request.Header, err = e.cfg.Header(); err != nil {
			return 0, 0, err
		}
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	request.Header.Set("User-Agent", "c1proxy/"+e.cfg.Version)
	response, err := e.transport.RoundTrip(request) // which follows no redirect
	if err != nil {
		return 0, time.Nanosecond, fault.Speakable(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxReport))
	if response.StatusCode != http.StatusOK {
		if again[response.StatusCode] {
			seconds, _ := strconv.Atoi(response.Header.Get("Retry-After")) // 0 if it does not read
			wait = max(time.Duration(min(max(seconds, 0), 60))*time.Second, time.Nanosecond)
		}
		return 0, wait, fmt.Errorf("the collector answered %d", response.StatusCode)
	}
	if err != nil {
		return 0, 0, fault.Speakable(err)
	}
	return rejectedOf(answer), 0, nil
}

// rejectedOf reads partial_success.rejected_spans (fields 1 and 1) of an
// ExportTraceServiceResponse; 0 if it is not there.
func rejectedOf(answer []byte) int {
	partial, _ := protowire.ConsumeBytes(fieldOf(answer, protowire.BytesType))
	n, size := protowire.ConsumeVarint(fieldOf(partial, protowire.VarintType))
	if size < 0 || n > 1<<30 {
		return 0
	}
	return int(n)
}

// fieldOf returns a message from the value of its field 1 on; nil if it has
// none of the type.
func fieldOf(message []byte, want protowire.Type) []byte {
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return nil
		}
		if number == 1 && kind == want {
			return message[tag:]
		}
		size := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if size < 0 {
			return nil
		}
		message = message[tag+size:]
	}
	return nil
}
