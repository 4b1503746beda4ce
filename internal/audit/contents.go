package audit

import (
	"fmt"
	"slices"
	"strconv"
)

// contents are what there is of a log, and where.
type contents struct {
	// dir is the log's own directory.
	dir string
	// segments are in the order of their records: those of archives first.
	segments []segment
	// oldest is the first record in dir.
	oldest uint64
}

// listContents looks for a log in dir, and for what was removed from it in the
// archives. Of what is in both, dir counts.
func listContents(dir string, archives []string) (contents, error) {
	c := contents{dir: dir}
	own, err := listSegments(dir)
	if err != nil || len(own) == 0 {
		return c, err
	}
	c.oldest = own[0].first
	for _, archive := range archives {
		found, err := listSegments(archive)
		if err != nil {
			return c, err
		}
		for _, s := range found {
			s.archived = true
			if s.first < c.oldest {
				c.segments = append(c.segments, s)
			}
		}
	}
	slices.SortStableFunc(c.segments, func(a, b segment) int { return int(int64(a.first) - int64(b.first)) })
	c.segments = slices.CompactFunc(c.segments, func(a, b segment) bool { return a.first == b.first })
	c.segments = append(c.segments, own...)
	return c, c.bound()
}

// bound sets where archived segments end: where the hashes that are kept of
// them say, since the next one may not be archived.
func (c *contents) bound() error {
	for i := range c.segments {
		s := &c.segments[i]
		if !s.archived {
			break
		}
		kept, err := readRemnant(c.dir, s.first)
		if err != nil {
			return err
		}
		s.end = c.segments[i+1].first
		if kept != nil {
			s.end = min(s.end, kept.end)
		}
	}
	return nil
}

// A removal is the detail of the event that retention writes before it removes
// the oldest segment. It is on disk, and covered by a signed head, before any
// file is removed: what is missing without it was removed by someone else.
//
// Since the oldest goes first, one event speaks for all before it: the records
// before end are gone.
type removal struct {
	first, end uint64
	// file is the segment's name, bytes its length and sum its SHA-256, in hex.
	file  string
	bytes int64
	sum   string
	// archived is the path of the copy in the archive; empty if there is none.
	archived string
	// why is what it had to go for: the name of the limit, age or bytes.
	why string
}

// detail encodes the removal.
func (r removal) detail() map[string]string {
	detail := map[string]string{"first": strconv.FormatUint(r.first, 10), "end": strconv.FormatUint(r.end, 10),
		"file": r.file, "bytes": strconv.FormatInt(r.bytes, 10), "sha256": r.sum, "limit": r.why}
	if r.archived != "" {
		detail["archived_as"] = r.archived
	}
	return detail
}

// removedUpTo is the end of an event's removal; 0 if it has none, so that it
// vouches for nothing.
func removedUpTo(r *Record) uint64 {
	end, err := strconv.ParseUint(r.Detail["end"], 10, 64)
	if err != nil || end > r.Seq {
		return 0
	}
	return end
}

// claim takes note of what record seq says was removed: all before end. What
// is not signed claims nothing, for anyone can write it.
func (p *replay) claim(end, seq uint64) {
	if seq < max(p.headSize(), p.signed) {
		p.claimed = max(p.claimed, end)
	}
}

// bridge takes the tree to a segment that begins at first, over removed ones
// by the hashes that were kept of them.
func (p *replay) bridge(first uint64) error {
	for p.tree.size < first {
		from := p.tree.size
		gone := &CorruptError{File: segmentName(from), Seq: from, Finding: FindingMissing, Reason: "the segment is missing"}
		if first > p.oldest {
			return gone
		}
		kept, err := readRemnant(p.dir, from)
		if err != nil {
			return err
		}
		if kept == nil || kept.end > first {
			gone.Reason += fmt.Sprintf(", and no hashes are kept of its records up to %d (%s)", first, hashesName(from))
			return gone
		}
		for _, h := range p.heads {
			if from < h.size && h.size < kept.end && h.file != headName {
				return fmt.Errorf("check head %s: it covers %d records, the last of them in %s, %w: give the archive that has it, or a head of %d records or more",
					h.file, h.size, segmentName(from), ErrRemoved, first)
			}
		}
		kept.extend(&p.tree)
		p.hashed += kept.end - kept.first
		p.partial, p.bridged, p.previous, p.calls = p.tree.size, p.tree.size, -1, true
		if err := p.meet(hashesName(from)); err != nil {
			return err
		}
	}
	return nil
}

// settled notes the root at the end of a segment of the log's own. The end of
// an archived one must be what the hashes say that were kept of it.
func (p *replay) settled(s segment) error {
	if s.newest() {
		return nil
	}
	p.roots[s.end] = p.tree.root()
	if !s.archived {
		return nil
	}
	kept, err := readRemnant(p.dir, s.first)
	if err != nil || kept == nil || kept.end != s.end {
		return err
	}
	before := p.before
	kept.extend(&before)
	if before.root() != p.tree.root() {
		return &CorruptError{File: s.file(), Seq: s.first, AtOrAfter: true,
			Reason: "the records are not those whose hashes were kept (" + hashesName(s.first) + ")"}
	}
	return nil
}

// accounted returns an error if segments are gone that retention has not
// removed.
func (p *replay) accounted() error {
	if p.claimed >= p.oldest {
		return nil
	}
	return &CorruptError{File: segmentName(p.claimed), Seq: p.claimed, Finding: FindingRemoved,
		Reason: fmt.Sprintf("the records %d to %d are gone, and no signed event %s says that retention removed them", p.claimed, p.oldest-1, EventRemoved)}
}
