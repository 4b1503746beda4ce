package telemetry

import "github.com/prometheus/client_golang/prometheus"

// A family is a metric whose label values are those of the moment: what is gone
// at a scrape is not in it.
type family struct {
	description *prometheus.Desc
	kind        prometheus.ValueType
	read        func(emit func(value float64, labels ...string))
}

// Gauges registers gauges, one for each set of label values, that are read at
// each scrape: read calls emit once for each set, with the values in the order
// of labels.
func (m *Metrics) Gauges(name, help string, labels []string, read func(emit func(value float64, labels ...string))) {
	m.registry.MustRegister(family{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue, read})
}

// Counters registers running totals, as Gauges does.
func (m *Metrics) Counters(name, help string, labels []string, read func(emit func(value float64, labels ...string))) {
	m.registry.MustRegister(family{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue, read})
}

// Describe is prometheus.Collector's.
func (f family) Describe(to chan<- *prometheus.Desc) { to <- f.description }

// Collect is prometheus.Collector's.
func (f family) Collect(to chan<- prometheus.Metric) {
	f.read(func(value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(f.description, f.kind, value, labels...)
	})
}

// ForgetTenant removes what was counted of a tenant that is there no more.
func (m *Metrics) ForgetTenant(name string) {
	m.upstream.DeletePartialMatch(prometheus.Labels{"tenant": name})
	m.tokens.DeletePartialMatch(prometheus.Labels{"tenant": name})
}

// ForgetIssuer removes what was counted of an issuer that is there no more.
func (m *Metrics) ForgetIssuer(name string) {
	m.issuers.DeletePartialMatch(prometheus.Labels{"issuer": name})
}
