package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

// peers checks whose word counts on where a call comes from, and how often calls
// may fail.
func (p *problems) peers(listen *configv1.Listen) {
	seen := make(map[netip.Prefix]string)
	for i, text := range listen.GetTrustedProxies() {
		path := fmt.Sprintf("listen.trusted_proxies[%d]", i)
		network, problem := trustedNetwork(text)
		if problem == "" && seen[network] != "" {
			problem = "is " + seen[network] + " once more: remove one of them"
		}
		if problem != "" {
			p.add(path, "%s", problem)
			continue
		}
		seen[network] = path
	}
	failed := listen.GetFailedAuth()
	p.limit("listen.failed_auth", &configv1.Limit{Rate: failed.Rate, Per: failed.GetPer(), Burst: failed.Burst})
}

// Networks are the networks of a list of addresses and networks that has been
// checked; what is none is left out.
func Networks(texts []string) []netip.Prefix {
	var networks []netip.Prefix
	for _, text := range texts {
		if network, problem := trustedNetwork(text); problem == "" {
			networks = append(networks, network)
		}
	}
	return networks
}

// trustedNetwork reads an address or a network, or says what is wrong with it.
func trustedNetwork(text string) (network netip.Prefix, problem string) {
	const want = "is no address or network: write one such as 10.0.0.7, 10.0.0.0/8 or 2001:db8::/32"
	if address, err := netip.ParseAddr(text); err == nil {
		network = netip.PrefixFrom(address.WithZone(""), address.BitLen())
		if address.Zone() != "" {
			return network, "has a zone (%), which is this machine's own word: write the network, such as fe80::/10"
		}
	} else if network, err = netip.ParsePrefix(text); err != nil {
		return network, want
	}
	switch {
	case network.Addr().Is4In6():
		return network, "is an IPv4 address in IPv6's form: write it as IPv4, such as 10.0.0.0/8"
	case network != network.Masked():
		return network, fmt.Sprintf("has bits beyond its length: write %v", network.Masked())
	case network.Bits() == 0:
		return network, "would let every peer say where it comes from: name your proxies"
	}
	return network, ""
}

// origins checks the origins of web pages.
func (p *problems) origins(cors *configv1.Cors) {
	seen := make(map[string]string)
	for i, origin := range cors.GetAllowedOrigins() {
		path := fmt.Sprintf("cors.allowed_origins[%d]", i)
		if problem := originProblem(origin); problem != "" {
			p.add(path, "%s", problem)
		} else if first := seen[origin]; first != "" {
			p.add(path, "is %s once more: remove one of them", first)
		}
		seen[origin] = path
	}
}

// originProblem says what is wrong with an origin: browsers compare and send them
// letter by letter (RFC 6454, section 6.2; the URL standard's serialization), so
// one that is written in another way would never match.
func originProblem(origin string) string {
	const want = "write it as browsers do, for example https://app.example.com or http://localhost:3000"
	switch {
	case origin == "null":
		return "is what every page without an origin sends, such as a file or a sandboxed frame: it can be anybody's"
	case strings.Contains(origin, "*"):
		return "has a *: each origin stands for itself, there are no patterns"
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return "is no origin of a web page: " + want
	}
	if u.User != nil || u.Path != "" || strings.ContainsAny(origin, "?#") {
		return "has more than a scheme, a host and a port: remove the rest, also a / at the end"
	}
	host, port := u.Hostname(), u.Port()
	if _, problem := portOf(u); problem != "" {
		return problem
	}
	if !isHost(host) {
		return "has no valid host: " + want
	}
	if origin != strings.ToLower(origin) {
		return "has capitals: browsers send origins in lower case"
	}
	if port == map[string]string{"https": "443", "http": "80"}[u.Scheme] || port != strings.TrimLeft(port, "0") {
		return "has a port that browsers write in another way or leave out: " + want
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.String() != host {
		return fmt.Sprintf("has an address that browsers write in another way: %v", ip)
	}
	return ""
}
