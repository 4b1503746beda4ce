package credential_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/fault"
)

// TestRefusals: what the endpoint's answers become. A refused credential is
// unavailable to our caller, whose own credential is fine.
func TestRefusals(t *testing.T) {
	const no, off = fault.UpstreamCredentialRejected, fault.TokenUnavailable
	for _, tt := range []struct {
		status int
		body   string
		reason fault.Reason
		code   string // metadata oauth_error
		words  string // in the message
	}{
		{400, `{"error":"invalid_client"}`, no, "invalid_client", "have its client id"},
		{401, `{"error":"invalid_client"}`, no, "invalid_client", "have its client id"},
		{400, `{"error":"unauthorized_client"}`, no, "unauthorized_client", ""},
		{400, `{"error":"invalid_grant"}`, no, "invalid_grant", ""},
		{401, `<html>no</html>`, no, "", ""},
		{403, `{}`, no, "", ""},
		{400, `{"error":"canary-in-error"}`, no, "other", ""},
		{200, `{"error":"invalid_client"}`, no, "invalid_client", ""},
		{400, `{"error":"temporarily_unavailable"}`, off, "temporarily_unavailable", "400"},
		{400, `{"error":"slow_down"}`, off, "slow_down", ""},
		{408, ``, off, "", "408"},
		{429, `{"error":"canary"}`, off, "other", "429"},
		{500, `canary`, off, "", "500"},
		{502, ``, off, "", "502"},
		{503, `{"error":"invalid_client"}`, off, "invalid_client", "503"}, // the status chooses
		{404, `canary`, off, "", "check the tenant's URL"},
		{405, ``, off, "", "check the tenant's URL"},
		{302, ``, off, "", "redirect"},
		{308, ``, off, "", "redirect"},
		{200, ``, off, "", "could not be read"},
		{200, `canary`, off, "", "could not be read"},
		{200, `{"token_type":"Bearer"}`, off, "", "could not be read"},
		{200, `{"access_token":"","token_type":"Bearer"}`, off, "", "could not be read"},
		{200, `{"access_token":["canary"],"token_type":"Bearer"}`, off, "", "could not be read"},
		{204, ``, off, "", "could not be read"},
		{200, `{"access_token":"can\nary","token_type":"Bearer"}`, off, "", "no usable token"},
		{200, `{"access_token":"can ary","token_type":"Bearer"}`, off, "", "no usable token"},
		{200, `{"access_token":"canäry","token_type":"Bearer"}`, off, "", "no usable token"},
		{200, `{"access_token":"` + strings.Repeat("x", 17<<10) + `","token_type":"Bearer"}`, off, "", "no usable token"},
		{200, `{"access_token":"x","token_type":"DPoP"}`, no, "", "set dpop: true"},
		{400, `{"error":"invalid_dpop_proof"}`, no, "invalid_dpop_proof", "set dpop: true"},
		{400, `{"error":"use_dpop_nonce"}`, no, "use_dpop_nonce", "set dpop: true"},
		{200, `{"access_token":"x","token_type":"mac"}`, off, "", "another type"},
		{200, `{"access_token":"x","token_type":"canary"}`, off, "", "another type"},
	} {
		bubble(t, says(tt.status, tt.body), func(t *testing.T, e *endpoint, s *credential.Source) {
			_, err := s.Token(t.Context())
			f := wantFault(t, err, connect.CodeUnavailable, tt.reason)
			if f.Metadata["oauth_error"] != tt.code || !strings.Contains(f.Message, tt.words) || !strings.Contains(f.Message, `"acme"`) {
				t.Errorf("%d %s: %q with %v; want %q in it, error %q", tt.status, tt.body, f.Message, f.Metadata, tt.words, tt.code)
			}
			if strings.Contains(fmt.Sprintf("%v %+v", f, f), "canary") {
				t.Errorf("%d %s: the fault has the body in it: %v", tt.status, tt.body, f)
			}
			if e.count() != 1 {
				t.Errorf("%d: %d POSTs, want 1", tt.status, e.count())
			}
		})
	}
}

// TestBearer: the type's case does not matter, and no type is the usual one.
func TestBearer(t *testing.T) {
	for _, kind := range []string{`"Bearer"`, `"bearer"`, `"BEARER"`, `""`, `null`} {
		bubble(t, says(200, `{"access_token":"x","token_type":`+kind+`}`), func(t *testing.T, _ *endpoint, s *credential.Source) {
			if got := want(t, s, "x").Type(); got != "Bearer" {
				t.Errorf("type %s became %q", kind, got)
			}
		})
	}
}

// TestLifetime: what expires_in becomes, however absurd.
func TestLifetime(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		field string
		want  time.Duration // 0: no token
	}{
		{``, 5 * time.Minute}, {`,"expires_in":null`, 5 * time.Minute},
		{`,"expires_in":3600`, time.Hour}, {`,"expires_in":"600"`, 10 * time.Minute}, {`,"expires_in":1`, time.Second},
		{`,"expires_in":86401`, day}, {`,"expires_in":2147483648`, day}, {`,"expires_in":1000000000000000000`, day},
		{`,"expires_in":0`, 0}, {`,"expires_in":-1`, 0}, {`,"expires_in":-4294966696`, 0}, {`,"expires_in":-9223372036854775808`, 0},
		// These are not numbers of seconds, and oauth2 refuses the answer.
		{`,"expires_in":1e18`, 0}, {`,"expires_in":99999999999999999999`, 0}, {`,"expires_in":3600.5`, 0},
		{`,"expires_in":"soon"`, 0}, {`,"expires_in":{}`, 0}, {`,"expires_in":true`, 0},
	} {
		bubble(t, says(200, `{"access_token":"x","token_type":"Bearer"`+tt.field+`}`), func(t *testing.T, _ *endpoint, s *credential.Source) {
			token, err := s.Token(t.Context())
			if tt.want == 0 {
				wantFault(t, err, connect.CodeUnavailable, fault.TokenUnavailable)
				return
			}
			if got := time.Until(token.Expiry()); err != nil || got != tt.want {
				t.Errorf("%s: expires in %v, %v; want %v", tt.field, got, err, tt.want)
			}
		})
	}
	for value, want := range map[any]time.Duration{
		int64(60): time.Minute, float64(60.5): 60500 * time.Millisecond, "x": 5 * time.Minute, "NaN": 5 * time.Minute,
		"Inf": 5 * time.Minute, "-1": 0, int64(-1): 0, true: 5 * time.Minute,
	} {
		if got, ok := credential.Lifetime(value); got != want || ok != (want > 0) {
			t.Errorf("lifetime of %v = %v, %v; want %v", value, got, ok, want)
		}
	}
}

// TestSlowAnswer: a token's life counts from the request, not the answer.
func TestSlowAnswer(t *testing.T) {
	slow := func(n int, r *http.Request) (*http.Response, error) {
		time.Sleep(2 * time.Second)
		return gives(60)(n, r)
	}
	bubble(t, slow, func(t *testing.T, _ *endpoint, s *credential.Source) {
		if left := time.Until(want(t, s, "token-1").Expiry()); left != 58*time.Second {
			t.Errorf("expires in %v, want 58 s", left)
		}
	})
}

// TestRetryAfter: the endpoint is left alone for as long as it asks, within
// reason, and the caller is told.
func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"7": 7 * time.Second, "1000000000": 30 * time.Second, "Sat, 01 Jan 2000 00:00:12 GMT": 12 * time.Second,
		"Sun, 01 Jan 2040 00:00:00 GMT": 30 * time.Second, "Fri, 31 Dec 1999 00:00:00 GMT": 0,
		"": 0, "soon": 0, "-5": 0, "99999999999999999999": 0,
	} {
		busy := func(int, *http.Request) (*http.Response, error) {
			resp := respond(429, "")
			resp.Header.Set("Retry-After", value)
			return resp, nil
		}
		bubble(t, busy, func(t *testing.T, e *endpoint, s *credential.Source) {
			_, err := s.Token(t.Context())
			f := wantFault(t, err, connect.CodeUnavailable, fault.TokenUnavailable)
			if want > 0 && f.RetryAfter != want || want == 0 && (f.RetryAfter <= 0 || f.RetryAfter > time.Second) {
				t.Errorf("Retry-After %q: told to wait %v, want %v", value, f.RetryAfter, want)
			}
			e.turn(gives(600))
			time.Sleep(f.RetryAfter - 1)
			if _, err := s.Token(t.Context()); err == nil || e.count() != 1 {
				t.Errorf("Retry-After %q: asked again too early, after %d POSTs", value, e.count())
			}
			time.Sleep(time.Nanosecond)
			if _, err := s.Token(t.Context()); err != nil {
				t.Errorf("Retry-After %q: after waiting as told: %v", value, err)
			}
		})
	}
}

// TestRejected: callers without number do not make us hammer an endpoint that
// refuses us, and we are back 5 s after it takes us again, at the latest.
func TestRejected(t *testing.T) {
	bubble(t, says(401, `{"error":"invalid_client"}`), func(t *testing.T, e *endpoint, s *credential.Source) {
		for range 60_000 / 10 {
			_, err := s.Token(t.Context())
			if f := wantFault(t, err, connect.CodeUnavailable, fault.UpstreamCredentialRejected); f.RetryAfter != 0 {
				t.Fatalf("told to wait %v: waiting does not help", f.RetryAfter)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := e.count(); n < 12 || n > 25 {
			t.Errorf("%d POSTs in 60 s, want one in 5 s, and more at first", n)
		}
		gaps := gaps(e.posts)
		if slices.Max(gaps) > 5010*time.Millisecond || slices.Min(gaps) < 375*time.Millisecond {
			t.Errorf("POSTs between %v and %v apart", slices.Min(gaps), slices.Max(gaps))
		}
		e.turn(gives(600))
		healed := time.Now()
		for {
			if _, err := s.Token(t.Context()); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(healed); took > 5*time.Second {
			t.Errorf("back after %v, want 5 s at most", took)
		}
	})
}

// TestBackoff: an endpoint that is down is asked less and less often, but at
// least once a second while anybody wants a token; alone, every 30 s.
func TestBackoff(t *testing.T) {
	bubble(t, down, func(t *testing.T, e *endpoint, s *credential.Source) {
		for range 6000 {
			_, err := s.Token(t.Context())
			wantFault(t, err, connect.CodeUnavailable, fault.TokenUnavailable)
			time.Sleep(10 * time.Millisecond)
		}
		pauses := gaps(e.posts)
		if pauses[0] > 110*time.Millisecond || slices.Max(pauses) > 910*time.Millisecond || slices.Min(pauses[6:]) < 600*time.Millisecond {
			t.Errorf("POSTs %v ... apart, at most %v", pauses[:8], slices.Max(pauses))
		}
		if slices.Equal(pauses[10:20], pauses[20:30]) {
			t.Error("no jitter")
		}
		before := e.count()
		time.Sleep(10 * time.Minute)
		if n := e.count() - before; n < 19 || n > 28 {
			t.Errorf("%d POSTs in 10 minutes without callers, want one in 22 to 30 s", n)
		}
	})
}

// gaps returns the times between moments.
func gaps(moments []time.Time) (out []time.Duration) {
	for i := 1; i < len(moments); i++ {
		out = append(out, moments[i].Sub(moments[i-1]))
	}
	return out
}

// TestStaticRejected: a static token that C1 refuses is read again once; the
// same one is reported, and tried again after 5 s.
func TestStaticRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int64
		cfg := credential.Config{Tenant: "acme", URL: parse("https://acme.conductor.one"),
			AccessToken: func() (string, error) { reads.Add(1); return "static", nil }}
		s := newSource(t, cfg)
		s.Invalidate(want(t, s, "static"))
		for range 4 {
			_, err := s.Token(t.Context())
			wantFault(t, err, connect.CodeUnavailable, fault.UpstreamCredentialRejected)
			time.Sleep(time.Second)
		}
		if reads.Load() != 2 {
			t.Errorf("read %d times, want once more after the refusal", reads.Load())
		}
		time.Sleep(time.Second + 1)
		want(t, s, "static")
	})
}

// TestLog: one line for a failure that goes on, one for another, one when it
// is over; a skewed clock is named; and the metrics see every exchange.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		outcomes := map[string]int{}
		e := &endpoint{answer: gives(60)}
		cfg := config(e)
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		cfg.Observe = func(_, outcome string, _ time.Duration) { outcomes[outcome]++ }
		s := newSource(t, cfg)
		want(t, s, "token-1")
		run := func(seconds int) {
			for range seconds {
				_, _ = s.Token(t.Context())
				time.Sleep(time.Second)
			}
			synctest.Wait()
		}
		e.turn(func(int, *http.Request) (*http.Response, error) { return nil, fmt.Errorf("canary") })
		run(90)
		e.turn(func(int, *http.Request) (*http.Response, error) {
			resp := respond(401, `{"error":"invalid_client","error_description":"canary"}`)
			resp.Header.Set("Date", time.Now().Add(-90*time.Second).UTC().Format(http.TimeFormat))
			return resp, nil
		})
		run(30)
		e.turn(gives(60))
		run(20)

		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		want := []string{"got access token", "could not be reached", "have its client id", "got access token"}
		var got []string
		for _, line := range lines {
			i := slices.IndexFunc(want, func(w string) bool { return strings.Contains(line, w) })
			got = append(got, want[max(i, 0)])
			if strings.Contains(line, "got access token") && !strings.Contains(line, "credential=clever-fox-42195@acme.conductor.one/spc") {
				t.Errorf("line %q does not say whose token it is", line)
			}
			if !strings.Contains(line, "tenant=acme") || strings.Contains(line, "canary") {
				t.Errorf("line %q: want the tenant, and nothing of the answer", line)
			}
		}
		if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
			t.Errorf("log (-want +got):\n%s\n%s", diff, log.String())
		}
		if len(lines) > 6 {
			t.Errorf("%d lines, want one a minute at most:\n%s", len(lines), log.String())
		}
		if !strings.Contains(log.String(), `clock="clock skew 90 s"`) || !strings.Contains(log.String(), "cause=\"transport error of type") {
			t.Errorf("no clock skew or cause in\n%s", log.String())
		}
		if outcomes["ok"] != 2 || outcomes["rejected"] < 4 || outcomes["unavailable"] < 4 || len(outcomes) != 3 {
			t.Errorf("outcomes %v of %d POSTs", outcomes, e.count())
		}
	})
}

// TestNoSkew: a clock that is a minute off, or a Date that is none, is not to
// blame.
func TestNoSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for date, want := range map[string]bool{
			time.Now().Add(60 * time.Second).UTC().Format(http.TimeFormat):  false,
			time.Now().Add(61 * time.Second).UTC().Format(http.TimeFormat):  true,
			time.Now().Add(-61 * time.Second).UTC().Format(http.TimeFormat): true,
			"yesterday": false,
		} {
			var log bytes.Buffer
			cfg := config(&endpoint{answer: func(int, *http.Request) (*http.Response, error) {
				resp := respond(400, `{"error":"invalid_client"}`)
				resp.Header.Set("Date", date)
				return resp, nil
			}})
			cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			s := newSource(t, cfg)
			_, _ = s.Token(t.Context())
			s.Close()
			if got := strings.Contains(log.String(), "clock skew 6"); got != want {
				t.Errorf("Date %q: clock skew in the log: %v, want %v\n%s", date, got, want, log.String())
			}
		}
	})
}
