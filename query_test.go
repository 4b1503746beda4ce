package c1proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// queried is a log of known records, and the program that queries it.
type queried struct {
	t         *testing.T
	name, dir string
}

// newQueried writes one intent with its outcome, a refusal of an unpleasant
// caller, and one whose outcome nobody knows; one in each of three hours.
func newQueried(t *testing.T) *queried {
	t.Helper()
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	q := &queried{t, name, filepath.Join(base, "log")}
	l, err := audit.Open(t.Context(), audit.Config{Dir: q.dir, KeyFile: filepath.Join(base, "key")})
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2020, 3, 4, 10, 0, 0, 0, time.UTC)
	for _, r := range []audit.Record{
		{ID: "i1", Time: day, Kind: audit.KindIntent, RequestID: "r1", Team: "payments", Caller: "bot", Procedure: "/c1.api.app.v1.Apps/Get", Path: audit.Fields{{Name: "app_id", Value: "X"}}},
		{ID: "o1", Time: day.Add(time.Minute), Kind: audit.KindOutcome, Intent: "i1", RequestID: "r1", Team: "payments", Caller: "bot", Procedure: "/c1.api.app.v1.Apps/Get",
			Path: audit.Fields{{Name: "app_id", Value: "X"}}, Outcome: audit.OutcomeOK, Code: "ok", Duration: time.Second},
		{ID: "d2", Time: day.Add(time.Hour), Kind: audit.KindDenied, RequestID: "r2", ClientRequestID: "mine", Team: "ops", Caller: "ev\x1b[2Jil", Door: "rest",
			Procedure: "/c1.api.app.v1.AppOwners/Add", Path: audit.Fields{{Name: "app_id", Value: "Y=1\x1b[31m"}}, Code: "permission_denied", Error: "METHOD_DENIED"},
		{ID: "o3", Time: day.Add(2 * time.Hour), Kind: audit.KindOutcome, RequestID: "r3", Team: "ops", Caller: "bot", Procedure: "/c1.api.v1.Users/Get", Outcome: audit.OutcomeIndeterminate, Code: "unknown"},
	} {
		if err := l.Append(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return q
}

// run runs a query in the time zone of UTC.
func (q *queried) run(args ...string) (stdout, stderr string, exit int) {
	q.t.Helper()
	cmd := exec.Command(q.name, append([]string{"audit", "query", q.dir}, args...)...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	cmd.Env = append(os.Environ(), "TZ=UTC")
	_ = cmd.Run() // the exit code tells
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// TestAuditQuery: each flag selects, and what cannot be meant is refused.
func TestAuditQuery(t *testing.T) {
	q := newQueried(t)
	for _, c := range []struct{ args, want string }{
		{"--until 2020-03-05", "i1 o1 d2 o3"},
		{"--until 2020-03-05 --reverse", "o3 d2 o1 i1"},
		{"--until 2020-03-05 --reverse --limit 2", "o3 d2"},
		{"--until 2020-03-05 --limit 1", "i1"},
		{"--since 2020-03-04T10:01 --until 2020-03-04T12:00:00Z", "o1 d2"},
		{"--since 2020-03-04T11:01:00+01:00 --until 2020-03-04T12:00:00+01:00", "o1"},
		{"--since 2020-03-04 --until 9d", "i1 o1 d2 o3"},
		{"--until 24h --since 90000h", "i1 o1 d2 o3"},
		{"--team payments", "i1 o1"},
		{"--tenant default", ""},
		{"--caller bot --kind outcome", "o1 o3"},
		{"--method c1.api.app.v1.*/*", "i1 o1 d2"},
		{"--method Get", "i1 o1 o3"},
		{"--method c1.**/Add", "d2"},
		{"--door rest", "d2"},
		{"--outcome indeterminate", "o3"},
		{"--code permission_denied", "d2"},
		{"--error METHOD_DENIED", "d2"},
		{"--request-id r1", "i1 o1"},
		{"--client-request-id mine", "d2"},
		{"--intent i1", "i1 o1"},
		{"--path app_id=X", "i1 o1"},
		{"--path X", "i1 o1"},
		{"--path user_id=X", ""},
		{"--path app_id=X --path Z", ""},
		{"--path =Y=1\x1b[31m", "d2"},
		{"--path app_id=Y=1\x1b[31m", "d2"},
		{"--request-id r1 --no-index", "i1 o1"},
	} {
		out, stderr, exit := q.run(strings.Split(c.args, " ")...)
		var ids []string
		for line := range strings.Lines(out) {
			var r audit.Record
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%s: %v in %q", c.args, err, line)
			}
			ids = append(ids, r.ID)
		}
		if got := strings.Join(ids, " "); got != c.want || exit != 0 || stderr != "" {
			t.Errorf("%s: got %q, want %q; exit %d, %s", c.args, got, c.want, exit, stderr)
		}
	}
	for _, c := range []struct{ args, want string }{
		{"--count --until 2020-03-05", "4\n"},
		{"--summary --team ops", `{"team":"ops","method":"c1.api.app.v1.AppOwners/Add","outcome":"denied","calls":1}` + "\n" +
			`{"team":"ops","method":"c1.api.v1.Users/Get","outcome":"indeterminate","calls":1}` + "\n"},
	} {
		if out, _, exit := q.run(strings.Split(c.args, " ")...); out != c.want || exit != 0 {
			t.Errorf("%s: %q, exit %d", c.args, out, exit)
		}
	}
	for _, c := range []struct{ args, want string }{
		{"--since soon", "neither how long ago"},
		{"--since=-5m", "neither how long ago"},
		{"--since 2020-13-01", "neither how long ago"},
		{"--since 1h --until 2h", "is not before"},
		{"--method a,b", "method"},
		{"--path a,b=X", "no field's name"},
		{"--path =", "it is empty"},
		{"--limit -1", "--limit"},
		{"--kind intents", "kind"},
		{"--count --json", "--count"},
	} {
		if out, stderr, exit := q.run(strings.Split(c.args, " ")...); exit != 2 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d, want 2 and %q: %s%s", c.args, exit, c.want, out, stderr)
		}
	}
}

// TestAuditQueryRemoved: a log whose first segments are gone says so to who asks
// for what was before.
func TestAuditQueryRemoved(t *testing.T) {
	q := newQueried(t)
	if err := os.Remove(filepath.Join(q.dir, fmt.Sprintf("%020d.jsonl", 0))); err != nil {
		t.Fatal(err)
	}
	if _, stderr, exit := q.run("--team", "ops"); exit != 0 || !strings.Contains(stderr, "the log begins with record 3, of ") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	if _, stderr, exit := q.run("--team", "ops", "--since", "0s"); exit != 0 || stderr != "" {
		t.Errorf("exit %d: %s", exit, stderr)
	}
}

// TestAuditQueryPipe: a reader that leaves is no failure.
func TestAuditQueryPipe(t *testing.T) {
	q := newQueried(t)
	cmd := exec.Command(q.name, "audit", "query", q.dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = write
	_ = read.Close()
	err = cmd.Run()
	_ = write.Close()
	if err != nil || stderr.Len() > 0 {
		t.Errorf("%v: %s", err, stderr.String())
	}
}

// TestAuditQueryTerminal: on a terminal it is a table, in colour unless that is
// not wanted, that nothing in a record can steer.
func TestAuditQueryTerminal(t *testing.T) {
	q := newQueried(t)
	colour := q.onTerminal(nil, "--until", "2020-03-05")
	for _, want := range []string{"TIME ", "\x1b[2m2020-03-04 10:00:00.000", "payments/bot", "Apps/Get", `app_id="X"`, "METHOD_DENIED",
		`"ops/ev\x1b[2Jil"`, `app_id="Y=1\x1b[31m"`, "\x1b[31mdenied", "\x1b[33moutcome", "4 records in "} {
		if !strings.Contains(colour, want) {
			t.Errorf("no %q in\n%q", want, colour)
		}
	}
	for _, plain := range []string{q.onTerminal([]string{"NO_COLOR=1"}, "--until", "2020-03-05"), q.onTerminal([]string{"TERM=dumb"}, "--until", "2020-03-05"),
		q.onTerminal(nil, "--summary", "--until", "2020-03-05")} {
		if strings.Contains(plain, "\x1b") || len(plain) < 100 {
			t.Errorf("colour in\n%q", plain)
		}
	}
	lines := strings.Split(colour, "\r\n")
	at := func(line, word string) int {
		return strings.Index(strings.NewReplacer("\x1b[2m", "", "\x1b[0m", "").Replace(line), word)
	}
	if at(lines[0], "CALLER") != at(lines[1], "payments/bot") {
		t.Errorf("the columns are not aligned:\n%s", colour)
	}
	if out := q.onTerminal(nil, "--json", "--limit", "1"); !strings.HasPrefix(out, `{"seq":0,`) {
		t.Errorf("JSON: %q", out)
	}
}

// onTerminal runs a query on a pseudo-terminal, and returns what it shows.
func (q *queried) onTerminal(env []string, args ...string) string {
	q.t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		q.t.Skipf("no pseudo-terminal: %v", err)
	}
	defer master.Close()
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		q.t.Skipf("no pseudo-terminal: %v", err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		q.t.Skipf("no pseudo-terminal: %v", err)
	}
	ctx, cancel := context.WithTimeout(q.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, q.name, append([]string{"audit", "query", q.dir}, args...)...)
	cmd.Stdout, cmd.Stderr = slave, slave
	cmd.Env = append(append(os.Environ(), "TZ=UTC", "TERM=xterm", "NO_COLOR="), env...)
	if err := cmd.Start(); err != nil {
		q.t.Fatal(err)
	}
	_ = slave.Close()
	out, _ := io.ReadAll(master) // ends with EIO when nobody has the other end
	if err := cmd.Wait(); err != nil {
		q.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
