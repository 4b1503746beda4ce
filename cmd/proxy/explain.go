package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/gen/c1proxy/v1/c1proxyv1connect"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/principal"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

type explainCommand struct {
	Method  string `arg:"" placeholder:"METHOD" help:"package.Service/Method, as in docs/api.md."`
	Config  string `required:"" xor:"where" short:"c" placeholder:"FILE" help:"The configuration, such as c1proxy.yaml."`
	Remote  remote `embed:""`
	Caller  string `placeholder:"TEAM/NAME" help:"Who calls; NAME alone where only one team has it. Who asks as a caller need not say."`
	Request string `placeholder:"JSON" help:"The request: JSON, @FILE, or - for standard input. Without it, what can be said before a request is read."`
	Claims  string `placeholder:"JSON" help:"What the caller's token holds: JSON, @FILE or -."`
	Subject string `help:"Whom its token or certificate is about; without it the claims' sub."`
	Reason  string `placeholder:"TEXT" help:"What the caller states in C1proxy-Reason."`
	JSON    bool   `name:"json" help:"One JSON object."`
}

// maxInput bounds what is read of a file or of standard input.
const maxInput = 64 << 20

// Run prints which rule decides, and what each of the team's rules says. A call
// that is refused exits with exitFailed. Of a configuration no secret is opened,
// and nobody called.
func (e explainCommand) Run(ctx context.Context, t *terminal) (err error) {
	q := proxy.Question{Caller: e.Caller, Subject: e.Subject, Reason: e.Reason, Method: strings.TrimPrefix(e.Method, "/")}
	if q.Request, err = input(e.Request); err != nil {
		return misconfigured{err}
	}
	if q.Claims, err = claimsOf(e.Claims); err != nil {
		return misconfigured{err}
	}
	explain := e.remotely
	if e.Config != "" {
		explain = e.offline
	}
	who, explained, revision, err := explain(ctx, q)
	if err != nil {
		return err
	}
	show := explainText
	if e.JSON {
		show = explainJSON
	}
	if err := show(t.out, q.Method, revision, who, explained); err != nil {
		return err
	}
	switch {
	case explained.Refusal != nil:
		return errors.New(explained.Refusal.Message)
	case explained.Pending:
		return misconfigured{errors.New("it depends on the request: give one with --request")}
	}
	return nil
}

// offline answers out of the configuration.
func (e explainCommand) offline(_ context.Context, q proxy.Question) (who *principal.Principal, explained policy.Explanation, revision string, err error) {
	cfg, err := readConfig(e.Config)
	if err != nil {
		return nil, explained, "", err
	}
	if e.Caller == "" {
		return nil, explained, "", misconfigured{errors.New("name who calls: --caller=TEAM/NAME")}
	}
	if who, explained, err = proxy.Explain(cfg, q); err != nil {
		return nil, explained, "", misconfigured{err}
	}
	return who, explained, config.Revision(cfg), nil
}

// remotely has a running proxy answer.
func (e explainCommand) remotely(ctx context.Context, q proxy.Question) (who *principal.Principal, explained policy.Explanation, revision string, err error) {
	request := &c1proxyv1.ExplainRequest{Method: q.Method, Reason: q.Reason, Caller: q.Caller, Subject: q.Subject}
	if q.Request != nil {
		request.Request = new(string(q.Request))
	}
	if q.Claims != nil {
		if request.Claims, err = structpb.NewStruct(q.Claims); err != nil {
			return nil, explained, "", misconfigured{fmt.Errorf("read claims: %w", err)}
		}
	}
	err = e.Remote.ask(ctx, func(ctx context.Context, client c1proxyv1connect.GatewayServiceClient) error {
		response, err := client.Explain(ctx, connect.NewRequest(request))
		if err == nil {
			who, explained, revision = told(response.Msg)
		}
		return err
	})
	return who, explained, revision, err
}

// told is what a running proxy says, as Explain does.
func told(r *c1proxyv1.ExplainResponse) (who *principal.Principal, e policy.Explanation, revision string) {
	who = new(principal.Principal)
	who.Team, who.Caller, _ = strings.Cut(printable(r.GetCaller()), "/")
	e.Decision = policy.Decision{Rule: printable(r.GetRule()), Pending: r.GetPending(), Shadow: printable(r.GetShadow())}
	if r.GetReason() != "" {
		e.Refusal = fault.New(connect.CodePermissionDenied, fault.Reason(printable(r.GetReason())), "%s", printable(r.GetText()))
	}
	for _, s := range r.GetSteps() {
		step := policy.Step{Rule: printable(s.GetRule()), Outcome: policy.Outcome(printable(s.GetOutcome())), Why: printable(s.GetWhy()),
			Shadow: s.GetShadow(), Decides: s.GetDecides()}
		if s.GetCause() != "" {
			step.Cause = errors.New(printable(strings.Join(strings.Fields(s.GetCause()), " ")))
		}
		e.Steps = append(e.Steps, step)
	}
	return who, e, printable(r.GetPolicyRevision())
}

// input is what an argument means: itself, @FILE, or - for standard input; nil
// for "".
func input(text string) ([]byte, error) {
	switch {
	case text == "":
		return nil, nil
	case text == "-":
		return readAll(os.Stdin)
	case strings.HasPrefix(text, "@"):
		f, err := os.Open(text[1:])
		if err != nil {
			return nil, fmt.Errorf("read argument: %w", err)
		}
		defer f.Close()
		return readAll(f)
	}
	return []byte(text), nil
}

func readAll(from io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = fmt.Errorf("it is larger than %d bytes", maxInput)
	}
	if err != nil {
		return nil, fmt.Errorf("read argument: %w", err)
	}
	return append([]byte{}, data...), nil // never nil: there is one, if it is empty
}

// claimsOf reads claims as a token's are read.
func claimsOf(text string) (claims map[string]any, err error) {
	data, err := input(text)
	if err != nil || data == nil {
		return nil, err
	}
	if err := json.Unmarshal(bytes.TrimSpace(data), &claims); err != nil {
		return nil, fmt.Errorf("read claims: they are no JSON object: %w", err)
	}
	return claims, nil
}

// explainText prints for people.
func explainText(out io.Writer, method, revision string, who *principal.Principal, e policy.Explanation) error {
	verdict := "refused: " + reasonOf(e)
	switch {
	case e.Pending:
		verdict = "depends on the request"
	case e.Shadow != "":
		verdict = "allowed by " + e.Rule + ", in shadow: it would be refused"
	case e.Rule != "":
		verdict = "allowed by " + e.Rule
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s/%s calls %s\n%s (policy revision %s)\n", who.Team, who.Caller, method, verdict, revision)
	if len(e.Steps) == 0 {
		fmt.Fprintf(table, "team %s has no rules\n", who.Team)
	}
	for _, s := range e.Steps {
		mark, shadow := " ", ""
		if s.Decides {
			mark = ">"
		}
		if s.Shadow {
			shadow = " (in shadow)"
		}
		fmt.Fprintf(table, "%s %s\t%s%s\n", mark, s.Rule, s.Why, shadow)
		if s.Cause != nil {
			fmt.Fprintf(table, "\t%s\n", strings.Join(strings.Fields(s.Cause.Error()), " "))
		}
	}
	return table.Flush()
}

func reasonOf(e policy.Explanation) string {
	if e.Refusal == nil {
		return ""
	}
	return string(e.Refusal.Reason)
}

// explainJSON prints for programs.
func explainJSON(out io.Writer, method, revision string, who *principal.Principal, e policy.Explanation) error {
	type rule struct {
		Rule    string         `json:"rule"`
		Outcome policy.Outcome `json:"outcome"`
		Why     string         `json:"why"`
		Cause   string         `json:"cause,omitempty"`
		Shadow  bool           `json:"shadow,omitempty"`
		Decides bool           `json:"decides,omitempty"`
	}
	all := struct {
		Team     string `json:"team"`
		Caller   string `json:"caller"`
		Method   string `json:"method"`
		Revision string `json:"policy_revision"`
		Allowed  bool   `json:"allowed"`
		Pending  bool   `json:"pending,omitempty"`
		Rule     string `json:"rule,omitempty"`
		Shadow   string `json:"shadow,omitempty"`
		Reason   string `json:"reason,omitempty"`
		Message  string `json:"message,omitempty"`
		Rules    []rule `json:"rules"`
	}{who.Team, who.Caller, method, revision, e.Rule != "", e.Pending, e.Rule, e.Shadow, reasonOf(e), "", []rule{}}
	if e.Refusal != nil {
		all.Message = e.Refusal.Message
	}
	for _, s := range e.Steps {
		r := rule{Rule: s.Rule, Outcome: s.Outcome, Why: s.Why, Shadow: s.Shadow, Decides: s.Decides}
		if s.Cause != nil {
			r.Cause = s.Cause.Error()
		}
		all.Rules = append(all.Rules, r)
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(all)
}
