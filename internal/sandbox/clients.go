package sandbox

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// secretPrefix begins a client secret of C1's whose rest is a JWK.
const secretPrefix = "secret-token:conductorone.com:v1:"

// A client is a service principal that may ask for tokens.
type client struct {
	id        string
	key       ed25519.PublicKey // verifies its assertions; nil if it makes none
	secret    string            // what it may send in the body; empty if none
	federated bool              // it exchanges subject tokens
	bound     bool              // it must prove possession of a key (DPoP)
}

// A registry holds the clients. It never changes.
type registry struct {
	host    string
	now     func() time.Time
	clients map[string]client // by id

	key, plain, federated, bound client            // of clients, by kind
	issuer                       *ecdsa.PrivateKey // of subject tokens
	replays                      *replays
}

// newRegistry makes a client of each kind, with the given credential for the
// one that has a key, if there is one.
func newRegistry(config Config, now func() time.Time) (*registry, error) {
	r := &registry{host: config.Host, now: now, replays: newReplays()}
	r.key = client{id: config.ClientID, secret: config.ClientSecret}
	if (r.key.id == "") != (r.key.secret == "") {
		return nil, errors.New("read Config: ClientID and ClientSecret go together")
	}
	if r.key.id == "" {
		secret, err := newSecret()
		if err != nil {
			return nil, err
		}
		r.key = client{id: clientID("clever-fox-42195", config.Host), secret: secret}
	}
	private, err := readSecret(r.key.secret)
	if err != nil {
		return nil, err
	}
	r.key.key, _ = private.Public().(ed25519.PublicKey)
	r.plain = client{id: clientID("patient-otter-10417", config.Host), secret: rand.Text()}
	r.federated = client{id: clientID("remote-heron-77310", config.Host), federated: true}
	if r.bound, err = newBound(config.Host); err != nil {
		return nil, err
	}
	if r.issuer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make issuer's key: %w", err)
	}
	r.clients = map[string]client{r.key.id: r.key, r.plain.id: r.plain, r.federated.id: r.federated, r.bound.id: r.bound}
	return r, nil
}

// newBound makes the client whose tokens are bound to a key of its user's.
func newBound(host string) (client, error) {
	secret, err := newSecret()
	if err != nil {
		return client{}, err
	}
	private, err := readSecret(secret)
	if err != nil {
		return client{}, err
	}
	public, _ := private.Public().(ed25519.PublicKey)
	return client{id: clientID("wary-badger-58213", host), secret: secret, key: public, bound: true}, nil
}

// clientID is <random-id>@<host>/<use-case>. The host has no port, also where
// the tenant's URL has one: so it is in C1's own ids.
func clientID(random, host string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]" // an IPv6 address, as a URL has it
	}
	return random + "@" + host + "/spc"
}

// newSecret makes a client secret that is a key.
func newSecret() (string, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return "", fmt.Errorf("make client's key: %w", err)
	}
	text, err := jose.JSONWebKey{Key: private}.MarshalJSON()
	if err != nil {
		return "", fmt.Errorf("write client's key: %w", err)
	}
	return secretPrefix + base64.RawURLEncoding.EncodeToString(text), nil
}

// readSecret returns the key in a secret of C1's. The error never holds any of it.
func readSecret(secret string) (ed25519.PrivateKey, error) {
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	var key jose.JSONWebKey
	if err != nil || !strings.HasPrefix(secret, secretPrefix) || key.UnmarshalJSON(text) != nil {
		return nil, errors.New("read client secret: it is not " + secretPrefix + "<base64url of a JWK>")
	}
	private, ok := key.Key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("read client secret: its JWK is no Ed25519 private key")
	}
	return private, nil
}

const (
	// subjectIssuer is who signs subject tokens here.
	subjectIssuer = "https://issuer.sandbox.example"
	// subject is the workload that they are about.
	subject = "system:serviceaccount:c1proxy:c1proxy"
)

// SubjectToken mints a token of the platform's, an OIDC JWT that the
// federation client may exchange until it expires. A negative lifetime makes
// one that has expired.
func (s *Sandbox) SubjectToken(lifetime time.Duration) (string, error) {
	now := s.now()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.clients.issuer}, nil)
	if err != nil {
		return "", fmt.Errorf("mint subject token: %w", err)
	}
	token, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: subjectIssuer, Subject: subject, Audience: jwt.Audience{s.config.Host}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(lifetime)),
		NotBefore: jwt.NewNumericDate(now.Add(min(lifetime, 0) - time.Minute)),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("mint subject token: %w", err)
	}
	return token, nil
}
