package proxy

import (
	"cmp"
	"fmt"
	"strconv"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

// admit builds what decides who may call what, and how often.
func (e *edition) admit(cfg *configv1.Config, methods []policy.Method) error {
	rules, _ := rulesOf(cfg)
	var problems []policy.Problem
	if e.policy, problems = policy.Compile(rules, methods); len(problems) > 0 {
		return fmt.Errorf("compile policy: rule %s: %s: %s", rules[problems[0].Rule].Name, keyOf(problems[0]), problems[0].Message)
	}
	tenantLimits := make(map[string]*configv1.Limit)
	for _, t := range cfg.GetTenants() {
		tenantLimits[t.GetName()] = t.GetLimit()
	}
	e.limits = make(map[callerKey]*limits)
	for _, team := range cfg.GetTeams() {
		for _, caller := range team.GetCallers() {
			e.limits[callerKey{team.GetName(), caller.GetName()}] = limitsOf(team, caller.GetName(), tenantLimits[team.GetTenant()])
		}
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

// limitsOf returns the limits that a caller's calls are charged to, nil if
// there is none.
func limitsOf(team *configv1.Team, caller string, tenant *configv1.Limit) *limits {
	var l limits
	add := func(scope, key string, rate *configv1.Limit) {
		if rate != nil {
			l.rules = append(l.rules, ratelimit.Rule{Scope: scope, Key: scope + ":" + key, Limit: ratelimit.Limit{
				Rate: int64(rate.GetRate()), Per: rate.GetPer().AsDuration(), Burst: int64(rate.GetBurst())}})
		}
	}
	add("caller", team.GetName()+"/"+caller, team.GetLimits().GetCaller())
	add("team", team.GetName(), team.GetLimits().GetTeam())
	add("tenant", team.GetTenant(), tenant)
	if l.rules == nil {
		return nil
	}
	l.policy = ratelimit.Policy(l.rules)
	return &l
}
