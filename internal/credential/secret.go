package credential

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// The life of a client assertion, which C1 allows 5 minutes at most. It holds
// from some time before it was made, for hosts whose clock is ahead of C1's.
const (
	assertionLife = 2 * time.Minute
	assertionBack = 2 * time.Minute
)

// parseSecret returns the private key inside a C1 client secret, or nil if the
// secret is an opaque one, which is sent as it is.
//
// A secret with a key reads secret-token:conductorone.com:v1:<base64url(JWK)>.
// A JWK that is not an Ed25519 private key, or not all of one, is an error, so
// that no private key is ever sent. The error does not quote the secret.
func parseSecret(secret string) (*jose.JSONWebKey, error) {
	parts := strings.SplitN(secret, ":", 4)
	if len(parts) != 4 || parts[0] != "secret-token" || parts[2] != "v1" {
		return nil, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[3], "="))
	var jwk struct{ Kty string }
	if err != nil || json.Unmarshal(data, &jwk) != nil || jwk.Kty == "" {
		if cutKey(parts[3]) {
			return nil, errors.New("read client secret: its JWK is not whole")
		}
		return nil, nil
	}
	key := new(jose.JSONWebKey)
	if key.UnmarshalJSON(data) == nil && key.Valid() {
		if _, ok := key.Key.(ed25519.PrivateKey); ok {
			return key, nil
		}
	}
	return nil, errors.New("read client secret: its JWK is not an Ed25519 private key")
}

// cutKey reports whether the fourth part of a secret, which is no whole JWK, is
// the beginning of one: a file that is being written. It has the key in it, or
// a part of it.
func cutKey(part string) bool {
	data, _ := base64.RawURLEncoding.DecodeString(part[:len(part)/4*4])
	return strings.HasPrefix(strings.TrimSpace(string(data)), "{")
}

// sign returns a client assertion (RFC 7523, section 3) for one exchange: an
// EdDSA JWT of the client, for the token endpoint's host without its port. It
// is different each time: C1's own clients send a nonce, RFC 7523 has a jti.
func sign(key *jose.JSONWebKey, clientID, audience string, now time.Time) (string, error) {
	options := (&jose.SignerOptions{NonceSource: nonces{}}).WithType("JWT")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, options)
	if err != nil {
		return "", fmt.Errorf("sign client assertion: %w", err)
	}
	assertion, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer:    clientID,
		Subject:   clientID,
		Audience:  jwt.Audience{audience},
		IssuedAt:  jwt.NewNumericDate(now),
		NotBefore: jwt.NewNumericDate(now.Add(-assertionBack)),
		Expiry:    jwt.NewNumericDate(now.Add(assertionLife)),
		ID:        rand.Text(),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign client assertion: %w", err)
	}
	return assertion, nil
}

// nonces are random, of 128 bits or more.
type nonces struct{}

// Nonce implements jose.NonceSource.
func (nonces) Nonce() (string, error) { return rand.Text(), nil }
