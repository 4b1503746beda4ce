package c1proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// explained is a configuration whose secrets do not exist.
const explained = `tenants:
  - name: acme
    url: https://acme.conductor.one
    credential: {client_id: a-b-1@acme.conductor.one/spc, client_secret: {file: /nonexistent}}
teams:
  - name: payments
    tenant: acme
    callers: [{name: sync-bot}, {name: other}]
    allow:
      - {methods: ["c1.**/*"], class: read}
      - name: own-apps
        methods: ["c1.api.app.v1.ConnectorService/Delete"]
        condition: 'request.app_id == "a" || claims.level > 3'
        require_reason: true
      - {methods: ["c1.api.app.v1.ConnectorService/ForceSync"], condition: caller.subject == "s-1", shadow: true}
  - name: readers
    tenant: acme
    callers: [{name: other}]
audit: {dir: /nonexistent/audit}
`

// proxy explain and config check say what the gateway would, without a gateway.
func TestExplainCommand(t *testing.T) {
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "c1proxy.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(stdin string, args ...string) (exit int, out, stderr string) {
		cmd := exec.Command(name, args...)
		var o, e bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &o, &e
		_ = cmd.Run() // the exit code tells
		return cmd.ProcessState.ExitCode(), o.String(), e.String()
	}
	write(explained)
	request := filepath.Join(t.TempDir(), "request.json")
	if err := os.WriteFile(request, []byte(`{"appId":"a"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	const remove, force, list = "c1.api.app.v1.ConnectorService/Delete", "c1.api.app.v1.ConnectorService/ForceSync", "c1.api.app.v1.ConnectorService/List"
	for _, tt := range []struct {
		args  []string
		stdin string
		exit  int
		want  string
	}{
		{[]string{list, "--caller", "sync-bot"}, "", 0, "allowed by payments/allow/0"},
		{[]string{list, "--caller", "readers/other"}, "", 1, "refused: METHOD_DENIED"},
		{[]string{remove, "--caller", "sync-bot", "--request", `{"app_id":"a"}`}, "", 1, "refused: REASON_REQUIRED"},
		{[]string{remove, "--caller", "sync-bot", "--reason", "why"}, "", 2, "depends on the request"},
		{[]string{remove, "--caller", "sync-bot", "--reason", "why", "--request", "@" + request}, "", 0, "> payments/allow/own-apps  allows it"},
		{[]string{remove, "--caller", "sync-bot", "--reason", "why", "--request", "-"}, `{"appId":"b"}`, 1, "no such key: level"},
		{[]string{"/" + remove, "--caller", "payments/sync-bot", "--reason", "why", "--request", `{}`, "--claims", `{"level":4}`}, "", 0, "allowed by payments/allow/own-apps"},
		{[]string{remove, "--caller", "sync-bot", "--reason", "why", "--request", `{}`, "--claims", `{"level":3}`}, "", 1, "its condition is false"},
		{[]string{force, "--caller", "sync-bot", "--request", `{}`}, "", 0, "in shadow: it would be refused"},
		{[]string{force, "--caller", "sync-bot", "--claims", `{"sub":"s-1"}`}, "", 0, "allowed by payments/allow/2 (policy"},
		{[]string{force, "--caller", "sync-bot", "--subject", "s-1"}, "", 0, "allowed by payments/allow/2 (policy"},
		{[]string{list, "--caller", "other"}, "", 2, "several are named \"other\"; write one of payments/other, readers/other"},
		{[]string{list, "--caller", "nobody"}, "", 2, `none is named "nobody"`},
		{[]string{"c1.api.app.v1.ConnectorService/Lst", "--caller", "sync-bot"}, "", 2, `did you mean "` + list + `"?`},
		{[]string{"c1.**/*", "--caller", "sync-bot"}, "", 2, "it is a pattern"},
		{[]string{remove, "--caller", "sync-bot", "--request", `{"newField":1}`}, "", 2, "newField: unknown field"},
		{[]string{remove, "--caller", "sync-bot", "--claims", `[]`}, "", 2, "no JSON object"},
		{[]string{remove, "--caller", "sync-bot", "--request", "@/nonexistent"}, "", 2, "no such file"},
	} {
		exit, out, stderr := run(tt.stdin, append([]string{"explain", "-c", file}, tt.args...)...)
		if exit != tt.exit || !strings.Contains(out+stderr, tt.want) {
			t.Errorf("%v: exit %d, want %d with %q:\n%s%s", tt.args, exit, tt.exit, tt.want, out, stderr)
		}
		if exit = explainedJSON(t, run, append([]string{"explain", "-c", file, "--json"}, tt.args...), tt.stdin); exit != tt.exit {
			t.Errorf("%v --json: exit %d, want %d", tt.args, exit, tt.exit)
		}
	}
	// A typo has its place.
	write(strings.Replace(explained, "request.app_id", "request.appid", 1))
	want := fmt.Sprintf("%s:13:20: teams[0].allow[1].condition: does not fit the request of %s: 1:8: undefined field 'appid'; did you mean \"app_id\"?\n", file, remove)
	if exit, out, stderr := run("", "config", "check", file); exit != 2 || stderr != want {
		t.Errorf("exit %d, %s%s, want %s", exit, out, stderr, want)
	}
}

// explainedJSON runs a command and holds that its JSON agrees with its exit code.
func explainedJSON(t *testing.T, run func(string, ...string) (int, string, string), args []string, stdin string) int {
	t.Helper()
	exit, out, _ := run(stdin, args...)
	var said struct {
		Allowed, Pending bool
		Rule, Reason     string
		Rules            []struct{ Rule, Outcome string }
	}
	if out == "" && exit == 2 {
		return exit
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		t.Errorf("%v: %v in %s", args, err, out)
	}
	if said.Allowed != (exit == 0) || said.Pending != (exit == 2) || (said.Reason != "") != (exit == 1) || (said.Rule != "") != (exit == 0) {
		t.Errorf("%v: exit %d and %s", args, exit, out)
	}
	return exit
}
