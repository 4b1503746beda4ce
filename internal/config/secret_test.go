package config_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
)

// canary is a secret, in the form of an API key, that nothing may show.
const canary = "c1p_CanaryCanaryCanaryCanaryCanaryCanaryCanaryCanary"

// holder has a Secret where fmt asks no method.
type holder struct {
	Public config.Secret
	hidden config.Secret
	below  []map[string]*config.Secret
}

func TestSecretIsHidden(t *testing.T) {
	secret := config.NewSecret(canary)
	if secret.Reveal() != canary || (config.Secret{}).Reveal() != "" {
		t.Fatal("the text is lost")
	}
	held := holder{secret, secret, []map[string]*config.Secret{{"k": &secret}}}
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "%U", "%p", "%10.3s", "%T"} {
		for _, value := range []any{secret, &secret, held, &held, []config.Secret{secret}, map[string]any{"k": held}, fmt.Errorf("x: %v", secret)} {
			shown = append(shown, fmt.Sprintf(verb, value))
		}
	}
	for _, value := range []any{secret, &secret, held.Public, struct{ S config.Secret }{secret}} {
		asJSON, _ := json.Marshal(value)
		asXML, _ := xml.Marshal(value)
		asYAML, _ := yaml.Marshal(value)
		shown = append(shown, string(asJSON), string(asXML), string(asYAML))
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "k", value)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "k", value, slog.Group("g", "k", value))
		shown = append(shown, log.String())
	}
	for _, text := range shown {
		if strings.Contains(text, "anary") || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", "anary")) {
			t.Errorf("shown: %s", text)
		}
	}
	want := `{"S":"[redacted]"}`
	if got, err := json.Marshal(struct{ S config.Secret }{secret}); string(got) != want || err != nil {
		t.Errorf("JSON: %s, %v", got, err)
	}
	for _, got := range []string{
		fmt.Sprint(secret), fmt.Sprintf("%#v", secret), fmt.Sprintf("%d", secret), fmt.Sprintf("%q", &secret),
		secret.String(), secret.GoString(), secret.LogValue().String(),
	} {
		if got != "[redacted]" {
			t.Errorf("got %s", got)
		}
	}
}

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		name, text, want string
		mode             os.FileMode
	}{
		{"plain", canary, canary, 0o600},
		{"read-only", canary, canary, 0o400},
		{"newline", canary + "\n", canary, 0o600},
		{"CRLF", canary + "\r\n", canary, 0o600},
		{"newlines", canary + "\n\n", canary + "\n", 0o600},
		{"blanks", " " + canary + " ", " " + canary + " ", 0o600},
		{"longest", strings.Repeat("x", 64<<10), strings.Repeat("x", 64<<10), 0o600},
	} {
		file := filepath.Join(dir, test.name)
		write(t, file, test.text, test.mode)
		got, err := config.ReadSecret(&configv1.Secret{File: file})
		if err != nil || got.Reveal() != test.want {
			t.Errorf("%s: %q, %v", test.name, got.Reveal(), err)
		}
	}

	t.Setenv("C1_TEST_SECRET", canary)
	if got, err := config.ReadSecret(&configv1.Secret{Env: "C1_TEST_SECRET"}); err != nil || got.Reveal() != canary {
		t.Errorf("environment: %q, %v", got.Reveal(), err)
	}
}

// A rotated secret is seen at the next reading, also when a link is flipped.
func TestReadSecretAgain(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "secret")
	for _, name := range []string{"first", "second"} {
		write(t, filepath.Join(dir, name), name+"\n", 0o600)
		if err := os.Symlink(name, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
		if got, err := config.ReadSecret(&configv1.Secret{File: link}); err != nil || got.Reveal() != name {
			t.Errorf("%s: %q, %v", name, got.Reveal(), err)
		}
	}
}

func TestReadSecretProblems(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write(t, file("empty"), "\n", 0o600)
	write(t, file("blank"), " \t\n", 0o600)
	write(t, file("group"), canary, 0o640)
	write(t, file("world"), canary, 0o604)
	write(t, file("writable"), canary, 0o620)
	write(t, file("long"), strings.Repeat("x", 64<<10+1), 0o600)
	if err := syscall.Mkfifo(file("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("C1_TEST_EMPTY", "")
	t.Setenv("C1_TEST_BLANK", " ")

	for _, test := range []struct {
		ref  *configv1.Secret
		want string
	}{
		{nil, "read secret: no file or environment variable is named"},
		{&configv1.Secret{}, "read secret: no file or environment variable is named"},
		{&configv1.Secret{Env: "C1_TEST_UNSET"}, "read secret: environment variable C1_TEST_UNSET is unset or empty"},
		{&configv1.Secret{Env: "C1_TEST_EMPTY"}, "read secret: environment variable C1_TEST_EMPTY is unset or empty"},
		{&configv1.Secret{Env: "C1_TEST_BLANK"}, "read secret: C1_TEST_BLANK is empty"},
		{&configv1.Secret{File: file("none")}, "read secret: open " + file("none") + ": no such file or directory"},
		{&configv1.Secret{File: file("empty")}, "read secret: " + file("empty") + " is empty"},
		{&configv1.Secret{File: file("blank")}, "read secret: " + file("blank") + " is empty"},
		{&configv1.Secret{File: file("group")}, "read secret: " + file("group") + ": others can read it (mode 0640): chmod 600"},
		{&configv1.Secret{File: file("world")}, "read secret: " + file("world") + ": others can read it (mode 0604): chmod 600"},
		{&configv1.Secret{File: file("writable")}, "read secret: " + file("writable") + ": others can read it (mode 0620): chmod 600"},
		{&configv1.Secret{File: file("long")}, "read secret: " + file("long") + ": it is longer than 64 KiB"},
		{&configv1.Secret{File: file("pipe")}, "read secret: " + file("pipe") + ": it is not a regular file"},
		{&configv1.Secret{File: dir}, "read secret: " + dir + ": it is not a regular file"},
	} {
		got, err := config.ReadSecret(test.ref)
		if err == nil || err.Error() != test.want || got.Reveal() != "" {
			t.Errorf("%v: %v", test.ref, err)
		}
	}

	// Only the mode matters less for what a platform writes.
	if got, err := config.ReadSubjectToken(&configv1.Secret{File: file("world")}); err != nil || got.Reveal() != canary {
		t.Errorf("subject token: %v", err)
	}
	if _, err := config.ReadSubjectToken(&configv1.Secret{File: file("empty")}); err == nil {
		t.Error("an empty subject token was read")
	}
}

// Whose file it is decides who else may read it.
func TestCheckMode(t *testing.T) {
	const root, user, other = 0, 1000, 2000
	for _, test := range []struct {
		owner, user uint32
		allowed     fs.FileMode // and all that grant less
	}{
		{user, user, 0o700},
		{root, root, 0o700},
		{root, user, 0o740},
		{other, user, 0},
		{user, root, 0},
	} {
		for mode := range fs.FileMode(0o1000) {
			err := config.CheckMode(mode, test.owner, test.user)
			if ok := test.allowed != 0 && mode&^test.allowed == 0; ok != (err == nil) {
				t.Errorf("mode %04o of user %d for user %d: %v", mode, test.owner, test.user, err)
			}
		}
	}
}

func TestReadSecretOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	file := filepath.Join(t.TempDir(), "secret")
	write(t, file, canary, 0o600)
	if err := os.Chown(file, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	want := "read secret: " + file + ": user 12345 owns it: it must be this process's user (0) or root"
	if _, err := config.ReadSecret(&configv1.Secret{File: file}); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
