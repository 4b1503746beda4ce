package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"connectrpc.com/connect"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/telemetry"
)

// begin begins the call's span, as of when the call began, and puts it into the
// context for the requests to C1. observe ends it. A call without a span costs
// nothing here.
func begin(b *binding, next http.Handler) http.Handler {
	if b.gateway.traces == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := w.(*call)
		if c.span = b.gateway.traces.Call(b.route.Method(), c.begun, r.Header); c.span != nil {
			r = r.WithContext(telemetry.WithSpan(r.Context(), c.span))
		}
		next.ServeHTTP(w, r)
	})
}

// endSpan ends the span of a call that has been answered. One that was refused
// before its caller was known gets its span now.
func (b *binding) endSpan(c *call, code connect.Code) {
	who := c.who
	if who == nil || who.Team == "" {
		who = nil // of a refused caller little is proven
		c.span = b.gateway.traces.Stranger(b.route.Method(), c.begun)
	}
	if c.span == nil {
		return
	}
	a := telemetry.Answered{RequestID: c.id, Procedure: b.route.Method(), Door: c.door, Who: who,
		Verb: b.route.Verb, Template: b.route.Template, Code: code, Status: c.status}
	if c.fault != nil {
		a.Reason = string(c.fault.Reason)
	}
	c.span.End(a)
}

// openTraces starts the traces, where there are to be any. Their headers are
// read once, so that a secret that is missing fails the start.
func (g *gateway) openTraces(cfg *configv1.Traces, options Options) error {
	if cfg == nil {
		return nil
	}
	endpoint, err := url.Parse(cfg.GetEndpoint())
	if err != nil {
		return errors.New("read endpoint of traces: it is no URL") // which may hold a secret
	}
	header := func() (http.Header, error) { return headerOf("traces", cfg.GetHeaders()) }
	if _, err := header(); err != nil {
		return err
	}
	g.traces = g.metrics.OpenTraces(telemetry.TracesConfig{Endpoint: endpoint, Header: header, Ratio: cfg.GetSampleRatio(),
		Service: cfg.GetServiceName(), Version: options.Version, Logger: options.Logger})
	return nil
}

// A headerField is one of an export's.
type headerField interface {
	GetName() string
	GetValue() *configv1.Secret
}

// headerOf reads the values of the header fields of what is exported, now.
func headerOf[F headerField](what string, fields []F) (http.Header, error) {
	header := make(http.Header, len(fields)+3)
	for _, field := range fields {
		value, err := config.ReadSecret(field.GetValue())
		if err != nil {
			return nil, fmt.Errorf("read header %s of %s: %w", field.GetName(), what, err)
		}
		header.Set(field.GetName(), value.Reveal())
	}
	return header, nil
}
