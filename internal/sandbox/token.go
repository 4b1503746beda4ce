package sandbox

import (
	"crypto/rand"
	"crypto/subtle"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
)

// The values of the token endpoint's parameters (RFC 6749, 7523 and 8693).
const (
	grantClientCredentials = "client_credentials"
	grantTokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange"
	assertionTypeJWT       = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	tokenTypeJWT           = "urn:ietf:params:oauth:token-type:jwt"
	tokenTypeAccess        = "urn:ietf:params:oauth:token-type:access_token"
)

// An oauthError is what the token endpoint refuses with (RFC 6749, section 5.2).
type oauthError struct {
	Status      int    `json:"-"`
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

// invalidRequest refuses a request that is malformed.
func invalidRequest(why string) *oauthError {
	return &oauthError{http.StatusBadRequest, "invalid_request", why}
}

// invalidClient refuses a credential. 401 is one of the two statuses that
// section 5.2 allows; which one C1 answers is not published.
func invalidClient(why string) *oauthError {
	return &oauthError{http.StatusUnauthorized, "invalid_client", why}
}

func (e *oauthError) answer() answer { return uncached(jsonAnswer(e.Status, e)) }

// uncached marks an answer of the token endpoint (RFC 6749, section 5.1).
func uncached(a answer) answer {
	a.header.Set("Cache-Control", "no-store")
	a.header.Set("Pragma", "no-cache")
	return a
}

// exchangeToken serves the token endpoint. It acts when it issues a token.
func (s *Sandbox) exchangeToken(r *http.Request, path string, body []byte) answer {
	form, failed := readForm(r, body)
	if failed == nil {
		failed = s.clients.authenticate(form)
	}
	var key string
	if failed == nil {
		key, failed = s.bind(r, path, form.Get("client_id"))
	}
	if failed != nil {
		a := failed.answer()
		if r.Header.Get("Authorization") != "" {
			a.header.Set("WWW-Authenticate", `Basic realm="c1"`)
		}
		return a
	}
	kind := "Bearer"
	if key != "" {
		kind = "DPoP"
	}
	response := map[string]any{
		"access_token": s.tokens.issue(key),
		"token_type":   kind,
		"expires_in":   int(s.config.TokenLifetime / time.Second),
	}
	if form.Get("grant_type") == grantTokenExchange {
		response["issued_token_type"] = tokenTypeAccess // RFC 8693, section 2.2.1
	}
	a := uncached(jsonAnswer(http.StatusOK, response))
	a.acted = true
	return a
}

// readForm reads the parameters, each at most once (RFC 6749, section 3.2).
// C1 takes credentials in the body alone, and so does this.
func readForm(r *http.Request, body []byte) (url.Values, *oauthError) {
	if r.Method != http.MethodPost {
		return nil, &oauthError{http.StatusMethodNotAllowed, "invalid_request", "the token endpoint serves POST"}
	}
	if _, ok := r.Header["Authorization"]; ok {
		return nil, invalidClient("credentials belong in the body, not in a header")
	}
	if r.URL.RawQuery != "" {
		return nil, invalidRequest("parameters belong in the body, not in the query")
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" {
		return nil, invalidRequest("Content-Type is not application/x-www-form-urlencoded")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalidRequest("the body is no form")
	}
	for name, values := range form {
		if len(values) > 1 {
			return nil, invalidRequest("parameter " + name + " is given more than once")
		}
	}
	return form, nil
}

// authenticate decides whether form proves to be by a client.
func (r *registry) authenticate(form url.Values) *oauthError {
	c, known := r.clients[form.Get("client_id")]
	switch form.Get("grant_type") {
	case grantClientCredentials:
		if !known {
			return invalidClient("client_id is not known")
		}
		return r.authenticateCredentials(c, form)
	case grantTokenExchange:
		if !known || !c.federated {
			return invalidClient("client_id is not that of a federation client")
		}
		if form.Get("subject_token_type") != tokenTypeJWT {
			return invalidRequest("subject_token_type is not " + tokenTypeJWT)
		}
		if err := r.verifySubject(form.Get("subject_token")); err != nil {
			return invalidRequest(err.Error()) // so RFC 8693, section 2.2.2
		}
		return nil
	case "":
		return invalidRequest("grant_type is missing")
	}
	return &oauthError{http.StatusBadRequest, "unsupported_grant_type", ""}
}

// authenticateCredentials checks a client's secret or its assertion: one of
// them, not both (RFC 6749, section 2.3).
func (r *registry) authenticateCredentials(c client, form url.Values) *oauthError {
	secret, assertion := form.Get("client_secret"), form.Get("client_assertion")
	switch {
	case secret != "" && assertion != "":
		return invalidRequest("client_secret and client_assertion exclude each other")
	case assertion != "" && form.Get("client_assertion_type") != assertionTypeJWT:
		return invalidRequest("client_assertion_type is not " + assertionTypeJWT)
	case assertion != "" && c.key == nil:
		return invalidClient("the client has no key")
	case assertion != "":
		if err := r.verifyAssertion(c, assertion); err != nil {
			return invalidClient(err.Error())
		}
		return nil
	case c.secret != "" && subtle.ConstantTimeCompare([]byte(secret), []byte(c.secret)) == 1:
		return nil
	}
	return invalidClient("client_secret is not the client's")
}

// tokens are the access tokens that are good.
type tokens struct {
	lifetime time.Duration
	now      func() time.Time
	static   string

	mu   sync.Mutex
	good map[string]grant
	next int // the size at which the expired are dropped
}

// A grant is what is known of a token.
type grant struct {
	end time.Time // until when it is good; the zero time is for ever
	key string    // the thumbprint of the key that it is bound to, or ""
}

func newTokens(lifetime time.Duration, now func() time.Time) *tokens {
	t := &tokens{lifetime: lifetime, now: now, static: "static-" + rand.Text(), next: 1024}
	t.good = map[string]grant{t.static: {}}
	return t
}

// issue returns a new token that nobody can guess, good for the lifetime, and
// bound to the key with a thumbprint if there is one.
func (t *tokens) issue(key string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.good) >= t.next {
		for token, g := range t.good {
			if !g.end.IsZero() && !now.Before(g.end) {
				delete(t.good, token)
			}
		}
		t.next = max(1024, 2*len(t.good))
	}
	token := rand.Text() + rand.Text()
	t.good[token] = grant{now.Add(t.lifetime), key}
	return token
}

// revokeAll makes every token unknown.
func (t *tokens) revokeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.good)
}

// authorize checks the one Authorization header of a call (RFC 6750, section
// 2.1, and RFC 9449, section 7.1), and returns the token with what is known of
// it; it refuses with UNAUTHENTICATED. A token that is bound is none for Bearer.
func (t *tokens) authorize(header http.Header) (string, grant, error) {
	values := header.Values("Authorization")
	if len(values) != 1 {
		return "", grant{}, refused(code.Code_UNAUTHENTICATED, "there are %d Authorization headers, not one", len(values))
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "DPoP") {
		return "", grant{}, refused(code.Code_UNAUTHENTICATED, "the Authorization header is no Bearer token")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	g, ok := t.good[token]
	switch {
	case !ok:
		return "", g, refused(code.Code_UNAUTHENTICATED, "the access token is not known")
	case !g.end.IsZero() && !t.now().Before(g.end):
		return "", g, refused(code.Code_UNAUTHENTICATED, "the access token has expired")
	case strings.EqualFold(scheme, "DPoP") != (g.key != ""):
		return "", g, refused(code.Code_UNAUTHENTICATED, "the access token is of another type than %s", scheme)
	}
	return token, g, nil
}
