package proxy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"time"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/forward"
	"github.com/c1proxy/c1proxy/internal/principal"
)

// This file is about who the callers are, and by what they are known.

// openCallers makes what tells callers apart. The keys of an issuer that is the
// same as before are taken over, so that one that is down locks nobody out; what
// is remembered of tokens is not.
func (e *edition) openCallers(cfg *configv1.Config, before *edition, g *gateway) (err error) {
	callers, err := callersOf(cfg)
	if err != nil {
		return err
	}
	callers.Logger = g.logger
	e.grants = grantsOf(cfg)
	if file := cfg.GetListen().GetTls().GetClientCaFile(); before != nil {
		e.authorities = before.authorities // of the same file: see changeable
		callers.Authorities = e.authorities
	} else if file != "" {
		if e.authorities, err = authn.OpenAuthorities(file, g.logger); err != nil {
			return err
		}
		callers.Authorities = e.authorities
	}
	for _, issuer := range cfg.GetIssuers() {
		way, err := wayToIssuer(issuer, g.logger)
		if err != nil {
			return fmt.Errorf("issuer %s: %w", issuer.GetName(), err)
		}
		e.toIssuers = append(e.toIssuers, way)
		callers.Issuers = append(callers.Issuers, authn.IssuerConfig{Name: issuer.GetName(), URL: issuer.GetUrl(),
			Audiences: issuer.GetAudiences(), Algorithms: issuer.GetAlgorithms(), MaxLifetime: issuer.GetMaxTokenLifetime().AsDuration(),
			AllowInsecure: issuer.GetAllowInsecure(), Transport: way, Before: before.issuer(issuer), Observe: g.metrics.Issuer(issuer.GetName()), Logger: g.logger})
	}
	e.callers, err = authn.Open(callers)
	return err
}

// issuer is the one with the same name whose keys come by the same way; nil if
// there is none. The nil edition has none.
func (e *edition) issuer(like *configv1.Issuer) *authn.Issuer {
	if e == nil {
		return nil
	}
	for _, known := range e.config.GetIssuers() {
		if known.GetName() == like.GetName() && known.GetUrl() == like.GetUrl() && known.GetCaFile() == like.GetCaFile() &&
			known.GetAllowInsecure() == like.GetAllowInsecure() {
			return e.callers.Issuer(like.GetName())
		}
	}
	return nil
}

// hasIssuer tells whether there is an issuer of the name.
func (e *edition) hasIssuer(name string) bool {
	return slices.ContainsFunc(e.config.GetIssuers(), func(i *configv1.Issuer) bool { return i.GetName() == name })
}

// closeCallers ends what openCallers has begun.
func (e *edition) closeCallers() {
	e.callers.Close()
	for _, way := range e.toIssuers {
		way.CloseIdleConnections()
	}
}

// wayToIssuer makes the way to an issuer, by the environment's proxy.
func wayToIssuer(issuer *configv1.Issuer, logger *slog.Logger) (*forward.Transport, error) {
	base, err := url.Parse(issuer.GetUrl())
	if err != nil {
		return nil, errors.New("read its url: it is no URL")
	}
	cfg := forward.TransportConfig{CAFile: issuer.GetCaFile(), Logger: logger}
	if cfg.Proxy, cfg.ProxyUser, err = proxyFromEnvironment(base); err != nil {
		return nil, err
	}
	return forward.NewTransport(cfg)
}

// callersOf are the callers, and their proofs.
func callersOf(cfg *configv1.Config) (out authn.Config, err error) {
	for _, team := range cfg.GetTeams() {
		for _, caller := range team.GetCallers() {
			who := principal.Principal{Caller: caller.GetName(), Team: team.GetName(), Tenant: team.GetTenant()}
			for _, key := range caller.GetApiKeys() {
				c, err := apiKey(key, who)
				if err != nil {
					return out, fmt.Errorf("read API key of %s/%s: %w", who.Team, who.Caller, err)
				}
				out.Keys = append(out.Keys, c)
			}
			if oidc := caller.GetOidc(); oidc != nil {
				condition, err := conditionOf(oidc)
				if err != nil {
					return out, fmt.Errorf("read oidc of %s/%s: its condition %w", who.Team, who.Caller, err)
				}
				out.Tokens = append(out.Tokens, authn.TokenRule{Issuer: oidc.GetIssuer(), Subject: oidc.GetSubject(), Condition: condition, Principal: &who})
			}
			if mtls := caller.GetMtls(); mtls != nil {
				out.Certificates = append(out.Certificates, authn.CertificateRule{URI: mtls.GetUriSan(), DNS: mtls.GetDnsSan(), Principal: &who})
			}
		}
	}
	return out, nil
}

// grantsOf are the grants of the callers that have any.
func grantsOf(cfg *configv1.Config) map[callerKey][]string {
	grants := make(map[callerKey][]string)
	for _, team := range cfg.GetTeams() {
		for _, caller := range team.GetCallers() {
			if len(caller.GetGrants()) > 0 {
				grants[callerKey{team.GetName(), caller.GetName()}] = caller.GetGrants()
			}
		}
	}
	return grants
}

// granted tells whether the caller has a grant.
func (c *call) granted(grant string) bool {
	return slices.Contains(c.edition.grants[callerKey{c.who.Team, c.who.Caller}], grant)
}

// apiKey is a key of a caller's.
func apiKey(key *configv1.ApiKey, who principal.Principal) (c authn.Credential, err error) {
	if n, err := hex.Decode(c.Hash[:], []byte(key.GetSha256())); err != nil || n != len(c.Hash) {
		return c, errors.New("its sha256 is not 64 hex digits")
	}
	if text := key.GetExpires(); text != "" {
		if c.Expires, err = time.Parse(time.RFC3339, text); err != nil {
			return c, errors.New("its expires is no time")
		}
	}
	who.Credential = c.Hash.ID()
	c.Label, c.Principal = key.GetLabel(), &who
	return c, nil
}

// conditionOf compiles a condition; nil without one.
func conditionOf(oidc *configv1.Oidc) (*authn.Condition, error) {
	if oidc.GetCondition() == "" {
		return nil, nil
	}
	return authn.CompileCondition(oidc.GetCondition())
}

// checkCallers finds conditions that do not compile.
func checkCallers(cfg *configv1.Config) []config.Problem {
	var problems []config.Problem
	for i, team := range cfg.GetTeams() {
		for j, caller := range team.GetCallers() {
			if _, err := conditionOf(caller.GetOidc()); err != nil {
				problems = append(problems, config.Problem{Message: err.Error(), Path: fmt.Sprintf("teams[%d].callers[%d].oidc.condition", i, j)})
			}
		}
	}
	return problems
}

// checkIssuers tells of each issuer whether its tokens can be verified. One that
// does not answer, and whose keys are at hand, makes nobody unready.
func (e *edition) checkIssuers(check func(string, error), checks map[string]string) {
	for _, issuer := range e.callers.Issuers() {
		state, name := issuer.State(), "issuer/"+issuer.Name()
		check(name, state.Err)
		if state.Err == nil && state.Failure != nil {
			checks[name] = fmt.Sprintf("does not answer; its keys of %s are used until they are an hour old: %v",
				state.Fetched.UTC().Format(time.RFC3339), state.Failure)
		}
	}
}

// ageOf is how long ago something was, in seconds; -1 for never.
func ageOf(then time.Time) float64 {
	if then.IsZero() {
		return -1
	}
	return time.Since(then).Seconds()
}
