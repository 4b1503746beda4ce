package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/proxy"
	"github.com/c1proxy/c1proxy/internal/sandbox"
	"github.com/c1proxy/c1proxy/web/console"
)

type demoCommand struct {
	Listen string `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Where to listen; port 0 chooses one. (${default})"`
	JSON   bool   `name:"json" help:"Print exactly one line of JSON instead of text."`
}

// demonstration is what demo prints: with --json this object, in one line.
type demonstration struct {
	URL             string `json:"url"`
	Console         string `json:"console"`
	APIKey          string `json:"api_key"`
	ReaderKey       string `json:"reader_api_key"`
	AuditDir        string `json:"audit_dir"`
	Tenant          string `json:"tenant"`
	AppID           string `json:"app_id"`
	ConnectorID     string `json:"connector_id"`
	SyncLifecycleID string `json:"sync_lifecycle_id"`
	VerifierKey     string `json:"verifier_key"`

	host, admin, configFile string
	operations              int
}

// Run serves calls against an embedded sandbox until SIGINT or SIGTERM. The
// configuration it makes is a file like any other, and stays for a look, as
// does the audit.
func (d demoCommand) Run(ctx context.Context, t *terminal) error {
	c1, err := sandbox.Start("127.0.0.1:0", sandbox.Config{})
	if err != nil {
		return err
	}
	defer c1.Close()
	dir, err := os.MkdirTemp("", "c1proxy-demo-")
	if err != nil {
		return fmt.Errorf("make demo folder: %w", err)
	}
	facts := c1.Facts()
	show := demonstration{APIKey: authn.NewKey(), ReaderKey: authn.NewKey(), AuditDir: filepath.Join(dir, "audit"), Tenant: "acme",
		AppID: facts.AppID, ConnectorID: facts.ConnectorID, SyncLifecycleID: facts.SyncLifecycleID,
		configFile: filepath.Join(dir, "c1proxy.yaml"), operations: len(c1.Procedures())}
	if err := d.configure(show, facts, dir); err != nil {
		return err
	}
	cfg, err := readConfig(show.configFile)
	if err != nil {
		return err
	}
	logger := newLogger(t.err, slog.LevelWarn)
	p, err := proxy.Open(ctx, cfg, proxy.Options{Logger: logger, Version: version()})
	if err != nil {
		return fmt.Errorf("%w\n(another address: --listen 127.0.0.1:0)", err)
	}
	show.host, show.admin, show.VerifierKey = p.Addr().String(), p.AdminAddr().String(), p.VerifierKey()
	show.URL = "http://" + show.host
	show.Console = show.URL + console.Root
	if err := d.print(t, show); err != nil {
		return errors.Join(err, p.Close())
	}
	return p.Serve(ctx)
}

// configure writes the configuration and the secret that it names.
func (d demoCommand) configure(show demonstration, facts sandbox.Facts, dir string) error {
	secret := filepath.Join(dir, "c1-client-secret")
	text := fmt.Sprintf(`# The configuration of this demo. A real one has an https url, and no allow_insecure.
listen: {address: %[1]q}
tenants:
  - name: %[2]s
    url: %[3]s
    allow_insecure: true
    credential:
      client_id: %[4]s
      client_secret: {file: %[5]q}
teams:
  - name: payments
    tenant: %[2]s
    callers:
      - name: sync-bot
        api_keys: [{sha256: "%[6]s"}]
    allow:
      - methods: ["c1.**/*"]
        include_draft: true
    limits:
      team: {rate: 5000, per: 1s, burst: 10000}
      caller: {rate: 5000, per: 1s, burst: 10000}
  - name: identity
    tenant: %[2]s
    callers:
      - name: reader
        api_keys: [{sha256: "%[9]s"}]
    allow:
      - methods: ["c1.api.app.v1.*/*"]
        class: read
console: {}
audit: {dir: %[7]q, key_file: %[8]q}
admin: {address: "127.0.0.1:0"}
`, d.Listen, show.Tenant, facts.URL, facts.ClientID, secret, authn.HashKey(show.APIKey), show.AuditDir, filepath.Join(dir, "audit.key"), authn.HashKey(show.ReaderKey))
	for name, content := range map[string]string{secret: facts.ClientSecret, show.configFile: text} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return fmt.Errorf("write demo file: %w", err)
		}
	}
	return nil
}

func (d demoCommand) print(t *terminal, show demonstration) error {
	if d.JSON {
		return json.NewEncoder(t.out).Encode(show)
	}
	var text strings.Builder
	if err := demoText.Execute(&text, struct {
		demonstration
		Operations                            int
		Host, Admin, ConfigFile, JSON, Method string
	}{show, show.operations, show.host, show.admin, show.configFile,
		fmt.Sprintf(`{"appId":%q,"connectorId":%q,"syncLifecycleId":%q}`, show.AppID, show.ConnectorID, show.SyncLifecycleID),
		"c1.api.app.v1.ConnectorService/ConfirmSyncValid"}); err != nil {
		return err
	}
	_, err := fmt.Fprint(t.out, text.String())
	return err
}

var demoText = template.Must(template.New("demo").Parse(`c1proxy is ready at {{.URL}}, in front of an emulated C1. Look at it
with a browser, and sign in with the API key of payments/sync-bot, made for this run:

    {{.Console}}
    {{.APIKey}}

One sync has lost its data: {{.SyncLifecycleID}} of Okta (production).
identity/reader may only read apps and connectors, and is refused the rest:

    {{.ReaderKey}}

From a shell, paste the key of sync-bot first:

    export KEY='{{.APIKey}}'

Confirm a sync that lost its data. The first call succeeds, a second is
failed_precondition. With curl (Connect):

    curl -sS {{.URL}}/{{.Method}} \
      -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
      -H 'C1proxy-Reason: HR confirmed the reorganisation' \
      -d '{{.JSON}}'

With grpcurl (gRPC):

    grpcurl -plaintext -H "Authorization: Bearer $KEY" \
      -d '{{.JSON}}' \
      {{.Host}} {{.Method}}

With buf (gRPC):

    buf curl --protocol grpc --http2-prior-knowledge --reflect-header "Authorization: Bearer $KEY" \
      --header "Authorization: Bearer $KEY" \
      -d '{{.JSON}}' \
      {{.URL}}/{{.Method}}

All {{.Operations}} operations of C1 are there: apps and connectors live, the rest answers
with samples. The apps; those with "pay" in their names; the entitlements of one:

    curl -sS {{.URL}}/c1.api.app.v1.Apps/List \
      -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d '{}'

    grpcurl -plaintext -H "Authorization: Bearer $KEY" -d '{"query":"pay"}' \
      {{.Host}} c1.api.app.v1.AppSearch/Search

    curl -sS {{.URL}}/c1.api.app.v1.AppEntitlements/List \
      -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d '{"appId":"{{.AppID}}"}'

On C1's own paths, as its own clients call it:

    curl -sS -H "Authorization: Bearer $KEY" {{.URL}}/api/v1/apps

    curl -sS -H "Authorization: Bearer $KEY" {{.URL}}/api/v1/apps/{{.AppID}}/connectors/{{.ConnectorID}}

What the audit has on it, and whether it still says what it said:

    go run ./cmd/proxy audit query {{.AuditDir}} --since 1h
    go run ./cmd/proxy audit verify {{.AuditDir}} --key '{{.VerifierKey}}'

Readiness and metrics: http://{{.Admin}}/readyz and /metrics. The configuration
of this run: {{.ConfigFile}}. Stop with Ctrl-C; the folder stays.
`))
