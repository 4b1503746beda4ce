package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

const wantIssuer = "write it as it stands in the issuer's tokens (iss), for example https://login.example.com"

// issuers checks each issuer, and that their names and URLs differ.
func (p *problems) issuers(cfg *configv1.Config) {
	names, urls := make(map[string]string), make(map[string]string)
	for i, issuer := range cfg.GetIssuers() {
		path := fmt.Sprintf("issuers[%d]", i)
		p.unique(names, issuer.GetName(), path)
		if issuer.GetUrl() == "" {
			continue // said elsewhere
		}
		if problem := issuerProblem(issuer); problem != "" {
			p.add(path+".url", "%s", problem)
		} else if first := urls[issuer.GetUrl()]; first != "" {
			p.add(path+".url", "is the url of %s too: one issuer can have several audiences", first)
		}
		urls[issuer.GetUrl()] = path
	}
}

// issuerProblem says what is wrong with an issuer's url. Nothing of it is shown:
// it may hold a password.
func issuerProblem(issuer *configv1.Issuer) string {
	u, err := url.Parse(issuer.GetUrl())
	switch {
	case err != nil || u.Host == "" || !isHost(u.Hostname()):
		return "is not the URL of an issuer: " + wantIssuer
	case u.User != nil:
		return "holds a user or a password: remove it"
	case strings.ContainsAny(issuer.GetUrl(), "?#"):
		return "has a query or a fragment: " + wantIssuer
	case u.Scheme == "http" && !issuer.GetAllowInsecure():
		return "is plain http, by which anybody on the way can sign tokens: write https:// (http is only for tests, written in the configuration with allow_insecure: true)"
	case u.Scheme != "https" && u.Scheme != "http":
		return "is not an https URL: " + wantIssuer
	}
	_, problem := portOf(u)
	return problem
}

// key finds a key that another has too, and an end that is no time. keys has the
// path of each hash's first owner, in lower case.
func (p *problems) key(path string, key hashed, keys map[string]string) {
	if _, err := time.Parse(time.RFC3339, key.GetExpires()); key.GetExpires() != "" && err != nil {
		p.add(path+".expires", "is no time: write one as in RFC 3339, for example 2030-01-31T00:00:00Z")
	}
	hash := strings.ToLower(key.GetSha256())
	if first := keys[hash]; first != "" && hash != "" {
		p.add(path+".sha256", "is the same key as %s: make each one a key of its own", first)
		return
	}
	keys[hash] = path
}

// A hashed is a key in a configuration: a caller's, or the admin listener's.
type hashed interface {
	GetSha256() string
	GetExpires() string
}

// operators checks the keys of the admin listener.
func (p *problems) operators(admin *configv1.Admin, keys map[string]string) {
	names := make(map[string]string)
	for i, key := range admin.GetKeys() {
		path := fmt.Sprintf("admin.keys[%d]", i)
		p.unique(names, key.GetName(), path)
		p.key(path, key, keys)
	}
}

// proofs checks by what a caller is known. claimed has, by team and proof, the
// path of the first caller whose proof it is.
func (p *problems) proofs(path string, caller *configv1.Caller, claimed map[string]string, cfg *configv1.Config) {
	if oidc := caller.GetOidc(); oidc != nil {
		var names []string
		for _, issuer := range cfg.GetIssuers() {
			names = append(names, issuer.GetName())
		}
		if len(names) == 0 {
			p.add(path+".oidc.issuer", "there are no issuers: write one below issuers, with its name, url and audiences")
		}
		p.reference(path+".oidc.issuer", oidc.GetIssuer(), "issuer", names)
		if oidc.GetSubject() == "" && oidc.GetCondition() == "" {
			p.add(path+".oidc", "would take every token of the issuer: write a subject, a condition, or both")
		}
		if oidc.GetCondition() == "" {
			p.claim(claimed, path+".oidc.subject", "oidc "+oidc.GetIssuer()+" "+oidc.GetSubject())
		}
	}
	if mtls := caller.GetMtls(); mtls != nil {
		if cfg.GetListen().GetTls().GetClientCaFile() == "" {
			p.add(path+".mtls", "has no use without listen.tls.client_ca_file, the authorities that vouch for certificates")
		}
		p.claim(claimed, path+".mtls.uri_san", uriProof+mtls.GetUriSan())
		p.claim(claimed, path+".mtls.dns_san", "dns "+mtls.GetDnsSan())
		p.segments(path+".mtls.uri_san", mtls.GetUriSan())
	}
}

const uriProof = "uri "

// claim finds a proof that is another caller's of the team too: whose call it is
// could not be said.
func (p *problems) claim(claimed map[string]string, path, proof string) {
	if strings.HasSuffix(proof, " ") {
		return // there is none
	}
	for other, first := range claimed {
		if other == proof || covers(other, proof) || covers(proof, other) {
			p.add(path, "is, or lies within, that of %s: a credential must be one caller's in a team", first)
			return
		}
	}
	claimed[proof] = path
}

// covers tells whether a proof that is a URI and "/*" covers another one.
func covers(wide, narrow string) bool {
	parent, is := strings.CutSuffix(wide, "*")
	return is && strings.HasPrefix(wide, uriProof) && strings.HasPrefix(narrow, parent)
}

// segments finds a path in which "." or ".." is a segment, which no certificate
// may have.
func (p *problems) segments(path, uri string) {
	if strings.Contains(uri+"/", "/./") || strings.Contains(uri+"/", "/../") {
		p.add(path, "has . or .. as a segment, which no certificate's URI may have")
	}
}
