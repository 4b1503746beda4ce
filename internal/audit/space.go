package audit

import (
	"strconv"
	"time"

	"github.com/c1proxy/c1proxy/internal/durable"
)

// A space is what is known of the directory's file system.
type space struct {
	free, total uint64
	// low: less than Config.MinFreeBytes is free. scarce: less than
	// Config.ReserveBytes.
	low, scarce bool
}

// measure looks how much space is left, and tells the operator when that
// becomes too little. Well before that it has the writer take no space ahead. A
// file system that does not say how much it has left
// changes nothing.
//
// Syscalls: statfs.
func (l *Log) measure() {
	free, total, err := durable.Free(l.cfg.Dir)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.complain("the audit log's free space is unknown", err)
		return
	}
	now := space{free: free, total: total,
		low:    below(free, l.cfg.MinFreeBytes, l.space.low),
		scarce: below(free, l.cfg.ReserveBytes, l.space.scarce)}
	l.writer.frugal = free < max(l.cfg.MinFreeBytes, l.cfg.ReserveBytes)+16*maxAhead
	before := l.space
	l.space = now
	if now.low && !before.low {
		l.cfg.Logger.Warn("little space is left for the audit log", "free_bytes", free, "total_bytes", total, "min_free_bytes", l.cfg.MinFreeBytes)
	}
	if now.scarce == before.scarce {
		return
	}
	event, message := EventAmple, "the audit log has space again: refusals without a caller are recorded again"
	if now.scarce {
		event, message = EventScarce, "space for the audit log is scarce: refusals without a caller are only counted"
	}
	l.cfg.Logger.Warn(message, "free_bytes", free, "reserve_bytes", l.cfg.ReserveBytes)
	l.spaceEvent = newEvent(event, map[string]string{
		"free_bytes": strconv.FormatUint(free, 10), "reserve_bytes": strconv.FormatUint(l.cfg.ReserveBytes, 10)})
}

// below tells whether free is below a limit. Once it was, it is so until there
// is an eighth more than that, so that the answer does not flicker.
func below(free, limit uint64, was bool) bool {
	return free < limit || was && free < limit+limit/8
}

// countsDue tells whether the refusals that are only counted may be written
// now: at most every ten seconds while space is scarce. l.mu is held.
func (l *Log) countsDue(now time.Time) bool {
	return !l.space.scarce || l.closed || now.Sub(l.kept.told) >= scarceEvery
}
