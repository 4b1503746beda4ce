package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

// maxSecretSize is the longest secret, in bytes.
const maxSecretSize = 64 << 10

// redactedText is what every way to print a Secret gives.
const redactedText = "[redacted]"

// A Secret is a text that is printed, logged and marshalled as "[redacted]".
// The zero value is empty. Secrets cannot be compared with ==.
type Secret struct {
	// A function, because fmt prints the unexported fields of a struct that
	// holds a Secret without asking the Secret how.
	reveal func() string
}

// NewSecret hides a text.
func NewSecret(text string) Secret { return Secret{func() string { return text }} }

// Reveal is the text itself.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// String hides the text, as do all the methods below.
func (s Secret) String() string { return redactedText }

// GoString is for %#v.
func (s Secret) GoString() string { return redactedText }

// Format is for every other verb of fmt.
func (s Secret) Format(state fmt.State, _ rune) { io.WriteString(state, redactedText) }

// MarshalText is for encoders of all kinds.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redactedText), nil }

// MarshalJSON is for encoding/json.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redactedText + `"`), nil }

// LogValue is for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redactedText) }

// ReadSecret reads the secret that a reference names, now. One newline at the
// end of a file is not part of it. A file must be a regular one that only this
// process's user can read, or, if it is root's, its group too (as PostgreSQL
// asks of its keys; a Kubernetes volume with fsGroup is such a file). An unset
// variable and an empty secret are errors. Errors name the reference, never
// what it holds.
func ReadSecret(ref *configv1.Secret) (Secret, error) { return readSecret(ref, private) }

// ReadSubjectToken is ReadSecret without regard to who else can read the file:
// a platform writes its short-lived tokens with the modes that it chooses.
func ReadSubjectToken(ref *configv1.Secret) (Secret, error) {
	return readSecret(ref, func(fs.FileInfo) error { return nil })
}

func readSecret(ref *configv1.Secret, check func(fs.FileInfo) error) (Secret, error) {
	var text string
	switch {
	case ref.GetEnv() != "":
		text = os.Getenv(ref.GetEnv())
		if text == "" {
			return Secret{}, fmt.Errorf("read secret: environment variable %s is unset or empty", ref.GetEnv())
		}
	case ref.GetFile() != "":
		var err error
		if text, err = readSecretFile(ref.GetFile(), check); err != nil {
			return Secret{}, err
		}
	default:
		return Secret{}, errors.New("read secret: no file or environment variable is named")
	}
	if strings.TrimSpace(text) == "" {
		return Secret{}, fmt.Errorf("read secret: %s%s is empty", ref.GetFile(), ref.GetEnv())
	}
	return NewSecret(text), nil
}

// readSecretFile opens without waiting, so that a pipe is refused, not waited
// for, and checks what it opened, so that no other file can take its place.
func readSecretFile(name string, check func(fs.FileInfo) error) (string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err == nil {
		err = check(info)
	}
	if err != nil {
		return "", fmt.Errorf("read secret: %s: %w", name, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecretSize+1))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if len(data) > maxSecretSize {
		return "", fmt.Errorf("read secret: %s: it is longer than %d KiB", name, maxSecretSize>>10)
	}
	text, _ := strings.CutSuffix(string(data), "\n")
	text, _ = strings.CutSuffix(text, "\r")
	return text, nil
}

// private refuses a file that others than this process can read or write.
func private(info fs.FileInfo) error {
	return checkMode(info.Mode().Perm(), info.Sys().(*syscall.Stat_t).Uid, uint32(os.Geteuid()))
}

// checkMode refuses the mode and owner of a file for a process of a user.
func checkMode(mode fs.FileMode, owner, user uint32) error {
	switch {
	case owner == user && mode&0o077 != 0:
		return fmt.Errorf("others can read it (mode %04o): chmod 600", mode)
	case owner == 0 && mode&0o037 != 0:
		return fmt.Errorf("others can read it (mode %04o): chmod 640 or less", mode)
	case owner != user && owner != 0:
		return fmt.Errorf("user %d owns it: it must be this process's user (%d) or root", owner, user)
	}
	return nil
}
