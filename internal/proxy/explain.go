package proxy

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/principal"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// A Question asks what a configuration's policy says of a call.
type Question struct {
	// Caller is a caller of the configuration's: TEAM/NAME, or NAME where only one
	// team has it.
	Caller string
	// Subject and Claims are what its token or certificate would say; the claims'
	// sub is the subject where Subject is "". Nil claims are legal.
	Subject string
	Claims  map[string]any
	// Reason is what it would state in C1proxy-Reason, in clear.
	Reason string
	// Method is "package.Service/Method".
	Method string
	// Request is the request in JSON; nil to ask without one.
	Request []byte
}

// Explain answers a question out of a configuration that Check has passed. It
// opens nothing and calls nobody. An error means that the question cannot be
// asked, and says what to ask instead.
func Explain(cfg *configv1.Config, q Question) (*principal.Principal, policy.Explanation, error) {
	who, err := callerNamed(cfg, q)
	if err != nil {
		return nil, policy.Explanation{}, err
	}
	routes, _, err := loadRoutes(nil)
	if err != nil {
		return nil, policy.Explanation{}, err
	}
	message, err := requestOf(q, routes)
	if err != nil {
		return nil, policy.Explanation{}, err
	}
	var e edition
	if err := e.admit(cfg, methodsOf(routes)); err != nil {
		return nil, policy.Explanation{}, err
	}
	return who, e.explain(who, q.Method, q.Reason, message), nil
}

// explain says what the policy of the edition says of a call of a C1 method, and
// why; without a message, what it says before the request is decoded. It is what
// a call is decided by, and counts, logs and records nothing. Steps[].Cause is
// not for the caller's eyes, unless the caller made up the request.
func (e *edition) explain(who *principal.Principal, method, reason string, message proto.Message) policy.Explanation {
	return e.policy.Explain(policy.Call{Who: who, Method: method, Reason: reason, Message: message})
}

// callerNamed finds the caller of a question.
func callerNamed(cfg *configv1.Config, q Question) (*principal.Principal, error) {
	var found []*principal.Principal
	var names, all []string
	for _, team := range cfg.GetTeams() {
		for _, caller := range team.GetCallers() {
			full := team.GetName() + "/" + caller.GetName()
			all = append(all, full)
			if q.Caller == full || q.Caller == caller.GetName() {
				names = append(names, full)
				found = append(found, &principal.Principal{Caller: caller.GetName(), Team: team.GetName(), Tenant: team.GetTenant(), Subject: q.Subject, Claims: q.Claims})
			}
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("find caller: none is named %q; there are %s", q.Caller, strings.Join(all[:min(len(all), 20)], ", "))
	case 1:
		if subject, ok := q.Claims["sub"].(string); ok && q.Subject == "" {
			found[0].Subject = subject
		}
		return found[0], nil
	}
	return nil, fmt.Errorf("find caller: several are named %q; write one of %s", q.Caller, strings.Join(names[:min(len(names), 20)], ", "))
}

// requestOf reads the request of a question; nil without one. The method must
// exist.
func requestOf(q Question, routes []*route.Route) (proto.Message, error) {
	for _, r := range routes {
		if r.Method() != q.Method {
			continue
		}
		if q.Request == nil {
			return nil, nil
		}
		message, _, err := transcode.Decode(transcode.JSON, q.Request, r.Input)
		if err != nil {
			return nil, fmt.Errorf("read request: %w", err)
		}
		return message, nil
	}
	problem := "it is a pattern: name one method"
	if _, problems := policy.Select([]string{q.Method}, methodsOf(routes)); len(problems) > 0 {
		problem = problems[0].Message
	}
	return nil, fmt.Errorf("find method: %s", problem)
}
