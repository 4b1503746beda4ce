package forward_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/gate"
)

// What C1 answers, whether it is tried again, and what it says in the end.
var attempts = []struct {
	name        string
	step        step
	again       bool
	read, write connect.Code
}{
	{"success", step{status: 200}, false, 0, 0},
	{"no connection", step{err: errRefused, unsent: true}, true, connect.CodeUnavailable, connect.CodeUnavailable},
	{"reset", step{err: errReset}, true, connect.CodeUnavailable, connect.CodeUnknown},
	{"502", step{status: 502}, true, connect.CodeUnavailable, connect.CodeUnknown},
	{"503", step{status: 503}, true, connect.CodeUnavailable, connect.CodeUnknown},
	{"504", step{status: 504}, true, connect.CodeUnavailable, connect.CodeUnknown},
	{"503 for long", step{status: 503, retryAfter: "2"}, false, connect.CodeUnavailable, connect.CodeUnknown},
	{"cut off", step{status: 200, cut: true}, true, connect.CodeInternal, connect.CodeUnknown},
	{"400", step{status: 400}, false, connect.CodeInvalidArgument, connect.CodeInvalidArgument},
	{"403", step{status: 403}, false, connect.CodePermissionDenied, connect.CodePermissionDenied},
	{"404", step{status: 404}, false, connect.CodeNotFound, connect.CodeNotFound},
	{"408", step{status: 408}, false, connect.CodeUnavailable, connect.CodeUnknown},
	{"409", step{status: 409}, false, connect.CodeAborted, connect.CodeAborted},
	{"429", step{status: 429, retryAfter: "1"}, false, connect.CodeResourceExhausted, connect.CodeResourceExhausted},
	{"500", step{status: 500}, false, connect.CodeInternal, connect.CodeUnknown},
	{"307", step{status: 307}, false, connect.CodeUnavailable, connect.CodeUnknown},
	{"too large", step{status: 200, body: string(make([]byte, 4<<20+1))}, false, connect.CodeInternal, connect.CodeUnknown},
	{"silence", step{stall: true}, false, connect.CodeDeadlineExceeded, connect.CodeDeadlineExceeded},
}

// Reads, and only reads, are tried again, up to twice; each attempt is on
// record; and the last one is what the caller is told.
func TestAttempts(t *testing.T) {
	for class, r := range classes(t) {
		for _, tt := range attempts {
			synctest.Test(t, func(t *testing.T) {
				way := &script{steps: []step{tt.step}}
				u := scripted(t, way, 30*time.Second)
				result, f := call(t, u, r)
				want, code := 1, tt.write
				if r.ReadOnly {
					code = tt.read
					if tt.again {
						want = 3
					}
				}
				if got := codeOf(f); got != code {
					t.Errorf("%s, %s: got %v, want %v", class, tt.name, f, code)
				}
				if len(way.times) != want || len(result.Attempts) != want || result.Status != tt.step.status {
					t.Errorf("%s, %s: %d requests, attempts %v, status %d; want %d of %d", class, tt.name, len(way.times), result.Attempts, result.Status, want, tt.step.status)
				}
				if result.Sent == tt.step.unsent {
					t.Errorf("%s, %s: sent is %v", class, tt.name, result.Sent)
				}
				if u.State().InFlight != 0 {
					t.Errorf("%s, %s: the place was not given back", class, tt.name)
				}
			})
		}
	}
}

func codeOf(f *fault.Fault) connect.Code {
	if f == nil {
		return 0
	}
	return f.Code
}

// A read that is answered at last has succeeded, and its record tells the way.
func TestReadSucceedsAtLast(t *testing.T) {
	read := classes(t)["GET read=true"]
	synctest.Test(t, func(t *testing.T) {
		way := &script{steps: []step{{err: errRefused, unsent: true}, {status: 503}, {status: 200}}}
		result, f := call(t, scripted(t, way, 30*time.Second), read)
		if f != nil || !slices.Equal(result.Attempts, []int{0, 503, 200}) || !result.Sent || result.Status != 200 || string(result.Body) != "{}" {
			t.Errorf("got %v, %+v", f, result)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		way := &script{steps: []step{{status: 503}, {err: errRefused, unsent: true}}}
		if result, f := call(t, scripted(t, way, 30*time.Second), read); !result.Sent || codeOf(f) != connect.CodeUnavailable {
			t.Errorf("an attempt that was sent is forgotten: %v, %+v", f, result)
		}
	})
}

// The pauses before further attempts are drawn anew each time, from a span that
// doubles; what C1 asks for is added to none, and obeyed if it is short.
func TestPauses(t *testing.T) {
	read := classes(t)["GET read=true"]
	var most [2]time.Duration
	different := make(map[time.Duration]bool)
	pauses := func(t *testing.T, s step) (between [2]time.Duration) {
		way := &script{steps: []step{s}}
		call(t, scripted(t, way, 30*time.Second), read)
		for i := range between {
			between[i] = way.times[i+1].Sub(way.times[i])
		}
		return between
	}
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			for i, pause := range pauses(t, step{status: 502}) {
				most[i] = max(most[i], pause)
				different[pause] = true
			}
		})
	}
	if most[0] > 100*time.Millisecond || most[1] > 200*time.Millisecond || most[0] < 80*time.Millisecond || most[1] < 160*time.Millisecond {
		t.Errorf("the longest pauses are %v, want almost 100 and 200 ms", most)
	}
	if len(different) < 390 {
		t.Errorf("400 pauses are %d different ones", len(different))
	}
	synctest.Test(t, func(t *testing.T) {
		if got := pauses(t, step{status: 503, retryAfter: "1"}); got != [2]time.Duration{time.Second, time.Second} {
			t.Errorf("C1 asked for 1s: waited %v", got)
		}
	})
}

// No attempt is made again beyond the deadline, nor begun too late to be
// answered.
func TestRetriesKeepTheDeadline(t *testing.T) {
	read := classes(t)["GET read=true"]
	for _, timeout := range []time.Duration{50 * time.Millisecond, 900 * time.Millisecond, 1004 * time.Millisecond, 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			way := &script{steps: []step{{status: 503, retryAfter: "1"}}}
			u := scripted(t, way, time.Minute)
			x := prepare(t, u, read)
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			begun := time.Now()
			_, err := x.Send(ctx)
			want := 1
			if timeout > 1005*time.Millisecond {
				want = 2
			}
			if took := time.Since(begun); len(way.times) != want || took > timeout || fault.Of(err).Code != connect.CodeUnavailable {
				t.Errorf("%v: %d attempts in %v, %v", timeout, len(way.times), took, err)
			}
		})
	}
}

// A caller that leaves ends its read at once, also between two attempts, and a
// write not before its answer.
func TestCanceled(t *testing.T) {
	for class, r := range classes(t) {
		synctest.Test(t, func(t *testing.T) {
			way := &script{steps: []step{{stall: true}}}
			u := scripted(t, way, 30*time.Second)
			x := prepare(t, u, r)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			begun := time.Now()
			result, err := x.Send(ctx)
			want := connect.CodeCanceled
			if !r.ReadOnly {
				want = connect.CodeUnknown // Send was asked to end: what C1 did is not known
			}
			if f := fault.Of(err); f.Code != want || time.Since(begun) != time.Second || !result.Sent || u.State().InFlight != 0 {
				t.Errorf("%s: got %v after %v", class, err, time.Since(begun))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		way := &script{steps: []step{{status: 503, retryAfter: "1"}}}
		x := prepare(t, scripted(t, way, 30*time.Second), classes(t)["GET read=true"])
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		begun := time.Now()
		if _, err := x.Send(ctx); err == nil || time.Since(begun) != 100*time.Millisecond || len(way.times) != 1 {
			t.Errorf("between two attempts: %v after %v", err, time.Since(begun))
		}
	})
}

// A dead C1 gets few attempts more than there are reads: at first ten, then none
// while it is down.
func TestRetryBudget(t *testing.T) {
	read, other := classes(t)["GET read=true"], routeOf(t, "c1.api.app.v1.Apps/List")
	synctest.Test(t, func(t *testing.T) {
		way := &script{steps: []step{{status: 503}}}
		u := scripted(t, way, 30*time.Second)
		for range 100 {
			if x, err := u.Prepare(t.Context(), forward.Call{Route: read, Target: targetOf(t, read), Team: "payments"}); err == nil {
				x.Send(t.Context())
			}
		}
		if got := len(way.times); got != 5 || !u.State().Down {
			t.Errorf("100 reads of a dead C1 are %d requests, want 5; down %v", got, u.State().Down)
		}
	})
	// One read in two fails, so that C1 is never taken to be down: the budget
	// alone is what bounds the attempts.
	synctest.Test(t, func(t *testing.T) {
		failed, reads := 0, 2000
		way := &script{steps: []step{{status: 503}}}
		alive := &script{steps: []step{{status: 200}}}
		both := roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Opaque == targetOf(t, other).Path {
				return alive.RoundTrip(r)
			}
			return way.RoundTrip(r)
		})
		u := scripted(t, both, 30*time.Second)
		for range reads / 2 {
			if _, f := call(t, u, read); f != nil {
				failed++
			}
			if _, f := call(t, u, other); f != nil {
				t.Fatal(f)
			}
		}
		again := len(way.times) - reads/2
		if again < reads/10 || again > reads/10+10 || failed != reads/2 || u.State().Retries != uint64(again) {
			t.Errorf("%d reads, of which %d failed: %d attempts more, want a tenth and ten; %d counted", reads, failed, again, u.State().Retries)
		}
		t.Logf("%d reads, half of them failing: %d attempts more", reads, again)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What counts against C1, and what does not: five of each in a row.
func TestWhatCountsAgainstC1(t *testing.T) {
	write := classes(t)["POST read=false"]
	for _, tt := range attempts {
		synctest.Test(t, func(t *testing.T) {
			way := &script{steps: []step{tt.step}}
			u := scripted(t, way, 30*time.Second)
			for range 5 {
				call(t, u, write)
				time.Sleep(time.Until(u.State().Until)) // after a 429
			}
			want := tt.again || tt.name == "503 for long" || tt.name == "silence"
			if got := u.State().Down; got != want {
				t.Errorf("%s: down is %v, want %v", tt.name, got, want)
			}
		})
	}
}

// A caller's own short deadline says nothing of C1; a silence of five seconds
// does, whoever ended it.
func TestWhoseDeadline(t *testing.T) {
	read := classes(t)["GET read=true"]
	for timeout, want := range map[time.Duration]bool{time.Second: false, 4900 * time.Millisecond: false, 5100 * time.Millisecond: true} {
		synctest.Test(t, func(t *testing.T) {
			u := scripted(t, &script{steps: []step{{stall: true}}}, 30*time.Second)
			for range 5 {
				x := prepare(t, u, read)
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				if _, err := x.Send(ctx); fault.Of(err).Code != connect.CodeDeadlineExceeded {
					t.Errorf("%v: got %v", timeout, err)
				}
				cancel()
			}
			if got := u.State().Down; got != want {
				t.Errorf("after five deadlines of %v: down is %v", timeout, got)
			}
		})
	}
}

// G17, G16: a call that cannot be answered in time, or whose caller has left, is
// not sent, and takes no place.
func TestNotWorthSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := scripted(t, &script{steps: []step{{status: 200}}}, 30*time.Second)
		for class, r := range classes(t) {
			for left, want := range map[time.Duration]connect.Code{-time.Second: 4, 0: 4, time.Millisecond: 4, 4 * time.Millisecond: 4, 6 * time.Millisecond: 0} {
				ctx, cancel := context.WithTimeout(t.Context(), left)
				x, err := u.Prepare(ctx, forward.Call{Route: r, Target: targetOf(t, r), Team: "payments"})
				if got := codeOf(fault.Of(err)); got != want {
					t.Errorf("%s, %v left: got %v, want %v", class, left, err, want)
				}
				if x != nil {
					x.Drop()
				}
				cancel()
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := u.Prepare(ctx, forward.Call{Route: r, Target: targetOf(t, r), Team: "payments"}); fault.Of(err).Code != connect.CodeCanceled {
				t.Errorf("%s, gone: %v", class, err)
			}
		}
		if u.State().InFlight != 0 {
			t.Errorf("%d places are taken", u.State().InFlight)
		}
	})
}

// A call that gets no token gives its place back.
func TestNoTokenNoPlace(t *testing.T) {
	base := &url.URL{Scheme: "https", Host: "acme.conductor.one"}
	source, err := credential.New(credential.Config{Tenant: "acme", URL: base, AccessToken: func() (string, error) { return "", errRefused }})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	u := forward.New(forward.Config{Tenant: "acme", URL: base, Tokens: source, Transport: &script{}, Timeout: time.Second, Logger: slog.New(slog.DiscardHandler),
		Gate: gate.New(gate.Config{Slots: 1, Teams: []string{"payments"}})})
	for range 3 {
		_, err := u.Prepare(t.Context(), forward.Call{Route: classes(t)["POST read=false"], Team: "payments"})
		if f := fault.Of(err); f == nil || f.Reason != fault.TokenUnavailable || u.State().InFlight != 0 {
			t.Errorf("got %v, %d places taken", err, u.State().InFlight)
		}
	}
}

// P5 over the whole of Send: every (status, body code) pair, for each class.
func TestEveryPair(t *testing.T) {
	pairs, unavailable := 0, 0
	for class, r := range classes(t) {
		target := targetOf(t, r)
		for status := 200; status <= 599; status++ {
			if status == http.StatusUnauthorized {
				continue // TestRefusedToken
			}
			for code := -1; code <= 18; code++ {
				if r.ReadOnly && code > 0 && code%5 != 0 {
					continue // reads pause between their attempts
				}
				synctest.Test(t, func(t *testing.T) {
					way := &script{steps: []step{{status: status, body: fmt.Sprintf(`{"code":%d,"message":"m"}`, code)}}}
					x, err := scripted(t, way, 30*time.Second).Prepare(t.Context(), forward.Call{Route: r, Target: target, Team: "payments"})
					if err != nil {
						t.Fatal(err)
					}
					result, err := x.Send(t.Context())
					f := fault.Of(err)
					if (f == nil) != (status < 300) || f != nil && (f.Code < 1 || f.Code > 16) {
						t.Fatalf("%s, %d with %d: %v", class, status, code, err)
					}
					if !r.ReadOnly {
						if len(way.times) != 1 || len(result.Attempts) != 1 {
							t.Fatalf("%s, %d with %d: %d deliveries", class, status, code, len(way.times))
						}
						if codeOf(f) == connect.CodeUnavailable {
							unavailable++
						}
					}
				})
				pairs++
			}
		}
	}
	if unavailable > 0 {
		t.Errorf("%d deliveries to methods with side effects were answered unavailable", unavailable)
	}
	t.Logf("%d (status, body code, class) triples through Send", pairs)
}
