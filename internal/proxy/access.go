package proxy

import (
	"cmp"
	"fmt"
	"strconv"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/principal"
)

// admit builds what decides who may call what, and how often.
func (e *edition) admit(cfg *configv1.Config, methods []policy.Method) error {
	rules, _ := rulesOf(cfg)
	var problems []policy.Problem
	if e.policy, problems = policy.Compile(rules, methods); len(problems) > 0 {
		return fmt.Errorf("compile policy: rule %s: %s: %s", rules[problems[0].Rule].Name, keyOf(problems[0]), problems[0].Message)
	}
	allows := func(team, method string) bool {
		_, err := e.policy.Allow(policy.Call{Who: &principal.Principal{Team: team}, Method: method})
		return err == nil
	}
	var found []config.Problem
	if e.limits, e.configured, found = limitsIn(cfg, methods, allows); len(found) > 0 {
		return fmt.Errorf("read limits: %s: %s", found[0].Path, found[0].Message)
	}
	return nil
}

// position is where in the configuration a rule stands.
type position struct{ team, rule int }

// rulesOf returns the policy's rules, each with its position.
func rulesOf(cfg *configv1.Config) ([]policy.Rule, []position) {
	var rules []policy.Rule
	var positions []position
	for i, team := range cfg.GetTeams() {
		for j, allow := range team.GetAllow() {
			rules = append(rules, policy.Rule{Name: team.GetName() + "/allow/" + cmp.Or(allow.GetName(), strconv.Itoa(j)),
				Team: team.GetName(), Methods: allow.GetMethods(),
				Class: policy.Class(allow.GetClass()), IncludeDraft: allow.GetIncludeDraft(),
				Condition: allow.GetCondition(), RequireReason: allow.GetRequireReason(), Shadow: allow.GetShadow()})
			positions = append(positions, position{i, j})
		}
	}
	return rules, positions
}

// keyOf is the key of a rule at which a problem stands.
func keyOf(problem policy.Problem) string {
	if problem.Method < 0 {
		return problem.Key
	}
	return fmt.Sprintf("methods[%d]", problem.Method)
}
