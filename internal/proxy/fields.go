package proxy

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/redact"
	"github.com/c1proxy/c1proxy/internal/route"
)

// This file is about what of a request stands in its records.

// notePath keeps the path values for the records.
func (c *call) notePath(values []route.Value) {
	plan := c.plan()
	c.path = make(audit.Fields, 0, len(values))
	for _, value := range values {
		if text, ok := plan.Path(value.Field, value.Text); ok {
			c.path = append(c.path, audit.Field{Name: value.Field, Value: authn.Scrub(text)})
		}
	}
}

// plan says what of the request stands in the records; nil is the default.
func (c *call) plan() *redact.Plan { return c.edition.plans[c.binding.route.Method()] }

// noteRequest keeps other fields of the request for the records.
func (c *call) noteRequest(message proto.Message) {
	c.request = c.plan().Request(message.ProtoReflect(), authn.Scrub)
}

// plansOf returns what the configuration says of the fields of each method, by
// its name; methods without a rule are not in it. It makes the keys of hashes
// if there are none yet.
func plansOf(cfg *configv1.Audit, routes []*route.Route) (map[string]*redact.Plan, error) {
	rules := make(map[string][]redact.Rule)
	var keys *redact.Keys
	for i, rule := range cfg.GetFields() {
		names, problems := policy.Select(rule.GetMethods(), methodsOf(routes))
		if len(problems) > 0 {
			return nil, fmt.Errorf("read audit.fields[%d]: methods[%d]: %s", i, problems[0].Method, problems[0].Message)
		}
		for _, name := range names {
			rules[name] = append(rules[name], redactRule(rule))
		}
		if len(rule.GetHash()) > 0 && keys == nil {
			var err error
			if keys, err = redact.LoadOrCreateKeys(cfg.GetHashKeysFile()); err != nil {
				return nil, err
			}
		}
	}
	plans := make(map[string]*redact.Plan)
	for _, r := range routes {
		plan, err := redact.NewPlan(r.Descriptor.Input(), pathFields(r), rules[r.Method()], keys)
		if err != nil {
			return nil, fmt.Errorf("read audit.fields: %s: %w", r.Method(), err)
		}
		if plan != nil {
			plans[r.Method()] = plan
		}
	}
	return plans, nil
}

func redactRule(rule *configv1.FieldRule) redact.Rule {
	return redact.Rule{Keep: rule.GetKeep(), Hash: rule.GetHash(), Drop: rule.GetDrop()}
}

// pathFields are the names of a route's path values.
func pathFields(r *route.Route) []string {
	var names []string
	for _, segment := range r.Segments {
		if segment.Field != nil {
			names = append(names, string(segment.Field.Name()))
		}
	}
	return names
}

// checkFields finds the methods and fields of audit.fields that do not exist,
// or cannot be recorded.
func checkFields(cfg *configv1.Config, routes []*route.Route) []config.Problem {
	byName := make(map[string]*route.Route, len(routes))
	for _, r := range routes {
		byName[r.Method()] = r
	}
	var problems []config.Problem
	for i, rule := range cfg.GetAudit().GetFields() {
		at := fmt.Sprintf("audit.fields[%d]", i)
		names, found := policy.Select(rule.GetMethods(), methodsOf(routes))
		for _, f := range found {
			problems = append(problems, config.Problem{Path: fmt.Sprintf("%s.methods[%d]", at, f.Method), Message: f.Message})
		}
		if len(rule.GetKeep())+len(rule.GetHash())+len(rule.GetDrop()) == 0 {
			problems = append(problems, config.Problem{Path: at, Message: "names no field: write keep, hash or drop"})
		}
		if len(found) > 0 {
			continue
		}
		r, seen := redactRule(rule), make(map[string]bool)
		r.All(func(key, name string, j int, action redact.Action) {
			message := checkField(names, byName, name, action)
			if message == "" && seen[name] {
				message = fmt.Sprintf("%q stands in this rule twice", name)
			}
			if seen[name] = true; message != "" {
				problems = append(problems, config.Problem{Path: fmt.Sprintf("%s.%s[%d]", at, key, j), Message: message})
			}
		})
	}
	return problems
}

// checkField says what is wrong with a field of a rule for some methods; "" if
// it can be recorded of all that have it, and one has it.
func checkField(methods []string, byName map[string]*route.Route, name string, action redact.Action) string {
	some := false
	for _, method := range methods {
		_, missing, err := redact.Resolve(byName[method].Descriptor.Input(), name, action)
		if err != nil && !missing {
			return fmt.Sprintf("%s: %v", method, err)
		}
		some = some || err == nil
	}
	switch {
	case some:
		return ""
	case len(methods) == 1:
		return fmt.Sprintf("the request of %s has no field %q: it is named as in C1's protos, see docs/api.md", methods[0], name)
	}
	return fmt.Sprintf("none of the %d methods has a field %q in its request: it is named as in C1's protos, see docs/api.md", len(methods), name)
}
