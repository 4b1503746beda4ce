package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// TestReplacedAnswers holds of each fault that replaces the answer what a
// client sees, that it does not act, and that it does after AfterActing.
func TestReplacedAnswers(t *testing.T) {
	date := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for _, test := range []struct {
		fault       sandbox.Fault
		status      int
		contentType string
		body        string // the whole of it, or a part after "..."
		header      [2]string
	}{
		{sandbox.Unauthorized(), 401, "application/json", `{"code":16,"details":[],"message":"Unauthorized"}`, [2]string{}},
		{sandbox.Failing(403), 403, "application/json", `..."code":7`, [2]string{}},
		{sandbox.Failing(409), 409, "application/json", `..."code":10`, [2]string{}},
		{sandbox.Failing(412), 412, "application/json", `..."code":9`, [2]string{}},
		{sandbox.Failing(500), 500, "application/json", `..."code":13`, [2]string{}},
		{sandbox.Failing(502), 502, "application/json", `..."code":14`, [2]string{}},
		{sandbox.Failing(503), 503, "application/json", `..."code":14`, [2]string{}},
		{sandbox.Failing(504), 504, "application/json", `..."code":4`, [2]string{}},
		{sandbox.RateLimited(""), 429, "application/json", `..."code":8`, [2]string{"Retry-After", ""}},
		{sandbox.RateLimited("7"), 429, "application/json", `..."code":8`, [2]string{"Retry-After", "7"}},
		{sandbox.RateLimited(date), 429, "application/json", "...", [2]string{"Retry-After", date}},
		{sandbox.RateLimited("soon"), 429, "application/json", "...", [2]string{"Retry-After", "soon"}},
		{sandbox.RateLimited("1000000000"), 429, "application/json", "...", [2]string{"Retry-After", "1000000000"}},
		{sandbox.RPCStatus(500, 0, "fine"), 500, "application/json", `{"code":0,"details":[],"message":"fine"}`, [2]string{}},
		{sandbox.RPCStatus(400, 17, "x"), 400, "application/json", `..."code":17`, [2]string{}},
		{sandbox.RPCStatus(404, -1, "x"), 404, "application/json", `..."code":-1`, [2]string{}},
		{sandbox.RPCStatus(400, "NOT_FOUND", "x"), 400, "application/json", `..."code":"NOT_FOUND"`, [2]string{}},
		{sandbox.RPCStatus(200, 5, "x"), 200, "application/json", `..."code":5`, [2]string{}},
		{sandbox.Redirect(301, "https://evil.example/x"), 301, "", "", [2]string{"Location", "https://evil.example/x"}},
		{sandbox.Redirect(302, "/x"), 302, "", "", [2]string{"Location", "/x"}},
		{sandbox.Redirect(303, "/x"), 303, "", "", [2]string{"Location", "/x"}},
		{sandbox.Redirect(307, "/x"), 307, "", "", [2]string{"Location", "/x"}},
		{sandbox.Redirect(308, "/x"), 308, "", "", [2]string{"Location", "/x"}},
		{sandbox.HTML(200), 200, "text/html; charset=utf-8", "...<!DOCTYPE html>", [2]string{}},
		{sandbox.HTML(502), 502, "text/html; charset=utf-8", "...<h1>", [2]string{}},
		{sandbox.Empty(), 200, "application/json", "", [2]string{"Content-Length", "0"}},
		{sandbox.Nested(3), 200, "application/json", `{"nested":[[[]]]}`, [2]string{}},
		{sandbox.Answer(418, "text/plain", "teapot"), 418, "text/plain", "teapot", [2]string{}},
		{sandbox.OAuthError(400, "invalid_client"), 400, "application/json", `{"error":"invalid_client"}`, [2]string{}},
		{sandbox.Echo(500, "canary"), 500, "application/json", "...canary Authorization: Bearer static-", [2]string{}},
	} {
		t.Run(test.fault.String(), func(t *testing.T) {
			h := start(t, sandbox.Config{})
			h.Inject(sandbox.Rule{Fault: test.fault, Times: 1}, sandbox.Rule{Fault: test.fault.AfterActing(), Times: 1})
			for acts := range 2 {
				got := h.force()
				got.want(t, test.status, -1)
				part, some := strings.CutPrefix(test.body, "...")
				if got.body != test.body && !some || !strings.Contains(got.body, part) {
					t.Errorf("got body %q", got.body)
				}
				if got.header.Get("Content-Type") != test.contentType || got.header.Get(test.header[0]) != test.header[1] {
					t.Errorf("got headers %v", got.header)
				}
				seen := h.last()
				if h.Acts(sandbox.ForceSync) != acts || seen.Acted != (acts == 1) || seen.Status != test.status ||
					seen.Accepted != (test.status != 401) || !strings.HasPrefix(seen.Fault, test.fault.String()) {
					t.Errorf("acted %d times; recorded %+v", h.Acts(sandbox.ForceSync), seen)
				}
			}
			h.force().want(t, 200, -1) // the rules are used up
		})
	}
}

// TestDamagedAnswers holds of each fault that damages the answer what a
// client sees on HTTP/1 and HTTP/2, and that it acted, once.
func TestDamagedAnswers(t *testing.T) {
	for _, test := range []struct {
		fault sandbox.Fault
		check func(t *testing.T, got reply, proto string)
	}{
		{sandbox.Truncated(), func(t *testing.T, got reply, _ string) {
			if got.status != 200 || got.err != nil || got.body != "{" {
				t.Errorf("got %+v", got)
			}
		}},
		{sandbox.CutBody(), func(t *testing.T, got reply, proto string) {
			if got.status != 200 || got.err == nil || proto == "HTTP/1.1" && !errors.Is(got.err, io.ErrUnexpectedEOF) {
				t.Errorf("got %+v", got)
			}
		}},
		{sandbox.ShortLength(), func(t *testing.T, got reply, _ string) {
			if got.status != 200 || got.err != nil || got.body != "{" || got.header.Get("Content-Length") != "1" {
				t.Errorf("got %+v", got)
			}
		}},
		{sandbox.Reset().AfterActing(), resetSeen},
		{sandbox.Disconnect().AfterActing(), func(t *testing.T, got reply, _ string) {
			if got.err == nil || errors.Is(got.err, syscall.ECONNRESET) || strings.Contains(got.err.Error(), "stream error") {
				t.Errorf("got %+v", got)
			}
		}},
		{sandbox.Slow(30 * time.Millisecond), goodAnswer},
		{sandbox.Drip(time.Millisecond), goodAnswer},
		{sandbox.DuplicateKey(), func(t *testing.T, got reply, _ string) {
			if got.body != `{"sandboxTwice":1,"sandboxTwice":null}` {
				t.Errorf("got %s", got.body)
			}
		}},
	} {
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(test.fault.String()+" "+proto, func(t *testing.T) {
				h := start(t, sandbox.Config{})
				h.client = newClient(t, nil, proto == "HTTP/2.0")
				h.force().want(t, 200, -1) // so that the connection is not a new one
				h.Inject(sandbox.Rule{Fault: test.fault, Times: 1})
				test.check(t, h.force(), proto)
				seen := h.last()
				if seen.Proto != proto || !seen.Acted || !seen.Accepted || h.Acts(sandbox.ForceSync) != 2 || h.Hits() != 2 {
					t.Errorf("acted %d times; recorded %+v", h.Acts(sandbox.ForceSync), seen)
				}
				// What the fault left on a connection is not to answer this one.
				h.client.CloseIdleConnections()
				h.force().want(t, 200, -1)
			})
		}
	}
}

func goodAnswer(t *testing.T, got reply, _ string) {
	if got.want(t, 200, -1); got.body != "{}" {
		t.Errorf("got %q", got.body)
	}
}

// resetSeen wants RST on HTTP/1, and RST_STREAM on HTTP/2, not the end of the
// connection.
func resetSeen(t *testing.T, got reply, proto string) {
	if proto == "HTTP/1.1" && !errors.Is(got.err, syscall.ECONNRESET) {
		t.Errorf("got %v", got.err)
	}
	if proto == "HTTP/2.0" && (got.err == nil || !strings.Contains(got.err.Error(), "stream error")) {
		t.Errorf("got %v", got.err)
	}
}

// TestResets holds which of the silent faults are accepted, and that none acts.
func TestResets(t *testing.T) {
	for _, test := range []struct {
		fault    sandbox.Fault
		accepted bool
	}{{sandbox.Reset(), true}, {sandbox.Disconnect(), true}, {sandbox.ResetUnread(), false}, {sandbox.ResetUnread().AfterActing(), false}} {
		t.Run(test.fault.String(), func(t *testing.T) {
			h := start(t, sandbox.Config{})
			h.Inject(sandbox.Rule{Fault: test.fault})
			if got := h.force(); got.err == nil {
				t.Errorf("got %+v", got)
			}
			seen := h.last()
			if strings.Contains(seen.Fault, "after") {
				t.Errorf("the fault is %q", seen.Fault)
			}
			if seen.Accepted != test.accepted || seen.Acted || seen.Status != 0 || (seen.BodySize == 2) != test.accepted || h.Acts(sandbox.ForceSync) != 0 {
				t.Errorf("recorded %+v", seen)
			}
		})
	}
}

// TestHeld holds an answer, and half of one, until they are released or the
// client has gone, or the sandbox is closed.
func TestHeld(t *testing.T) {
	for name, fault := range map[string]func(<-chan struct{}) sandbox.Fault{"held": sandbox.Held, "stalled body": sandbox.StalledBody} {
		t.Run(name, func(t *testing.T) {
			h := start(t, sandbox.Config{})
			release := make(chan struct{})
			h.Inject(sandbox.Rule{Fault: fault(release), Times: 2}, sandbox.Rule{Fault: fault(nil)})
			replies := make(chan reply)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			begin := func() {
				hits := h.Hits()
				go func() { replies <- h.send(ctx, "POST", connectorPath+"/force_sync", "{}") }()
				for h.Acts(sandbox.ForceSync) != hits+1 {
					time.Sleep(time.Millisecond)
				}
				select {
				case got := <-replies:
					t.Fatalf("it was not held: %+v", got)
				case <-time.After(20 * time.Millisecond):
				}
				if got := h.last().Status; (got == 200) != (name == "stalled body") {
					t.Errorf("recorded status %d", got)
				}
			}
			begin()
			cancel()
			if got := <-replies; !errors.Is(got.err, context.Canceled) {
				t.Errorf("got %+v", got)
			}
			ctx = t.Context()
			begin()
			close(release)
			goodAnswer(t, <-replies, "")
			begin()
			if err := h.Close(); err != nil {
				t.Error(err)
			}
			if got := <-replies; got.err == nil {
				t.Errorf("after Close: got %+v", got)
			}
		})
	}
}

// TestStalledBody reads what comes before the stall.
func TestStalledBody(t *testing.T) {
	h := start(t, sandbox.Config{})
	release := make(chan struct{})
	h.Inject(sandbox.Rule{Fault: sandbox.StalledBody(release)})
	response := h.open(t.Context())
	defer response.Body.Close()
	first := make([]byte, 1)
	if n, err := io.ReadFull(response.Body, first); n != 1 || err != nil || first[0] != '{' || response.ContentLength != 2 {
		t.Errorf("got %q, %v, length %d", first, err, response.ContentLength)
	}
	close(release)
	if rest, err := io.ReadAll(response.Body); string(rest) != "}" || err != nil {
		t.Errorf("got %q, %v", rest, err)
	}
}

// TestFutureAnswers holds what is strange in an answer, and that the rest of
// it is still true.
func TestFutureAnswers(t *testing.T) {
	h := start(t, sandbox.Config{Files: shelfFiles(t)})
	plain := h.call("GET", "/api/v1/shelves/a", "").body
	for _, test := range []struct {
		fault sandbox.Fault
		parts []string // of the strange answer, not of the plain one
	}{
		{sandbox.UnknownField(), []string{`"otherId":"sandbox other id","sandboxUnknownField":{"list":[1,null],"since":"tomorrow"}}`, `"sandboxUnknownField":{"list":[1,null],"since":"tomorrow"},"sequels":[`}},
		{sandbox.UnknownEnum(), []string{`"color":"SANDBOX_VALUE_OF_TOMORROW"`, `"colors":["SANDBOX_VALUE_OF_TOMORROW"]`}},
		{sandbox.NullElement(), []string{`"colors":["COLOR_RED",null]`, `},null],"id":"a"`}},
		{sandbox.UnknownAny(), []string{`"config":{"@type":"type.googleapis.com/c1.sandbox.v1.Unheard"`, `{"id":"no type at all"}],"id":"a"`}},
		{sandbox.DuplicateKey(), []string{`{"id":"a","id":null,"id":"a","otherId":`}},
	} {
		h.Inject(sandbox.Rule{Fault: test.fault, Times: 1})
		got := h.call("GET", "/api/v1/shelves/a", "")
		got.want(t, 200, -1)
		if !json.Valid([]byte(got.body)) || !strings.Contains(got.body, `"title":"sandbox title"`) {
			t.Errorf("%s: got %s", test.fault, got.body)
		}
		for _, part := range test.parts {
			if !strings.Contains(got.body, part) || strings.Contains(plain, part) {
				t.Errorf("%s: no %s in %.2000s", test.fault, part, got.body)
			}
		}
	}
}

// TestUnknownAnyOfConnector sees the faults in what the demo shows.
func TestUnknownAnyOfConnector(t *testing.T) {
	h := start(t, sandbox.Config{})
	h.Inject(sandbox.Rule{Fault: sandbox.UnknownAny(), On: sandbox.GetConnector})
	got := h.call("GET", connectorPath, "")
	var answer struct {
		ConnectorView struct {
			Connector struct {
				Config map[string]any
				ID     string
			}
		}
		Expanded []map[string]any
	}
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Expanded) != 2 || answer.ConnectorView.Connector.Config["@type"] == nil || answer.ConnectorView.Connector.ID != sandbox.ConnectorID {
		t.Errorf("got %+v", answer)
	}
}

// TestRules holds which requests a rule is for.
func TestRules(t *testing.T) {
	h := start(t, sandbox.Config{})
	h.Inject(
		sandbox.Rule{Fault: sandbox.Failing(500), On: sandbox.ForceSync, After: 1, Times: 2},
		sandbox.Rule{Fault: sandbox.Failing(503), On: sandbox.ForceSync, Times: 1},
		sandbox.Rule{Fault: sandbox.Fault{}, On: sandbox.GetConnector, Times: 1},
		sandbox.Rule{Fault: sandbox.Failing(403), If: func(r *http.Request) bool { return r.Method == http.MethodGet }},
		sandbox.Rule{Fault: sandbox.Failing(429), On: sandbox.TokenEndpoint, Times: 1},
		sandbox.Rule{Fault: sandbox.Failing(409)},
	)
	var got []int
	for range 4 {
		got = append(got, h.force().status)
	}
	for range 2 {
		got = append(got, h.call("GET", connectorPath, "").status)
	}
	got = append(got, h.call("GET", "/nowhere", "").status)
	for range 2 {
		token, _ := h.exchange(plainForm(h.Facts()), nil)
		got = append(got, token.status)
	}
	h.Heal()
	got = append(got, h.call("GET", connectorPath, "").status)
	if want := []int{503, 500, 500, 409, 200, 403, 403, 429, 200, 200}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestFaultWithoutCredential sees that a fault does not act for a request
// that C1 would have refused.
func TestFaultWithoutCredential(t *testing.T) {
	h := start(t, sandbox.Config{})
	h.token = "wrong"
	h.Inject(sandbox.Rule{Fault: sandbox.Failing(500).AfterActing()})
	h.force().want(t, 500, 13)
	if h.Acts(sandbox.ForceSync) != 0 || h.last().Acted {
		t.Error("it acted")
	}
}
