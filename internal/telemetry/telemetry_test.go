package telemetry_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/telemetry"
)

// Every door has a name of its own, and every code at it a counter of its own;
// a code that is none of gRPC's counts as unknown.
func TestEveryDoor(t *testing.T) {
	metrics := telemetry.New()
	procedure := metrics.Procedure("p")
	names := []string{"connect", "grpc", "grpc-web", "rest"}
	for i, want := range names {
		door := telemetry.Door(i)
		if got := door.String(); got != want {
			t.Errorf("door %d is %q, want %q", i, got, want)
		}
		for code := connect.Code(0); code <= 17; code++ {
			procedure.Begin()
			procedure.Answered(door, code, time.Millisecond)
		}
	}
	if telemetry.REST != telemetry.Door(len(names)-1) {
		t.Errorf("a door is missing here: REST is %d", telemetry.REST)
	}
	w := httptest.NewRecorder()
	metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	for _, name := range names {
		for code := connect.Code(0); code <= 16; code++ {
			count := 1
			if code == connect.CodeUnknown {
				count = 2
			}
			line := fmt.Sprintf("c1proxy_calls_total{code=%q,door=%q,procedure=\"p\"} %d\n", telemetry.CodeName(code), name, count)
			if !strings.Contains(w.Body.String(), line) {
				t.Errorf("no line %s", line)
			}
		}
	}
	if !strings.Contains(w.Body.String(), "c1proxy_calls_in_flight 0\n") {
		t.Error("calls are still in flight")
	}
}
