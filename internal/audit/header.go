package audit

import (
	"encoding/base64"
	"fmt"
	"io"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// A header is the detail of a segment's first record. Standing in the tree
// itself, it vouches for what came before the segment.
type header struct {
	// origin is the log's name.
	origin string
	// previous is the name of the segment before, previousBytes the length of
	// what is valid in it. Both are zero in the first segment.
	previous      string
	previousBytes int64
	// sealed: the previous segment has nothing after its valid bytes. If it is
	// not, because its disk failed or someone touched the file, anything may
	// follow, and it is void.
	sealed bool
	// oldestOpen is the number of the oldest intent without an outcome, or the
	// header's own if there is none: nothing before it is needed at a start.
	oldestOpen uint64
	// removed is the number of records at the log's beginning that retention has
	// removed so far, by events that are on disk: see removal.
	removed uint64
	// root is the tree's root before this segment.
	root tlog.Hash
}

// The values of previous_state.
const (
	stateSealed    = "sealed"
	stateAbandoned = "abandoned"
)

// detail encodes the header, which header of a cursor decodes.
func (h header) detail() map[string]string {
	detail := map[string]string{
		"version":         layout,
		"origin":          h.origin,
		"oldest_open_seq": strconv.FormatUint(h.oldestOpen, 10),
		"root":            base64.StdEncoding.EncodeToString(h.root[:]),
	}
	if h.removed > 0 {
		detail["removed"] = strconv.FormatUint(h.removed, 10)
	}
	if h.previous != "" {
		detail["previous"] = h.previous
		detail["previous_bytes"] = strconv.FormatInt(h.previousBytes, 10)
		detail["previous_state"] = stateAbandoned
		if h.sealed {
			detail["previous_state"] = stateSealed
		}
	}
	return detail
}

// readHeader reads the header of a segment, from its first record.
func readHeader(s segment) (h header, err error) {
	c, err := openCursor(s)
	if err != nil {
		return h, err
	}
	defer c.close()
	var r Record
	if _, err := c.read(&r); err != nil {
		return h, c.missing(err)
	}
	return c.header(&r)
}

// header takes the header from the record that was just read, which must be
// the first of its segment. The error is a *CorruptError. Whether what the
// header says is true is for a replay to find.
func (c *cursor) header(r *Record) (h header, err error) {
	bad := func(reason string, args ...any) error {
		err := c.corrupt(fmt.Sprintf(reason, args...))
		err.Seq = r.Seq
		return err
	}
	if r.Event != EventSegment {
		return h, bad("a segment begins with the event %s", EventSegment)
	}
	if version := r.Detail["version"]; version != layout {
		return h, bad("the segment has version %q; this program reads %s", version, layout)
	}
	h.origin, h.previous, h.sealed = r.Detail["origin"], r.Detail["previous"], r.Detail["previous_state"] == stateSealed
	if h.oldestOpen, err = strconv.ParseUint(r.Detail["oldest_open_seq"], 10, 64); err != nil || h.oldestOpen > r.Seq {
		return h, bad("oldest_open_seq is %q", r.Detail["oldest_open_seq"])
	}
	if h.root, err = tlog.ParseHash(r.Detail["root"]); err != nil {
		return h, bad("root is %q", r.Detail["root"])
	}
	if removed := r.Detail["removed"]; removed != "" {
		if h.removed, err = strconv.ParseUint(removed, 10, 64); err != nil || h.removed > r.Seq {
			return h, bad("removed is %q", removed)
		}
	}
	if h.previous == "" {
		return h, nil
	}
	if h.previousBytes, err = strconv.ParseInt(r.Detail["previous_bytes"], 10, 64); err != nil {
		return h, bad("previous_bytes is %q", r.Detail["previous_bytes"])
	}
	return h, nil
}

// missing turns the end of the file into the error of the record that should
// be there, and passes other errors on.
func (c *cursor) missing(err error) error {
	if err != io.EOF {
		return err
	}
	return &CorruptError{File: c.segment.file(), Line: c.line + 1, Offset: c.next, Seq: c.seq, Finding: FindingMissing, Reason: "the record is missing"}
}
