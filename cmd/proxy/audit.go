package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/c1proxy/c1proxy/internal/audit"
)

type auditCommand struct {
	Verify     auditVerifyCommand     `cmd:"" help:"Check that no record below the signed head was changed, removed, swapped or added. Exit 1 names the first bad one."`
	Query      auditQueryCommand      `cmd:"" help:"Print records: a table on a terminal, JSON lines in a pipe."`
	Checkpoint auditCheckpointCommand `cmd:"" help:"Print the newest signed head, to be kept elsewhere and given to verify."`
	Prove      auditProveCommand      `cmd:"" help:"Prove to a third party that a record is in the log, or that the log has only grown."`
	CheckProof auditCheckProofCommand `cmd:"" name:"check-proof" help:"Check a proof of prove. Exit 1 says why it proves nothing."`

	Hash           auditHashCommand   `cmd:"" help:"Print how a value stands in the records where audit.fields has it hashed, to look for it."`
	RotateHashKeys auditRotateCommand `cmd:"" help:"Put a new key before those in audit.hash_keys_file. The gateway hashes with it from its next start on."`
}

type auditQueryCommand struct {
	Dir       string        `arg:"" help:"The audit directory. It may be in use."`
	Since     time.Duration `placeholder:"1h" help:"Only records younger than this."`
	Until     time.Duration `placeholder:"5m" help:"Only records older than this."`
	Team      string        `help:"Only this team's."`
	Caller    string        `help:"Only this caller's."`
	Method    string        `help:"Only this method: package.Service/Method, or an end of it."`
	Kind      string        `enum:",intent,outcome,denied,event" default:"" help:"Only this kind: intent, outcome, denied or event."`
	Outcome   string        `enum:",ok,failed,indeterminate,not_sent" default:"" help:"Only this outcome: ok, failed, indeterminate or not_sent."`
	Code      string        `help:"Only this code, such as ok or permission_denied."`
	RequestID string        `name:"request-id" help:"Only this request's."`
	JSON      bool          `name:"json" help:"JSON lines, on a terminal too."`
}

// Run prints the records that match, in their order.
func (q auditQueryCommand) Run(ctx context.Context, t *terminal) error {
	filter := audit.Filter{Team: q.Team, Caller: q.Caller, Method: q.Method, Kind: audit.Kind(q.Kind),
		Outcome: audit.Outcome(q.Outcome), Code: q.Code, RequestID: q.RequestID}
	now := time.Now()
	if q.Since > 0 {
		filter.Since = now.Add(-q.Since)
	}
	if q.Until > 0 {
		filter.Until = now.Add(-q.Until)
	}
	if out, ok := t.out.(*os.File); q.JSON || !ok || !term.IsTerminal(int(out.Fd())) {
		encoder := json.NewEncoder(t.out)
		encoder.SetEscapeHTML(false)
		return audit.Query(ctx, q.Dir, filter, func(r audit.Record) error { return encoder.Encode(&r) })
	}
	table := tabwriter.NewWriter(t.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "TIME\tKIND\tCALLER\tMETHOD\tCODE\tOUTCOME\tTOOK\tPATH")
	err := audit.Query(ctx, q.Dir, filter, func(r audit.Record) error {
		_, err := fmt.Fprintln(table, row(r))
		return err
	})
	if err != nil {
		return err
	}
	return table.Flush()
}

// row writes one record as a line of the table. What a caller chose is
// quoted, so that it cannot steer the terminal.
func row(r audit.Record) string {
	caller, method := r.Caller, r.Procedure
	if r.Team != "" {
		caller = r.Team + "/" + r.Caller
	}
	if r.Kind == audit.KindEvent {
		method = r.Event
	}
	var path []string
	for _, f := range r.Path {
		path = append(path, fmt.Sprintf("%s=%q", f.Name, f.Value))
	}
	took := ""
	if r.Duration > 0 {
		took = r.Duration.Round(10 * time.Microsecond).String()
	}
	return strings.Join([]string{r.Time.Local().Format("2006-01-02 15:04:05.000"), string(r.Kind), caller,
		method[strings.LastIndexByte(method, '.')+1:], r.Code, string(r.Outcome), took, strings.Join(path, " ")}, "\t")
}
