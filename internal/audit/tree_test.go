package audit_test

import (
	"encoding/binary"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// TestTree compares the frontier with tlog, which stores every hash.
func TestTree(t *testing.T) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (hashes []tlog.Hash, err error) {
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	var tree audit.Tree
	for n := range int64(300) {
		want, err := tlog.TreeHash(n, reader)
		if err != nil || tree.Root() != want {
			t.Fatalf("size %d: root %v, want %v (%v)", n, tree.Root(), want, err)
		}
		data := binary.AppendVarint(nil, n)
		hashes, err := tlog.StoredHashes(n, data, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		tree.Push(tlog.RecordHash(data))
	}
}
