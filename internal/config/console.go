package config

import (
	"net/url"
	"strings"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

// ConsoleIssuer is the issuer that the console signs in with; nil if it is none.
func ConsoleIssuer(cfg *configv1.Config) *configv1.Issuer {
	wanted := cfg.GetConsole().GetIssuer()
	for _, issuer := range cfg.GetIssuers() {
		if wanted != "" && (wanted == issuer.GetName() || wanted == issuer.GetUrl()) {
			return issuer
		}
	}
	return nil
}

// console checks by what one signs in to the console.
func (p *problems) console(cfg *configv1.Config) {
	console := cfg.GetConsole()
	if console.GetIssuer() == "" {
		p.unusedAtConsole(console)
		return
	}
	p.consoleIssuer(cfg)
	if console.GetClientId() == "" {
		p.add("console.client_id", "is missing: write the console's client id at the issuer, that of a public client")
	}
	seen := make(map[string]bool)
	for _, scope := range console.GetScopes() {
		if seen[scope] {
			p.add("console.scopes", "has a scope twice: remove one of them")
		}
		seen[scope] = true
	}
	if resource := console.GetResource(); resource != "" {
		u, err := url.Parse(resource)
		if err != nil || !u.IsAbs() || u.User != nil || strings.Contains(resource, "#") {
			p.add("console.resource", "is no URI, or has a fragment or a user: write c1proxy's name at the issuer, for example https://c1proxy.example.com")
		}
	}
}

// unusedAtConsole finds what only goes with an issuer.
func (p *problems) unusedAtConsole(console *configv1.Console) {
	for _, key := range []struct {
		name string
		set  bool
	}{{"client_id", console.GetClientId() != ""}, {"scopes", len(console.GetScopes()) > 0}, {"resource", console.GetResource() != ""}} {
		if key.set {
			p.add("console."+key.name, "has no use without console.issuer, the issuer that one signs in with")
		}
	}
}

// consoleIssuer checks that the issuer is one whose tokens callers may show.
func (p *problems) consoleIssuer(cfg *configv1.Config) {
	const path = "console.issuer"
	if ConsoleIssuer(cfg) != nil {
		return
	}
	var names []string
	for _, issuer := range cfg.GetIssuers() {
		names = append(names, issuer.GetName())
	}
	switch wanted := cfg.GetConsole().GetIssuer(); {
	case len(names) == 0:
		p.add(path, "there are no issuers: write one below issuers, with its name, url and audiences, so that its tokens are accepted")
	case name.MatchString(wanted):
		p.reference(path, wanted, "issuer", names)
	default:
		p.add(path, "is neither the name nor the url of one of the issuers, letter by letter")
	}
}
