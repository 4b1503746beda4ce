package telemetry

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/c1proxy/c1proxy/internal/principal"
)

// The attributes of spans: OpenTelemetry's semantic conventions 1.43 where these
// have one. Each value comes from the configuration, from a descriptor or from a
// fixed list, or is a number or the server's own request id: none is ever a
// caller's text, and none is C1's.
const (
	keySystem       = attribute.Key("rpc.system.name")
	keyMethod       = attribute.Key("rpc.method")
	keyCode         = attribute.Key("rpc.response.status_code")
	keyErrorType    = attribute.Key("error.type")
	keyVerb         = attribute.Key("http.request.method")
	keyRoute        = attribute.Key("http.route")
	keyTemplate     = attribute.Key("url.template")
	keyStatus       = attribute.Key("http.response.status_code")
	keyResend       = attribute.Key("http.request.resend_count")
	keyServer       = attribute.Key("server.address")
	keyPort         = attribute.Key("server.port")
	keyRequestID    = attribute.Key("c1proxy.request_id")
	keyDoor         = attribute.Key("c1proxy.door")
	keyTeam         = attribute.Key("c1proxy.team")
	keyCaller       = attribute.Key("c1proxy.caller")
	keyTenant       = attribute.Key("c1proxy.tenant")
	keyReason       = attribute.Key("c1proxy.reason")
	keyTokenOutcome = attribute.Key("c1proxy.token.outcome")
)

// attributes says what each attribute holds. The documentation is checked
// against it, and what is exported too.
var attributes = map[attribute.Key]string{
	keySystem:       "`grpc` or `connectrpc`; not on C1's own paths",
	keyMethod:       "the procedure, `package.Service/Method`",
	keyCode:         "the answer's code, such as `OK` or `NOT_FOUND`",
	keyErrorType:    "why a span failed: a reason, a status, or a token's outcome",
	keyVerb:         "the HTTP method: of the request to C1, or on C1's own paths",
	keyRoute:        "on C1's own paths: the path's template",
	keyTemplate:     "of the request to C1: the path's template, without its values",
	keyStatus:       "the HTTP status, C1's or ours",
	keyResend:       "how many attempts came before this one",
	keyServer:       "the host of C1",
	keyPort:         "its port, where the URL has one",
	keyRequestID:    "the call's `X-Request-Id`, as in its records and log lines",
	keyDoor:         "`connect`, `grpc`, `grpc-web` or `rest`",
	keyTeam:         "the caller's team",
	keyCaller:       "the caller's name",
	keyTenant:       "the tenant's name",
	keyReason:       "the reason of an error",
	keyTokenOutcome: "`ok`, `unavailable` or `rejected`",
}

// Attributes says what each attribute of a span holds, by its name.
func Attributes() map[string]string {
	texts := make(map[string]string, len(attributes))
	for key, text := range attributes {
		texts[string(key)] = text
	}
	return texts
}

// A Mark is a moment of a call that its span notes.
type Mark string

// The marks, in the order of a call.
const (
	Prepared       Mark = "prepared"
	IntentDurable  Mark = "intent durable"
	OutcomeDurable Mark = "outcome durable"
)

// A Span is one traced call, or one attempt to send it. Nil is one that is not
// traced: all methods are legal on it, and do nothing. It is safe for concurrent
// use.
type Span struct {
	tracer trace.Tracer
	span   trace.Span
}

type spanKey struct{}

// WithSpan returns a context that carries a span, which is not nil.
func WithSpan(ctx context.Context, span *Span) context.Context {
	return context.WithValue(ctx, spanKey{}, span)
}

// SpanOf returns the span that a context carries, or nil.
func SpanOf(ctx context.Context) *Span {
	span, _ := ctx.Value(spanKey{}).(*Span)
	return span
}

// TraceID is the trace's id in hex; "" for a call that is not traced.
func (s *Span) TraceID() string {
	if s == nil {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// Mark notes the time of a moment.
func (s *Span) Mark(mark Mark) {
	if s != nil {
		s.span.AddEvent(string(mark))
	}
}

// An Answered is what a call's span tells of the call.
type Answered struct {
	RequestID, Procedure string
	Door                 Door
	// Who is nil for a caller that is not known.
	Who *principal.Principal
	// Verb and Template are those of C1's own paths, at the door of these.
	Verb, Template string
	// Code is 0 for success; Reason is "" where there is none.
	Code   connect.Code
	Reason string
	// Status is the HTTP status; 0 is left out.
	Status int
}

// systems are the names of the doors in the semantic conventions.
var systems = [doors]string{Connect: "connectrpc", GRPC: "grpc", GRPCWeb: "grpc"}

// End ends the span of a call that has been answered.
func (s *Span) End(a Answered) {
	if s == nil {
		return
	}
	s.set(keyMethod.String(a.Procedure), keyDoor.String(a.Door.String()), keyRequestID.String(a.RequestID),
		keyCode.String(strings.ToUpper(CodeName(a.Code))))
	if a.Who != nil {
		s.set(keyTeam.String(a.Who.Team), keyCaller.String(a.Who.Caller), keyTenant.String(a.Who.Tenant))
	}
	if a.Door == REST {
		s.set(keyVerb.String(a.Verb), keyRoute.String(a.Template))
	} else {
		s.set(keySystem.String(systems[a.Door]))
	}
	if a.Status != 0 {
		s.set(keyStatus.Int(a.Status))
	}
	if a.Reason != "" {
		s.set(keyReason.String(a.Reason))
	}
	if oursToFix(a.Code) {
		s.fail(orElse(a.Reason, CodeName(a.Code)))
	}
	s.span.End()
}

// oursToFix tells which codes are an error of the server, as the semantic
// conventions for gRPC servers have it; the rest are the caller's.
func oursToFix(code connect.Code) bool {
	switch code {
	case connect.CodeUnknown, connect.CodeDeadlineExceeded, connect.CodeUnimplemented, connect.CodeInternal,
		connect.CodeUnavailable, connect.CodeDataLoss:
		return true
	}
	return false
}

// An Attempt is one HTTP request to C1.
type Attempt struct {
	Verb, Template, Tenant string
	// Base is C1's scheme and host.
	Base *url.URL
	// Before is how many attempts came before.
	Before int
}

// Attempt begins the span of one HTTP request, below s.
func (s *Span) Attempt(a Attempt) *Span {
	if s == nil {
		return nil
	}
	ctx := trace.ContextWithSpan(context.Background(), s.span)
	_, span := s.tracer.Start(ctx, a.Verb+" "+a.Template, trace.WithSpanKind(trace.SpanKindClient))
	child := &Span{tracer: s.tracer, span: span}
	child.set(keyVerb.String(a.Verb), keyTemplate.String(a.Template), keyTenant.String(a.Tenant))
	child.set(serverOf(a.Base)...)
	if a.Before > 0 {
		child.set(keyResend.Int(a.Before))
	}
	return child
}

// Traceparent is the W3C header by which C1 can continue the trace. It is made
// of the span alone.
func (s *Span) Traceparent() string {
	sc := s.span.SpanContext()
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + sc.TraceFlags().String()
}

// Sent ends the span of an attempt. status is 0 if no answer came; reason is why
// it failed, "" if it did not.
func (s *Span) Sent(status int, reason string) {
	if s == nil {
		return
	}
	if status != 0 {
		s.set(keyStatus.Int(status))
	}
	switch {
	case status >= http.StatusBadRequest:
		s.fail(strconv.Itoa(status))
	case reason != "":
		s.fail(reason)
	}
	s.span.End()
}

func (s *Span) set(attributes ...attribute.KeyValue) { s.span.SetAttributes(attributes...) }

// fail marks the span as failed. There is no description: the words of an error
// are for the caller and the log.
func (s *Span) fail(why string) {
	s.set(keyErrorType.String(why))
	s.span.SetStatus(otelcodes.Error, "")
}

// serverOf names the host of a URL.
func serverOf(base *url.URL) []attribute.KeyValue {
	server := []attribute.KeyValue{keyServer.String(base.Hostname())}
	if port, err := strconv.Atoi(base.Port()); err == nil {
		server = append(server, keyPort.Int(port))
	}
	return server
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
