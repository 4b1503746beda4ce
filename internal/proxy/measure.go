package proxy

// measure registers what is read at each scrape.
func (p *Proxy) measure() {
	m := p.gateway.metrics
	inForce := p.gateway.edition.Load()
	for name, t := range inForce.tenants {
		source := t.tokens
		m.Gauge("c1proxy_token_valid", "1 while the tenant has a C1 access token that is valid.",
			map[string]string{"tenant": name}, func() float64 { return truth(source.Ready() == nil) })
		for _, id := range source.Credentials() {
			m.Gauge("c1proxy_token_credential", "1 for the credential, by its client id, that the tenant's token was got with.",
				map[string]string{"tenant": name, "credential": id}, func() float64 { return truth(source.State().Credential == id) })
		}
		m.Gauge("c1proxy_token_clock_skew_seconds", "How far C1's clock is ahead of this one, by the token endpoint's last answer.",
			map[string]string{"tenant": name}, func() float64 { return source.State().Skew.Seconds() })
		labels := map[string]string{"tenant": name}
		m.Gauge("c1proxy_tenant_in_flight", "Calls that have a place with the tenant's C1.", labels,
			func() float64 { return float64(t.upstream.State().InFlight) })
		m.Gauge("c1proxy_tenant_waiting", "Calls that wait for a place.", labels,
			func() float64 { return float64(t.upstream.State().Waiting) })
		m.Gauge("c1proxy_tenant_down", "1 while the tenant's C1 does not answer and its calls are refused.", labels,
			func() float64 { return truth(t.upstream.State().Down) })
		m.Counter("c1proxy_tenant_down_total", "Times that the tenant's C1 was found not to answer.", labels,
			func() float64 { return float64(t.upstream.State().Opened) })
		m.Counter("c1proxy_retries_total", "Requests to C1 without side effects that were made again.", labels,
			func() float64 { return float64(t.upstream.State().Retries) })
	}
	for _, issuer := range inForce.callers.Issuers() {
		m.Gauge("c1proxy_issuer_keys_age_seconds", "How old the keys of an OIDC issuer are; -1 while there are none.",
			map[string]string{"issuer": issuer.Name()}, func() float64 { return ageOf(issuer.State().Fetched) })
	}
	m.Gauge("c1proxy_connections", "Connections of callers that are open.", nil,
		func() float64 { open, _ := p.connections.count(); return float64(open) })
	m.Counter("c1proxy_connections_refused_total", "Connections closed at once, because listen.max_connections were open.", nil,
		func() float64 { _, refused := p.connections.count(); return float64(refused) })
	m.Gauge("c1proxy_audit_healthy", "1 while the audit is expected to append.", nil,
		func() float64 { return truth(p.gateway.log.Healthy() == nil) })
	m.Gauge("c1proxy_audit_open_intents", "Calls whose intent is on record and whose outcome is not.", nil,
		func() float64 { return float64(p.gateway.log.Stats().OpenIntents) })
	m.Counter("c1proxy_audit_records_total", "Records that are durable.", nil,
		func() float64 { return float64(p.gateway.log.Stats().Records) })
	m.Counter("c1proxy_audit_syncs_total", "Times that records were made durable, many at once.", nil,
		func() float64 { return float64(p.gateway.log.Stats().Syncs) })
	m.Counter("c1proxy_audit_failures_total", "Records that could not be made durable when they were due.", nil,
		func() float64 { return float64(p.gateway.log.Stats().Failures) })
	m.Counter("c1proxy_audit_merged_total", "Refusals of unknown callers that share a record with others.", nil,
		func() float64 { return float64(p.gateway.log.Stats().Merged) })
	m.Counter("c1proxy_audit_lost_total", "Final records that were dropped, too many waiting for the disk.", nil,
		func() float64 { return float64(p.gateway.log.Stats().Lost) })
	m.Gauge("c1proxy_audit_free_bytes", "Free space of the audit's file system, as of a second ago.", nil,
		func() float64 { return float64(p.gateway.log.Stats().FreeBytes) })
	m.Gauge("c1proxy_audit_oldest_record", "The number of the oldest record that audit.retain has left.", nil,
		func() float64 { return float64(p.gateway.log.Stats().Oldest) })
	m.Counter("c1proxy_audit_segments_removed_total", "Segments that audit.retain has removed or archived.", nil,
		func() float64 { return float64(p.gateway.log.Stats().Removed) })
	m.Gauge("c1proxy_audit_retain_held_back", "1 while a segment is due to be removed, but still needed or impossible to archive: see the log.", nil,
		func() float64 { return truth(p.gateway.log.Stats().HeldBack) })
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
