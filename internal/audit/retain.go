package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/c1proxy/c1proxy/internal/durable"
)

// Retain says when a log's oldest segments are removed from its directory: as
// soon as one of its limits is passed. What is not sealed, not covered by a
// signed head, or needed at the next start or by [Config.Holds], stays.
type Retain struct {
	// Age is how long a segment is kept after its last record. 0 is no limit.
	Age time.Duration
	// Bytes is what all segments together may have, without what is derived from
	// them. 0 is no limit.
	Bytes int64
	// ArchiveDir is where removed segments go: a directory that exists, is not
	// inside the log's, and has no other log's segments. It may be on another
	// file system. While it cannot be written to, nothing is removed. Empty, what
	// is removed is gone.
	ArchiveDir string
}

func (r Retain) limited() bool { return r.Age > 0 || r.Bytes > 0 }

// checkPlace refuses an archive that would be taken for a part of the log. One
// that is not there yet is in order: it may be mounted later.
func (r Retain) checkPlace(dir string) error {
	if r.ArchiveDir == "" {
		return nil
	}
	inside, err := lies(r.ArchiveDir, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && inside {
		err = fmt.Errorf("%s lies inside the audit directory %s", r.ArchiveDir, dir)
	}
	if err != nil {
		return fmt.Errorf("check archive's place: %w", err)
	}
	return nil
}

// retainEvery is how often retention looks at the log, besides at each new
// segment.
const retainEvery = time.Minute

// A retention is what the goroutine that removes segments works with.
type retention struct {
	// living ends with Close, which calls cancel.
	living context.Context
	cancel context.CancelFunc
	// before is the tree before the oldest segment. It belongs to the goroutine.
	before tree

	// Guarded by Log.mu.

	// roots are those of the tree at the end of each segment, by its number of
	// records: as they were when it was written, whatever is on disk now.
	roots map[uint64]tlog.Hash
	// needed is the first record that the next start needs.
	needed uint64
	// announced is the number of records at the beginning whose removal is on
	// record, and covered by a signed head.
	announced uint64
}

// begin continues what a replay has found.
func (r *retention) begin(p *replay) {
	r.before, r.roots, r.announced = p.base, p.roots, p.claimed
	if r.roots == nil {
		r.roots = map[uint64]tlog.Hash{}
	}
}

// sealed takes note of the end of a segment. Log.mu is held.
func (r *retention) sealed(end uint64, root tlog.Hash, needed uint64) {
	r.roots[end], r.needed = root, needed
}

// retain is the goroutine that removes old segments. It never makes a record
// wait: what it writes to the log is one event, like anyone else's.
func (l *Log) retain() {
	defer l.retainers.Done()
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	for {
		held, err := l.shrink(l.retention.living)
		if l.retention.living.Err() != nil {
			return
		}
		l.mu.Lock()
		l.stats.HeldBack = held != "" || err != nil
		if held != "" {
			l.complain("the audit log's oldest segment is due to be removed, but still needed", errors.New(held))
		}
		if err != nil {
			l.complain("the audit log's oldest segment cannot be removed", err)
		}
		l.mu.Unlock()
		select {
		case <-tick.C:
		case <-l.rolled:
		case <-l.stop:
			return
		}
	}
}

// shrink removes segments, the oldest first, until none is due, or the oldest
// is still needed: held says by whom.
func (l *Log) shrink(ctx context.Context) (held string, err error) {
	for ctx.Err() == nil {
		segments, err := listSegments(l.cfg.Dir)
		if err != nil || len(segments) < 2 {
			return "", err
		}
		why, err := l.cfg.Retain.due(segments)
		if err != nil || why == "" {
			return "", err
		}
		if held = l.neededBy(segments[0]); held != "" {
			return held, nil
		}
		if err := l.remove(ctx, segments[0], why); err != nil {
			return "", err
		}
	}
	return "", nil
}

// due returns the limit that the oldest segment must go for; "" if none.
func (r Retain) due(segments []segment) (string, error) {
	if r.Bytes > 0 {
		sum := int64(0)
		for _, s := range segments {
			info, err := os.Stat(s.path())
			if err != nil {
				return "", fmt.Errorf("measure audit segment: %w", err)
			}
			sum += info.Size()
		}
		if sum > r.Bytes {
			return "bytes", nil
		}
	}
	if r.Age > 0 && beganBefore(segments[1], time.Now().Add(-r.Age)) {
		return "age", nil
	}
	return "", nil
}

// beganBefore tells whether a segment was begun before t. Then the one before
// it holds nothing newer. A segment that cannot be read says no.
func beganBefore(s segment, t time.Time) bool {
	c, err := openCursor(s)
	if err != nil {
		return false
	}
	defer c.close()
	var r Record
	_, err = c.read(&r)
	return err == nil && r.Time.Before(t)
}

// neededBy says who still needs a segment; "" if nobody does.
func (l *Log) neededBy(s segment) string {
	if l.Stats().HeadSize < s.end {
		_ = l.signHead() // it says so itself
	}
	l.mu.Lock()
	needed, signed := l.retention.needed, l.stats.HeadSize
	l.mu.Unlock()
	switch {
	case s.end > signed:
		return fmt.Sprintf("a signed head covers only %d records", signed)
	case s.end > needed:
		return fmt.Sprintf("a call was open at record %d when the newest segment was begun", needed)
	case l.cfg.Holds != nil && l.cfg.Holds() < s.end:
		return fmt.Sprintf("its reader still needs record %d", l.cfg.Holds())
	}
	return ""
}

// remove removes the oldest segment. Wherever a crash interrupts it, the log
// is whole, and the next start or the next try finishes it:
//
//	archive      link or copy, fsync, fsync of the archive
//	event        on disk, as every record, and then covered by a signed head
//	hashes       openat, write, fsync, rename, fsync of the directory
//	files        unlink, fsync of the directory
func (l *Log) remove(ctx context.Context, s segment, why string) error {
	kept, r, err := digest(ctx, s)
	if err != nil {
		return err
	}
	after := l.retention.before
	kept.extend(&after)
	l.mu.Lock()
	written, announced := l.retention.roots[s.end], l.retention.announced
	l.mu.Unlock()
	if after.root() != written {
		return fmt.Errorf("remove audit segment %s: its records are not those that were written: it stays, as evidence; run proxy audit verify", s.name())
	}
	if r.archived, err = l.archive(ctx, s); err != nil {
		return err
	}
	if r.why = why; announced < s.end {
		if err := l.announce(ctx, r); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(filepath.Join(s.dir, hashesName(s.first)), kept.text(), fileMode); err != nil {
		return err
	}
	if err := removeFiles(s); err != nil {
		return err
	}
	l.cfg.Logger.Info("an audit segment was removed", "file", s.name(), "records", s.count(), "limit", why, "archived_as", r.archived)
	l.retention.before = after
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.retention.roots, s.end)
	l.stats.Removed++
	l.stats.Oldest = s.end
	return nil
}

// digest reads a segment: the hashes to keep of it, and the removal to
// announce.
func digest(ctx context.Context, s segment) (*remains, removal, error) {
	r := removal{first: s.first, end: s.end, file: s.name()}
	kept := newRemains(s.first, s.end)
	err := eachLine(s, s.end, func(seq uint64, line []byte) error {
		kept.push(tlog.RecordHash(line))
		return cancelled(ctx, seq)
	})
	if err != nil {
		return nil, r, fmt.Errorf("remove audit segment: %w", err)
	}
	f, err := os.Open(s.path())
	if err != nil {
		return nil, r, fmt.Errorf("remove audit segment: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if r.bytes, err = io.Copy(sum, f); err != nil {
		return nil, r, fmt.Errorf("remove audit segment: %w", err)
	}
	r.sum = hex.EncodeToString(sum.Sum(nil))
	return kept, r, nil
}

// archive puts a segment and what is derived from it into the archive, and
// returns where it is then; "" if there is no archive.
func (l *Log) archive(ctx context.Context, s segment) (string, error) {
	dir := l.cfg.Retain.ArchiveDir
	if dir == "" {
		return "", nil
	}
	for _, name := range derivedNames(s) {
		err := durable.Share(ctx, filepath.Join(s.dir, name), filepath.Join(dir, name), fileMode)
		// Derived, it can be missing, and be there in an older form.
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("archive audit segment: %w", err)
		}
	}
	to := filepath.Join(dir, s.name())
	if err := durable.Share(ctx, s.path(), to, fileMode); err != nil {
		return "", fmt.Errorf("archive audit segment: %w", err)
	}
	return to, nil
}

// announce writes the event of a removal, and signs a head that covers it.
func (l *Log) announce(ctx context.Context, r removal) error {
	event := newEvent(EventRemoved, r.detail())
	if err := l.Append(ctx, event); err != nil {
		return fmt.Errorf("remove audit segment: %w", err)
	}
	if err := l.signHead(); err != nil {
		return fmt.Errorf("remove audit segment: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retention.announced = r.end
	return nil
}

// derivedNames are the files beside a segment that can be made anew from it.
func derivedNames(s segment) []string {
	return []string{leavesName(s.first), fmt.Sprintf("%020d.index", s.first)}
}

// removeFiles removes a segment, and what is derived from it after it.
func removeFiles(s segment) error {
	paths := []string{s.path()}
	for _, name := range derivedNames(s) {
		paths = append(paths, filepath.Join(s.dir, name))
	}
	return durable.Remove(paths...)
}

// finishRemovals finishes what a crash has interrupted: a segment whose
// removal is on record and whose hashes are on disk goes, and so does what was
// derived from one that is gone.
func finishRemovals(p *replay) error {
	for len(p.segments) > 1 {
		s := p.segments[0]
		kept, err := readRemnant(p.dir, s.first)
		if err != nil || kept == nil || kept.end != s.end || s.end > p.claimed {
			break // not by us: retention begins anew with this one
		}
		after := p.base
		kept.extend(&after)
		if after.root() != p.roots[s.end] {
			break
		}
		if err := removeFiles(s); err != nil {
			return err
		}
		p.segments, p.base, p.oldest = p.segments[1:], after, s.end
	}
	return removeOrphans(p.dir, p.oldest)
}

// removeOrphans removes what was derived from segments before oldest.
func removeOrphans(dir string, oldest uint64) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list audit directory: %w", err)
	}
	var orphans []string
	for _, entry := range entries {
		digits, _, _ := strings.Cut(entry.Name(), ".")
		first, err := strconv.ParseUint(digits, 10, 64)
		if err == nil && first < oldest && slices.Contains(derivedNames(segment{first: first}), entry.Name()) {
			orphans = append(orphans, filepath.Join(dir, entry.Name()))
		}
	}
	return durable.Remove(orphans...)
}
