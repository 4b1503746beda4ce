package forward_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// A call that was ready when another one was refused by C1 is not sent, whatever it
// is: nothing of it reaches C1 before the end of the rest.
func TestThrottledWhileReady(t *testing.T) {
	for class, r := range classes(t) {
		synctest.Test(t, func(t *testing.T) {
			way := &script{steps: []step{{status: 429, retryAfter: "30"}, {status: 200}}}
			u := scripted(t, way, 30*time.Second)
			ready, late := prepare(t, u, r), prepare(t, u, r)
			if _, f := call(t, u, r); f == nil || f.Reason != fault.UpstreamRateLimited || f.RetryAfter < 30*time.Second || f.RetryAfter > 33*time.Second {
				t.Fatalf("%s: %v", class, f)
			}
			result, err := ready.Send(t.Context())
			f := fault.Of(err)
			if f == nil || f.Code != connect.CodeResourceExhausted || f.Reason != fault.UpstreamRateLimited || result.Sent || len(result.Attempts) != 0 || len(way.times) != 1 {
				t.Errorf("%s: %v, %+v, %d requests", class, f, result, len(way.times))
			}
			time.Sleep(time.Until(u.State().Until))
			if _, err := late.Send(t.Context()); err != nil || len(way.times) != 2 || u.State().InFlight != 0 || u.State().Down {
				t.Errorf("%s, after the rest: %v, %d requests, %+v", class, err, len(way.times), u.State())
			}
		})
	}
}

// A read that would be made again, because C1 was not there, is not if C1 wants no
// calls by then; and neither counts against C1.
func TestThrottledWhileTryingAgain(t *testing.T) {
	read := classes(t)["GET read=true"]
	synctest.Test(t, func(t *testing.T) {
		way := &script{steps: []step{{status: 503}, {status: 429, retryAfter: "30"}, {status: 503}}}
		u := scripted(t, way, 30*time.Second)
		other := prepare(t, u, read)
		way.seen = func(*http.Request) {
			if len(way.times) == 1 {
				go func() {
					time.Sleep(time.Nanosecond) // that is, when all else waits: in the first one's pause
					other.Send(t.Context())     // refused
				}()
			}
		}
		result, err := prepare(t, u, read).Send(t.Context())
		f := fault.Of(err)
		if f == nil || f.Reason != fault.UpstreamRateLimited && f.Reason != fault.UpstreamFailed || !result.Sent || !slices.Equal(result.Attempts, []int{503}) || len(way.times) != 2 {
			t.Errorf("%v, %+v, %d requests", f, result, len(way.times))
		}
		time.Sleep(time.Until(u.State().Until))
		for range 4 {
			call(t, u, classes(t)["POST read=false"])
		}
		if u.State().Down {
			t.Error("an attempt that was not made counts against C1: four that failed are five")
		}
	})
}

// G7: whatever C1 writes into Retry-After, the way is closed for a sound time.
func TestRetryAfterOfC1(t *testing.T) {
	for text, want := range map[string]time.Duration{"": time.Second, "0": time.Second, "-5": time.Second, "soon": time.Second, "7": 7 * time.Second, "1e9": time.Second,
		"1000000000": time.Hour, strings.Repeat("9", 400): time.Second, "Fri, 31 Dec 1999 23:59:59 GMT": time.Second, "Fri, 31 Dec 9999 23:59:59 GMT": time.Hour,
		strconv.Itoa(1 << 40): time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			way := &script{steps: []step{{status: 429, retryAfter: text}}}
			u := scripted(t, way, 30*time.Second)
			begun := time.Now()
			if _, f := call(t, u, classes(t)["POST read=false"]); f.RetryAfter != u.State().Until.Sub(begun) {
				t.Errorf("%.40q: the caller is told to wait %v", text, f.RetryAfter)
			}
			if got := u.State().Until.Sub(begun); got < want || got > want+want/10 {
				t.Errorf("%.40q: closed for %v, want %v or a tenth more", text, got, want)
			}
		})
	}
}
