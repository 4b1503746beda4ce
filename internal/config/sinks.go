package config

import (
	"fmt"
	"net/url"
	"slices"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

const wantWebhook = "write https:// and where the records go, for example https://collector.example.com/c1proxy"

// sinks checks each sink of the audit, and that their names differ.
func (p *problems) sinks(sinks []*configv1.AuditSink) {
	seen := make(map[string]string)
	for i, sink := range sinks {
		path := fmt.Sprintf("audit.sinks[%d]", i)
		p.unique(seen, sink.GetName(), path)
		p.syslog(path+".syslog", sink.GetSyslog())
		p.webhook(path+".webhook", sink.GetWebhook())
	}
}

func (p *problems) syslog(path string, syslog *configv1.Syslog) {
	if address := syslog.GetAddress(); address != "" {
		if host, port, ok := splitAddress(address); !ok || host == "" || port == 0 {
			p.add(path+".address", "is not the address of a server: write its host and port, for example siem.example.com:6514")
		}
	}
	if syslog.GetCaFile() != "" && syslog.GetProtocol() != "tls" {
		p.add(path+".ca_file", "is for protocol tls alone: remove it, or write protocol: tls")
	}
}

// webhook checks where a webhook is. Nothing of its url is shown: it may hold a
// key.
func (p *problems) webhook(path string, webhook *configv1.Webhook) {
	if problem := webhookProblem(webhook.GetUrl(), webhook.GetAllowInsecure()); problem != "" {
		p.add(path+".url", "%s", problem)
	}
	seen := make(map[string]string)
	for i, header := range webhook.GetHeaders() {
		at := fmt.Sprintf("%s.headers[%d]", path, i)
		p.unique(seen, header.GetName(), at)
		if slices.Contains(exportHeaders, header.GetName()) {
			p.add(at+".name", "is c1proxy's own to write: remove this header")
		}
	}
}

// webhookProblem says what is wrong with a webhook's URL; "" if nothing is, or
// if there is none, which is said elsewhere. A query is allowed: some receivers
// take their settings from it.
func webhookProblem(raw string, insecure bool) string {
	if raw == "" {
		return ""
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "is not the URL of a webhook: " + wantWebhook
	}
	_, problem := portOf(u)
	switch {
	case u.User != nil:
		return "holds a user or a password: remove it, and write a header named authorization"
	case u.Fragment != "":
		return "has a fragment: remove it"
	case problem != "":
		return problem
	case !isHost(u.Hostname()):
		return "has no valid host: " + wantWebhook
	case u.Scheme == "http" && !insecure && !loopback(u.Hostname()):
		return "is plain http to another machine, which shows the records and headers to the network: write https://, or allow_insecure: true beside it"
	}
	return ""
}
