package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
)

// maxKey bounds, in bytes, what an error repeats of a query's key.
const maxKey = 64

// Read returns the raw query and the body of a call, after checking what the
// request says of them; neither is parsed. limit bounds the body, in bytes.
//
//   - Where the fields travel in the query, there must be no body.
//   - Where they travel in a body, there must be no key in the query, and the
//     body must be application/json, in UTF-8 if it names a charset (415), and
//     not encoded (415). It may be empty: C1 requires none of its bodies.
//
// A body that turns out empty is none, whatever the header says of it. The
// error is a *fault.Fault.
func Read(rt *route.Route, r *http.Request, limit int) (query string, body []byte, err error) {
	if !rt.HasBody {
		some, err := holds(r)
		if some {
			err = fault.New(connect.CodeInvalidArgument, fault.BadRequest, "%s takes its fields from the query, and no body", rt.Method())
		}
		if err != nil {
			return "", nil, err
		}
		return r.URL.RawQuery, nil, nil
	}
	if key, some := firstKey(r.URL.RawQuery); some {
		return "", nil, fault.New(connect.CodeInvalidArgument, fault.BadRequest,
			"%s takes its fields from the body, and does not declare %q in the query", rt.Method(), key)
	}
	body, err = readBody(r, limit)
	return "", body, err
}

// firstKey is the first key of a query, cut at maxKey bytes.
func firstKey(query string) (key string, some bool) {
	pair, _, _ := strings.Cut(strings.TrimLeft(query, "&"), "&")
	if pair == "" {
		return "", false
	}
	key, _, _ = strings.Cut(pair, "=")
	if text, err := url.QueryUnescape(key); err == nil {
		key = text
	}
	return key[:min(len(key), maxKey)], true
}

// holds says whether the request has a body of at least one byte, which is
// read if there is no other way to tell.
func holds(r *http.Request) (bool, error) {
	if r.ContentLength >= 0 || r.Body == nil {
		return r.ContentLength > 0, nil
	}
	n, err := io.ReadFull(r.Body, make([]byte, 1))
	if err == nil || errors.Is(err, io.EOF) {
		return n > 0, nil
	}
	return false, unread(r.Context(), err)
}

// readBody reads a JSON body of at most limit bytes.
func readBody(r *http.Request, limit int) ([]byte, error) {
	if unfit := checkMedia(r.Header); unfit != nil {
		some, err := holds(r)
		if some {
			err = unfit
		}
		return nil, err
	}
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > int64(limit) {
		return nil, tooLarge(limit)
	}
	buffer := bytes.NewBuffer(make([]byte, 0, max(r.ContentLength, 0)+bytes.MinRead))
	n, err := buffer.ReadFrom(io.LimitReader(r.Body, int64(limit)+1))
	var cutOff *http.MaxBytesError
	switch {
	case n > int64(limit) || errors.As(err, &cutOff):
		return nil, tooLarge(limit)
	case err != nil:
		return nil, unread(r.Context(), err)
	}
	return buffer.Bytes(), nil
}

// checkMedia returns the fault of a body that is not plain JSON, or nil.
func checkMedia(header http.Header) error {
	for _, value := range header["Content-Encoding"] {
		for coding := range strings.SplitSeq(value, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return unsupported("its Content-Encoding must be identity, or none")
			}
		}
	}
	types := header["Content-Type"]
	if len(types) != 1 {
		return unsupported("it needs the Content-Type application/json")
	}
	if types[0] == "application/json" {
		return nil
	}
	media, parameters, err := mime.ParseMediaType(types[0])
	if err != nil || media != "application/json" {
		return unsupported("it needs the Content-Type application/json")
	}
	for name, value := range parameters {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return unsupported("its Content-Type may say charset=utf-8, and nothing else")
		}
	}
	return nil
}

func unsupported(why string) error {
	f := fault.New(connect.CodeInvalidArgument, fault.BadRequest, "the body cannot be read: %s", why)
	f.Status = http.StatusUnsupportedMediaType
	return f
}

func tooLarge(limit int) error {
	return fault.New(connect.CodeResourceExhausted, fault.TooLarge, "the body is larger than %d bytes", limit)
}

// unread is the fault of a body that did not arrive. On HTTP/1 net/http cancels
// the context whatever the reason is.
func unread(ctx context.Context, err error) error {
	var known *fault.Fault
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, os.ErrDeadlineExceeded):
		f := fault.New(connect.CodeDeadlineExceeded, fault.DeadlineExceeded, "the body did not arrive in time; nothing was sent").Because(err)
		f.Status = http.StatusRequestTimeout
		return f
	case ctx.Err() != nil:
		return fault.Of(ctx.Err())
	}
	return fault.New(connect.CodeInvalidArgument, fault.BadRequest, "the body did not arrive whole").Because(err)
}
