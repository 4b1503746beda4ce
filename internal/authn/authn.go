// Package authn turns an HTTP request into a Principal, or says why it cannot.
package authn

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/principal"
)

// maxAuthorization bounds an Authorization header before it is looked into.
const maxAuthorization = 8 << 10

// A Credential is one API key that proves one principal.
type Credential struct {
	Hash      Hash
	Principal *principal.Principal
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
			return nil, fmt.Errorf("add API key %s: it belongs to %s/%s already", c.Hash.ID(), known.Team, known.Caller)
		}
		keys.byPrefix[c.Hash.prefix()] = append(keys.byPrefix[c.Hash.prefix()], c)
	}
	return keys, nil
}

func (h Hash) prefix() uint64 { return binary.BigEndian.Uint64(h[:]) }

// find looks a hash up. The candidates are found by a part of the hash of
// what was sent, which tells a guesser nothing about a key, and are compared
// in constant time.
func (k *Keys) find(hash Hash) *principal.Principal {
	for _, c := range k.byPrefix[hash.prefix()] {
		if subtle.ConstantTimeCompare(c.Hash[:], hash[:]) == 1 {
			return c.Principal
		}
	}
	return nil
}

// Authenticate returns who sent the request. The proof is the only
// Authorization header, "Bearer" and an API key (RFC 6750, section 2.1):
// nothing in the query, a cookie or another header is ever one. The error is
// a *fault.Fault with connect.CodeUnauthenticated.
func (k *Keys) Authenticate(request *http.Request) (*principal.Principal, error) {
	values := request.Header["Authorization"]
	switch {
	case len(values) == 0:
		return nil, refuse(fault.Unauthenticated, "no credential was given: send \"Authorization: Bearer %s...\"", KeyPrefix)
	case len(values) > 1:
		return nil, refuse(fault.AmbiguousCredentials, "%d Authorization headers were given: send exactly one", len(values))
	case len(values[0]) > maxAuthorization:
		return nil, refuse(fault.Unauthenticated, "the Authorization header is longer than %d bytes", maxAuthorization)
	}
	scheme, key, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, refuse(fault.Unauthenticated, "the Authorization header's scheme is not Bearer")
	}
	key = strings.TrimSpace(key)
	if err := checkKey(key); err != nil {
		return nil, refuse(fault.Unauthenticated, "%v", err)
	}
	who := k.find(HashKey(key))
	if who == nil {
		return nil, refuse(fault.Unauthenticated, "the API key is not known here, or has been revoked")
	}
	return who, nil
}

func refuse(reason fault.Reason, format string, args ...any) error {
	return fault.New(connect.CodeUnauthenticated, reason, format, args...)
}
