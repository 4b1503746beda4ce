package sandbox_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// open sends a ForceSync, and leaves the body to the caller.
func (h *harness) open(ctx context.Context) *http.Response {
	h.t.Helper()
	request, err := http.NewRequestWithContext(ctx, "POST", h.URL()+connectorPath+"/force_sync", strings.NewReader("{}"))
	if err != nil {
		h.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+h.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := h.client.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	return response
}

// onlySpace counts what it is given, {} with white space in between.
type onlySpace struct {
	t    *testing.T
	size int64
	seen string // what is no white space
}

func (o *onlySpace) Write(p []byte) (int, error) {
	o.size += int64(len(p))
	if rest := string(bytes.TrimSpace(p)); rest != "" {
		o.seen += rest
	}
	return len(p), nil
}

// TestFlood holds that the large answers are as large as they say, to the
// last byte, and are JSON.
func TestFlood(t *testing.T) {
	h := start(t, sandbox.Config{})
	h.Inject(sandbox.Rule{Fault: sandbox.Huge(8), Times: 1}, sandbox.Rule{Fault: sandbox.GzipBomb(8), Times: 1})
	for _, name := range []string{"huge", "bomb"} {
		response := h.open(t.Context())
		defer response.Body.Close()
		body := io.Reader(response.Body)
		if name == "bomb" {
			if size := response.ContentLength; size > 50<<10 || size < 1 || response.Header.Get("Content-Encoding") != "gzip" {
				t.Errorf("the bomb has %d bytes, headers %v", size, response.Header)
			}
			unpacked, err := gzip.NewReader(body)
			if err != nil {
				t.Fatal(err)
			}
			body = unpacked
		}
		count := &onlySpace{t: t}
		if _, err := io.Copy(count, body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if count.size != 8<<20+2 || count.seen != "{}" {
			t.Errorf("%s: %d bytes, %.20q", name, count.size, count.seen)
		}
	}
	if h.Acts(sandbox.ForceSync) != 0 {
		t.Error("it acted")
	}
}

// TestFloodEnds sees that a gigabyte is no more than what the client reads.
func TestFloodEnds(t *testing.T) {
	h := start(t, sandbox.Config{})
	h.Inject(sandbox.Rule{Fault: sandbox.Huge(1024)})
	ctx, cancel := context.WithCancel(t.Context())
	response := h.open(ctx)
	if _, err := io.CopyN(io.Discard, response.Body, 3<<20); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, response.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	response.Body.Close()
}

func TestNested(t *testing.T) {
	h := start(t, sandbox.Config{})
	h.Inject(sandbox.Rule{Fault: sandbox.Nested(100_000)})
	got := h.force()
	got.want(t, 200, -1)
	if depth := strings.Count(got.body, "["); depth != 100_000 || depth != strings.Count(got.body, "]") || json.Valid([]byte(got.body)) {
		t.Errorf("nested %d deep, and encoding/json takes it: %v", depth, json.Valid([]byte(got.body)))
	}
}

// TestTokenFaults holds what goes wrong at the token endpoint, and whether a
// token was issued.
func TestTokenFaults(t *testing.T) {
	for _, test := range []struct {
		fault  sandbox.Fault
		status int
		body   string // a part
		acts   int
	}{
		{sandbox.OAuthError(400, "invalid_client"), 400, `"invalid_client"`, 0},
		{sandbox.OAuthError(401, "invalid_client"), 401, `"invalid_client"`, 0},
		{sandbox.RateLimited("5"), 429, "", 0},
		{sandbox.Failing(500), 500, "", 0},
		{sandbox.HTML(200), 200, "<html>", 0},
		{sandbox.Answer(200, "application/json", "{]"), 200, "{]", 0},
		{sandbox.ExpiresIn(-1), 200, `"expires_in":-1`, 1},
		{sandbox.ExpiresIn(json.Number("1e300")), 200, `"expires_in":1e300`, 1},
		{sandbox.ExpiresIn("soon"), 200, `"expires_in":"soon"`, 1},
		{sandbox.Echo(400, "canary"), 400, "PLAINSECRET", 0},
		{sandbox.Redirect(307, "https://evil.example/"), 307, "", 0},
		{sandbox.Truncated(), 200, `{"access_token"`, 1},
	} {
		t.Run(test.fault.String(), func(t *testing.T) {
			h := start(t, sandbox.Config{})
			h.Inject(sandbox.Rule{Fault: test.fault, On: sandbox.TokenEndpoint, Times: 1})
			got := h.exchangeRaw(t.Context(), plainForm(h.Facts()))
			part := strings.ReplaceAll(test.body, "PLAINSECRET", h.Facts().PlainClientSecret)
			if got.status != test.status || !strings.Contains(got.body, part) {
				t.Errorf("got %d %s", got.status, got.body)
			}
			if h.Acts(sandbox.TokenEndpoint) != test.acts || h.TokenHits() != 1 || h.Hits() != 0 {
				t.Errorf("issued %d at %d hits", h.Acts(sandbox.TokenEndpoint), h.TokenHits())
			}
			if seen := h.TokenRequests()[0]; seen.Fault != test.fault.String() || seen.Status != test.status || seen.Procedure != sandbox.TokenEndpoint {
				t.Errorf("recorded %+v", seen)
			}
		})
	}
}

// exchangeRaw is exchange without reading the answer.
func (h *harness) exchangeRaw(ctx context.Context, form url.Values) reply {
	h.t.Helper()
	request, err := http.NewRequestWithContext(ctx, "POST", h.URL()+sandbox.TokenPath, strings.NewReader(form.Encode()))
	if err != nil {
		h.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return h.do(request)
}

func TestTokenStall(t *testing.T) {
	h := start(t, sandbox.Config{})
	h.Inject(sandbox.Rule{Fault: sandbox.Held(nil), On: sandbox.TokenEndpoint, Times: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		for h.TokenHits() == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if got := h.exchangeRaw(ctx, plainForm(h.Facts())); !errors.Is(got.err, context.Canceled) {
		t.Errorf("got %+v", got)
	}
	if got := h.exchangeRaw(t.Context(), plainForm(h.Facts())); got.status != 200 {
		t.Errorf("once it heals: got %+v", got)
	}
}
