package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A bill of materials is refused for whatever the binary does not say of
// itself. The binary is this test.
func TestBill(t *testing.T) {
	t.Chdir("../..")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	good, err := billOf(t.Context(), self)
	if err != nil {
		t.Fatal(err)
	}
	again, err := billOf(t.Context(), self)
	if err != nil || !bytes.Equal(again, good) {
		t.Errorf("a second bill of the same binary differs: %v", err)
	}
	var bill struct {
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(good, &bill); err != nil || len(bill.Components) < 3 {
		t.Fatalf("%d components: %v", len(bill.Components), err)
	}
	kong := `"name": "github.com/alecthomas/kong"`
	for what, change := range map[string]func(string) string{
		"another name":    func(s string) string { return strings.Replace(s, kong, `"name": "github.com/alecthomas/king"`, 1) },
		"another version": func(s string) string { return strings.Replace(s, `"version": "go1.`, `"version": "go2.`, 1) },
		"another hash": func(s string) string {
			at := strings.Index(s, `"cdx:gomod:binary:hash:SHA-256"`) + len(`"cdx:gomod:binary:hash:SHA-256",`)
			return s[:at] + strings.Replace(s[at:], `"value": "`, `"value": "0`, 1)
		},
		"one more": func(s string) string {
			return strings.Replace(s, `"components": [`, `"components": [ {"name": "x", "version": "v1.0.0"},`, 1)
		},
		"none": func(s string) string { return strings.Replace(s, `"components": [`, `"others": [`, 1) },
	} {
		bad := change(string(good))
		if bad == string(good) {
			t.Errorf("%s: nothing was changed", what)
		}
		if err := checkBill([]byte(bad), self); err == nil {
			t.Errorf("%s is not found", what)
		}
	}
}

// The image builds what a release builds.
func TestContainerfileFlags(t *testing.T) {
	t.Chdir("../..")
	data, err := os.ReadFile("deploy/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(data), "'", "")
	if want := "CGO_ENABLED=0 GOFLAGS= go build " + strings.Join(releaseFlags, " "); !strings.Contains(text, want) {
		t.Errorf("deploy/Containerfile has no %s", want)
	}
}

// database writes a database of known vulnerabilities with one entry: a
// function of golang.org/x/sys/unix.
func database(t *testing.T, symbol string) string {
	t.Helper()
	dir := t.TempDir()
	const id, module, modified = "GO-2026-0001", "golang.org/x/sys", "2026-01-01T00:00:00Z"
	type object = map[string]any
	entry := object{"id": id, "modified": modified}
	for name, value := range map[string]any{
		"index/db.json":      object{"modified": modified},
		"index/modules.json": []any{object{"path": module, "vulns": []any{entry}}},
		"index/vulns.json":   []any{entry},
		"ID/" + id + ".json": object{"schema_version": "1.3.1", "id": id, "modified": modified, "published": modified, "summary": "made for a test",
			"affected": []any{object{
				"package":            object{"name": module, "ecosystem": "Go"},
				"ranges":             []any{object{"type": "SEMVER", "events": []any{object{"introduced": "0"}}}},
				"ecosystem_specific": object{"imports": []any{object{"path": module + "/unix", "symbols": []any{symbol}}}}}},
			"database_specific": object{"url": "https://pkg.go.dev/vuln/" + id}},
	} {
		data, err := json.Marshal(value)
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), data, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return "file://" + dir
}

// vuln fails for a vulnerability that the code reaches, for no other, and is
// skipped where there is no database.
func TestVuln(t *testing.T) {
	t.Chdir("../..")
	for symbol, want := range map[string]string{"Flock": "GO-2026-0001", "Reboot": ""} {
		err := (&vulnVerb{DB: database(t, symbol), Packages: []string{"./internal/durable"}}).check(t.Context())
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("a vulnerable unix.%s: %v; want %q", symbol, err, want)
		}
	}
	var skip skipped
	if err := (&vulnVerb{DB: "http://127.0.0.1:1"}).check(t.Context()); !errors.As(err, &skip) {
		t.Errorf("no database: %v", err)
	}
}

// In CI a lint may be skipped only if it is on the list.
func TestSkippedInCI(t *testing.T) {
	t.Setenv("CI", "true")
	if err := skippedInCI("buf breaking"); err == nil {
		t.Error("a lint that is not on the list may be skipped")
	}
	if err := skippedInCI("vuln"); err != nil {
		t.Error(err)
	}
	t.Setenv("CI", "")
	if err := skippedInCI("buf breaking"); err != nil {
		t.Error(err)
	}
}
