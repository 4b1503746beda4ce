// Package siem takes audit records to where a security team looks: it writes
// them as OCSF events (see OCSF) or as they stand in the log, and ships them by
// syslog or to a webhook (see Sink).
//
// A sink reads the log's files like any other reader, so a call never waits for
// it: a SIEM that is away makes lag, and nothing else.
package siem

import "github.com/c1proxy/c1proxy/internal/audit"

// An Encoder writes a record as one JSON object without a newline. It is safe
// for concurrent use.
type Encoder interface {
	Encode(r *audit.Record) ([]byte, error)
}

// JSON writes a record as it stands in the log.
type JSON struct{}

// Encode implements [Encoder].
func (JSON) Encode(r *audit.Record) ([]byte, error) { return r.MarshalJSON() }

// A severity is OCSF's severity_id.
type severity int

// The severities that are used.
const (
	informational severity = 1 + iota
	low
	medium
	high
	critical
)

var severityNames = map[severity]string{informational: "Informational", low: "Low", medium: "Medium", high: "High", critical: "Critical"}

// severityOf says how much a record matters: what was refused is medium, what
// nobody knows the outcome of is high, as is a time of which the log has
// records missing, and a log that someone else has touched is critical.
func severityOf(r *audit.Record) severity {
	switch {
	case r.Event == audit.EventAlarm:
		return critical
	case r.Event == audit.EventGap, r.Outcome == audit.OutcomeIndeterminate:
		return high
	case r.Event == audit.EventRecovered, r.Kind == audit.KindDenied:
		return medium
	case r.Outcome == audit.OutcomeFailed, r.Outcome == audit.OutcomeNotSent:
		return low
	}
	return informational
}
