// Package gate decides whether a call may go to one tenant's C1 now.
//
// It holds four things, all of them so that a C1 that is dead, slow or has
// enough costs callers milliseconds, and neither the gateway's memory nor C1's
// recovery: slots bound the calls under way, and leave a part of them to each
// team; a breaker refuses calls to a C1 that does not answer; a throttle refuses
// calls to one that says that there are too many; a budget bounds the attempts
// that are made again.
//
// It is pure: it sends nothing, and knows neither HTTP nor what a call is.
package gate

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
)

const (
	// patience is how long a call waits for a slot while its team's line stands
	// still, and maxWait how long while it moves.
	patience, maxWait = 500 * time.Millisecond, 5 * time.Second
	// overloadedFor is the wait that a caller is told who found no slot.
	overloadedFor = time.Second
)

// A Config describes the calls of one tenant.
type Config struct {
	// Slots is how many calls may be under way at once. It must be no less than
	// the number of Teams.
	Slots int
	// Teams are those whose calls come. Half of the slots is divided among them,
	// so that each finds some whatever the others do; the other half is for
	// whoever comes first.
	Teams []string
}

// A Gate is one tenant's. It is safe for concurrent use.
type Gate struct {
	slots    *slots
	breaker  breaker
	throttle throttle
	budget   budget
}

// New returns a Gate that is open and empty.
func New(cfg Config) *Gate {
	s := newSlots(cfg.Slots, cfg.Teams)
	return &Gate{slots: s, breaker: breaker{failed: make(map[string]bool)}, throttle: throttle{slots: s}, budget: budget{tokens: maxRetries}}
}

// Resize makes the slots and the teams those of cfg. Calls under way go on, and
// what is known of C1 stays.
func (g *Gate) Resize(cfg Config) { g.slots.resize(cfg.Slots, cfg.Teams) }

// Enter lets a call of a team in, which is to call an operation. While all
// slots are taken it waits for one: as long as ctx lives and the team's calls
// come to an end, up to five seconds. If none has ended for half a second, it
// is of no use to wait, and it does not.
//
// The error is a *fault.Fault, and the call has not been let in: it is
// unavailable, because C1 has not answered for a while (UPSTREAM_DOWN) or there
// is no slot (OVERLOADED); resource_exhausted, because C1 has had too many calls
// of the tenant's (UPSTREAM_RATE_LIMITED); or ctx's.
func (g *Gate) Enter(ctx context.Context, team, operation string) (*Pass, error) {
	// Nobody waits in line to be told that C1 is down, or wants no calls.
	if wait := g.breaker.refuses(operation); wait > 0 {
		return nil, down(wait)
	}
	if wait := g.throttle.wait(); wait > 0 {
		return nil, throttled(wait)
	}
	epoch, err := g.slots.take(ctx, team)
	switch {
	case errors.Is(err, errRestart):
		return nil, throttled(max(g.throttle.wait(), time.Millisecond))
	case errors.Is(err, errNoSlot):
		return nil, overloaded(err)
	case err != nil:
		return nil, fault.Of(err)
	}
	probe, wait := g.breaker.admit(operation)
	if wait > 0 {
		g.slots.release(team, epoch)
		return nil, down(wait)
	}
	return &Pass{gate: g, team: team, operation: operation, probe: probe, epoch: epoch}, nil
}

func down(wait time.Duration) *fault.Fault {
	f := fault.New(connect.CodeUnavailable, fault.UpstreamDown, "C1 has not answered for a while, so nothing was sent; c1proxy looks again by itself")
	f.RetryAfter = wait
	return f
}

func overloaded(err error) *fault.Fault {
	f := fault.New(connect.CodeUnavailable, fault.Overloaded, "c1proxy has as many calls to this C1 under way as it accepts; nothing was sent")
	f.RetryAfter = overloadedFor
	return f.Because(err)
}

// A Verdict is what one attempt says of C1.
type Verdict uint8

// The verdicts.
const (
	// Unclear says nothing: the caller left first, or nothing was tried.
	Unclear Verdict = iota
	// Alive is any answer of C1's own, a refusal included.
	Alive
	// Failed is an attempt that C1 took and did not answer, or that something
	// in front of it answered instead.
	Failed
	// Unreachable is an attempt for which there was no connection.
	Unreachable
)

// A Pass is a call that has been let in. It belongs to one goroutine at a time.
type Pass struct {
	gate            *Gate
	team, operation string
	probe, left     bool
	epoch           uint64 // in which it was let in
}

// A Change is what a verdict did to the breaker.
type Change uint8

// The changes.
const (
	// Same is none.
	Same Change = iota
	// Opened says that C1 is now taken to be down.
	Opened
	// Closed says that it answers again.
	Closed
)

// Report says what came of an attempt, and is told what that changed.
func (p *Pass) Report(v Verdict) Change {
	if v == Alive {
		p.gate.throttle.relax(p.epoch)
	}
	return p.toBreaker(v)
}

func (p *Pass) toBreaker(v Verdict) Change {
	probe := p.probe
	p.probe = false
	return p.gate.breaker.report(p.operation, v, probe)
}

// Throttle reports, in place of Report, that C1 refused an attempt because there
// are too many (429), and for how long it asked to be left alone; 0 if it did not
// say. Until then no call of the tenant's is let in, and of those that are in
// none may make an attempt. It is told what that changed, for how long C1 is left
// alone, and whether it was not before.
func (p *Pass) Throttle(asked time.Duration) (change Change, wait time.Duration, news bool) {
	wait, news = p.gate.throttle.close(asked)
	return p.toBreaker(Alive), wait, news
}

// May says whether an attempt may be made now. The error is a *fault.Fault, that
// of a call that C1 wants no more of.
func (p *Pass) May() error {
	if wait := p.gate.throttle.wait(); wait > 0 {
		return throttled(wait)
	}
	return nil
}

// First notes the first attempt at what may be made again: it earns the tenant
// a part of another attempt.
func (p *Pass) First() { p.gate.budget.earn() }

// Again says whether one more attempt may be made, and charges it if so.
func (p *Pass) Again() bool {
	return p.May() == nil && p.gate.breaker.refuses(p.operation) == 0 && p.gate.budget.spend()
}

// Leave gives the slot back. Only the first call of it counts.
func (p *Pass) Leave() {
	if p.left {
		return
	}
	p.left = true
	if p.probe {
		p.Report(Unclear)
	}
	p.gate.slots.release(p.team, p.epoch)
}

// A State is a Gate at one moment.
type State struct {
	// InFlight calls have been let in, Waiting ones wait to be.
	InFlight, Waiting int
	// Down says that C1 does not answer and calls are refused; Since when.
	Down  bool
	Since time.Time
	// Opened counts how often C1 was found to be down, Retries the attempts that
	// were made again.
	Opened, Retries uint64
	// Until is when C1, which had too many calls, may be called again; it may have
	// passed, or be zero. Throttled counts how often that was so.
	Until     time.Time
	Throttled uint64
}

// State returns the current state, for metrics and readiness.
func (g *Gate) State() State {
	var s State
	s.InFlight, s.Waiting = g.slots.counts()
	s.Down, s.Since, s.Opened = g.breaker.state()
	s.Until, s.Throttled = g.throttle.state()
	s.Retries = g.budget.count()
	return s
}
