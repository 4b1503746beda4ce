package sandbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// connector is what the tests read of a Get.
type connector struct {
	ConnectorView struct {
		Connector struct {
			ID, AppID, DisplayName string
			Status                 struct{ Status, LastError string }
		}
	}
}

func (h *harness) connectorStatus() string {
	h.t.Helper()
	got := h.call("GET", connectorPath, "")
	got.want(h.t, 200, -1)
	var c connector
	if err := json.Unmarshal([]byte(got.body), &c); err != nil {
		h.t.Fatal(err)
	}
	if c.ConnectorView.Connector.ID != sandbox.ConnectorID || c.ConnectorView.Connector.AppID != sandbox.AppID {
		h.t.Errorf("got connector %+v", c)
	}
	return c.ConnectorView.Connector.Status.Status
}

func TestConfirmOnce(t *testing.T) {
	h := start(t, sandbox.Config{})
	if got := h.connectorStatus(); got != "SYNC_STATUS_ERROR" {
		t.Errorf("before: %s", got)
	}
	first := h.confirm(sandbox.SyncLifecycleID)
	first.want(t, 200, -1)
	if first.body != "{}" || first.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %q, %v", first.body, first.header)
	}
	if got := h.connectorStatus(); got != "SYNC_STATUS_RUNNING" {
		t.Errorf("after: %s", got)
	}
	h.confirm(sandbox.SyncLifecycleID).want(t, 400, 9)
	if acts := h.Acts(sandbox.ConfirmSyncValid); acts != 1 {
		t.Errorf("acted %d times", acts)
	}
	if state, ok := h.Sync(sandbox.AppID, sandbox.ConnectorID, sandbox.SyncLifecycleID); !ok || state != sandbox.Confirmed {
		t.Errorf("the sync is %s, %v", state, ok)
	}
	h.Restore()
	h.confirm(sandbox.SyncLifecycleID).want(t, 200, -1)
}

func TestConfirmRules(t *testing.T) {
	h := start(t, sandbox.Config{})
	for _, test := range []struct {
		name, app, connector, sync string
		status, code               int
	}{
		{"no such app", "nope", sandbox.ConnectorID, sandbox.SyncLifecycleID, 404, 5},
		{"no such connector", sandbox.AppID, "nope", sandbox.SyncLifecycleID, 404, 5},
		{"connector of another app", sandbox.LargeAppID, sandbox.ConnectorID, sandbox.SyncLifecycleID, 404, 5},
		{"app without connectors", sandbox.EmptyAppID, sandbox.ConnectorID, sandbox.SyncLifecycleID, 404, 5},
		{"no such sync", sandbox.AppID, sandbox.ConnectorID, "nope", 404, 5},
		{"sync of another connector", sandbox.AppID, "2ZqWorkdayConnector0sandb001", sandbox.SyncLifecycleID, 404, 5},
		{"sync that went well", sandbox.AppID, sandbox.ConnectorID, sandbox.DoneSyncID, 400, 9},
		{"prefix", sandbox.AppID, sandbox.ConnectorID, sandbox.ConfirmablePrefix + "1", 200, -1},
		{"prefix again", sandbox.AppID, sandbox.ConnectorID, sandbox.ConfirmablePrefix + "1", 400, 9},
		{"prefix of another connector", sandbox.LargeAppID, "2ZqLargeConnector0sandbox000", sandbox.ConfirmablePrefix + "1", 200, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := h.Acts(sandbox.ConfirmSyncValid)
			h.call("POST", confirmPath(test.app, test.connector, test.sync), "{}").want(t, test.status, test.code)
			if acted := h.Acts(sandbox.ConfirmSyncValid) != before; acted != (test.status == 200) || h.last().Acted != acted {
				t.Errorf("acted: %v, in the record: %v", acted, h.last().Acted)
			}
		})
	}
}

func TestAddSync(t *testing.T) {
	h := start(t, sandbox.Config{})
	for state, status := range map[sandbox.SyncState]int{
		sandbox.ErroredNoData: 200, sandbox.Errored: 400, sandbox.Done: 400, sandbox.Confirmed: 400,
	} {
		id, err := h.AddSync(sandbox.AppID, sandbox.ConnectorID, state)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.confirm(id); got.status != status {
			t.Errorf("%s: got %d, want %d", state, got.status, status)
		}
	}
	if _, err := h.AddSync(sandbox.AppID, "nope", sandbox.Done); err == nil {
		t.Error("a sync was added to no connector")
	}
}

func TestForceSync(t *testing.T) {
	h := start(t, sandbox.Config{})
	h.force().want(t, 200, -1)
	h.force().want(t, 200, -1)
	if got := h.connectorStatus(); got != "SYNC_STATUS_RUNNING" {
		t.Errorf("got %s", got)
	}
	if acts := h.Acts(sandbox.ForceSync); acts != 2 {
		t.Errorf("acted %d times", acts)
	}
	h.call("POST", appsPath+"/connectors/nope/force_sync", "{}").want(t, 404, 5)
	h.call("POST", appsPath+"/connectors/2ZqGitHubConnector0sandbx001/force_sync", "{}").want(t, 400, 9)
	h.call("GET", appsPath+"/connectors/nope", "").want(t, 404, 5)
}

func TestListPages(t *testing.T) {
	h := start(t, sandbox.Config{})
	seen := make(map[string]int)
	var sizes []int
	token := ""
	for {
		got := h.call("GET", "/api/v1/apps/"+sandbox.LargeAppID+"/connectors?page_size=25&page_token="+token, "")
		got.want(t, 200, -1)
		var page struct {
			List          []struct{ Connector struct{ ID string } }
			NextPageToken string
		}
		if err := json.Unmarshal([]byte(got.body), &page); err != nil {
			t.Fatal(err)
		}
		for _, view := range page.List {
			seen[view.Connector.ID]++
		}
		sizes = append(sizes, len(page.List))
		if token = page.NextPageToken; token == "" || len(sizes) > 10 {
			break
		}
	}
	if diff := cmp.Diff([]int{25, 25, 10}, sizes); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	if len(seen) != sandbox.LargeAppConnectors {
		t.Errorf("saw %d connectors", len(seen))
	}
	if h.Acts(sandbox.ListConnectors) != 0 {
		t.Error("a list acted")
	}
}

func TestListRefusals(t *testing.T) {
	h := start(t, sandbox.Config{})
	list := "/api/v1/apps/" + sandbox.LargeAppID + "/connectors"
	var first struct{ NextPageToken string }
	got := h.call("GET", list, "")
	if err := json.Unmarshal([]byte(got.body), &first); err != nil || first.NextPageToken == "" {
		t.Fatalf("got %s, %v", got.body, err)
	}
	for target, want := range map[string]int{
		list + "?page_size=-1":                                     400,
		list + "?page_size=101":                                    400,
		list + "?page_size=100":                                    200,
		list + "?page_token=nope":                                  400,
		appsPath + "/connectors?page_token=" + first.NextPageToken: 400,
		"/api/v1/apps/" + sandbox.EmptyAppID + "/connectors":       200,
		"/api/v1/apps/nope/connectors":                             404,
	} {
		if got := h.call("GET", target, ""); got.status != want {
			t.Errorf("%s: got %d, want %d: %s", target, got.status, want, got.body)
		}
	}
}

// TestConfirmConcurrently is the promise that the world is one: of 1,000
// confirms of one sync at the same time, one acts.
func TestConfirmConcurrently(t *testing.T) {
	h := start(t, sandbox.Config{})
	target := confirmPath(sandbox.AppID, sandbox.ConnectorID, sandbox.SyncLifecycleID)
	statuses := make([]int, 1000)
	var wg sync.WaitGroup
	limit := make(chan struct{}, 100)
	for i := range statuses {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			got := h.call("POST", target, "{}")
			if got.status == 400 && got.code() != 9 {
				t.Errorf("got %s", got.body)
			}
			statuses[i] = got.status
		})
	}
	wg.Wait()
	counts := make(map[int]int)
	for _, status := range statuses {
		counts[status]++
	}
	if diff := cmp.Diff(map[int]int{http.StatusOK: 1, http.StatusBadRequest: 999}, counts); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	if h.Acts(sandbox.ConfirmSyncValid) != 1 || h.AcceptedHits() != 1000 || h.Hits() != 1000 {
		t.Errorf("acted %d times, %d accepted of %d", h.Acts(sandbox.ConfirmSyncValid), h.AcceptedHits(), h.Hits())
	}
}

func TestConfirmManyDistinct(t *testing.T) {
	h := start(t, sandbox.Config{})
	var wg sync.WaitGroup
	for worker := range 20 {
		wg.Go(func() {
			for i := range 20 {
				if got := h.confirm(fmt.Sprintf("%s%d-%d", sandbox.ConfirmablePrefix, worker, i)); got.status != 200 {
					t.Errorf("got %d %s", got.status, got.body)
				}
			}
		})
	}
	wg.Wait()
	if acts := h.Acts(sandbox.ConfirmSyncValid); acts != 400 {
		t.Errorf("acted %d times", acts)
	}
}
