package authn

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"time"
)

// Knows tells whether a request's proof has been found good: whether it is an API
// key that is some caller's, a token that was verified of late and has not expired,
// or a client certificate, which the handshake has verified. It costs a hash at
// most, and asks no issuer. It is no authentication, for which see Authenticate.
//
// Of those that it does not know a token that is shown for the first time may be
// good, and so may one of more than 4 KiB.
func (a *Authenticator) Knows(request *http.Request) bool {
	values := request.Header["Authorization"]
	if len(values) == 0 {
		return request.TLS != nil && len(request.TLS.VerifiedChains) > 0 && a.authorities != nil
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || len(values[0]) > maxAuthorization || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	if text = strings.TrimSpace(text); strings.HasPrefix(text, KeyPrefix) {
		_, err := a.keys.prove(HashKey(text), time.Now())
		return err == nil
	}
	return a.memory.knows(sha256.Sum256([]byte(text)), time.Now())
}

// knows tells whether a token was verified of late, and has not expired, though it
// may have to be verified again.
func (m *memory) knows(hash [sha256.Size]byte, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.byToken[hash]
	return ok && now.Before(r.expires)
}
