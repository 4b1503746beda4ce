package credential

import (
	"log/slog"
	"sync/atomic"
)

// staticName is what a static token is called in place of a client id.
const staticName = "access_token"

// An identity is one of C1's credentials: a client id and what proves it.
type identity struct {
	name string // the client id, which is no secret
	// secret and subject are as in Config; one of them is set, unless the
	// tenant has a static token.
	secret, subject func() (string, error)
	// dpop says that its tokens are bound to the Source's key.
	dpop bool

	// accepted turns true when C1 has acted on a token of this identity.
	accepted atomic.Bool
	// last is the secret, or subject token, that got the last token; empty
	// before. It outlives the file that it was read from.
	last atomic.Pointer[string]
	// doubted says that C1 refused a token of this identity before it had ever
	// accepted one, and told what the log was last told about it. The Source's
	// mu guards both.
	doubted bool
	told    string
}

// read reads what proves the identity, now.
func (i *identity) read() (string, *failure) {
	if i.subject != nil {
		value, err := read(i.subject)
		if err != nil {
			return "", &failure{what: "the subject token cannot be read", cause: err, slow: true, own: true}
		}
		return value, nil
	}
	value, err := read(i.secret)
	if err != nil {
		return "", &failure{what: "the client secret cannot be read", cause: err, slow: true, own: true}
	}
	return value, nil
}

// before is what proved the identity the last time, if that is not value.
func (i *identity) before(value string) (string, bool) {
	last := i.last.Load()
	if last == nil || *last == value {
		return "", false
	}
	return *last, true
}

// keyID names the key in a secret, by its kid. It is no secret, and empty if
// there is none.
func keyID(secret string) string {
	if key, err := parseSecret(secret); err == nil && key != nil {
		return quotable(key.KeyID)
	}
	return ""
}

// quotable cuts a value to a length fit for a log line.
func quotable(s string) string { return s[:min(len(s), 100)] }

// order is in which order the identities are tried: the next one first, so
// that it is used as soon as it can be. One that C1's API has refused waits
// until another has got a token.
func (s *Source) order() []*identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.next == nil:
		return []*identity{s.main}
	case s.next.doubted:
		return []*identity{s.main, s.next}
	}
	return []*identity{s.next, s.main}
}

// complain logs what is wrong with an identity, or with its secret as it is
// now, while the tenant has a token all the same: once, until it changes.
func (s *Source) complain(id *identity, message string, f *failure) {
	s.mu.Lock()
	said := id.told == message+f.what
	id.told = message + f.what
	s.mu.Unlock()
	if said {
		return
	}
	attrs := append(append(s.cfg.owners(), slog.String("credential", id.name)), f.attributes()...)
	s.log.LogAttrs(s.ctx, slog.LevelWarn, message, attrs...)
}

// content forgets what was wrong with an identity.
func (s *Source) content(id *identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id.told = ""
}

// accept notes that C1 has acted on a token. The first of the next identity's
// is worth a line: from then on the other one is not needed.
func (s *Source) accept(id *identity) {
	if id.accepted.Load() || !id.accepted.CompareAndSwap(false, true) || id != s.next {
		return
	}
	s.log.LogAttrs(s.ctx, slog.LevelInfo, "the next credential works: write it in place of the old one",
		slog.String("tenant", s.cfg.Tenant), slog.String("credential", id.name), slog.String("old", s.main.name))
}
