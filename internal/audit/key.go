package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/c1proxy/c1proxy/internal/durable"
)

// A Key signs the heads of a log. It does not print its secret.
type Key struct {
	signer   note.Signer
	verifier string
}

// Origin is the name of the log that the key is for.
func (k *Key) Origin() string { return k.signer.Name() }

// VerifierKey is the public half, as "<origin>+<hash>+<key>". Keep it away
// from the machine that writes the log: [Verify] needs it.
func (k *Key) VerifierKey() string { return k.verifier }

// String is the public half too.
func (k *Key) String() string { return k.verifier }

// CreateKey makes a new key for the log named origin and writes it to path,
// with mode 0600, where no file may be. An empty origin becomes a random one.
// The key is on disk when CreateKey returns.
func CreateKey(path, origin string) (*Key, error) {
	if origin == "" {
		var unique [8]byte
		_, _ = rand.Read(unique[:]) // never fails
		origin = "c1proxy-" + hex.EncodeToString(unique[:])
	}
	secret, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, fmt.Errorf("create audit key: %w", err)
	}
	key, err := parseKey(secret)
	if err != nil {
		return nil, fmt.Errorf("create audit key for %q: %w", origin, err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("create audit key %s: %w", path, errors.Join(fs.ErrExist, err))
	}
	if err := durable.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("create audit key: %w", err)
	}
	return key, nil
}

// LoadKey reads the key at path: one line "PRIVATE+KEY+...". It refuses a file
// that others than its owner may read or write. The error is fs.ErrNotExist if
// there is no file.
func LoadKey(path string) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load audit key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("load audit key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("load audit key %s: its mode is %v: others may reach it (chmod 600)", path, info.Mode())
	}
	buf := make([]byte, 4096)
	n, err := f.Read(buf)
	if err != nil {
		return nil, fmt.Errorf("load audit key %s: %w", path, err)
	}
	key, err := parseKey(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		return nil, fmt.Errorf("load audit key %s: %w", path, err)
	}
	return key, nil
}

// LoadOrCreateKey loads the key at path, or makes it if there is no file. A
// key of another origin is refused; an empty origin stands for any.
func LoadOrCreateKey(path, origin string) (*Key, error) {
	key, err := LoadKey(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return CreateKey(path, origin)
	case err != nil:
		return nil, err
	case origin != "" && key.Origin() != origin:
		return nil, fmt.Errorf("load audit key %s: it is for the log %q, not for %q", path, key.Origin(), origin)
	}
	return key, nil
}

// parseKey reads a signer key of sumdb/note, and derives from it the verifier
// key, which the file does not hold. No error quotes the secret.
func parseKey(secret string) (*Key, error) {
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, errors.New("not a signer key, which begins with PRIVATE+KEY+")
	}
	// PRIVATE, KEY, the name, its hash and the key, whose base64 may have a plus.
	data, err := base64.StdEncoding.DecodeString(strings.SplitN(secret, "+", 5)[4])
	if err != nil || len(data) != 1+ed25519.SeedSize {
		return nil, errors.New("not an Ed25519 signer key")
	}
	public := ed25519.NewKeyFromSeed(data[1:]).Public().(ed25519.PublicKey)
	verifier, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, err
	}
	return &Key{signer: signer, verifier: verifier}, nil
}

// checkKeyPlace refuses a key inside the directory that it guards: who can
// rewrite the log could then sign it. Symbolic links are resolved.
func checkKeyPlace(path, dir string) error {
	inside, err := lies(path, dir)
	if errors.Is(err, fs.ErrNotExist) {
		// It is not there yet: then its directory must be.
		inside, err = lies(filepath.Dir(path), dir)
	}
	if err == nil && inside {
		err = fmt.Errorf("%s lies inside the audit directory %s", path, dir)
	}
	if err != nil {
		return fmt.Errorf("check audit key's place: %w", err)
	}
	return nil
}

// lies tells whether path is dir or lies inside it. Both must be there;
// symbolic links are resolved.
func lies(path, dir string) (inside bool, err error) {
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return false, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return false, err
	}
	below, err := filepath.Rel(dir, path)
	return err == nil && below != ".." && !strings.HasPrefix(below, ".."+string(filepath.Separator)), nil
}
