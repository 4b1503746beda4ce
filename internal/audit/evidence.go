package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
)

// Evidence is what lies elsewhere, out of reach of whoever may change a log,
// to hold the log against. The more of it there is the more is found.
type Evidence struct {
	// Key is the log's [Key.VerifierKey]. Empty, the log is only held against
	// itself.
	Key string
	// Checkpoints are heads that were exported earlier. They must carry the
	// key's signature and agree with the log: they find a log that was cut off or
	// replaced by an older copy together with its own head.
	Checkpoints []Checkpoint
	// Archives are directories with segments that retention has moved away. It
	// is in order that some are missing: those are known by their hashes.
	Archives []string
}

// A Checkpoint is a signed head: see [ReadCheckpoint].
type Checkpoint struct {
	// Name is for errors, such as the file's.
	Name string
	Data []byte
}

// verifier is the key's; nil if there is none.
func (e Evidence) verifier() (note.Verifier, error) {
	if e.Key == "" {
		return nil, nil
	}
	verifier, err := note.NewVerifier(e.Key)
	if err != nil {
		return nil, fmt.Errorf("read verifier key: %w", err)
	}
	return verifier, nil
}

// Verify reads the log in dir from its first record and checks that no record
// below the newest signed head was changed, removed, swapped, duplicated or
// added; a *[CorruptError] names the first one that was. The records after the
// head are checked as far as that goes without a signature. What retention has
// removed must be accounted for. An error that wraps [ErrRemoved] says that a
// checkpoint is about removed records, and cannot be checked.
//
// The log may be in use.
func (e Evidence) Verify(ctx context.Context, dir string) (Report, error) {
	verifier, err := e.verifier()
	if err != nil {
		return Report{}, fmt.Errorf("verify audit log: %w", err)
	}
	for {
		p, err := e.replay(ctx, dir, verifier)
		if err == nil {
			return p.report(verifier != nil), nil
		}
		if p == nil || !p.outrun(err) {
			return Report{}, fmt.Errorf("verify audit log: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return Report{}, fmt.Errorf("verify audit log: %w", err)
		}
	}
}

// replay replays the log once. The replay is nil if it did not come to that.
func (e Evidence) replay(ctx context.Context, dir string, verifier note.Verifier) (*replay, error) {
	p, err := newReplay(dir, verifier, e.Archives...)
	if err != nil {
		return nil, err
	}
	for _, c := range e.Checkpoints {
		h, err := openHead(c.Data, verifier)
		if err != nil {
			return nil, fmt.Errorf("read checkpoint %s: %w", c.Name, err)
		}
		h.file = c.Name
		p.heads = append(p.heads, h)
	}
	p.indexes = true
	if err := p.run(ctx); err != nil {
		return p, err
	}
	if verifier == nil {
		return p, nil
	}
	return p, p.headMissing()
}

// outrun tells whether err may be because retention has removed a segment
// while the log was replayed. Then it is to be replayed again.
func (p *replay) outrun(err error) bool {
	var corrupt *CorruptError
	missing := errors.As(err, &corrupt) && (corrupt.Finding == FindingRemoved || corrupt.Finding == FindingMissing)
	if !missing && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	now, listErr := listSegments(p.dir)
	return listErr == nil && len(now) > 0 && now[0].first != p.oldest
}

// ReadCheckpoint returns the newest signed head of the log in dir as it stands
// there: a C2SP tlog-checkpoint, to be kept elsewhere. With a verifier key it
// must carry its signature. The log may be in use.
func ReadCheckpoint(dir, vkey string) ([]byte, error) {
	verifier, err := Evidence{Key: vkey}.verifier()
	if err != nil {
		return nil, fmt.Errorf("read audit checkpoint: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, headName))
	if err != nil {
		return nil, fmt.Errorf("read audit checkpoint: %w", err)
	}
	if _, err := openHead(data, verifier); err != nil {
		return nil, fmt.Errorf("read audit checkpoint %s: %w", filepath.Join(dir, headName), err)
	}
	return data, nil
}
