package proxy

// measure registers what is read at each scrape.
func (p *Proxy) measure() {
	m := p.gateway.metrics
	for name, source := range p.tokens {
		m.Gauge("c1proxy_token_valid", "1 while the tenant has a C1 access token that is valid.",
			map[string]string{"tenant": name}, func() float64 { return truth(source.Ready() == nil) })
		for _, id := range source.Credentials() {
			m.Gauge("c1proxy_token_credential", "1 for the credential, by its client id, that the tenant's token was got with.",
				map[string]string{"tenant": name, "credential": id}, func() float64 { return truth(source.State().Credential == id) })
		}
		m.Gauge("c1proxy_token_clock_skew_seconds", "How far C1's clock is ahead of this one, by the token endpoint's last answer.",
			map[string]string{"tenant": name}, func() float64 { return source.State().Skew.Seconds() })
	}
	m.Gauge("c1proxy_audit_healthy", "1 while the audit is expected to append.", nil,
		func() float64 { return truth(p.gateway.log.Healthy() == nil) })
	m.Gauge("c1proxy_audit_open_intents", "Calls whose intent is on record and whose outcome is not.", nil,
		func() float64 { return float64(p.gateway.log.Stats().OpenIntents) })
	m.Counter("c1proxy_audit_records_total", "Records that are durable.",
		func() float64 { return float64(p.gateway.log.Stats().Records) })
	m.Counter("c1proxy_audit_syncs_total", "Times that records were made durable, many at once.",
		func() float64 { return float64(p.gateway.log.Stats().Syncs) })
	m.Counter("c1proxy_audit_failures_total", "Records that could not be made durable when they were due.",
		func() float64 { return float64(p.gateway.log.Stats().Failures) })
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
