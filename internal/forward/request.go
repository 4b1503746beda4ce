package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/telemetry"
)

// Headers whose values never change, shared by all requests and read only.
var (
	jsonType   = []string{"application/json"}
	acceptJSON = []string{"application/json"}
)

// request builds the HTTP request. Its headers are exactly those listed here
// and those that net/http adds (Host, Content-Length, Accept-Encoding). Only a
// call that is traced has a traceparent, and it is the attempt's own.
//
// The path goes out as Opaque, byte for byte as it was checked: net/http would
// otherwise decode and encode it anew. A request with a body has no GetBody,
// so that net/http cannot replay it (golang/go#19943); a method that has side
// effects always has a body, be it empty, for the same reason.
//
// The error is that of a token which is for another host: it cannot happen,
// and if it did nothing would be sent.
func (x *Exchange) request(ctx context.Context, span *telemetry.Span) (*http.Request, error) {
	u := x.upstream.cfg.URL
	header := make(http.Header, 6)
	if span != nil {
		header["Traceparent"] = []string{span.Traceparent()}
	}
	header["Accept"] = acceptJSON
	header["User-Agent"] = x.upstream.agent
	header["X-Request-Id"] = x.requestID
	request := (&http.Request{
		Method: x.route.Verb,
		URL:    &url.URL{Scheme: u.Scheme, Host: u.Host, Opaque: x.target.Path, RawQuery: x.target.Query},
		Host:   u.Host,
		Header: header,
	}).WithContext(ctx)
	if x.route.HasBody || !x.route.ReadOnly {
		header["Content-Type"] = jsonType
		request.Body = io.NopCloser(bytes.NewReader(x.target.Body))
		request.ContentLength = int64(len(x.target.Body))
	}
	return request, x.token.Authorize(request)
}

// redact removes the access token from a message, should C1 ever echo it.
func (x *Exchange) redact(f *fault.Fault) *fault.Fault {
	_, token, _ := strings.Cut(x.token.Authorization(), " ")
	f.Message = strings.ReplaceAll(f.Message, token, "[redacted]")
	return f
}

// A flight observes whether a request can have left, and how often.
type flight struct {
	connections atomic.Int32
}

// trace returns a context that tells f when the transport has a connection
// for the request. Until then not a byte of it can have been written.
func (f *flight) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { f.connections.Add(1) },
	})
}

// departed is false only if no connection was had. What happens on a
// connection cannot be proven from outside net/http, and counts as sent.
func (f *flight) departed() bool { return f.connections.Load() > 0 }

// attempts are those of a request whose last one had the status. net/http sends
// a GET once more by itself when a connection that it has used before breaks
// (see http.Transport), and each time the request has a connection of its own. For
// anything else it does so only if not a byte was written.
func (f *flight) attempts(readOnly bool, status int) []int {
	if n := int(f.connections.Load()); readOnly && n > 1 {
		return append(make([]int, n-1), status)
	}
	return []int{status}
}

var errTooLarge = errors.New("the answer is too large")

// read reads and closes the body, up to maxAnswer bytes. On an error the
// bytes read so far are dropped.
func read(response *http.Response) ([]byte, error) {
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		return nil, nil // the body is the connection, which no context bounds
	}
	if response.ContentLength > maxAnswer {
		return nil, errTooLarge
	}
	size := max(response.ContentLength, 0)
	buffer := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	n, err := buffer.ReadFrom(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read answer: %w", err)
	case n > maxAnswer:
		return nil, errTooLarge
	}
	return buffer.Bytes(), nil
}
