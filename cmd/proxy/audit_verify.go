package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/c1proxy/c1proxy/internal/audit"
)

type auditVerifyCommand struct {
	Dir        string   `arg:"" help:"The audit directory. It may be in use."`
	Key        string   `placeholder:"VKEY" help:"The verifier key that the gateway logs at start. Without it the log is only held against itself."`
	Checkpoint []string `sep:"none" placeholder:"FILE" help:"A head that was exported earlier (audit checkpoint), repeatable: finds a log that was cut off or replaced by an older copy."`
	Archive    []string `sep:"none" placeholder:"DIR" help:"A directory with segments that audit.retain has moved away, repeatable: they are verified too."`
	JSON       bool     `name:"json" help:"One JSON object, also of what is wrong."`
}

// Run verifies and prints what was checked, or what is wrong, what that means
// and what to do.
func (v auditVerifyCommand) Run(ctx context.Context, t *terminal) error {
	evidence := audit.Evidence{Key: v.Key, Archives: v.Archive}
	for _, name := range v.Checkpoint {
		data, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read checkpoint: %w", err)
		}
		evidence.Checkpoints = append(evidence.Checkpoints, audit.Checkpoint{Name: name, Data: data})
	}
	report, err := evidence.Verify(ctx, v.Dir)
	if v.JSON {
		return v.json(t, report, err)
	}
	var corrupt *audit.CorruptError
	switch {
	case errors.As(err, &corrupt):
		meaning, todo := corrupt.Explain()
		return fmt.Errorf("%s: %w\n\nWhat it means: %s\n\nWhat to do: %s", v.Dir, err, meaning, todo)
	case err != nil:
		return fmt.Errorf("%s: %w", v.Dir, err)
	}
	_, err = fmt.Fprintln(t.out, report)
	if err == nil && len(v.Checkpoint) > 0 {
		_, err = fmt.Fprintf(t.out, "%d exported heads agree with the log: nothing that they cover was cut off or replaced\n", len(v.Checkpoint))
	}
	return err
}

// finding is what is wrong with a log, as JSON.
type finding struct {
	Finding   string `json:"finding"`
	File      string `json:"file"`
	Line      int    `json:"line,omitempty"`
	Offset    int64  `json:"offset"`
	Seq       uint64 `json:"seq"`
	AtOrAfter bool   `json:"at_or_after,omitempty"`
	Reason    string `json:"reason"`
	Meaning   string `json:"meaning"`
	Todo      string `json:"what_to_do"`
}

// json prints the outcome of a verification as one object. Its error, which
// sets the exit code, is the verification's.
func (v auditVerifyCommand) json(t *terminal, report audit.Report, failure error) error {
	var object struct {
		Dir      string        `json:"dir"`
		Verified bool          `json:"verified"`
		Report   *audit.Report `json:"report,omitempty"`
		Error    string        `json:"error,omitempty"`
		Finding  *finding      `json:"finding,omitempty"`
	}
	object.Dir, object.Verified = v.Dir, failure == nil
	if failure == nil {
		object.Report = &report
	} else {
		object.Error = failure.Error()
	}
	var corrupt *audit.CorruptError
	if errors.As(failure, &corrupt) {
		meaning, todo := corrupt.Explain()
		object.Finding = &finding{Finding: corrupt.Finding.String(), File: corrupt.File, Line: corrupt.Line, Offset: corrupt.Offset,
			Seq: corrupt.Seq, AtOrAfter: corrupt.AtOrAfter, Reason: corrupt.Reason, Meaning: meaning, Todo: todo}
	}
	out := json.NewEncoder(t.out)
	out.SetEscapeHTML(false)
	if err := out.Encode(object); err != nil {
		return err
	}
	return failure
}

type auditCheckpointCommand struct {
	Dir string `arg:"" help:"The audit directory. It may be in use."`
	Key string `placeholder:"VKEY" help:"The verifier key, whose signature the head must then carry."`
}

// Run prints the head as it is: its signature is over these bytes.
func (c auditCheckpointCommand) Run(t *terminal) error {
	checkpoint, err := audit.ReadCheckpoint(c.Dir, c.Key)
	if err != nil {
		return err
	}
	_, err = t.out.Write(checkpoint)
	return err
}
