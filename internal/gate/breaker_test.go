package gate_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/gate"
)

// call makes a call of an operation with a verdict, if it is let in.
func call(t *testing.T, g *gate.Gate, operation string, v gate.Verdict) (in bool) {
	t.Helper()
	p, err := g.Enter(t.Context(), "", operation)
	if err != nil {
		refused(t, err, fault.UpstreamDown)
		return false
	}
	p.Report(v)
	p.Leave()
	return true
}

// fail makes calls that fail, n times.
func fail(t *testing.T, g *gate.Gate, n int, v gate.Verdict) {
	t.Helper()
	for i := range n {
		if !call(t, g, "op", v) {
			t.Fatalf("refused after %d failures", i)
		}
	}
}

// wait is how long a refused call is told to wait; 0 if it is let in.
func wait(t *testing.T, g *gate.Gate, operation string) time.Duration {
	t.Helper()
	p, err := g.Enter(t.Context(), "", operation)
	if err == nil {
		p.Leave()
		return 0
	}
	return fault.Of(err).RetryAfter
}

// Five failures in a row open it. Any answer in between begins the count anew,
// and what says nothing is not counted.
func TestBreakerOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 10})
		fail(t, g, 4, gate.Failed)
		call(t, g, "op", gate.Alive)
		fail(t, g, 4, gate.Failed)
		for range 100 {
			call(t, g, "op", gate.Unclear)
		}
		if g.State().Down {
			t.Fatal("open after four failures")
		}
		fail(t, g, 1, gate.Failed)
		if state := g.State(); !state.Down || state.Opened != 1 || state.Since != time.Now() {
			t.Errorf("after five failures: %+v", state)
		}
		begun := time.Now()
		for range 1000 {
			if call(t, g, "op", gate.Alive) {
				t.Fatal("let in while C1 is down")
			}
		}
		if time.Since(begun) != 0 || g.State().InFlight != 0 {
			t.Errorf("a refusal took %v; %+v", time.Since(begun), g.State())
		}
	})
}

// After a pause one call finds out, and only one at a time. If it fails the
// pause doubles, up to ten seconds, each less a random part.
func TestBreakerProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 10})
		fail(t, g, 5, gate.Failed)
		var pauses []time.Duration
		for _, most := range []time.Duration{1, 2, 4, 8, 10, 10} {
			pause := wait(t, g, "op")
			if most *= time.Second; pause <= most/2-time.Millisecond || pause > most {
				t.Errorf("the pause is %v, want from %v to %v", pause, most/2, most)
			}
			pauses = append(pauses, pause)
			time.Sleep(pause - time.Nanosecond)
			if call(t, g, "op", gate.Alive) {
				t.Fatal("let in before the pause ended")
			}
			time.Sleep(time.Nanosecond)
			probe, err := g.Enter(t.Context(), "", "op")
			if err != nil {
				t.Fatalf("the probe: %v", err)
			}
			if got := wait(t, g, "op"); got != time.Second {
				t.Errorf("another call while the probe is under way: wait %v, want 1s", got)
			}
			probe.Report(gate.Failed)
			probe.Leave()
		}
		time.Sleep(10 * time.Second)
		if !call(t, g, "op", gate.Alive) || g.State().Down || !call(t, g, "op", gate.Alive) {
			t.Error("it did not close when C1 answered")
		}
		fail(t, g, 5, gate.Failed)
		if pause := wait(t, g, "op"); pause > time.Second {
			t.Errorf("the first pause of another time is %v", pause)
		}
		t.Log("pauses", pauses)
	})
}

// The pauses of many gateways differ.
func TestBreakerJitter(t *testing.T) {
	pauses := make(map[time.Duration]bool)
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			g := gate.New(gate.Config{Slots: 10})
			fail(t, g, 5, gate.Failed)
			pauses[wait(t, g, "op")] = true
		}
	})
	if len(pauses) < 90 {
		t.Errorf("100 gateways have %d different pauses", len(pauses))
	}
}

// A probe that learns nothing, because its caller left or it was not sent after
// all, makes way for another.
func TestBreakerProbeWithoutVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 10})
		fail(t, g, 5, gate.Failed)
		time.Sleep(time.Second)
		for range 2 {
			if wait(t, g, "op") != 0 {
				t.Error("a probe that was dropped is waited for")
			}
		}
		if !call(t, g, "op", gate.Unclear) || !call(t, g, "op", gate.Alive) || g.State().Down {
			t.Error("a probe without a verdict is waited for")
		}
	})
}

// That one operation is broken is no reason to refuse another, which closes the
// breaker when it works. Without a connection none can.
func TestBreakerOfOneOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 10})
		fail(t, g, 5, gate.Failed)
		var passes []*gate.Pass
		for range 5 {
			p, err := g.Enter(t.Context(), "", "other")
			if err != nil {
				t.Fatalf("another operation is refused: %v", err)
			}
			passes = append(passes, p)
		}
		passes[0].Report(gate.Failed)
		if call(t, g, "other", gate.Alive) {
			t.Error("an operation that failed too is let in")
		}
		passes[1].Report(gate.Alive)
		if g.State().Down || !call(t, g, "op", gate.Failed) {
			t.Error("C1 has answered, and is held to be down")
		}
		for _, p := range passes {
			p.Leave()
		}
		g = gate.New(gate.Config{Slots: 10})
		fail(t, g, 5, gate.Unreachable)
		if call(t, g, "other", gate.Alive) {
			t.Error("without a connection an operation is let in")
		}
	})
}

// Nobody waits in line to be told that C1 is down.
func TestNoLineWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 1, Teams: []string{"a"}})
		p, err := g.Enter(t.Context(), "a", "op")
		if err != nil {
			t.Fatal(err)
		}
		defer p.Leave()
		for range 5 {
			p.Report(gate.Failed)
		}
		begun := time.Now()
		_, err = g.Enter(t.Context(), "a", "op")
		refused(t, err, fault.UpstreamDown)
		if took := time.Since(begun); took != 0 {
			t.Errorf("it waited %v", took)
		}
	})
}

// Whoever reports is told when it opens and when it closes, and of nothing else.
func TestBreakerChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate.New(gate.Config{Slots: 10})
		p, err := g.Enter(t.Context(), "", "op")
		if err != nil {
			t.Fatal(err)
		}
		defer p.Leave()
		for i, step := range []struct {
			v    gate.Verdict
			want gate.Change
		}{{gate.Alive, gate.Same}, {gate.Failed, 0}, {gate.Unreachable, 0}, {gate.Failed, 0}, {gate.Failed, 0}, {gate.Failed, gate.Opened},
			{gate.Failed, gate.Same}, {gate.Unclear, gate.Same}, {gate.Alive, gate.Closed}, {gate.Alive, gate.Same}} {
			if got := p.Report(step.v); got != step.want {
				t.Errorf("report %d: got %d, want %d", i, got, step.want)
			}
		}
	})
}

// Nothing is made again while C1 is down.
func TestNoRetryWhileDown(t *testing.T) {
	g := gate.New(gate.Config{Slots: 10})
	p, err := g.Enter(t.Context(), "", "op")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Leave()
	for range 4 {
		p.Report(gate.Failed)
		if !p.Again() {
			t.Fatal("no attempt more, although C1 is not known to be down")
		}
	}
	p.Report(gate.Failed)
	if p.Again() {
		t.Error("one attempt more, although C1 is down")
	}
}
