package sandbox

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/genproto/googleapis/rpc/code"
)

const (
	// proofAge is how long ago a proof may have been made. How far C1 goes is
	// not published; RFC 9449, section 11.1, asks for seconds or minutes.
	proofAge = time.Minute
	// maxProof bounds a proof, in bytes.
	maxProof = 8 << 10
)

// errNonce is what a proof is refused with that is sound but for its nonce.
var errNonce = errors.New("the proof has not the nonce that it should have")

// A proofError is what is wrong with a proof.
type proofError string

// Error says it to the client.
func (e proofError) Error() string { return "check DPoP proof: " + string(e) }

// A proof is what one says (RFC 9449, section 4.2). Unknown claims are ignored.
type proof struct {
	ID        *string      `json:"jti"`
	Method    *string      `json:"htm"`
	URI       *string      `json:"htu"`
	IssuedAt  *json.Number `json:"iat"`
	TokenHash *string      `json:"ath"`
	Nonce     *string      `json:"nonce"`
}

// bind checks the proof of a token request, and returns the thumbprint of its
// key: empty if there is none, which only some clients may do without.
func (s *Sandbox) bind(r *http.Request, path, clientID string) (string, *oauthError) {
	if len(r.Header["Dpop"]) == 0 && !s.clients.clients[clientID].bound {
		return "", nil
	}
	key, err := s.verifyProof(r, path, "", atTokens)
	switch {
	case errors.Is(err, errNonce):
		return "", &oauthError{http.StatusBadRequest, "use_dpop_nonce", err.Error()} // section 8
	case err != nil:
		return "", &oauthError{http.StatusBadRequest, "invalid_dpop_proof", err.Error()} // section 5
	}
	return key, nil
}

// authorize checks the token of a call, and its proof if it is bound. With an
// error it returns the challenge that goes with it (RFC 9449, section 7.1).
func (s *Sandbox) authorize(r *http.Request, path string) (challenge string, err error) {
	token, grant, err := s.tokens.authorize(r.Header)
	if err != nil {
		if grant.key != "" {
			return `DPoP realm="c1", algs="ES256 EdDSA", error="invalid_token"`, err
		}
		return `Bearer realm="c1"`, err
	}
	if grant.key == "" {
		return "", nil
	}
	key, err := s.verifyProof(r, path, token, atAPI)
	switch {
	case errors.Is(err, errNonce):
		return `Bearer realm="c1", DPoP realm="c1", algs="ES256 EdDSA", error="use_dpop_nonce", error_description="a nonce is required"`,
			refused(code.Code_UNAUTHENTICATED, "%v", err)
	case err == nil && key != grant.key:
		err = proofError("its key is not the one that the token is bound to")
	}
	if err != nil {
		return `DPoP realm="c1", algs="ES256 EdDSA", error="invalid_dpop_proof"`, refused(code.Code_UNAUTHENTICATED, "%v", err)
	}
	return "", nil
}

// verifyProof checks the one proof of a request in every point of RFC 9449,
// section 4.3, and returns the thumbprint of its key. path is as it came. token
// is the access token beside it; empty at the token endpoint.
func (s *Sandbox) verifyProof(r *http.Request, path, token string, at place) (thumbprint string, err error) {
	values := r.Header["Dpop"]
	if len(values) != 1 || len(values[0]) > maxProof {
		return "", proofError(fmt.Sprintf("there are %d DPoP headers, not one of at most 8 KiB", len(values)))
	}
	payload, thumbprint, err := openProof(values[0])
	if err != nil {
		return "", err
	}
	var p proof
	if json.Unmarshal(payload, &p) != nil || p.ID == nil || p.Method == nil || p.URI == nil || p.IssuedAt == nil || *p.ID == "" {
		return "", proofError("one of jti, htm, htu and iat is missing, or of another type")
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	if *p.Method != r.Method {
		return "", proofError("htm is not the request's method")
	}
	if want := scheme + "://" + r.Host + path; *p.URI != want {
		return "", proofError(fmt.Sprintf("htu is not %s", want))
	}
	if err := s.checkAge(*p.IssuedAt); err != nil {
		return "", err
	}
	if err := checkHash(p.TokenHash, token); err != nil {
		return "", err
	}
	if !s.clients.replays.first("proof "+thumbprint+" "+*p.ID, s.now().Add(proofAge+maxClockSkew), s.now()) {
		return "", proofError("its jti was used before")
	}
	if !s.nonces.good(p.Nonce, at) {
		return "", errNonce
	}
	return thumbprint, nil
}

// openProof verifies a proof's signature with the key that is in its header.
func openProof(text string) (payload []byte, thumbprint string, err error) {
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
	if err != nil {
		return nil, "", proofError("it is no JWT signed with ES256 or EdDSA")
	}
	header := jws.Signatures[0].Protected
	if header.ExtraHeaders[jose.HeaderType] != "dpop+jwt" {
		return nil, "", proofError("typ is not dpop+jwt")
	}
	key := header.JSONWebKey
	if key == nil || !key.Valid() || !key.IsPublic() {
		return nil, "", proofError("its header has no public key")
	}
	if payload, err = jws.Verify(key); err != nil {
		return nil, "", proofError("the signature is not by the key in its header")
	}
	sum, err := key.Thumbprint(crypto.SHA256) // RFC 7638
	if err != nil {
		return nil, "", proofError("its key has no thumbprint")
	}
	return payload, base64.RawURLEncoding.EncodeToString(sum), nil
}

// checkAge refuses a proof of another time than about now.
func (s *Sandbox) checkAge(issued json.Number) error {
	seconds, err := issued.Int64()
	if err != nil {
		return proofError("iat is no whole number of seconds")
	}
	switch age := s.now().Sub(time.Unix(seconds, 0)); {
	case age > proofAge:
		return proofError(fmt.Sprintf("iat is %s ago", age.Round(time.Second)))
	case age < -maxClockSkew:
		return proofError("iat is in the future")
	}
	return nil
}

// checkHash refuses a proof that is not for the token, or, without one, is for
// any.
func checkHash(ath *string, token string) error {
	if token == "" {
		if ath != nil {
			return proofError("ath has no place in a token request")
		}
		return nil
	}
	sum := sha256.Sum256([]byte(token))
	if ath == nil || *ath != base64.RawURLEncoding.EncodeToString(sum[:]) {
		return proofError("ath is not the hash of the access token")
	}
	return nil
}

// A place is one of the two servers that want nonces of their own.
type place int

const (
	atTokens place = iota
	atAPI
	places // their number
)

// nonces are those that proofs must have now, if they must have any.
type nonces struct {
	mu      sync.Mutex
	current [places]string // empty: none is wanted
}

// DemandNonces makes proofs need a nonce, one at the token endpoint and another
// in calls of the API. Each answer tells the next one (RFC 9449, sections 8 and
// 9). Called again it makes new ones, and those before are refused at once.
func (s *Sandbox) DemandNonces() {
	s.nonces.mu.Lock()
	defer s.nonces.mu.Unlock()
	for at := range s.nonces.current {
		s.nonces.current[at] = rand.Text()
	}
}

// good reports whether a proof's nonce is the one that is wanted there.
func (n *nonces) good(nonce *string, at place) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	want := n.current[at]
	return want == "" || nonce != nil && *nonce == want
}

// stamp tells the nonce that is wanted, if one is.
func (n *nonces) stamp(a answer, at place) answer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if nonce := n.current[at]; nonce != "" {
		a.header.Set("DPoP-Nonce", nonce)
	}
	return a
}
