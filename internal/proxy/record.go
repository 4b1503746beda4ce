package proxy

import (
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
)

// recordOf is a record as callers get it: all that the log has of it, and nothing
// more.
func recordOf(r *audit.Record) *c1proxyv1.Record {
	out := &c1proxyv1.Record{Seq: r.Seq, Id: r.ID, Time: timestamppb.New(r.Time), Kind: string(r.Kind),
		RequestId: r.RequestID, Intent: r.Intent, ClientRequestId: r.ClientRequestID,
		Caller: r.Caller, Team: r.Team, Tenant: r.Tenant, Credential: r.Credential,
		Procedure: r.Procedure, Door: r.Door, Peer: r.Peer, PolicyRevision: r.PolicyRevision, Rule: r.Rule,
		Path: namedValues(r.Path), Request: namedValues(r.Request), Reason: r.Reason,
		Error: r.Error, Field: r.Field, UpstreamCredential: r.UpstreamCredential, UpstreamStatus: int32(r.UpstreamStatus),
		Code: r.Code, Outcome: string(r.Outcome), ClientGone: r.ClientGone,
		Event: r.Event, Detail: r.Detail, Truncated: r.Truncated}
	for _, status := range r.Attempts {
		out.Attempts = append(out.Attempts, int32(status))
	}
	if r.Duration != 0 {
		out.Duration = durationpb.New(r.Duration)
	}
	return out
}

func namedValues(fields audit.Fields) (out []*c1proxyv1.NamedValue) {
	for _, f := range fields {
		out = append(out, &c1proxyv1.NamedValue{Name: f.Name, Value: f.Value})
	}
	return out
}
