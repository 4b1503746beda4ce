package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// A replay reads a log from its first record, rebuilds what the records imply,
// and holds it against the leaves, the headers and the signed heads. Opening a
// log and verifying one are both a replay.
//
// It holds in memory one line, the tree's frontier and the open intents.
type replay struct {
	contents
	// heads are the signed heads to meet, in the order of their sizes.
	heads []head
	// from allows segments that end before it, and before the newest head, to
	// be taken from their leaves without reading the records. 0 reads all. Every
	// intent before it has its outcome, which may stand in such a segment.
	from uint64

	tree tree
	// open holds the intents without an outcome by their ID.
	open map[string]*Record
	// calls tells whether any record was about a call.
	calls bool
	// proven is the largest size at which the tree met a signed head.
	proven uint64
	// suspect is the first record that does not match its leaf. Either may be
	// the wrong one: the next signed head tells.
	suspect *CorruptError
	// newest is what the newest segment ends with.
	newest struct {
		header header
		bytes  int64         // its valid part
		torn   int64         // what follows, without the zeros at the end
		why    *CorruptError // why that is torn; nil if torn is 0
	}
	// damaged are the segments whose leaves are wrong or missing while the
	// records are proven right.
	damaged []segment
	// signed is the size of the head that was signed when the segments had been
	// listed; 0 if there was none.
	signed uint64
	// claimed is the number of records that signed records say retention has
	// removed.
	claimed uint64
	// partial is the number of records at the beginning that were not read, only
	// their hashes. bridged is where the last hashes of removed records end.
	partial, bridged uint64
	// hashed counts the records that were not read because they were removed.
	hashed uint64
	// before is the tree before the current segment, base that before the first
	// one of the log's own directory.
	before, base tree
	// roots hold the tree's root at the end of each, by its number of records.
	roots map[uint64]tlog.Hash
	// indexes: hold the indexes against the records too. badIndexes are the
	// segments whose index is not what their records make.
	indexes    bool
	badIndexes []segment
	voids      []Void
	// previous is the valid length of the segment before the current one, and
	// trailing what it has after that; -1 if it was not read.
	previous, trailing int64
}

// A Void is the tail of a segment that was abandoned because its disk failed
// or its file was touched. Nothing in it was ever acknowledged.
type Void struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"` // of its first byte
	Bytes  int64  `json:"bytes"`
}

// headSize is the size of the newest head.
func (p *replay) headSize() uint64 {
	if len(p.heads) == 0 {
		return 0
	}
	return p.heads[len(p.heads)-1].size
}

// run replays all segments. The error is a *CorruptError for a log that is not
// what was written, and names its first bad record.
func (p *replay) run(ctx context.Context) error {
	p.open, p.roots = map[string]*Record{}, map[uint64]tlog.Hash{}
	slices.SortFunc(p.heads, func(a, b head) int { return int(int64(a.size) - int64(b.size)) })
	err := p.all(ctx)
	var corrupt *CorruptError
	if p.suspect != nil && (err == nil || errors.As(err, &corrupt)) {
		// The first thing that was wrong is the cause of the rest.
		return p.suspect
	}
	return err
}

// all is run, but for the choice among several things that are wrong.
func (p *replay) all(ctx context.Context) error {
	p.previous = -1
	for i, s := range p.segments {
		if err := p.bridge(s.first); err != nil {
			return err
		}
		p.before = p.tree
		if s.first == p.oldest {
			p.base = p.tree
		}
		skipped, err := p.skip(ctx, i)
		if err == nil && !skipped {
			err = p.segment(ctx, s)
		}
		if err == nil {
			err = p.settled(s)
		}
		if err != nil {
			return err
		}
	}
	if ahead := p.headSize(); ahead > p.tree.size {
		file := ""
		if n := len(p.segments); n > 0 {
			file = p.segments[n-1].name()
		}
		return &CorruptError{File: file, Offset: p.newest.bytes, Seq: p.tree.size, Finding: FindingCut,
			Reason: fmt.Sprintf("the record is missing: a signed head covers %d records (%s)", ahead, p.heads[len(p.heads)-1].file)}
	}
	return p.accounted()
}

// skip takes a segment from its leaves, if that is allowed, they are there, and
// the segment is as long as the next one says.
func (p *replay) skip(ctx context.Context, i int) (bool, error) {
	s := p.segments[i]
	if s.newest() || s.end > p.from || s.end > p.headSize() {
		return false, nil
	}
	if long, err := p.long(i); !long {
		return false, err
	}
	leaves, err := openLeaves(s)
	if err != nil {
		return false, err
	}
	defer leaves.close()
	if leaves.written != s.count() {
		return false, nil
	}
	for range s.count() {
		leaf, err := leaves.read()
		if err == nil {
			err = p.push(leaf, s)
		}
		if err == nil {
			err = cancelled(ctx, p.tree.size)
		}
		if err != nil {
			return false, err
		}
	}
	p.previous, p.calls = -1, true
	return true, nil
}

// long tells whether the file of a segment has the length that the next
// segment's header says.
func (p *replay) long(i int) (bool, error) {
	h, err := readHeader(p.segments[i+1])
	if err != nil {
		return false, err
	}
	p.claim(h.removed, p.segments[i+1].first)
	info, err := os.Stat(p.segments[i].path())
	if err != nil {
		return false, fmt.Errorf("read audit segment: %w", err)
	}
	return info.Size() == h.previousBytes || info.Size() > h.previousBytes && !h.sealed, nil
}

// segment reads the records of one segment: up to where the next one begins,
// or up to the end.
func (p *replay) segment(ctx context.Context, s segment) error {
	c, err := openCursor(s)
	if err != nil {
		return err
	}
	defer c.close()
	leaves, err := openLeaves(s)
	if err != nil {
		return err
	}
	defer leaves.close()
	index := p.indexCheck(s)
	complete := true // whether the leaves are
	for c.seq < s.end {
		var r Record
		line, err := c.read(&r)
		if err != nil && c.ended(err) {
			if err := p.torn(c, leaves, err); err != nil {
				return err
			}
			break
		}
		if err != nil {
			return c.missing(err)
		}
		hash := tlog.RecordHash(line)
		right, err := p.compare(c, leaves, hash)
		if err != nil {
			return err
		}
		complete = complete && right
		if err := p.record(c, &r); err != nil {
			return err
		}
		if err := p.push(hash, s); err != nil {
			return err
		}
		index.add(&r, len(line)+1)
		if err := cancelled(ctx, r.Seq); err != nil {
			return err
		}
	}
	if !complete || leaves.written != c.seq-s.first {
		p.damaged = append(p.damaged, s)
	}
	if index.differs(c.next, p.tree.root()) {
		p.badIndexes = append(p.badIndexes, s)
	}
	return p.end(c, leaves)
}

// end looks at what follows the last record of a segment. What it means is up
// to the next segment's header.
func (p *replay) end(c *cursor, leaves *leafReader) error {
	rest, err := c.rest()
	if err != nil {
		return err
	}
	p.previous, p.trailing = c.next, rest
	if !c.segment.newest() {
		return nil
	}
	p.newest.bytes = c.next
	if n := leaves.written; n > c.seq-c.segment.first && p.newest.why == nil {
		return c.gone(n)
	}
	return nil
}

// torn judges how the newest segment ends. A line that is no record, and zeros,
// are what a crash leaves behind only where nothing was ever acknowledged:
// neither signed nor given a leaf. Zeros up to the end are no write.
func (p *replay) torn(c *cursor, leaves *leafReader, err error) error {
	var bad *CorruptError
	if !errors.As(err, &bad) {
		return nil
	}
	leaf, leafErr := leaves.read()
	if leafErr != nil {
		return leafErr
	}
	if c.seq < p.headSize() || leaf != (tlog.Hash{}) {
		return err
	}
	rest, restErr := c.unfinished()
	if restErr != nil {
		return restErr
	}
	if c.blank && (len(rest) == 0 || rest[0] != 0) {
		return nil // or the record came just now
	}
	p.newest.why, p.newest.torn = bad, int64(len(rest))
	return nil
}

// record applies one record, which c has just read: what it opens and closes,
// and what it says of the log if it is a header.
func (p *replay) record(c *cursor, r *Record) error {
	if r.Seq == c.segment.first {
		if err := p.header(c, r); err != nil {
			return err
		}
	}
	p.calls = p.calls || r.Kind != KindEvent
	if r.Event == EventRemoved {
		p.claim(removedUpTo(r), r.Seq)
	}
	reason := ""
	switch {
	case r.Kind == KindIntent && p.open[r.ID] != nil:
		reason = "there is an open intent with this id already"
	case r.Kind == KindIntent && r.Seq >= p.from:
		kept := *r
		p.open[r.ID] = &kept
	case r.Kind == KindOutcome && r.Intent != "":
		// Of what was skipped or removed, nothing is known.
		if p.open[r.Intent] == nil && p.from == 0 && p.partial == 0 {
			reason = "no intent is open that this could be the outcome of"
		}
		delete(p.open, r.Intent)
	}
	if reason == "" {
		return nil
	}
	err := c.corrupt(reason)
	err.Seq = r.Seq
	return err
}

// header checks the first record of a segment against what came before it.
func (p *replay) header(c *cursor, r *Record) error {
	h, err := c.header(r)
	if err != nil {
		return err
	}
	bad := c.corrupt("")
	bad.Seq = r.Seq
	switch {
	case (h.previous == "") != (r.Seq == 0):
		bad.Reason = "only the first segment has no previous one"
		return bad
	case h.root != p.tree.root():
		bad.Seq, bad.AtOrAfter = p.proven, true
		bad.Reason = "the records before this segment are not those that its header vouches for"
		if p.bridged == r.Seq && r.Seq > 0 {
			bad.Finding = FindingHashes
			bad.Reason = "the hashes that were kept of removed records (*" + hashesSuffix + ") are not those of the records that its header vouches for"
		}
		return bad
	}
	p.claim(h.removed, r.Seq)
	if c.segment.newest() {
		p.newest.header = h
	}
	if p.previous < 0 {
		return nil
	}
	if h.previousBytes != p.previous || h.sealed && p.trailing > 0 {
		return &CorruptError{File: h.previous, Offset: min(p.previous, h.previousBytes), Seq: r.Seq,
			Reason: fmt.Sprintf("the file has %d bytes of records and %d after them, its end was at %d", p.previous, p.trailing, h.previousBytes)}
	}
	if p.trailing > 0 {
		p.voids = append(p.voids, Void{File: h.previous, Offset: p.previous, Bytes: p.trailing})
	}
	return nil
}

// compare tells whether a record's hash is the one that was written down when
// the record was.
func (p *replay) compare(c *cursor, leaves *leafReader, hash tlog.Hash) (right bool, err error) {
	written, err := leaves.read()
	if err != nil {
		return false, err
	}
	if written != hash && written != (tlog.Hash{}) && p.suspect == nil {
		p.suspect = c.corrupt("the record is not the one that was written: its leaf differs")
		p.suspect.Seq = c.seq - 1
	}
	return written == hash, nil
}

// push adds a leaf, of a record in s, and compares the tree with the heads of
// its size.
func (p *replay) push(leaf tlog.Hash, s segment) error {
	p.tree.push(leaf)
	return p.meet(s.file())
}

// meet compares the tree, which file brought to its size, with the heads of
// that size.
func (p *replay) meet(file string) error {
	for _, h := range p.heads {
		if h.size != p.tree.size {
			continue
		}
		if h.root != p.tree.root() {
			return &CorruptError{File: file, Seq: p.proven, AtOrAfter: true,
				Reason: fmt.Sprintf("the first %d records are not those that were signed (%s)", h.size, h.file)}
		}
		p.proven = h.size
		// The records are right, so it was the leaf that was wrong.
		p.suspect = nil
	}
	return nil
}

// cancelled looks at the context at every 1024th record.
func cancelled(ctx context.Context, n uint64) error {
	if n%1024 != 0 {
		return nil
	}
	return ctx.Err()
}
