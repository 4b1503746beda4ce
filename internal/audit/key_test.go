package audit_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// TestKey: made once, loaded ever after, and its public half is the one that
// verifies what it signs.
func TestKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := audit.LoadKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	made, err := audit.LoadOrCreateKey(path, "example.com/log")
	must(t, err)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	loaded, err := audit.LoadOrCreateKey(path, "example.com/log")
	if err != nil || loaded.VerifierKey() != made.VerifierKey() || loaded.Origin() != "example.com/log" {
		t.Errorf("loaded %v, made %v: %v", loaded, made, err)
	}
	if _, err := note.NewVerifier(made.VerifierKey()); err != nil {
		t.Error(err)
	}
	secret, err := os.ReadFile(path)
	must(t, err)
	for _, printed := range []string{fmt.Sprint(made), fmt.Sprintf("%v %+v %s", made, made, made)} {
		if strings.Contains(printed, strings.TrimSpace(string(secret))[40:]) || strings.Contains(printed, "PRIVATE") {
			t.Errorf("the secret prints: %s", printed)
		}
	}
	if _, err := audit.LoadOrCreateKey(path, "another.example.com"); err == nil {
		t.Error("a key of another origin was accepted")
	}
	if _, err := audit.CreateKey(path, "x"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over a key: %v", err)
	}
	random, err := audit.CreateKey(path+"2", "")
	if err != nil || !strings.HasPrefix(random.Origin(), "c1proxy-") {
		t.Errorf("%v, %v", random, err)
	}
}

// TestKeyFiles: what is refused, and no error quotes the secret.
func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	_, err := audit.CreateKey(path, "example.com/log")
	must(t, err)
	secret, err := os.ReadFile(path)
	must(t, err)
	for name, change := range map[string]func() error{
		"group may read":  func() error { return os.Chmod(path, 0o640) },
		"world may write": func() error { return os.Chmod(path, 0o602) },
		"empty":           func() error { return os.WriteFile(path, nil, 0o600) },
		"cut":             func() error { return os.WriteFile(path, secret[:len(secret)-5], 0o600) },
		"public":          func() error { return os.WriteFile(path, []byte("example.com+1234+abcd"), 0o600) },
		"two lines":       func() error { return os.WriteFile(path, append(secret, secret...), 0o600) },
		"directory":       func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		_ = os.RemoveAll(path)
		must(t, os.WriteFile(path, secret, 0o600))
		must(t, change())
		if _, err := audit.LoadKey(path); err == nil || strings.Contains(err.Error(), string(secret[40:60])) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeyPlace: the key must not lie in the log's directory, by whatever way
// it gets there; and a log must not get a second key.
func TestKeyPlace(t *testing.T) {
	base := fastDir(t)
	dir := filepath.Join(base, "log")
	must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o700))
	must(t, os.Symlink(dir, filepath.Join(base, "link")))
	must(t, os.Symlink(filepath.Join(dir, "key"), filepath.Join(base, "linked-key")))
	_, err := audit.CreateKey(filepath.Join(dir, "key"), "x")
	must(t, err)
	for _, c := range []struct{ key, dir string }{
		{filepath.Join(dir, "key"), dir},
		{filepath.Join(dir, "new"), dir},
		{filepath.Join(dir, "sub", "key"), dir},
		{filepath.Join(base, "link", "new"), dir},
		{filepath.Join(base, "linked-key"), dir},
		{filepath.Join(dir, "key"), filepath.Join(base, "link")},
		{filepath.Join(base, "x", "..", "log", "key"), dir},
	} {
		l, err := audit.Open(t.Context(), audit.Config{Dir: c.dir, KeyFile: c.key})
		if err == nil || !strings.Contains(err.Error(), "inside the audit directory") && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("key %s in %s: %v", c.key, c.dir, err)
		}
		if l != nil {
			_ = l.Close()
		}
	}
	k := newKit(t)
	k.close()
	must(t, os.Rename(k.cfg.KeyFile, k.cfg.KeyFile+".moved"))
	if _, err := audit.Open(t.Context(), k.cfg); err == nil || !strings.Contains(err.Error(), "has a log already") {
		t.Errorf("a log without its key: %v", err)
	}
	if _, err := os.Stat(k.cfg.KeyFile); err == nil {
		t.Error("a second key was made")
	}
	_, err = audit.CreateKey(k.cfg.KeyFile, k.cfg.Origin)
	must(t, err)
	if _, err := audit.Open(t.Context(), k.cfg); err == nil || !strings.Contains(err.Error(), "not signed by the key") {
		t.Errorf("a log with another key: %v", err)
	}
}
