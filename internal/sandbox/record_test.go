package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// TestRecord holds that a request is kept as it came.
func TestRecord(t *testing.T) {
	h := start(t, sandbox.Config{})
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		h.Reset()
		h.client = newClient(t, nil, proto == "HTTP/2.0")
		target := connectorPath + "/force_sync%3f/..;a=b?x=%20&x=+"
		request, err := http.NewRequestWithContext(t.Context(), "POST", h.URL()+target, strings.NewReader(`{"a": "\u00e9"}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "tenant.example:1"
		request.Header = http.Header{"X-Twice": {"one", "two"}, "User-Agent": {"test"}, "Accept-Encoding": {"x"}, "Authorization": {"Bearer " + h.token}}
		before := time.Now()
		h.do(request)
		want := []sandbox.Request{{
			Number: 1, Method: "POST", URI: target, Host: "tenant.example:1", Proto: proto,
			Header: http.Header{"X-Twice": {"one", "two"}, "User-Agent": {"test"}, "Accept-Encoding": {"x"},
				"Authorization": {"Bearer " + h.token}, "Content-Length": {"15"}},
			ContentLength: 15, Body: []byte(`{"a": "\u00e9"}`), BodySize: 15, Status: 404, Accepted: true,
		}}
		got := h.Requests()
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(sandbox.Request{}, "Time", "RemoteAddr")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", proto, diff)
		}
		if got[0].Time.Before(before) || got[0].RemoteAddr == "" {
			t.Errorf("recorded %+v", got[0])
		}
		got[0].Header.Set("X-Twice", "changed")
		if h.last().Header.Get("X-Twice") != "one" {
			t.Error("the record can be changed from outside")
		}
	}
}

// TestRecordIsBounded holds that the latest requests stay, and the counters count on.
func TestRecordIsBounded(t *testing.T) {
	for remember, kept := range map[int]int{3: 3, -1: 0} {
		h := start(t, sandbox.Config{Remember: remember})
		for i := range 20 {
			h.call("GET", fmt.Sprintf("%s/connectors/%d", appsPath, i), "")
			h.exchange(plainForm(h.Facts()), nil)
		}
		var got []string
		for _, seen := range h.Requests() {
			got = append(got, seen.URI[len(appsPath+"/connectors/"):])
		}
		if want := []string{"17", "18", "19"}[:kept]; !slices.Equal(got, want) {
			t.Errorf("remember %d: got %q", remember, got)
		}
		if h.Hits() != 20 || h.TokenHits() != 20 || len(h.TokenRequests()) != kept {
			t.Errorf("remember %d: %d hits, %d token hits, %d token requests", remember, h.Hits(), h.TokenHits(), len(h.TokenRequests()))
		}
		h.Reset()
		if h.Hits() != 0 || h.TokenHits() != 0 || h.AcceptedHits() != 0 || h.Acts(sandbox.TokenEndpoint) != 0 || len(h.Requests()) != 0 {
			t.Error("something outlived Reset")
		}
	}
}

// TestRecordForgets holds that what the record no longer shows takes no memory.
func TestRecordForgets(t *testing.T) {
	s, err := sandbox.New(sandbox.Config{Remember: 1})
	if err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		return memory.HeapAlloc
	}
	before := heap()
	body := strings.Repeat(" ", 64<<10)
	for range 400 {
		serve(s, "POST", "/nowhere", "", "application/json", body)
	}
	if after := heap(); after > before+8<<20 {
		t.Errorf("25 MiB of bodies later, the heap has grown by %d MiB", (after-before)>>20)
	}
	runtime.KeepAlive(s)
}

func TestAwaitHits(t *testing.T) {
	h := start(t, sandbox.Config{})
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := h.AwaitHits(short, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() { h.force() })
	}
	if err := h.AwaitHits(t.Context(), 5); err != nil || h.Hits() != 5 {
		t.Errorf("got %v at %d", err, h.Hits())
	}
	wg.Wait()
}

// TestRecordWhileServing reads the record while it is written, for the race
// detector's sake.
func TestRecordWhileServing(t *testing.T) {
	h := start(t, sandbox.Config{Remember: 10, Chaos: sandbox.Chaos{Slow: 0.5, Delay: time.Millisecond, Unauthorized: 0.2}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				h.force()
				h.Requests()
				h.Acts(sandbox.ForceSync)
			}
		})
	}
	wg.Wait()
	if h.Hits() != 200 || h.AcceptedHits() != h.Acts(sandbox.ForceSync) {
		t.Errorf("%d hits, %d accepted, %d acts", h.Hits(), h.AcceptedHits(), h.Acts(sandbox.ForceSync))
	}
}

// TestLog holds that there is a line for each request, and no secret in it.
func TestLog(t *testing.T) {
	var log bytes.Buffer
	h := start(t, sandbox.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	facts := h.Facts()
	h.exchange(plainForm(facts), nil)
	h.exchange(plainForm(facts), func(r *http.Request) { r.URL.RawQuery = plainForm(facts).Encode() })
	h.force()
	h.Inject(sandbox.Rule{Fault: sandbox.Reset()})
	h.force()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 4 {
		t.Errorf("%d lines:\n%s", lines, &log)
	}
	for _, secret := range []string{facts.PlainClientSecret, facts.StaticToken, facts.ClientSecret} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("there is a secret in\n%s", &log)
		}
	}
}

// chaosStatuses is what n calls meet; 0 is a reset.
func chaosStatuses(t *testing.T, seed uint64, n int) ([]int, *harness) {
	h := start(t, sandbox.Config{Seed: seed, Chaos: sandbox.Chaos{Unauthorized: 0.1, RateLimited: 0.1, Reset: 0.1, Slow: 0.1, Delay: time.Microsecond}})
	var statuses []int
	for range n {
		statuses = append(statuses, h.force().status)
	}
	return statuses, h
}

// TestChaos holds that a seed repeats itself, that seeds differ, that each
// part is about as large as asked for, and what acts.
func TestChaos(t *testing.T) {
	first, h := chaosStatuses(t, 7, 400)
	again, _ := chaosStatuses(t, 7, 100)
	other, _ := chaosStatuses(t, 8, 100)
	if !slices.Equal(first[:100], again) || slices.Equal(first[:100], other) {
		t.Error("a seed does not repeat itself, or two seeds are alike")
	}
	counts := map[int]int{}
	for _, status := range first {
		counts[status]++
	}
	for _, status := range []int{0, 401, 429} {
		if counts[status] < 20 || counts[status] > 70 {
			t.Errorf("%d was answered %d times of 400, asked for 40", status, counts[status])
		}
	}
	if want := counts[200] + counts[0]; h.Acts(sandbox.ForceSync) != want || h.AcceptedHits() != 400-counts[401] {
		t.Errorf("acted %d times, not %d", h.Acts(sandbox.ForceSync), want)
	}
	if err := h.SetChaos(sandbox.Chaos{Unauthorized: 1}); err != nil {
		t.Fatal(err)
	}
	if got, _ := h.exchange(plainForm(h.Facts()), nil); got.status != 200 {
		t.Errorf("the token endpoint answered %d", got.status)
	}
	if err := h.SetChaos(sandbox.Chaos{}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		h.force().want(t, 200, -1)
	}
}

func TestChaosRefusals(t *testing.T) {
	s, err := sandbox.New(sandbox.Config{Chaos: sandbox.DefaultChaos()})
	if err != nil || s.Facts().Seed == 0 {
		t.Errorf("got %v, seed %d", err, s.Facts().Seed)
	}
	for _, chaos := range []sandbox.Chaos{{Slow: -0.1}, {Reset: 1.1}, {Slow: 0.6, Reset: 0.6}} {
		if _, err := sandbox.New(sandbox.Config{Chaos: chaos}); err == nil {
			t.Errorf("%+v was taken", chaos)
		}
		if err := s.SetChaos(chaos); err == nil {
			t.Errorf("%+v was set", chaos)
		}
	}
}
