// Package telemetry names what c1proxy measures. Every label is bounded: a
// procedure, door, code, tenant or reason comes from a list fixed at start,
// never from a request.
package telemetry

import (
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A Door is the protocol by which a call came in.
type Door uint8

// The doors.
const (
	Connect Door = iota
	GRPC
	GRPCWeb
	REST
	doors // their number
)

var doorNames = [doors]string{"connect", "grpc", "grpc-web", "rest"}

// String is the door's name in records and labels.
func (d Door) String() string { return doorNames[d] }

// codes is one more than the largest RPC code.
const codes = int(connect.CodeUnauthenticated) + 1

// CodeName is the name of an RPC code, "ok" for 0.
func CodeName(code connect.Code) string {
	if code == 0 {
		return "ok"
	}
	return code.String()
}

// Metrics holds the instruments. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	refusals *prometheus.CounterVec
	upstream *prometheus.CounterVec
	tokens   *prometheus.CounterVec
	strays   *prometheus.CounterVec
	issuers  *prometheus.CounterVec
	shadows  *prometheus.CounterVec
	inFlight prometheus.Gauge
}

// New returns Metrics with a registry of its own.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "c1proxy_calls_total", Help: "Calls answered, refusals included."}, []string{"procedure", "door", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "c1proxy_call_duration_seconds", Help: "Time from a call's header to its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"procedure"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "c1proxy_faults_total", Help: "Calls that c1proxy answered with a fault, by its reason."}, []string{"reason"}),
		upstream: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "c1proxy_upstream_requests_total", Help: "HTTP requests sent to C1, by status class; none where no answer came."}, []string{"tenant", "status"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "c1proxy_token_exchanges_total", Help: "Access tokens asked for, by the client id of the credential and by " +
				"outcome: ok, unavailable, or rejected (by C1, or because the secret cannot be used)."}, []string{"tenant", "credential", "outcome"}),
		strays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "c1proxy_strays_total", Help: "What bodies held and the mirror has no place for: dropped from requests and answers " +
				"(of an unknown_any_type the whole object is kept), and passed on in what is forwarded as it came."},
			[]string{"procedure", "direction", "kind"}),
		issuers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "c1proxy_issuer_fetches_total", Help: "Times that the keys of an OIDC issuer were asked for, by outcome: ok or failed."},
			[]string{"issuer", "outcome"}),
		shadows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "c1proxy_shadow_refusals_total", Help: "Calls that were let through, and would be refused if no rule were in shadow, by the rule that let them through."},
			[]string{"rule"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "c1proxy_calls_in_flight", Help: "Calls that have begun and are not answered."}),
	}
	m.registry.MustRegister(m.calls, m.duration, m.refusals, m.upstream, m.tokens, m.strays, m.issuers, m.shadows, m.inFlight,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the metrics in Prometheus' text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Gauge registers a value that is read at each scrape. labels are constant, or
// nil.
func (m *Metrics) Gauge(name, help string, labels map[string]string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, read))
}

// Counter registers a running total that is read at each scrape. labels are as
// in Gauge.
func (m *Metrics) Counter(name, help string, labels map[string]string, read func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(
		prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, read))
}

// Fault counts one fault by its reason, which must be from a fixed list.
func (m *Metrics) Fault(reason string) { m.refusals.WithLabelValues(reason).Inc() }

// statusNames are the status classes of upstream answers.
var statusNames = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// A Tenant counts one tenant's requests to C1.
type Tenant [len(statusNames)]prometheus.Counter

// Tenant returns the counters of a tenant.
func (m *Metrics) Tenant(name string) *Tenant {
	t := new(Tenant)
	for i, status := range statusNames {
		t[i] = m.upstream.WithLabelValues(name, status)
	}
	return t
}

// Sent counts one request to C1 by its status, 0 for no answer.
func (t *Tenant) Sent(status int) {
	class := status / 100
	if class < 0 || class >= len(t) {
		class = 0
	}
	t[class].Inc()
}

// Exchanges returns what counts a tenant's exchanges for access tokens. The
// credential is a client id from the configuration, the outcome from a fixed
// list.
func (m *Metrics) Exchanges(tenant string) func(credential, outcome string, took time.Duration) {
	return func(credential, outcome string, _ time.Duration) {
		m.tokens.WithLabelValues(tenant, credential, outcome).Inc()
	}
}

// Issuer returns what counts the fetches of an OIDC issuer's keys.
func (m *Metrics) Issuer(name string) func(ok bool) {
	good, failed := m.issuers.WithLabelValues(name, "ok"), m.issuers.WithLabelValues(name, "failed")
	return func(ok bool) {
		if ok {
			good.Inc()
		} else {
			failed.Inc()
		}
	}
}

// Shadowed counts one call that a rule in shadow let through. rule is from the
// configuration.
func (m *Metrics) Shadowed(rule string) { m.shadows.WithLabelValues(rule).Inc() }

// A Procedure measures one procedure's calls.
type Procedure struct {
	metrics  *Metrics
	name     string
	duration prometheus.Observer
	calls    [doors][codes]atomic.Pointer[prometheus.Counter]
}

// Procedure returns the instruments of a procedure.
func (m *Metrics) Procedure(name string) *Procedure {
	return &Procedure{metrics: m, name: name, duration: m.duration.WithLabelValues(name)}
}

// Begin counts a call as in flight until Answered.
func (p *Procedure) Begin() { p.metrics.inFlight.Inc() }

// Answered counts a call and its duration.
func (p *Procedure) Answered(door Door, code connect.Code, took time.Duration) {
	p.metrics.inFlight.Dec()
	p.duration.Observe(took.Seconds())
	if int(code) >= codes {
		code = connect.CodeUnknown
	}
	slot := &p.calls[door][code]
	counter := slot.Load()
	if counter == nil {
		made := p.metrics.calls.WithLabelValues(p.name, door.String(), CodeName(code))
		counter = &made
		slot.Store(counter)
	}
	(*counter).Inc()
}

// A Direction is where a body was going.
type Direction string

// The directions.
const (
	// Request is a caller's body, read and written anew for C1.
	Request Direction = "request"
	// Forwarded is a caller's body, or query, that goes to C1 as it came.
	Forwarded Direction = "forwarded"
	// Answer is a body of C1's.
	Answer Direction = "answer"
)

// Strayed counts n strays of a kind, which must be from a fixed list. Most
// calls have none, so the counters are made when they are needed.
func (p *Procedure) Strayed(direction Direction, kind string, n int) {
	p.metrics.strays.WithLabelValues(p.name, string(direction), kind).Add(float64(n))
}
