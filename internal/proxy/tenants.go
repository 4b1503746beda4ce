package proxy

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/gate"
)

// openTenants makes the way to each tenant's C1. Every secret is read once, so
// that one that is missing fails the start and not the first call.
func (e *edition) openTenants(cfg *configv1.Config, g *gateway, options Options) error {
	for _, t := range cfg.GetTenants() {
		name := t.GetName()
		base, err := url.Parse(t.GetUrl())
		if err != nil {
			return fmt.Errorf("read url of tenant %s: %w", name, err)
		}
		way, err := wayOf(t, base, options)
		if err != nil {
			return fmt.Errorf("tenant %s: %w", name, err)
		}
		sourceConfig := credentialOf(t.GetCredential())
		if err := tryCredential(sourceConfig); err != nil {
			return fmt.Errorf("read credential of tenant %s: %w", name, err)
		}
		sourceConfig.Tenant, sourceConfig.URL, sourceConfig.Logger, sourceConfig.Transport = name, base, options.Logger, way.tokens
		count := g.metrics.Exchanges(name)
		sourceConfig.Observe = func(credential, outcome string, took time.Duration) {
			count(credential, outcome, took)
			g.traces.Token(name, base, outcome, took)
		}
		source, err := credential.New(sourceConfig)
		if err != nil {
			return err
		}
		e.tenants[name] = &tenant{name: name, way: way, tokens: source, metrics: g.metrics.Tenant(name),
			upstream: forward.New(forward.Config{Tenant: name, URL: base, Tokens: source, Transport: way.calls, Logger: options.Logger,
				Gate:      gate.New(gate.Config{Slots: int(t.GetMaxInFlight()), Teams: teamsOf(cfg, name)}),
				UserAgent: "c1proxy/" + options.Version, Timeout: t.GetTimeout().AsDuration(), ResendOn401: t.GetResendOn_401()})}
	}
	return nil
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
