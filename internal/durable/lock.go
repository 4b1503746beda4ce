package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked is the error of a directory that another process writes to.
var ErrLocked = errors.New("another process uses the directory")

// A Lock keeps a directory for one process. The kernel releases it when the
// process ends, however it ends.
type Lock struct {
	f    *os.File
	path string
}

// LockDir locks the directory with flock on its file "lock", which it makes
// when it is missing and leaves behind. A second LockDir fails at once with
// [ErrLocked], naming the directory and the process that holds it.
func LockDir(dir string) (*Lock, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock directory %s: %w", dir, err)
	}
	if err := hold(f, path); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock directory %s: %w", dir, err)
	}
	return &Lock{f: f, path: path}, nil
}

// hold takes the lock and leaves the process's number in the file. The file
// may have been replaced between open and flock: then the lock is worthless.
func hold(f *os.File, path string) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w%s", ErrLocked, holder(f))
	}
	if err != nil {
		return os.NewSyscallError("flock", err)
	}
	if err := sameFile(f, path); err != nil {
		return err
	}
	// The number is a courtesy to the reader of the error above: a full disk
	// is no reason to refuse.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return nil
}

// holder says who holds the lock, "" if the file does not tell.
func holder(f *os.File) string {
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

// Check looks whether the lock still guards its directory. If the file was
// removed or replaced another process could lock a new one.
func (l *Lock) Check() error { return sameFile(l.f, l.path) }

// Close releases the lock.
func (l *Lock) Close() error { return l.f.Close() }
