package proxy

import (
	"time"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/redact"
	"github.com/c1proxy/c1proxy/internal/route"
)

// An edition is what one reading of the configuration says of calls: who may
// make which, how often, and where they go. It is not changed once it is in
// force, and a call keeps the one in which it began.
type edition struct {
	// revision names the edition in the records.
	revision string
	callers  *authn.Authenticator
	// authorities vouch for client certificates; nil if there are none.
	authorities *authn.Authorities
	toIssuers   []*forward.Transport
	operators   *operators
	policy      *policy.Policy
	limits      map[callerKey]*limits
	tenants     map[string]*tenant
	plans       map[string]*redact.Plan // by method
}

// openEdition makes an edition. What is opened is closed again if it fails.
func (p *Proxy) openEdition(cfg *configv1.Config, routes []*route.Route, options Options) (_ *edition, err error) {
	e := &edition{revision: config.Revision(cfg), tenants: make(map[string]*tenant)}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if err := e.admit(cfg, methodsOf(routes)); err != nil {
		return nil, err
	}
	if e.plans, err = plansOf(cfg.GetAudit(), routes); err != nil {
		return nil, err
	}
	if err := e.openCallers(cfg, p.gateway); err != nil {
		return nil, err
	}
	if e.operators, err = openOperators(cfg.GetAdmin(), p.gateway); err != nil {
		return nil, err
	}
	return e, e.openTenants(cfg, p.gateway, options)
}

// close ends what openEdition has begun. Nil is legal.
func (e *edition) close() {
	if e == nil {
		return
	}
	for _, t := range e.tenants {
		t.tokens.Close()
		t.way.close()
	}
	e.operators.close()
	e.closeCallers()
}

// longestOf is the longest time that a call to C1 may take.
func longestOf(cfg *configv1.Config) (longest time.Duration) {
	for _, t := range cfg.GetTenants() {
		longest = max(longest, t.GetTimeout().AsDuration())
	}
	return longest
}
