package credential

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// proofField carries a proof, and nonceField the nonce that the next proof
	// is to have (RFC 9449, sections 4.1 and 8).
	proofField = "Dpop"
	nonceField = "Dpop-Nonce"
	// useNonce is the error by which a server asks for a nonce.
	useNonce = "use_dpop_nonce"
	// badProof is the error by which it refuses a proof.
	badProof = "invalid_dpop_proof"
	// maxNonce bounds a nonce, in bytes: it goes into every request.
	maxNonce = 1 << 10
)

// A prover proves possession of a key (RFC 9449). The key is made when the
// Source is, and is nowhere but in memory. It is safe for concurrent use.
type prover struct {
	signer jose.Signer
	// token and api remember the nonces of the two servers that C1 is: the
	// token endpoint's are none for the API, and the other way round.
	token, api atomic.Pointer[string]
}

// newProver makes a key for ES256, which RFC 9449's own examples use.
func newProver() (*prover, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make DPoP key: %w", err)
	}
	options := (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, options)
	if err != nil {
		return nil, fmt.Errorf("make DPoP key: %w", err)
	}
	return &prover{signer: signer}, nil
}

// proofClaims are the claims of a proof (RFC 9449, section 4.2).
type proofClaims struct {
	ID        string `json:"jti"`
	Method    string `json:"htm"`
	URI       string `json:"htu"`
	IssuedAt  int64  `json:"iat"`
	TokenHash string `json:"ath,omitempty"`
	Nonce     string `json:"nonce,omitempty"`
}

// prove sets the proof of a request; ath is the hash of the access token that
// goes with it, or "".
func (p *prover) prove(r *http.Request, ath string, nonce *atomic.Pointer[string]) error {
	claims := proofClaims{ID: rand.Text(), Method: r.Method, URI: target(r), IssuedAt: time.Now().Unix(), TokenHash: ath}
	if n := nonce.Load(); n != nil {
		claims.Nonce = *n
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return fmt.Errorf("sign DPoP proof: %w", err)
	}
	signed, err := p.signer.Sign(payload)
	if err != nil {
		return fmt.Errorf("sign DPoP proof: %w", err)
	}
	proof, err := signed.CompactSerialize()
	if err != nil {
		return fmt.Errorf("sign DPoP proof: %w", err)
	}
	r.Header[proofField] = []string{proof}
	return nil
}

// target is the URI of a request as its server sees it, byte for byte, without
// query and fragment (RFC 9449, section 4.2).
func target(r *http.Request) string {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	path := r.URL.Opaque
	if !strings.HasPrefix(path, "/") {
		path = r.URL.EscapedPath()
	}
	if path == "" {
		path = "/"
	}
	return r.URL.Scheme + "://" + host + path
}

// hash is the ath of an access token (RFC 9449, section 4.2).
func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// remember keeps the nonce of an answer, if it has one that can stand in a
// proof: NQCHAR of RFC 6749, appendix A. It reports whether there was one.
func remember(header http.Header, nonce *atomic.Pointer[string]) bool {
	values := header[nonceField]
	if len(values) != 1 || values[0] == "" || len(values[0]) > maxNonce {
		return false
	}
	value := strings.Clone(values[0])
	for _, c := range []byte(value) {
		if c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	if last := nonce.Load(); last == nil || *last != value {
		nonce.Store(&value)
	}
	return true
}

// challenge is a WWW-Authenticate field that asks for a nonce and no more
// (RFC 9449, section 9). It may stand behind challenges of other schemes.
var challenge = regexp.MustCompile(`(?i)(^|[\s,])dpop\s(|.*[\s,])error\s*=\s*"?` + useNonce + `("|[\s,]|$)`)

// challenged reports whether a 401 only asks for a nonce.
func challenged(status int, header http.Header) bool {
	if status != http.StatusUnauthorized {
		return false
	}
	for _, value := range header["Www-Authenticate"] {
		if challenge.MatchString(value) {
			return true
		}
	}
	return false
}

// Answered tells of C1's answer to a request that t authorized: any answer,
// before anything is made of it. It keeps the nonce that the next proofs are
// to have, and notes a success of the credential.
//
// It reports true if C1 refused the request for the want of a nonce, which it
// gave, and for no other reason. C1 has not looked at the token: it is good,
// and the same request, authorized anew, is worth one more try.
func (t Token) Answered(status int, header http.Header) (again bool) {
	if t.issued == nil {
		return false
	}
	if status/100 == 2 {
		t.issued.source.accept(t.issued.from)
	}
	if t.issued.ath == nil {
		return false
	}
	return remember(header, &t.issued.source.prover.api) && challenged(status, header)
}
