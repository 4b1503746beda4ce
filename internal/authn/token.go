package authn

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // knows names by their case, and refuses one that stands twice

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
)

type algorithm = jose.SignatureAlgorithm

const (
	// leeway is how far an issuer's clock may be from this one.
	leeway = 30 * time.Second
	// maxKeyID bounds a token's kid, in bytes.
	maxKeyID = 256
	// maxSubject bounds what of a sub is recorded and shown, in bytes.
	maxSubject = 256
	// farthest is the last time that a claim may name, in Unix seconds: the year 9999.
	farthest = 253402300799
)

// DefaultAlgorithms are accepted of an issuer that names none.
var DefaultAlgorithms = []string{"RS256", "ES256", "EdDSA"}

// unwanted are parameters of a token's header that change what its signature
// means, or bring a key of its own (RFC 7515, section 4.1; RFC 7797). Issuers of
// access tokens use none; nothing that they name is ever fetched.
var unwanted = []string{"crit", "b64", "jku", "jwk", "x5u", "x5c", "enc", "zip"}

// types are the values of typ, in lower case, that a token may have: others name
// tokens that are made for another purpose (RFC 8725, section 3.11).
var types = []string{"", "jwt", "at+jwt", "application/jwt", "application/at+jwt"}

// token says what a token of an issuer proves, which may be remembered.
func (a *Authenticator) token(ctx context.Context, text string, now time.Time) (proven, error) {
	if len(text) > maxRememberedSize {
		p, _, err := a.verify(ctx, text, now)
		return p, err
	}
	hash := sha256.Sum256([]byte(text))
	if p, ok := a.memory.find(hash, now); ok {
		return p, nil
	}
	p, from, err := a.verify(ctx, text, now)
	if err == nil {
		expires, _ := timeOf(p.claims, "exp") // it was read before
		a.memory.keep(hash, remembered{proven: p, issuer: from.issuer, round: from.round}, now, expires)
	}
	return p, err
}

// origin is by which keys a token was verified.
type origin struct {
	issuer *Issuer
	round  uint64
}

// verify says what a token proves. First it is read, and nothing in it believed;
// then its signature is verified with a key of the issuer that it names; then its
// claims are held against the issuer's rules.
func (a *Authenticator) verify(ctx context.Context, text string, now time.Time) (p proven, from origin, err error) {
	header, problem := readHeader(text)
	if problem != "" {
		return p, from, refuse(fault.Unauthenticated, "header", "the token %s", problem)
	}
	signed, err := jose.ParseSignedCompact(text, a.algorithms)
	if err != nil {
		return p, from, refuse(fault.Unauthenticated, "form", "the token does not read as a JWT with one signature by an accepted algorithm")
	}
	claims := make(map[string]any)
	if err := json.Unmarshal(signed.UnsafePayloadWithoutVerification(), &claims); err != nil {
		return p, from, refuse(fault.Unauthenticated, "form", "the token's claims do not read as one JSON object")
	}
	url, _ := claims["iss"].(string) // letter by letter: it is a key
	issuer := a.issuers[url]
	switch {
	case issuer == nil:
		return p, from, refuse(fault.Unauthenticated, "iss", "the token's issuer (iss) is none that this c1proxy knows")
	case !slices.Contains(issuer.algorithms, algorithm(header.Algorithm)):
		return p, from, refuse(fault.Unauthenticated, "alg", "the token's algorithm is not accepted of issuer %s", issuer.cfg.Name)
	}
	// One that has expired is not worth the question for its key, and is refused while
	// nobody can be asked. Whoever forges it learns nothing.
	if problem := expiredBy(claims, now); problem != "" {
		return p, from, refuse(fault.Unauthenticated, "exp", "the token %s", problem)
	}
	from = origin{issuer, issuer.currentRound()} // before the key is read: of two rounds the older one is noted
	key, err := issuer.key(ctx, header.KeyID)
	if err != nil {
		return p, from, err
	}
	if key.Algorithm != "" && key.Algorithm != header.Algorithm {
		return p, from, refuse(fault.Unauthenticated, "alg", "the token's algorithm is not its key's")
	}
	// The payload is the one that was read above: a compact JWS has one.
	if _, err := signed.Verify(key.Key); err != nil {
		return p, from, refuse(fault.Unauthenticated, "signature", "the token's signature does not fit the key that issuer %s has under its kid: get a new token (a new key needs a new kid)", issuer.cfg.Name)
	}
	if check, problem := issuer.check(claims, now); check != "" {
		return p, from, refuse(fault.Unauthenticated, check, "the token %s", problem)
	}
	p, err = issuer.callersOf(claims, header.KeyID)
	return p, from, err
}

// header is what is used of a token's header.
type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

// readHeader reads a token's header, and says what is wrong with it, in words
// that hold nothing of it.
func readHeader(text string) (h header, problem string) {
	if strings.Count(text, ".") != 2 {
		return h, "is neither an API key, which begins with " + KeyPrefix + ", nor a JWT, which has three parts"
	}
	encoded, _, _ := strings.Cut(text, ".")
	data, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	var all map[string]json.RawMessage
	if err != nil || json.Unmarshal(data, &all) != nil || json.Unmarshal(data, &h) != nil {
		return h, "has a header that does not read as JSON"
	}
	for _, name := range unwanted {
		if _, given := all[name]; given {
			return h, fmt.Sprintf("has %q in its header, which is not accepted", name)
		}
	}
	switch {
	case !slices.Contains(types, strings.ToLower(h.Type)):
		return h, "is of a type (typ) that is not for access"
	case h.KeyID == "":
		return h, "does not name its key (kid)"
	case len(h.KeyID) > maxKeyID:
		return h, fmt.Sprintf("has a kid of more than %d bytes", maxKeyID)
	}
	return h, ""
}

// check holds the claims of a token whose signature is good against the rules.
// It returns the name of the claim that fails and words for the caller, or "".
// aud must be equal letter by letter. exp is required (RFC 7519, section
// 4.1), as is a life, from iat or from now, that is not too long.
func (i *Issuer) check(claims map[string]any, now time.Time) (check, problem string) {
	if !i.isFor(claims["aud"]) {
		return "aud", "is not for this c1proxy: its aud has none of the audiences of issuer " + i.cfg.Name
	}
	if problem := expiredBy(claims, now); problem != "" {
		return "exp", problem
	}
	expires, _ := timeOf(claims, "exp")
	from := now
	for _, name := range []string{"nbf", "iat"} {
		begins, err := timeOf(claims, name)
		if err != nil || now.Add(leeway).Before(begins) {
			return name, "is not valid yet (" + name + ")"
		}
		if name == "iat" && !begins.IsZero() {
			from = begins
		}
	}
	if expires.Sub(from) > i.cfg.MaxLifetime {
		return "lifetime", fmt.Sprintf("lives longer than the %v that are accepted of issuer %s", i.cfg.MaxLifetime, i.cfg.Name)
	}
	if _, bound := claims["cnf"]; bound {
		return "cnf", "is bound to a key (cnf), and was shown as one that is not"
	}
	return "", ""
}

// expiredBy says what is wrong with a token's exp at a time, or "".
func expiredBy(claims map[string]any, now time.Time) (problem string) {
	expires, err := timeOf(claims, "exp")
	switch {
	case err != nil || expires.IsZero():
		return "does not say when it expires (exp)"
	case !now.Before(expires.Add(leeway)):
		return "has expired: ask the issuer for a new one"
	}
	return ""
}

// isFor tells whether aud, a text or a list of texts, has one of the audiences.
func (i *Issuer) isFor(aud any) bool {
	values, ok := aud.([]any)
	if !ok {
		values = []any{aud}
	}
	for _, value := range values {
		if text, ok := value.(string); ok && text != "" && slices.Contains(i.cfg.Audiences, text) {
			return true
		}
	}
	return false
}

// timeOf is a claim that holds a time; zero if it is not there.
func timeOf(claims map[string]any, name string) (time.Time, error) {
	value, given := claims[name]
	if !given {
		return time.Time{}, nil
	}
	seconds, ok := value.(float64)
	if !ok || seconds <= 0 || seconds > farthest {
		return time.Time{}, errors.New("no time")
	}
	return time.Unix(int64(seconds), 0), nil
}

// A TokenRule says which tokens of an issuer are a caller's: those with the
// subject, if it is not "", for which the condition holds, if it is not nil.
type TokenRule struct {
	Issuer    string
	Subject   string
	Condition *Condition
	Principal *principal.Principal
}

// callersOf says whose token it is, by its verified claims.
func (i *Issuer) callersOf(claims map[string]any, kid string) (proven, error) {
	subject, _ := claims["sub"].(string)
	p := proven{credential: Scrub("oidc:" + i.cfg.Name + ":" + bounded(kid, 64)), subject: Scrub(bounded(subject, maxSubject)), claims: claims}
	rules := i.anyone
	if subject != "" {
		rules = slices.Concat(i.bySubject[subject], rules)
	}
	for _, rule := range rules {
		if rule.Condition.Holds(claims) {
			p.callers = append(p.callers, rule.Principal)
		}
	}
	if p.callers == nil {
		return p, fault.New(connect.CodePermissionDenied, fault.CallerUnknown,
			"the token is good, but no caller is configured for it: issuer %s, subject %q", i.cfg.Name, p.subject).
			With("issuer", i.cfg.Name).With("subject", p.subject)
	}
	return p, nil
}

// add notes a rule.
func (i *Issuer) add(rule TokenRule) {
	if rule.Subject == "" {
		i.anyone = append(i.anyone, rule)
		return
	}
	i.bySubject[rule.Subject] = append(i.bySubject[rule.Subject], rule)
}

// bounded is at most n bytes of printable text.
func bounded(text string, n int) string {
	text = strings.ToValidUTF8(text[:min(len(text), n)], "")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, text)
}
