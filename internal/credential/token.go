package credential

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// redacted is all that a Token ever prints.
const redacted = "[redacted]"

// A Token is an access token of one tenant. It is a small value, comparable,
// immutable and safe for concurrent use. In whatever way it is printed or
// marshalled, it reads [redacted].
//
// The zero Token authorizes nothing.
type Token struct{ issued *issued }

// issued is a token as it was obtained. Nothing in it changes.
//
// The value is behind two pointers: package fmt, which cannot call the methods
// of an unexported field, follows one if it is given a verb that does not fit.
type issued struct {
	header *[]string // the Authorization field, of length and capacity 1
	value  *[]byte   // the token alone
	origin *url.URL  // the tenant's base URL
	source *Source
	from   *identity // whose token it is
	key    string    // the kid of the key that it was got with, or ""
	// ath is the token's hash, for proofs; nil if the token is not bound.
	ath    *string
	expiry time.Time
	// until is when the token is last handed out: some time before expiry, for
	// the way to C1. It is zero for a token that does not expire.
	until time.Time
	// life is how long the token is good from when it was asked for.
	life time.Duration
}

// usable reports whether the token can be handed out. It allocates nothing.
func (i *issued) usable() bool {
	return i != nil && (i.until.IsZero() || time.Until(i.until) > 0)
}

func bytesOf(token string) *[]byte {
	value := []byte(token)
	return &value
}

// Authorize sets the Authorization field of a request to the token's tenant,
// and, if the token is bound to a key, a new DPoP proof for this very request:
// of its method, and its URL as it goes out, so that both must be final. A
// request that is sent again is authorized again.
//
// It returns an error, and sets nothing, if the request goes anywhere else.
func (t Token) Authorize(r *http.Request) error {
	if t.issued == nil {
		return fmt.Errorf("authorize request: no token")
	}
	if !sameOrigin(t.issued.origin, r.URL) {
		return fmt.Errorf("authorize request: the token is for %s, the request for %s", t.issued.origin.Host, r.URL.Host)
	}
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	if t.issued.ath != nil {
		prover := t.issued.source.prover
		if err := prover.prove(r, *t.issued.ath, &prover.api); err != nil {
			return fmt.Errorf("authorize request: %w", err)
		}
	}
	r.Header["Authorization"] = *t.issued.header
	return nil
}

// Authorization returns the value of the Authorization field, or "" for the
// zero Token. It is for requests to Host alone: prefer Authorize, which checks.
func (t Token) Authorization() string {
	if t.issued == nil {
		return ""
	}
	return (*t.issued.header)[0]
}

// minIn is the least length, in bytes, of a token that In looks for: a shorter
// one could stand anywhere by chance, and would be no secret.
const minIn = 16

// In tells whether the token stands in a text.
func (t Token) In(text []byte) bool {
	return t.issued != nil && len(*t.issued.value) >= minIn && bytes.Contains(text, *t.issued.value)
}

// Host returns the one host, with its port if it has one, that the token is
// for, or "" for the zero Token.
func (t Token) Host() string {
	if t.issued == nil {
		return ""
	}
	return t.issued.origin.Host
}

// Type returns "Bearer" (RFC 6750), or "DPoP" (RFC 9449) for a token that is
// bound to a key.
func (t Token) Type() string {
	if t.issued == nil || t.issued.ath == nil {
		return "Bearer"
	}
	return "DPoP"
}

// Credential names the credential that the token was got with: its client id,
// or "access_token" for a static one, or "" for the zero Token.
func (t Token) Credential() string {
	if t.issued == nil {
		return ""
	}
	return t.issued.from.name
}

// Expiry returns when C1 stops taking the token: zero if that is not known,
// as for a static token, and for the zero Token.
func (t Token) Expiry() time.Time {
	if t.issued == nil {
		return time.Time{}
	}
	return t.issued.expiry
}

// String returns "[redacted]".
func (t Token) String() string { return redacted }

// Format prints "[redacted]" for every verb and flag.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "[redacted]". JSON and others use it.
func (t Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "[redacted]".
func (t Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// sameOrigin reports whether two URLs have the same scheme, host and port
// (RFC 6454, section 4).
func sameOrigin(a, b *url.URL) bool {
	if a.Scheme == b.Scheme && a.Host == b.Host {
		return true
	}
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
}
