// Package authn turns an HTTP request into a Principal, or says why it cannot.
//
// There are three proofs: an API key, a token of an OIDC issuer, and a client
// certificate. An Authorization header, if there is one, is the only proof that
// is looked at; a certificate counts where there is none. A proof that is some
// caller's in several teams needs the header C1proxy-Team, which chooses among
// them and names nobody.
package authn

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
)

// maxAuthorization bounds an Authorization header before it is looked into.
const maxAuthorization = 8 << 10

// A Config says who the callers are, and by what they are known. The Principals
// in it have no Credential, Subject or Claims, but for those of keys.
type Config struct {
	Keys         []Credential
	Issuers      []IssuerConfig
	Tokens       []TokenRule
	Certificates []CertificateRule
	// Authorities vouch for client certificates; nil if none are accepted.
	Authorities *Authorities
	// Logger is told of keys that are about to expire, and of issuers that do
	// not answer. Required.
	Logger *slog.Logger
}

// An Authenticator knows the callers. It is safe for concurrent use.
type Authenticator struct {
	keys         *Keys
	issuers      map[string]*Issuer // by URL
	algorithms   []algorithm        // of all issuers
	certificates []CertificateRule
	authorities  *Authorities
	memory       memory
	welcome      string // what a caller without a proof is told to send

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Open returns an Authenticator, which begins at once to ask the issuers for
// their keys, and goes on with it until Close. It does not wait for them.
func Open(cfg Config) (*Authenticator, error) {
	keys, err := NewKeys(cfg.Keys)
	if err != nil {
		return nil, err
	}
	a := &Authenticator{keys: keys, issuers: make(map[string]*Issuer, len(cfg.Issuers)),
		certificates: cfg.Certificates, authorities: cfg.Authorities}
	byName := make(map[string]*Issuer, len(cfg.Issuers))
	for _, c := range cfg.Issuers {
		if a.issuers[c.URL] != nil {
			return nil, fmt.Errorf("add issuer %s: its url is that of %s too", c.Name, a.issuers[c.URL].cfg.Name)
		}
		issuer := newIssuer(c)
		a.issuers[c.URL], byName[c.Name] = issuer, issuer
		a.algorithms = append(a.algorithms, issuer.algorithms...)
	}
	for _, rule := range cfg.Tokens {
		issuer := byName[rule.Issuer]
		if issuer == nil {
			return nil, fmt.Errorf("add caller %s/%s: there is no issuer %s", rule.Principal.Team, rule.Principal.Caller, rule.Issuer)
		}
		issuer.add(rule)
	}
	a.welcome = a.proofs()
	var ctx context.Context
	ctx, a.cancel = context.WithCancel(context.Background())
	for _, issuer := range a.issuers {
		a.running.Go(func() { issuer.run(ctx) })
	}
	a.running.Go(func() { keys.warn(ctx, cfg.Logger) })
	return a, nil
}

// Close ends what Open has begun. The Authenticator is of no use after it. Nil
// is legal.
func (a *Authenticator) Close() {
	if a != nil {
		a.cancel()
		a.running.Wait()
	}
}

// Issuers are the issuers, by name.
func (a *Authenticator) Issuers() []*Issuer {
	var all []*Issuer
	for _, issuer := range a.issuers {
		all = append(all, issuer)
	}
	slices.SortFunc(all, func(x, y *Issuer) int { return strings.Compare(x.cfg.Name, y.cfg.Name) })
	return all
}

// Issuer is the issuer of the name; nil if there is none.
func (a *Authenticator) Issuer(name string) *Issuer {
	for _, issuer := range a.issuers {
		if issuer.cfg.Name == name {
			return issuer
		}
	}
	return nil
}

// proofs says what a caller may send.
func (a *Authenticator) proofs() string {
	words := fmt.Sprintf("send \"Authorization: Bearer %s...\"", KeyPrefix)
	if len(a.issuers) > 0 {
		words += ", or a token of an OIDC issuer in place of the API key"
	}
	if a.authorities != nil {
		words += ", or show a client certificate"
	}
	return words
}

// Authenticate returns who sent the request. An Authorization header is the
// proof if there is one: exactly one, "Bearer" and an API key or a token (RFC
// 6750, section 2.1). Without one it is the client certificate of the request's
// connection, which is looked at anew for each request. Nothing in the query, a
// cookie or another header is ever a proof.
//
// The error is a *fault.Fault: unauthenticated for a proof that proves nothing,
// permission_denied or invalid_argument where it proves no one caller, and
// unavailable where an issuer's keys cannot be had. Beside an error the
// Principal holds what was proven all the same (Credential, Subject), or is nil.
func (a *Authenticator) Authenticate(request *http.Request) (*principal.Principal, error) {
	of, err := a.prove(request)
	var who *principal.Principal
	if err == nil {
		who, err = choose(of.callers, request.Header["C1proxy-Team"])
	}
	switch {
	case err != nil && of.credential == "":
		return nil, err
	case err != nil:
		return &principal.Principal{Credential: of.credential, Subject: of.subject}, err
	case who.Credential != "": // a key's, whole as it is
		return who, nil
	}
	proven := *who
	proven.Credential, proven.Subject, proven.Claims = of.credential, of.subject, of.claims
	return &proven, nil
}

// proven is what a proof proves.
type proven struct {
	// credential names the proof, subject whom it is about in its issuer's words.
	credential, subject string
	claims              map[string]any
	// callers are all whose proof it is: at least one, if there is no error.
	callers []*principal.Principal
}

// prove says what the request's proof proves. Beside an error it is what was
// proven all the same.
func (a *Authenticator) prove(request *http.Request) (proven, error) {
	values := request.Header["Authorization"]
	switch {
	case len(values) > 1:
		return proven{}, refuse(fault.AmbiguousCredentials, "headers", "%d Authorization headers were given: send exactly one", len(values))
	case len(values) == 1:
		return a.bearer(request.Context(), values[0])
	case request.TLS != nil && len(request.TLS.VerifiedChains) > 0 && a.authorities != nil:
		return a.certificate(request.TLS.VerifiedChains, time.Now())
	}
	return proven{}, refuse(fault.Unauthenticated, "none", "no credential was given: %s", a.welcome)
}

// bearer says what the value of an Authorization header proves.
func (a *Authenticator) bearer(ctx context.Context, value string) (proven, error) {
	if len(value) > maxAuthorization {
		return proven{}, refuse(fault.Unauthenticated, "length", "the Authorization header is longer than %d bytes", maxAuthorization)
	}
	scheme, text, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return proven{}, refuse(fault.Unauthenticated, "scheme", "the Authorization header's scheme is not Bearer")
	}
	text = strings.TrimSpace(text)
	if len(a.issuers) > 0 && !strings.HasPrefix(text, KeyPrefix) {
		return a.token(ctx, text, time.Now())
	}
	if err := checkKey(text); err != nil {
		return proven{}, refuse(fault.Unauthenticated, "form", "%v", err)
	}
	return a.keys.prove(HashKey(text), time.Now())
}

// refuse returns the fault of a proof that proves nothing. check names what was
// found wrong, for machines.
func refuse(reason fault.Reason, check, format string, args ...any) error {
	return fault.New(connect.CodeUnauthenticated, reason, format, args...).With("check", check)
}
