package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// Each thing that must not be is found, and nothing else is.
func TestCrashCheck(t *testing.T) {
	begun := time.Now()
	intent := func(id string) audit.Record {
		return audit.Record{ID: "i" + id, Time: begun.Add(time.Second), Kind: audit.KindIntent, RequestID: id, Caller: "bot"}
	}
	outcome := func(id string) audit.Record {
		return audit.Record{Kind: audit.KindOutcome, RequestID: id, Intent: "i" + id, Outcome: audit.OutcomeOK}
	}
	denied := func(id, caller, count string) audit.Record {
		return audit.Record{Kind: audit.KindDenied, RequestID: id, Caller: caller, Detail: map[string]string{"count": count}}
	}
	for name, tt := range map[string]struct {
		records  []audit.Record
		reached  string // request ids, by spaces
		late     bool   // C1 saw them before their intent's time
		answered map[string]bool
		nameless int
		excused  int
		misses   string // parts of each, by commas
	}{
		"right":                {records: []audit.Record{intent("a"), outcome("a"), denied("b", "bot", "")}, reached: "a a", answered: map[string]bool{"a": true, "b": true}},
		"no intent":            {records: []audit.Record{denied("a", "bot", "")}, reached: "a", misses: "P1: C1 saw a"},
		"two intents":          {records: []audit.Record{intent("a"), outcome("a"), {ID: "j", Kind: audit.KindIntent, RequestID: "a"}}, reached: "a", misses: "which has 2 intents"},
		"late intent":          {records: []audit.Record{intent("a"), outcome("a")}, reached: "a", late: true, misses: "its intent is of"},
		"no final":             {records: []audit.Record{denied("b", "bot", "")}, answered: map[string]bool{"a": true, "b": true}, misses: "P2: a was answered and has 0"},
		"no final, excused":    {records: []audit.Record{denied("b", "bot", "")}, answered: map[string]bool{"a": true, "b": true}, excused: 1},
		"two finals":           {records: []audit.Record{denied("a", "bot", ""), denied("a", "bot", "")}, misses: "P2: a has 2 final"},
		"open intent":          {records: []audit.Record{intent("a")}, misses: "the intent of a has 0"},
		"coalesced":            {records: []audit.Record{denied("a", "", "2"), denied("c", "", "")}, answered: map[string]bool{"a": false, "b": false, "c": false}, nameless: 3},
		"coalesced twice":      {records: []audit.Record{denied("", "", "2"), denied("", "", "3")}, answered: map[string]bool{"a": false, "b": false, "c": false, "d": false, "e": false}, nameless: 5},
		"coalesced, excused":   {records: []audit.Record{denied("a", "", "")}, answered: map[string]bool{"a": false, "b": false}, nameless: 2, excused: 1},
		"coalesced too often":  {records: []audit.Record{denied("a", "", "3")}, answered: map[string]bool{"a": false, "b": false}, nameless: 2, misses: "3 refusals without a caller are on record"},
		"coalesced too rarely": {records: []audit.Record{denied("a", "", "")}, answered: map[string]bool{"a": false, "b": false}, nameless: 2, misses: "1 refusals without a caller were answered and are not"},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "log")
			l, err := audit.Open(t.Context(), audit.Config{Dir: dir, KeyFile: filepath.Join(base, "key")})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range tt.records {
				if err := l.Append(t.Context(), &r); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			seen := begun.Add(2 * time.Second)
			if tt.late {
				seen = begun
			}
			var requests []sandbox.Request
			for id := range strings.FieldsSeq(tt.reached) {
				requests = append(requests, sandbox.Request{Time: seen, Header: http.Header{"X-Request-Id": {id}}})
			}
			r := &rig{dir: dir, vkey: l.VerifierKey(), answered: tt.answered, nameless: tt.nameless, excused: tt.excused}
			f, err := r.held(t.Context(), requests)
			if err != nil {
				t.Fatal(err)
			}
			f.closed()
			if len(f.misses) != 0 && tt.misses == "" || len(f.misses) == 0 && tt.misses != "" || len(f.misses) > 0 && !strings.Contains(strings.Join(f.misses, "\n"), tt.misses) {
				t.Errorf("misses %q, want %q", f.misses, tt.misses)
			}
		})
	}
}

// A log that was tampered with is found by the check after each cycle.
func TestCrashCheckVerifies(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "log")
	l, err := audit.Open(t.Context(), audit.Config{Dir: dir, KeyFile: filepath.Join(base, "key")})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := audit.LoadOrCreateKey(filepath.Join(base, "other"), "example.com/other")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{dir: dir, vkey: other.VerifierKey()}
	if f, err := r.held(t.Context(), nil); err != nil || len(f.misses) != 1 || !strings.HasPrefix(f.misses[0], "false alarm") {
		t.Errorf("%v, %v", f, err)
	}
}
