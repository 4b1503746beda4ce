package proxy

import (
	"fmt"
	"net"
	"net/url"

	"google.golang.org/protobuf/reflect/protoregistry"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/policy"
	"github.com/c1proxy/c1proxy/internal/route"
)

// Check finds what is wrong in a configuration that package config cannot
// know: methods that do not exist, and a C1 that is c1proxy itself.
func Check(cfg *configv1.Config) []config.Problem {
	routes, err := route.Load(protoregistry.GlobalFiles, protoregistry.GlobalTypes, mirrored)
	if err != nil {
		return []config.Problem{{Message: err.Error()}}
	}
	rules, positions := rulesOf(cfg)
	_, unknown := policy.Compile(rules, methodsOf(routes))
	problems := make([]config.Problem, 0, len(unknown))
	for _, u := range unknown {
		at := positions[u.Rule]
		problems = append(problems, config.Problem{Message: u.Message,
			Path: fmt.Sprintf("teams[%d].allow[%d].methods[%d]", at.team, at.rule, u.Method)})
	}
	for i, t := range cfg.GetTenants() {
		if isSelf(t.GetUrl(), cfg.GetListen().GetAddress()) {
			problems = append(problems, config.Problem{Path: fmt.Sprintf("tenants[%d].url", i), Message: fmt.Sprintf(
				"%s is the address that c1proxy itself listens on: write the address of C1 (CONDUCTORONE_SERVER_URL is for c1proxy's callers)", t.GetUrl())})
		}
	}
	return problems
}

// isSelf says whether a URL leads to the listener: the same port, on a host
// that the listener's address stands for.
func isSelf(raw, listen string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	host, listenPort, err := net.SplitHostPort(listen)
	if err != nil || port != listenPort || port == "0" {
		return false
	}
	return u.Hostname() == host || isOwn(u.Hostname()) && (isWildcard(host) || isOwn(host))
}

func isWildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// isOwn says whether a host names this machine, without asking any resolver.
func isOwn(host string) bool {
	if host == "localhost" || isWildcard(host) {
		return true
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.Equal(ip) {
			return true
		}
	}
	return false
}
