package credential

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	// tokenPath is the token endpoint below the tenant's URL.
	tokenPath = "/auth/v1/token"
	// maxAnswer bounds the token endpoint's answer, in bytes, decompressed.
	maxAnswer = 64 << 10
	// maxValue bounds a token or secret, in bytes.
	maxValue = 16 << 10
	// defaultLife is how long a token is used whose answer has no expires_in,
	// which RFC 6749, section 5.1, only recommends.
	defaultLife = 5 * time.Minute
	// maxLife is how long any token is used, whatever its answer says.
	maxLife = 24 * time.Hour
)

// The OAuth terms that C1's token endpoint takes.
const (
	grantExchange   = "urn:ietf:params:oauth:grant-type:token-exchange"        // RFC 8693
	typeJWT         = "urn:ietf:params:oauth:token-type:jwt"                   // RFC 8693, section 3
	assertionBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523, section 2.2
)

// exchange gets one token: with one POST as a rule, or from the static token's
// source. It takes as long as ctx allows. What is wrong with one identity makes
// it try the other; what is wrong with the endpoint does not.
func (s *Source) exchange(ctx context.Context) (*issued, *failure) {
	if s.cfg.AccessToken != nil {
		return s.observed(ctx, s.main, s.static)
	}
	var failed *failure
	var useless *identity
	for _, id := range s.order() {
		token, f := s.obtain(ctx, id)
		switch {
		case f == nil && useless != nil:
			s.complain(useless, "one of two credentials is of no use: the other one serves", failed)
			return token, nil
		case f == nil || !f.own || ctx.Err() != nil:
			return token, f
		}
		failed, useless = f, id
	}
	return nil, failed
}

// obtain gets a token for one identity: with its secret as it is now, or, if
// that is of no use, with the one that it last had a token for. A file that is
// half written, or holds something else, stops nobody.
func (s *Source) obtain(ctx context.Context, id *identity) (*issued, *failure) {
	value, failed := id.read()
	token, failed := s.observed(ctx, id, func() (*issued, *failure) {
		if failed != nil {
			return nil, failed
		}
		return s.ask(ctx, id, value)
	})
	if failed == nil {
		id.last.Store(&value)
		s.content(id)
		return token, nil
	}
	before, ok := id.before(value)
	if !failed.own || !ok {
		return nil, failed
	}
	token, f := s.observed(ctx, id, func() (*issued, *failure) { return s.ask(ctx, id, before) })
	switch {
	case f == nil:
		s.complain(id, "the secret as it is now is of no use: the one before it serves", failed)
		return token, nil
	case !f.own:
		return nil, f
	}
	return nil, failed
}

// observed tells the metrics what became of an exchange, unless nobody waited
// for its end.
func (s *Source) observed(ctx context.Context, id *identity, exchange func() (*issued, *failure)) (*issued, *failure) {
	begun := time.Now()
	token, f := exchange()
	if s.cfg.Observe != nil && !errors.Is(ctx.Err(), context.Canceled) {
		s.cfg.Observe(id.name, f.outcome(), time.Since(begun))
	}
	return token, f
}

// ask asks the token endpoint, once. If it wants to see a nonce in the proof,
// it is asked once more, with all of the request made anew: an assertion is
// good for one.
func (s *Source) ask(ctx context.Context, id *identity, secret string) (*issued, *failure) {
	for again := true; ; again = false {
		asked := time.Now()
		form, f := s.form(id, secret, asked)
		if f != nil {
			return nil, f
		}
		rec := &recorder{base: s.transport}
		if id.dpop {
			rec.prover = s.prover
		}
		token, err := form.Token(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: rec, CheckRedirect: noRedirect}))
		if rec.status != 0 {
			s.skew.Store(int64(rec.skew))
		}
		if err == nil {
			return s.issue(id, secret, token, asked)
		}
		f = rec.failure(ctx, err)
		switch {
		case !id.dpop && (f.code == useNonce || f.code == badProof):
			return nil, f.unbound()
		case f.code != useNonce || !rec.nonce || !again:
			return nil, f
		}
	}
}

// static reads the static token. A token that C1 has just refused is told to
// be so once: it is not worth another call before it has been given time.
func (s *Source) static() (*issued, *failure) {
	value, err := read(s.cfg.AccessToken)
	if err != nil {
		return nil, &failure{what: "the access token cannot be read", cause: err, slow: true}
	}
	if !bearer(value) {
		return nil, &failure{what: "the access token is not one: it has other characters", slow: true}
	}
	t := &issued{header: &[]string{"Bearer " + value}, value: bytesOf(value), origin: s.cfg.URL, source: s, from: s.main}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.refused; old != nil {
		s.refused = nil
		if (*old.header)[0] == (*t.header)[0] {
			return nil, &failure{rejected: true, what: "C1 refuses the static access token: replace it", retryAfter: maxHold}
		}
	}
	return t, nil
}

// form says how an exchange is made with a secret, or a subject token.
func (s *Source) form(id *identity, secret string, now time.Time) (*clientcredentials.Config, *failure) {
	form := &clientcredentials.Config{
		ClientID:  id.name,
		TokenURL:  s.cfg.URL.JoinPath(tokenPath).String(),
		AuthStyle: oauth2.AuthStyleInParams,
	}
	if id.subject != nil {
		form.EndpointParams = url.Values{
			"grant_type":         {grantExchange}, // clientcredentials lets this one be replaced
			"subject_token":      {secret},
			"subject_token_type": {typeJWT},
		}
		return form, nil
	}
	key, err := parseSecret(secret)
	if err != nil {
		return nil, &failure{what: "the client secret cannot be used", cause: err, slow: true, own: true}
	}
	if key == nil {
		form.ClientSecret = secret
		return form, nil
	}
	assertion, err := sign(key, id.name, s.cfg.URL.Hostname(), now)
	if err != nil {
		return nil, &failure{what: "the client secret cannot be used", cause: err, slow: true, own: true}
	}
	form.EndpointParams = url.Values{"client_assertion_type": {assertionBearer}, "client_assertion": {assertion}}
	return form, nil
}

// issue checks what the endpoint gave. The token's life counts from when it
// was asked for, so that a slow answer shortens it. A token that is not bound
// although a proof was given is refused (RFC 9449, section 5): whoever copied
// it could use it.
func (s *Source) issue(id *identity, secret string, token *oauth2.Token, asked time.Time) (*issued, *failure) {
	scheme := "Bearer"
	if id.dpop {
		scheme = "DPoP"
	}
	switch kind := token.Type(); {
	case !id.dpop && strings.EqualFold(token.TokenType, "DPoP"):
		return nil, (&failure{}).unbound()
	case id.dpop && strings.EqualFold(kind, "Bearer"):
		return nil, &failure{what: "C1 does not bind the credential's tokens to a key (DPoP, RFC 9449): " +
			"require it of the credential in C1, or remove dpop: true", slow: true, own: true}
	case !strings.EqualFold(kind, scheme):
		return nil, &failure{what: "the token endpoint gives tokens of another type than Bearer", slow: true}
	case !bearer(token.AccessToken):
		return nil, &failure{what: "the token endpoint's answer has no usable token", slow: true}
	}
	life, ok := lifetime(token.Extra("expires_in"))
	if !ok {
		return nil, &failure{what: "the token endpoint gives tokens that have expired already", slow: true}
	}
	expiry := asked.Add(life)
	t := &issued{
		header: &[]string{scheme + " " + token.AccessToken},
		value:  bytesOf(token.AccessToken),
		origin: s.cfg.URL,
		source: s,
		from:   id,
		key:    keyID(secret),
		expiry: expiry,
		until:  expiry.Add(-min(10*time.Second, life/10)),
		life:   life,
	}
	if id.dpop {
		ath := hash(token.AccessToken)
		t.ath = &ath
	}
	return t, nil
}

// lifetime reads expires_in as oauth2 leaves it: a number, a number in a
// string, or nothing. Nothing, or what is no finite number, is defaultLife;
// more than maxLife is cut to it; 0 and less are no life at all. (oauth2 itself
// refuses an answer in JSON whose expires_in is not a whole number.)
func lifetime(expiresIn any) (time.Duration, bool) {
	var seconds float64
	switch v := expiresIn.(type) {
	case float64:
		seconds = v
	case int64:
		seconds = float64(v)
	case string:
		n, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return defaultLife, true
		}
		seconds = n
	default:
		return defaultLife, true
	}
	switch {
	case math.IsNaN(seconds) || math.IsInf(seconds, 0):
		return defaultLife, true
	case seconds <= 0:
		return 0, false
	}
	return time.Duration(min(seconds, maxLife.Seconds()) * float64(time.Second)), true
}

// read calls the source of a secret and trims what files have around it. Its
// error never has the secret in it if the source's own has not.
func read(source func() (string, error)) (string, error) {
	value, err := source()
	if err != nil {
		return "", err
	}
	value = strings.TrimSpace(value)
	if value == "" {
		return "", errors.New("it is empty")
	}
	if len(value) > maxValue {
		return "", errors.New("it is longer than 16 KiB")
	}
	return value, nil
}

// bearer reports whether a token can stand in an Authorization field. It is
// laxer than the b64token of RFC 6750, section 2.1: any visible ASCII.
func bearer(token string) bool {
	other := func(c byte) bool { return c <= ' ' || c > '~' }
	return token != "" && len(token) <= maxValue && !slices.ContainsFunc([]byte(token), other)
}

// noRedirect leaves every redirect as an answer: its body is a credential, and
// 307 and 308 would send it on to wherever they say.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// A recorder makes one exchange's request, bounds the answer, and keeps what
// oauth2 does not tell: the status and fields even of an unreadable answer.
type recorder struct {
	base   http.RoundTripper
	prover *prover // nil: the credential needs no proof
	status int     // 0: there was no answer
	header http.Header
	skew   time.Duration
	nonce  bool // there was one for the next proof
}

// RoundTrip implements http.RoundTripper. Each exchange has a connection of
// its own, so that a stalled one never holds the next, and nothing is resent.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Close = true
	req.GetBody = nil
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "c1proxy")
	if r.prover != nil {
		if err := r.prover.prove(req, "", &r.prover.token); err != nil {
			return nil, err
		}
	}
	resp, err := r.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	r.status, r.header, r.skew = resp.StatusCode, resp.Header, skew(resp.Header, time.Now())
	r.nonce = r.prover != nil && remember(resp.Header, &r.prover.token)
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	return resp, nil
}
