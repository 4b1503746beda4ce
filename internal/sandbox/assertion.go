package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// maxAssertionLife is how far ahead the exp of an assertion may be.
	maxAssertionLife = 5 * time.Minute
	// maxClockSkew is how far a client's clock may be ahead of ours.
	maxClockSkew = 30 * time.Second
)

// assertionClaims are those of a client assertion. Unknown ones are ignored.
type assertionClaims struct {
	jwt.Claims
	Nonce string `json:"nonce"`
}

// verifyAssertion checks a signed client assertion (RFC 7523, section 3, and
// what C1 asks beyond it). The error says what is wrong with it.
func (r *registry) verifyAssertion(c client, text string) error {
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return errors.New("read client_assertion: it is no JWT signed with EdDSA")
	}
	var claims assertionClaims
	if err := token.Claims(c.key, &claims); err != nil {
		return errors.New("verify client_assertion: the signature is not by the client's key")
	}
	if claims.Issuer != c.id || claims.Subject != c.id {
		return errors.New("check client_assertion: iss and sub are not both the client id")
	}
	if len(claims.Audience) != 1 || claims.Audience[0] != r.host {
		return fmt.Errorf("check client_assertion: aud is not the token host %q, without port", r.host)
	}
	if err := r.checkTimes(claims.Claims, maxAssertionLife); err != nil {
		return fmt.Errorf("check client_assertion: %w", err)
	}
	// C1's SDK of today has a jti, the one before a nonce in the header.
	once := cmp.Or(claims.ID, claims.Nonce, token.Headers[0].Nonce)
	if once == "" {
		return errors.New("check client_assertion: it has neither jti nor nonce")
	}
	if !r.replays.first(c.id+" "+once, claims.Expiry.Time(), r.now()) {
		return errors.New("check client_assertion: it was used before")
	}
	return nil
}

// verifySubject checks a subject token, which may be used again and again.
func (r *registry) verifySubject(text string) error {
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return errors.New("read subject_token: it is no JWT signed with ES256")
	}
	var claims jwt.Claims
	if err := token.Claims(r.issuer.Public(), &claims); err != nil {
		return errors.New("verify subject_token: the signature is not by the issuer's key")
	}
	if claims.Issuer != subjectIssuer || claims.Subject != subject || !claims.Audience.Contains(r.host) {
		return errors.New("check subject_token: iss, sub or aud is not the expected one")
	}
	if err := r.checkTimes(claims, 0); err != nil {
		return fmt.Errorf("check subject_token: %w", err)
	}
	return nil
}

// checkTimes checks exp, iat and nbf. A longest of 0 is no bound.
func (r *registry) checkTimes(claims jwt.Claims, longest time.Duration) error {
	now := r.now()
	switch {
	case claims.Expiry == nil || claims.IssuedAt == nil:
		return errors.New("exp or iat is missing")
	case !now.Before(claims.Expiry.Time()):
		return fmt.Errorf("it expired %s ago", now.Sub(claims.Expiry.Time()).Round(time.Second))
	case longest > 0 && claims.Expiry.Time().After(now.Add(longest)):
		return fmt.Errorf("exp is more than %s ahead", longest)
	case claims.IssuedAt.Time().After(now.Add(maxClockSkew)):
		return errors.New("iat is in the future")
	case longest > 0 && claims.IssuedAt.Time().Before(now.Add(-longest)):
		return fmt.Errorf("iat is more than %s ago", longest)
	case claims.NotBefore != nil && claims.NotBefore.Time().After(now):
		return errors.New("nbf is in the future")
	}
	return nil
}

// replays remembers what was used, for as long as it could be used again.
type replays struct {
	mu   sync.Mutex
	used map[string]time.Time // until when
	next int                  // the size at which the expired are dropped
}

// newReplays returns an empty memory.
func newReplays() *replays { return &replays{used: make(map[string]time.Time), next: 1024} }

// first reports whether key has not been seen, and notes it.
func (p *replays) first(key string, until, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, seen := p.used[key]; seen {
		return false
	}
	if len(p.used) >= p.next {
		for old, end := range p.used {
			if !now.Before(end) {
				delete(p.used, old)
			}
		}
		p.next = max(1024, 2*len(p.used))
	}
	p.used[key] = until
	return true
}
