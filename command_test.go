package c1proxy_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What a user gets for a wrong command line or configuration.
func TestCommandLine(t *testing.T) {
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("listen: {adress: \"127.0.0.1:0\"}\naudit: {dir: /tmp/x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args []string
		exit int
		want string // on stdout or stderr
	}{
		{nil, 0, "Usage: proxy"},
		{[]string{"--help"}, 0, "Usage: proxy"},
		{[]string{"serve", "--help"}, 0, "--config"},
		{[]string{"serv"}, 2, "serve"},
		{[]string{"serve"}, 2, "--config"},
		{[]string{"serve", "--config", bad}, 2, bad + ":1:10: "},
		{[]string{"config", "check", bad}, 2, `did you mean`},
		{[]string{"config", "check", filepath.Join(dir, "none.yaml")}, 2, "none.yaml"},
		{[]string{"config", "schema"}, 0, `"$schema"`},
		{[]string{"key", "new", "--team", "payments", "--caller", "sync-bot"}, 0, "c1p_"},
		{[]string{"key", "new", "--team", "payments"}, 2, "--caller"},
		{[]string{"audit", "verify", filepath.Join(dir, "none")}, 1, "none"},
		{[]string{"audit", "query", filepath.Join(dir, "none")}, 1, "none"},
		{[]string{"audit", "query", dir, "--since", "soon"}, 2, "soon"},
		{[]string{"version"}, 0, "c1proxy"},
		{[]string{"sandbox", "--listen", "nowhere"}, 1, "nowhere"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		cmd := exec.Command(name, tt.args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.Env = append(os.Environ(), "CONDUCTORONE_CLIENT_ID=", "CONDUCTORONE_ACCESS_TOKEN=")
		_ = cmd.Run() // the exit code tells
		if got := cmd.ProcessState.ExitCode(); got != tt.exit || !strings.Contains(out.String(), tt.want) {
			t.Errorf("proxy %v: exit %d, want %d with %q:\n%s", tt.args, got, tt.exit, tt.want, out.String())
		}
	}
}
