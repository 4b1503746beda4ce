package durable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/c1proxy/c1proxy/internal/durable"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

// noTemp checks that nothing but the files named is in dir.
func noTemp(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("%s holds %v, want %v", dir, got, names)
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, data := range []string{"first", "", "third"} {
		must(t, durable.WriteFile(path, []byte(data), 0o640))
		if got := content(t, path); got != data {
			t.Errorf("got %q, want %q", got, data)
		}
	}
	if info, _ := os.Stat(path); info.Mode() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	noTemp(t, dir, "f")
	// It cannot be renamed to the name of a directory: nothing must be left.
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
	if err := durable.WriteFile(filepath.Join(dir, "d"), nil, 0o600); err == nil || !strings.HasPrefix(err.Error(), "write file "+dir+"/d: ") {
		t.Errorf("over a directory: %v", err)
	}
	noTemp(t, dir, "d", "f")
	if err := durable.WriteFile(filepath.Join(dir, "no", "f"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
	t.Chdir(dir)
	must(t, durable.WriteFile("f", []byte("relative"), 0o600))
	if got := content(t, path); got != "relative" {
		t.Errorf("got %q", got)
	}
}

// TestWriteCache: as WriteFile, but it may be lost.
func TestWriteCache(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, data := range []string{"first", "second"} {
		must(t, durable.WriteCache(path, []byte(data), 0o640))
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 || content(t, path) != data {
			t.Errorf("got %q, %v, %v", content(t, path), info, err)
		}
	}
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
	if err := durable.WriteCache(filepath.Join(dir, "d"), nil, 0o600); err == nil || !strings.HasPrefix(err.Error(), "write file "+dir+"/d: ") {
		t.Errorf("over a directory: %v", err)
	}
	noTemp(t, dir, "d", "f")
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b", "c")
	for range 2 {
		must(t, durable.MkdirAll(deep, 0o700))
		if info, err := os.Stat(deep); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", info, err)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600))
	for _, path := range []string{filepath.Join(dir, "f"), filepath.Join(dir, "f", "g")} {
		if err := durable.MkdirAll(path, 0o700); err == nil {
			t.Errorf("%s was made", path)
		}
	}
	t.Chdir(dir)
	must(t, durable.MkdirAll("x/y", 0o700))
	must(t, durable.MkdirAll(".", 0o700))
}

func TestRenameTruncateRemoveTemp(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	must(t, os.WriteFile(a, []byte("content"), 0o600))
	must(t, durable.Rename(a, b))
	must(t, durable.Truncate(b, 4))
	if got := content(t, b); got != "cont" {
		t.Errorf("got %q", got)
	}
	if durable.Rename(a, b) == nil || durable.Truncate(a, 0) == nil {
		t.Error("no error for a file that is not there")
	}
	must(t, os.WriteFile(filepath.Join(dir, ".b.durable-77"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, ".hidden"), nil, 0o600))
	must(t, durable.RemoveTemp(dir))
	noTemp(t, dir, ".hidden", "b")
}

// TestShareRemove: a second name for the same bytes, on this file system and
// another, never over other bytes; and the end of both.
func TestShareRemove(t *testing.T) {
	here := t.TempDir()
	from := filepath.Join(here, "from")
	must(t, os.WriteFile(from, []byte("content"), 0o600))
	far, err := os.MkdirTemp("/dev/shm", "durable")
	if err != nil {
		far = t.TempDir()
	}
	defer os.RemoveAll(far)
	for _, dir := range []string{t.TempDir(), far} {
		to := filepath.Join(dir, "to")
		for range 2 { // a crash may be between the two
			must(t, durable.Share(t.Context(), from, to, 0o600))
			if got := content(t, to); got != "content" {
				t.Errorf("got %q", got)
			}
		}
		noTemp(t, dir, "to")
		must(t, os.Remove(to))
		must(t, os.WriteFile(to, []byte("other"), 0o600))
		if err := durable.Share(t.Context(), from, to, 0o600); !errors.Is(err, fs.ErrExist) || content(t, to) != "other" {
			t.Errorf("over another file: %v", err)
		}
		must(t, durable.Remove(to, to+"2"))
		noTemp(t, dir)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := durable.Share(ended, from, filepath.Join(far, "to"), 0o600); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	} else if err != nil {
		noTemp(t, far)
	}
	for _, to := range []string{filepath.Join(here, "no", "to"), filepath.Join(from, "below")} {
		if err := durable.Share(t.Context(), from, to, 0o600); err == nil {
			t.Errorf("%s was made", to)
		}
	}
	if err := durable.Share(t.Context(), from+"2", filepath.Join(here, "to"), 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no file: %v", err)
	}
	must(t, os.Mkdir(filepath.Join(here, "full"), 0o700))
	must(t, os.WriteFile(filepath.Join(here, "full", "f"), nil, 0o600))
	if durable.Remove(filepath.Join(here, "full")) == nil {
		t.Error("a directory with a file was removed")
	}
	must(t, durable.Remove())
}

// divert makes an open file lead to a device: /dev/full refuses writes,
// /dev/null takes them but no sync.
func divert(t *testing.T, path, device string) {
	t.Helper()
	to, err := unix.Open(device, unix.O_RDWR, 0)
	must(t, err)
	defer unix.Close(to)
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		if target, _ := os.Readlink(link); target == path {
			fd, _ := strconv.Atoi(filepath.Base(link))
			must(t, unix.Dup3(to, fd, unix.O_CLOEXEC))
			return
		}
	}
	t.Fatalf("%s is not open", path)
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(path, []byte("an older file"), 0o600))
	f, err := durable.Create(path, []byte("head\n"), 0o600)
	must(t, err)
	defer f.Close()
	check := func(want string) {
		t.Helper()
		must(t, f.Check())
		if got := content(t, path); got != want || f.Path() != path {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	check("head\n")
	must(t, f.Append([]byte("one\n"), 0))
	check("head\none\n")
	must(t, f.Write([]byte("not synced")))
	if f.Size() != 9 {
		t.Errorf("size %d, want what is on disk", f.Size())
	}
	must(t, f.Rewind())
	check("head\none\n")
	must(t, f.Append([]byte("two\n"), 0))
	check("head\none\ntwo\n")
	if _, err := durable.Create(filepath.Join(path, "below"), nil, 0o600); err == nil {
		t.Error("created below a file")
	}
}

// TestAhead: zeros stand behind the end, where data takes their place, and go
// when they are told to. Whatever else gets there is found, and left alone.
func TestAhead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := durable.Create(path, []byte("head "), 0o600)
	must(t, err)
	defer f.Close()
	check := func(text string, length int) {
		t.Helper()
		must(t, f.Check())
		if got := content(t, path); strings.TrimRight(got, "\x00") != text || len(got) != length || f.Size() != int64(len(text)) {
			t.Fatalf("got %q and %d bytes, want %q and %d; size %d", got[:len(text)], len(got), text, length, f.Size())
		}
	}
	const ahead = 200_000
	must(t, f.Append([]byte("one "), ahead))
	check("head one ", 9+ahead)
	must(t, f.Append([]byte("two "), ahead))
	check("head one two ", 9+ahead)
	must(t, f.Write([]byte("not synced")))
	must(t, f.Rewind())
	check("head one two ", 13)
	must(t, f.Append([]byte("three "), ahead))
	check("head one two three ", 19+ahead)
	for _, at := range []int64{19, 70_000, 19 + ahead - 1, 19 + ahead} {
		poke(t, path, at, "x")
		for name, err := range map[string]error{"check": f.Check(), "trim": f.Trim()} {
			if !errors.Is(err, durable.ErrResized) {
				t.Errorf("%s after a byte was written to %d: %v", name, at, err)
			}
		}
		if len(content(t, path)) < 19+ahead {
			t.Fatal("a file that was touched was cut")
		}
		poke(t, path, at, "\x00")
		must(t, os.Truncate(path, 19+ahead))
	}
	must(t, f.Trim())
	check("head one two three ", 19)
	must(t, f.Trim())
	must(t, f.Append(make([]byte, 300_000), ahead))
	must(t, f.Check())
	must(t, f.Trim())
	if got := content(t, path); len(got) != 300_019 {
		t.Errorf("%d bytes are left of 300019: data that is zeros was cut", len(got))
	}
	divert(t, path, "/dev/null")
	if err := f.Append(nil, 0); err == nil || f.Trim() == nil {
		t.Errorf("trimmed after a sync failed: %v", err)
	}
}

// poke writes text to an offset of a file.
func poke(t *testing.T, path string, at int64, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte(text), at)
	must(t, err)
	must(t, f.Close())
}

// TestNoSpaceAhead: where there is room for the data alone it is written, and
// zeros are not tried again.
func TestNoSpaceAhead(t *testing.T) {
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	path := filepath.Join(t.TempDir(), "f")
	f, err := durable.Create(path, nil, 0o600)
	must(t, err)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 100_000, Max: old.Max}))
	first := f.Append([]byte("data"), 200_000)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old))
	must(t, first)
	must(t, f.Check())
	if got := content(t, path); len(got) != 4 || f.Size() != 4 {
		t.Errorf("%d bytes, of which %d are data", len(got), f.Size())
	}
	must(t, f.Append(make([]byte, 100_000), 200_000))
	must(t, f.Check())
	if got := content(t, path); len(got) != 100_004 {
		t.Errorf("%d bytes after a failure, want no zeros", len(got))
	}
}

// TestSyncFailure is sticky: the file is never synced nor written again.
func TestSyncFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := durable.Create(path, nil, 0o600)
	must(t, err)
	must(t, f.Append([]byte("on disk"), 0))
	divert(t, path, "/dev/null")
	first := f.Append([]byte("lost"), 0)
	if !errors.Is(first, unix.EINVAL) || f.Size() != 7 {
		t.Fatalf("append: %v, size %d", first, f.Size())
	}
	divert(t, "/dev/null", path) // now a sync would succeed, and lie
	for name, err := range map[string]error{"append": f.Append(nil, 0), "write": f.Write(nil), "sync": f.Sync(), "rewind": f.Rewind()} {
		if !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s after a failed sync: %v", name, err)
		}
	}
}

// TestWriteFailure: nothing is glued to the fragment of a failed write.
func TestWriteFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := durable.Create(path, []byte("on disk"), 0o600)
	must(t, err)
	divert(t, path, "/dev/full")
	if err := f.Append([]byte("lost"), 0); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("append: %v", err)
	}
	if err := f.Rewind(); err == nil {
		t.Error("a device was truncated")
	}
	divert(t, "/dev/full", path)
	if err := f.Append([]byte("glued"), 0); err == nil || !strings.Contains(err.Error(), "torn") {
		t.Errorf("append before the rewind: %v", err)
	}
	must(t, f.Rewind())
	must(t, f.Append([]byte(", and more"), 0))
	if got := content(t, path); got != "on disk, and more" {
		t.Errorf("got %q", got)
	}
}

func TestCheckAndRestore(t *testing.T) {
	for name, c := range map[string]struct {
		touch   func(path string) error
		is      error
		restore bool // once the path is free
	}{
		"removed":   {func(path string) error { return os.Remove(path) }, durable.ErrMoved, true},
		"renamed":   {func(path string) error { return os.Rename(path, path+"2") }, durable.ErrMoved, true},
		"replaced":  {func(path string) error { return durable.WriteFile(path, []byte("other"), 0o600) }, durable.ErrMoved, true},
		"truncated": {func(path string) error { return os.Truncate(path, 3) }, durable.ErrResized, false},
		"extended":  {func(path string) error { return os.Truncate(path, 100) }, durable.ErrResized, true},
	} {
		path := filepath.Join(t.TempDir(), "f")
		f, err := durable.Create(path, []byte("head"), 0o600)
		must(t, err)
		must(t, f.Append([]byte(" and tail"), 0))
		must(t, f.Check())
		must(t, c.touch(path))
		if err := f.Check(); !errors.Is(err, c.is) {
			t.Errorf("%s: check: %v, want %v", name, err, c.is)
		}
		if _, err := os.Lstat(path); err == nil {
			if err := f.Restore(0o600); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s: restored over a file: %v", name, err)
			}
			must(t, os.Remove(path))
		}
		switch err := f.Restore(0o600); {
		case c.restore && (err != nil || content(t, path) != "head and tail"):
			t.Errorf("%s: restore: %v", name, err)
		case !c.restore && !errors.Is(err, durable.ErrResized):
			t.Errorf("%s: restore: %v", name, err)
		}
		must(t, f.Close())
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	lock, err := durable.LockDir(dir)
	must(t, err)
	_, err = durable.LockDir(dir)
	if !errors.Is(err, durable.ErrLocked) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), fmt.Sprintf("(process %d)", os.Getpid())) {
		t.Errorf("the second lock: %v", err)
	}
	must(t, lock.Check())
	must(t, os.Remove(filepath.Join(dir, "lock")))
	if err := lock.Check(); !errors.Is(err, durable.ErrMoved) {
		t.Errorf("check of a lock that guards nothing: %v", err)
	}
	must(t, lock.Close())
	lock, err = durable.LockDir(dir)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "lock"), []byte("garbage"), 0o600))
	if _, err := durable.LockDir(dir); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("with garbage in the file: %v", err)
	}
	must(t, lock.Close())
	if _, err := durable.LockDir(filepath.Join(dir, "no")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// TestSyscalls holds each operation to the syscalls that it claims, in their
// order, as strace sees them.
func TestSyscalls(t *testing.T) {
	const all = "openat,fchmod,write,pwrite64,fsync,fdatasync,rename,renameat,ftruncate,mkdirat"
	if dir := os.Getenv("DURABLE_TEST_DIR"); dir != "" {
		operate(t, dir)
		return
	}
	trace := filepath.Join(t.TempDir(), "trace")
	dir := t.TempDir()
	cmd := exec.Command("strace", "-f", "-qq", "-y", "-s", "16", "-o", trace, "-e", "trace="+all, os.Args[0], "-test.run=^TestSyscalls$")
	cmd.Env = append(os.Environ(), "DURABLE_TEST_DIR="+dir, "GORACE=atexit_sleep_ms=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "--- FAIL") {
			t.Fatalf("%s", out)
		}
		t.Skipf("strace cannot be used here: %v\n%s", err, out)
	}
	var got []string
	for line := range strings.Lines(content(t, trace)) {
		// Those on the test's directory, without thread, name and the reading of directories.
		_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
		name, rest, found := strings.Cut(strings.TrimSpace(line), "(")
		if !found || !strings.Contains(rest, dir) || strings.Contains(rest, "O_RDONLY") {
			continue
		}
		if strings.HasSuffix(strings.SplitN(rest, ">", 2)[0], "<"+dir) {
			name += "(dir)"
		}
		got = append(got, strings.TrimSuffix(strings.TrimSuffix(name, "at"), "64"))
	}
	want := []string{
		"mkdir", "fsync(dir)", // MkdirAll
		"fsync(dir)",                                               // MkdirAll again
		"open", "fchmod", "write", "fsync", "rename", "fsync(dir)", // WriteFile
		"open", "fchmod", "write", "fsync", "rename", "fsync(dir)", // Create
		"open", "fchmod", "write", "rename", // WriteCache
		"pwrite", "fdatasync", // Append
		"pwrite", "ftruncate", // Write, Rewind
		"rename", "fsync(dir)", // Rename
		"open", "ftruncate", "fsync", // Truncate
	}
	if !bytes.Equal([]byte(strings.Join(got, " ")), []byte(strings.Join(want, " "))) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// operate does each operation once.
func operate(t *testing.T, dir string) {
	path := filepath.Join(dir, "f")
	must(t, durable.MkdirAll(filepath.Join(dir, "d"), 0o700))
	must(t, durable.MkdirAll(filepath.Join(dir, "d"), 0o700))
	must(t, durable.WriteFile(path, []byte("x"), 0o600))
	f, err := durable.Create(path, []byte("x"), 0o600)
	must(t, err)
	must(t, durable.WriteCache(path+".cache", []byte("x"), 0o600))
	must(t, f.Append([]byte("x"), 0))
	must(t, f.Write([]byte("x")))
	must(t, f.Rewind())
	must(t, durable.Rename(path, path+"2"))
	must(t, durable.Truncate(path+"2", 1))
	must(t, f.Close())
}
