package credential

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	// exchangeTimeout bounds the time of a flight, whoever waits for it.
	exchangeTimeout = 10 * time.Second
	// patience is how long an endpoint may take before it counts as stalled.
	patience = 3 * time.Second
	// renewal is how often a stalled endpoint is asked once more.
	renewal = 750 * time.Millisecond
	// spacing is the least time between the beginnings of two flights, which
	// bounds what an API that refuses every fresh token makes us ask for.
	spacing = 100 * time.Millisecond
)

// A flight is the one endeavour to get a token that is under way, for all who
// wait for it. It belongs to none of them: no caller's context ends it.
type flight struct {
	done chan struct{} // closed once token or failure is set
	// impatient is set when somebody stopped waiting, and from the beginning
	// if the flight before was stalled to its end.
	impatient atomic.Bool

	token   *issued
	failure *failure
	hold    time.Duration // how long failure is answered from memory
}

// launch begins a flight. The caller holds s.mu, and there is none.
func (s *Source) launch() *flight {
	f := &flight{done: make(chan struct{})}
	f.impatient.Store(s.failure != nil && s.failure.stalled)
	begin := max(0, spacing-time.Since(s.launched))
	s.flight, s.launched = f, time.Now().Add(begin)
	s.flights.Go(func() { s.fly(f, begin) })
	return f
}

// fly makes exchanges until one has an outcome, which becomes the flight's.
//
// As a rule that is the first one. But an endpoint that took the request and
// stays silent may have come back to life without ever answering it. So once
// somebody has given up waiting, or patience has run out, the question is put
// again on a new connection, every renewal, while the old ones may still be
// answered: whoever waits has a token within a second of the recovery.
func (s *Source) fly(f *flight, begin time.Duration) {
	ctx, cancel := context.WithTimeout(s.ctx, exchangeTimeout)
	defer cancel()
	outcomes := make(chan *flight)
	attempt := func() {
		var out flight
		out.token, out.failure = s.exchange(ctx)
		select {
		case outcomes <- &out:
		case <-ctx.Done():
		}
	}
	if begin > 0 {
		select {
		case <-time.After(begin):
		case <-ctx.Done():
		}
	}
	started := time.Now()
	go attempt()
	again := time.NewTicker(renewal)
	defer again.Stop()
	for {
		select {
		case out := <-outcomes:
			f.token, f.failure = out.token, out.failure
		case <-ctx.Done():
			f.failure = silence(0)
			f.failure.closed = s.ctx.Err() != nil
		case <-again.C:
			if f.impatient.Load() || time.Since(started) > patience {
				go attempt()
			}
			continue
		}
		s.settle(f)
		return
	}
}

// settle makes a flight's outcome the Source's and lets its waiters go.
func (s *Source) settle(f *flight) {
	s.mu.Lock()
	s.flight = nil
	failures := s.failures
	if f.failure == nil {
		s.failure, s.failures = nil, 0
		s.current.Store(f.token)
		if s.next != nil && f.token.from != s.next {
			s.next.doubted = false // it had its turn: the next token may be its own again
		}
		s.arm(refreshIn(f.token))
	} else {
		s.failure, s.failures = f.failure, s.failures+1
		var next time.Duration
		f.hold, next = f.failure.backoff(s.failures)
		s.held = time.Now().Add(f.hold)
		s.arm(next)
	}
	s.mu.Unlock()
	close(f.done)
	s.report(f, failures)
}

// refreshIn is when to replace a token ahead of its time: at about 80% of its
// life, and not at the same moment in every proxy. 0 means never.
func refreshIn(t *issued) time.Duration {
	if t.life == 0 {
		return 0
	}
	share := 0.75 + 0.1*rand.Float64()
	return max(time.Second, time.Duration(share*float64(t.life)))
}

// arm sets the time of the next flight that no caller asks for; 0 sets none.
// The caller holds s.mu.
func (s *Source) arm(in time.Duration) {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if in > 0 && !s.closed {
		s.timer = time.AfterFunc(in, s.refresh)
	}
}

// refresh begins a flight if there is none.
func (s *Source) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && s.flight == nil {
		s.launch()
	}
}

// report tells the log of a flight. A failure that goes on is logged once a
// minute, or when it changes; a token if it ends a failure, or is the first of
// its credential. Failures is how many came before.
func (s *Source) report(f *flight, failures int) {
	if f.failure != nil && f.failure.closed {
		return
	}
	attrs := s.cfg.owners()
	if f.failure == nil {
		s.logged.Store(nil)
		level := slog.LevelDebug
		if last := s.served.Swap(f.token.from); failures > 0 || last != f.token.from {
			level = slog.LevelInfo
		}
		attrs = append(attrs, slog.String("credential", f.token.from.name), slog.Time("expiry", f.token.expiry))
		if f.token.key != "" {
			attrs = append(attrs, slog.String("key_id", f.token.key))
		}
		s.log.LogAttrs(s.ctx, level, "got access token", attrs...)
		return
	}
	now := time.Now()
	if last := s.logged.Load(); last != nil && last.what == f.failure.what && now.Sub(last.at) < time.Minute {
		return
	}
	s.logged.Store(&logged{f.failure.what, now})
	attrs = append(append(attrs, slog.Int("failures", failures+1)), f.failure.attributes()...)
	s.log.LogAttrs(s.ctx, slog.LevelWarn, "cannot get access token", attrs...)
}

// logged is the failure that the log has last had a line of.
type logged struct {
	what string
	at   time.Time
}

// outcome names what became of an exchange: one of three, for a metric's
// label. The nil failure is none.
func (f *failure) outcome() string {
	switch {
	case f == nil:
		return "ok"
	case f.own:
		return "rejected"
	}
	return "unavailable"
}
