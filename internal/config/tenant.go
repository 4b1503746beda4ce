package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

const (
	wantURL     = "write https:// and the tenant's host, for example https://acme.conductor.one"
	onlyForTest = "only for tests and the sandbox, written in the configuration with allow_insecure: true"
)

// tenant checks one tenant's url and credential, and both against each other.
// Nothing is said of a credential while the url's host is unknown.
func (p *problems) tenant(path string, tenant *configv1.Tenant, cfg *configv1.Config) {
	host, port, problem := tenantHost(tenant)
	credential := tenant.GetCredential()
	switch {
	case tenant.GetUrl() == "":
		return // said elsewhere
	case problem != "":
		p.add(path+".url", "%s", problem)
		return
	case itself(host, port, cfg):
		p.add(path+".url", "is the address that c1proxy itself listens on: "+wantURL)
		return
	}
	p.credential(path+".credential", credential, tenant.GetAllowInsecure(), host)
}

// credential checks a credential against the host of its tenant.
func (p *problems) credential(path string, credential *configv1.Credential, insecure bool, host string) {
	if problem := clientProblem(credential, insecure, host); problem != "" {
		p.add(path+".client_id", "%s", problem)
	}
	p.overlap(path, credential, insecure, host)
}

// ownCredential checks a team's own credential, which must be of its tenant.
// Nothing is said of it while that has no url.
func (p *problems) ownCredential(path string, team *configv1.Team, cfg *configv1.Config) {
	if team.GetCredential() == nil {
		return
	}
	for _, tenant := range cfg.GetTenants() {
		if host, _, problem := tenantHost(tenant); tenant.GetName() == team.GetTenant() && problem == "" {
			p.credential(path, team.GetCredential(), tenant.GetAllowInsecure(), host)
			return
		}
	}
}

// overlap checks what stands in a credential beside its own secret.
func (p *problems) overlap(path string, credential *configv1.Credential, insecure bool, host string) {
	next := credential.GetNext()
	if credential.GetAccessToken() != nil {
		if credential.GetDpop() {
			p.add(path+".dpop", "has no use beside access_token, which is bound to no key of c1proxy's: remove one of them")
		}
		if next != nil {
			p.add(path+".next", "has no use beside access_token: write what it holds in place of access_token")
		}
		return
	}
	if next == nil {
		return
	}
	problem := clientProblem(next, insecure, host)
	if problem == "" && next.GetClientId() != "" && next.GetClientId() == credential.GetClientId() {
		problem = "is the client_id of the old credential: C1 gives each credential one of its own (a new secret of the same id belongs in the old one's file)"
	}
	if problem != "" {
		p.add(path+".next.client_id", "%s", problem)
	}
}

// tenantHost takes the host, without brackets, and the port out of a tenant's
// url, or says what is wrong with it. Nothing of the url is shown: it may hold
// a password.
func tenantHost(tenant *configv1.Tenant) (host string, port uint16, problem string) {
	raw := tenant.GetUrl()
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "", 0, "is not the URL of a tenant: " + wantURL
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return "", 0, "is not an https URL: " + wantURL
	case u.User != nil:
		return "", 0, "holds a user or a password: remove it, what c1proxy proves itself with stands in credential"
	case u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(raw, "?#"):
		return "", 0, "has a query or a fragment: remove all that follows the host"
	case u.Path != "":
		return "", 0, "has a path: remove all that follows the host, also a / at the end"
	}
	host = u.Hostname()
	port, problem = portOf(u)
	switch {
	case problem != "":
	case !isHost(host):
		problem = "has no valid host: " + wantURL
	case host != strings.ToLower(host):
		problem = "has capitals in its host: write it in lower case"
	case !tenant.GetAllowInsecure():
		problem = insecure(u, host)
	}
	return host, port, problem
}

// portOf is the port of a URL, which its scheme implies if none is written.
func portOf(u *url.URL) (uint16, string) {
	if u.Port() == "" && !strings.HasSuffix(u.Host, ":") {
		return map[string]uint16{"https": 443, "http": 80}[u.Scheme], ""
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return 0, "has no valid port"
	}
	return uint16(port), ""
}

// insecure says what a url has that only tests may have: each of these sends
// tokens where nobody can tell that it is C1 who receives them.
func insecure(u *url.URL, host string) string {
	_, notIP := netip.ParseAddr(host)
	switch {
	case u.Scheme == "http":
		return "is plain http, which shows tokens to the network: write https:// (http is " + onlyForTest + ")"
	case u.Port() != "":
		return "has a port: remove it (a port is " + onlyForTest + ")"
	case notIP == nil:
		return "is an IP address: write the tenant's host (an address is " + onlyForTest + ")"
	case !strings.Contains(host, "."):
		return "is a bare name: write the tenant's whole host (a bare name is " + onlyForTest + ")"
	}
	return ""
}

// itself tells whether a tenant's url leads back to one of c1proxy's own
// listeners, as far as the texts show it.
func itself(host string, port uint16, cfg *configv1.Config) bool {
	for _, address := range []string{cfg.GetListen().GetAddress(), cfg.GetAdmin().GetAddress()} {
		own, ownPort, ok := splitAddress(address)
		if !ok || ownPort == 0 || ownPort != port {
			continue
		}
		if strings.EqualFold(own, host) || loopback(host) && (own == "" || loopback(own) || unspecified(own)) {
			return true
		}
	}
	return false
}

// loopback tells whether a host is this machine and nothing else.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// unspecified tells whether an address to listen on means every interface.
func unspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsUnspecified()
}

// clientID is <random-id>@<hostname>/<use-case>, C1's form of a client id.
var clientID = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,128}@([^@/\s]{1,300})/[A-Za-z0-9._~-]{1,128}$`)

// clientHost is the host of a client id, its port included; "" if the text has
// not the form of one, and then it must not be shown.
func clientHost(id string) string {
	parts := clientID.FindStringSubmatch(id)
	if parts == nil {
		return ""
	}
	if host, _ := splitHost(parts[1]); !isHost(host) {
		return ""
	}
	return parts[1]
}

// splitHost takes a port off a host; there may be none.
func splitHost(hostport string) (host, port string) {
	if host, port, err := net.SplitHostPort(hostport); err == nil {
		return host, port
	}
	return strings.Trim(hostport, "[]"), ""
}

// A client is a credential with a client id, be it the old one or the next.
type client interface {
	GetClientId() string
	GetClientSecret() *configv1.Secret
	GetSubjectToken() *configv1.Secret
}

// clientProblem says what is wrong with a credential's client id for a tenant
// at host. The id's host must be the tenant's, a sandbox's too: a token is asked
// for where the credential belongs, or not at all. Only where insecure is
// allowed may the id name a port, and that is not compared.
func clientProblem(credential client, insecure bool, host string) string {
	id := credential.GetClientId()
	static, _ := credential.(*configv1.Credential)
	switch {
	case credential.GetClientSecret() == nil && credential.GetSubjectToken() == nil:
		if id != "" && static.GetAccessToken() != nil {
			return "has no use beside access_token: remove one of them"
		}
		return "" // what is missing was said
	case id == "":
		return "is missing: write it as C1 gave it out, for example clever-fox-42195@acme.conductor.one/spc"
	}
	of := clientHost(id)
	if of == "" {
		return "is not a client id: write it as C1 gave it out, for example clever-fox-42195@acme.conductor.one/spc"
	}
	name, port := splitHost(of)
	if strings.EqualFold(name, host) && (port == "" || insecure) {
		return ""
	}
	return fmt.Sprintf("belongs to %s, but the tenant's url names %s: write a client id of this tenant, or its url", of, host)
}
