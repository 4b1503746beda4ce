package c1proxy_test

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
)

// runProgram runs a program, and returns what it prints.
func runProgram(t *testing.T, name string, args ...string) (out string, exit int) {
	t.Helper()
	cmd := exec.Command(name, args...)
	text, _ := cmd.CombinedOutput() // the exit code tells
	return string(text), cmd.ProcessState.ExitCode()
}

// tailed is a tail, and what has come of it.
type tailed struct {
	t       *testing.T
	stream  *connect.ServerStreamForClient[c1proxyv1.TailResponse]
	numbers []uint64
	next    uint64
}

// tailing begins a tail, and waits for its first message.
func (g *gateway) tailing(t *testing.T, p protocol, v auditView, q *c1proxyv1.TailRequest) *tailed {
	t.Helper()
	stream, err := g.auditing(p, v.key, v.admin).Tail(t.Context(), connect.NewRequest(q))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	tail := &tailed{t: t, stream: stream}
	if !tail.receive() {
		t.Fatalf("%s: no first message: %v", p.name, stream.Err())
	}
	if len(tail.numbers) > 0 || stream.Msg().GetLog() == "" || stream.Msg().GetAllTeams() != (v.team == "") {
		t.Fatalf("%s: the first message is %v", p.name, stream.Msg())
	}
	return tail
}

// receive takes a message.
func (l *tailed) receive() bool {
	l.t.Helper()
	if !l.stream.Receive() {
		return false
	}
	m := l.stream.Msg()
	for _, r := range m.GetRecords() {
		if n := len(l.numbers); n > 0 && r.GetSeq() <= l.numbers[n-1] || r.GetSeq() >= m.GetNext() {
			l.t.Errorf("record %d after %v, in a message before %d", r.GetSeq(), l.numbers, m.GetNext())
		}
		l.numbers = append(l.numbers, r.GetSeq())
	}
	if m.GetNext() < l.next {
		l.t.Errorf("%d is next after %d", m.GetNext(), l.next)
	}
	l.next = m.GetNext()
	return true
}

// upTo takes messages until the record has come.
func (l *tailed) upTo(seq uint64) {
	l.t.Helper()
	for !slices.Contains(l.numbers, seq) {
		if !l.receive() {
			l.t.Fatalf("the tail ended after %v, before %d: %v", l.numbers, seq, l.stream.Err())
		}
	}
}

// Tail sends what happens, in order and without a gap, on every door and for
// everybody what they see of it.
func TestAuditAPITail(t *testing.T) {
	g := start(t, withAuditors)
	g.someCalls(3)
	for _, p := range rpcs {
		for _, v := range auditViews {
			from := uint64(0)
			old, fresh := g.tailing(t, p, v, &c1proxyv1.TailRequest{From: &from}), g.tailing(t, p, v, &c1proxyv1.TailRequest{})
			begins := fresh.next
			g.someCalls(2)
			var all []uint64
			for _, r := range g.all(audit.Filter{Team: v.team}) {
				all = append(all, r.Seq)
			}
			last := all[len(all)-1]
			old.upTo(last)
			fresh.upTo(last)
			upTo := func(numbers []uint64) []uint64 {
				return slices.DeleteFunc(slices.Clone(numbers), func(seq uint64) bool { return seq > last })
			}
			if diff := cmp.Diff(all, upTo(old.numbers)); diff != "" {
				t.Errorf("%s, %s from 0: %s", p.name, v.key, diff)
			}
			if diff := cmp.Diff(slices.DeleteFunc(all, func(seq uint64) bool { return seq < begins }), upTo(fresh.numbers)); diff != "" {
				t.Errorf("%s, %s: %s", p.name, v.key, diff)
			}
			_ = errors.Join(old.stream.Close(), fresh.stream.Close())
		}
	}
	// A tail is on record from its beginning, and when it has ended.
	until(t, "all tails have ended", func() bool {
		return len(g.all(audit.Filter{Method: "c1proxy.v1.AuditService/Tail", Kind: audit.KindOutcome})) == 2*len(rpcs)*len(auditViews)
	})
	for _, r := range g.all(audit.Filter{Method: "c1proxy.v1.AuditService/Tail", Kind: audit.KindOutcome}) {
		if r.Outcome != audit.OutcomeOK || r.Code != "canceled" || !r.ClientGone || r.Intent == "" {
			t.Errorf("on record as %+v", r)
		}
	}
	g.checkTailRules(t)
}

func (g *gateway) checkTailRules(t *testing.T) {
	t.Helper()
	for _, r := range g.all(audit.Filter{Method: "c1proxy.v1.AuditService/Tail"}) {
		if want := map[string]string{"sync-bot": "self", "slow-bot": "self", "reader": "auditor", "watcher": "admin/audit"}[r.Caller]; r.Rule != want {
			t.Errorf("%s by %s", r.Caller, r.Rule)
		}
	}
}

// A tail ends at a reload, and goes on where it ended.
func TestAuditAPITailReload(t *testing.T) {
	g := start(t, withAuditors)
	g.someCalls(1)
	for i, p := range rpcs {
		tail := g.tailing(t, p, auditViews[2], &c1proxyv1.TailRequest{})
		if err := g.reload(strings.Replace(g.text, "allow_insecure: true", "allow_insecure: true\n    timeout: 3"+string(rune('0'+i))+"s", 1)); err != nil {
			t.Fatal(err)
		}
		for tail.receive() {
		}
		if err := tail.stream.Err(); codeOf(err) != connect.CodeUnavailable || reasonOf(err) != "STREAM_ENDED" {
			t.Errorf("%s: %v", p.name, err)
		}
		again := g.tailing(t, p, auditViews[2], &c1proxyv1.TailRequest{From: &tail.next})
		g.someCalls(1)
		all := g.all(audit.Filter{})
		again.upTo(all[len(all)-1].Seq)
		if got := append(tail.numbers, again.numbers...); !slices.IsSorted(got) || got[len(got)-1]-got[0] != uint64(len(got)-1) {
			t.Errorf("%s: %v and then %v", p.name, tail.numbers, again.numbers)
		}
		_ = again.stream.Close()
	}
}

// Tails are bounded for each caller, and places come back.
func TestAuditAPITailCap(t *testing.T) {
	g := start(t, withAuditors)
	var tails []*tailed
	for range 4 {
		tails = append(tails, g.tailing(t, protocols[2], auditViews[0], &c1proxyv1.TailRequest{}))
	}
	more := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		stream, err := g.auditing(protocols[2], "sync-bot", false).Tail(ctx, connect.NewRequest(&c1proxyv1.TailRequest{}))
		if err != nil {
			return err
		}
		defer stream.Close()
		stream.Receive()
		return stream.Err()
	}
	if err := more(); codeOf(err) != connect.CodeResourceExhausted || reasonOf(err) != "AUDIT_BUSY" {
		t.Errorf("a fifth tail: %v", err)
	}
	g.tailing(t, protocols[2], auditViews[2], &c1proxyv1.TailRequest{}) // of another caller
	_ = tails[0].stream.Close()
	until(t, "there is a place again", func() bool { return more() == nil })
}
