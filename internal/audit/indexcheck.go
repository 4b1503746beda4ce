package audit

import (
	"bytes"
	"os"

	"golang.org/x/mod/sumdb/tlog"
)

// An indexCheck makes the index of a segment anew while a replay reads it, to
// compare. nil checks nothing.
type indexCheck struct{ builder *indexBuilder }

// indexCheck returns nil if the segment has no index, or need not have one.
func (p *replay) indexCheck(s segment) *indexCheck {
	if !p.indexes || s.newest() {
		return nil
	}
	if _, err := os.Stat(s.indexPath()); err != nil {
		return nil
	}
	return &indexCheck{newIndexBuilder(s, header{})}
}

func (c *indexCheck) add(r *Record, line int) {
	if c != nil {
		c.builder.add(r, line)
	}
}

// differs tells whether the index is not that of the segment, which has this
// many bytes of records and after which the tree has this root.
func (c *indexCheck) differs(size int64, root tlog.Hash) bool {
	if c == nil {
		return false
	}
	c.builder.end = header{previousBytes: size, root: root}
	made := c.builder.file()
	info, err := os.Stat(c.builder.segment.indexPath())
	if err != nil {
		return false // it was deleted just now
	}
	if info.Size() != int64(len(made)) {
		return true
	}
	written, err := os.ReadFile(c.builder.segment.indexPath())
	return err == nil && !bytes.Equal(made, written)
}
