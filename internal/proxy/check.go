package proxy

import (
	"fmt"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/route"
)

// Check finds what is wrong in a configuration that package config cannot
// know: methods that do not exist.
func Check(cfg *configv1.Config) []config.Problem {
	routes, err := route.Load(catalog.Files(), catalog.Types{}, mirrored)
	if err != nil {
		return []config.Problem{{Message: err.Error()}}
	}
	rules, positions := rulesOf(cfg)
	_, unknown := policy.Compile(rules, methodsOf(routes))
	problems := make([]config.Problem, 0, len(unknown))
	for _, u := range unknown {
		at := positions[u.Rule]
		problems = append(problems, config.Problem{Message: u.Message,
			Path: fmt.Sprintf("teams[%d].allow[%d].methods[%d]", at.team, at.rule, u.Method)})
	}
	return problems
}
