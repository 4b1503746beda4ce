package c1proxy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the commands that ask a running gateway print, and how they exit, with a
// caller's key and with an operator's, which never stand on the command line.
func TestAskCommands(t *testing.T) {
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	edge := newEdge(t)
	g := start(t, withOperators, func(s *setup) {
		operators := s.facts
		s.facts = func(g *gateway, text string) string {
			text = strings.Replace(edge.configure(text), "\n      - methods: [\"c1.api.app.v1.ConnectorService/*\"]", strings.ReplaceAll(conditional, "APP", g.facts.AppID), 1)
			return strings.Replace(operators(g, text), "  - name: slow\n", "    limits: {team: {rate: 1, per: 1h, burst: 40, max_in_flight: 3}}\n  - name: slow\n", 1)
		}
	})
	dir := t.TempDir()
	key := func(caller string) string {
		file := filepath.Join(dir, caller)
		if err := os.WriteFile(file, []byte(g.keys[caller]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	caller := []string{"--address", strings.Replace(g.proxy.Addr().String(), "127", "https://127", 1), "--ca-file", edge.clientCA, "--key-file", key("sync-bot")}
	operator := func(name string) []string {
		return []string{"--address", "http://" + g.proxy.AdminAddr().String(), "--key-file", key(name)}
	}
	other := key("reader")
	if err := os.Chmod(other, 0o644); err != nil {
		t.Fatal(err)
	}
	const list = connectorService + "List"
	for _, tt := range []struct {
		args []string
		env  string
		exit int
		want string // fields that are one space apart, on stdout or stderr
	}{
		{append([]string{"whoami"}, caller...), "", 0, "payments/allow/syncs c1.api.app.v1.ConnectorService/ForceSync read and write, with a reason"},
		{append([]string{"whoami", "--json"}, caller...), "", 0, `"caller":"sync-bot"`},
		{append([]string{"whoami"}, operator("on-call")...), "", 0, "on-call, a key of the admin listener; scopes: explain"},
		{append([]string{"whoami"}, caller[:4]...), g.keys["reader"], 0, "readers/reader, whose calls go to the tenant acme"},
		{append([]string{"whoami"}, caller[:4]...), "", 2, "C1PROXY_KEY is unset or empty: set it to the key"},
		{append([]string{"whoami"}, caller[:4]...), "c1p_wrong", 1, "unauthenticated: "},
		{append([]string{"whoami", "--key-file", other}, caller[:4]...), "", 2, "others can read it"},
		{append([]string{"whoami", "--team", "readers"}, caller...), "", 1, "permission_denied: "},
		{[]string{"whoami", "--address", "https://" + g.proxy.Addr().String()}, "c1p_wrong", 1, "unavailable: "}, // nobody vouches for it
		{[]string{"whoami", "--address", "https://user:secret@127.0.0.1"}, "c1p_wrong", 2, "read --address: write https://HOST:PORT"},
		{[]string{"whoami"}, "c1p_wrong", 2, "--address"},
		{append([]string{"limits"}, caller...), "", 0, "teams/payments/team 37 of 40 1 per 1h0m0s 2h59m"},
		{append([]string{"limits", "--caller", "readers/reader"}, caller...), "", 2, "yourself alone"},
		{append([]string{"limits", "--caller", "payments/sync-bot", "--method", "/" + list}, operator("capacity")...), "", 0, "payments/sync-bot (policy revision"},
		{append([]string{"limits", "--caller", "payments/sync-bot"}, operator("capacity")...), "", 0, "the levels are this replica's own"},
		{append([]string{"limits", "--caller", "readers/reader"}, operator("capacity")...), "", 0, "nothing is limited"},
		{append([]string{"limits"}, operator("capacity")...), "", 2, "name the caller that you ask about"},
		{append([]string{"limits", "--caller", "sync-bot"}, operator("on-call")...), "", 1, "no scope limits"},
		{append([]string{"limits", "--json", "--caller", "sync-bot"}, operator("capacity")...), "", 0, `"remaining":36`},
		{append([]string{"explain", list, "--request", `{"appId":"` + g.facts.AppID + `"}`}, caller...), "", 0, "> payments/allow/own-list allows it"},
		{append([]string{"explain", list, "--request", `{"appId":"b"}`}, caller...), "", 1, "refused: CONDITION_DENIED"},
		{append([]string{"explain", list}, caller...), "", 2, "depends on the request"},
		{append([]string{"explain", list, "--request", `{"new":1}`}, caller...), "", 2, "new: unknown field"},
		{append([]string{"explain", list, "--json", "--caller", "readers/reader"}, operator("on-call")...), "", 0, `"rule":"readers/allow/0"`},
		{append([]string{"explain", connectorService + "Delete", "--caller", "sync-bot", "--claims", `{"level":4}`}, operator("on-call")...), "", 0, "allowed by payments/allow/claimed"},
		{append([]string{"explain", connectorService + "Delete", "--caller", "sync-bot"}, operator("on-call")...), "", 1, "no such key: level"},
		{append([]string{"explain", list, "--config", "x"}, caller...), "", 2, "can't be used together"},
	} {
		cmd := exec.Command(name, tt.args...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.Env = append(os.Environ(), "C1PROXY_KEY="+tt.env, "HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1")
		_ = cmd.Run() // the exit code tells
		said := strings.Join(strings.Fields(out.String()), " ")
		if got := cmd.ProcessState.ExitCode(); got != tt.exit || !strings.Contains(said, tt.want) || strings.Contains(said, "c1p_") {
			t.Errorf("proxy %v: exit %d, want %d with %q:\n%s", tt.args, got, tt.exit, tt.want, out.String())
		}
		if slices.Contains(tt.args, "--json") && !json.Valid(out.Bytes()) {
			t.Errorf("proxy %v: no JSON: %s", tt.args, out.String())
		}
	}
}
