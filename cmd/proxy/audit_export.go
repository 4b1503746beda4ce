package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/siem"
)

type auditExportCommand struct {
	Dir    string   `arg:"" help:"The audit directory. It may be in use."`
	Format string   `enum:"json,ocsf" default:"json" help:"json writes records as they stand in the log, ocsf events of the Open Cybersecurity Schema Framework. (${default})"`
	From   uint64   `placeholder:"SEQ" help:"The number of the first record. (the oldest)"`
	To     *uint64  `placeholder:"SEQ" help:"The number of the last record. (the newest that is signed)"`
	Kinds  []string `enum:"intent,outcome,denied,event" placeholder:"KIND,..." help:"Only these kinds: intent, outcome, denied, event."`
	Follow bool     `short:"f" help:"Go on with further records as they come."`
	Key    string   `placeholder:"VKEY" help:"The verifier key that the gateway logs at start: take no head without its signature."`
}

// Run writes the records that the signed head covers as lines, and says on
// stderr with which number the next run is to begin. A reader that leaves ends
// the process by SIGPIPE, as any program's does.
func (e auditExportCommand) Run(ctx context.Context, t *terminal) error {
	encoder, err := e.encoder()
	if err != nil {
		return err
	}
	want := audit.Range{From: e.From, Key: e.Key, Wait: e.Follow}
	if e.To != nil {
		want.End = *e.To + 1 // 0, no end, for the largest number
	}
	if e.From == 0 { // not asked for: what retention has removed is not missed
		want.Removed = func(_, oldest uint64) {
			fmt.Fprintf(t.err, "the records before %d were removed\n", oldest)
		}
	}
	next, out := e.From, bufio.NewWriterSize(t.out, 64<<10)
	err = audit.Follow(ctx, e.Dir, want, func(records []audit.Record) error {
		for i := range records {
			if len(e.Kinds) > 0 && !slices.Contains(e.Kinds, string(records[i].Kind)) {
				continue
			}
			line, err := encoder.Encode(&records[i])
			if err != nil {
				return err
			}
			_, _ = out.Write(append(line, '\n')) // Flush says what went wrong
		}
		if err := out.Flush(); err != nil {
			return err
		}
		next = records[len(records)-1].Seq + 1
		return nil
	})
	fmt.Fprintf(t.err, "next: --from %d\n", next)
	if e.Follow && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// encoder is the one of the format.
func (e auditExportCommand) encoder() (siem.Encoder, error) {
	if e.Format == "json" {
		return siem.JSON{}, nil
	}
	routes, err := route.Load(catalog.Files(), catalog.Types{}, "c1.")
	if err != nil {
		return nil, err
	}
	origin, err := audit.Origin(e.Dir)
	if err != nil {
		return nil, err
	}
	return siem.NewOCSF(routes, origin, version()), nil
}
