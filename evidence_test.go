package c1proxy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// An evidenceBench is an audit log and the commands that look at it.
type evidenceBench struct {
	t         *testing.T
	name      string // of the binary
	dir, vkey string
	base      string
}

func newEvidenceBench(t *testing.T) *evidenceBench {
	t.Helper()
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	return &evidenceBench{t: t, name: name, base: base, dir: filepath.Join(base, "log")}
}

// write opens the log, writes a call and closes it again.
func (b *evidenceBench) write(request string) {
	b.t.Helper()
	l, err := audit.Open(b.t.Context(), audit.Config{Dir: b.dir, KeyFile: filepath.Join(b.base, "key")})
	if err != nil {
		b.t.Fatal(err)
	}
	b.vkey = l.VerifierKey()
	intent := audit.Record{Kind: audit.KindIntent, RequestID: request, Team: "payments"}
	if err := l.Append(b.t.Context(), &intent); err != nil {
		b.t.Fatal(err)
	}
	outcome := audit.Record{Kind: audit.KindOutcome, RequestID: request, Intent: intent.ID, Outcome: audit.OutcomeOK, Code: "ok"}
	if err := l.Append(b.t.Context(), &outcome); err != nil {
		b.t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// run runs "proxy audit ..." and returns what it printed.
func (b *evidenceBench) run(exit int, args ...string) string {
	b.t.Helper()
	var out, stderr bytes.Buffer
	cmd := exec.Command(b.name, append([]string{"audit"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	_ = cmd.Run() // the exit code tells
	if got := cmd.ProcessState.ExitCode(); got != exit {
		b.t.Fatalf("proxy audit %v: exit %d, want %d:\n%s%s", args, got, exit, out.String(), stderr.String())
	}
	return out.String() + stderr.String()
}

// file writes a file beside the log.
func (b *evidenceBench) file(name, content string) string {
	b.t.Helper()
	path := filepath.Join(b.base, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// expect fails unless text has each of the words.
func (b *evidenceBench) expect(text string, words ...string) {
	b.t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			b.t.Errorf("no %q in:\n%s", word, text)
		}
	}
}

// TestAuditEvidence: what an auditor does with the commands, and what they say
// to him when the log was cut off, replaced or edited.
func TestAuditEvidence(t *testing.T) {
	t.Parallel()
	b := newEvidenceBench(t)
	b.write("first")
	older, monday := b.copy(), b.file("monday", "")
	b.file("monday", b.run(0, "checkpoint", b.dir, "--key", b.vkey))
	b.write("second")
	tuesday := b.file("tuesday", b.run(0, "checkpoint", b.dir))
	b.expect(b.run(0, "verify", b.dir, "--key", b.vkey, "--checkpoint", monday, "--checkpoint", tuesday), "are what was written", "2 exported heads agree")

	// Proofs: of a record, of a request's records, of growth.
	proof := filepath.Join(b.base, "3.tlog-proof")
	b.run(0, "prove", b.dir, "--seq", "3", "-o", proof)
	b.expect(b.run(0, "check-proof", proof, "--key", b.vkey), `"seq":3,`, `"request_id":"first"`)
	b.expect(b.run(1, "prove", b.dir, "--seq", "3", "-o", proof), "is there already")
	b.expect(b.run(1, "check-proof", proof, "--key", b.vkey, "--record", b.file("forged", `{"seq":3}`+"\n")), "this is not record 3")
	b.expect(b.run(1, "prove", b.dir, "--request-id", "first"), "give -o a directory")
	b.expect(b.run(1, "prove", b.dir, "--request-id", "nobody"), `has none with the id "nobody"`)
	b.expect(b.run(2, "prove", b.dir), "--seq")
	_ = os.Remove(proof)
	b.expect(b.run(0, "prove", b.dir, "--request-id", "first", "-o", b.base), "2.tlog-proof")
	b.expect(b.run(0, "check-proof", b.file("growth", b.run(0, "prove", b.dir, "--from", monday)), "--key", b.vkey), "has only grown")
	b.expect(b.run(1, "prove", b.dir, "--from", tuesday, "--checkpoint", monday), "ahead of its log")

	// An edit names the line, as text and as JSON.
	segments, _ := filepath.Glob(filepath.Join(b.dir, "*.jsonl"))
	text, _ := os.ReadFile(segments[0])
	if err := os.WriteFile(segments[0], bytes.Replace(text, []byte("payments"), []byte("treasury"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	b.expect(b.run(1, "verify", b.dir, "--key", b.vkey), filepath.Base(segments[0])+" line 3", "record 2", "What it means: ", "What to do: ")
	var object struct {
		Verified bool
		Finding  struct {
			Finding, Meaning string
			Line, Seq        int
		}
	}
	said, _, _ := strings.Cut(b.run(1, "verify", b.dir, "--key", b.vkey, "--json"), "\n")
	if err := json.Unmarshal([]byte(said), &object); err != nil || object.Verified || object.Finding.Finding != "changed" || object.Finding.Line != 3 || object.Finding.Meaning == "" {
		t.Errorf("%v: %s", err, said)
	}

	// An older copy of it all is whole in itself; the head kept elsewhere tells.
	b.replace(older)
	b.expect(b.run(0, "verify", b.dir, "--key", b.vkey, "--checkpoint", monday), "1 exported heads agree")
	b.expect(b.run(1, "verify", b.dir, "--key", b.vkey, "--checkpoint", monday, "--checkpoint", tuesday), "("+tuesday+")", "ahead of its log", "older copy")

	// What a crash leaves is in order, and told apart.
	b.replace(older)
	b.write("third")
	if err := os.WriteFile(filepath.Join(b.dir, "checkpoint"), older["checkpoint"], 0o600); err != nil {
		t.Fatal(err)
	}
	b.expect(b.run(0, "verify", b.dir, "--key", b.vkey), "after the head are what a log in use, or a crash, has not signed yet")
	b.expect(b.run(0, "verify", b.dir, "--key", b.vkey, "--json"), `"verified":true`, `"after_head":`+strconv.Itoa(5))
}

// copy reads the log's files.
func (b *evidenceBench) copy() map[string][]byte {
	b.t.Helper()
	files := map[string][]byte{}
	names, _ := filepath.Glob(filepath.Join(b.dir, "*"))
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			b.t.Fatal(err)
		}
		files[filepath.Base(name)] = data
	}
	return files
}

// replace makes the directory what it once was.
func (b *evidenceBench) replace(files map[string][]byte) {
	b.t.Helper()
	if err := os.RemoveAll(b.dir); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(b.dir, name), data, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}
