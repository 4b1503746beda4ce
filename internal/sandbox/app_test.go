package sandbox_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// appView is what the tests read of an app.
type appView struct {
	ID, DisplayName, Description, CreatedAt, UpdatedAt, IdentityMatching string
	Annotations                                                          map[string]string
	MonthlyCostUsd                                                       int
}

// app makes a call and reads the app in its answer.
func (h *harness) app(method, target, body string) appView {
	h.t.Helper()
	got := h.call(method, target, body)
	got.want(h.t, 200, -1)
	var answer struct{ App appView }
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
		h.t.Fatal(err)
	}
	return answer.App
}

// apps makes a call and reads the ids of the apps in its answer.
func (h *harness) apps(method, target, body string) (ids []string, next string) {
	h.t.Helper()
	got := h.call(method, target, body)
	got.want(h.t, 200, -1)
	var answer struct {
		List          []appView
		NextPageToken string
	}
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
		h.t.Fatal(err)
	}
	for _, a := range answer.List {
		ids = append(ids, a.ID)
	}
	return ids, answer.NextPageToken
}

func TestAppLife(t *testing.T) {
	h := start(t, sandbox.Config{})
	made := h.app("POST", "/api/v1/apps", `{"displayName":"Wiki","description":"Pages.","annotations":{"team":"docs"},"monthlyCostUsd":7,
		"identityMatching":"APP_USER_IDENTITY_MATCHING_DISPLAY_NAME","owners":["someone"],"sinceTomorrow":1}`)
	if made.DisplayName != "Wiki" || made.Description != "Pages." || made.Annotations["team"] != "docs" || made.MonthlyCostUsd != 7 ||
		made.IdentityMatching != "APP_USER_IDENTITY_MATCHING_DISPLAY_NAME" || made.ID == "" || made.CreatedAt == "" {
		t.Errorf("made %+v", made)
	}
	path := "/api/v1/apps/" + made.ID
	if got := h.app("GET", path, ""); got.ID != made.ID || got.DisplayName != "Wiki" {
		t.Errorf("got %+v", got)
	}
	if ids, _ := h.apps("GET", "/api/v1/apps", ""); len(ids) != 4 || !slices.Contains(ids, made.ID) || !slices.IsSorted(ids) {
		t.Errorf("listed %v", ids)
	}
	second := h.app("POST", "/api/v1/apps", `{"displayName":"Wiki"}`)
	if second.ID == made.ID {
		t.Error("two apps have one id")
	}
	h.call("POST", path+"/connectors/create", `{"catalogId":"x"}`).want(t, 200, -1)
	h.call("DELETE", path, `{}`).want(t, 200, -1)
	h.call("GET", path, "").want(t, 404, 5)
	h.call("GET", path+"/connectors", "").want(t, 404, 5)
	h.call("DELETE", path, `{}`).want(t, 404, 5)
	h.call("POST", path, `{"app":{"displayName":"Wiki"}}`).want(t, 404, 5)
	if h.Acts(sandbox.CreateApp) != 2 || h.Acts(sandbox.DeleteApp) != 1 || h.Acts(sandbox.UpdateApp) != 0 || h.Acts(sandbox.ListApps) != 0 {
		t.Errorf("acts: %d, %d, %d", h.Acts(sandbox.CreateApp), h.Acts(sandbox.DeleteApp), h.Acts(sandbox.UpdateApp))
	}
	h.Restore()
	if ids, _ := h.apps("GET", "/api/v1/apps", ""); len(ids) != 3 {
		t.Errorf("restored %v", ids)
	}
}

// TestReadWhileWritten reads an app while others change it, all of them under
// one fault: what is answered is a copy. It takes the race detector to see more.
func TestReadWhileWritten(t *testing.T) {
	h := start(t, sandbox.Config{})
	h.Inject(sandbox.Rule{Fault: sandbox.UnknownField()})
	path := "/api/v1/apps/" + sandbox.AppID
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				if i%2 == 0 {
					h.call("POST", path, `{"app":{"annotations":{"a":"b"},"description":"d","instructions":"i"}}`).want(t, 200, -1)
				} else {
					h.call("GET", path, "").want(t, 200, -1)
				}
			}
		})
	}
	wg.Wait()
}

func TestCreateAppRefusals(t *testing.T) {
	h := start(t, sandbox.Config{})
	h.call("POST", "/api/v1/apps", `{}`).want(t, 400, 3)
	h.call("POST", "/api/v1/apps", `{"displayName":""}`).want(t, 400, 3)
	h.call("POST", "/api/v1/apps", `{"displayName":1}`).want(t, 400, 3)
	if h.Acts(sandbox.CreateApp) != 0 {
		t.Error("a refused create acted")
	}
}

// TestUpdateMasks holds which fields an update sets.
func TestUpdateMasks(t *testing.T) {
	h := start(t, sandbox.Config{})
	path := "/api/v1/apps/" + sandbox.AppID
	first := h.app("GET", path, "")
	for _, test := range []struct {
		name, body           string
		display, description string
	}{
		{"what is set, without a mask", `{"app":{"displayName":"A"}}`, "A", first.Description},
		{"an empty mask", `{"app":{"displayName":"B"},"updateMask":""}`, "B", first.Description},
		{"what is named", `{"app":{"displayName":"C","description":"c"},"updateMask":"description"}`, "B", "c"},
		{"two", `{"app":{"displayName":"D","description":"d"},"updateMask":"displayName,description"}`, "D", "d"},
		{"named, and not set", `{"app":{"displayName":"E"},"updateMask":"displayName,description"}`, "E", ""},
		{"what C1 sets", `{"app":{"id":"x","createdAt":"2020-01-01T00:00:00Z","displayName":"F"},"updateMask":"id,createdAt,displayName"}`, "F", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := h.app("POST", path, test.body)
			if got.DisplayName != test.display || got.Description != test.description || got.ID != sandbox.AppID ||
				got.CreatedAt != first.CreatedAt || got.UpdatedAt == first.UpdatedAt {
				t.Errorf("got %+v", got)
			}
			if again := h.app("GET", path, ""); again.DisplayName != got.DisplayName || again.Description != got.Description {
				t.Errorf("then %+v", again)
			}
		})
	}
	for _, body := range []string{`{}`, `{"updateMask":"displayName"}`, `{"app":{},"updateMask":"nope"}`, `{"app":{"displayName":"G"},"updateMask":"displayName,nope"}`,
		`{"app":{},"updateMask":"display_name"}`, `{"app":{},"updateMask":"*"}`} {
		h.call("POST", path, body).want(t, 400, 3)
	}
	if got := h.app("GET", path, ""); got.DisplayName != "F" || h.Acts(sandbox.UpdateApp) != 6 {
		t.Errorf("after refusals: %+v, %d acts", got, h.Acts(sandbox.UpdateApp))
	}
}

func TestAppPages(t *testing.T) {
	h := start(t, sandbox.Config{})
	all, next := h.apps("GET", "/api/v1/apps", "")
	if want := []string{sandbox.EmptyAppID, sandbox.LargeAppID, sandbox.AppID}; !slices.Equal(all, want) || next != "" {
		t.Errorf("got %v, next %q", all, next)
	}
	first, next := h.apps("GET", "/api/v1/apps?page_size=2", "")
	rest, end := h.apps("GET", "/api/v1/apps?page_size=2&page_token="+next, "")
	if !slices.Equal(append(first, rest...), all) || len(first) != 2 || next == "" || end != "" {
		t.Errorf("got %v %q, then %v %q", first, next, rest, end)
	}
	h.call("GET", "/api/v1/apps/"+sandbox.LargeAppID+"/connectors?page_token="+next, "").want(t, 400, 3)
	for body, want := range map[string][]string{
		`{}`:                        all,
		`{"query":"ROLL"}`:          {sandbox.AppID},
		`{"displayName":"engin"}`:   {sandbox.LargeAppID},
		`{"onlyDirectories":true}`:  nil,
		`{"query":"nothing of it"}`: nil,
		`{"appIds":["` + sandbox.AppID + `","nope"]}`:      {sandbox.AppID},
		`{"excludeAppIds":["` + sandbox.EmptyAppID + `"]}`: {sandbox.LargeAppID, sandbox.AppID},
	} {
		if got, _ := h.apps("POST", "/api/v1/search/apps", body); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", body, got, want)
		}
	}
	if h.Acts(sandbox.SearchApps) != 0 {
		t.Error("a search acted")
	}
}

// TestConnectorLife walks a connector through what an operator does with it.
func TestConnectorLife(t *testing.T) {
	h := start(t, sandbox.Config{})
	connectors := "/api/v1/apps/" + sandbox.EmptyAppID + "/connectors"
	view := func(method, target, body string) (c connector) {
		t.Helper()
		got := h.call(method, target, body)
		got.want(t, 200, -1)
		if err := json.Unmarshal([]byte(got.body), &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	h.call("POST", "/api/v1/apps/nope/connectors/create", `{}`).want(t, 404, 5)
	made := view("POST", connectors, `{"displayName":"Directory","catalogId":"c"}`).ConnectorView.Connector
	if made.DisplayName != "Directory" || made.AppID != sandbox.EmptyAppID || made.Status.Status != "SYNC_STATUS_RUNNING" {
		t.Errorf("made %+v", made)
	}
	path := connectors + "/" + made.ID
	config := `{"@type":"type.googleapis.com/c1.sandbox.v1.Unheard","a":1}`
	if other := view("POST", connectors+"/create", `{"catalogId":"d","config":`+config+`}`).ConnectorView.Connector; other.ID == made.ID {
		t.Error("two connectors have one id")
	}
	for _, body := range []string{`{"connector":{"displayName":"A","id":"x"}}`, `{"connector":{"displayName":"B"},"updateMask":"description"}`} {
		if got := view("POST", path, body).ConnectorView.Connector; got.ID != made.ID || got.DisplayName != "A" {
			t.Errorf("%s: got %+v", body, got)
		}
	}
	if got := view("POST", path+"/delegated", `{"connector":{"displayName":"C"},"updateMask":"displayName"}`); got.ConnectorView.Connector.DisplayName != "C" {
		t.Errorf("got %+v", got)
	}
	h.call("POST", path, `{}`).want(t, 400, 3)
	h.call("POST", path+"/pause", `{}`).want(t, 200, -1)
	h.call("POST", path+"/force_sync", `{}`).want(t, 400, 9)
	if got := view("GET", path, "").ConnectorView.Connector; got.Status.Status != "SYNC_STATUS_DISABLED" {
		t.Errorf("paused: %+v", got)
	}
	h.call("POST", path+"/resume", `{}`).want(t, 200, -1)
	h.call("POST", path+"/force_sync", `{}`).want(t, 200, -1)
	h.call("POST", path+"/schedule", `{"cron":{"cronSpec":"1 2 3 4 5","timezone":"CET"}}`).want(t, 200, -1)
	if got := h.call("GET", path, ""); !strings.Contains(got.body, `"connectorSyncCronSchedule":{"cronSpec":"1 2 3 4 5","timezone":"CET"}`) {
		t.Errorf("scheduled: %s", got.body)
	}
	h.call("DELETE", path, `{}`).want(t, 200, -1)
	for _, call := range [][2]string{{"GET", path}, {"DELETE", path}, {"POST", path}, {"POST", path + "/pause"}, {"POST", path + "/resume"},
		{"POST", path + "/schedule"}, {"POST", path + "/delegated"}, {"POST", path + "/force_sync"}} {
		body := "{}"
		if call[0] == "GET" {
			body = ""
		}
		h.call(call[0], call[1], body).want(t, 404, 5)
	}
}
