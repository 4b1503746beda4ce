package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// What [File.Check] can find. Both mean that someone else has touched the file.
var (
	// ErrMoved: the path no longer leads to the file. It was removed or
	// renamed, or another file has taken its place.
	ErrMoved = errors.New("the file was removed, renamed or replaced")
	// ErrResized: the file is shorter or longer than what was written to it, or
	// has something behind its end.
	ErrResized = errors.New("the file was truncated or appended to")
)

// A File is a file that only grows, and knows how much of it is on disk. It is
// not safe for concurrent use.
//
// Behind its end there may be zeros, which [File.Append] has put there: where
// data only takes their place, the file keeps its length and its blocks, and
// fdatasync writes the data and nothing else. [File.Trim] cuts them off.
//
// After a failed write its tail is unknown, and it takes no more data until
// [File.Rewind] has cut that tail off: nothing is ever glued to a fragment.
// After a failed sync it takes none at all, and is never synced again.
type File struct {
	f    *os.File
	path string
	// size counts the bytes written, synced the part of them that is on disk.
	size, synced int64
	// length is that of the file: what follows size are zeros.
	length int64
	// cramped: zeros could not be written, so no more are.
	cramped bool
	// torn: a write failed, so what lies after size is unknown.
	torn bool
	// failed is the error of the sync that failed; nil if none has.
	failed error
}

// Create makes the file at path with data as its beginning, and replaces one
// that is there. The file and its name are on disk when it returns. After an
// error the path may lead to the new file, to the old one or to none.
//
// Syscalls: openat(O_EXCL, temp), fchmod, write, fsync, rename, open(dir), fsync(dir).
func Create(path string, data []byte, perm fs.FileMode) (*File, error) {
	f, err := replace(path, perm, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create file %s: %w", path, err)
	}
	size := int64(len(data))
	return &File{f: f, path: path, size: size, synced: size, length: size}, nil
}

// Path is the path that the file was created with.
func (f *File) Path() string { return f.path }

// Size is the number of bytes that are known to be on disk.
func (f *File) Size() int64 { return f.synced }

// Append adds data at the end; it is on disk when Append returns nil. On an
// error none or any part of it may be on disk: see [File.Rewind].
//
// Where the file has to grow for data, it grows by as many zeros more as ahead
// says. Where there is no space for them it goes on without any.
//
// Syscalls: pwrite, fdatasync; where the file grows, pwrites of zeros between.
func (f *File) Append(data []byte, ahead int64) error {
	grows := f.size+int64(len(data)) > f.length
	if err := f.Write(data); err != nil {
		return err
	}
	if grows && !f.cramped {
		if err := f.fill(f.size + ahead); err != nil {
			return err
		}
	}
	return f.Sync()
}

// zeros are written, and compared with, some at a time.
var zeros [64 << 10]byte

// fill makes the file up to length bytes long. If that fails it leaves no zeros
// at all, so that others get what space there is.
func (f *File) fill(length int64) error {
	for f.length < length {
		block := zeros[:min(int64(len(zeros)), length-f.length)]
		if _, err := f.f.WriteAt(block, f.length); err != nil {
			f.length, f.cramped = f.size, true
			if err := f.f.Truncate(f.size); err != nil {
				f.torn = true
				return fmt.Errorf("append to file: give back space: %w", err)
			}
			return nil
		}
		f.length += int64(len(block))
	}
	return nil
}

// Write adds data at the end. It is on disk after the next [File.Sync].
//
// Syscalls: pwrite.
func (f *File) Write(data []byte) error {
	if err := f.usable(); err != nil {
		return err
	}
	if _, err := f.f.WriteAt(data, f.size); err != nil {
		f.torn = true
		return fmt.Errorf("append to file: %w", err)
	}
	f.size += int64(len(data))
	f.length = max(f.length, f.size)
	return nil
}

// Sync puts on disk what was written. Its first failure is its last call of
// fdatasync: from then on it returns the same error.
//
// Syscalls: fdatasync.
func (f *File) Sync() error {
	if err := f.usable(); err != nil {
		return err
	}
	if err := datasync(f.f); err != nil {
		f.failed = fmt.Errorf("sync file %s: %w", f.path, err)
		return f.failed
	}
	f.synced = f.size
	return nil
}

// usable returns why the file takes no more data.
func (f *File) usable() error {
	if f.failed != nil {
		return f.failed
	}
	if f.torn {
		return fmt.Errorf("append to file %s: its tail is torn", f.path)
	}
	return nil
}

// Rewind cuts off all that is not known to be on disk. After nil the file
// takes data again. An error means that it never will: the cut failed, or a
// sync has failed before (then the cut is made, but nothing is known of it).
//
// Syscalls: ftruncate.
func (f *File) Rewind() error {
	if err := f.f.Truncate(f.synced); err != nil {
		f.torn = true
		return fmt.Errorf("rewind file: %w", err)
	}
	f.size, f.length, f.torn = f.synced, f.synced, false
	return f.failed
}

// Trim cuts off the zeros behind the end, if there are any; they are gone from
// the disk when it returns nil. All else must be on disk. A file that someone
// else has touched is left as it is: then the error is [ErrResized].
//
// Syscalls: fstat, pread, ftruncate, fsync.
func (f *File) Trim() error {
	if err := f.usable(); err != nil {
		return err
	}
	if err := f.whole(); err != nil {
		return err
	}
	if f.length == f.size {
		return nil
	}
	if err := f.f.Truncate(f.size); err != nil {
		return fmt.Errorf("trim file: %w", err)
	}
	f.length = f.size
	if err := f.f.Sync(); err != nil {
		f.failed = fmt.Errorf("sync file %s: %w", f.path, err)
	}
	return f.failed
}

// Check looks whether the path still leads to this file, whether the file is as
// long as was written, and whether nothing but zeros is behind its end. The
// error is [ErrMoved], [ErrResized] or that of a syscall, with what was seen.
//
// Syscalls: fstat, stat, fstat; pread if there are zeros.
func (f *File) Check() error {
	if err := sameFile(f.f, f.path); err != nil {
		return err
	}
	if f.torn {
		return nil
	}
	return f.whole()
}

// whole checks the length of the file and the zeros behind its end.
func (f *File) whole() error {
	info, err := f.f.Stat()
	if err != nil {
		return fmt.Errorf("check file: %w", err)
	}
	if info.Size() != f.length {
		return fmt.Errorf("check file %s: %w: it has %d bytes, %d were written", f.path, ErrResized, info.Size(), f.length)
	}
	var block [len(zeros)]byte
	for at := f.size; at < f.length; at += int64(len(block)) {
		behind := block[:min(int64(len(block)), f.length-at)]
		if _, err := f.f.ReadAt(behind, at); err != nil {
			return fmt.Errorf("check file: %w", err)
		}
		if !bytes.Equal(behind, zeros[:len(behind)]) {
			return fmt.Errorf("check file %s: %w: something is behind its end at %d", f.path, ErrResized, f.size)
		}
	}
	return nil
}

// sameFile checks that path leads to the open file f.
func sameFile(f *os.File, path string) error {
	open, err := f.Stat()
	if err != nil {
		return fmt.Errorf("check file: %w", err)
	}
	if sys, ok := open.Sys().(*syscall.Stat_t); ok && sys.Nlink == 0 {
		return fmt.Errorf("check file %s: %w: it has no name left", path, ErrMoved)
	}
	named, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("check file %s: %w: nothing is there", path, ErrMoved)
	}
	if err != nil {
		return fmt.Errorf("check file: %w", err)
	}
	if !os.SameFile(open, named) {
		return fmt.Errorf("check file %s: %w: another file is there", path, ErrMoved)
	}
	return nil
}

// Restore writes a copy of what is on disk of the file to its path, where
// nothing must be left. It brings back a file that was removed while it was
// open. The File itself stays with the old one: close it afterwards.
//
// Syscalls: pread, and those of [WriteFile].
func (f *File) Restore(perm fs.FileMode) error {
	if _, err := os.Lstat(f.path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore file %s: %w", f.path, fs.ErrExist)
	}
	copied, err := replace(f.path, perm, func(to *os.File) error {
		n, err := io.Copy(to, io.NewSectionReader(f.f, 0, f.synced))
		if err == nil && n < f.synced {
			err = fmt.Errorf("%w: %d of %d bytes are left", ErrResized, n, f.synced)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("restore file %s: %w", f.path, err)
	}
	_ = copied.Close()
	return nil
}

// Close closes the file without syncing it.
func (f *File) Close() error { return f.f.Close() }
