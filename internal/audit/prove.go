package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// A Prover makes proofs out of a log and one signed head of it. The log may be
// in use. It reads the leaves, 32 bytes for each record below the head, and
// the records of one segment for each proof; nothing is kept between two.
type Prover struct {
	contents
	checkpoint []byte
	head       head
	// distrust makes it hash the records instead of reading their leaves.
	distrust bool
	// kept are the hashes of removed records; nil until they are needed.
	kept map[subtree]tlog.Hash
}

// A subtree is named by its first leaf and its level.
type subtree struct {
	first uint64
	level int
}

// NewProver looks for a log in dir, and for its removed segments in the
// archives. A nil checkpoint stands for the newest one. Its signature is for
// those who check the proofs.
func NewProver(dir string, archives []string, checkpoint []byte) (*Prover, error) {
	if checkpoint == nil {
		newest, err := ReadCheckpoint(dir, "")
		if err != nil {
			return nil, err
		}
		checkpoint = newest
	}
	h, err := openHead(checkpoint, nil)
	if err != nil {
		return nil, fmt.Errorf("read audit checkpoint: %w", err)
	}
	p := &Prover{checkpoint: checkpoint, head: h}
	if p.contents, err = listContents(dir, archives); err != nil {
		return nil, err
	}
	if len(p.segments) == 0 {
		return nil, fmt.Errorf("read %s: %w", dir, errNoLog)
	}
	return p, nil
}

// Record proves that record seq is in the log. The error wraps [ErrRemoved] if
// the record is neither in the log nor in an archive.
func (p *Prover) Record(ctx context.Context, seq uint64) (*Proof, error) {
	if seq >= p.head.size {
		return nil, fmt.Errorf("prove record %d: the head covers %d records; a newer head is signed within a second", seq, p.head.size)
	}
	line, err := p.line(ctx, seq)
	if err != nil {
		return nil, fmt.Errorf("prove record %d: %w", seq, err)
	}
	proof := &Proof{Index: seq, Record: line, Checkpoint: p.checkpoint}
	err = p.prove(ctx, func(r tlog.HashReader) (err error) {
		proof.Hashes, err = tlog.ProveRecord(int64(p.head.size), int64(seq), r)
		if err == nil {
			err = tlog.CheckRecord(proof.Hashes, int64(p.head.size), p.head.root, int64(seq), tlog.RecordHash(line))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("prove record %d: %w", seq, err)
	}
	return proof, nil
}

// Since proves that the log has only grown since an older checkpoint.
func (p *Prover) Since(ctx context.Context, old []byte) (*ConsistencyProof, error) {
	from, err := openHead(old, nil)
	if err != nil {
		return nil, fmt.Errorf("prove consistency: read the old checkpoint: %w", err)
	}
	if from.size == 0 || from.size > p.head.size {
		return nil, fmt.Errorf("prove consistency: the old checkpoint covers %d records, the new one %d: a head is ahead of its log, so verify it", from.size, p.head.size)
	}
	proof := &ConsistencyProof{Old: old, New: p.checkpoint}
	err = p.prove(ctx, func(r tlog.HashReader) (err error) {
		proof.Hashes, err = tlog.ProveTree(int64(p.head.size), int64(from.size), r)
		if err == nil {
			err = tlog.CheckTree(proof.Hashes, int64(p.head.size), p.head.root, int64(from.size), from.root)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("prove consistency: %w", err)
	}
	return proof, nil
}

// ErrDisagrees is the error of a proof that cannot be made, because records are not
// those that were signed.
var ErrDisagrees = errors.New("the log does not agree with the head")

// prove calls attempt, which makes a proof of hashes and checks it: first with the
// leaves as they are, then with the records themselves. What fails both times
// is not in the log that was signed.
func (p *Prover) prove(ctx context.Context, attempt func(tlog.HashReader) error) error {
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := []tlog.Hash{}
		for _, index := range indexes {
			level, n := tlog.SplitStoredHashIndex(index)
			hash, err := p.subtree(ctx, uint64(n)<<level, level)
			if err != nil {
				return nil, err
			}
			hashes = append(hashes, hash)
		}
		return hashes, nil
	})
	p.distrust = false
	err := attempt(read)
	if err == nil || errors.Is(err, ErrRemoved) || ctx.Err() != nil {
		return err
	}
	p.distrust = true
	err = attempt(read)
	if err == nil || errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
		return err // a segment was removed just now
	}
	return fmt.Errorf("%w, so verify it: %w", ErrDisagrees, err)
}

// subtree is the root over the 1<<level records from first on, which is a
// multiple of their number.
func (p *Prover) subtree(ctx context.Context, first uint64, level int) (tlog.Hash, error) {
	end := first + 1<<level
	if s, ok := p.holder(first); ok && end <= s.end {
		return p.leaves(ctx, s, first, end)
	}
	if hash, err := p.remains(first, level); err != nil || hash != nil {
		if err != nil {
			return tlog.Hash{}, err
		}
		return *hash, nil
	}
	if level == 0 {
		return tlog.Hash{}, fmt.Errorf("read record %d, %w", first, ErrRemoved)
	}
	left, err := p.subtree(ctx, first, level-1)
	if err != nil {
		return left, err
	}
	right, err := p.subtree(ctx, first+1<<(level-1), level-1)
	return tlog.NodeHash(left, right), err
}

// holder returns the segment that has record seq; false if none has.
func (p *Prover) holder(seq uint64) (segment, bool) {
	i, found := slices.BinarySearchFunc(p.segments, seq, func(s segment, seq uint64) int {
		return int(int64(s.first) - int64(seq))
	})
	if !found {
		i--
	}
	if i < 0 || seq >= p.segments[i].end {
		return segment{}, false
	}
	return p.segments[i], true
}

// remains returns a hash that was kept of removed records; nil if this one was
// not.
func (p *Prover) remains(first uint64, level int) (*tlog.Hash, error) {
	if first >= p.oldest {
		return nil, nil
	}
	if p.kept == nil {
		kept, err := listRemnants(p.dir)
		if err != nil {
			return nil, err
		}
		p.kept = map[subtree]tlog.Hash{}
		for _, r := range kept {
			at := r.first
			for i, level := range levels(r.first, r.end) {
				p.kept[subtree{at, level}] = r.hashes[i]
				at += 1 << level
			}
		}
	}
	if hash, ok := p.kept[subtree{first, level}]; ok {
		return &hash, nil
	}
	return nil, nil
}

// leaves is the root over the records of s from first to before end.
func (p *Prover) leaves(ctx context.Context, s segment, first, end uint64) (tlog.Hash, error) {
	t, err := tree{}, error(nil)
	if !p.distrust {
		t, err = readTree(ctx, s, first, end)
	}
	if err == nil && t.size < end-first {
		t, err = hashTree(ctx, s, first, end)
	}
	return t.root(), err
}

// readTree is the tree over the leaves that were written for the records of s
// from first on: fewer if the file has not all of them up to end.
func readTree(ctx context.Context, s segment, first, end uint64) (t tree, err error) {
	leaves, err := openLeaves(s)
	if err != nil {
		return t, err
	}
	defer leaves.close()
	if leaves.written < end-s.first {
		return t, nil
	}
	if err := leaves.skip(first - s.first); err != nil {
		return t, err
	}
	for range end - first {
		leaf, err := leaves.read()
		if err == nil {
			err = cancelled(ctx, t.size)
		}
		if err != nil {
			return t, err
		}
		t.push(leaf)
	}
	return t, nil
}

// hashTree is the tree over the records of s from first to before end.
func hashTree(ctx context.Context, s segment, first, end uint64) (t tree, err error) {
	err = eachLine(s, end, func(seq uint64, line []byte) error {
		if seq >= first {
			t.push(tlog.RecordHash(line))
		}
		return cancelled(ctx, seq)
	})
	return t, err
}

// eachLine calls yield for the lines of s up to before record end, which must
// be there.
func eachLine(s segment, end uint64, yield func(seq uint64, line []byte) error) error {
	c, err := openCursor(s)
	if err != nil {
		return err
	}
	defer c.close()
	for c.seq < end {
		var r Record
		line, err := c.read(&r)
		if err != nil {
			return c.missing(err)
		}
		if err := yield(r.Seq, line); err != nil {
			return err
		}
	}
	return nil
}

// line reads the line of a record.
func (p *Prover) line(ctx context.Context, seq uint64) (found []byte, err error) {
	s, ok := p.holder(seq)
	if !ok {
		return nil, p.whereabouts(ctx, seq)
	}
	err = eachLine(s, seq+1, func(n uint64, line []byte) error {
		if n == seq {
			found = slices.Clone(line)
		}
		return cancelled(ctx, n)
	})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w (if it was removed just now, try again)", err)
	}
	return found, err
}

// whereabouts is the error of a record that was removed. It says where it went,
// if the log still does.
func (p *Prover) whereabouts(ctx context.Context, seq uint64) error {
	err := fmt.Errorf("read record, %w", ErrRemoved)
	_ = Query(ctx, p.dir, Filter{Event: EventRemoved}, func(r Record) error {
		if end := removedUpTo(&r); end > seq && r.Detail["first"] != "" {
			where := "without an archive"
			if as := r.Detail["archived_as"]; as != "" {
				where = "to " + as
			}
			err = fmt.Errorf("read record, %w with %s (event %d): %s; --archive says where it is now", ErrRemoved, r.Detail["file"], r.Seq, where)
			return io.EOF // that is all
		}
		return nil
	})
	return err
}
