package audit_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// A thirdParty has the verifier key and the Go project's own library of
// transparency logs, and nothing of ours.
type thirdParty struct{ verifier note.Verifier }

// head reads a checkpoint.
func (s thirdParty) head(checkpoint []byte) (size int64, root tlog.Hash, err error) {
	n, err := note.Open(checkpoint, note.VerifierList(s.verifier))
	if err != nil {
		return 0, root, err
	}
	lines := strings.Split(n.Text, "\n")
	if lines[0] != s.verifier.Name() {
		return 0, root, fmt.Errorf("origin %q", lines[0])
	}
	if size, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return 0, root, err
	}
	root, err = tlog.ParseHash(lines[2])
	return size, root, err
}

// proof checks a proof of either kind, and returns the record that it proves.
func (s thirdParty) proof(text []byte) (record []byte, err error) {
	above, checkpoint, _ := bytes.Cut(text, []byte("\n\n"))
	size, root, err := s.head(checkpoint)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(above), "\n")
	data, index := []byte(nil), int64(0)
	var hashes []tlog.Hash
	for _, line := range lines[1:] {
		word, value, _ := strings.Cut(line, " ")
		switch word {
		case "extra", "old":
			if data, err = base64.StdEncoding.DecodeString(value); err != nil {
				return nil, err
			}
		case "index":
			if index, err = strconv.ParseInt(value, 10, 64); err != nil {
				return nil, err
			}
		default:
			hash, err := tlog.ParseHash(line)
			if err != nil {
				return nil, err
			}
			hashes = append(hashes, hash)
		}
	}
	if lines[0] == "c2sp.org/tlog-proof@v1" {
		return data, tlog.CheckRecord(hashes, size, root, index, tlog.RecordHash(data))
	}
	oldSize, oldRoot, err := s.head(data)
	if err != nil {
		return nil, err
	}
	return nil, tlog.CheckTree(hashes, size, root, oldSize, oldRoot)
}

// newStranger is handed the key of a log.
func newStranger(t *testing.T, vkey string) thirdParty {
	t.Helper()
	verifier, err := note.NewVerifier(vkey)
	must(t, err)
	return thirdParty{verifier}
}

// TestProofs: every record is proved to a thirdParty against every head that
// covers it, with and without leaves, and every head against every older one.
func TestProofs(t *testing.T) {
	k := newKit(t)
	var heads [][]byte
	for i := range 5 {
		for j := range i + 1 {
			k.call(fmt.Sprint(i, "-", j))
		}
		must(t, k.log.Seal(t.Context()))
		head, err := audit.ReadCheckpoint(k.cfg.Dir, k.vkey())
		must(t, err)
		heads = append(heads, head)
	}
	third := newStranger(t, k.vkey())
	whole := takeImage(t, k.cfg.Dir)
	proofs := 0
	for _, state := range []string{"in use", "leaves gone", "leaves wrong"} {
		for name := range whole {
			if path := filepath.Join(k.cfg.Dir, name); strings.HasSuffix(name, ".leaves") && state != "in use" {
				must(t, os.WriteFile(path, make([]byte, len(whole[name])*strings.Count(state, "wrong")), 0o600))
			}
		}
		for i, head := range heads {
			prover, err := audit.NewProver(k.cfg.Dir, nil, head)
			must(t, err)
			size, _, err := third.head(head)
			must(t, err)
			for seq := range uint64(size) {
				proof, err := prover.Record(t.Context(), seq)
				must(t, err)
				line, err := third.proof(proof.Text())
				must(t, err)
				if r, err := audit.Parse(line); err != nil || r.Seq != seq {
					t.Fatalf("%s: asked for %d, got %s: %v", state, seq, line, err)
				}
				must(t, proof.Check(k.vkey(), nil))
				proofs++
			}
			if _, err := prover.Record(t.Context(), uint64(size)); err == nil || !strings.Contains(err.Error(), "the head covers") {
				t.Errorf("above the head: %v", err)
			}
			for j, old := range heads {
				proof, err := prover.Since(t.Context(), old)
				if j > i {
					if err == nil || !strings.Contains(err.Error(), "ahead of its log") {
						t.Errorf("since a newer head: %v", err)
					}
					continue
				}
				must(t, err)
				_, err = third.proof(proof.Text())
				must(t, err)
				must(t, proof.Check(k.vkey()))
				proofs++
			}
		}
	}
	t.Logf("%d proofs checked by a thirdParty", proofs)
}

// TestProofOfTampered: what is not in the signed tree cannot be proved.
func TestProofOfTampered(t *testing.T) {
	good, k := signedImage(t)
	name := good.segments()[0]
	good.replace(name, "payments", "treasury")
	for _, rewritten := range []bool{false, true} {
		if rewritten {
			good.rewriteLeaves()
		}
		good.put(t, k.cfg.Dir)
		prover, err := audit.NewProver(k.cfg.Dir, nil, nil)
		must(t, err)
		bad := uint64(0)
		for seq, line := range good.lines(name) {
			if bytes.Contains(line, []byte("treasury")) {
				bad = uint64(seq)
			}
		}
		if _, err := prover.Record(t.Context(), bad); !errors.Is(err, audit.ErrDisagrees) {
			t.Errorf("rewritten %v: proved record %d: %v", rewritten, bad, err)
		}
	}
}

// TestProofMutations: of thousands of changes of a proof's bytes none passes,
// but for those of an origin's other signature lines, which prove nothing.
func TestProofMutations(t *testing.T) {
	_, k := signedImage(t)
	prover, err := audit.NewProver(k.cfg.Dir, nil, nil)
	must(t, err)
	proof, err := prover.Record(t.Context(), 5)
	must(t, err)
	old, err := audit.ReadCheckpoint(k.cfg.Dir, "")
	must(t, err)
	k.open()
	k.call("later")
	k.close()
	if prover, err = audit.NewProver(k.cfg.Dir, nil, nil); err != nil {
		t.Fatal(err)
	}
	grown, err := prover.Since(t.Context(), old)
	must(t, err)
	check := func(text []byte) error {
		inclusion, consistency, err := audit.ParseProof(text)
		switch {
		case err != nil:
			return err
		case consistency != nil:
			return consistency.Check(k.vkey())
		}
		return inclusion.Check(k.vkey(), nil)
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, good := range [][]byte{proof.Text(), grown.Text()} {
		must(t, check(good))
		for range 3000 {
			bad := bytes.Clone(good)
			at := rng.IntN(len(bad))
			switch rng.IntN(3) {
			case 0:
				bad[at] ^= byte(1 + rng.IntN(255))
			case 1:
				bad = append(bad[:at], bad[at+1:]...)
			case 2:
				bad = bad[:at]
			}
			if err := check(bad); err == nil && !bytes.Equal(bad, good) {
				t.Fatalf("seed %d: passed:\n%s\nfor\n%s", seed, bad, good)
			}
		}
	}
	if err := proof.Check(k.vkey(), []byte("another line")); err == nil {
		t.Error("another record passed")
	}
	if err := proof.Check("", nil); err == nil {
		t.Error("passed without a key")
	}
}

// TestNamedCheckpoint: an exported head that the log falls short of is named.
func TestNamedCheckpoint(t *testing.T) {
	k := newKit(t)
	k.call("one")
	k.close()
	older := takeImage(t, k.cfg.Dir)
	k.open()
	k.call("two")
	k.close()
	newest, err := audit.ReadCheckpoint(k.cfg.Dir, k.vkey())
	must(t, err)
	evidence := audit.Evidence{Key: k.vkey(), Checkpoints: []audit.Checkpoint{
		{Name: "/mnt/monday", Data: older["checkpoint"]}, {Name: "/mnt/tuesday", Data: newest}}}
	_, err = evidence.Verify(t.Context(), k.cfg.Dir)
	must(t, err)
	older.put(t, k.cfg.Dir)
	_, err = evidence.Verify(t.Context(), k.cfg.Dir)
	if err == nil || !strings.Contains(err.Error(), "(/mnt/tuesday)") || finding(err) != audit.FindingCut {
		t.Errorf("%v", err)
	}
	evidence.Checkpoints[0].Data = []byte("garbage")
	if _, err := evidence.Verify(t.Context(), k.cfg.Dir); err == nil || !strings.Contains(err.Error(), "read checkpoint /mnt/monday: ") {
		t.Errorf("%v", err)
	}
}

// finding is that of a CorruptError, and "none" of another error.
func finding(err error) audit.Finding {
	var corrupt *audit.CorruptError
	if !errors.As(err, &corrupt) {
		return "none"
	}
	return corrupt.Finding
}
