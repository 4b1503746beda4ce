package fault_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// gateway is grpc-gateway's runtime.HTTPStatusFromCode, from its source.
var gateway = map[connect.Code]int{
	connect.CodeCanceled: 499, connect.CodeUnknown: 500, connect.CodeInvalidArgument: 400,
	connect.CodeDeadlineExceeded: 504, connect.CodeNotFound: 404, connect.CodeAlreadyExists: 409,
	connect.CodePermissionDenied: 403, connect.CodeResourceExhausted: 429, connect.CodeFailedPrecondition: 400,
	connect.CodeAborted: 409, connect.CodeOutOfRange: 400, connect.CodeUnimplemented: 501,
	connect.CodeInternal: 500, connect.CodeUnavailable: 503, connect.CodeDataLoss: 500,
	connect.CodeUnauthenticated: 401,
}

// A fault of c1proxy's own has its code's status, and one that is too large 413.
func TestHTTPStatusOfCode(t *testing.T) {
	for code := connect.Code(1); code <= 16; code++ {
		for _, reason := range fault.Reasons() {
			want := gateway[code]
			if reason == fault.TooLarge {
				want = http.StatusRequestEntityTooLarge
			}
			if got := fault.New(code, reason, "x").HTTPStatus(); got != want {
				t.Errorf("%v %s: got %d, want %d", code, reason, got, want)
			}
		}
	}
	for _, code := range []connect.Code{0, 17, 1 << 20} {
		if got := fault.HTTPStatus(code); got != 500 {
			t.Errorf("code %d: got %d, want 500", code, got)
		}
	}
}

// invites says that a status is an invitation to repeat the request.
func invites(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// Every (status, body code) pair: a 4xx of C1's to the caller is kept, one to
// c1proxy is not, and nothing that was sent to a method with side effects
// invites to repeat it.
func TestHTTPStatusOfAnswer(t *testing.T) {
	private := []int{401, 407, 408, 499}
	pairs := 0
	for status := -1; status <= 1000; status++ {
		for code := -2; code <= 20; code++ {
			body := fmt.Appendf(nil, `{"code":%d,"message":"m"}`, code)
			for _, readOnly := range []bool{true, false} {
				f := fault.FromAnswer(readOnly, status, http.Header{}, body)
				got, name := f.HTTPStatus(), fmt.Sprintf("status %d, body code %d, read-only %v", status, code, readOnly)
				switch {
				case !readOnly && invites(got):
					t.Fatalf("%s: got %d, which invites to repeat", name, got)
				case status >= 400 && status <= 499 && !slices.Contains(private, status):
					if got != status {
						t.Fatalf("%s: got %d, want C1's own", name, got)
					}
				case got < 500:
					t.Fatalf("%s: got %d, which blames the caller", name, got)
				case (status == 401 || status == 407) && got != 500:
					t.Fatalf("%s: got %d, want 500", name, got)
				case f.Uncertain == readOnly && !slices.Contains([]int{401, 407}, status):
					t.Fatalf("%s: uncertain is %v", name, f.Uncertain)
				}
				pairs++
			}
		}
	}
	t.Logf("%d (status, body code, class) triples", pairs)
}

// Whatever ends an exchange that was sent, a method with side effects never
// has 502, 503 or 504; before sending it may. So it is for answers that cannot
// be read, of every status.
func TestHTTPStatusAfterSending(t *testing.T) {
	ends := []error{
		context.DeadlineExceeded, context.Canceled, errors.New("reset"),
		errors.Join(context.DeadlineExceeded, errors.New("reset")), fmt.Errorf("dial: %w", context.DeadlineExceeded),
	}
	for _, end := range ends {
		for _, readOnly := range []bool{true, false} {
			sent, unsent := fault.FromExchange(readOnly, true, end), fault.FromExchange(readOnly, false, end)
			if sent.Uncertain == readOnly || unsent.Uncertain {
				t.Errorf("read-only %v, %v: uncertain is %v if sent and %v if not", readOnly, end, sent.Uncertain, unsent.Uncertain)
			}
			if got := sent.HTTPStatus(); invites(got) != readOnly {
				t.Errorf("read-only %v, sent, %v: got %d", readOnly, end, got)
			}
			if got := unsent.HTTPStatus(); !invites(got) {
				t.Errorf("read-only %v, not sent, %v: got %d, want an invitation to repeat", readOnly, end, got)
			}
		}
	}
	for status := -1; status <= 1000; status++ {
		if got := fault.Unusable(false, status, "x").HTTPStatus(); got != 500 {
			t.Errorf("unusable %d: got %d, want 500", status, got)
		}
	}
	for code := connect.Code(1); code <= 16; code++ {
		for status := range 600 {
			f := fault.New(code, fault.Internal, "x")
			f.Status, f.Uncertain = status, true
			if got := f.HTTPStatus(); invites(got) {
				t.Errorf("uncertain %v with %d: got %d", code, status, got)
			}
		}
	}
}

// The Fault is found again behind what connect-go writes, whose text shows
// the message alone.
func TestConnectKeepsTheFault(t *testing.T) {
	f := fault.New(connect.CodeAborted, fault.UpstreamRefused, "conflict").Because(errors.New("dial 10.0.0.1"))
	f.Status = http.StatusConflict
	err := f.Connect()
	if got := fault.Of(fmt.Errorf("wrap: %w", err)); got != f {
		t.Errorf("got %v, want the fault itself", got)
	}
	if got := err.Message(); got != "conflict" {
		t.Errorf("the message is %q", got)
	}
}
