package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// A Report says what [Verify] has checked.
type Report struct {
	Origin   string
	Records  uint64
	Segments int
	// HeadSize is the number of records that the newest signed head covers.
	// The AfterHead records after it are only held against each other.
	HeadSize, AfterHead uint64
	// OpenIntents counts the intents without an outcome. In a log that nobody
	// writes to, these become indeterminate at the next start.
	OpenIntents int
	// Voids are the tails of abandoned segments, which hold no record.
	Voids []Void
	// TornBytes is the length of the unfinished write at the end of the log: one
	// that a crash has cut short, or that is being made right now.
	TornBytes int64
	// DamagedLeaves names files of leaves that are wrong or incomplete, of
	// segments whose records are all right. They are rebuilt from the records.
	DamagedLeaves []string
	// SelfConsistentOnly: there was no key, or no head yet. Then someone who
	// rewrote the whole log with its leaves and its head is not found out.
	SelfConsistentOnly bool
}

// String is the report in one line, and one line more for each oddity.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d records in %d segments", r.Records, r.Segments)
	if r.SelfConsistentOnly {
		b.WriteString(" are self-consistent only: without a signed head and its key a rewritten log looks the same")
	} else {
		fmt.Fprintf(&b, " of %s are what was written: %d are covered by the signed head, %d came after it",
			r.Origin, r.HeadSize, r.AfterHead)
	}
	if r.OpenIntents > 0 {
		fmt.Fprintf(&b, "\n%d intents have no outcome yet", r.OpenIntents)
	}
	for _, v := range r.Voids {
		fmt.Fprintf(&b, "\n%s: abandoned, %d bytes from offset %d on are void", v.File, v.Bytes, v.Offset)
	}
	if r.TornBytes > 0 {
		fmt.Fprintf(&b, "\n%d bytes at the end are an unfinished write", r.TornBytes)
	}
	for _, name := range r.DamagedLeaves {
		fmt.Fprintf(&b, "\n%s: wrong or incomplete, to be rebuilt from the records", name)
	}
	return b.String()
}

// Verify reads the log in dir from its first record and checks that no record
// below the newest signed head was changed, removed, swapped, duplicated or
// added; a *[CorruptError] names the first one that was. The records after the
// head are checked as far as that goes without a signature.
//
// vkey is the log's [Key.VerifierKey], kept elsewhere. Without it the log is
// only held against itself. Further checkpoints, also kept elsewhere, must
// carry the key's signature and agree with the log: they find a log that was
// cut off or replaced by an older copy together with its own head.
//
// The log may be in use.
func Verify(ctx context.Context, dir, vkey string, checkpoints ...[]byte) (Report, error) {
	var verifier note.Verifier
	if vkey != "" {
		var err error
		if verifier, err = note.NewVerifier(vkey); err != nil {
			return Report{}, fmt.Errorf("verify audit log: read verifier key: %w", err)
		}
	}
	p, err := newReplay(dir, verifier)
	if err != nil {
		return Report{}, fmt.Errorf("verify audit log: %w", err)
	}
	for i, checkpoint := range checkpoints {
		h, err := openHead(checkpoint, verifier)
		if err != nil {
			return Report{}, fmt.Errorf("verify audit log: read further checkpoint %d: %w", i+1, err)
		}
		p.heads = append(p.heads, h)
	}
	if err := p.run(ctx); err != nil {
		return Report{}, fmt.Errorf("verify audit log: %w", err)
	}
	if err := p.headMissing(); err != nil && vkey != "" {
		return Report{}, fmt.Errorf("verify audit log: %w", err)
	}
	return p.report(vkey != ""), nil
}

// newReplay prepares to replay the log in dir up to its signed head. The head
// is read first: the log may be growing, and the head must not overtake it.
func newReplay(dir string, verifier note.Verifier) (*replay, error) {
	p := &replay{}
	h, err := readHead(dir, verifier)
	switch {
	case err == nil:
		p.heads = []head{h}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if p.segments, err = listSegments(dir); err != nil {
		return nil, err
	}
	if len(p.segments) == 0 {
		return p, fmt.Errorf("read %s: %w", dir, errNoLog)
	}
	return p, nil
}

var errNoLog = errors.New("there is no audit log")

// headMissing is the error of a log that lost its head. A head is signed
// before the first call, so only a start that crashed has none.
func (p *replay) headMissing() error {
	if len(p.heads) > 0 || !p.calls {
		return nil
	}
	return &CorruptError{File: headName, AtOrAfter: true, Reason: "the signed head is missing, so that nothing vouches for the records"}
}

// report says what a replay has found. signed tells whether the heads were
// verified.
func (p *replay) report(signed bool) Report {
	r := Report{
		Origin:             p.newest.header.origin,
		Records:            p.tree.size,
		Segments:           len(p.segments),
		HeadSize:           p.headSize(),
		OpenIntents:        len(p.open),
		Voids:              p.voids,
		TornBytes:          p.newest.torn,
		SelfConsistentOnly: !signed || len(p.heads) == 0,
	}
	r.AfterHead = r.Records - r.HeadSize
	for _, s := range p.damaged {
		// Those of the newest segment follow its records, with a delay.
		if !s.newest() {
			r.DamagedLeaves = append(r.DamagedLeaves, leavesName(s.first))
		}
	}
	return r
}
