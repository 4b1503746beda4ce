package credential_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/fault"
)

// bubble runs a test on a clock of its own, with an endpoint and a source.
func bubble(t *testing.T, answer func(int, *http.Request) (*http.Response, error), test func(*testing.T, *endpoint, *credential.Source)) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{answer: answer}
		s := newSource(t, config(e))
		test(t, e, s)
	})
}

// after returns a context that ends after d, or never if d is 0.
func after(t *testing.T, d time.Duration) context.Context {
	if d == 0 {
		return t.Context()
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestCold: a thousand callers without a token make one POST, even if it takes
// a long time.
func TestCold(t *testing.T) {
	slow := func(n int, r *http.Request) (*http.Response, error) {
		time.Sleep(2900 * time.Millisecond)
		return gives(600)(n, r)
	}
	bubble(t, slow, func(t *testing.T, e *endpoint, s *credential.Source) {
		if served := many(t.Context(), s, 1000); served != 1000 || e.count() != 1 {
			t.Errorf("%d of 1000 served by %d POSTs, want all by 1", served, e.count())
		}
	})
}

// TestRefresh: the token is replaced once, at about 80% of its life, without a
// caller, and the old one serves meanwhile.
func TestRefresh(t *testing.T) {
	bubble(t, gives(600), func(t *testing.T, e *endpoint, s *credential.Source) {
		first := want(t, s, "token-1")
		e.turn(func(n int, r *http.Request) (*http.Response, error) {
			time.Sleep(2 * time.Second)
			return gives(600)(n, r)
		})
		for at := 0; at < 600; at++ {
			token, err := s.Token(after(t, 1))
			if err != nil {
				t.Fatalf("after %d s: %v", at, err)
			}
			if token == first && at > 520 {
				t.Fatalf("after %d s of 600 the first token still serves", at)
			}
			time.Sleep(time.Second)
		}
		if e.count() != 2 {
			t.Fatalf("%d POSTs in the life of one token, want 2", e.count())
		}
		if at := e.posts[1].Sub(e.posts[0]); at < 450*time.Second || at > 510*time.Second {
			t.Errorf("refreshed after %v, want 75%% to 85%% of 600 s", at)
		}
	})
}

// TestDownWhileValid: with a valid token an endpoint that is down costs no
// call. An expired token never serves. Once the endpoint is back, so are we
// within a second, and a thousand callers at that moment make one POST.
func TestDownWhileValid(t *testing.T) {
	bubble(t, gives(600), func(t *testing.T, e *endpoint, s *credential.Source) {
		expiry := want(t, s, "token-1").Expiry()
		if got := time.Until(expiry); got != 600*time.Second {
			t.Fatalf("the token expires in %v, want 600 s", got)
		}
		e.turn(down)
		for time.Until(expiry) > 10*time.Second {
			want(t, s, "token-1")
			time.Sleep(100 * time.Millisecond)
		}
		tried := e.count()
		if tried < 5 || tried > 20 {
			t.Errorf("%d POSTs in the last 2 minutes of the token, want some, but with pauses", tried-1)
		}
		if state := s.State(); state.Valid || state.Failures != tried-1 || s.Ready() == nil {
			t.Errorf("state %+v, ready %v; want not valid, %d failures, not ready", state, s.Ready(), tried-1)
		}
		wantFault(t, s.State().Err, connect.CodeUnavailable, fault.TokenUnavailable)
		wantFault(t, s.Ready(), connect.CodeUnavailable, fault.TokenUnavailable)
		for range 100 { // long after the background has become slow to ask
			time.Sleep(time.Second)
			_, err := s.Token(t.Context())
			wantFault(t, err, connect.CodeUnavailable, fault.TokenUnavailable)
		}

		e.turn(gives(600))
		healed, before := time.Now(), e.count()
		for many(t.Context(), s, 1000) == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(healed); took > time.Second {
			t.Errorf("back %v after the endpoint, want within 1 s", took)
		}
		if posts := e.count() - before; posts != 1 {
			t.Errorf("%d POSTs of 1,000 callers after expiry, want 1", posts)
		}
		if err := s.Ready(); err != nil || s.State().Failures != 0 || s.State().Err != nil {
			t.Errorf("ready: %v, state %+v", err, s.State())
		}
	})
}

// TestExpiry: across many lives of short tokens, with callers that never rest
// and refreshes that come late, each token handed out still has time to run.
func TestExpiry(t *testing.T) {
	late := func(n int, r *http.Request) (*http.Response, error) {
		time.Sleep(8 * time.Second)
		return gives(20)(n, r)
	}
	bubble(t, late, func(t *testing.T, e *endpoint, s *credential.Source) {
		for range 2000 {
			token, err := s.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(token.Expiry()); left < 2*time.Second {
				t.Fatalf("a token with %v left was handed out", left)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// TestStalled: an endpoint that takes requests and never answers them, even
// once it is well again. Callers fail at their own deadline, and a second
// after it is well they have a token.
func TestStalled(t *testing.T) {
	for _, deadline := range []time.Duration{300 * time.Millisecond, time.Second, 25 * time.Second} {
		for _, stalled := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second, 12 * time.Second, 61 * time.Second} {
			if stalled < deadline && stalled < 3*time.Second {
				continue // nobody has a reason to call it stalled yet: it may just be slow
			}
			bubble(t, stalls, func(t *testing.T, e *endpoint, s *credential.Source) {
				begin := time.Now()
				time.AfterFunc(stalled, func() { e.turn(gives(600)) })
				for {
					asked := time.Now()
					_, err := s.Token(after(t, deadline))
					if err == nil {
						break
					}
					switch f := fault.Of(err); {
					case f.Code == connect.CodeDeadlineExceeded && time.Since(asked) != deadline:
						t.Fatalf("failed after %v of a deadline of %v", time.Since(asked), deadline)
					case f.Code != connect.CodeDeadlineExceeded:
						wantFault(t, err, connect.CodeUnavailable, fault.TokenUnavailable)
						time.Sleep(f.RetryAfter)
					}
				}
				if late := time.Since(begin) - stalled; late > time.Second {
					t.Errorf("deadline %v: back %v after a stall of %v, want within 1 s", deadline, late, stalled)
				}
				if most := 2 + int(stalled/(700*time.Millisecond)); e.count() > most {
					t.Errorf("%d POSTs in a stall of %v, want at most %d", e.count(), stalled, most)
				}
			})
		}
	}
}

// TestOwnDeadline: an exchange has 10 s, whoever waits and for how long.
func TestOwnDeadline(t *testing.T) {
	bubble(t, stalls, func(t *testing.T, e *endpoint, s *credential.Source) {
		begin := time.Now()
		_, err := s.Token(t.Context())
		f := wantFault(t, err, connect.CodeUnavailable, fault.TokenUnavailable)
		if took := time.Since(begin); took != 10*time.Second || f.RetryAfter > time.Second {
			t.Errorf("gave up after %v, retry after %v; want 10 s, at most 1 s", took, f.RetryAfter)
		}
	})
}

// TestOtherCallers: a caller that goes away takes nobody's exchange with it.
func TestOtherCallers(t *testing.T) {
	slow := func(n int, r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(600 * time.Millisecond):
			return gives(600)(n, r)
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	bubble(t, slow, func(t *testing.T, e *endpoint, s *credential.Source) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := s.Token(ctx)
			wantFault(t, err, connect.CodeCanceled, fault.Canceled)
		})
		synctest.Wait()
		wg.Go(func() { want(t, s, "token-1") })
		synctest.Wait()
		cancel()
		wg.Wait()
		if e.count() != 1 {
			t.Errorf("%d POSTs, want 1", e.count())
		}
		if _, err := s.Token(ctx); err != nil {
			t.Errorf("a valid token to a caller who has gone: %v", err)
		}
	})
	bubble(t, slow, func(t *testing.T, e *endpoint, s *credential.Source) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Token(ctx)
		wantFault(t, err, connect.CodeCanceled, fault.Canceled)
		if e.count() != 0 {
			t.Error("an exchange was begun for a caller who had gone")
		}
	})
}

// TestInvalidate: C1 refuses a token; a thousand callers who hold it make one
// exchange. Who comes late with the old token does no harm.
func TestInvalidate(t *testing.T) {
	bubble(t, gives(600), func(t *testing.T, e *endpoint, s *credential.Source) {
		old := want(t, s, "token-1")
		time.Sleep(time.Minute)
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				s.Invalidate(old)
				want(t, s, "token-2")
			})
		}
		wg.Wait()
		s.Invalidate(old)
		s.Invalidate(credential.Token{})
		want(t, s, "token-2")
		if e.count() != 2 {
			t.Errorf("%d POSTs, want 2", e.count())
		}
	})
}

// TestRefusedForEver: an API that refuses every fresh token makes us ask for
// ten a second at most, however many callers there are.
func TestRefusedForEver(t *testing.T) {
	bubble(t, gives(600), func(t *testing.T, e *endpoint, s *credential.Source) {
		const seconds = 10
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for end := time.Now().Add(seconds * time.Second); time.Now().Before(end); {
					token, err := s.Token(t.Context())
					if err != nil {
						t.Error(err)
					}
					time.Sleep(time.Millisecond) // the API says 401
					s.Invalidate(token)
				}
			})
		}
		wg.Wait()
		if e.count() > seconds*10+1 {
			t.Errorf("%d POSTs in %d s, want at most 10 a second", e.count(), seconds)
		}
	})
}

// TestClose: waiters are let go, nothing runs on (the bubble would not end),
// and a token that is still valid is good to the end.
func TestClose(t *testing.T) {
	bubble(t, stalls, func(t *testing.T, e *endpoint, s *credential.Source) {
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				_, err := s.Token(t.Context())
				wantFault(t, err, connect.CodeUnavailable, fault.ShuttingDown)
			})
		}
		synctest.Wait()
		s.Close()
		wg.Wait()
		s.Close()
		_, err := s.Token(t.Context())
		wantFault(t, err, connect.CodeUnavailable, fault.ShuttingDown)
	})
	bubble(t, gives(600), func(t *testing.T, e *endpoint, s *credential.Source) {
		want(t, s, "token-1")
		s.Close()
		time.Sleep(500 * time.Second)
		want(t, s, "token-1")
		time.Sleep(500 * time.Second)
		_, err := s.Token(t.Context())
		wantFault(t, err, connect.CodeUnavailable, fault.ShuttingDown)
		if e.count() != 1 {
			t.Errorf("%d POSTs, want none after Close", e.count()-1)
		}
	})
}

// TestBeforeAsked: New does no I/O, and a source is not ready before it has
// been asked.
func TestBeforeAsked(t *testing.T) {
	bubble(t, gives(600), func(t *testing.T, e *endpoint, s *credential.Source) {
		time.Sleep(time.Hour)
		if e.count() != 0 || s.Ready() == nil || s.State() != (credential.State{}) {
			t.Errorf("%d POSTs, ready %v, state %+v; want none of it", e.count(), s.Ready(), s.State())
		}
	})
}
