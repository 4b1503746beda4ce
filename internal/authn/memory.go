package authn

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	// rememberFor is how long a token that was verified need not be again.
	rememberFor = time.Minute
	// maxRemembered bounds how many tokens are remembered, and maxRememberedSize
	// the length of each, in bytes.
	maxRemembered, maxRememberedSize = 1024, 4 << 10
)

// A memory holds what tokens prove that were verified a moment ago, by their
// hashes. One is forgotten with the keys that it was verified by, and when it
// expires. The zero value is empty and ready; it is safe for concurrent use.
type memory struct {
	mu      sync.Mutex
	byToken map[[sha256.Size]byte]remembered // guarded by mu
}

// remembered is a token that was verified.
type remembered struct {
	proven proven
	issuer *Issuer
	// round is the issuer's when it was verified.
	round uint64
	until time.Time
	// expires is when the token does.
	expires time.Time
}

// find returns what a token proves, if it is remembered and still so.
func (m *memory) find(hash [sha256.Size]byte, now time.Time) (proven, bool) {
	m.mu.Lock()
	r, ok := m.byToken[hash]
	m.mu.Unlock()
	if !ok || !now.Before(r.until) || !r.issuer.inRound(r.round, now) {
		return proven{}, false
	}
	return r.proven, true
}

// keep remembers a token that expires then. What is full is emptied: tokens are
// verified anew, which costs time alone.
func (m *memory) keep(hash [sha256.Size]byte, r remembered, now, expires time.Time) {
	r.expires = expires
	if r.until = now.Add(rememberFor); expires.Before(r.until) {
		r.until = expires
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byToken == nil || len(m.byToken) >= maxRemembered {
		m.byToken = make(map[[sha256.Size]byte]remembered)
	}
	m.byToken[hash] = r
}
