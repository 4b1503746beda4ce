package fault_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// Every (status, body code) pair: the code is one of gRPC's, and a method
// with side effects whose request was delivered is never unavailable (P5).
func TestFromAnswerIsTotal(t *testing.T) {
	pairs := 0
	for status := -1; status <= 1000; status++ {
		for code := -2; code <= 20; code++ {
			body := fmt.Appendf(nil, `{"code":%d,"message":"m"}`, code)
			for _, readOnly := range []bool{true, false} {
				f := fault.FromAnswer(readOnly, status, http.Header{}, body)
				if f.Code < 1 || f.Code > 16 {
					t.Fatalf("status %d, body code %d: code %d", status, code, f.Code)
				}
				if !readOnly && f.Code == connect.CodeUnavailable {
					t.Fatalf("status %d, body code %d: unavailable, though it was delivered", status, code)
				}
				if !readOnly && f.RetryAfter > 0 && status != 429 {
					t.Fatalf("status %d, body code %d: invites to repeat", status, code)
				}
				pairs++
			}
		}
	}
	t.Logf("%d (status, body code, class) triples", pairs)
}

func TestTable(t *testing.T) {
	tests := []struct {
		status      int
		body        string
		read, write connect.Code
	}{
		{200, "", connect.CodeUnknown, connect.CodeUnknown},
		{302, "", connect.CodeUnavailable, connect.CodeUnknown},
		{400, "", connect.CodeInvalidArgument, connect.CodeInvalidArgument},
		{422, "", connect.CodeInvalidArgument, connect.CodeInvalidArgument},
		{401, "", connect.CodeInternal, connect.CodeInternal},
		{401, `{"code":7}`, connect.CodeInternal, connect.CodeInternal},
		{403, "", connect.CodePermissionDenied, connect.CodePermissionDenied},
		{404, "", connect.CodeNotFound, connect.CodeNotFound},
		{409, "", connect.CodeAborted, connect.CodeAborted},
		{409, `{"code":6}`, connect.CodeAlreadyExists, connect.CodeAlreadyExists},
		{412, "", connect.CodeFailedPrecondition, connect.CodeFailedPrecondition},
		{400, `{"code":9}`, connect.CodeFailedPrecondition, connect.CodeFailedPrecondition},
		{400, `{"code":14}`, connect.CodeInvalidArgument, connect.CodeInvalidArgument},
		{400, `{"code":"9"}`, connect.CodeInvalidArgument, connect.CodeInvalidArgument},
		{429, `{"code":5}`, connect.CodeResourceExhausted, connect.CodeResourceExhausted},
		{500, `{"code":3}`, connect.CodeInternal, connect.CodeUnknown},
		{502, "", connect.CodeUnavailable, connect.CodeUnknown},
		{503, `{"code":14}`, connect.CodeUnavailable, connect.CodeUnknown},
		{504, "", connect.CodeUnavailable, connect.CodeUnknown},
	}
	for _, tt := range tests {
		for readOnly, want := range map[bool]connect.Code{true: tt.read, false: tt.write} {
			if tt.status == 200 && readOnly {
				want = connect.CodeInternal
			}
			if got := fault.FromAnswer(readOnly, tt.status, http.Header{}, []byte(tt.body)).Code; got != want {
				t.Errorf("%d %s (read-only %v): got %v, want %v", tt.status, tt.body, readOnly, got, want)
			}
		}
	}
}

func TestFromExchange(t *testing.T) {
	broken := errors.New("read tcp 10.0.0.1: connection reset by peer")
	tests := []struct {
		readOnly, sent bool
		err            error
		want           connect.Code
	}{
		{false, false, broken, connect.CodeUnavailable},
		{false, true, broken, connect.CodeUnknown},
		{true, true, broken, connect.CodeUnavailable},
		{false, true, context.DeadlineExceeded, connect.CodeDeadlineExceeded},
		{false, false, os.ErrDeadlineExceeded, connect.CodeUnavailable},
		{false, true, context.Canceled, connect.CodeUnknown},
	}
	for _, tt := range tests {
		f := fault.FromExchange(tt.readOnly, tt.sent, tt.err)
		if f.Code != tt.want {
			t.Errorf("read-only %v, sent %v, %v: got %v, want %v", tt.readOnly, tt.sent, tt.err, f.Code, tt.want)
		}
		if strings.Contains(f.Connect().Error(), "10.0.0.1") {
			t.Errorf("the cause reached the caller: %v", f.Connect())
		}
	}
}

// Only the message of a well-formed C1 error crosses, without controls, capped.
func TestMessage(t *testing.T) {
	tests := map[string]string{
		`{"code":3,"message":"bad id"}`:                                   "C1: bad id",
		`{"code":3,"message":"a\u0000b\u001b[31m\nc"}`:                    "C1: ab[31m c",
		`{"code":99,"message":"secret"}`:                                  "C1 refused the request (400)",
		`{"message":"secret"}`:                                            "C1 refused the request (400)",
		`<html>secret</html>`:                                             "C1 refused the request (400)",
		`{"code":3,"message":"` + strings.Repeat("é", 2000) + `"}`:        "C1: " + strings.Repeat("é", 512),
		`{"code":3,"message":"x","details":[{"@type":"t","v":"secret"}]}`: "C1: x",
	}
	for body, want := range tests {
		if got := fault.FromAnswer(false, 400, http.Header{}, []byte(body)).Message; got != want {
			t.Errorf("%.60s: got %.80q, want %.80q", body, got, want)
		}
	}
}

// What C1 says to c1proxy, and not to the caller, does not cross: least of all
// in place of the warning that the request may have acted.
func TestMessageForUs(t *testing.T) {
	for _, status := range []int{401, 407, 408, 499, 500, 503} {
		f := fault.FromAnswer(false, status, http.Header{}, []byte(`{"code":3,"message":"secret"}`))
		if strings.Contains(f.Message, "secret") || f.Uncertain != strings.Contains(f.Message, "may have acted") {
			t.Errorf("%d: %v", status, f)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	date := time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat)
	tests := map[string][2]time.Duration{
		"7":              {7 * time.Second, 7 * time.Second},
		"1000000000":     {time.Hour, time.Hour},
		"99999999999999": {time.Hour, time.Hour},
		"-1":             {time.Second, time.Second},
		"soon":           {time.Second, time.Second},
		"":               {time.Second, time.Second},
		date:             {28 * time.Second, 30 * time.Second},
	}
	for text, want := range tests {
		got := fault.RetryAfter(http.Header{"Retry-After": {text}}, time.Second)
		if got < want[0] || got > want[1] {
			t.Errorf("%q: got %v, want %v to %v", text, got, want[0], want[1])
		}
	}
}

// Every reason is explained, so that the documented list is whole.
func TestReasonsExplained(t *testing.T) {
	source, err := os.ReadFile("reason.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := strings.Count(string(source), " Reason = \"")
	if got := len(fault.Reasons()); got != declared {
		t.Errorf("%d reasons are explained, %d are declared", got, declared)
	}
}

func TestConnect(t *testing.T) {
	f := fault.New(connect.CodeResourceExhausted, fault.RateLimited, "limit").With("rule", "team")
	f.RetryAfter = 1500 * time.Millisecond
	err := f.Connect()
	if got := err.Meta().Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After: got %q, want 2", got)
	}
	if got := len(err.Details()); got != 2 {
		t.Errorf("got %d details, want ErrorInfo and RetryInfo", got)
	}
}

func TestOf(t *testing.T) {
	f := fault.New(connect.CodeAborted, fault.Internal, "x")
	for err, want := range map[error]connect.Code{
		fmt.Errorf("wrap: %w", f):  connect.CodeAborted,
		context.Canceled:           connect.CodeCanceled,
		context.DeadlineExceeded:   connect.CodeDeadlineExceeded,
		errors.New("open /secret"): connect.CodeInternal,
	} {
		got := fault.Of(err)
		if got.Code != want || strings.Contains(got.Message, "secret") {
			t.Errorf("Of(%v): got %v", err, got)
		}
	}
	if fault.Of(nil) != nil {
		t.Error("Of(nil) is not nil")
	}
}

func FuzzFromAnswer(f *testing.F) {
	f.Add(400, "7", []byte(`{"code":9,"message":"x"}`), false)
	f.Add(503, "x", []byte("<html>"), true)
	f.Add(200, "", []byte(`{"code":0}`), false)
	f.Fuzz(func(t *testing.T, status int, retry string, body []byte, readOnly bool) {
		got := fault.FromAnswer(readOnly, status, http.Header{"Retry-After": {retry}}, body)
		if got.Code < 1 || got.Code > 16 || len(got.Message) > 1100 {
			t.Fatalf("%d %q: %v", status, body, got)
		}
		if !readOnly && got.Code == connect.CodeUnavailable {
			t.Fatalf("%d %q: unavailable after delivery", status, body)
		}
		if got.RetryAfter < 0 || got.RetryAfter > time.Hour {
			t.Fatalf("%d %q: retry after %v", status, retry, got.RetryAfter)
		}
	})
}
