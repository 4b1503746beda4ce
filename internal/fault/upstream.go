package fault

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"connectrpc.com/connect"
)

const (
	// maxMessage bounds, in bytes, what is kept of a C1 error's message.
	maxMessage = 1024
	// maxRetryAfter bounds a wait that C1 asks for.
	maxRetryAfter = time.Hour
	// defaultRetryAfter is the wait after a 429 that names none that reads.
	defaultRetryAfter = time.Second
)

// FromAnswer turns an HTTP answer of C1 that is not a usable success into a
// Fault. It is total: every status, header and body gives a code from 1 to 16.
//
// The HTTP status chooses the row of the table; a well-formed google.rpc.Status
// in the body of a 4xx that is meant for the caller may refine the code and give
// the message, and nothing else of the body is used. readOnly says that the
// method has no side effects. For any other method the code is unavailable in no
// row: the request was delivered, and may have acted.
func FromAnswer(readOnly bool, status int, header http.Header, body []byte) *Fault {
	f := row(readOnly, status, header)
	f.With("upstream_status", strconv.Itoa(status))
	if status < 400 || status > 499 {
		return f
	}
	if kept(status) {
		f.Status = status
	}
	said, ok := parseStatus(body)
	if !ok {
		return f
	}
	if refinable(status) && refining(said.Code) {
		f.Code = connect.Code(said.Code)
	}
	if kept(status) && said.Message != "" {
		f.Message = "C1: " + said.Message
	}
	return f
}

// row chooses by the HTTP status alone.
func row(readOnly bool, status int, header http.Header) *Fault {
	switch status {
	case http.StatusUnauthorized:
		return New(connect.CodeInternal, UpstreamCredentialRejected,
			"C1 refused c1proxy's own credential (401): an operator must look at the tenant's credential; yours is fine")
	case http.StatusProxyAuthRequired:
		return New(connect.CodeInternal, UpstreamCredentialRejected,
			"a proxy before C1 wants a credential of c1proxy (407): an operator must look at the way to C1; yours is fine")
	case http.StatusForbidden:
		return New(connect.CodePermissionDenied, UpstreamDenied,
			"C1 denied this to c1proxy's credential (403): an operator must give the tenant's credential the right")
	case http.StatusNotFound, http.StatusGone:
		return New(connect.CodeNotFound, UpstreamRefused, "C1 has no such object (%d)", status)
	case http.StatusConflict:
		return New(connect.CodeAborted, UpstreamRefused, "C1 reports a conflict (409)")
	case http.StatusPreconditionFailed:
		return New(connect.CodeFailedPrecondition, UpstreamRefused, "C1 reports a failed precondition (412)")
	case http.StatusTooManyRequests:
		f := New(connect.CodeResourceExhausted, UpstreamRateLimited, "C1's own rate limit is used up (429)")
		f.RetryAfter = RetryAfter(header, defaultRetryAfter)
		return f
	case http.StatusMethodNotAllowed:
		return New(connect.CodeUnimplemented, UpstreamRefused, "C1 does not serve this method on this path (405)")
	case http.StatusRequestTimeout, statusClientGone:
		return uncertain(readOnly, "C1 gave up waiting for the request (%d)", status)
	}
	switch {
	case status >= 400 && status <= 499:
		return New(connect.CodeInvalidArgument, UpstreamRefused, "C1 refused the request (%d)", status)
	case status >= 500 && status <= 599:
		return fromServerError(readOnly, status, header)
	case status >= 300 && status <= 399:
		return Unusable(readOnly, status, "C1 answered with a redirect, which c1proxy never follows")
	}
	return Unusable(readOnly, status, "C1 answered with a status that is no answer")
}

func fromServerError(readOnly bool, status int, header http.Header) *Fault {
	if !readOnly {
		return uncertain(readOnly, "C1 failed (%d)", status)
	}
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		f := New(connect.CodeUnavailable, UpstreamFailed, "C1 is not available (%d)", status)
		f.RetryAfter = RetryAfter(header, 0)
		return f
	case http.StatusNotImplemented:
		return New(connect.CodeUnimplemented, UpstreamFailed, "C1 does not implement this (501)")
	}
	return New(connect.CodeInternal, UpstreamFailed, "C1 failed (%d)", status)
}

// uncertain is the fault of a request that was delivered and has no answer
// that tells what became of it.
func uncertain(readOnly bool, format string, args ...any) *Fault {
	if readOnly {
		return New(connect.CodeUnavailable, UpstreamFailed, format, args...)
	}
	f := New(connect.CodeUnknown, OutcomeUnknown, format+"; the request may have acted: look at C1 before you repeat it", args...)
	f.Uncertain = true
	return f
}

// Unusable is the fault of an answer that cannot be read as one: a redirect,
// HTML, cut or oversized JSON. why is our own text, never the body's. A 2xx
// without side effects is internal, since repeating it would not help.
func Unusable(readOnly bool, status int, why string) *Fault {
	f := uncertain(readOnly, "%s", why)
	if readOnly {
		f.Reason = UpstreamUnusable
		if status >= 200 && status <= 299 {
			f.Code = connect.CodeInternal
		}
	}
	return f.With("upstream_status", strconv.Itoa(status))
}

// FromExchange turns the error of an HTTP exchange with C1 into a Fault. sent
// is false only if it is proven that nothing reached C1: then, and only then,
// a method with side effects becomes unavailable. A deadline that passed is
// deadline_exceeded either way.
func FromExchange(readOnly, sent bool, err error) *Fault {
	if errors.Is(err, context.DeadlineExceeded) {
		f := New(connect.CodeDeadlineExceeded, DeadlineExceeded, "C1 did not answer in time").Because(err)
		if sent && !readOnly {
			f.Message += "; the request may have acted: look at C1 before you repeat it"
			f.Uncertain = true
		}
		return f
	}
	if !sent {
		return New(connect.CodeUnavailable, UpstreamUnreachable, "no connection to C1 could be had; nothing was sent").Because(err)
	}
	return uncertain(readOnly, "the connection to C1 broke before its answer was complete").Because(err)
}

// status is what is read of a google.rpc.Status.
type status struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// parseStatus reads a well-formed C1 error: a JSON object whose code is an
// error code of gRPC's, and whose message, if there is one, is a string.
func parseStatus(body []byte) (status, bool) {
	var said status
	if err := json.Unmarshal(body, &said); err != nil || said.Code < 1 || said.Code > 16 {
		return status{}, false
	}
	said.Message = clean(said.Message)
	return said, true
}

// refinable names the statuses whose row a body may refine: those that say
// nothing but "refused".
func refinable(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusTooManyRequests, statusClientGone:
		return false
	}
	return true
}

// kept names the statuses of C1's that a caller of C1's REST paths gets as
// they are. What C1 says to c1proxy and not to the caller is none of them:
// that it wants other credentials (401, 407), or gave up waiting (408, 499).
func kept(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired, http.StatusRequestTimeout, statusClientGone:
		return false
	}
	return status >= 400 && status <= 499
}

// refining names the codes that a body may choose: those that say that the
// request was refused, and never one that invites a blind repetition.
func refining(code int) bool {
	switch connect.Code(code) {
	case connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodeAlreadyExists,
		connect.CodePermissionDenied, connect.CodeResourceExhausted, connect.CodeFailedPrecondition,
		connect.CodeAborted, connect.CodeOutOfRange, connect.CodeUnimplemented:
		return true
	}
	return false
}

// clean drops what is not printable and cuts at maxMessage bytes, on a rune.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	if len(text) <= maxMessage {
		return text
	}
	cut := maxMessage
	for cut > 0 && text[cut]&0xC0 == 0x80 {
		cut--
	}
	return text[:cut]
}

// RetryAfter reads a Retry-After header, in seconds or as an HTTP date (RFC
// 9110, section 10.2.3). The result is between 0 and an hour; otherwise is
// returned where there is none that reads.
func RetryAfter(header http.Header, otherwise time.Duration) time.Duration {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(date), 0), maxRetryAfter)
	}
	return otherwise
}
