package audit

import (
	"errors"
	"time"
)

// idleShare is how much longer the making of an index rests than it works.
const idleShare = 3

// index is the goroutine that makes the indexes of sealed segments: at the start
// the missing ones, the newest first, and then that of each segment after it
// was sealed. Nobody waits for it, and it rests most of the time. Its errors are
// nobody's: an index that could not be made is just not there.
func (l *Log) index() {
	defer close(l.indexed)
	from := uint64(0)
	for {
		from = l.indexFrom(from)
		select {
		case <-l.sealed:
		case <-l.stop:
			return
		}
	}
}

// indexFrom makes the indexes that are missing of the sealed segments from the
// record from on, and returns from where to go on the next time.
func (l *Log) indexFrom(from uint64) uint64 {
	segments, err := listSegments(l.cfg.Dir)
	if err != nil || len(segments) == 0 {
		return from
	}
	for i := len(segments) - 2; i >= 0 && segments[i].first >= from; i-- {
		if errors.Is(l.makeIndex(segments[i], segments[i+1]), ErrClosed) {
			return from
		}
	}
	return segments[len(segments)-1].first
}

// makeIndex makes the index of a segment, before next, if it has none that
// fits. The error is ErrClosed if the log is being closed.
func (l *Log) makeIndex(s, next segment) error {
	h, err := readHeader(next)
	if err != nil {
		return err
	}
	if _, f, err := openIndex(s, h); err == nil {
		return f.Close()
	}
	c, err := openCursor(s)
	if err != nil {
		return err
	}
	defer c.close()
	b, began := newIndexBuilder(s, h), time.Now()
	for c.seq < s.end {
		var r Record
		line, err := c.read(&r)
		if err != nil {
			return err
		}
		b.add(&r, len(line)+1)
		if r.Seq%256 == 0 {
			if err := l.rest(idleShare * time.Since(began)); err != nil {
				return err
			}
			began = time.Now()
		}
	}
	b.save()
	return nil
}

// rest waits, or returns ErrClosed if the log is being closed.
func (l *Log) rest(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-l.stop:
		return ErrClosed
	}
}
