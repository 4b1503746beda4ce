package c1proxy_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// A C1 that is newer than the mirror answers, in every protocol, with all that
// the mirror has a place for; the rest is counted and logged in one line, and
// an object of no known type is kept.
func TestNewerC1(t *testing.T) {
	g := start(t)
	request := connect.NewRequest(&appv1.ConnectorServiceGetRequest{AppId: g.facts.AppID, Id: g.facts.ConnectorID})
	get := "c1.api.app.v1.ConnectorService/Get"
	for _, p := range protocols[:len(protocols)-1] { // on C1's own paths the answer is C1's: TestRESTBytes
		plain, err := g.client(p, "sync-bot").Get(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		want := plain.Msg.GetConnectorView().GetConnector().GetDisplayName()
		for _, tt := range []struct {
			fault sandbox.Fault
			kind  string
		}{
			{sandbox.UnknownField(), "unknown_field"}, {sandbox.UnknownEnum(), "unknown_enum_value"},
			{sandbox.NullElement(), "null_element"}, {sandbox.UnknownAny(), "unknown_any_type"},
		} {
			g.c1.Inject(sandbox.Rule{Fault: tt.fault, On: sandbox.GetConnector})
			response, err := g.client(p, "sync-bot").Get(t.Context(), request)
			g.c1.Heal()
			if err != nil || response.Msg.GetConnectorView().GetConnector().GetDisplayName() != want {
				t.Errorf("%s, %s: got %v, %v", p.name, tt.kind, response, err)
				continue
			}
			if tt.kind == "unknown_any_type" {
				kept := new(structpb.Struct)
				if err := response.Msg.GetConnectorView().GetConnector().GetConfig().UnmarshalTo(kept); err != nil || kept.GetFields()["id"].GetStringValue() != "sandbox" {
					t.Errorf("%s: the Any is %v (%v)", p.name, kept, err)
				}
			}
			lines := grep(grep(g.logs.String(), response.Header().Get("X-Request-Id")), "no place for")
			if strings.Count(lines, "\n") != 0 || !strings.Contains(lines, `"answer":"`) || !strings.Contains(lines, tt.kind+" (first: ") {
				t.Errorf("%s, %s: the log has %s", p.name, tt.kind, lines)
			}
			if series := `c1proxy_strays_total{direction="answer",kind="` + tt.kind + `",procedure="` + get + `"}`; !strings.Contains(g.metrics(), series) {
				t.Errorf("%s: no %s in\n%s", p.name, series, grep(g.metrics(), "strays"))
			}
		}
	}
	g.c1.Inject(sandbox.Rule{Fault: sandbox.DuplicateKey(), On: sandbox.GetConnector})
	if _, err := g.client(protocols[0], "sync-bot").Get(t.Context(), request); connect.CodeOf(err) != connect.CodeInternal || strings.Contains(err.Error(), "duplicate") {
		t.Errorf("an answer with a duplicate key: got %v", err)
	}
	if !strings.Contains(g.logs.String(), "connector_view: duplicate field") {
		t.Errorf("the log does not name the field:\n%s", g.logs)
	}
}

// A client that reads JSON by itself finds the object that C1 has sent in the
// Any's value, and on C1's own path in its own place.
func TestUnknownAnyInJSON(t *testing.T) {
	g := start(t)
	g.c1.Inject(sandbox.Rule{Fault: sandbox.UnknownAny(), On: sandbox.GetConnector})
	rpc := g.post("c1.api.app.v1.ConnectorService/Get", g.keys["sync-bot"], `{"appId":"`+g.facts.AppID+`","id":"`+g.facts.ConnectorID+`"}`)
	own, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/api/v1/apps/"+g.facts.AppID+"/connectors/"+g.facts.ConnectorID, nil)
	if err != nil {
		t.Fatal(err)
	}
	own.Header.Set("Authorization", "Bearer "+g.keys["sync-bot"])
	unheard := map[string]any{"@type": "type.googleapis.com/c1.sandbox.v1.Unheard", "id": "sandbox", "n": 1.0}
	untyped := map[string]any{"id": "no type at all"}
	checkUnheard(t, g, own, []map[string]any{unheard, unheard, untyped})
	wrap := func(object map[string]any) map[string]any {
		return map[string]any{"@type": "c1proxy/google.protobuf.Struct", "value": object}
	}
	checkUnheard(t, g, rpc, []map[string]any{wrap(unheard), wrap(unheard), wrap(untyped)})
}

// checkUnheard looks for the objects of unknown types in an answer.
func checkUnheard(t *testing.T, g *gateway, r *http.Request, want []map[string]any) {
	t.Helper()
	status, _, body := do(t, g.httpClient(true), r)
	var answer struct {
		ConnectorView struct {
			Connector struct {
				Config map[string]any
			}
		}
		Expanded []map[string]any
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
		t.Fatalf("got %d %s: %v", status, body, err)
	}
	expanded := answer.Expanded[max(0, len(answer.Expanded)-2):]
	if diff := cmp.Diff(want, append([]map[string]any{answer.ConnectorView.Connector.Config}, expanded...)); diff != "" {
		t.Error(diff)
	}
}

// A client that is newer than the mirror is served in binary, and its fields
// are counted.
func TestNewerClient(t *testing.T) {
	g := start(t)
	message := &appv1.ConnectorServiceGetRequest{AppId: g.facts.AppID, Id: g.facts.ConnectorID}
	message.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	if _, err := g.client(protocols[1], "sync-bot").Get(t.Context(), connect.NewRequest(message)); err != nil {
		t.Fatal(err)
	}
	series := `c1proxy_strays_total{direction="request",kind="unknown_field",procedure="c1.api.app.v1.ConnectorService/Get"} 1`
	if !strings.Contains(g.metrics(), series) || !strings.Contains(g.logs.String(), `"request":"1 unknown_field (first: 99)"`) {
		t.Errorf("no %s in\n%s\n%s", series, grep(g.metrics(), "strays"), g.logs)
	}
}
