package redact

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/c1proxy/c1proxy/internal/durable"
)

// Keys hash values for the records, so that one value can be looked for without
// standing there, and cannot be guessed without the key. The newest key hashes;
// older ones only find what they have hashed. Keys print no secret. They are
// immutable and safe for concurrent use.
type Keys struct{ keys []key }

type key struct {
	id     string // the first 8 hex digits of SHA-256 of the secret
	secret []byte // 32 bytes
}

// prefix is what every hash begins with.
const prefix = "hmac-sha256:"

// maxKeys bounds a file: a rotation a month for eight years.
const maxKeys = 100

// Hash returns "hmac-sha256:<key's id>:<64 hex digits>" of a value: HMAC
// (RFC 2104) with the newest key.
func (k *Keys) Hash(value string) string { return k.keys[0].hash(value) }

// Forms returns what each key makes of a value, the newest key's first.
func (k *Keys) Forms(value string) []string {
	forms := make([]string, len(k.keys))
	for i, key := range k.keys {
		forms[i] = key.hash(value)
	}
	return forms
}

// IDs names the keys, the newest first.
func (k *Keys) IDs() []string {
	ids := make([]string, len(k.keys))
	for i, key := range k.keys {
		ids[i] = key.id
	}
	return ids
}

// String names the keys.
func (k *Keys) String() string { return strings.Join(k.IDs(), ",") }

// GoString names the keys.
func (k *Keys) GoString() string { return k.String() }

func (k key) hash(value string) string {
	mac := hmac.New(sha256.New, k.secret)
	mac.Write([]byte(value))
	return prefix + k.id + ":" + hex.EncodeToString(mac.Sum(nil))
}

func newKey(secret []byte) key {
	sum := sha256.Sum256(secret)
	return key{hex.EncodeToString(sum[:4]), secret}
}

// LoadKeys reads the file at path: a line for each key, base64 of 32 bytes, the
// newest first. It refuses a file that others than its owner may reach. The
// error is fs.ErrNotExist if there is no file, and never shows a key.
func LoadKeys(path string) (*Keys, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load audit hash keys: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("load audit hash keys %s: its mode is %v: others may reach it (chmod 600)", path, info.Mode())
	}
	if info.Size() > maxKeys*64 {
		return nil, fmt.Errorf("load audit hash keys %s: it has more than %d keys", path, maxKeys)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load audit hash keys: %w", err)
	}
	k := &Keys{}
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		secret, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(line))
		if err != nil || len(secret) != sha256.Size {
			return nil, fmt.Errorf("load audit hash keys %s:%d: it is not base64 of %d bytes", path, i+1, sha256.Size)
		}
		k.keys = append(k.keys, newKey(secret))
	}
	return k, nil
}

// LoadOrCreateKeys loads the keys at path, or makes a first one, with mode
// 0600, if there is no file.
func LoadOrCreateKeys(path string) (*Keys, error) {
	k, err := LoadKeys(path)
	if errors.Is(err, fs.ErrNotExist) {
		return (&Keys{}).rotate(path)
	}
	return k, err
}

// RotateKeys puts a new key before those at path, which must exist, and returns
// them all. The gateway hashes with it from its next start on.
func RotateKeys(path string) (*Keys, error) {
	k, err := LoadKeys(path)
	if err != nil {
		return nil, err
	}
	if len(k.keys) == maxKeys {
		return nil, fmt.Errorf("rotate audit hash keys %s: it has %d keys already: remove the last lines, whose hashes then cannot be looked up any more", path, maxKeys)
	}
	return k.rotate(path)
}

func (k *Keys) rotate(path string) (*Keys, error) {
	secret := make([]byte, sha256.Size)
	rand.Read(secret) // never fails: crypto/rand
	all := &Keys{keys: append([]key{newKey(secret)}, k.keys...)}
	var lines strings.Builder
	for _, key := range all.keys {
		lines.WriteString(base64.StdEncoding.EncodeToString(key.secret) + "\n")
	}
	if err := durable.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		return nil, fmt.Errorf("write audit hash keys: %w", err)
	}
	return all, nil
}
