package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// A Fault is one way to mistreat a request. The zero Fault is none.
//
// There are two kinds. A fault that replaces the answer (a status, a redirect,
// a reset) does not act: the request is read, and nothing is changed. A fault
// that damages the true answer (slow, cut, unknown fields) has to act first.
// AfterActing makes the second kind of the first.
//
// A Fault never changes, and may be injected any number of times.
type Fault struct {
	name   string
	act    bool // the request is carried out
	unread bool // the body is not even read; send does all
	mute   bool // send sends no status
	change func(x *exchange, a *answer)
	wait   func(context.Context) bool // before the headers; false: the client has gone
	send   func(x *exchange, a answer)
}

// benign is what befalls a request that no fault is for.
var benign = Fault{act: true}

// String is the fault's name, as Request.Fault shows it.
func (f Fault) String() string { return f.name }

// AfterActing is f with the request carried out first, so that what it tells
// the client is a lie. It has no effect on ResetUnread.
func (f Fault) AfterActing() Fault {
	if !f.act && !f.unread {
		f.act = true
		f.name += ", after acting"
	}
	return f
}

// replacing makes a fault of an answer that is sent instead of the true one.
func replacing(name string, status int, header http.Header, body []byte) Fault {
	return Fault{name: name, change: func(_ *exchange, a *answer) {
		*a = answer{status: status, header: header.Clone(), body: body, acted: a.acted}
	}}
}

// damaging makes a fault of a change to the true answer.
func damaging(name string, change func(x *exchange, a *answer)) Fault {
	return Fault{name: name, act: true, change: change}
}

// Answer answers with the given status, from 200 on, type and body, whatever
// they are.
func Answer(status int, contentType, body string) Fault {
	name := fmt.Sprintf("answer %d %s", status, contentType)
	return replacing(name, status, http.Header{"Content-Type": {contentType}}, []byte(body))
}

// Failing answers with an HTTP status of C1's, from 400 on, and a
// google.rpc.Status that fits it.
func Failing(status int) Fault {
	f := RPCStatus(status, int(httpCode(status)), http.StatusText(status))
	f.name = fmt.Sprintf("failing %d", status)
	return f
}

// Unauthorized answers 401, as if the token were bad.
func Unauthorized() Fault { return Failing(http.StatusUnauthorized) }

// RPCStatus answers with an HTTP status and a google.rpc.Status that need not
// fit: code may be anything that has a JSON form, such as 0, 17, -1 or "OK".
func RPCStatus(status int, code any, message string) Fault {
	body, err := json.Marshal(statusBody(code, message))
	if err != nil {
		body = []byte("null")
	}
	f := Answer(status, "application/json", string(body))
	f.name = fmt.Sprintf("status %d with code %v", status, code)
	return f
}

// RateLimited answers 429. retryAfter goes into the header as it is: seconds,
// an HTTP date, or nonsense; empty means that there is no header.
func RateLimited(retryAfter string) Fault {
	f := Failing(http.StatusTooManyRequests)
	if retryAfter == "" {
		return f
	}
	return f.withHeader("rate limited, Retry-After "+retryAfter, "Retry-After", retryAfter)
}

// Redirect answers with a redirect, such as 307, to a URL.
func Redirect(status int, to string) Fault {
	return replacing("", status, http.Header{}, nil).withHeader(fmt.Sprintf("redirect %d", status), "Location", to)
}

// withHeader is f under another name and with one more header in its answer.
func (f Fault) withHeader(name, key, value string) Fault {
	change := f.change
	f.name = name
	f.change = func(x *exchange, a *answer) {
		change(x, a)
		a.header.Set(key, value)
	}
	return f
}

// HTML answers with a page, as a load balancer in front of C1 would.
func HTML(status int) Fault {
	f := Answer(status, "text/html; charset=utf-8", fmt.Sprintf(
		"<!DOCTYPE html><html><head><title>%d</title></head><body><h1>Please stand by</h1></body></html>\n", status))
	f.name = fmt.Sprintf("HTML %d", status)
	return f
}

// Empty answers 200 with a body of no bytes.
func Empty() Fault {
	f := Answer(http.StatusOK, "application/json", "")
	f.name = "empty 200"
	return f
}

// Nested answers 200 with a JSON object that nests as deep as asked for.
func Nested(depth int) Fault {
	f := Answer(http.StatusOK, "application/json", `{"nested":`+strings.Repeat("[", depth)+strings.Repeat("]", depth)+"}")
	f.name = fmt.Sprintf("nested %d deep", depth)
	return f
}

// OAuthError answers as the token endpoint does when it refuses, such as with
// 400 and "invalid_client".
func OAuthError(status int, code string) Fault {
	body := (&oauthError{Code: code}).answer().body
	f := Answer(status, "application/json", string(body))
	f.name = fmt.Sprintf("OAuth error %d %s", status, code)
	return f
}

// Echo answers with an error that gives away what the request held: its
// Authorization header and its body (at the token endpoint: the assertion or
// the secret), and a canary of the caller's choice. It does so in both forms
// of an error, google.rpc.Status and OAuth.
func Echo(status int, canary string) Fault {
	return Fault{name: fmt.Sprintf("echo %d", status), change: func(x *exchange, a *answer) {
		text := fmt.Sprintf("%s Authorization: %s Body: %s", canary, x.r.Header.Get("Authorization"), x.body)
		said := statusBody(int(httpCode(status)), text)
		said["error"], said["error_description"] = "invalid_client", text
		acted := a.acted
		*a = jsonAnswer(status, said)
		a.header.Set("X-Echo", strings.Map(printable, text[:min(len(text), 4096)]))
		a.acted = acted
	}}
}

// printable keeps what may stand in a header.
func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return ' '
	}
	return r
}

// Slow holds the answer back for a time, headers included.
func Slow(delay time.Duration) Fault {
	return Fault{name: "slow " + delay.String(), act: true, wait: func(ctx context.Context) bool {
		return sleep(ctx, delay)
	}}
}

// Held holds the answer back, headers included, until release is closed.
func Held(release <-chan struct{}) Fault {
	return Fault{name: "held", act: true, wait: func(ctx context.Context) bool {
		select {
		case <-release:
			return true
		case <-ctx.Done():
			return false
		}
	}}
}

// sleep reports false if the context ended first.
func sleep(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
