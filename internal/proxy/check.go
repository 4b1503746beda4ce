package proxy

import (
	"fmt"
	"slices"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/principal"
	"github.com/c1proxy/c1proxy/internal/route"
)

// Check finds what is wrong in a configuration that package config cannot
// know: rules that name methods which do not exist, or that allow none of those
// they name, and fields that requests do not have.
func Check(cfg *configv1.Config) []config.Problem {
	routes, err := route.Load(catalog.Files(), catalog.Types{}, mirrored)
	if err != nil {
		return []config.Problem{{Message: err.Error()}}
	}
	return slices.Concat(checkRules(cfg, methodsOf(routes)), checkLimits(cfg, methodsOf(routes)), checkFields(cfg, routes), checkCallers(cfg))
}

// checkRules is Check for the methods that exist.
func checkRules(cfg *configv1.Config, methods []policy.Method) []config.Problem {
	rules, positions := rulesOf(cfg)
	_, found := policy.Compile(rules, methods)
	problems := make([]config.Problem, 0, len(found))
	for _, f := range found {
		at := positions[f.Rule]
		problems = append(problems, config.Problem{Message: f.Message,
			Path: fmt.Sprintf("teams[%d].allow[%d].%s", at.team, at.rule, keyOf(f))})
	}
	return problems
}

// checkLimits finds limits and costs of methods that do not exist, and calls that
// cost more than a limit ever has.
func checkLimits(cfg *configv1.Config, methods []policy.Method) []config.Problem {
	rules, _ := rulesOf(cfg)
	allowed, wrong := policy.Compile(rules, methods)
	_, _, problems := limitsIn(cfg, methods, func(team, method string) bool {
		if len(wrong) > 0 {
			return false // what may be called is not known
		}
		_, err := allowed.Allow(policy.Call{Who: &principal.Principal{Team: team}, Method: method})
		return err == nil
	})
	return problems
}
