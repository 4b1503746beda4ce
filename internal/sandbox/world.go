package sandbox

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/types/known/timestamppb"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
)

// What every sandbox begins with. The ids are the same in each, so that they
// can be pasted.
const (
	// AppID is the app that the other ids belong to.
	AppID = "2ZqPayrollApp0sandbox0000001"
	// ConnectorID is the connector whose last sync dropped its data.
	ConnectorID = "2ZqOktaConnector0sandbox0001"
	// SyncLifecycleID is that sync. It is ERRORED_NO_DATA: the first confirm
	// succeeds, a second one is FAILED_PRECONDITION.
	SyncLifecycleID = "2ZqErroredNoData0sandbox0001"
	// DoneSyncID is an earlier sync of the connector that went well, and
	// cannot be confirmed.
	DoneSyncID = "2ZqDoneSync0sandbox000000001"
	// LargeAppID is an app with LargeAppConnectors connectors: several pages.
	LargeAppID = "2ZqEngineeringApp0sandbox001"
	// LargeAppConnectors is how many connectors LargeAppID has.
	LargeAppConnectors = 60
	// EmptyAppID is an app without connectors.
	EmptyAppID = "2ZqEmptyApp0sandbox000000001"
	// ConfirmablePrefix begins the ids of syncs that need no making: each
	// connector has every one of them, ERRORED_NO_DATA until it is confirmed.
	ConfirmablePrefix = "nodata-"
)

// maxConfirmed bounds the syncs that are remembered because an id with
// ConfirmablePrefix was confirmed.
const maxConfirmed = 1 << 20

// A SyncState is what became of a sync.
type SyncState string

// The states of a sync. Only ErroredNoData can be confirmed.
const (
	Done          SyncState = "DONE"
	Errored       SyncState = "ERRORED"
	ErroredNoData SyncState = "ERRORED_NO_DATA" // the data of the sync before is gone
	Confirmed     SyncState = "CONFIRMED"       // it was ErroredNoData
)

// A world is the apps with their connectors and syncs.
type world struct {
	now      func() time.Time
	syncTime time.Duration

	mu     sync.Mutex // guards what follows
	apps   map[string][]*connector
	serial int // of the syncs that were added or remembered
}

// A connector is one of an app's. It is guarded by the world's lock.
type connector struct {
	view    *appv1.Connector // without status; never changes
	status  *appv1.ConnectorStatus
	syncs   map[string]SyncState
	started time.Time // when the last sync was asked for here; zero if never
}

// newWorld returns the world that the constants above describe.
func newWorld(syncTime time.Duration, now func() time.Time) *world {
	w := &world{now: now, syncTime: syncTime}
	w.restore()
	return w
}

// restore makes the world what it was in the beginning. The syncs of other
// connectors than ConnectorID are those with ConfirmablePrefix alone.
func (w *world) restore() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial = 0
	w.apps = map[string][]*connector{EmptyAppID: nil}
	okta := w.addConnector(AppID, ConnectorID, "Okta (production)")
	okta.status = &appv1.ConnectorStatus{
		Status:    appv1.ConnectorStatus_SYNC_STATUS_ERROR,
		LastError: "sync " + SyncLifecycleID + " is ERRORED_NO_DATA: most of the data of the sync before is gone",
		StartedAt: timestamppb.New(epoch.Add(47 * time.Hour)), CompletedAt: timestamppb.New(epoch.Add(48 * time.Hour)),
		UpdatedAt: timestamppb.New(epoch.Add(48 * time.Hour)),
	}
	okta.syncs[DoneSyncID] = Done
	okta.syncs[SyncLifecycleID] = ErroredNoData
	w.addConnector(AppID, "2ZqWorkdayConnector0sandb001", "Workday")
	paused := w.addConnector(AppID, "2ZqGitHubConnector0sandbx001", "GitHub (paused)")
	paused.view.SyncDisabledAt = timestamppb.New(epoch.Add(time.Hour))
	paused.view.SyncDisabledReason = "paused by its owner"
	paused.status = &appv1.ConnectorStatus{Status: appv1.ConnectorStatus_SYNC_STATUS_DISABLED}
	for i := range LargeAppConnectors {
		w.addConnector(LargeAppID, fmt.Sprintf("2ZqLargeConnector0sandbox%03d", i), fmt.Sprintf("Service %d", i))
	}
}

// epoch is when this C1 was set up.
var epoch = time.Date(2026, time.January, 5, 9, 0, 0, 0, time.UTC)

// addConnector adds a connector in good health. The lock must be held.
func (w *world) addConnector(appID, id, name string) *connector {
	c := &connector{
		view: &appv1.Connector{
			AppId: appID, Id: id, DisplayName: name, Description: "Made up by the sandbox.",
			CatalogId: "2ZqCatalog0sandbox0000000001", ConnectorApiVersion: 2, CanResumeSync: true,
			CreatedAt: timestamppb.New(epoch), UpdatedAt: timestamppb.New(epoch.Add(time.Hour)),
			ConnectorSyncCronSchedule: &appv1.ConnectorSyncCronSchedule{CronSpec: "0 */6 * * *", Timezone: "UTC"},
			SyncConfig:                &appv1.SyncConfig{SyncResourceTypeIds: []string{"user", "group"}},
			UserIds:                   []string{"2ZqOwnerUser0sandbox00000001"},
		},
		status: &appv1.ConnectorStatus{Status: appv1.ConnectorStatus_SYNC_STATUS_DONE,
			StartedAt: timestamppb.New(epoch.Add(time.Hour)), CompletedAt: timestamppb.New(epoch.Add(2 * time.Hour)),
			UpdatedAt: timestamppb.New(epoch.Add(2 * time.Hour))},
		syncs: make(map[string]SyncState),
	}
	w.apps[appID] = append(w.apps[appID], c)
	return c
}

// AddSync adds a sync in the given state to a connector, and returns its id.
func (s *Sandbox) AddSync(appID, connectorID string, state SyncState) (string, error) {
	w := s.world
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := w.connector(appID, connectorID)
	if err != nil {
		return "", fmt.Errorf("add sync: %w", err)
	}
	w.serial++
	id := fmt.Sprintf("2ZqAddedSync0sandbox%08d", w.serial)
	c.syncs[id] = state
	return id, nil
}

// Sync returns the state of a sync, and whether there is such a sync.
func (s *Sandbox) Sync(appID, connectorID, id string) (SyncState, bool) {
	w := s.world
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := w.connector(appID, connectorID)
	if err != nil {
		return "", false
	}
	return c.sync(id)
}

// connector finds a connector, or refuses with NOT_FOUND. The lock must be held.
func (w *world) connector(appID, id string) (*connector, error) {
	connectors, ok := w.apps[appID]
	if !ok {
		return nil, refused(code.Code_NOT_FOUND, "app %q not found", appID)
	}
	for _, c := range connectors {
		if c.view.GetId() == id {
			return c, nil
		}
	}
	return nil, refused(code.Code_NOT_FOUND, "connector %q not found in app %q", id, appID)
}

// sync is the state of a sync of c, and whether there is one. The world's lock
// must be held.
func (c *connector) sync(id string) (SyncState, bool) {
	if state, ok := c.syncs[id]; ok {
		return state, true
	}
	if strings.HasPrefix(id, ConfirmablePrefix) {
		return ErroredNoData, true
	}
	return "", false
}

// confirm overrides the error of a sync and starts a new one. Look-up, check
// and change happen under one lock: of many confirms of a sync one succeeds.
// It refuses with NOT_FOUND, FAILED_PRECONDITION, and RESOURCE_EXHAUSTED once
// maxConfirmed is reached.
func (w *world) confirm(appID, connectorID, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := w.connector(appID, connectorID)
	if err != nil {
		return err
	}
	state, ok := c.sync(id)
	if !ok {
		return refused(code.Code_NOT_FOUND, "sync %q not found in connector %q", id, connectorID)
	}
	if state != ErroredNoData {
		return refused(code.Code_FAILED_PRECONDITION, "sync %q is %s: only a sync that is ERRORED_NO_DATA can be confirmed", id, state)
	}
	if _, known := c.syncs[id]; !known {
		if w.serial++; w.serial > maxConfirmed {
			return refused(code.Code_RESOURCE_EXHAUSTED, "the sandbox remembers no more confirmed syncs")
		}
	}
	c.syncs[id] = Confirmed
	c.started = w.now()
	return nil
}

// force starts a sync, also while one runs: C1 queues them. A connector that
// is disabled refuses with FAILED_PRECONDITION.
func (w *world) force(appID, connectorID string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := w.connector(appID, connectorID)
	if err != nil {
		return err
	}
	if c.view.GetSyncDisabledAt() != nil {
		return refused(code.Code_FAILED_PRECONDITION, "connector %q is disabled: %s", connectorID, c.view.GetSyncDisabledReason())
	}
	c.started = w.now()
	return nil
}

// page returns up to size connectors of an app from an offset on, by id, and
// the offset that follows, which is 0 at the end.
func (w *world) page(appID string, offset, size int) ([]*appv1.ConnectorView, int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	connectors, ok := w.apps[appID]
	if !ok {
		return nil, 0, refused(code.Code_NOT_FOUND, "app %q not found", appID)
	}
	sorted := slices.SortedFunc(slices.Values(connectors), func(a, b *connector) int {
		return cmp.Compare(a.view.GetId(), b.view.GetId())
	})
	end := min(offset+size, len(sorted))
	var views []*appv1.ConnectorView
	for _, c := range sorted[min(offset, end):end] {
		views = append(views, w.show(c))
	}
	if end == len(sorted) {
		end = 0
	}
	return views, end, nil
}
