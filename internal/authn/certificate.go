package authn

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
)

// A CertificateRule says which client certificates are a caller's: those whose
// only URI is URI, or lies below it if it ends in "/*"; or those that have the
// DNS name. One of the two is set.
type CertificateRule struct {
	URI, DNS  string
	Principal *principal.Principal
}

// plainURI is a URI that can be read in one way only, such as a SPIFFE ID. No
// other one names anybody.
var plainURI = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://[A-Za-z0-9._-]+(/[A-Za-z0-9._~-]+)*$`)

// certificate says what a client certificate proves, which the handshake has
// verified. That may be long ago: the chain must still be good now.
func (a *Authenticator) certificate(chains [][]*x509.Certificate, now time.Time) (proven, error) {
	leaf := chains[0][0]
	fingerprint := sha256.Sum256(leaf.Raw)
	if !a.authorities.vouch(chains, now) {
		return proven{}, refuse(fault.Unauthenticated, "expired", "the client certificate has expired, or its authority is not accepted any more: connect anew with another")
	}
	uri, names := namesOf(leaf)
	p := proven{credential: fmt.Sprintf("cert:%x", fingerprint[:4]), subject: uri}
	for _, rule := range a.certificates {
		if rule.URI != "" && matchURI(rule.URI, uri) {
			p.callers = append(p.callers, rule.Principal)
		}
		if rule.DNS != "" && slices.Contains(names, rule.DNS) {
			p.callers, p.subject = append(p.callers, rule.Principal), rule.DNS
		}
	}
	p.subject = Scrub(bounded(p.subject, maxSubject))
	if p.callers == nil {
		return p, fault.New(connect.CodePermissionDenied, fault.CallerUnknown,
			"the client certificate is good, but no caller is configured for its URI %q or its DNS names", p.subject).With("subject", p.subject)
	}
	return p, nil
}

// namesOf are the URI and the DNS names of a certificate. A certificate with
// several URIs has none: which of them it is would be a guess (SPIFFE's X.509-SVID,
// section 2).
func namesOf(leaf *x509.Certificate) (uri string, names []string) {
	if len(leaf.URIs) == 1 {
		uri = leaf.URIs[0].String()
		if !plainURI.MatchString(uri) || strings.Contains(uri+"/", "/./") || strings.Contains(uri+"/", "/../") {
			uri = ""
		}
	}
	for _, name := range leaf.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	return uri, names
}

// matchURI tells whether a rule's URI is, or has below it, a certificate's.
func matchURI(rule, uri string) bool {
	parent, prefix := strings.CutSuffix(rule, "*")
	if !prefix {
		return uri != "" && uri == rule
	}
	return strings.HasPrefix(uri, parent) && len(uri) > len(parent)
}
