package audit

import (
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// A tree is the Merkle tree of RFC 6962 over the lines of the log, reduced to
// its frontier: the roots of the complete subtrees that its size is the sum
// of. The zero tree is empty. A copy is a snapshot.
type tree struct {
	size uint64
	// subtrees[i] is the root of the subtree of 1<<i leaves if bit i of size is
	// set, and meaningless otherwise.
	subtrees [64]tlog.Hash
}

// push adds a leaf.
func (t *tree) push(leaf tlog.Hash) { t.pushAll(0, leaf) }

// pushAll adds the 1<<level leaves whose root is hash. The tree's size must be
// a multiple of their number.
func (t *tree) pushAll(level int, hash tlog.Hash) {
	top := level + bits.TrailingZeros64(^(t.size >> level))
	for i := level; i < top; i++ {
		hash = tlog.NodeHash(t.subtrees[i], hash)
	}
	t.subtrees[top] = hash
	t.size += 1 << level
}

// root is the tree's hash.
func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		root, _ := tlog.TreeHash(0, nil) // the hash of nothing; it cannot fail
		return root
	}
	level := bits.TrailingZeros64(t.size)
	root := t.subtrees[level]
	for rest := t.size >> (level + 1); rest != 0; rest >>= 1 {
		level++
		if rest&1 == 1 {
			root = tlog.NodeHash(t.subtrees[level], root)
		}
	}
	return root
}
