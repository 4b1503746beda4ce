package authn

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/c1proxy/c1proxy/internal/fault"
)

const (
	// maxDocument bounds what is read of an issuer's document, in bytes, and
	// maxKeys how many keys it may have.
	maxDocument, maxKeys = 512 << 10, 256
	// minRSA is the shortest RSA key, in bits (RFC 7518, section 3.3).
	minRSA = 2048
)

// published is what is used of what an issuer publishes: its keys by their ids, and
// where its tokens are had, "" where that does not say so well.
type published struct {
	keys          map[string]jose.JSONWebKey
	tokenEndpoint string
}

// fetch returns what the issuer publishes, as its discovery document says where it
// is (OpenID Connect Discovery 1.0, section 4). No error holds what the issuer has
// sent.
func (i *Issuer) fetch(ctx context.Context) (found published, err error) {
	var discovery struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
		Tokens any    `json:"token_endpoint"` // a text, and if not, no reason to refuse the keys
	}
	if err := i.read(ctx, strings.TrimSuffix(i.cfg.URL, "/")+"/.well-known/openid-configuration", &discovery); err != nil {
		return found, fmt.Errorf("read discovery document: %w", err)
	}
	if discovery.Issuer != i.cfg.URL {
		return found, errors.New("read discovery document: it is of another issuer: url must be letter by letter what it says")
	}
	if !i.leads(discovery.Keys) {
		return found, errors.New("read discovery document: its jwks_uri is not an https URL")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := i.read(ctx, discovery.Keys, &set); err != nil {
		return found, fmt.Errorf("read keys: %w", err)
	}
	if set.Keys == nil || len(set.Keys) > maxKeys {
		return found, fmt.Errorf("read keys: there are none, or more than %d", maxKeys)
	}
	found.keys = usableKeys(set.Keys)
	if at, ok := discovery.Tokens.(string); ok && i.leads(at) {
		found.tokenEndpoint = at
	}
	return found, nil
}

// leads tells whether a text of the issuer's is a URL that may be used.
func (i *Issuer) leads(to string) bool {
	at, err := url.Parse(to)
	return err == nil && at.Host != "" && at.User == nil && (at.Scheme == "https" || at.Scheme == "http" && i.cfg.AllowInsecure)
}

// read gets a JSON document. A redirect is not followed.
func (i *Issuer) read(ctx context.Context, at string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return errors.New("its address is no URL")
	}
	request.Header.Set("Accept", "application/json")
	response, err := i.client.Do(request)
	if err != nil {
		return fault.Speakable(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the issuer answered %d", response.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	switch {
	case err != nil:
		return fault.Speakable(err)
	case len(data) > maxDocument:
		return fmt.Errorf("it is longer than %d KiB", maxDocument>>10)
	case json.Unmarshal(data, into) != nil:
		return errors.New("it does not read as JSON")
	}
	return nil
}

// usableKeys are the public keys for signatures that have an id, by it. What
// else an issuer publishes is left out, and so is an id that stands for several
// keys: it names none.
func usableKeys(raw []json.RawMessage) map[string]jose.JSONWebKey {
	keys, times := make(map[string]jose.JSONWebKey), make(map[string]int)
	for _, data := range raw {
		var key jose.JSONWebKey
		if err := json.Unmarshal(data, &key); err != nil || key.KeyID == "" {
			continue
		}
		times[key.KeyID]++
		if usableKey(key) {
			keys[key.KeyID] = key
		}
	}
	for id, n := range times {
		if n > 1 {
			delete(keys, id)
		}
	}
	return keys
}

func usableKey(key jose.JSONWebKey) bool {
	if short, ok := key.Key.(*rsa.PublicKey); ok && short.N.BitLen() < minRSA {
		return false
	}
	return key.Valid() && key.IsPublic() && (key.Use == "" || key.Use == "sig")
}
