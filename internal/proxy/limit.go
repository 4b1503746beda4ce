package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

// This file is about the limits at work.

const (
	// idleTime is how long a limit may match nothing before it is told of.
	idleTime = 24 * time.Hour
	// leaseSlack is what a call may take besides its exchange with C1: to be
	// read, recorded and answered.
	leaseSlack = time.Minute
)

// limitRate charges the call to all its limits or to none, and takes its places.
func limitRate(b *binding, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := w.(*call)
		c.quota = c.edition.limits[callerKey{c.who.Team, c.who.Caller}].of(b.route.Method())
		if c.quota == nil {
			next.ServeHTTP(w, r)
			return
		}
		verdict, err := b.gateway.limiter.Spend(&c.quota.set)
		if err != nil {
			b.refuse(c, r, fault.Of(err))
			return
		}
		c.limited = verdict
		c.quota.note(verdict.Decision)
		verdict.SetHeader(w.Header(), c.quota.policy)
		if !verdict.Allowed {
			b.refuse(c, r, verdict.Fault())
			return
		}
		if b.stream { // which stays as long as it likes
			c.giveBack()
		}
		defer func() {
			if !c.detached {
				c.giveBack()
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// giveBack gives back the call's places, once.
func (c *call) giveBack() {
	if c.quota != nil && c.limited.Held != 0 && c.given.CompareAndSwap(false, true) {
		c.binding.gateway.limiter.Release(&c.quota.set, c.limited)
	}
}

// note counts a decision.
func (q *quota) note(d ratelimit.Decision) {
	now := time.Now().Unix()
	for i, c := range q.configured {
		c.meter.matched.Store(now)
		switch {
		case d.Shadowed>>i&1 != 0:
			c.meter.shadowed.Add(1)
		case !d.Allowed && d.Rule.Scope == c.scope && !c.limit.GetShadow():
			c.meter.refused.Add(1)
		}
	}
}

// explain adds to a record what was peculiar about the call's limits.
func (c *call) explain(r *audit.Record) {
	if c.limited.Local {
		detail(r, "limiter", "local")
	}
	if c.limited.Shadowed == 0 {
		return
	}
	var names []string
	for i, l := range c.quota.configured {
		if c.limited.Shadowed>>i&1 != 0 {
			names = append(names, l.name)
		}
	}
	detail(r, "shadow_limit", strings.Join(names, " "))
}

// A meter counts what became of a configured limit, over all its editions.
type meter struct {
	// since and matched are Unix times: when the limit was first configured, and
	// when it last matched a call.
	since, matched    atomic.Int64
	refused, shadowed atomic.Uint64
	warned            atomic.Bool
}

// meters are those of all limits by name.
type meters struct {
	mu     sync.Mutex
	byName map[string]*meter // guarded by mu
}

// of returns the limit's meter, which is made at the first use.
func (m *meters) of(name string) *meter {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byName == nil {
		m.byName = make(map[string]*meter)
	}
	if m.byName[name] == nil {
		m.byName[name] = new(meter)
		m.byName[name].since.Store(time.Now().Unix())
	}
	return m.byName[name]
}

// idleSince is when the limit last matched a call, if that is too long ago.
func (m *meter) idleSince(now time.Time) (since time.Time, idle bool) {
	since = time.Unix(max(m.since.Load(), m.matched.Load()), 0)
	return since, now.Sub(since) >= idleTime
}

// meterLimits gives the limits of an edition their meters.
func (g *gateway) meterLimits(all []*configured) {
	for _, c := range all {
		c.meter = g.meters.of(c.name)
	}
}

// idle tells of the limits that have matched nothing for a day, by name.
func (e *edition) idle() map[string]time.Time {
	idle := make(map[string]time.Time)
	for _, c := range e.configured {
		if since, is := c.meter.idleSince(time.Now()); is {
			idle[c.name] = since
		}
	}
	return idle
}

// watchLimits logs each limit that has matched nothing for a day, once until it
// matches again.
func (g *gateway) watchLimits() {
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-g.stopping:
			return
		case <-ticker.C:
		}
		idle := g.edition.Load().idle()
		for _, c := range g.edition.Load().configured {
			since, is := idle[c.name]
			if c.meter.warned.Swap(is) != is && is {
				g.logger.Warn("a limit has matched nothing for a day", "limit", c.name, "since", since.UTC().Format(time.RFC3339))
			}
		}
	}
}

// openLimiter makes the limiter, which outlives editions.
func (p *Proxy) openLimiter(cfg *configv1.Redis) error {
	g := p.gateway
	go g.watchLimits()
	if cfg == nil {
		g.limiter = ratelimit.NewFleet(maxBuckets)
		return nil
	}
	made := ratelimit.RedisConfig{Addresses: cfg.GetAddresses(), Username: cfg.GetUsername(), Database: int(cfg.GetDatabase()), Prefix: cfg.GetPrefix(),
		Budget: cfg.GetTimeout().AsDuration(), Refuse: cfg.GetOnRedisFailure() == "refuse", Replicas: int64(cfg.GetReplicas()),
		Switched: p.limiterSwitched}
	if ref := cfg.GetPassword(); ref != nil {
		made.Password = reader(config.ReadSecret, ref)
		if err := try(made.Password); err != nil {
			return fmt.Errorf("read password of redis: %w", err)
		}
	}
	if cfg.GetTls() {
		made.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		if file := cfg.GetCaFile(); file != "" {
			pem, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("read ca_file of redis: %w", err)
			}
			made.TLS.RootCAs = x509.NewCertPool()
			if !made.TLS.RootCAs.AppendCertsFromPEM(pem) {
				return errors.New("read ca_file of redis: it holds no certificate")
			}
		}
	}
	g.limiter = ratelimit.OpenFleet(maxBuckets, made)
	return nil
}

// The events of a limiter that goes on alone, and is back.
const (
	eventLimitsLocal  = "limits_local"
	eventLimitsShared = "limits_shared"
)

// limiterSwitched tells of Redis's loss and return.
func (p *Proxy) limiterSwitched(s ratelimit.State) {
	event, about := eventLimitsShared, map[string]string(nil)
	if s.Down {
		event, about = eventLimitsLocal, map[string]string{"why": s.Why.Error()}
		p.gateway.logger.Warn("Redis does not answer: this replica is alone with its limits", "error", s.Why)
	} else {
		p.gateway.logger.Info("Redis answers, and holds the limits")
	}
	if err := p.event(context.Background(), event, p.gateway.edition.Load().revision, about); err != nil {
		p.gateway.logger.Error("an event could not be recorded", "error", err)
	}
}

// sharing says how it stands with Redis. Without it nobody is unready: calls are
// held to this replica's share, or no other replica could do better.
func sharing(s ratelimit.State) string {
	if !s.Down {
		return "ok"
	}
	return fmt.Sprintf("warning: has not answered since %s, and this replica is alone with its limits: %v", s.Since.UTC().Format(time.RFC3339), s.Why)
}

// checkLimits tells of Redis, and of limits that may be mistaken.
func (p *Proxy) checkLimits(inForce *edition, checks map[string]string) {
	if s := p.gateway.limiter.State(); s.Configured {
		checks["redis"] = sharing(s)
	}
	for name, since := range inForce.idle() {
		checks["limit/"+name] = "warning: has matched nothing since " + since.UTC().Format(time.RFC3339)
	}
}

// measureLimits registers what is read of the limiter at each scrape.
func (p *Proxy) measureLimits() {
	m, limiter := p.gateway.metrics, p.gateway.limiter
	m.Counters("c1proxy_limit_refusals_total", "Calls that a limit has refused, or in shadow would have refused.", []string{"limit", "outcome"},
		p.inForce(func(e *edition, emit emit) {
			for _, c := range e.configured {
				emit(float64(c.meter.refused.Load()), c.name, "refused")
				emit(float64(c.meter.shadowed.Load()), c.name, "would_refuse")
			}
		}))
	m.Gauge("c1proxy_limits_idle", "Configured limits that have matched nothing for a day.", nil,
		func() float64 { return float64(len(p.gateway.edition.Load().idle())) })
	if !limiter.State().Configured {
		return
	}
	m.Gauge("c1proxy_redis_up", "1 while Redis holds the limits, 0 while this replica is alone with them.", nil,
		func() float64 { return truth(!limiter.State().Down) })
	m.Counter("c1proxy_redis_losses_total", "Times that Redis was given up.", nil,
		func() float64 { return float64(limiter.State().Switches) })
	m.Counter("c1proxy_redis_failures_total", "Decisions that Redis did not answer for in time.", nil,
		func() float64 { return float64(limiter.State().Failures) })
	for by, n := range map[string]func(ratelimit.State) uint64{
		"redis":   func(s ratelimit.State) uint64 { return s.Shared },
		"local":   func(s ratelimit.State) uint64 { return s.Local },
		"refused": func(s ratelimit.State) uint64 { return s.Refused }} {
		m.Counter("c1proxy_limit_decisions_total", "Decisions over limits, by who made them: Redis, this replica alone, or nobody.",
			map[string]string{"by": by}, func() float64 { return float64(n(limiter.State())) })
	}
}

// A standing is where a caller stands with one limit.
type standing struct {
	// Name is the limit's: "teams/payments/caller". Methods are its patterns, nil
	// for all.
	Name    string
	Methods []string
	// Level has the limit, what is left of it, and how many calls are under way.
	ratelimit.Level
}

// standings are the limits that a caller's calls are held to, or with a method
// those of its calls, and where they stand; and what a call of the method costs
// in them. It spends nothing. shared says that the levels are those of all
// replicas; without it they are what this one knows, and of a limit that is
// shared, its share.
func (g *gateway) standings(e *edition, caller callerKey, method string) (limits []standing, cost int64, shared bool) {
	l := e.limits[caller]
	if l == nil {
		return nil, 0, false
	}
	q := l.all
	if method != "" {
		if q = l.of(method); q == nil {
			return nil, 0, false
		}
		cost = q.set.Cost
	}
	levels, shared := g.limiter.Peek(&q.set)
	for i, level := range levels {
		limits = append(limits, standing{Name: q.configured[i].name, Methods: q.configured[i].patterns, Level: level})
	}
	return limits, cost, shared
}
