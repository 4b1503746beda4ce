package audit_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/c1proxy/c1proxy/internal/audit"
)

var updateVectors = flag.Bool("update-vectors", false, "write the console's vectors of proofs anew")

// vectorsFile is what the console's verifier is tested against.
const vectorsFile = "../../web/console/src/proof/testdata/proofs.json"

// vectors are all proofs of all trees of 1 to vectorSize records. Hashes are
// written once.
type vectors struct {
	Key     string   `json:"key"`
	Records []string `json:"records"`
	Hashes  []string `json:"hashes"`
	// Heads[n] is that of the tree of n+1 records, and Proofs[n][i] the numbers of
	// the hashes that prove its record i.
	Heads  []string  `json:"heads"`
	Proofs [][][]int `json:"proofs"`
}

const vectorSize = 70

// TestVectors: the proofs that the console is tested against are ones that this
// package takes, in the words that it writes.
//
//	go test ./internal/audit -run TestVectors -update-vectors
func TestVectors(t *testing.T) {
	if *updateVectors {
		data, err := json.Marshal(makeVectors(t))
		must(t, err)
		must(t, os.MkdirAll(filepath.Dir(vectorsFile), 0o755))
		must(t, os.WriteFile(vectorsFile, append(data, '\n'), 0o644))
	}
	data, err := os.ReadFile(vectorsFile)
	must(t, err)
	var v vectors
	must(t, json.Unmarshal(data, &v))
	if len(v.Records) != vectorSize || len(v.Heads) != vectorSize || len(v.Proofs) != vectorSize {
		t.Fatalf("%d records, %d heads, %d trees", len(v.Records), len(v.Heads), len(v.Proofs))
	}
	checked := 0
	for n, proofs := range v.Proofs {
		if len(proofs) != n+1 {
			t.Fatalf("%d proofs of a tree of %d records", len(proofs), n+1)
		}
		for i, path := range proofs {
			made := audit.Proof{Index: uint64(i), Record: []byte(v.Records[i]), Checkpoint: []byte(v.Heads[n])}
			for _, hash := range path {
				h, err := tlog.ParseHash(v.Hashes[hash])
				must(t, err)
				made.Hashes = append(made.Hashes, h)
			}
			read, _, err := audit.ParseProof(made.Text())
			must(t, err)
			if err := read.Check(v.Key, nil); err != nil {
				t.Fatalf("record %d of %d: %v", i, n+1, err)
			}
			checked++
		}
	}
	if checked != vectorSize*(vectorSize+1)/2 {
		t.Errorf("%d proofs", checked)
	}
}

// makeVectors has a log of its own proved.
func makeVectors(t *testing.T) (v vectors) {
	k := newKit(t)
	k.mustAppend(audit.Record{Kind: audit.KindDenied, RequestID: "odd", Caller: "ana", Team: "hr", Reason: "<b>\"quoted\"\\</b> \u2028\u2029 \U0001F600 \ufeff\t\x01\x7f é",
		Error: "POLICY_DENIED", Outcome: audit.OutcomeNotSent, Code: "permission_denied", Procedure: "/c1.api.app.v1.Apps/Get",
		Detail: map[string]string{"count": "12", "a": "1", "__proto__": "x"}, ClientGone: true, Duration: time.Second + time.Microsecond})
	for i := range vectorSize / 2 {
		k.call(fmt.Sprint("call-", i))
	}
	must(t, k.log.Seal(t.Context()))
	secret, err := os.ReadFile(k.cfg.KeyFile)
	must(t, err)
	signer, err := note.NewSigner(strings.TrimSpace(string(secret)))
	must(t, err)
	v.Key = k.vkey()
	prover, err := audit.NewProver(k.cfg.Dir, nil, nil)
	must(t, err)
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (hashes []tlog.Hash, err error) {
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	numbers := map[string]int{}
	for n := range vectorSize {
		proof, err := prover.Record(t.Context(), uint64(n))
		must(t, err)
		v.Records = append(v.Records, string(proof.Record))
		more, err := tlog.StoredHashes(int64(n), proof.Record, reader)
		must(t, err)
		stored = append(stored, more...)
		root, err := tlog.TreeHash(int64(n+1), reader)
		must(t, err)
		head, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), n+1, root)}, signer)
		must(t, err)
		v.Heads = append(v.Heads, string(head))
		at, err := audit.NewProver(k.cfg.Dir, nil, head)
		must(t, err)
		proofs := make([][]int, n+1)
		for i := range proofs {
			proof, err := at.Record(t.Context(), uint64(i))
			must(t, err)
			proofs[i] = []int{}
			for _, hash := range proof.Hashes {
				number, known := numbers[hash.String()]
				if !known {
					number = len(v.Hashes)
					numbers[hash.String()] = number
					v.Hashes = append(v.Hashes, hash.String())
				}
				proofs[i] = append(proofs[i], number)
			}
		}
		v.Proofs = append(v.Proofs, proofs)
	}
	return v
}
