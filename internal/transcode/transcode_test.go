package transcode_test

import (
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// routeOf is a route of generated messages.
func routeOf(t testing.TB, method string) *route.Route {
	routes, err := route.Load(protoregistry.GlobalFiles, protoregistry.GlobalTypes, "c1.")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Method() == "c1.api.app.v1.ConnectorService/"+method {
			return r
		}
	}
	t.Fatalf("no method %s", method)
	return nil
}

func typeOf(message proto.Message) protoreflect.MessageType { return message.ProtoReflect().Type() }

func TestDecode(t *testing.T) {
	want := &appv1.ConfirmSyncValidRequest{AppId: "a", ConnectorId: "c", SyncLifecycleId: "s"}
	encoded, _ := proto.Marshal(want)
	// Two fields of a newer client: number 99, twice.
	newer := append(append([]byte{}, encoded...), 0x98, 0x06, 0x01, 0x9a, 0x06, 0x01, 'x')
	tests := []struct {
		name    string
		codec   transcode.Codec
		data    string
		unknown int
		wrong   string
	}{
		{"json", transcode.JSON, `{"appId":"a","connectorId":"c","syncLifecycleId":"s"}`, 0, ""},
		{"json, proto names", transcode.JSON, `{"app_id":"a","connector_id":"c","sync_lifecycle_id":"s"}`, 0, ""},
		{"binary", transcode.Binary, string(encoded), 0, ""},
		{"binary, newer client", transcode.Binary, string(newer), 2, ""},
		{"json, unknown field", transcode.JSON, `{"appID":"a"}`, 0, "appID: unknown field"},
		{"json, duplicate", transcode.JSON, `{"appId":"a","appId":"b"}`, 0, "duplicate field"},
		{"json, both spellings", transcode.JSON, `{"appId":"a","app_id":"b"}`, 0, "duplicate field"},
		{"json, wrong type", transcode.JSON, `{"appId":1}`, 0, "app_id: it is not a string"},
		{"json, empty", transcode.JSON, ``, 0, "send at least {}"},
		{"json, trailing", transcode.JSON, `{} {}`, 0, "unexpected token"},
		{"json, deep", transcode.JSON, strings.Repeat(`{"a":`, 100000), 0, "unknown field"},
		{"binary, garbage", transcode.Binary, "\xff\xff\xff", 0, "parse"},
		{"binary, invalid UTF-8", transcode.Binary, "\x0a\x01\xff", 0, "UTF-8"},
	}
	for _, tt := range tests {
		got, strays, err := transcode.Decode(tt.codec, []byte(tt.data), typeOf(want))
		if tt.wrong != "" {
			var f *fault.Fault
			if !errors.As(err, &f) || f.Code != connect.CodeInvalidArgument || !strings.Contains(f.Message, tt.wrong) {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.wrong)
			}
			continue
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" || strays.Count(transcode.UnknownField) != tt.unknown {
			t.Errorf("%s: %v, strays %s (want %d) %s", tt.name, err, &strays, tt.unknown, diff)
		}
	}
}

func TestRequest(t *testing.T) {
	confirm := &appv1.ConfirmSyncValidRequest{AppId: "a", ConnectorId: "c", SyncLifecycleId: "s"}
	got, err := transcode.Request(routeOf(t, "ConfirmSyncValid"), confirm)
	want := transcode.Target{
		Path:   "/api/v1/apps/a/connectors/c/confirm_sync_valid/s",
		Body:   []byte("{}"),
		Values: []route.Value{{Field: "app_id", Text: "a"}, {Field: "connector_id", Text: "c"}, {Field: "sync_lifecycle_id", Text: "s"}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("ConfirmSyncValid: %v %s", err, diff)
	}
	list := &appv1.ConnectorServiceListRequest{AppId: "a", PageSize: 5, PageToken: "x&y=z #"}
	got, err = transcode.Request(routeOf(t, "List"), list)
	want = transcode.Target{Path: "/api/v1/apps/a/connectors", Query: "page_size=5&page_token=x%26y%3Dz+%23",
		Values: []route.Value{{Field: "app_id", Text: "a"}}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("List: %v %s", err, diff)
	}
	if got, err = transcode.Request(routeOf(t, "Get"), &appv1.ConnectorServiceGetRequest{AppId: "a"}); err == nil || len(got.Values) != 2 {
		t.Errorf("Get without id: got %v, %v; want an error and both values", got, err)
	}
}

// C1 adds fields and enum values at any time: none of that fails a call.
func TestAnswer(t *testing.T) {
	output := typeOf(&appv1.ConnectorServiceGetResponse{})
	got, _, err := transcode.Answer([]byte(`{"newField":{"x":[1]},"connectorView":{"connector":{"id":"c","connectorApiVersion":3,
		"createdAt":"2026-01-02T03:04:05.678Z","status":{"status":"SYNC_STATUS_FROM_THE_FUTURE","lastError":"e"}}}}`), output)
	if err != nil {
		t.Fatal(err)
	}
	connector := got.(*appv1.ConnectorServiceGetResponse).GetConnectorView().GetConnector()
	if connector.GetId() != "c" || connector.GetStatus().GetLastError() != "e" || connector.GetCreatedAt().GetNanos() != 678e6 {
		t.Errorf("got %v", connector)
	}
	for _, bad := range []string{"", "<html>", "[]", "null x", `{"connectorView":`, `{"connectorView":{},"connectorView":{}}`} {
		if _, _, err := transcode.Answer([]byte(bad), output); err == nil {
			t.Errorf("%q was read as an answer", bad)
		}
	}
}

// Generated messages, as the proxy has them, are read and written like those
// of the other tests, which have no code of their own.
func TestGenerated(t *testing.T) {
	want := connectors(t)
	got, strays, err := transcode.Answer(protojsonOf(t, want), typeOf(want))
	if err != nil || strays.Any() || !proto.Equal(got, want) {
		t.Errorf("%v, strays %s %s", err, &strays, cmp.Diff(want, got, protocmp.Transform()))
	}
	encoded, err := transcode.Encode(transcode.JSON, got)
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, "the list", encoded, protojsonOf(t, want))
}
