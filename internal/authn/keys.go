package authn

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
)

// warnBefore is how long before its end a key is warned of, each day.
const warnBefore = 14 * 24 * time.Hour

// A Credential is one API key that proves one principal.
type Credential struct {
	Hash      Hash
	Principal *principal.Principal
	// Expires is when the key ends to prove anything; zero for never.
	Expires time.Time
	// Label is what people call the key; "" is legal.
	Label string
}

// Keys knows the API keys. It is immutable and safe for concurrent use.
type Keys struct {
	byPrefix map[uint64][]Credential
}

// NewKeys returns the Keys that hold the credentials. Two with one hash are
// an error: a key proves one principal.
func NewKeys(credentials []Credential) (*Keys, error) {
	keys := &Keys{byPrefix: make(map[uint64][]Credential, len(credentials))}
	for _, c := range credentials {
		if known := keys.find(c.Hash); known != nil {
			return nil, fmt.Errorf("add API key %s: it belongs to %s/%s already", c.Hash.ID(), known.Principal.Team, known.Principal.Caller)
		}
		keys.byPrefix[c.Hash.prefix()] = append(keys.byPrefix[c.Hash.prefix()], c)
	}
	return keys, nil
}

func (h Hash) prefix() uint64 { return binary.BigEndian.Uint64(h[:]) }

// find looks a hash up. The candidates are found by a part of the hash of
// what was sent, which tells a guesser nothing about a key, and are compared
// in constant time.
func (k *Keys) find(hash Hash) *Credential {
	candidates := k.byPrefix[hash.prefix()]
	for i := range candidates {
		if subtle.ConstantTimeCompare(candidates[i].Hash[:], hash[:]) == 1 {
			return &candidates[i]
		}
	}
	return nil
}

// prove says whose key has the hash.
func (k *Keys) prove(hash Hash, now time.Time) (proven, error) {
	c := k.find(hash)
	if c == nil {
		return proven{}, refuse(fault.Unauthenticated, "unknown", "the API key is not known here, or has been revoked")
	}
	if !c.Expires.IsZero() && !now.Before(c.Expires) {
		return proven{}, refuse(fault.Unauthenticated, "expired", "the API key %s expired at %s: ask for a new one",
			c.name(), c.Expires.UTC().Format(time.RFC3339))
	}
	return proven{credential: c.Principal.Credential, callers: []*principal.Principal{c.Principal}}, nil
}

// name is what a key is called: by its hash, and by its label if it has one.
func (c *Credential) name() string {
	if c.Label == "" {
		return c.Hash.ID()
	}
	return c.Hash.ID() + " (" + c.Label + ")"
}

// warn logs, at once and then each day, which keys have expired or soon will.
func (k *Keys) warn(ctx context.Context, logger *slog.Logger) {
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		for _, credentials := range k.byPrefix {
			for _, c := range credentials {
				c.warn(logger, time.Now())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-day.C:
		}
	}
}

func (c *Credential) warn(logger *slog.Logger, now time.Time) {
	left := c.Expires.Sub(now)
	if c.Expires.IsZero() || left > warnBefore {
		return
	}
	text := "an API key expires soon: make a new one, and let both live until it is in use"
	if left <= 0 {
		text = "an API key has expired and is refused: remove it from the configuration"
	}
	logger.Warn(text, "team", c.Principal.Team, "caller", c.Principal.Caller, "key", c.Hash.ID(), "label", c.Label,
		"expires", c.Expires.UTC().Format(time.RFC3339))
}
