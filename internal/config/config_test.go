package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
)

const hash = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"

// documented is the configuration of the documentation. It must work as it stands.
const documented = `listen: {address: "127.0.0.1:8080"}
tenants:
  - name: acme
    url: https://acme.conductor.one
    credential:
      client_id: clever-fox-42195@acme.conductor.one/spc
      client_secret: {file: /run/secrets/c1-client-secret}     # or {env: NAME}
teams:
  - name: payments
    tenant: acme
    callers:
      - name: sync-bot
        api_keys: [{sha256: "` + hash + `"}]      # two may be live at once
    allow:
      - methods: ["c1.api.app.v1.ConnectorService/ConfirmSyncValid"]   # a service's methods: ".../*"
    limits:
      team: {rate: 50, per: 1s, burst: 100}
      caller: {rate: 10, per: 1s, burst: 20}
audit: {dir: /var/lib/c1proxy/audit, key_file: /var/lib/c1proxy/audit.key}
admin: {address: "127.0.0.1:9090"}
`

// everything has every key, and the other form of each alternative.
const everything = `---
listen:
  address: ":8443"
  tls: {cert_file: tls.crt, key_file: tls.key}
  max_message_bytes: 1048576
  reflection: false
  max_connections: 300
  max_calls: 200
  max_connection_age: 1h
  drain_delay: 5s
  drain_timeout: 20s
  trusted_proxies: [10.0.0.0/8, "2001:db8::7"]
  failed_auth: {rate: 0, per: 1s, burst: 7}
tenants:
- name: acme
  url: https://acme.conductor.one
  credential:
    client_id: swift-otter-19384@acme.conductor.one/wfe
    subject_token: {file: ./token}
    dpop: true
    next:
      client_id: wary-badger-58213@acme.conductor.one/spc
      client_secret: {file: ./secret}
      dpop: true
  resend_on_401: false
  limit: {rate: 100, per: 1m, burst: 7}
  timeout: 1m30s
  max_in_flight: 64
  ca_file: /etc/c1proxy/ca.pem
  proxy: {url: "http://proxy.example.com:3128", username: c1proxy, password: {env: PROXY_PASSWORD}}
- name: "007"
  url: http://127.0.0.1:8081
  allow_insecure: true
  credential: {access_token: {env: C1_TOKEN}}
teams: []
audit:
  dir: audit
  origin: example.com/audit
  segment_bytes: 1048576
  min_free_bytes: 7
  reserve_bytes: 0
  hash_keys_file: keys
  fields: [{methods: ["c1.**/*"], keep: [display_name], hash: [user_ids], drop: [app_id]}]
  sinks:
    - name: siem
      format: ocsf
      kinds: [outcome, denied]
      from_start: true
      syslog: {address: "siem.example.com:6514", protocol: tls, ca_file: ca.pem, facility: audit}
    - name: lake
      webhook:
        url: https://collector.example.com/in?index=c1
        headers: [{name: authorization, value: {env: LAKE_KEY}}]
        body: array
        batch_max_records: 50
        ca_file: ca.pem
    - name: near
      webhook: {url: "http://collector:8088", allow_insecure: true}
telemetry:
  traces:
    endpoint: https://otel.example.com/otlp
    headers: [{name: authorization, value: {env: OTEL_KEY}}]
    sample_ratio: 0.25
    service_name: c1proxy.staging
cors: {allowed_origins: [https://app.example.com, "http://localhost:3000"]}
issuers: [{name: login, url: https://login.example.com, audiences: [c1proxy]}]
console: {issuer: login, client_id: c1proxy-console, scopes: [openid, profile], resource: "https://c1proxy.example.com"}
`

func TestParseDocumented(t *testing.T) {
	got, err := config.Parse("c1proxy.yaml", []byte(documented))
	if err != nil {
		t.Fatal(err)
	}
	want := &configv1.Config{
		Listen: &configv1.Listen{
			Address: "127.0.0.1:8080", MaxMessageBytes: proto.Uint32(4 << 20), Reflection: proto.Bool(true),
			MaxConnections: proto.Uint32(20_000), MaxCalls: proto.Uint32(10_000),
			MaxConnectionAge: durationpb.New(10 * time.Minute), DrainDelay: durationpb.New(0),
			FailedAuth: &configv1.FailedAuth{Rate: proto.Uint32(60), Per: durationpb.New(time.Minute), Burst: proto.Uint32(100)},
		},
		Tenants: []*configv1.Tenant{{
			Name: "acme", Url: "https://acme.conductor.one", Timeout: durationpb.New(30 * time.Second), ResendOn_401: proto.Bool(true), MaxInFlight: proto.Uint32(16384),
			Credential: &configv1.Credential{
				ClientId:     "clever-fox-42195@acme.conductor.one/spc",
				ClientSecret: &configv1.Secret{File: "/run/secrets/c1-client-secret"},
			},
		}},
		Teams: []*configv1.Team{{
			Name: "payments", Tenant: "acme",
			Callers: []*configv1.Caller{{Name: "sync-bot", ApiKeys: []*configv1.ApiKey{{Sha256: hash}}}},
			Allow:   []*configv1.Rule{{Methods: []string{"c1.api.app.v1.ConnectorService/ConfirmSyncValid"}}},
			Limits: &configv1.Limits{
				Team:   &configv1.Limit{Rate: proto.Uint32(50), Per: durationpb.New(time.Second), Burst: proto.Uint32(100)},
				Caller: &configv1.Limit{Rate: proto.Uint32(10), Per: durationpb.New(time.Second), Burst: proto.Uint32(20)},
			},
		}},
		Audit: &configv1.Audit{
			Dir: "/var/lib/c1proxy/audit", KeyFile: "/var/lib/c1proxy/audit.key", HashKeysFile: "/var/lib/c1proxy/audit.hash-keys", SegmentBytes: proto.Uint64(64 << 20),
			MinFreeBytes: proto.Uint64(1 << 30), ReserveBytes: proto.Uint64(64 << 20),
		},
		Admin: &configv1.Admin{Address: "127.0.0.1:9090"},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestParseEverything(t *testing.T) {
	got, err := config.Parse("c1proxy.yaml", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	want := &configv1.Config{
		Listen: &configv1.Listen{
			Address: ":8443", Tls: &configv1.TLS{CertFile: "tls.crt", KeyFile: "tls.key"},
			MaxMessageBytes: proto.Uint32(1 << 20), Reflection: proto.Bool(false),
			MaxConnections: proto.Uint32(300), MaxCalls: proto.Uint32(200), MaxConnectionAge: durationpb.New(time.Hour),
			DrainDelay: durationpb.New(5 * time.Second), DrainTimeout: durationpb.New(20 * time.Second),
			TrustedProxies: []string{"10.0.0.0/8", "2001:db8::7"}, FailedAuth: &configv1.FailedAuth{Rate: proto.Uint32(0), Per: durationpb.New(time.Second), Burst: proto.Uint32(7)},
		},
		Tenants: []*configv1.Tenant{{
			Name: "acme", Url: "https://acme.conductor.one", Timeout: durationpb.New(90 * time.Second), ResendOn_401: proto.Bool(false),
			Credential: &configv1.Credential{
				ClientId:     "swift-otter-19384@acme.conductor.one/wfe",
				SubjectToken: &configv1.Secret{File: "./token"},
				Dpop:         true,
				Next: &configv1.NextCredential{
					ClientId:     "wary-badger-58213@acme.conductor.one/spc",
					ClientSecret: &configv1.Secret{File: "./secret"},
					Dpop:         true,
				},
			},
			Limit:       &configv1.Limit{Rate: proto.Uint32(100), Per: durationpb.New(time.Minute), Burst: proto.Uint32(7)},
			MaxInFlight: proto.Uint32(64), CaFile: "/etc/c1proxy/ca.pem",
			Proxy: &configv1.Proxy{Url: "http://proxy.example.com:3128", Username: "c1proxy", Password: &configv1.Secret{Env: "PROXY_PASSWORD"}},
		}, {
			Name: "007", Url: "http://127.0.0.1:8081", AllowInsecure: true, Timeout: durationpb.New(30 * time.Second), ResendOn_401: proto.Bool(true), MaxInFlight: proto.Uint32(16384),
			Credential: &configv1.Credential{AccessToken: &configv1.Secret{Env: "C1_TOKEN"}},
		}},
		Audit: &configv1.Audit{Dir: "audit", KeyFile: "audit.key", Origin: "example.com/audit", SegmentBytes: proto.Uint64(1 << 20),
			MinFreeBytes: proto.Uint64(7), ReserveBytes: proto.Uint64(0), HashKeysFile: "keys", Fields: []*configv1.FieldRule{{Methods: []string{"c1.**/*"}, Keep: []string{"display_name"}, Hash: []string{"user_ids"}, Drop: []string{"app_id"}}},
			Sinks: []*configv1.AuditSink{
				{Name: "siem", Format: "ocsf", Kinds: []string{"outcome", "denied"}, FromStart: true,
					Syslog: &configv1.Syslog{Address: "siem.example.com:6514", Protocol: "tls", CaFile: "ca.pem", Facility: "audit"}},
				{Name: "lake", Format: "json", Webhook: &configv1.Webhook{Url: "https://collector.example.com/in?index=c1",
					Headers: []*configv1.WebhookHeader{{Name: "authorization", Value: &configv1.Secret{Env: "LAKE_KEY"}}},
					Body:    "array", BatchMaxRecords: proto.Uint32(50), CaFile: "ca.pem"}},
				{Name: "near", Format: "json", Webhook: &configv1.Webhook{Url: "http://collector:8088", AllowInsecure: true, Body: "ndjson", BatchMaxRecords: proto.Uint32(500)}},
			}},
		Admin: &configv1.Admin{Address: "127.0.0.1:9090"},
		Cors:  &configv1.Cors{AllowedOrigins: []string{"https://app.example.com", "http://localhost:3000"}},
		Issuers: []*configv1.Issuer{{Name: "login", Url: "https://login.example.com", Audiences: []string{"c1proxy"},
			MaxTokenLifetime: durationpb.New(24 * time.Hour)}},
		Console: &configv1.Console{Issuer: "login", ClientId: "c1proxy-console", Scopes: []string{"openid", "profile"}, Resource: "https://c1proxy.example.com"},
		Telemetry: &configv1.Telemetry{Traces: &configv1.Traces{
			Endpoint: "https://otel.example.com/otlp", SampleRatio: proto.Float64(.25), ServiceName: "c1proxy.staging",
			Headers: []*configv1.TraceHeader{{Name: "authorization", Value: &configv1.Secret{Env: "OTEL_KEY"}}},
		}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// A rule's class is what is written, and nothing if nothing is.
func TestParseRule(t *testing.T) {
	for added, want := range map[string]*configv1.Rule{
		"":                     {},
		"class: read":          {Class: "read"},
		`class: "write"`:       {Class: "write"},
		"include_draft: true":  {IncludeDraft: true},
		"include_draft: false": {},
	} {
		cfg, err := config.Parse("c1proxy.yaml", []byte(strings.Replace(documented, methodsLine, methodsLine+"\n        "+added, 1)))
		if err != nil {
			t.Errorf("%s: %v", added, err)
			continue
		}
		want.Methods = []string{"c1.api.app.v1.ConnectorService/ConfirmSyncValid"}
		if diff := cmp.Diff(want, cfg.GetTeams()[0].GetAllow()[0], protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", added, diff)
		}
	}
}

// A check of another package names paths; this package knows where they stand.
func TestChecks(t *testing.T) {
	check := func(cfg *configv1.Config) []config.Problem {
		return []config.Problem{
			{Path: "teams[0].allow[0].methods[0]", Message: "no such method: " + cfg.GetTeams()[0].GetAllow()[0].GetMethods()[0]},
			{Path: "teams[0].limits.team", Message: "a mapping stands where its key does"},
			{Path: "tenants[0].timeout", Message: "a missing key stands where its parent does"},
			{Path: "listen.address", Message: "already blamed"},
			{Message: "the file as a whole"},
		}
	}
	bad := strings.Replace(documented, "127.0.0.1:8080", "nowhere", 1)
	_, err := config.Parse("x.yaml", []byte(bad), check)
	want := []string{
		"x.yaml:1:1: the file as a whole",
		"x.yaml:1:19: listen.address: is not an address: write a host and a port, for example 127.0.0.1:8080",
		"x.yaml:3:5: tenants[0].timeout: a missing key stands where its parent does",
		"x.yaml:15:19: teams[0].allow[0].methods[0]: no such method: c1.api.app.v1.ConnectorService/ConfirmSyncValid",
		"x.yaml:17:7: teams[0].limits.team: a mapping stands where its key does",
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
}

// What could not be decoded moves no other item from its place.
func TestChecksKeepIndexes(t *testing.T) {
	check := func(cfg *configv1.Config) (problems []config.Problem) {
		for i, method := range cfg.GetTeams()[0].GetAllow()[1].GetMethods() {
			problems = append(problems, config.Problem{Path: fmt.Sprintf("teams[0].allow[1].methods[%d]", i), Message: "bad " + method})
		}
		return problems
	}
	bad := strings.Replace(documented, "- methods: [", "- 7\n      - methods: [8, ~, ", 1)
	_, err := config.Parse("x.yaml", []byte(bad), check)
	want := []string{
		"x.yaml:15:9: teams[0].allow[0]: expected a mapping, found a number: its keys are methods, class, include_draft, condition, require_reason, shadow, name",
		"x.yaml:16:19: teams[0].allow[1].methods[0]: expected a text, found a number: write it in quotes",
		`x.yaml:16:22: teams[0].allow[1].methods[1]: has no value: write one, or remove the "-"`,
		"x.yaml:16:25: teams[0].allow[1].methods[2]: bad c1.api.app.v1.ConnectorService/ConfirmSyncValid",
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
}

func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func TestRead(t *testing.T) {
	for _, name := range environment {
		t.Setenv(name, "")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "c1proxy.yaml")

	if _, err := config.Read(file); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "read configuration: open ") {
		t.Errorf("missing file: %v", err)
	}
	if _, err := config.Read(dir); err == nil {
		t.Error("a directory was read")
	}

	write(t, file, "audit: {dir: /a}\n", 0o644)
	_, err := config.Read(file)
	want := []string{file + ":1:1: tenants: no tenant: write one here (name, url, credential), or set CONDUCTORONE_CLIENT_ID and CONDUCTORONE_CLIENT_SECRET in the environment"}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}

	t.Setenv("CONDUCTORONE_CLIENT_ID", "clever-fox-42195@acme.conductor.one/spc")
	_, err = config.Read(file)
	want = []string{file + ":1:1: tenants: read environment: CONDUCTORONE_CLIENT_ID stands alone: set CONDUCTORONE_CLIENT_SECRET or CONDUCTORONE_OIDC_TOKEN too"}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}

	t.Setenv("CONDUCTORONE_CLIENT_SECRET", canary)
	cfg, err := config.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	tenant := cfg.GetTenants()[0]
	if tenant.GetName() != "default" || tenant.GetTimeout().AsDuration() != 30*time.Second {
		t.Errorf("tenant of the environment: %v", tenant)
	}

	// A server URL that is c1proxy itself is refused.
	t.Setenv("CONDUCTORONE_SERVER_URL", "https://acme.conductor.one")
	write(t, file, "listen: {address: acme.conductor.one:443}\naudit: {dir: /a}\n", 0o644)
	_, err = config.Read(file)
	want = []string{file + ":1:1: tenants[0].url: is the address that c1proxy itself listens on: write https:// and the tenant's host, for example https://acme.conductor.one"}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}

	// A tenant in the file wins.
	write(t, file, documented, 0o644)
	if cfg, err = config.Read(file); err != nil || len(cfg.GetTenants()) != 1 || cfg.GetTenants()[0].GetName() != "acme" {
		t.Errorf("tenants: %v, %v", cfg.GetTenants(), err)
	}
}

func TestRevision(t *testing.T) {
	revision := func(text string) string {
		cfg, err := config.Parse("c1proxy.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return config.Revision(cfg)
	}
	first := revision(documented)
	if len(first) != 16 {
		t.Errorf("revision %q", first)
	}
	if same := revision("# a comment\n" + strings.ReplaceAll(documented, "  #", "    #")); same != first {
		t.Errorf("layout changes the revision: %s, %s", first, same)
	}
	if other := revision(strings.Replace(documented, "burst: 20", "burst: 21", 1)); other == first {
		t.Error("a change keeps the revision")
	}
}
