package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/ratelimit"
)

// callerKey names a caller; caller names are unique within a team.
type callerKey struct{ team, caller string }

// limits are what one caller's calls are held to.
type limits struct {
	// place says which quota a method has: 0 if it is not there. The callers of a
	// team share it.
	place  map[string]int
	quotas []*quota
	// all has every rule that some method is held to.
	all *quota
}

// of returns what the calls of a method are held to; nil for nothing. Nil limits
// are those of a caller without any.
func (l *limits) of(method string) *quota {
	if l == nil {
		return nil
	}
	return l.quotas[l.place[method]]
}

// A quota is the rules of some calls, and the RateLimit-Policy field that states
// them.
type quota struct {
	set    ratelimit.Set
	policy string
	// configured are the limits that the rules are of, one for each.
	configured []*configured
}

// A configured limit is one that stands in the configuration. Its rules are one
// for all, or one for each caller.
type configured struct {
	// name is unique, for operators: "teams/payments/caller". path is where it
	// stands.
	name, path string
	scope      string
	// key is the bucket's, and "" where each caller has one of its own.
	key   string
	limit *configv1.Limit
	// patterns are those of the methods, nil for all; methods are what they match.
	patterns []string
	methods  map[string]bool
	// dearest is the highest cost of a call that it is for.
	dearest int64
	meter   *meter
}

func (c *configured) covers(method string) bool { return c.methods == nil || c.methods[method] }

// rule is a caller's.
func (c *configured) rule(caller callerKey) ratelimit.Rule {
	key := c.key
	if key == "" {
		key = caller.team + "/" + caller.caller
	}
	return ratelimit.Rule{Scope: c.scope, Key: key, Most: int64(c.limit.GetMaxInFlight()), Dearest: c.dearest, Shadow: c.limit.GetShadow(),
		Limit: ratelimit.Limit{Rate: int64(c.limit.GetRate()), Per: c.limit.GetPer().AsDuration(), Burst: int64(c.limit.GetBurst())}}
}

// A limiting is what makes the limits of a configuration.
type limiting struct {
	cfg     *configv1.Config
	methods []policy.Method
	// allows says whether a team may call a method; nil for always.
	allows func(team, method string) bool
	// costs are those of the methods that cost more than 1.
	costs    map[string]int64
	problems []config.Problem
	// told has the paths of problems that would be found again for each team.
	told map[string]bool
}

// limitsIn makes the limits of all callers, and finds what is wrong in them.
func limitsIn(cfg *configv1.Config, methods []policy.Method, allows func(team, method string) bool) (map[callerKey]*limits, []*configured, []config.Problem) {
	m := &limiting{cfg: cfg, methods: methods, allows: allows, costs: make(map[string]int64), told: make(map[string]bool)}
	m.readCosts()
	byTeam, byName := make([][]*configured, len(cfg.GetTeams())), make(map[string]*configured)
	for i, team := range cfg.GetTeams() {
		byTeam[i] = m.ofTeam(i, team)
		for j, c := range byTeam[i] {
			if known := byName[c.name]; known != nil { // a tenant's, of all its teams
				known.dearest = max(known.dearest, c.dearest)
				byTeam[i][j] = known
			}
			byName[c.name] = byTeam[i][j]
		}
	}
	leases := make(map[string]time.Duration)
	for _, tenant := range cfg.GetTenants() {
		leases[tenant.GetName()] = tenant.GetTimeout().AsDuration() + leaseSlack
	}
	byCaller := make(map[callerKey]*limits)
	for i, team := range cfg.GetTeams() {
		if in := byTeam[i]; len(in) > 0 {
			place, variants := m.variants(in)
			for _, caller := range team.GetCallers() {
				key := callerKey{team.GetName(), caller.GetName()}
				byCaller[key] = limitsOf(key, ratelimit.Set{Tenant: team.GetTenant(), Lease: leases[team.GetTenant()]}, place, variants, in)
			}
		}
	}
	all := slices.SortedFunc(maps.Values(byName), func(a, b *configured) int { return strings.Compare(a.name, b.name) })
	return byCaller, all, m.problems
}

// readCosts finds what methods cost.
func (m *limiting) readCosts() {
	for i, cost := range m.cfg.GetCosts() {
		for name := range m.selected(cost.GetMethods(), fmt.Sprintf("costs[%d]", i)) {
			m.costs[name] = max(m.costs[name], int64(cost.GetCost()))
		}
	}
}

// selected are the methods that patterns match.
func (m *limiting) selected(patterns []string, path string) map[string]bool {
	names, found := policy.Select(patterns, m.methods)
	for _, f := range found {
		m.problem(fmt.Sprintf("%s.methods[%d]", path, f.Method), f.Message)
	}
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

func (m *limiting) problem(path, message string) {
	if !m.told[path] {
		m.told[path] = true
		m.problems = append(m.problems, config.Problem{Path: path, Message: message})
	}
}

// ofTeam are the limits that the calls of a team are held to, its tenant's
// included.
func (m *limiting) ofTeam(i int, team *configv1.Team) (in []*configured) {
	name, path := team.GetName(), fmt.Sprintf("teams[%d].limits", i)
	own := "teams/" + name + "/"
	in = m.add(in, &configured{name: own + "caller", path: path + ".caller", scope: "caller", limit: team.GetLimits().GetCaller()})
	in = m.add(in, &configured{name: own + "team", path: path + ".team", scope: "team", key: name, limit: team.GetLimits().GetTeam()})
	in = m.ofMethods(in, own, path+".methods", "team:"+name, team.GetLimits().GetMethods())
	for j, tenant := range m.cfg.GetTenants() {
		if tenant.GetName() != team.GetTenant() {
			continue
		}
		name, path := tenant.GetName(), fmt.Sprintf("tenants[%d]", j)
		own := "tenants/" + name + "/"
		in = m.add(in, &configured{name: own + "tenant", path: path + ".limit", scope: "tenant", key: name, limit: tenant.GetLimit()})
		in = m.ofMethods(in, own, path+".method_limits", "tenant:"+name, tenant.GetMethodLimits())
	}
	for _, c := range in {
		m.weigh(c, team.GetName())
	}
	return in
}

func (m *limiting) ofMethods(in []*configured, own, path, key string, limits []*configv1.MethodLimit) []*configured {
	for i, l := range limits {
		c := &configured{name: own + l.GetName(), path: fmt.Sprintf("%s[%d].limit", path, i), scope: l.GetName(), key: key, limit: l.GetLimit(),
			patterns: l.GetMethods(), methods: m.selected(l.GetMethods(), fmt.Sprintf("%s[%d]", path, i))}
		if l.GetPerCaller() {
			c.key = ""
		}
		in = m.add(in, c)
	}
	return in
}

// add adds a limit, if there is one.
func (m *limiting) add(in []*configured, c *configured) []*configured {
	if c.limit == nil {
		return in
	}
	return append(in, c)
}

// weigh finds the highest cost of a team's calls that a limit is for.
func (m *limiting) weigh(c *configured, team string) {
	c.dearest = 1
	for method, cost := range m.costs {
		if c.covers(method) && (m.allows == nil || m.allows(team, method)) {
			c.dearest = max(c.dearest, cost)
		}
	}
	if burst := int64(c.limit.GetBurst()); burst != 0 && c.dearest > burst {
		m.problem(c.path+".burst", fmt.Sprintf("is less than %d, which a call that it is for costs (costs): such calls would never pass", c.dearest))
	}
}

// A variant is what some methods have in common: the limits that they are held to,
// by their places, and their cost.
type variant struct {
	limits uint64
	cost   int64
}

// variants finds what kinds of methods there are. The first is that of most.
func (m *limiting) variants(in []*configured) (place map[string]int, variants []variant) {
	of := func(method string) variant {
		v := variant{cost: max(1, m.costs[method])}
		for i, c := range in {
			if c.covers(method) {
				v.limits |= 1 << i
			}
		}
		return v
	}
	place, variants = make(map[string]int), []variant{of("")}
	for _, method := range m.methods {
		v := of(method.Name)
		at := slices.Index(variants, v)
		if at < 0 {
			at = len(variants)
			variants = append(variants, v)
		}
		if at > 0 {
			place[method.Name] = at
		}
	}
	return place, variants
}

// limitsOf are the limits of one caller.
func limitsOf(caller callerKey, to ratelimit.Set, place map[string]int, variants []variant, in []*configured) *limits {
	l := &limits{place: place, all: quotaOf(caller, to, variant{limits: 1<<len(in) - 1, cost: 1}, in)}
	for _, v := range variants {
		l.quotas = append(l.quotas, quotaOf(caller, to, v, in))
	}
	return l
}

// quotaOf is for calls to to, and nil if nothing limits the calls.
func quotaOf(caller callerKey, to ratelimit.Set, v variant, in []*configured) *quota {
	q := &quota{set: to}
	q.set.Cost = v.cost
	for i, c := range in {
		if v.limits>>i&1 != 0 {
			q.set.Rules, q.configured = append(q.set.Rules, c.rule(caller)), append(q.configured, c)
		}
	}
	if q.set.Rules == nil {
		return nil
	}
	q.policy = ratelimit.Policy(q.set.Rules)
	return q
}
