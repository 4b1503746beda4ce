package rest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/rest"
	"github.com/c1proxy/c1proxy/internal/route"
)

const limit = 64

// one returns a route with a body and one without.
func one(t testing.TB) (write, read *route.Route) {
	t.Helper()
	_, routes := described(t, shelf)
	for _, r := range routes {
		switch name(r) {
		case "Create":
			write = r
		case "List":
			read = r
		}
	}
	return write, read
}

// A wire sends requests through net/http, so that their framing is as it is
// on the wire, and returns what Read makes of them. Of a body of unknown
// length net/http makes a chunked one.
type wire struct {
	server *httptest.Server
	route  *route.Route
	query  string
	body   []byte
	err    error
}

func newWire(t *testing.T) *wire {
	w := new(wire)
	w.server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		w.query, w.body, w.err = rest.Read(w.route, r, limit)
	}))
	t.Cleanup(w.server.Close)
	return w
}

func (w *wire) send(t *testing.T, rt *route.Route, request *http.Request) (query string, body []byte, err error) {
	t.Helper()
	w.route = rt
	request.URL.Scheme, request.URL.Host, request.RequestURI = "http", w.server.Listener.Addr().String(), ""
	response, err := w.server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return w.query, w.body, w.err
}

// What a request says of its query and its body, by verb, header and framing.
func TestRead(t *testing.T) {
	full, long := strings.Repeat("x", limit), strings.Repeat("x", limit+1)
	type headers map[string][]string
	json := headers{"Content-Type": {"application/json"}}
	tests := []struct {
		write  bool
		query  string
		header headers
		body   string
		status int // 0 if it passes
	}{
		{false, "", nil, "", 0},
		{false, "page_size=1&page_token=a%20b", nil, "", 0},
		{false, "", json, "", 0},
		{false, "", headers{"Content-Type": {"text/html"}, "Content-Encoding": {"gzip"}}, "", 0},
		{false, "", json, "{}", 400},
		{false, "", nil, "x", 400},
		{false, "a=b", json, long, 400},

		{true, "", json, "{}", 0},
		{true, "", json, full, 0},
		{true, "", json, long, 413},
		{true, "", json, long + long + long, 413},
		{true, "", nil, "", 0},
		{true, "", json, "", 0},
		{true, "", headers{"Content-Type": {"text/plain"}}, "", 0},
		{true, "", headers{"Content-Type": {"application/x-www-form-urlencoded"}}, "", 0},
		{true, "", headers{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, "", 0},
		{true, "", headers{"Content-Type": {"application/json; charset=utf-8"}}, "{}", 0},
		{true, "", headers{"Content-Type": {"application/json;charset=UTF-8"}}, "{}", 0},
		{true, "", headers{"Content-Type": {`Application/JSON; Charset="utf-8"`}}, "{}", 0},
		{true, "", headers{"Content-Type": {"application/json"}, "Content-Encoding": {"identity"}}, "{}", 0},
		{true, "", headers{"Content-Type": {"application/json"}, "Content-Encoding": {""}}, "{}", 0},
		{true, "", nil, "{}", 415},
		{true, "", headers{"Content-Type": {""}}, "{}", 415},
		{true, "", headers{"Content-Type": {"text/plain"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"text/plain"}}, long, 415},
		{true, "", headers{"Content-Type": {"application/x-www-form-urlencoded"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"multipart/form-data; boundary=x"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"text/json"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"application/json+x"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"application/proto"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"application/grpc"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"application/json; charset=latin1"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"application/json; charset=utf-8; x=y"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"application/json; x=y"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"application/json, text/plain"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"application/json", "application/json"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"application/json"}, "Content-Encoding": {"identity, br"}}, "{}", 415},
		{true, "", headers{"Content-Type": {"application/json"}, "Content-Encoding": {"identity", "GZIP"}}, "{}", 415},
		{true, "?", json, "{}", 400},
		{true, "&&", json, "{}", 0},
		{true, "a=b", json, "{}", 400},
		{true, "a", json, "{}", 400},
		{true, "=", json, "{}", 400},
		{true, "&a%zz=b", nil, "", 400},
		{true, "_method=DELETE", json, "{}", 400},
	}
	write, read := one(t)
	over := newWire(t)
	for _, tt := range tests {
		for _, chunked := range []bool{false, true} {
			var reader io.Reader = strings.NewReader(tt.body)
			if chunked {
				reader = iotest.OneByteReader(reader)
			}
			request := httptest.NewRequest(http.MethodPost, "/x", reader)
			request.URL.RawQuery = tt.query
			for key, values := range tt.header {
				request.Header[key] = values
			}
			// No header overrides the verb, or what it says of the body.
			for _, key := range []string{"X-Http-Method-Override", "X-Method-Override", "X-Http-Method"} {
				request.Header.Set(key, "GET")
			}
			rt := read
			if tt.write {
				rt = write
			}
			query, body, err := over.send(t, rt, request)
			switch {
			case tt.status == 0:
				if err != nil || !tt.write && query != tt.query || tt.write && string(body) != tt.body {
					t.Errorf("%+v, chunked %v: got %q, %q, %v", tt, chunked, query, body, err)
				}
			case err == nil || query != "" || body != nil || fault.Of(err).HTTPStatus() != tt.status:
				t.Errorf("%+v, chunked %v: got %q, %q, %v", tt, chunked, query, body, err)
			}
		}
	}
}

// A key is repeated to the caller, so that it can be found; a value never is.
func TestReadNamesTheKey(t *testing.T) {
	write, _ := one(t)
	for query, want := range map[string]string{
		"a%20b=secret":                           `"a b"`,
		"&&x=secret&y=1":                         `"x"`,
		"a%zz=secret":                            `"a%zz"`,
		strings.Repeat("k", 1000) + "=secret":    `"` + strings.Repeat("k", 64) + `"`,
		"%00%ff=secret":                          `"\x00\xff"`,
		strings.Repeat("%C3%A9", 100) + "=s":     strings.Repeat("é", 32),
		"x" + strings.Repeat("%C3%A9", 100) + "": "x" + strings.Repeat("é", 31),
	} {
		_, _, err := rest.Read(write, httptest.NewRequest("POST", "/x?"+query, nil), limit)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") || len(err.Error()) > 300 {
			t.Errorf("%.30s: got %v, want it to name %s", query, err, want)
		}
	}
}

// A body that breaks off is the caller's mistake, or the caller's own haste.
func TestReadBroken(t *testing.T) {
	write, read := one(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		err    error
		code   connect.Code
		status int
	}{
		{"cut", t.Context(), io.ErrUnexpectedEOF, connect.CodeInvalidArgument, 400},
		{"broken", t.Context(), errors.New("10.0.0.1"), connect.CodeInvalidArgument, 400},
		{"slow", t.Context(), &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, connect.CodeDeadlineExceeded, 408},
		{"slow, by HTTP/1", gone, &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, connect.CodeDeadlineExceeded, 408},
		{"left", gone, errors.New("reset"), connect.CodeCanceled, 499},
		{"past the server's bound", t.Context(), &http.MaxBytesError{Limit: 10}, connect.CodeResourceExhausted, 413},
	} {
		for _, known := range []bool{true, false} {
			for _, rt := range []*route.Route{write, read} {
				if rt == read && (known || tt.status == 413) {
					continue // told by the length alone; and a byte is never too many
				}
				for _, media := range []string{"application/json", "text/plain"} {
					if rt == write && media != "application/json" && (known || tt.status == 413) {
						continue // as above
					}
					reader := iotest.ErrReader(tt.err)
					if media == "application/json" && rt == write {
						reader = io.MultiReader(strings.NewReader("{"), reader)
					}
					request := httptest.NewRequest("POST", "/x", reader).WithContext(tt.ctx)
					request.Header.Set("Content-Type", media)
					if request.ContentLength = -1; known {
						request.ContentLength = 10
					}
					_, body, err := rest.Read(rt, request, limit)
					f := fault.Of(err)
					if f == nil || f.Code != tt.code || f.HTTPStatus() != tt.status || body != nil || strings.Contains(f.Message, "10.0.0.1") {
						t.Errorf("%s, %s, length known %v, %s: got %q, %v", tt.name, name(rt), known, media, body, err)
					}
				}
			}
		}
	}
}

// What is declared too large, or not wanted, is refused before it is read.
func TestReadReadsNoMore(t *testing.T) {
	write, read := one(t)
	for _, rt := range []*route.Route{write, read} {
		request := httptest.NewRequest("POST", "/x", iotest.ErrReader(errors.New("it was read")))
		request.Header.Set("Content-Type", "application/json")
		request.ContentLength = limit + 1
		if _, _, err := rest.Read(rt, request, limit); err == nil || strings.Contains(err.Error(), "it was read") {
			t.Errorf("%s: got %v", name(rt), err)
		}
	}
	endless := &counter{}
	request := httptest.NewRequest("POST", "/x", endless)
	request.Header.Set("Content-Type", "application/json")
	request.ContentLength = -1
	if _, _, err := rest.Read(write, request, limit); fault.Of(err).HTTPStatus() != 413 || endless.n > limit+1 {
		t.Errorf("endless: got %v after %d bytes", err, endless.n)
	}
}

// counter is an endless body that counts.
type counter struct{ n int }

func (c *counter) Read(p []byte) (int, error) {
	c.n += len(p)
	return copy(p, bytes.Repeat([]byte("x"), len(p))), nil
}
