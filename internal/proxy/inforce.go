package proxy

import (
	"time"

	"github.com/c1proxy/c1proxy/internal/credential"
	"github.com/c1proxy/c1proxy/internal/gate"
)

// measureEdition registers what is read of the edition in force at each scrape.
// What is not in it is not there.
func (p *Proxy) measureEdition() {
	p.measureConfig()
	p.measureTokens()
	p.gaugesOf("c1proxy_tenant_in_flight", "Calls that have a place with the tenant's C1.", func(s gate.State) float64 { return float64(s.InFlight) })
	p.gaugesOf("c1proxy_tenant_waiting", "Calls that wait for a place.", func(s gate.State) float64 { return float64(s.Waiting) })
	p.gaugesOf("c1proxy_tenant_down", "1 while the tenant's C1 does not answer and its calls are refused.", func(s gate.State) float64 { return truth(s.Down) })
	p.countersOf("c1proxy_tenant_down_total", "Times that the tenant's C1 was found not to answer.", func(s gate.State) float64 { return float64(s.Opened) })
	p.gaugesOf("c1proxy_tenant_throttled", "1 while calls are refused because the tenant's C1 had too many (429).", func(s gate.State) float64 { return truth(s.Until.After(time.Now())) })
	p.countersOf("c1proxy_tenant_throttled_total", "Times that calls began to be refused because the tenant's C1 had too many.", func(s gate.State) float64 { return float64(s.Throttled) })
	p.countersOf("c1proxy_retries_total", "Requests to C1 without side effects that were made again.", func(s gate.State) float64 { return float64(s.Retries) })
	p.gateway.metrics.Gauges("c1proxy_issuer_keys_age_seconds", "How old the keys of an OIDC issuer are; -1 while there are none.",
		[]string{"issuer"}, p.inForce(func(e *edition, emit emit) {
			for _, issuer := range e.callers.Issuers() {
				emit(ageOf(issuer.State().Fetched), issuer.Name())
			}
		}))
}

// measureConfig registers what came of the readings of the configuration.
func (p *Proxy) measureConfig() {
	m := p.gateway.metrics
	m.Counters("c1proxy_config_reloads_total", "Reloads of the configuration by result: ok, or failed, so that the old one serves on.",
		[]string{"result"}, func(emit func(float64, ...string)) {
			last := p.reloads.loaded()
			emit(float64(last.succeeded), "ok")
			emit(float64(last.failed), "failed")
		})
	m.Gauge("c1proxy_config_last_reload_ok", "0 if the last reload of the configuration failed.", nil,
		func() float64 { return truth(p.reloads.loaded().err == nil) })
	m.Gauge("c1proxy_config_last_success_timestamp_seconds", "When the configuration in force was read, in Unix time.", nil,
		func() float64 { return float64(p.reloads.loaded().at.UnixMilli()) / 1000 })
	m.Gauges("c1proxy_config_revision", "1 for the revision of the configuration in force.", []string{"revision"},
		p.inForce(func(e *edition, emit emit) { emit(1, e.revision) }))
}

// measureTokens registers the tokens, those of the tenants with an empty team.
func (p *Proxy) measureTokens() {
	m := p.gateway.metrics
	each := func(read func(tenant, team string, source *credential.Source, emit emit)) func(emit) {
		return p.inForce(func(e *edition, emit emit) {
			for name, t := range e.tenants {
				read(name, "", t.own.source, emit)
				for team, a := range t.ofTeams {
					read(name, team, a.source, emit)
				}
			}
		})
	}
	m.Gauges("c1proxy_token_valid", "1 while the tenant, or a team with a credential of its own, has a C1 access token that is valid.", []string{"tenant", "team"},
		each(func(tenant, team string, source *credential.Source, emit emit) {
			emit(truth(source.Ready() == nil), tenant, team)
		}))
	m.Gauges("c1proxy_token_credential", "1 for the credential, by its client id, that the token was got with.", []string{"tenant", "team", "credential"},
		each(func(tenant, team string, source *credential.Source, emit emit) {
			for _, id := range source.Credentials() {
				emit(truth(source.State().Credential == id), tenant, team, id)
			}
		}))
	m.Gauges("c1proxy_token_clock_skew_seconds", "How far C1's clock is ahead of this one, by the token endpoint's last answer.", []string{"tenant", "team"},
		each(func(tenant, team string, source *credential.Source, emit emit) {
			emit(source.State().Skew.Seconds(), tenant, team)
		}))
}

// An emit gives one value of a family, with the values of its labels.
type emit = func(value float64, labels ...string)

// inForce reads a family of the edition in force.
func (p *Proxy) inForce(read func(*edition, emit)) func(emit) {
	return func(out emit) {
		e := p.gateway.pinned()
		defer e.unpin()
		read(e, out)
	}
}

// gaugesOf registers a gauge of each tenant's gate.
func (p *Proxy) gaugesOf(name, help string, of func(gate.State) float64) {
	p.gateway.metrics.Gauges(name, help, []string{"tenant"}, p.inForce(gates(of)))
}

// countersOf registers a running total of each tenant's gate.
func (p *Proxy) countersOf(name, help string, of func(gate.State) float64) {
	p.gateway.metrics.Counters(name, help, []string{"tenant"}, p.inForce(gates(of)))
}

func gates(of func(gate.State) float64) func(*edition, emit) {
	return func(e *edition, emit emit) {
		for name, t := range e.tenants {
			emit(of(t.upstream.State()), name)
		}
	}
}
