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
	Origin   string `json:"origin"`
	Records  uint64 `json:"records"`
	Segments int    `json:"segments"`
	// HeadSize is the number of records that the newest signed head covers.
	// The AfterHead records after it are only held against each other.
	HeadSize  uint64 `json:"head_size"`
	AfterHead uint64 `json:"after_head"`
	// Oldest is the first record that the directory has: those before it were
	// removed by retention. Of the Segments read, Archived were in an archive; of
	// Hashed records only the hashes are left, which agree with the rest.
	Oldest   uint64 `json:"oldest"`
	Archived int    `json:"archived"`
	Hashed   uint64 `json:"hashed"`
	// OpenIntents counts the intents without an outcome. In a log that nobody
	// writes to, these become indeterminate at the next start.
	OpenIntents int `json:"open_intents"`
	// Voids are the tails of abandoned segments, which hold no record.
	Voids []Void `json:"voids,omitempty"`
	// TornBytes is the length of the unfinished write at the end of the log: one
	// that a crash has cut short, or that is being made right now.
	TornBytes int64 `json:"torn_bytes,omitempty"`
	// DamagedLeaves names files of leaves that are wrong or incomplete, of
	// segments whose records are all right. They are rebuilt from the records.
	DamagedLeaves []string `json:"damaged_leaves,omitempty"`
	// DamagedIndexes names indexes that are not what their segments make. Such a
	// one may hide records from a query. To delete it is safe: it is made again.
	DamagedIndexes []string `json:"damaged_indexes,omitempty"`
	// SelfConsistentOnly: there was no key, or no head yet. Then someone who
	// rewrote the whole log with its leaves and its head is not found out.
	SelfConsistentOnly bool `json:"self_consistent_only"`
}

// String is the report in one line, and one line more for each oddity.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d records in %d segments", r.Records-r.Hashed, r.Segments)
	if r.SelfConsistentOnly {
		b.WriteString(" are self-consistent only: without a signed head and its key a rewritten log looks the same")
	} else {
		fmt.Fprintf(&b, " of %s are what was written: %d are covered by the signed head, %d came after it",
			r.Origin, r.HeadSize-min(r.HeadSize, r.Hashed), r.AfterHead)
	}
	if r.AfterHead > 0 {
		fmt.Fprintf(&b, "\nthe %d after the head are what a log in use, or a crash, has not signed yet: each agrees with its leaf and with the others", r.AfterHead)
	}
	if r.Oldest > 0 {
		fmt.Fprintf(&b, "\nretention has removed the records before %d, as signed events say: %d of them are known by their hashes only", r.Oldest, r.Hashed)
	}
	if r.Archived > 0 {
		fmt.Fprintf(&b, "\n%d of the segments were read from an archive", r.Archived)
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
	for _, name := range r.DamagedIndexes {
		fmt.Fprintf(&b, "\n%s: not what its segment makes, so that queries may miss records: delete it, and it is made again", name)
	}
	return b.String()
}

// Verify is [Evidence.Verify] of a key, and of checkpoints that have no names.
func Verify(ctx context.Context, dir, vkey string, checkpoints ...[]byte) (Report, error) {
	e := Evidence{Key: vkey}
	for i, data := range checkpoints {
		e.Checkpoints = append(e.Checkpoints, Checkpoint{Name: fmt.Sprintf("further checkpoint %d", i+1), Data: data})
	}
	return e.Verify(ctx, dir)
}

// newReplay prepares to replay the log in dir up to its signed head. The head
// is read first: the log may be growing, and the head must not overtake it.
func newReplay(dir string, verifier note.Verifier, archives ...string) (*replay, error) {
	p := &replay{}
	h, err := readHead(dir, verifier)
	switch {
	case err == nil:
		p.heads = []head{h}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if p.contents, err = listContents(dir, archives); err != nil {
		return nil, err
	}
	// A segment may have gone since the head was read: then the event that says
	// so is covered by the head of now.
	if now, err := readHead(dir, verifier); err == nil {
		p.signed = now.size
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
	return &CorruptError{File: headName, AtOrAfter: true, Finding: FindingHead, Reason: "the signed head is missing, so that nothing vouches for the records"}
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
	r.Oldest, r.Hashed = p.oldest, p.hashed
	for _, s := range p.segments {
		if s.archived {
			r.Archived++
		}
	}
	for _, s := range p.damaged {
		// Those of the newest segment follow its records, with a delay.
		if !s.newest() {
			r.DamagedLeaves = append(r.DamagedLeaves, leavesName(s.first))
		}
	}
	for _, s := range p.badIndexes {
		r.DamagedIndexes = append(r.DamagedIndexes, indexName(s.first))
	}
	return r
}
