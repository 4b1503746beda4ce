package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/gate"
)

// readyTimeout bounds one readiness probe.
const readyTimeout = 2 * time.Second

// readiness is the answer of /readyz: one line for each dependency, "ok" or
// what is wrong with it. What begins with "warning: " is not wrong yet.
type readiness struct {
	Ready  bool              `json:"ready"`
	Checks map[string]string `json:"checks"`
}

// admin returns the handler of the admin listener: /livez, /readyz and /metrics,
// which are open, and c1proxy's own procedures, for admin.keys.
func (p *Proxy) admin(own map[string]http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]bool{"live": true})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		state := p.Ready(ctx)
		status := http.StatusOK
		if !state.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, state)
	})
	for path, handler := range own {
		mux.Handle(path, handler)
	}
	mux.Handle("GET /metrics", p.gateway.metrics.Handler())
	return mux
}

// Ready probes every dependency: that the audit can append, that each tenant has
// a token, which it fetches if there is none, and that each issuer's keys are at
// hand. It also tells of teams' own tokens, and whether each tenant's C1 answers,
// Redis does, and each sink ships. It is false from the moment that the proxy
// begins to stop.
func (p *Proxy) Ready(ctx context.Context) readiness {
	state := readiness{Ready: true, Checks: make(map[string]string)}
	check := func(name string, err error) {
		state.Checks[name] = "ok"
		if err != nil {
			state.Ready = false
			state.Checks[name] = err.Error()
		}
	}
	check("audit", p.gateway.log.Healthy())
	state.Checks["audit_space"] = room(p.gateway.log.Stats())
	state.Checks["config"] = p.upToDate()
	inForce := p.gateway.pinned()
	defer inForce.unpin()
	failed := inForce.tokens(ctx)
	for name, t := range inForce.tenants {
		check("token/"+name, failed[t.own])
		state.Checks["c1/"+name] = answering(t.upstream.State())
		for team, a := range t.ofTeams {
			state.Checks["token/"+name+"/"+team] = serving(failed[a])
		}
	}
	for _, s := range p.opened() {
		state.Checks["sink/"+s.Name()] = shipping(s.State(), p.gateway.log.Stats().HeadSize)
	}
	inForce.checkIssuers(check, state.Checks)
	p.checkLimits(inForce, state.Checks)
	if p.draining.Load() {
		state.Ready = false
		state.Checks["server"] = "stopping"
	}
	return state
}

// tokens asks for a token with each credential, all at once, so that one that
// hangs does not take the time of the others. It returns why there is none.
func (e *edition) tokens(ctx context.Context) map[*access]error {
	var asked sync.WaitGroup
	var mu sync.Mutex
	failed := make(map[*access]error)
	for a := range e.accesses() {
		asked.Go(func() {
			_, err := a.source.Token(ctx)
			mu.Lock()
			defer mu.Unlock()
			failed[a] = err
		})
	}
	asked.Wait()
	return failed
}

// serving says whether there is a token of a team's own credential. One that C1
// refuses makes nobody unready: the other teams' calls are served.
func serving(err error) string {
	if err != nil {
		return "warning: the team's calls are refused: " + err.Error()
	}
	return "ok"
}

// answering says whether a tenant's C1 answers. One that does not, or has had too
// many calls, makes nobody unready: the other tenants' calls are served, and its
// own are told at once that nothing was sent, which no other replica could do
// better.
func answering(s gate.State) string {
	switch {
	case !s.Down && s.Until.After(time.Now()):
		return "warning: its rate limit is used up; calls are refused until " + s.Until.UTC().Format(time.RFC3339)
	case !s.Down:
		return "ok"
	}
	return "has not answered since " + s.Since.UTC().Format(time.RFC3339) + "; calls are refused, and one at a time finds out whether it does again"
}

// room says how much space the audit has. Too little makes nobody unready: a
// replica that is taken away serves no one, and its disk is no emptier.
func room(s audit.Stats) string {
	left := fmt.Sprintf("warning: %d MiB of %d MiB are free, below audit.", s.FreeBytes>>20, s.DiskBytes>>20)
	switch {
	case s.Scarce:
		return left + "reserve_bytes: refusals of unknown callers are only counted"
	case s.Low:
		return left + "min_free_bytes"
	}
	return "ok"
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	// A failed write means that the asker has gone.
	_ = encoder.Encode(value)
}
