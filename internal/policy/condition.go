package policy

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// maxCost bounds one evaluation of a condition, in CEL's units of cost: some
	// milliseconds of what CEL weighs.
	maxCost = 100_000
	// maxTime bounds what one evaluation with loops may take, but for the step in
	// which it ends: CEL takes a message, and what an Any holds, for 1 however large
	// it is.
	maxTime = 250 * time.Millisecond
	// maxNesting bounds how deep the parentheses of a condition nest.
	maxNesting = 50
)

// The variables of a condition.
const (
	requestName = "request"
	claimsName  = "claims"
	nameOf      = "caller.name"
	teamOf      = "caller.team"
	tenantOf    = "caller.tenant"
	subjectOf   = "caller.subject"
)

// A condition is a CEL expression over a call. Whether it reads the request
// decides when it can be evaluated, and how often it is compiled: once, or once
// for each type of request. It is safe for concurrent use.
type condition struct {
	text  string
	reads bool
	// programs are by the request's type; one for "" if it is not read.
	programs map[protoreflect.FullName]*program
}

// A program is a condition for one type of request. It was checked when the
// policy was compiled, and is made at its first call: of all the methods that a
// pattern names, few are ever called.
type program struct {
	make func() (cel.Program, error)
	// loops says that it has a loop, over a list or a map.
	loops bool
}

// holds tells whether the condition is true of the call. An error is one of
// evaluation, and may quote the call.
func (c *condition) holds(call *Call) (bool, error) {
	var of protoreflect.FullName
	if c.reads {
		of = call.Message.ProtoReflect().Descriptor().FullName()
	}
	found := c.programs[of]
	if found == nil {
		return false, fmt.Errorf("evaluate condition: it was not compiled for %s", of)
	}
	made, err := found.make()
	if err != nil {
		return false, err
	}
	value, err := found.eval(made, call)
	if err != nil {
		return false, err
	}
	return value.Value() == true, nil
}

// eval evaluates a program that was made.
func (p *program) eval(made cel.Program, call *Call) (value ref.Val, err error) {
	if !p.loops {
		value, _, err = made.Eval((*activation)(call))
		return value, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxTime)
	defer cancel()
	value, _, err = made.ContextEval(ctx, (*activation)(call))
	return value, err
}

// tooCostly tells whether an evaluation ended at maxCost or maxTime.
func tooCostly(err error) bool {
	var cancelled interpreter.EvalCancelledError
	return errors.As(err, &cancelled) || errors.Is(err, context.DeadlineExceeded)
}

// An activation gives a condition its variables.
type activation Call

// ResolveName finds a variable.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case requestName:
		return a.Message, true
	case claimsName:
		return a.Who.Claims, true
	case nameOf:
		return a.Who.Caller, true
	case teamOf:
		return a.Who.Team, true
	case tenantOf:
		return a.Who.Tenant, true
	case subjectOf:
		return a.Who.Subject, true
	}
	return nil, false
}

// Parent is none.
func (a *activation) Parent() interpreter.Activation { return nil }

// A language is CEL with the variables of a condition. Its environments share
// what is known of types. It is used by one goroutine, until it is complete;
// the programs that were made with it may run in many. The zero language is
// ready to use, and costs nothing until then.
type language struct {
	registry *types.Registry
	base     *cel.Env
	requests map[protoreflect.FullName]*cel.Env
	seen     map[string]bool // files in the registry
	compiled map[string]*condition
}

// What hides that a registry could be changed: CEL would copy it for each
// environment.
type (
	provider struct{ types.Provider }
	adapter  struct{ types.Adapter }
)

// open makes the language at its first use.
func (l *language) open() error {
	if l.base != nil {
		return nil
	}
	registry, err := types.NewProtoRegistry()
	if err != nil {
		return fmt.Errorf("make CEL's types: %w", err)
	}
	l.registry, l.requests = registry, make(map[protoreflect.FullName]*cel.Env)
	l.seen, l.compiled = make(map[string]bool), make(map[string]*condition)
	l.base, err = cel.NewEnv(cel.CustomTypeProvider(provider{registry}), cel.CustomTypeAdapter(adapter{registry}),
		cel.ParserRecursionLimit(maxNesting), cel.EnableIdentifierEscapeSyntax(),
		cel.Variable(claimsName, cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable(nameOf, cel.StringType), cel.Variable(teamOf, cel.StringType),
		cel.Variable(tenantOf, cel.StringType), cel.Variable(subjectOf, cel.StringType))
	return err
}

// with returns the environment in which request is of the type.
func (l *language) with(input protoreflect.MessageDescriptor) (*cel.Env, error) {
	if env := l.requests[input.FullName()]; env != nil {
		return env, nil
	}
	if err := l.register(input.ParentFile()); err != nil {
		return nil, err
	}
	env, err := l.base.Extend(cel.Variable(requestName, cel.ObjectType(string(input.FullName()))))
	if err == nil {
		l.requests[input.FullName()] = env
	}
	return env, err
}

// register makes the types of a file known, and of those that it imports.
func (l *language) register(file protoreflect.FileDescriptor) error {
	if l.seen[file.Path()] || file.IsPlaceholder() {
		return nil
	}
	l.seen[file.Path()] = true
	for i := range file.Imports().Len() {
		if err := l.register(file.Imports().Get(i).FileDescriptor); err != nil {
			return err
		}
	}
	return l.registry.RegisterDescriptor(file)
}

// compile compiles a condition for the methods. A problem says what is wrong
// with it, and with which method first.
func (l *language) compile(text string, methods []Method) (c *condition, problem string) {
	if err := l.open(); err != nil {
		return nil, oneLine(err.Error())
	}
	parsed, issues := l.base.Parse(text)
	if issues.Err() != nil {
		return nil, "is no CEL expression: " + firstIssue(issues)
	}
	if c = l.compiled[text]; c == nil {
		c = &condition{text: text, reads: readsRequest(parsed), programs: make(map[protoreflect.FullName]*program)}
		l.compiled[text] = c
	}
	if !c.reads {
		if problem = l.add(c, "", l.base, parsed); problem != "" {
			problem = "is no condition over request, caller and claims: " + problem
		}
		return c, problem
	}
	var first *Method
	more := 0
	failing := make(map[protoreflect.FullName]string)
	for i, m := range methods {
		wrong := "its request is not known"
		if m.Input != nil {
			wrong = l.checked(c, m.Input, parsed, failing)
		}
		switch {
		case wrong == "":
		case first != nil:
			more++
		default:
			first, problem = &methods[i], wrong
		}
	}
	if first == nil {
		return c, ""
	}
	return nil, fmt.Sprintf("does not fit the request of %s%s: %s", first.Name, andMore(more), problem)
}

func andMore(methods int) string {
	if methods == 0 {
		return ""
	}
	return " and " + strings.Replace(count(methods), " ", " more ", 1)
}

// checked adds the program for a type of request, and says what is wrong with
// it; each type is looked at once.
func (l *language) checked(c *condition, input protoreflect.MessageDescriptor, parsed *cel.Ast, failing map[protoreflect.FullName]string) string {
	name := input.FullName()
	if c.programs[name] != nil {
		return ""
	}
	if wrong, known := failing[name]; known {
		return wrong
	}
	env, err := l.with(input)
	if err != nil {
		return oneLine(err.Error())
	}
	wrong := l.add(c, name, env, parsed)
	if wrong != "" {
		failing[name] = meantField(wrong, input)
	}
	return failing[name]
}

// add adds the program for one environment, or says what is wrong.
func (l *language) add(c *condition, of protoreflect.FullName, env *cel.Env, parsed *cel.Ast) string {
	if c.programs[of] != nil {
		return ""
	}
	checked, issues := env.Check(parsed)
	switch {
	case issues.Err() != nil:
		return firstIssue(issues)
	case checked.OutputType() != cel.BoolType:
		return fmt.Sprintf("it is of type %s: write a comparison, which is true or false, such as caller.name == \"sync-bot\"", checked.OutputType())
	case looseRegex(checked):
		return "the pattern of matches() must be a text in the condition: one that a caller sends could take any time"
	}
	c.programs[of] = &program{loops: loops(checked), make: sync.OnceValues(func() (cel.Program, error) {
		checked, issues := env.Compile(c.text)
		if issues.Err() != nil {
			return nil, issues.Err()
		}
		return env.Program(checked, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize), cel.InterruptCheckFrequency(1))
	})}
	return ""
}

// readsRequest tells whether an expression names the variable request, or a
// variable of its own by that name.
func readsRequest(parsed *cel.Ast) bool {
	named := ast.MatchDescendants(ast.NavigateAST(parsed.NativeRep()), func(e ast.NavigableExpr) bool {
		return e.Kind() == ast.IdentKind && e.AsIdent() == requestName
	})
	return len(named) > 0
}

// loops tells whether an expression has a loop.
func loops(checked *cel.Ast) bool {
	return len(ast.MatchDescendants(ast.NavigateAST(checked.NativeRep()), ast.KindMatcher(ast.ComprehensionKind))) > 0
}

// looseRegex tells whether a pattern of matches is computed.
func looseRegex(checked *cel.Ast) bool {
	loose := ast.MatchDescendants(ast.NavigateAST(checked.NativeRep()), func(e ast.NavigableExpr) bool {
		if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != overloads.Matches {
			return false
		}
		args := e.AsCall().Args()
		return args[len(args)-1].Kind() != ast.LiteralKind
	})
	return len(loose) > 0
}

// firstIssue is the first mistake in one line, with its place in the text: the
// others mostly follow from it.
func firstIssue(issues *cel.Issues) string {
	e := issues.Errors()[0]
	text, _, _ := strings.Cut(oneLine(e.Message), " expecting {")
	if strings.HasSuffix(text, "undeclared reference to 'caller'") {
		text += ": caller has name, team, tenant and subject"
	}
	return fmt.Sprintf("%d:%d: %s", e.Location.Line(), e.Location.Column()+1, text)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

var undefined = regexp.MustCompile(`undefined field '(\w+)'$`)

// meantField adds to the mistake of a field that is not there which of the
// request's may be meant.
func meantField(wrong string, input protoreflect.MessageDescriptor) string {
	said := undefined.FindStringSubmatch(wrong)
	if said == nil {
		return wrong
	}
	if field := input.Fields().ByJSONName(said[1]); field != nil {
		return fmt.Sprintf("%s; did you mean %q?", wrong, field.Name())
	}
	var names []string
	for i := range input.Fields().Len() {
		names = append(names, string(input.Fields().Get(i).Name()))
	}
	if near := nearest(said[1], names); near != "" {
		return fmt.Sprintf("%s; did you mean %q?", wrong, near)
	}
	return wrong
}
