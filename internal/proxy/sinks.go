package proxy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"time"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/siem"
)

// flushTime is how long all sinks together may still ship when the log has been
// closed. What is left is shipped after the next start.
const flushTime = 2 * time.Second

// openSinks starts what ships the audit's records, with those after the log as
// it is now, or where the last run has left off. What a sink needs is read once,
// so that a secret or file that is missing fails the start.
func (p *Proxy) openSinks(cfg *configv1.Audit, routes []*route.Route, options Options) error {
	var sinks []*siem.Sink
	defer func() { p.sinks.Store(&sinks) }()
	if len(cfg.GetSinks()) == 0 {
		return nil
	}
	origin, err := audit.Origin(cfg.GetDir())
	if err != nil {
		return err
	}
	size := p.gateway.log.Stats().HeadSize
	for _, s := range cfg.GetSinks() {
		made := siem.Config{Name: s.GetName(), Dir: cfg.GetDir(), Key: p.VerifierKey(), FromStart: s.GetFromStart(), Logger: options.Logger, Encoder: siem.JSON{}}
		for _, kind := range s.GetKinds() {
			made.Kinds = append(made.Kinds, audit.Kind(kind))
		}
		if s.GetFormat() == "ocsf" {
			made.Encoder = siem.NewOCSF(routes, origin, options.Version)
		}
		if made.Receiver, err = receiverOf(s, options); err != nil {
			return fmt.Errorf("open audit sink %s: %w", s.GetName(), err)
		}
		sink, err := siem.Open(made, size)
		if err != nil {
			return err
		}
		sinks = append(sinks, sink)
	}
	return nil
}

// receiverOf makes the syslog server or webhook that a sink ships to.
func receiverOf(s *configv1.AuditSink, options Options) (siem.Receiver, error) {
	if to := s.GetSyslog(); to != nil {
		host, _ := os.Hostname() // without it the messages have none
		return siem.NewSyslog(siem.SyslogConfig{Address: to.GetAddress(), Protocol: siem.Protocol(to.GetProtocol()),
			CAFile: to.GetCaFile(), Facility: siem.Facilities[to.GetFacility()], Host: host}), nil
	}
	to := s.GetWebhook()
	at, err := url.Parse(to.GetUrl())
	if err != nil {
		return nil, errors.New("read url of webhook: it is no URL") // which may hold a secret
	}
	header := func() (http.Header, error) { return headerOf("webhook", to.GetHeaders()) }
	if _, err := header(); err != nil {
		return nil, err
	}
	way := forward.TransportConfig{CAFile: to.GetCaFile(), Logger: options.Logger}
	if way.Proxy, way.ProxyUser, err = proxyFromEnvironment(at); err != nil {
		return nil, err
	}
	transport, err := forward.NewTransport(way)
	if err != nil {
		return nil, err
	}
	return siem.NewWebhook(siem.WebhookConfig{URL: at, Header: header, Array: to.GetBody() == "array",
		Batch: int(to.GetBatchMaxRecords()), Transport: transport, Version: options.Version}), nil
}

// opened are the sinks; none before they are opened.
func (p *Proxy) opened() []*siem.Sink {
	if sinks := p.sinks.Load(); sinks != nil {
		return *sinks
	}
	return nil
}

// Holds is the number of the first audit record that a sink still needs: what
// lies before it may be removed. It is 0 until the sinks are opened, and
// math.MaxUint64 if there are none. It may be called at any time.
func (p *Proxy) Holds() uint64 {
	if p.sinks.Load() == nil {
		return 0
	}
	least := uint64(math.MaxUint64)
	for _, s := range p.opened() {
		least = min(least, s.Holds())
	}
	return least
}

// closeSinks lets the sinks ship the last records of the log, which is closed.
func (p *Proxy) closeSinks() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	for _, s := range p.opened() {
		s.Close(ctx, p.gateway.log.Stats().HeadSize)
	}
}

// shipping says how a sink is doing. One that fails makes nobody unready: its
// records are on disk, and no other replica could ship them.
func shipping(s siem.State, size uint64) string {
	if s.Since.IsZero() {
		return "ok"
	}
	return fmt.Sprintf("has failed since %s, and %d records wait on disk: %s", s.Since.UTC().Format(time.RFC3339), lag(s, size), s.Why)
}

// lag is how many signed records are not shipped.
func lag(s siem.State, size uint64) uint64 { return max(size, s.Next) - s.Next }

// measureSinks registers what is read of the sinks at each scrape.
func (p *Proxy) measureSinks() {
	m := p.gateway.metrics
	for _, s := range p.opened() {
		labels := map[string]string{"sink": s.Name()}
		m.Gauge("c1proxy_audit_sink_lag_records", "Signed audit records that are not shipped yet.", labels,
			func() float64 { return float64(lag(s.State(), p.gateway.log.Stats().HeadSize)) })
		m.Gauge("c1proxy_audit_sink_failing", "1 while records cannot be shipped.", labels,
			func() float64 { return truth(!s.State().Since.IsZero()) })
		m.Counter("c1proxy_audit_sink_delivered_total", "Audit records that were shipped, those that were shipped twice included.", labels,
			func() float64 { return float64(s.State().Delivered) })
		m.Counter("c1proxy_audit_sink_failures_total", "Deliveries that failed, and were or will be made again.", labels,
			func() float64 { return float64(s.State().Failures) })
		m.Counter("c1proxy_audit_sink_skipped_total", "Audit records that were removed before they were shipped.", labels,
			func() float64 { return float64(s.State().Skipped) })
	}
}
