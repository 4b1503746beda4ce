package c1proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// A restFault is something that goes wrong with C1, and the HTTP status that it
// has for a read and for a write on C1's own paths.
type restFault struct {
	name        string
	inject      []sandbox.Rule
	read, write int
	again       bool // a read is tried again, whatever its status
}

// restFaults are every status from 300 on with every code in the body, and all
// else that the sandbox does to an answer.
func restFaults() []restFault {
	var all []restFault
	add := func(read, write int, faults ...sandbox.Fault) {
		f := restFault{name: faults[0].String(), read: read, write: write}
		for _, one := range faults {
			f.inject = append(f.inject, sandbox.Rule{Fault: one, Times: 1})
		}
		all = append(all, f)
	}
	for status := 300; status <= 620; status++ {
		if status == http.StatusNotModified {
			continue // a server sends no body with it
		}
		f := sandbox.RPCStatus(status, status%20-1, "canary")
		switch {
		case status < 400 || status > 599:
			add(503, 500, f)
		case status == 401:
			add(500, 500, f, f)
		case status == 407:
			add(500, 500, f)
		case status == 408 || status == 499:
			add(503, 500, f)
		case status < 500:
			add(status, status, f)
		case status >= 502 && status <= 504:
			add(503, 500, f)
		case status == 501:
			add(501, 500, f)
		default:
			add(500, 500, f)
		}
	}
	for _, f := range []sandbox.Fault{
		sandbox.Empty(), sandbox.HTML(200), sandbox.Answer(200, "application/json", "[]"), sandbox.Answer(200, "application/json", "null"),
		sandbox.Answer(200, "application/json", "\ufeff{}"), sandbox.Answer(200, "application/json", `{"a":1}{}`), sandbox.Answer(200, "application/json", `{"a":1`),
		sandbox.Answer(201, "application/json", "x"), sandbox.Answer(205, "application/json", ""), sandbox.Nested(100_000), sandbox.Huge(5), sandbox.GzipBomb(16),
		sandbox.Truncated(), sandbox.CutBody(), sandbox.ShortLength(),
	} {
		add(500, 500, f)
	}
	all[len(all)-2].again = true // CutBody
	for _, f := range []sandbox.Fault{
		sandbox.Reset(), sandbox.ResetUnread(), sandbox.Disconnect(), sandbox.Reset().AfterActing(), sandbox.Disconnect().AfterActing(),
		sandbox.Redirect(301, "/api/v1/apps"), sandbox.Redirect(307, "http://127.0.0.1:1/"), sandbox.Redirect(308, "https://evil.example.com/"),
		sandbox.HTML(502), sandbox.HTML(503).AfterActing(), sandbox.HTML(302),
	} {
		add(503, 500, f)
	}
	add(200, 200, sandbox.Unauthorized()) // once: the next token is good
	add(500, 500, sandbox.Unauthorized().AfterActing(), sandbox.Unauthorized())
	add(403, 403, sandbox.HTML(403))
	add(404, 404, sandbox.OAuthError(404, "canary"))
	add(400, 400, sandbox.Echo(400, "canary"))
	add(500, 500, sandbox.Echo(500, "canary"))
	add(429, 429, sandbox.RateLimited("1"))
	add(429, 429, sandbox.RateLimited("soon"))
	add(200, 200, sandbox.UnknownField())
	add(200, 200, sandbox.DuplicateKey())
	return all
}

// P4, P5, F, G: whatever C1 answers, the caller of its own paths gets the status
// that the table says; a write that was delivered never has one that invites to
// repeat it; and what the record says is what was.
func TestRESTFaults(t *testing.T) {
	g := start(t)
	client := g.httpClient(true)
	warm(g)
	invited, delivered := 0, 0
	var all []*faultyCall
	for i, f := range restFaults() {
		for _, r := range []*http.Request{
			g.own("GET", g.listPath(), "sync-bot", ""),
			g.own("POST", g.confirmPath(fmt.Sprint(sandbox.ConfirmablePrefix, i)), "sync-bot", "{}"),
		} {
			want, write := f.read, r.Method == "POST"
			if write {
				want = f.write
			}
			g.c1.Heal()
			until(t, "C1 is called again, before "+f.name, func() bool { // which it is not for a second after a 429
				status, _, _ := do(t, client, g.own("GET", g.listPath()+"/"+g.facts.ConnectorID, "sync-bot", ""))
				return status == 200 // it also tells that C1 is not down
			})
			g.c1.Reset()
			rules, most := slices.Clone(f.inject), 2
			if !write && (want == 503 || f.again) {
				rules[len(rules)-1].Times, most = 0, 4 // a read is tried again, and once by net/http
			}
			g.c1.Inject(rules...)
			c := &faultyCall{name: r.Method + " " + f.name, write: write}
			c.status, c.header, c.body = do(t, client, r)
			if c.status != want {
				t.Errorf("%s: got %d %s, want %d", c.name, c.status, c.body, want)
			}
			for _, request := range g.c1.Requests() {
				c.statuses = append(c.statuses, request.Status)
			}
			accepted := g.c1.AcceptedHits()
			if write && accepted > 1 || len(c.statuses) > most || most == 2 && len(c.statuses) == 2 && c.statuses[0] != 401 {
				t.Errorf("%s: C1 accepted %d requests, with %v", c.name, accepted, c.statuses)
			}
			if write && accepted > 0 {
				delivered++
				if c.status >= 502 && c.status <= 504 {
					invited++
				}
			}
			all = append(all, c)
		}
	}
	records := allRecords(t, g)
	for _, c := range all {
		c.check(t, records[c.header.Get("X-Request-Id")])
	}
	t.Logf("%d faults on a read and on a write; %d writes were delivered, %d invite to repeat them", len(restFaults()), delivered, invited)
	if invited > 0 || delivered < 100 {
		t.Errorf("%d of %d writes that were delivered invite to repeat them", invited, delivered)
	}
}

// allRecords returns the records of every call, by its request id.
func allRecords(t testing.TB, g *gateway) map[string][]audit.Record {
	t.Helper()
	all := make(map[string][]audit.Record)
	err := audit.Query(t.Context(), g.dir, audit.Filter{}, func(r audit.Record) error {
		if r.RequestID != "" {
			all[r.RequestID] = append(all[r.RequestID], r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A faultyCall is a call with what became of it.
type faultyCall struct {
	name     string
	write    bool
	status   int
	header   http.Header
	body     string
	statuses []int // of C1's answers
}

// check holds the answer and the records against each other.
func (c *faultyCall) check(t *testing.T, records []audit.Record) {
	t.Helper()
	if len(records) != 2 || records[0].Kind != audit.KindIntent || records[1].Kind != audit.KindOutcome ||
		!slices.Equal(records[1].Attempts, c.statuses) || records[1].Door != "rest" || records[1].UpstreamStatus != c.statuses[len(c.statuses)-1] {
		t.Errorf("%s: C1 answered %v, the records are %+v", c.name, c.statuses, records)
		return
	}
	final := records[1]
	if c.status < 300 {
		if final.Outcome != audit.OutcomeOK || final.Code != "ok" || final.Error != "" {
			t.Errorf("%s: got %d, on record as %+v", c.name, c.status, final)
		}
		return
	}
	code, info, err := readStatus(c.header, c.body)
	if err != nil || final.Code != code.String() || final.Error != info.GetReason() || strings.Contains(c.body, "canary") && c.status/100 != 4 {
		t.Errorf("%s: got %d %s (%v), on record as %+v", c.name, c.status, c.body, err, final)
	}
	outcome := audit.OutcomeFailed
	if info.GetReason() == "OUTCOME_UNKNOWN" {
		outcome = audit.OutcomeIndeterminate
	}
	if final.Outcome != outcome || c.write && c.status >= 500 && outcome != audit.OutcomeIndeterminate && info.GetReason() != "UPSTREAM_CREDENTIAL_REJECTED" {
		t.Errorf("%s: got %d, on record as %+v", c.name, c.status, final)
	}
	if (c.status == 429) != (c.header.Get("Retry-After") != "") || c.header.Get("Location")+c.header.Get("X-Echo")+c.header.Get("Www-Authenticate") != "" {
		t.Errorf("%s: got %d with the headers %v", c.name, c.status, c.header)
	}
}

// Nothing was sent, and that is proven: then, and only then, a write has 503.
func TestRESTNotSent(t *testing.T) {
	tests := map[string]struct {
		arrange func(*gateway)
		reason  string
		kinds   []audit.Kind
	}{
		"no token": {func(g *gateway) { g.c1.Close() }, "TOKEN_UNAVAILABLE", []audit.Kind{audit.KindDenied}},
		"token refused": {func(g *gateway) {
			g.c1.Inject(sandbox.Rule{Fault: sandbox.OAuthError(400, "invalid_client"), On: sandbox.TokenEndpoint})
		}, "UPSTREAM_CREDENTIAL_REJECTED", []audit.Kind{audit.KindDenied}},
		"no connection": {func(g *gateway) {
			warm(g)
			g.c1.Close()
			until(t, "the gateway has noticed", func() bool { return reasonOf(g.list()) == "UPSTREAM_UNREACHABLE" })
		}, "UPSTREAM_UNREACHABLE", []audit.Kind{audit.KindIntent, audit.KindOutcome}},
		"401, then no token": {func(g *gateway) {
			warm(g)
			g.c1.Inject(sandbox.Rule{Fault: sandbox.Unauthorized()}, sandbox.Rule{Fault: sandbox.Reset(), On: sandbox.TokenEndpoint})
		}, "TOKEN_UNAVAILABLE", []audit.Kind{audit.KindIntent, audit.KindOutcome}},
	}
	for name, tt := range tests {
		g := start(t)
		tt.arrange(g)
		g.c1.Reset()
		for _, r := range []*http.Request{g.own("POST", g.confirmPath("nodata-1"), "sync-bot", "{}"), g.own("GET", g.listPath(), "sync-bot", "")} {
			status, header, body := do(t, g.httpClient(true), r)
			code, info, err := readStatus(header, body)
			if err != nil || status != 503 || code != connect.CodeUnavailable || info.GetReason() != tt.reason || g.c1.AcceptedHits() != 0 {
				t.Errorf("%s: %s got %d %s (%v)", name, r.Method, status, body, err)
			}
			var kinds []audit.Kind
			for _, record := range g.records(header.Get("X-Request-Id")) {
				kinds = append(kinds, record.Kind)
			}
			if !slices.Equal(kinds, tt.kinds) && name != "401, then no token" {
				t.Errorf("%s: %s has the records %v", name, r.Method, kinds)
			}
		}
	}
}

// C1 that does not answer, or not to the end, in the time that it has: a read
// has 504, a write 500, and it is on record that nobody knows.
func TestRESTTimeout(t *testing.T) {
	g := start(t, func(s *setup) {
		s.yaml = func(text string) string {
			return strings.Replace(text, "    allow_insecure: true", "    allow_insecure: true\n    timeout: 1s", 1)
		}
	})
	until(t, "a call has been in time", func() bool { return g.list() == nil })
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	for _, f := range []sandbox.Fault{sandbox.Held(never), sandbox.StalledBody(never), sandbox.Drip(50 * time.Millisecond)} {
		g.c1.Inject(sandbox.Rule{Fault: f, Times: 2})
		for want, r := range map[int]*http.Request{504: g.own("GET", g.listPath(), "sync-bot", ""), 500: g.own("POST", g.confirmPath("nodata-"+f.String()[:1]), "sync-bot", "{}")} {
			if f.String() == "drip" && want == 500 {
				continue // the answer {} is not long enough
			}
			status, header, body := do(t, g.httpClient(true), r)
			code, info, err := readStatus(header, body)
			if err != nil || status != want || code != connect.CodeDeadlineExceeded || info.GetReason() != "DEADLINE_EXCEEDED" {
				t.Errorf("%s, %s: got %d %s (%v)", r.Method, f, status, body, err)
			}
			records := g.records(header.Get("X-Request-Id"))
			if len(records) != 2 || records[1].Outcome != audit.OutcomeIndeterminate || records[1].Code != "deadline_exceeded" || records[1].ClientGone {
				t.Errorf("%s, %s: records %+v", r.Method, f, records)
			}
		}
		g.c1.Heal()
	}
}

// A caller who leaves while C1 answers, over HTTP/1, undoes nothing.
func TestRESTCallerGoneHTTP1(t *testing.T) {
	came, left := make(chan string, 1), make(chan struct{})
	g := withFront(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == "POST" {
			came <- r.Header.Get("X-Request-Id")
			<-left
		}
		return true
	})
	warm(g)
	ctx, cancel := context.WithCancel(t.Context())
	r := g.own("POST", g.confirmPath(g.facts.SyncLifecycleID), "sync-bot", "{}").WithContext(ctx)
	answered := make(chan error, 1)
	go func() {
		response, err := g.httpClient(true).Do(r)
		if err == nil {
			response.Body.Close()
		}
		answered <- err
	}()
	id := <-came
	cancel()
	if err := <-answered; err == nil {
		t.Error("a caller who left was answered")
	}
	close(left)
	until(t, "the outcome is on record", func() bool { return len(g.records(id)) == 2 })
	if last := g.records(id)[1]; last.Outcome != audit.OutcomeOK || last.UpstreamStatus != 200 || last.Code != "ok" {
		t.Errorf("outcome %+v", last)
	}
}

// C1 that turns the connection into something else, or says nothing but that it
// works on it, is held to the time that it has, on every door.
func TestSwitchedProtocol(t *testing.T) {
	done := make(chan struct{})
	g := withFront(t, func(w http.ResponseWriter, r *http.Request) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return true
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: canary\r\n\r\n{}")
		<-done
		return false
	}, func(s *setup) {
		s.yaml = func(text string) string {
			return strings.Replace(text, "    allow_insecure: true", "    allow_insecure: true\n    timeout: 2s", 1)
		}
	})
	t.Cleanup(func() { close(done) })
	client := g.httpClient(true)
	client.Timeout = 5 * time.Second
	for want, r := range map[int]*http.Request{503: g.own("GET", g.listPath(), "sync-bot", ""), 500: g.own("POST", g.confirmPath("nodata-1"), "sync-bot", "{}")} {
		if status, _, body := do(t, client, r); status != want {
			t.Errorf("%s: got %d %s", r.Method, status, body)
		}
	}
}

// P7: an answer that is longer than it says makes net/http print the rest of it,
// bytes of C1's, unless it is kept from that.
func TestNothingOfC1IsPrinted(t *testing.T) {
	g := &gateway{t: t, dir: filepath.Join(t.TempDir(), "audit"), keys: map[string]string{}}
	var err error
	if g.c1, err = sandbox.Start("127.0.0.1:0", sandbox.Config{}); err != nil {
		t.Fatal(err)
	}
	defer g.c1.Close()
	g.facts = g.c1.Facts()
	configFile := filepath.Join(filepath.Dir(g.dir), "c1proxy.yaml")
	if err := os.WriteFile(configFile, []byte(g.configuration(g.c1.URL())), 0o600); err != nil {
		t.Fatal(err)
	}
	g.c1.Inject(sandbox.Rule{Fault: sandbox.ShortLength()})
	p := serveBinary(t, configFile)
	g.url = p.url
	for range 10 {
		if status, _, body := do(t, g.httpClient(true), g.own("GET", g.listPath(), "sync-bot", "")); status != 500 {
			t.Errorf("got %d %s", status, body)
		}
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.printed
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if text := p.stderr.String(); strings.Contains(text, "Unsolicited") || strings.Contains(text, "displayName") || !strings.Contains(text, "UPSTREAM_UNUSABLE") {
		t.Errorf("stderr:\n%s", text)
	}
}
