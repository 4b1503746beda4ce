package proxy

import "sync/atomic"

// measure registers what is read of the process at each scrape.
func (p *Proxy) measure() {
	m := p.gateway.metrics
	p.measureDoor()
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

// measureDoor registers what is read at each scrape of what is no call.
func (p *Proxy) measureDoor() {
	m := p.gateway.metrics
	m.Gauge("c1proxy_connections", "Connections of callers that are open.", nil,
		func() float64 { open, _ := p.connections.count(); return float64(open) })
	m.Counter("c1proxy_connections_refused_total", "Connections closed at once, because listen.max_connections were open.", nil,
		func() float64 { _, refused := p.connections.count(); return float64(refused) })
	for result, n := range map[string]*atomic.Uint64{"allowed": &p.gateway.preflights.allowed, "refused": &p.gateway.preflights.refused} {
		m.Counter("c1proxy_preflights_total", "Preflights of browsers, by what became of them.", map[string]string{"result": result},
			func() float64 { return float64(n.Load()) })
	}
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
