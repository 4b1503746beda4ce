package config

import (
	"errors"
	"fmt"
	"strings"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

// The environment variables of C1's own tools. The token and secret variables
// are only looked at for being set: their values are read by ReadSecret.
const (
	envAccessToken  = "CONDUCTORONE_ACCESS_TOKEN"
	envOIDCToken    = "CONDUCTORONE_OIDC_TOKEN"
	envClientID     = "CONDUCTORONE_CLIENT_ID"
	envClientSecret = "CONDUCTORONE_CLIENT_SECRET"
	envTenantDomain = "CONDUCTORONE_TENANT_DOMAIN"
	envServerURL    = "CONDUCTORONE_SERVER_URL"
)

// FromEnvironment makes a tenant named default of the variables that C1's own
// tools read, in their order: an access token; an OIDC token with a client id;
// a client id with its secret. The url is the server URL, or the tenant domain
// ("acme" or "acme.conductor.one"), or the client id's host. Secrets stay
// references. An empty variable counts as unset; if all are, the tenant is nil.
// Errors name variables, never what they hold.
func FromEnvironment(getenv func(string) string) (*configv1.Tenant, error) {
	credential, err := credentialOf(getenv)
	if credential == nil || err != nil {
		return nil, err
	}
	url, origin, err := urlOf(getenv)
	if err != nil {
		return nil, err
	}
	tenant := &configv1.Tenant{Name: "default", Url: url, Credential: credential}
	host, _, problem := tenantHost(tenant)
	if problem != "" {
		return nil, fmt.Errorf("read environment: %s %s", origin, problem)
	}
	if problem := clientProblem(credential, false, host); problem != "" {
		return nil, fmt.Errorf("read environment: %s %s", envClientID, problem)
	}
	return tenant, nil
}

// credentialOf chooses the form of credential; nil if there is none to choose.
func credentialOf(getenv func(string) string) (*configv1.Credential, error) {
	id := getenv(envClientID)
	ref := func(name string) *configv1.Secret { return &configv1.Secret{Env: name} }
	switch {
	case getenv(envAccessToken) != "":
		return &configv1.Credential{AccessToken: ref(envAccessToken)}, nil
	case id != "" && getenv(envOIDCToken) != "":
		return &configv1.Credential{ClientId: id, SubjectToken: ref(envOIDCToken)}, nil
	case id != "" && getenv(envClientSecret) != "":
		return &configv1.Credential{ClientId: id, ClientSecret: ref(envClientSecret)}, nil
	case id != "":
		return nil, fmt.Errorf("read environment: %s stands alone: set %s or %s too", envClientID, envClientSecret, envOIDCToken)
	}
	for _, name := range []string{envOIDCToken, envClientSecret} {
		if getenv(name) != "" {
			return nil, fmt.Errorf("read environment: %s stands alone: set %s too", name, envClientID)
		}
	}
	for _, name := range []string{envServerURL, envTenantDomain} {
		if getenv(name) != "" {
			return nil, fmt.Errorf("read environment: %s is set without a credential: set %s and %s too", name, envClientID, envClientSecret)
		}
	}
	return nil, nil
}

// urlOf is the url of the tenant, and the variable that it comes from. C1's
// tools bear a missing scheme, capitals and a slash at the end; so does this.
func urlOf(getenv func(string) string) (url, origin string, err error) {
	server, domain := getenv(envServerURL), getenv(envTenantDomain)
	if server != "" && !strings.Contains(server, "://") {
		server = "https://" + server
	}
	server = strings.TrimSuffix(server, "/")
	if domain != "" {
		if !strings.Contains(domain, ".") {
			domain += ".conductor.one"
		}
		domain = "https://" + strings.TrimPrefix(domain, "https://")
	}
	switch {
	case server != "" && domain != "" && !strings.EqualFold(server, domain):
		return "", "", fmt.Errorf("read environment: %s and %s name different hosts: unset one of them", envServerURL, envTenantDomain)
	case server != "":
		return strings.ToLower(server), envServerURL, nil
	case domain != "":
		return strings.ToLower(domain), envTenantDomain, nil
	}
	if host := clientHost(getenv(envClientID)); host != "" {
		return "https://" + strings.ToLower(host), envClientID, nil
	}
	if getenv(envClientID) != "" {
		return "", "", errors.New("read environment: " + envClientID + " is not a client id: set it as C1 gave it out, ID@HOST/USE")
	}
	return "", "", fmt.Errorf("read environment: nothing names the tenant: set %s, for example acme.conductor.one", envTenantDomain)
}
