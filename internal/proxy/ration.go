package proxy

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
)

// This file shares out what those who read the audit take: so much that calls go on,
// and so that neither a caller nor a team can keep the others, or those who watch over
// all, from reading.

const (
	// questionsEach, questionsTeam and maxQuestions bound the questions about the audit
	// that are under way at once: of each caller, of a team and of all. One is until its
	// caller has taken the answer.
	questionsEach, questionsTeam, maxQuestions = 4, 32, 64
	// tailsEach and maxTails bound the tails at once, of each caller and of all; a team
	// has half of them.
	tailsEach, maxTails = 4, 64

	// maxReaders are those who may read the audit at once, of whom one place is kept for
	// those who watch over all, and readerWait is how long others wait for a place.
	maxReaders = 4
	readerWait = 5 * time.Second
)

// oversees says whether the call is of one who watches over all teams.
func (c *call) oversees() bool { return c.binding.admin || c.granted(auditorGrant) }

// rations are places for callers, and others for those who watch over them.
type rations struct{ callers, overseers ration }

func newRations(what string, most, team, each int) rations {
	return rations{callers: ration{what: what, most: most, team: team, each: each}, overseers: ration{what: what, most: most, team: most, each: each}}
}

// enter takes a place, or says that there is none.
func (r *rations) enter(c *call) (leave func(), err error) {
	if c.oversees() {
		return r.overseers.enter(c.who)
	}
	return r.callers.enter(c.who)
}

// A ration bounds what is under way at once: in all, of each team and of each caller.
// People who are one caller are told apart by their tokens' subjects.
type ration struct {
	what             string
	most, team, each int

	mu sync.Mutex
	// by counts what is under way: of a caller, of a team under its name alone, and of
	// all under none.
	by map[[4]string]int // guarded by mu
}

// enter takes a place, or says that there is none.
func (r *ration) enter(who *principal.Principal) (leave func(), err error) {
	names := [...][4]string{{"caller", who.Team, who.Caller, who.Subject}, {"team", who.Team}, {}}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.by[names[0]] >= r.each:
		return nil, busy("you have %d %s, which are as many as c1proxy lets a caller have", r.each, r.what)
	case r.by[names[1]] >= r.team:
		return nil, busy("your team has %d %s, which are as many as c1proxy lets a team have", r.team, r.what)
	case r.by[names[2]] >= r.most:
		return nil, busy("c1proxy has %d %s, which are as many as it lets be", r.most, r.what)
	}
	if r.by == nil {
		r.by = make(map[[4]string]int)
	}
	for _, name := range names {
		r.by[name]++
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, name := range names {
			if r.by[name]--; r.by[name] == 0 {
				delete(r.by, name)
			}
		}
	}, nil
}

// asking lets a question about the audit be answered if there is a place for it,
// which it has until the answer is taken.
func (b *binding) asking(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := w.(*call)
		leave, err := b.gateway.questions.enter(c)
		if err != nil {
			b.refuse(c, r, fault.Of(err))
			return
		}
		defer leave()
		inner.ServeHTTP(w, r)
	})
}

// places are those of a kind of work of which there is little at once. One is kept for
// those who watch over all.
type places struct {
	shared, kept chan struct{}
	// full says why there is none.
	full string
}

func newPlaces(shared int, full string) places {
	return places{shared: make(chan struct{}, shared), kept: make(chan struct{}, 1), full: full}
}

// enter waits a moment for a place. Only those who watch over all can have the one
// that is kept.
func (p places) enter(ctx context.Context, oversees bool) (leave func(), err error) {
	kept := p.kept
	if !oversees {
		kept = nil // which nobody can send to
	}
	late := time.NewTimer(readerWait)
	defer late.Stop()
	select {
	case p.shared <- struct{}{}:
		return func() { <-p.shared }, nil
	case kept <- struct{}{}:
		return func() { <-kept }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-late.C:
		return nil, busy("%s", p.full)
	}
}

// newReaders are the places of those who read the audit, newProvers of those of them
// who make a proof, which can take long.
func newReaders() places {
	return newPlaces(maxReaders-1, fmt.Sprintf("%d calls are reading the audit, which are as many as c1proxy lets at once", maxReaders))
}
func newProvers() places { return newPlaces(1, "another proof is being made") }

// busy is the refusal of one who may come again.
func busy(format string, args ...any) *fault.Fault {
	f := fault.New(connect.CodeResourceExhausted, fault.AuditBusy, "%s: try again", fmt.Sprintf(format, args...))
	f.RetryAfter = time.Second
	return f
}
