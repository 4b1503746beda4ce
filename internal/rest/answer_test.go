package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/rest"
)

// A binding can hold either door's writer.
var _, _ interface {
	Write(w http.ResponseWriter, r *http.Request, err error) error
} = rest.ErrorWriter{}, (*connect.ErrorWriter)(nil)

// write writes an error and checks what holds for every one.
func write(t *testing.T, err error) (*httptest.ResponseRecorder, *status.Status) {
	t.Helper()
	w := httptest.NewRecorder()
	if err := (rest.ErrorWriter{}).Write(w, httptest.NewRequest("POST", "/", nil), err); err != nil {
		t.Fatal(err)
	}
	var s status.Status
	if err := protojson.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type: got %q", got)
	}
	if s.Code < 1 || s.Code > 16 {
		t.Errorf("code %d: %s", s.Code, w.Body)
	}
	return w, &s
}

// Every code, as a fault and as an error of connect's, bare and wrapped: the
// body says what the fault says, the status is the fault's.
func TestWrite(t *testing.T) {
	for code := connect.Code(1); code <= 16; code++ {
		for _, reason := range fault.Reasons() {
			f := fault.New(code, reason, "message of %v", code).With("rule", `"<é>"`).Because(errors.New("secret"))
			f.RetryAfter = 1500 * time.Millisecond
			want := &status.Status{Code: int32(code), Message: f.Message}
			for _, detail := range f.Connect().Details() {
				value, err := detail.Value()
				if err != nil {
					t.Fatal(err)
				}
				want.Details = append(want.Details, pack(t, value))
			}
			if len(want.Details) != 2 {
				t.Fatalf("%d details, want ErrorInfo and RetryInfo", len(want.Details))
			}
			for _, err := range []error{f, f.Connect(), fmt.Errorf("wrap: %w", f), fmt.Errorf("wrap: %w", f.Connect())} {
				w, got := write(t, err)
				if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || w.Code != f.HTTPStatus() {
					t.Errorf("%v %s: status %d, want %d (-want +got):\n%s", code, reason, w.Code, f.HTTPStatus(), diff)
				}
				if got := w.Header().Get("Retry-After"); got != "2" {
					t.Errorf("%v %s: Retry-After %q, want 2", code, reason, got)
				}
				if strings.Contains(w.Body.String(), "secret") {
					t.Errorf("%v %s: the cause is shown: %s", code, reason, w.Body)
				}
			}
		}
		w, got := write(t, connect.NewError(code, errors.New("x")))
		if got.Code != int32(code) || got.Message != "x" || len(got.Details) != 0 || w.Code != fault.HTTPStatus(code) {
			t.Errorf("connect's %v: got %d %v", code, w.Code, got)
		}
	}
}

// pack is a detail as it stands in a google.rpc.Status.
func pack(t *testing.T, detail proto.Message) *anypb.Any {
	t.Helper()
	packed, err := anypb.New(detail)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// The form, to the byte, and the same each time.
func TestWriteForm(t *testing.T) {
	f := fault.New(connect.CodeResourceExhausted, fault.RateLimited, "no more <b>").With("rule", "team").With("a", "b")
	f.RetryAfter = time.Minute
	const want = `{"code":8,"message":"no more <b>","details":[` +
		`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"RATE_LIMITED","domain":"c1proxy","metadata":{"a":"b","rule":"team"}},` +
		`{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"60s"}]}`
	for range 100 {
		if w, _ := write(t, f); w.Body.String() != want || w.Code != 429 {
			t.Fatalf("got %d %s, want %s", w.Code, w.Body, want)
		}
	}
}

// Every row of the table of C1's answers: its own 4xx stays, but for those
// that are about c1proxy; and no write invites to repeat it.
func TestWriteAnswers(t *testing.T) {
	kept := map[int]bool{400: true, 402: true, 403: true, 404: true, 405: true, 409: true, 410: true, 412: true, 413: true, 415: true, 422: true, 429: true, 451: true}
	for code := range 600 {
		for _, readOnly := range []bool{true, false} {
			for _, body := range []string{"", `{"code":5,"message":"m"}`, `{"code":14,"message":"m"}`} {
				w, got := write(t, fault.FromAnswer(readOnly, code, http.Header{}, []byte(body)))
				switch {
				case kept[code] && w.Code != code:
					t.Errorf("C1's %d: got %d, want it as it is", code, w.Code)
				case code == http.StatusUnauthorized && w.Code != 500:
					t.Errorf("C1's 401: got %d, want 500", w.Code)
				case !readOnly && (w.Code == 502 || w.Code == 503 || w.Code == 504):
					t.Errorf("C1's %d to a write: got %d, which invites to repeat it", code, w.Code)
				case !readOnly && w.Code/100 != 4 && w.Header().Get("Retry-After") != "":
					t.Errorf("C1's %d to a write: Retry-After %s", code, w.Header().Get("Retry-After"))
				case readOnly && code == 503 && (w.Code != 503 || got.Code != 14):
					t.Errorf("C1's 503 to a read: got %d, code %d", w.Code, got.Code)
				}
			}
		}
	}
	if w, got := write(t, fault.FromExchange(false, true, context.DeadlineExceeded)); w.Code != 500 || got.Code != 4 {
		t.Errorf("a write's deadline after sending: got %d, code %d, want 500 and 4", w.Code, got.Code)
	}
	if w, got := write(t, fault.FromExchange(true, true, context.DeadlineExceeded)); w.Code != 504 || got.Code != 4 {
		t.Errorf("a read's deadline: got %d, code %d, want 504 and 4", w.Code, got.Code)
	}
	if w, got := write(t, fault.FromExchange(false, false, errors.New("refused"))); w.Code != 503 || got.Code != 14 {
		t.Errorf("a write that was not sent: got %d, code %d, want 503 and 14", w.Code, got.Code)
	}
}

// Whatever the error is, the answer is one: nothing of a Go error is shown,
// what JSON has no form for is left out, and a context's fault is bare.
func TestWriteIsTotal(t *testing.T) {
	alien := connect.NewError(connect.CodeAborted, errors.New("x"))
	for _, detail := range []proto.Message{&errdetails.ErrorInfo{Reason: "R"}} {
		d, err := connect.NewErrorDetail(detail)
		if err != nil {
			t.Fatal(err)
		}
		alien.AddDetail(d)
	}
	unlinked, err := connect.NewErrorDetail(&anypb.Any{TypeUrl: "type.googleapis.com/x.Unlinked", Value: []byte{1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	alien.AddDetail(unlinked)
	for _, tt := range []struct {
		err    error
		status int
		body   string
	}{
		{context.Canceled, 499, `{"code":1,"message":"the caller gave up"}`},
		{context.DeadlineExceeded, 504, `{"code":4,"message":"the time allowed for this call ran out"}`},
		{alien, 409, `{"code":10,"message":"x","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"R"}]}`},
		{connect.NewError(connect.CodeAborted, errors.New("a\xffb")), 409, `{"code":10,"message":"a` + "\uFFFD" + `b"}`},
		{connect.NewError(0, errors.New("x")), 500, `{"code":2,"message":"x"}`},
		{connect.NewError(17, errors.New("x")), 500, `{"code":2,"message":"x"}`},
		{fault.New(connect.CodeInvalidArgument, fault.BadPathValue, "x").With("field", "\xff"), 400, `{"code":3,"message":"x"}`},
	} {
		if w, _ := write(t, tt.err); w.Code != tt.status || w.Body.String() != tt.body {
			t.Errorf("%v: got %d %s, want %d %s", tt.err, w.Code, w.Body, tt.status, tt.body)
		}
	}
	w, got := write(t, errors.New("open /secret"))
	if w.Code != 500 || got.Code != 13 || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("a Go error: got %d %s", w.Code, w.Body)
	}
}

// What the stages have set stays, and a broken connection is an error.
func TestWriteKeepsHeaders(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("WWW-Authenticate", "Bearer")
	w.Header().Set("X-Request-Id", "r")
	f := fault.New(connect.CodeUnauthenticated, fault.Unauthenticated, "x")
	if err := (rest.ErrorWriter{}).Write(w, nil, f); err != nil {
		t.Fatal(err)
	}
	if w.Code != 401 || w.Header().Get("WWW-Authenticate") != "Bearer" || w.Header().Get("X-Request-Id") != "r" || !json.Valid(w.Body.Bytes()) {
		t.Errorf("got %d, %v, %s", w.Code, w.Header(), w.Body)
	}
	if err := (rest.ErrorWriter{}).Write(broken{httptest.NewRecorder()}, nil, f); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}

var errBroken = errors.New("broken")

type broken struct{ http.ResponseWriter }

func (broken) Write([]byte) (int, error) { return 0, errBroken }
