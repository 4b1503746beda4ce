package audit

import (
	"fmt"
	"time"
)

// Close writes what waits and the event "stopped", signs the final head and
// releases the directory. It takes at most [Config.MaxWait], after which the
// disk still has the last word. The error tells what could not be done. Every
// call returns the same.
func (l *Log) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		l.retention.cancel()
		close(l.stop)
	}
	l.mu.Unlock()
	late := time.NewTimer(l.cfg.MaxWait)
	defer late.Stop()
	select {
	case <-l.stopped:
		select {
		case <-l.indexed:
		case <-late.C: // it reads from a disk that does not answer, and holds nothing
		}
		return l.closeErr
	case <-late.C:
		return fmt.Errorf("close audit log: %w: the disk has not answered for %v", ErrUnavailable, l.cfg.MaxWait)
	}
}

// finish does the work of Close. What fails is tried once more: a disk may
// fail a single time.
func (l *Log) finish() error {
	defer func() {
		// It may be in the middle of a removal, which needs the lock, not the writer.
		l.retainers.Wait()
		if l.writer.file != nil {
			l.writer.seal() // or else the next start cuts off what is behind the end
		}
		l.writer.closeFiles()
		_ = l.writer.lock.Close()
		l.retry.Stop()
		l.flood.window.Stop()
	}()
	l.signers.Wait()
	for l.next() {
	}
	l.begin()
	defer l.end()
	err := l.last()
	if err != nil {
		l.heal()
		for l.next() {
		}
		err = l.last()
	}
	if err != nil {
		return fmt.Errorf("close audit log: %w: %w (%d final records are lost)", ErrUnavailable, err, l.Stats().Kept)
	}
	return nil
}

// last writes what is still to be told, and the last record, and signs. It does
// nothing if the log fails. Calling it again after an error is safe: then the
// last record was not written.
func (l *Log) last() error {
	err := l.failure()
	if err == nil {
		err = l.tell()
	}
	if err == nil {
		err = l.writer.commit([]*entry{newEntry(newEvent(EventStopped, nil))})
	}
	if err == nil {
		err = l.signHead()
	}
	return err
}

// failure is why the log fails now; nil if it does not.
func (l *Log) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gap.err
}
