package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/principal"
	"github.com/c1proxy/c1proxy/internal/ratelimit"
	"github.com/c1proxy/c1proxy/internal/route"
)

// StageNames are the names of the stages, outermost first.
func StageNames() []string {
	var names []string
	for _, s := range stages {
		names = append(names, s.name)
	}
	return names
}

// CheckRules is checkRules.
func CheckRules(cfg *configv1.Config, methods []policy.Method) []config.Problem {
	return checkRules(cfg, methods)
}

// Admit compiles the policy of a configuration as Open does.
func Admit(cfg *configv1.Config, methods []policy.Method) (*policy.Policy, error) {
	var e edition
	err := e.admit(cfg, methods)
	return e.policy, err
}

// MethodsOf is methodsOf.
func MethodsOf(routes []*route.Route) []policy.Method { return methodsOf(routes) }

// StatedReason is statedReason.
var StatedReason = statedReason

// Certificate is a certificate, for its tests.
type Certificate = certificate

// OpenCertificate is openCertificate.
func OpenCertificate(certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	return openCertificate(certFile, keyFile, logger)
}

// Serial is the serial number of the certificate that a handshake would get.
func (c *certificate) Serial() (string, error) {
	pair, err := c.get(nil)
	if err != nil {
		return "", err
	}
	return pair.Leaf.SerialNumber.String(), nil
}

// ProxyOf is proxyOf, and who c1proxy is to the proxy.
func ProxyOf(p *configv1.Proxy, base *url.URL) (at, user string, err error) {
	u, ask, err := proxyOf(p, base)
	if err != nil || u == nil {
		return "", "", err
	}
	if ask != nil {
		info, err := ask()
		if err != nil {
			return u.String(), "", err
		}
		user = info.String()
	}
	return u.String(), user, nil
}

// Fixed is fixed.
func Fixed(inForce *configv1.Config) config.Check { return fixed(inForce) }

// A LimitGateway limits by a configuration, and does nothing else.
type LimitGateway struct {
	gateway  gateway
	stopping chan struct{}
}

// OpenLimitGateway has the limits of a configuration in force.
func OpenLimitGateway(cfg *configv1.Config, methods []policy.Method, logger *slog.Logger) (*LimitGateway, error) {
	g := &LimitGateway{stopping: make(chan struct{})}
	g.gateway.logger, g.gateway.stopping, g.gateway.limiter = logger, g.stopping, ratelimit.NewFleet(1000)
	e := new(edition)
	if err := e.admit(cfg, methods); err != nil {
		return nil, err
	}
	g.gateway.meterLimits(e.configured)
	g.gateway.edition.Store(e)
	return g, nil
}

// Spend is what limitRate does of a call.
func (g *LimitGateway) Spend(team, caller, method string) ratelimit.Verdict {
	quota := g.gateway.edition.Load().limits[callerKey{team, caller}].of(method)
	verdict, _ := g.gateway.limiter.Spend(&quota.set)
	quota.note(verdict.Decision)
	return verdict
}

// Standings are standings, a line each.
func (g *LimitGateway) Standings(team, caller string) (lines []string) {
	limits, _, _ := g.gateway.standings(g.gateway.edition.Load(), callerKey{team, caller}, "")
	for _, s := range limits {
		lines = append(lines, fmt.Sprintf("%s %v: %d of %d left, full in %v; %d of %d under way", s.Name, s.Methods,
			s.Remaining, s.Rule.Limit.Burst, s.ResetAfter, s.InFlight, s.Rule.Most))
	}
	return lines
}

// Watch is watchLimits, until the test calls stop.
func (g *LimitGateway) Watch() (stop func()) {
	go g.gateway.watchLimits()
	return func() { close(g.stopping) }
}

// Idle are the limits that have matched nothing for a day.
func (g *LimitGateway) Idle() []string {
	return slices.Sorted(maps.Keys(g.gateway.edition.Load().idle()))
}

// Failures counts failures to authenticate, for its tests.
type Failures struct{ failures *failures }

// NewFailures is newFailures.
func NewFailures() Failures { return Failures{newFailures()} }

// Count is failures.count of the peer at an address.
func (f Failures) Count(address string, limit ratelimit.Limit) time.Duration {
	return f.failures.count(peer{address: address}, limit)
}

// Over is failures.over of the peer at an address.
func (f Failures) Over(address string, limit ratelimit.Limit) time.Duration {
	return f.failures.over(peer{address: address}, limit)
}

// Readers are readers, for their tests.
type Readers struct{ readers places }

// NewReaders is newReaders.
func NewReaders() Readers { return Readers{newReaders()} }

// Enter is places.enter.
func (r Readers) Enter(ctx context.Context, oversees bool) (leave func(), err error) {
	return r.readers.enter(ctx, oversees)
}

// Token is the page token of a filter of a log, for who sees all or not, and whether
// another one takes it.
func Token(log string, all bool, f audit.Filter, next uint64) (token string, takes func(log string, all bool, f audit.Filter) bool) {
	token = sight{filter: f, all: all}.token(log, next)
	return token, func(log string, all bool, f audit.Filter) bool {
		at, ok := sight{filter: f, all: all}.position(log, token)
		return ok && at == next
	}
}

// PageOf is page, of a gateway with such a log and messages of at most so many bytes.
func PageOf(ctx context.Context, log *audit.Log, maxMessage int, f audit.Filter, before uint64, size int) audit.Page {
	return (&gateway{log: log, maxMessage: maxMessage}).page(ctx, f, before, size)
}

// FilterOf is filterOf.
var FilterOf = filterOf

// RecordOf is recordOf.
var RecordOf = recordOf

// A Watched is a gateway that watches one stream.
type Watched struct {
	Stopping, Replaced chan struct{}
	Callers            *authn.Authenticator
}

// Watch is watch.
func (w *Watched) Watch(r *http.Request, end func(*fault.Fault)) (done func()) {
	w.Stopping, w.Replaced = make(chan struct{}), make(chan struct{})
	c := &call{binding: &binding{}, edition: &edition{callers: w.Callers, replaced: w.Replaced}}
	return (&gateway{stopping: w.Stopping}).watch(c, r, end)
}

// Ration is a ration of so many in all, for a team and for each.
func Ration(most, team, each int) func(*principal.Principal) (leave func(), err error) {
	return (&ration{most: most, team: team, each: each}).enter
}
