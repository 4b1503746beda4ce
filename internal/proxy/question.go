package proxy

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/principal"
)

// This file is about what callers and operators ask of decisions: Explain and
// Limits.

// maxName bounds, in bytes, the names in a question. What does not exist is
// compared with all that does, to tell what may have been meant.
const maxName = 256

// explain answers Explain.
func (g *gateway) explain(_ context.Context, c *call, r *c1proxyv1.ExplainRequest) (*c1proxyv1.ExplainResponse, error) {
	q := Question{Caller: r.GetCaller(), Subject: r.GetSubject(), Reason: r.GetReason(), Method: r.GetMethod()}
	if r.Claims != nil {
		q.Claims = r.GetClaims().AsMap()
	}
	if r.Request != nil {
		q.Request = []byte(r.GetRequest())
	}
	who, err := c.about(q)
	if err != nil {
		return nil, err
	}
	message, err := g.asked(q)
	if err != nil {
		return nil, err
	}
	e := c.edition.explain(who, q.Method, q.Reason, message)
	response := &c1proxyv1.ExplainResponse{Caller: who.Team + "/" + who.Caller, Allowed: e.Rule != "", Pending: e.Pending,
		Rule: e.Rule, Shadow: e.Shadow, Text: wordsOf(e), PolicyRevision: c.edition.revision}
	if e.Refusal != nil {
		response.Reason = string(e.Refusal.Reason)
	}
	for _, s := range e.Steps {
		step := &c1proxyv1.Step{Rule: s.Rule, Outcome: string(s.Outcome), Why: s.Why, Shadow: s.Shadow, Decides: s.Decides}
		if s.Cause != nil {
			step.Cause = s.Cause.Error()
		}
		response.Steps = append(response.Steps, step)
	}
	return response, nil
}

// wordsOf is a decision in words.
func wordsOf(e policy.Explanation) string {
	switch {
	case e.Refusal != nil:
		return e.Refusal.Message
	case e.Pending:
		return "it depends on the request, which was not given"
	case e.Shadow != "":
		return e.Rule + " allows it because it is in shadow, and would refuse it: " + e.Shadow
	}
	return e.Rule + " allows it"
}

// limits answers Limits.
func (g *gateway) limits(_ context.Context, c *call, r *c1proxyv1.LimitsRequest) (*c1proxyv1.LimitsResponse, error) {
	q := Question{Caller: r.GetCaller(), Method: r.GetMethod()}
	who, err := c.about(q)
	if err != nil {
		return nil, err
	}
	if q.Method != "" {
		if _, err := g.asked(q); err != nil {
			return nil, err
		}
	}
	limits, cost, shared := g.standings(c.edition, callerKey{who.Team, who.Caller}, q.Method)
	response := &c1proxyv1.LimitsResponse{Caller: who.Team + "/" + who.Caller, Shared: shared, Cost: cost,
		PolicyRevision: c.edition.revision, Time: timestamppb.Now()}
	for _, l := range limits {
		limit := &c1proxyv1.Limit{Name: l.Name, Scope: l.Rule.Scope, Methods: l.Methods, MaxInFlight: l.Rule.Most, Shadow: l.Rule.Shadow, InFlight: l.InFlight}
		if rate := l.Rule.Limit; rate.Rate != 0 {
			limit.Rate, limit.Per, limit.Burst = rate.Rate, durationpb.New(rate.Per), rate.Burst
			limit.Remaining, limit.ResetAfter = l.Remaining, durationpb.New(l.ResetAfter)
		}
		response.Limits = append(response.Limits, limit)
	}
	return response, nil
}

// about finds whom a question is about: on the admin listener the caller that it
// names, elsewhere who asks and nobody else.
func (c *call) about(q Question) (*principal.Principal, error) {
	own := c.who.Team + "/" + c.who.Caller
	switch {
	case len(q.Caller) > maxName:
		return nil, badQuestion("caller", "is longer than %d bytes", maxName)
	case c.binding.admin && q.Caller == "":
		return nil, badQuestion("caller", "name the caller that you ask about, TEAM/NAME")
	case c.binding.admin:
		who, err := callerNamed(c.edition.config, q)
		if err != nil {
			return nil, badQuestion("caller", "%v", err)
		}
		return who, nil
	case q.Caller != "" && q.Caller != own && q.Caller != c.who.Caller:
		return nil, badQuestion("caller", "you are %s and can ask about yourself alone: leave it out, or ask the admin listener", own)
	case q.Claims != nil:
		return nil, badQuestion("claims", "yours are known, and no others count: leave them out, or ask the admin listener")
	case q.Subject != "":
		return nil, badQuestion("subject", "yours is known, and no other counts: leave it out, or ask the admin listener")
	}
	return c.who, nil
}

// asked reads the request of a question about a method, which must be one that
// the policy is about; nil without a request.
func (g *gateway) asked(q Question) (proto.Message, error) {
	if len(q.Method) > maxName {
		return nil, badQuestion("method", "is longer than %d bytes", maxName)
	}
	message, err := requestOf(q, g.routes)
	if err == nil || fault.Of(err).Reason == fault.BadRequest {
		return message, err
	}
	return nil, badQuestion("method", "%v", err)
}

// badQuestion is the fault of a question that cannot be answered.
func badQuestion(field, format string, args ...any) *fault.Fault {
	return fault.New(connect.CodeInvalidArgument, fault.BadRequest, "%s: %s", field, fmt.Sprintf(format, args...)).With("field", field)
}

// noteQuestion keeps for the records what is asked about, which stands in no
// other field of theirs.
func noteQuestion(c *call, message proto.Message) {
	q, ok := message.(interface {
		GetCaller() string
		GetMethod() string
	})
	if !ok {
		return
	}
	c.noteAsked("caller", q.GetCaller())
	c.noteAsked("method", q.GetMethod())
}

// noteAsked keeps a name that is asked for, if it is not "".
func (c *call) noteAsked(name, value string) {
	text := authn.Scrub(value)
	if text = strings.ToValidUTF8(text[:min(len(text), maxName)], ""); text != "" {
		c.request = append(c.request, audit.Field{Name: name, Value: text})
	}
}
