package sandbox

import (
	"fmt"
	"strings"
)

// Facts are what a client needs to know of a sandbox. They hold secrets, which
// are worth nothing outside of it.
type Facts struct {
	// URL is the tenant's URL; empty for a Sandbox without a Server.
	URL string `json:"url,omitempty"`
	// Host is what client ids carry.
	Host string `json:"host"`
	// ClientID and ClientSecret belong to the client that signs assertions.
	// Its secret is good in the body too.
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	// PlainClientID and PlainClientSecret belong to a client without a key:
	// its secret goes into the body.
	PlainClientID     string `json:"plain_client_id"`
	PlainClientSecret string `json:"plain_client_secret"`
	// DPoPClientID and DPoPClientSecret belong to a client that signs
	// assertions and must prove possession of a key (RFC 9449).
	DPoPClientID     string `json:"dpop_client_id"`
	DPoPClientSecret string `json:"dpop_client_secret"`
	// FederationClientID exchanges what Sandbox.SubjectToken mints.
	FederationClientID string `json:"federation_client_id"`
	// StaticToken is an access token that does not expire.
	StaticToken string `json:"static_token"`
	// AppID, ConnectorID and SyncLifecycleID name a sync to be confirmed.
	AppID           string `json:"app_id"`
	ConnectorID     string `json:"connector_id"`
	SyncLifecycleID string `json:"sync_lifecycle_id"`
	// Seed repeats the chaos of this run.
	Seed uint64 `json:"seed"`
}

// Facts returns what a client needs to know.
func (s *Sandbox) Facts() Facts {
	return Facts{
		Host:     s.config.Host,
		ClientID: s.clients.key.id, ClientSecret: s.clients.key.secret,
		PlainClientID: s.clients.plain.id, PlainClientSecret: s.clients.plain.secret,
		DPoPClientID: s.clients.bound.id, DPoPClientSecret: s.clients.bound.secret,
		FederationClientID: s.clients.federated.id, StaticToken: s.tokens.static,
		AppID: AppID, ConnectorID: ConnectorID, SyncLifecycleID: SyncLifecycleID,
		Seed: s.config.Seed,
	}
}

// Facts returns what a client needs to know, the URL among it.
func (s *Server) Facts() Facts {
	facts := s.Sandbox.Facts()
	facts.URL = s.url
	return facts
}

// Environ is the environment, as NAME=value, in which C1's own tools use the
// sandbox. c1proxy takes no plain http from it: see String.
func (f Facts) Environ() []string {
	return []string{
		"CONDUCTORONE_SERVER_URL=" + f.URL,
		"CONDUCTORONE_CLIENT_ID=" + f.ClientID,
		"CONDUCTORONE_CLIENT_SECRET=" + f.ClientSecret,
	}
}

// String is a text for people, some of it ready to be pasted into a shell.
func (f Facts) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "An emulated C1 at %s (seed %d). Its clients and their secrets exist nowhere else.\n\n", f.URL, f.Seed)
	for _, entry := range f.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		fmt.Fprintf(&b, "export %s='%s'\n", name, value)
	}
	fmt.Fprintf(&b, "\nIn c1proxy's configuration, with this environment:\n\ntenants:\n  - name: sandbox\n    url: %s\n    allow_insecure: true\n", f.URL)
	fmt.Fprintf(&b, "    credential: {client_id: %q, client_secret: {env: CONDUCTORONE_CLIENT_SECRET}}\n", f.ClientID)
	fmt.Fprintf(&b, "\nwithout a key:  %s  %s\n", f.PlainClientID, f.PlainClientSecret)
	fmt.Fprintf(&b, "with DPoP:      %s  %s\n", f.DPoPClientID, f.DPoPClientSecret)
	fmt.Fprintf(&b, "static token:   %s\n\n", f.StaticToken)
	fmt.Fprintf(&b, "A sync that is ERRORED_NO_DATA, to be confirmed once:\n")
	fmt.Fprintf(&b, "app_id            %s\nconnector_id      %s\nsync_lifecycle_id %s\n\n", f.AppID, f.ConnectorID, f.SyncLifecycleID)
	fmt.Fprintf(&b, "curl -H 'Authorization: Bearer %s' %s/api/v1/apps/%s/connectors\n", f.StaticToken, f.URL, f.AppID)
	return b.String()
}
