package proxy

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/ratelimit"
	"github.com/c1proxy/c1proxy/internal/redact"
	"github.com/c1proxy/c1proxy/web/console"
)

// An edition is what one reading of the configuration says of calls: who may
// make which, how often, and where they go. It is not changed once it is in
// force, and a call keeps the one in which it began.
//
// It lives while it is in force or a call is pinned to it. What it has in common
// with the edition before is carried over: see holding.
type edition struct {
	// config is what was read, and revision names it in the records.
	config   *configv1.Config
	revision string
	callers  *authn.Authenticator
	// authorities vouch for client certificates; nil if there are none.
	authorities *authn.Authorities
	toIssuers   []*forward.Transport
	operators   *operators
	// grants are what callers may do beyond their teams' rules.
	grants map[callerKey][]string
	policy *policy.Policy
	limits map[callerKey]*limits
	// configured are all limits, sorted by name.
	configured []*configured
	tenants    map[string]*tenant
	plans      map[string]*redact.Plan // by method
	// browsers are the web pages that may call.
	browsers *browsers
	// console is the console's page; nil if there is none.
	console *console.Page
	// proxies are the networks whose word counts on where a call comes from.
	proxies []netip.Prefix
	// failedAuth is how often a peer may fail to authenticate.
	failedAuth ratelimit.Limit
	// longest is the longest time that a call to C1 may take.
	longest time.Duration

	// pins counts the calls, and one for being in force. At 0 ended is called.
	pins  atomic.Int64
	ended func()
	// replaced is closed when another edition is in force.
	replaced chan struct{}
	held     []*holding
	closing  sync.Once
}

// A holding is a resource that editions have in common. It is closed with the
// last of those that hold it. An edition that is in force, or pinned, lets
// another one hold what it holds.
type holding struct {
	holders atomic.Int64
	close   func()
}

// hold makes a resource the edition's too.
func (e *edition) hold(h *holding) {
	h.holders.Add(1)
	e.held = append(e.held, h)
}

// openEdition makes an edition, which takes over from the one before, nil at
// start, what is the same in both. What is opened is closed again if it fails.
// The caller has it in force, or closes it.
func (p *Proxy) openEdition(cfg *configv1.Config, before *edition) (_ *edition, err error) {
	e := &edition{config: cfg, revision: config.Revision(cfg), tenants: make(map[string]*tenant), longest: longestOf(cfg), replaced: make(chan struct{}),
		browsers: newBrowsers(cfg.GetCors().GetAllowedOrigins(), p.routes), proxies: config.Networks(cfg.GetListen().GetTrustedProxies())}
	failed := cfg.GetListen().GetFailedAuth()
	e.failedAuth = ratelimit.Limit{Rate: int64(failed.GetRate()), Per: failed.GetPer().AsDuration(), Burst: int64(failed.GetBurst())}
	e.pins.Store(1)
	e.ended = func() { go p.retire(e) } // by whichever call is the last, which shall not wait for it
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if err := e.admit(cfg, methodsOf(p.routes)); err != nil {
		return nil, err
	}
	p.gateway.meterLimits(e.configured)
	if e.plans, err = plansOf(cfg.GetAudit(), p.routes); err != nil {
		return nil, err
	}
	if err := e.openCallers(cfg, before, p.gateway); err != nil {
		return nil, err
	}
	if e.operators, err = openOperators(cfg.GetAdmin(), p.gateway); err != nil {
		return nil, err
	}
	if err := e.openConsole(cfg, p.options.Version); err != nil {
		return nil, err
	}
	return e, e.openTenants(cfg, before, p.gateway, p.options)
}

// close ends what openEdition has begun, and is not another edition's too. Nil
// is legal, and so is a second time.
func (e *edition) close() {
	if e == nil {
		return
	}
	e.closing.Do(func() {
		for _, h := range e.held {
			if h.holders.Add(-1) == 0 {
				h.close()
			}
		}
		e.operators.close()
		e.closeCallers()
	})
}

// pinned returns the edition in force. Its parts stay open until it is unpinned.
func (g *gateway) pinned() *edition {
	for {
		if e := g.edition.Load(); e.pin() {
			return e
		}
	}
}

// pin is false for an edition that has ended: another one is in force then.
func (e *edition) pin() bool {
	for {
		n := e.pins.Load()
		if n == 0 {
			return false
		}
		if e.pins.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (e *edition) unpin() {
	if e.pins.Add(-1) == 0 {
		e.ended()
	}
}

// longestOf is the longest time that a call to C1 may take.
func longestOf(cfg *configv1.Config) (longest time.Duration) {
	for _, t := range cfg.GetTenants() {
		longest = max(longest, t.GetTimeout().AsDuration())
	}
	return longest
}
