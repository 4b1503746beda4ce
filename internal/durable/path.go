// Package durable holds file operations whose effect is on disk when they
// return. It is the only package of c1proxy that calls fsync and fdatasync, so
// that what the others claim can be checked by reading this one.
//
// Each operation lists the syscalls of its happy path. All rest on the same
// three facts of POSIX file systems:
//
//   - Data is durable once fdatasync of its file has returned without error,
//     and a name once fsync of its directory has.
//   - rename replaces a file as a whole: after a crash the name leads to the
//     old or the new file.
//   - An fsync that failed must not be tried again on the same file. Linux may
//     have dropped the dirty pages, so the second one succeeds and lies
//     (https://wiki.postgresql.org/wiki/Fsync_Errors).
//
// A disk that answers a flush before it has done it is beyond what software
// can see.
package durable

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tempMark is part of the name of every temporary file, and of no other.
const tempMark = ".durable-"

// WriteFile replaces or creates the file at path with data. After an error or
// a crash the path leads to the old file or to the new one, complete in either
// case. The directory must exist.
//
// Syscalls: openat(O_EXCL, temp), fchmod, write, fsync, close, rename, open(dir), fsync(dir).
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	f, err := replace(path, perm, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("write file %s: %w", path, err)
	}
	// The data is on disk: what close could still report is of no interest.
	_ = f.Close()
	return nil
}

// WriteCache replaces or creates the file at path with data that can be made
// again. Nothing is synced, so that no disk is kept busy for it: after a crash
// the path may lead to anything, and data must carry a checksum of its own. After
// an error it leads to what it led to before.
//
// Syscalls: openat(O_EXCL, temp), fchmod, write, rename, close.
func WriteCache(path string, data []byte, perm fs.FileMode) error {
	f, err := swap(path, perm, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("write file %s: %w", path, err)
	}
	_ = f.Close() // nothing was promised
	return nil
}

// replace writes a temporary file with fill, and gives it the name path. It
// returns the file still open, its offset at the end.
func replace(path string, perm fs.FileMode, fill func(*os.File) error) (*os.File, error) {
	f, err := swap(path, perm, func(f *os.File) error {
		if err := fill(f); err != nil {
			return err
		}
		return f.Sync()
	})
	if err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// swap is replace without a sync.
func swap(path string, perm fs.FileMode, fill func(*os.File) error) (f *os.File, err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err = os.CreateTemp(dir, "."+base+tempMark)
	if err != nil {
		return nil, err
	}
	temp := f.Name()
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(temp)
		}
	}()
	if err := f.Chmod(perm); err != nil {
		return nil, err
	}
	if err := fill(f); err != nil {
		return nil, err
	}
	return f, os.Rename(temp, path)
}

// MkdirAll creates the directory at path, and the parents that are missing.
// The name of path is on disk when it returns, also if the directory was
// there: a process that crashed may have made it a moment ago.
//
// Syscalls, for each directory that is missing: mkdir, open(parent),
// fsync(parent). If none is: open(parent), fsync(parent).
func MkdirAll(path string, perm fs.FileMode) error {
	path = filepath.Clean(path)
	var missing []string
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("make directory %s: %s is not a directory", path, dir)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return fmt.Errorf("make directory %s: %w", path, err)
		}
		missing = append(missing, dir)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := os.Mkdir(missing[i], perm); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make directory %s: %w", path, err)
		}
		if err := syncDir(filepath.Dir(missing[i])); err != nil {
			return fmt.Errorf("make directory %s: %w", path, err)
		}
	}
	if len(missing) > 0 {
		return nil
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("make directory %s: %w", path, err)
	}
	return nil
}

// Rename moves a file to another name in the same directory. A file that has
// the new name is replaced.
//
// Syscalls: rename, open(dir), fsync(dir).
func Rename(from, to string) error {
	err := os.Rename(from, to)
	if err == nil {
		err = syncDir(filepath.Dir(to))
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", from, to, err)
	}
	return nil
}

// Remove removes files of one directory, in their order. One that is not there
// is in order.
//
// Syscalls: unlinkat for each, open(dir), fsync(dir).
func Remove(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove file: %w", err)
		}
	}
	if len(paths) == 0 {
		return nil
	}
	if err := syncDir(filepath.Dir(paths[0])); err != nil {
		return fmt.Errorf("remove file %s: %w", paths[0], err)
	}
	return nil
}

// Share gives a file, all of which must be on disk, a second name in another
// directory: as a link, or as a copy where the file system or its border allows
// none. If to leads to the same bytes already, that is what is wanted; if it
// leads to others, the error is fs.ErrExist. ctx ends a copy that takes too
// long; then to leads nowhere.
//
// Syscalls: linkat, open(dir), fsync(dir); else openat(from), then those of
// [WriteFile] with many a write.
func Share(ctx context.Context, from, to string, perm fs.FileMode) error {
	err := os.Link(from, to)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrExist):
		err = sameBytes(ctx, from, to)
	default:
		err = copyFile(ctx, from, to, perm)
	}
	if err == nil {
		err = syncDir(filepath.Dir(to))
	}
	if err != nil {
		return fmt.Errorf("share file %s as %s: %w", from, to, err)
	}
	return nil
}

// copyFile copies a file to a name that is free.
func copyFile(ctx context.Context, from, to string, perm fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := replace(to, perm, func(f *os.File) error {
		_, err := io.Copy(f, &reader{ctx, in})
		return err
	})
	if err != nil {
		return err
	}
	_ = f.Close()
	return nil
}

// sameBytes returns fs.ErrExist if two files differ.
func sameBytes(ctx context.Context, from, to string) error {
	a, err := os.Open(from)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(to)
	if err != nil {
		return err
	}
	defer b.Close()
	first, second := sha256.New(), sha256.New()
	if _, err := io.Copy(first, &reader{ctx, a}); err != nil {
		return err
	}
	if _, err := io.Copy(second, &reader{ctx, b}); err != nil {
		return err
	}
	if !bytes.Equal(first.Sum(nil), second.Sum(nil)) {
		return fmt.Errorf("%w, with other bytes", fs.ErrExist)
	}
	return nil
}

// A reader reads until its context is done.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// Truncate cuts the file at path to size bytes. Everything before the cut is
// on disk when it returns, whoever wrote it and whether or not it was cut:
// this is how a file of a crashed process is made fit to build on.
//
// Syscalls: open(O_WRONLY), ftruncate, fsync, close.
func Truncate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("truncate %s: %w", path, err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("truncate %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("truncate %s: %w", path, err)
	}
	return nil
}

// RemoveTemp removes the temporary files that a crash has left in dir. The
// caller must be the only one who writes there, see [LockDir].
func RemoveTemp(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("remove temporary files: %w", err)
	}
	for _, entry := range entries {
		if name := entry.Name(); name[0] == '.' && strings.Contains(name, tempMark) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("remove temporary files: %w", err)
			}
		}
	}
	return nil
}

// syncDir puts the names in dir on disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
