package proxy

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/gate"
)

// An access is a credential with which a tenant's C1 is called.
type access struct {
	// config is what made it.
	config  *configv1.Credential
	source  *credential.Source
	holding holding
}

// openTenants makes the way to each tenant's C1. Every secret that is new is
// read once, so that one that is missing fails the start, or the reload, and not
// the first call. Of a tenant that was there before, what is the same is taken
// over: a token that is valid is not asked for again, connections stay, and what
// is known of C1's health too.
func (e *edition) openTenants(cfg *configv1.Config, before *edition, g *gateway, options Options) error {
	for _, c := range cfg.GetTenants() {
		t := &tenant{name: c.GetName(), config: c, metrics: g.metrics.Tenant(c.GetName()),
			places: gate.Config{Slots: int(c.GetMaxInFlight()), Teams: teamsOf(cfg, c.GetName())}}
		old := before.tenant(t.name)
		if err := e.openTenant(t, old, g, options); err != nil {
			return err
		}
		if err := e.openTeams(cfg, t, old, g, options); err != nil {
			return err
		}
		e.tenants[t.name] = t
	}
	return nil
}

// tenant is the one of a name; nil if there is none. The nil edition has none.
func (e *edition) tenant(name string) *tenant {
	if e == nil {
		return nil
	}
	return e.tenants[name]
}

// openTenant fills in a tenant. old is the one of the same name before, or nil.
func (e *edition) openTenant(t, old *tenant, g *gateway, options Options) error {
	base, err := url.Parse(t.config.GetUrl())
	if err != nil {
		return fmt.Errorf("read url of tenant %s: %w", t.name, err)
	}
	if old != nil && old.config.GetUrl() == t.config.GetUrl() {
		t.gate = old.gate
	} else {
		t.gate = gate.New(t.places)
	}
	if old != nil && old.config.GetUrl() == t.config.GetUrl() && old.config.GetCaFile() == t.config.GetCaFile() && proto.Equal(old.config.GetProxy(), t.config.GetProxy()) {
		t.way = old.way
	} else if t.way, err = wayOf(t.config, base, options); err != nil {
		return fmt.Errorf("tenant %s: %w", t.name, err)
	}
	e.hold(&t.way.holding)
	var known *access
	if old != nil && old.way == t.way {
		known = old.own
	}
	if t.own, err = e.access(known, t, "", t.config.GetCredential(), g, options); err != nil {
		return err
	}
	t.upstream = forward.New(forward.Config{Tenant: t.name, URL: base, Tokens: t.own.source, Transport: t.way.calls, Logger: options.Logger, Gate: t.gate,
		UserAgent: "c1proxy/" + options.Version, Timeout: t.config.GetTimeout().AsDuration(), ResendOn401: t.config.GetResendOn_401()})
	return nil
}

// openTeams fills in the credentials that teams of a tenant have of their own.
func (e *edition) openTeams(cfg *configv1.Config, t, old *tenant, g *gateway, options Options) (err error) {
	t.ofTeams = make(map[string]*access)
	for _, team := range cfg.GetTeams() {
		if team.GetTenant() != t.name || team.GetCredential() == nil {
			continue
		}
		var known *access
		if old != nil && old.way == t.way {
			known = old.ofTeams[team.GetName()]
		}
		if t.ofTeams[team.GetName()], err = e.access(known, t, team.GetName(), team.GetCredential(), g, options); err != nil {
			return err
		}
	}
	return nil
}

// tokensOf are the tokens of a team's calls.
func (t *tenant) tokensOf(team string) *credential.Source {
	if a := t.ofTeams[team]; a != nil {
		return a.source
	}
	return t.own.source
}

// access returns what gets tokens with a credential, held by the edition: the
// known one, if it is one and made of the same configuration, or a new one. team
// is "" for the tenant's.
func (e *edition) access(known *access, t *tenant, team string, cfg *configv1.Credential, g *gateway, options Options) (*access, error) {
	if known != nil && proto.Equal(known.config, cfg) {
		e.hold(&known.holding)
		return known, nil
	}
	made, err := openAccess(t, team, cfg, g, options)
	if err != nil {
		return nil, err
	}
	e.hold(&made.holding)
	return made, nil
}

// openAccess makes what gets tokens with a credential.
func openAccess(t *tenant, team string, cfg *configv1.Credential, g *gateway, options Options) (*access, error) {
	base, err := url.Parse(t.config.GetUrl())
	if err != nil {
		return nil, fmt.Errorf("read url of tenant %s: %w", t.name, err)
	}
	c := credentialOf(cfg)
	if err := tryCredential(c); err != nil && team != "" {
		return nil, fmt.Errorf("read credential of team %s: %w", team, err)
	} else if err != nil {
		return nil, fmt.Errorf("read credential of tenant %s: %w", t.name, err)
	}
	c.Tenant, c.Team, c.URL, c.Logger, c.Transport = t.name, team, base, options.Logger, t.way.tokens
	count := g.metrics.Exchanges(t.name)
	c.Observe = func(credential, outcome string, took time.Duration) {
		count(credential, outcome, took)
		g.traces.Token(t.name, base, outcome, took)
	}
	source, err := credential.New(c)
	if err != nil {
		return nil, err
	}
	return &access{config: cfg, source: source, holding: holding{close: source.Close}}, nil
}

// accesses are all credentials of the edition.
func (e *edition) accesses() map[*access]bool {
	all := make(map[*access]bool)
	for _, t := range e.tenants {
		all[t.own] = true
		for _, a := range t.ofTeams {
			all[a] = true
		}
	}
	return all
}

// tryCredential reads what a credential needs. Where there are two, one that
// can be read is enough: the other must not keep the tenant from starting.
func tryCredential(c credential.Config) error {
	err := try(c.ClientSecret, c.SubjectToken, c.AccessToken)
	if err == nil || c.Next == nil {
		return err
	}
	nextErr := try(c.Next.ClientSecret, c.Next.SubjectToken)
	if nextErr == nil {
		return nil
	}
	return errors.Join(err, nextErr)
}

// try calls what is not nil.
func try(reads ...func() (string, error)) error {
	for _, read := range reads {
		if read == nil {
			continue
		}
		if _, err := read(); err != nil {
			return err
		}
	}
	return nil
}

// teamsOf are the names of the teams whose calls go to a tenant.
func teamsOf(cfg *configv1.Config, tenant string) []string {
	var names []string
	for _, team := range cfg.GetTeams() {
		if team.GetTenant() == tenant {
			names = append(names, team.GetName())
		}
	}
	return names
}

// credentialOf says where a credential's secret is read, each time anew.
func credentialOf(c *configv1.Credential) credential.Config {
	out := credential.Config{ClientID: c.GetClientId(), DPoP: c.GetDpop()}
	if ref := c.GetClientSecret(); ref != nil {
		out.ClientSecret = reader(config.ReadSecret, ref)
	}
	if ref := c.GetSubjectToken(); ref != nil {
		out.SubjectToken = reader(config.ReadSubjectToken, ref)
	}
	if ref := c.GetAccessToken(); ref != nil {
		out.AccessToken = reader(config.ReadSecret, ref)
	}
	if n := c.GetNext(); n != nil {
		out.Next = &credential.Next{ClientID: n.GetClientId(), DPoP: n.GetDpop()}
		if ref := n.GetClientSecret(); ref != nil {
			out.Next.ClientSecret = reader(config.ReadSecret, ref)
		}
		if ref := n.GetSubjectToken(); ref != nil {
			out.Next.SubjectToken = reader(config.ReadSubjectToken, ref)
		}
	}
	return out
}

// reader returns what reads a secret. On an error there is nothing to reveal.
func reader(read func(*configv1.Secret) (config.Secret, error), ref *configv1.Secret) func() (string, error) {
	return func() (string, error) {
		secret, err := read(ref)
		if err != nil {
			return "", err
		}
		return secret.Reveal(), nil
	}
}
