package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/c1proxy/c1proxy/internal/config"
)

// A change is told once, when it has been seen twice; what is half written or
// gone for a moment is not told.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c1proxy.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	remove := func() {
		t.Helper()
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	link := func(text string) { // a file of the same size and time, in its place by a link
		t.Helper()
		target := filepath.Join(dir, text)
		if err := os.WriteFile(target, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(dir, "next")
		if err := os.Symlink(target, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	data, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	w := config.NewWatch(file, data)
	look := func(step, want string) {
		t.Helper()
		data, changed, err := w.Look()
		got := "same"
		switch {
		case changed && err != nil:
			got = "error"
		case changed:
			got = string(data)
		case err != nil || data != nil:
			t.Errorf("%s: %q, %v, and no change", step, data, err)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", step, got, want)
		}
	}
	look("nothing", "same")
	write("tw")
	look("half", "same")
	write("two")
	look("whole, first seen", "same")
	look("whole", "two")
	look("told", "same")
	remove()
	look("gone for a moment", "same")
	write("two")
	look("back", "same")
	look("back, seen twice", "same")
	remove()
	look("gone", "same")
	look("gone for good", "error")
	look("told", "same")
	link("red")
	look("linked", "same")
	look("linked, seen twice", "red")
	link("tan")
	look("linked anew", "same")
	look("linked anew, seen twice", "tan")
	write("now")
	if data, err := w.Load(); err != nil || string(data) != "now" {
		t.Errorf("load: %q, %v", data, err)
	}
	look("loaded", "same")
	look("loaded, seen twice", "same")
}
