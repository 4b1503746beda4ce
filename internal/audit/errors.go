package audit

import (
	"errors"
	"fmt"
)

// The errors of [Log.Append], to be told apart with errors.Is.
var (
	// ErrUnavailable: the record is not known to be on disk, because the disk
	// fails or is too slow. It wraps the cause.
	ErrUnavailable = errors.New("audit log unavailable")
	// ErrOverloaded: too many records wait already.
	ErrOverloaded = errors.New("audit log overloaded")
	// ErrDeferred: space is scarce, so the refusal is only counted, and the record
	// of the count follows within ten seconds.
	ErrDeferred = errors.New("audit record deferred")
	// ErrClosed: the log is closed.
	ErrClosed = errors.New("audit log closed")
	// ErrRemoved: retention has removed the record. It is of [Evidence.Verify]
	// and of a [Prover].
	ErrRemoved = errors.New("which retention has removed")
	// ErrInvalid: the record breaks a rule of the log, such as a second outcome
	// of one intent. It is a mistake in the program.
	ErrInvalid = errors.New("invalid audit record")
)

// A CorruptError says where a log is not what was written. It is the error of
// [Open], [Verify] and [Query] for a log that was tampered with or damaged.
type CorruptError struct {
	// File is the file's name within the directory, Line the line in it from 1
	// (0 if there is none), Offset where that line begins, in bytes.
	File   string
	Line   int
	Offset int64
	// Seq is the first bad record, one that is missing included.
	Seq uint64
	// AtOrAfter: Seq and the records after it are in doubt, but which of them
	// is bad cannot be told. This is so when someone has also rewritten the leaves.
	AtOrAfter bool
	// Reason says what is wrong.
	Reason string
	// Finding says what kind of thing that is. The zero value is FindingChanged.
	Finding Finding

	// malformed: the line is no record, as a torn write leaves it.
	malformed bool
}

func (e *CorruptError) Error() string {
	which := "record"
	if e.AtOrAfter {
		which = "record at or after"
	}
	where := e.File
	if e.Line > 0 {
		where = fmt.Sprintf("%s line %d (offset %d)", e.File, e.Line, e.Offset)
	}
	return fmt.Sprintf("read audit log: %s: %s %d: %s", where, which, e.Seq, e.Reason)
}
