package config

import (
	"net/url"
	"strings"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

// proxy checks the proxy by which a tenant is reached. Nothing of its url is
// shown: it may hold a password.
func (p *problems) proxy(path string, tenant *configv1.Tenant) {
	proxy := tenant.GetProxy()
	if proxy == nil {
		return
	}
	if proxy.GetUrl() != "" {
		if problem := proxyProblem(proxy.GetUrl()); problem != "" {
			p.add(path+".url", "%s", problem)
		} else if strings.HasPrefix(tenant.GetUrl(), "http:") {
			p.add(path, "is for https alone, and the tenant's url is plain http: remove one of them")
		}
	}
	switch name := proxy.GetUsername(); {
	case strings.Contains(name, ":"):
		p.add(path+".username", `holds a ":", which no user of a proxy can have (RFC 7617)`)
	case name == "" && proxy.GetPassword() != nil:
		p.add(path+".password", "has no username beside it: write both, or neither")
	case name != "" && proxy.GetPassword() == nil:
		p.add(path+".username", "has no password beside it: write both, or neither")
	}
}

// proxyProblem says what is wrong with a proxy's url.
func proxyProblem(raw string) string {
	const want = "write http:// and the proxy's host and port, for example http://proxy.example.com:3128"
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return "is not the URL of an HTTP proxy: " + want
	}
	if u.User != nil {
		return "holds a user or a password: write them in username and password"
	}
	if strings.TrimSuffix(u.Path, "/") != "" || strings.ContainsAny(raw, "?#") {
		return "has a path, a query or a fragment: remove all that follows the host and port"
	}
	if _, problem := portOf(u); problem != "" {
		return problem
	}
	if !isHost(u.Hostname()) {
		return "has no valid host: " + want
	}
	return ""
}

// places finds a tenant with fewer places than teams: each needs one of its own.
func (p *problems) places(path string, tenant *configv1.Tenant, cfg *configv1.Config) {
	teams := 0
	for _, team := range cfg.GetTeams() {
		if team.GetTenant() == tenant.GetName() {
			teams++
		}
	}
	if n := int(tenant.GetMaxInFlight()); n > 0 && n < teams {
		p.add(path, "is less than the tenant's teams, which are %d: each needs a place of its own", teams)
	}
}
