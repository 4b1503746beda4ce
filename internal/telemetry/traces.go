package telemetry

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// The bounds of what waits for the collector, and of a span. Nothing of a span
// is long; its limits are there so that it stays so.
const (
	maxPending, maxBatch        = 2048, 512
	batchDelay, exportTimeout   = time.Second, 10 * time.Second
	flushTimeout                = 5 * time.Second
	maxAttributes, maxAttribute = 24, 256
	maxEvents                   = 8
	// strangersRate bounds the spans of those who have not proven who they are,
	// in one second: they must not crowd out those who have.
	strangersRate = 10
)

// A TracesConfig says where spans go.
type TracesConfig struct {
	// Endpoint is the collector's URL, without /v1/traces. Required.
	Endpoint *url.URL
	// Header returns the header fields of an export, secrets among them. It is
	// called for each export; its errors are logged, and so must not hold what
	// it returns. Nil means none.
	Header func() (http.Header, error)
	// Ratio is the part of the calls that is traced, from 0 to 1.
	Ratio float64
	// Service and Version name this program to the collector.
	Service, Version string
	// Logger gets a line when exports begin to fail, and when they work again.
	// Required.
	Logger *slog.Logger
}

// Traces makes spans and sends them to a collector: in the background, in
// batches, from a queue of a fixed length. What does not fit, or cannot be sent
// in time, is dropped and counted: a call never waits for it. Nil Traces are
// legal, and make no spans. It is safe for concurrent use.
//
// It reads no environment variable. (What OpenTelemetry's SDK reads by itself is
// overridden here, each thing by its option.)
type Traces struct {
	ratio    float64
	tracer   trace.Tracer
	provider *sdktrace.TracerProvider
	queue    *queue
	exporter *exporter

	mu        sync.Mutex
	second    int64 // the current one, of strangers
	strangers int   // their spans in it
}

// OpenTraces starts the exporter, which calls nobody before there is a span.
// The caller closes the Traces.
func (m *Metrics) OpenTraces(cfg TracesConfig) *Traces {
	// The SDK's own complaints quote environment variables; what becomes of
	// spans is logged and counted by the exporter.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	t := &Traces{ratio: cfg.Ratio, exporter: newExporter(cfg, m)}
	t.queue = &queue{exporter: t.exporter}
	t.queue.SpanProcessor = sdktrace.NewBatchSpanProcessor(otlptrace.NewUnstarted(t.exporter),
		sdktrace.WithMaxQueueSize(maxPending), sdktrace.WithMaxExportBatchSize(maxBatch),
		sdktrace.WithBatchTimeout(batchDelay), sdktrace.WithExportTimeout(exportTimeout))
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(t.queue),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // Traces draws before there is a span
		sdktrace.WithResource(resource.Empty()),       // the exporter has the resource
		sdktrace.WithRawSpanLimits(sdktrace.SpanLimits{
			AttributeValueLengthLimit: maxAttribute, AttributeCountLimit: maxAttributes, EventCountLimit: maxEvents,
			AttributePerEventCountLimit: 1, LinkCountLimit: 0, AttributePerLinkCountLimit: 0}))
	t.tracer = t.provider.Tracer("github.com/c1proxy/c1proxy", trace.WithSchemaURL(semconv.SchemaURL))
	m.Gauge("c1proxy_trace_spans_pending", "Spans that wait to be sent to the collector.", nil,
		func() float64 { return float64(t.exporter.pending.Load()) })
	return t
}

// Close sends what waits, within 5 s or ctx's life, whichever is shorter, and
// drops the rest. It may be called again.
func (t *Traces) Close(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // the error is ctx's; what it meant for spans, close says
	t.exporter.close()
}

// parentOf reads the W3C trace context of a request, of which only traceparent
// is taken: tracestate is free text of the caller's, and goes nowhere. A header
// that is given twice or does not read counts as none.
func parentOf(header http.Header) trace.SpanContext {
	values := header["Traceparent"]
	if len(values) != 1 || len(values[0]) > maxAttribute {
		return trace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier{"Traceparent": values})
	return trace.SpanContextFromContext(ctx)
}

// draws decides whether something is traced. A parent can only lower its
// chances: one that is sampled draws as one does without a parent, by a number
// that it cannot choose, as it could its trace id.
func (t *Traces) draws(parent trace.SpanContext) bool {
	return (!parent.IsValid() || parent.IsSampled()) && (t.ratio >= 1 || rand.Float64() < t.ratio)
}

// Call begins the span of a call whose caller is known, at the time when the
// call began. Its parent is the one that the request's header names. It is nil
// for a call that is not traced.
func (t *Traces) Call(procedure string, begun time.Time, header http.Header) *Span {
	if t == nil {
		return nil
	}
	parent := parentOf(header)
	if !t.draws(parent) {
		return nil
	}
	return t.begin(parent, procedure, trace.SpanKindServer, begun)
}

// Stranger begins the span of a call whose caller is not known. It has no
// parent: nobody unknown can add to a trace.
func (t *Traces) Stranger(procedure string, begun time.Time) *Span {
	if t == nil || !t.draws(trace.SpanContext{}) || !t.admitStranger(time.Now().Unix()) {
		return nil
	}
	return t.begin(trace.SpanContext{}, procedure, trace.SpanKindServer, begun)
}

// admitStranger counts a stranger's span in a second.
func (t *Traces) admitStranger(second int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if second != t.second {
		t.second, t.strangers = second, 0
	}
	t.strangers++
	return t.strangers <= strangersRate
}

// Token records one exchange with a tenant's token endpoint, which belongs to
// no call: whoever waits for it shares it. outcome must be from a fixed list.
func (t *Traces) Token(tenant string, base *url.URL, outcome string, took time.Duration) {
	if t == nil || !t.draws(trace.SpanContext{}) {
		return
	}
	span := t.begin(trace.SpanContext{}, "token exchange", trace.SpanKindClient, time.Now().Add(-took))
	span.set(keyTenant.String(tenant), keyTokenOutcome.String(outcome), keyVerb.String(http.MethodPost))
	span.set(serverOf(base)...)
	if outcome != "ok" {
		span.fail(outcome)
	}
	span.span.End()
}

func (t *Traces) begin(parent trace.SpanContext, name string, kind trace.SpanKind, begun time.Time) *Span {
	ctx := context.Background()
	if parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	_, span := t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(begun))
	return &Span{tracer: t.tracer, span: span}
}

// A queue bounds how many spans wait, in the processor that it embeds and in
// its exporter, and counts those that it turns away. The processor's own queue
// is as long and so never full: what it drops is not told.
type queue struct {
	sdktrace.SpanProcessor
	exporter *exporter
}

// OnEnd implements sdktrace.SpanProcessor.
func (q *queue) OnEnd(span sdktrace.ReadOnlySpan) {
	if q.exporter.pending.Add(1) > maxPending {
		q.exporter.pending.Add(-1)
		q.exporter.full.Inc()
		return
	}
	q.SpanProcessor.OnEnd(span)
}
