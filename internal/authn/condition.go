package authn

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
)

const (
	// maxCost bounds one evaluation of a condition, in CEL's units of cost: some
	// milliseconds at most.
	maxCost = 100_000
	// maxDepth bounds how deep the parentheses of a condition nest.
	maxDepth = 50
)

// A Condition is a CEL expression over a token's claims. It is safe for
// concurrent use.
type Condition struct{ program cel.Program }

var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(cel.Variable("claims", cel.MapType(cel.StringType, cel.DynType)), cel.ParserRecursionLimit(maxDepth))
})

// CompileCondition compiles an expression, whose value must be a bool. The
// error has one line, and tells the place of the first mistake in the text.
func CompileCondition(text string) (*Condition, error) {
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("make CEL environment: %w", err)
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		e := issues.Errors()[0] // the others mostly follow from it
		text, _, _ := strings.Cut(strings.Join(strings.Fields(e.Message), " "), " expecting {")
		return nil, fmt.Errorf("is no CEL expression over claims: %d:%d: %s", e.Location.Line(), e.Location.Column()+1, text)
	}
	if ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("is of type %s: write a comparison, which is true or false, such as claims.admin == true", ast.OutputType())
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, errors.New("is no CEL program: " + strings.Join(strings.Fields(err.Error()), " "))
	}
	return &Condition{program}, nil
}

// Holds tells whether the condition is true of the claims. One that fails, as on
// a claim that is not there, or that costs too much, is not. Nil holds always.
func (c *Condition) Holds(claims map[string]any) bool {
	if c == nil {
		return true
	}
	value, _, err := c.program.Eval(map[string]any{"claims": claims})
	return err == nil && value.Value() == true
}
