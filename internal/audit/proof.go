package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// The first lines of proofs.
const (
	proofHead       = "c2sp.org/tlog-proof@v1"
	consistencyHead = "c1proxy-consistency-proof@v1"
)

// A Proof shows that a record is in a log, to anyone who has the log's
// verifier key and nothing else: RFC 6962, Section 2.1.1. As a text it is a
// https://c2sp.org/tlog-proof whose extra data is the record's line, of which
// the leaf's hash is made:
//
//	c2sp.org/tlog-proof@v1
//	extra <base64 of the record's line, without the newline>
//	index <its seq>
//	<base64 of a hash>, for each, from the leaf's sibling up
//
//	<the checkpoint>
type Proof struct {
	Index      uint64
	Record     []byte
	Hashes     []tlog.Hash
	Checkpoint []byte
}

// Text is the proof as a file, which should be named *.tlog-proof.
func (p *Proof) Text() []byte {
	return proofText(p.Hashes, p.Checkpoint, proofHead, "extra "+base64.StdEncoding.EncodeToString(p.Record), "index "+strconv.FormatUint(p.Index, 10))
}

// Check returns nil if the record is in the log whose verifier key is vkey, at
// its index. A record other than nil stands for the proof's own.
func (p *Proof) Check(vkey string, record []byte) error {
	if record == nil {
		record = p.Record
	}
	h, err := checkHead(p.Checkpoint, vkey)
	if err != nil {
		return fmt.Errorf("check proof: read its checkpoint: %w", err)
	}
	if p.Index >= h.size {
		return fmt.Errorf("check proof: its checkpoint covers %d records, not record %d", h.size, p.Index)
	}
	if err := tlog.CheckRecord(p.Hashes, int64(h.size), h.root, int64(p.Index), tlog.RecordHash(record)); err != nil {
		return fmt.Errorf("check proof: this is not record %d of the log that the checkpoint is of: %w", p.Index, err)
	}
	var r Record
	if err := parse(record, &r, newScratch()); err != nil || r.Seq != p.Index {
		return fmt.Errorf("check proof: the log has this as record %d, but it says of itself that it is %d", p.Index, r.Seq)
	}
	return nil
}

// A ConsistencyProof shows that a log has only grown between two heads: all
// that the old one covers is in the new one, unchanged and in its place (RFC
// 6962, Section 2.1.2). As a text:
//
//	c1proxy-consistency-proof@v1
//	old <base64 of the old checkpoint>
//	<base64 of a hash>, for each, in the order of the RFC
//
//	<the new checkpoint>
type ConsistencyProof struct {
	Old, New []byte
	Hashes   []tlog.Hash
}

// Text is the proof as a file.
func (p *ConsistencyProof) Text() []byte {
	return proofText(p.Hashes, p.New, consistencyHead, "old "+base64.StdEncoding.EncodeToString(p.Old))
}

// Check returns nil if both heads are of the log whose verifier key is vkey,
// and the new one continues the old one.
func (p *ConsistencyProof) Check(vkey string) error {
	from, err := checkHead(p.Old, vkey)
	if err != nil {
		return fmt.Errorf("check proof: read the old checkpoint: %w", err)
	}
	to, err := checkHead(p.New, vkey)
	if err != nil {
		return fmt.Errorf("check proof: read the new checkpoint: %w", err)
	}
	if from.size == 0 || from.size > to.size {
		return fmt.Errorf("check proof: the old checkpoint covers %d records, the new one %d", from.size, to.size)
	}
	if err := tlog.CheckTree(p.Hashes, int64(to.size), to.root, int64(from.size), from.root); err != nil {
		return fmt.Errorf("check proof: the log of the new checkpoint does not continue that of the old one: %w", err)
	}
	return nil
}

// checkHead reads a checkpoint that must be signed by vkey.
func checkHead(checkpoint []byte, vkey string) (head, error) {
	if vkey == "" {
		return head{}, errors.New("a verifier key is needed")
	}
	verifier, err := Evidence{Key: vkey}.verifier()
	if err != nil {
		return head{}, err
	}
	return openHead(checkpoint, verifier)
}

// proofText puts a proof together: its lines, its hashes and, after an empty
// line, a checkpoint as it is.
func proofText(hashes []tlog.Hash, checkpoint []byte, lines ...string) []byte {
	for _, hash := range hashes {
		lines = append(lines, hash.String())
	}
	return append([]byte(strings.Join(lines, "\n")+"\n\n"), checkpoint...)
}

// ParseProof reads the text of a Proof, or else of a ConsistencyProof. Of the
// two, one is not nil. A proof without its record is one too.
func ParseProof(text []byte) (*Proof, *ConsistencyProof, error) {
	above, checkpoint, found := bytes.Cut(text, []byte("\n\n"))
	lines := strings.Split(string(above), "\n")
	bad := func(err error) (*Proof, *ConsistencyProof, error) {
		return nil, nil, fmt.Errorf("read proof: %w", err)
	}
	if !found || lines[0] != proofHead && lines[0] != consistencyHead {
		return bad(fmt.Errorf("it does not begin with %s or %s, or has no checkpoint", proofHead, consistencyHead))
	}
	consistency := lines[0] == consistencyHead
	lines = lines[1:]
	if consistency {
		old, err := takeData(&lines, "old ")
		if err != nil {
			return bad(err)
		}
		hashes, err := parseHashes(lines)
		if err != nil {
			return bad(err)
		}
		return nil, &ConsistencyProof{Old: old, New: checkpoint, Hashes: hashes}, nil
	}
	p := &Proof{Checkpoint: checkpoint}
	var err error
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		if p.Record, err = takeData(&lines, "extra "); err != nil {
			return bad(err)
		}
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return bad(errors.New("it has no index"))
	}
	digits := lines[0][len("index "):]
	if p.Index, err = strconv.ParseUint(digits, 10, 63); err != nil || strconv.FormatUint(p.Index, 10) != digits {
		return bad(fmt.Errorf("its index is %q", digits))
	}
	if p.Hashes, err = parseHashes(lines[1:]); err != nil {
		return bad(err)
	}
	return p, nil, nil
}

// takeData takes the first line, which must begin with prefix, and decodes
// what follows.
func takeData(lines *[]string, prefix string) ([]byte, error) {
	if len(*lines) == 0 || !strings.HasPrefix((*lines)[0], prefix) {
		return nil, fmt.Errorf("it has no line %q", strings.TrimSpace(prefix))
	}
	data, err := base64.StdEncoding.Strict().DecodeString((*lines)[0][len(prefix):])
	*lines = (*lines)[1:]
	if err != nil {
		return nil, fmt.Errorf("its line %q: %w", strings.TrimSpace(prefix), err)
	}
	return data, nil
}

func parseHashes(lines []string) (hashes []tlog.Hash, err error) {
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err == nil && hash.String() != line {
			err = errors.New("it is not in canonical form") // base64 leaves bits over
		}
		if err != nil {
			return nil, fmt.Errorf("its hash %q: %w", line, err)
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}
