package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/c1proxy/c1proxy/internal/audit"
)

type auditProveCommand struct {
	Dir        string   `arg:"" help:"The audit directory. It may be in use."`
	Seq        *uint64  `xor:"what" required:"" placeholder:"N" help:"Prove that the record with this number is in the log."`
	ID         string   `name:"id" xor:"what" required:"" help:"The record with this id."`
	RequestID  string   `name:"request-id" xor:"what" required:"" help:"Each of this request's records."`
	From       string   `xor:"what" required:"" placeholder:"FILE" help:"Prove that the log has only grown since this head, exported earlier."`
	Checkpoint string   `default:"newest" placeholder:"FILE" help:"The signed head to prove it against (default: the newest)."`
	Archive    []string `sep:"none" placeholder:"DIR" help:"A directory with segments that audit.retain has moved away, repeatable."`
	Out        string   `short:"o" placeholder:"PATH" help:"The file to write, or an existing directory: <number>.tlog-proof in it. Default: standard output."`
}

// Run writes the proofs, each of which holds all that is needed to check it but
// the verifier key.
func (p auditProveCommand) Run(ctx context.Context, t *terminal) error {
	var checkpoint []byte
	if p.Checkpoint != "newest" {
		var err error
		if checkpoint, err = os.ReadFile(p.Checkpoint); err != nil {
			return fmt.Errorf("read checkpoint: %w", err)
		}
	}
	prover, err := audit.NewProver(p.Dir, p.Archive, checkpoint)
	if err != nil {
		return err
	}
	if p.From != "" {
		old, err := os.ReadFile(p.From)
		if err != nil {
			return fmt.Errorf("read checkpoint: %w", err)
		}
		proof, err := prover.Since(ctx, old)
		if err != nil {
			return err
		}
		return p.write(t, "consistency.proof", proof.Text())
	}
	numbers, err := p.numbers(ctx)
	if err != nil {
		return err
	}
	if info, err := os.Stat(p.Out); len(numbers) > 1 && (err != nil || !info.IsDir()) {
		return fmt.Errorf("prove request %s: its records are %v: give -o a directory, or choose one with --seq", p.RequestID, numbers)
	}
	for _, seq := range numbers {
		proof, err := prover.Record(ctx, seq)
		if err == nil {
			err = p.write(t, fmt.Sprintf("%d.tlog-proof", seq), proof.Text())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// numbers are those of the records to prove, in their order. The archives are
// searched too.
func (p auditProveCommand) numbers(ctx context.Context) (numbers []uint64, err error) {
	if p.Seq != nil {
		return []uint64{*p.Seq}, nil
	}
	for _, dir := range append(slices.Clone(p.Archive), p.Dir) {
		err := audit.Query(ctx, dir, audit.Filter{RequestID: p.RequestID}, func(r audit.Record) error {
			if p.ID == "" || r.ID == p.ID {
				numbers = append(numbers, r.Seq)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("prove record: %s has none with the id %q; if it was removed, --archive says where it is now", p.Dir, p.ID+p.RequestID)
	}
	slices.Sort(numbers)
	return slices.Compact(numbers), nil
}

// write writes a proof to standard output, to a file, or to a file of that name
// in a directory. It replaces no file.
func (p auditProveCommand) write(t *terminal, name string, text []byte) error {
	if p.Out == "" {
		_, err := t.out.Write(text)
		return err
	}
	path := p.Out
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, name)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write proof: %s is there already", path)
	}
	if err != nil {
		return fmt.Errorf("write proof: %w", err)
	}
	if _, err = f.Write(text); err == nil {
		err = f.Close()
	}
	if err != nil {
		return fmt.Errorf("write proof: %w", err)
	}
	_, err = fmt.Fprintln(t.out, path)
	return err
}

type auditCheckProofCommand struct {
	File   string `arg:"" help:"The proof."`
	Key    string `required:"" placeholder:"VKEY" help:"The verifier key of the log. Have it from whom you trust, not with the proof."`
	Record string `placeholder:"FILE" help:"A record's line, to be the one that is proved. Without it, the proof's own is printed."`
}

// Run checks a proof, and prints the record that it proves.
func (c auditCheckProofCommand) Run(t *terminal) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("read proof: %w", err)
	}
	inclusion, consistency, err := audit.ParseProof(text)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	if consistency != nil {
		if err := consistency.Check(c.Key); err != nil {
			return fmt.Errorf("%s: %w", c.File, err)
		}
		_, err = fmt.Fprintln(t.out, "The log has only grown: all that the old checkpoint covers is in the new one, unchanged.")
		return err
	}
	record := inclusion.Record
	if c.Record != "" {
		data, err := os.ReadFile(c.Record)
		if err != nil {
			return fmt.Errorf("read record: %w", err)
		}
		record = bytes.TrimSuffix(data, []byte("\n"))
	}
	if err := inclusion.Check(c.Key, record); err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	_, err = fmt.Fprintf(t.out, "%s\n", record)
	return err
}
