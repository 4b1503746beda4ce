package c1proxy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/proxy"
	"github.com/c1proxy/c1proxy/internal/redact"
)

// recording has the audit say what of the requests it records.
func recording(rules string) func(*setup) {
	return func(s *setup) {
		s.yaml = func(text string) string {
			return strings.Replace(text, "audit: {", "audit: {fields: ["+rules+"], ", 1)
		}
	}
}

// What the rules keep, hash and drop, on every door, in every record of a call.
// The rest of the request, and what was hashed, is nowhere in the log.
func TestRecordedFields(t *testing.T) {
	g := start(t, recording(`{methods: ["c1.api.app.v1.*/*"], keep: [catalog_id, expand_mask.paths], hash: [user_ids, description]},
		{methods: ["c1.api.app.v1.ConnectorService/Create"], keep: [description], hash: [app_id]}`))
	keys, err := redact.LoadKeys(g.dir + ".hash-keys")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			response, err := g.client(p, "sync-bot").Create(t.Context(), connect.NewRequest(&appv1.ConnectorServiceCreateRequest{
				AppId: g.facts.AppID, CatalogId: "catalog-1", Description: "in clear " + g.keys["reader"], UserIds: []string{"ada-lovelace", "alan-turing"},
				ExpandMask: &appv1.ConnectorExpandMask{Paths: []string{"app_id"}}}))
			records := g.records(requestID(response, err))
			if len(records) != 2 {
				t.Fatalf("%d records, error %v", len(records), err)
			}
			for _, r := range records {
				if diff := cmp.Diff(audit.Fields{{Name: "app_id", Value: keys.Hash(g.facts.AppID)}}, r.Path); diff != "" {
					t.Errorf("%s: path (-want +got):\n%s", r.Kind, diff)
				}
				want := audit.Fields{
					{Name: "catalog_id", Value: "catalog-1"},
					{Name: "expand_mask.paths", Value: `["app_id"]`},
					{Name: "user_ids", Value: `["` + keys.Hash("ada-lovelace") + `","` + keys.Hash("alan-turing") + `"]`},
					{Name: "description", Value: "in clear c1p_[redacted]"},
				}
				if diff := cmp.Diff(want, r.Request); diff != "" {
					t.Errorf("%s: request (-want +got):\n%s", r.Kind, diff)
				}
			}
		})
	}
	files, err := filepath.Glob(filepath.Join(g.dir, "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, hidden := range []string{g.facts.AppID, "lovelace", "turing"} {
			if strings.Contains(string(data), hidden) {
				t.Errorf("%s stands in %s", hidden, file)
			}
		}
	}
}

// A refused call's path values are recorded by the same rules.
func TestRecordedFieldsOfRefusals(t *testing.T) {
	g := start(t, recording(`{methods: ["c1.**/*"], drop: [app_id]}`))
	confirmation := g.confirmation("a/b")
	response, err := g.client(protocols[0], "sync-bot").ConfirmSyncValid(t.Context(), confirmation)
	records := g.records(requestID(response, err))
	if len(records) != 1 || len(records[0].Path) != 2 || records[0].Path[0].Name != "connector_id" || records[0].Request != nil {
		t.Errorf("got %+v", records)
	}
}

// What is wrong in such rules is told with its place.
func TestWrongFields(t *testing.T) {
	for rule, want := range map[string]string{
		`{methods: ["c1.api.app.v1.ConnectorService/Creat"], keep: [app_id]}`:                  `ConnectorService/Create`,
		`{methods: ["c1.api.app.v1.ConnectorService/Create"], keep: [appid]}`:                  `has no field "appid"`,
		`{methods: ["c1.**/*"], hash: [no_such_thing]}`:                                        `has a field "no_such_thing"`,
		`{methods: ["c1.api.app.v1.ConnectorService/Create"], keep: [config]}`:                 `"config" is a message: name one of its fields`,
		`{methods: ["c1.api.app.v1.ConnectorService/Create"]}`:                                 `names no field`,
		`{methods: ["c1.api.app.v1.ConnectorService/Create"], keep: [app_id], drop: [app_id]}`: `twice`,
		`{keep: [app_id]}`: `methods`,
	} {
		text := "tenants: [{name: a, url: \"https://acme.conductor.one\", credential: {access_token: {env: X}}}]\naudit:\n  dir: /a/b\n  fields:\n    - " + rule + "\n"
		_, err := config.Parse("c1proxy.yaml", []byte(text), proxy.Check)
		if err == nil || !strings.Contains(err.Error(), "c1proxy.yaml:5:") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", rule, err, want)
		}
	}
}
