package sandbox

import (
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
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

// maxMade bounds the apps and connectors that callers create.
const maxMade = 10_000

// A world is the apps with their connectors and syncs.
type world struct {
	now              func() time.Time
	syncTime         time.Duration
	app0, connector0 object // what every one begins as; never changes

	mu     sync.Mutex // guards what follows, and all in it
	apps   []*app     // by id
	serial int        // of the syncs that were added or remembered
	made   int        // apps and connectors
}

// newWorld returns the world that the constants above describe.
func newWorld(syncTime time.Duration, now func() time.Time) (*world, error) {
	w := &world{now: now, syncTime: syncTime}
	var err error
	if w.app0, err = parse("c1.api.app.v1.App", `{"createdAt":"2026-01-05T09:00:00Z","updatedAt":"2026-01-05T09:00:00Z",
		"accessModel":"APP_ACCESS_MODEL_CLASSIC","identityMatching":"APP_USER_IDENTITY_MATCHING_STRICT"}`); err != nil {
		return nil, err
	}
	if w.connector0, err = parse("c1.api.app.v1.Connector", `{"createdAt":"2026-01-05T09:00:00Z","updatedAt":"2026-01-05T10:00:00Z",
		"description":"Made up by the sandbox.","catalogId":"2ZqCatalog0sandbox0000000001","connectorApiVersion":2,"canResumeSync":true,
		"connectorSyncCronSchedule":{"cronSpec":"0 */6 * * *","timezone":"UTC"},"syncConfig":{"syncResourceTypeIds":["user","group"]},
		"userIds":["2ZqOwnerUser0sandbox00000001"],"status":{"status":"SYNC_STATUS_DONE","startedAt":"2026-01-05T10:00:00Z",
		"completedAt":"2026-01-05T11:00:00Z","updatedAt":"2026-01-05T11:00:00Z"}}`); err != nil {
		return nil, err
	}
	w.restore()
	return w, nil
}

// parse makes a message of the mirror's from its JSON.
func parse(name protoreflect.FullName, text string) (object, error) {
	o, err := newObject(name)
	if err != nil {
		return object{}, err
	}
	return o, protojson.Unmarshal([]byte(text), o.Interface())
}

// restore makes the world what it was in the beginning. The syncs of other
// connectors than ConnectorID are those with ConfirmablePrefix alone.
func (w *world) restore() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial, w.made, w.apps = 0, 0, nil
	payroll := w.addApp(AppID, "Payroll", "Who is paid, and how much.")
	okta := w.addConnector(payroll, ConnectorID, "Okta (production)")
	okta.syncs[DoneSyncID], okta.syncs[SyncLifecycleID] = Done, ErroredNoData
	status := okta.view.mutable("status")
	status.set("status", "SYNC_STATUS_ERROR")
	status.set("last_error", "sync "+SyncLifecycleID+" is ERRORED_NO_DATA: most of the data of the sync before is gone")
	status.set("started_at", epoch.Add(47*time.Hour))
	status.set("completed_at", epoch.Add(48*time.Hour))
	status.set("updated_at", epoch.Add(48*time.Hour))
	w.addConnector(payroll, "2ZqWorkdayConnector0sandb001", "Workday")
	jira := w.addConnector(payroll, "2ZqJiraConnector0sandbox0001", "Jira").view.mutable("status")
	jira.clear("completed_at") // a sync that takes as long as the sandbox lives
	jira.set("status", "SYNC_STATUS_RUNNING")
	jira.set("started_at", w.now())
	jira.set("updated_at", w.now())
	paused := w.addConnector(payroll, "2ZqGitHubConnector0sandbx001", "GitHub (paused)")
	paused.view.set("sync_disabled_at", epoch.Add(time.Hour))
	paused.view.set("sync_disabled_reason", "paused by its owner")
	large := w.addApp(LargeAppID, "Engineering", "What engineers sign in to.")
	for i := range LargeAppConnectors {
		w.addConnector(large, fmt.Sprintf("2ZqLargeConnector0sandbox%03d", i), fmt.Sprintf("Service %d", i))
	}
	w.addApp(EmptyAppID, "Archive", "It has no connectors.")
}

// epoch is when this C1 was set up.
var epoch = time.Date(2026, time.January, 5, 9, 0, 0, 0, time.UTC)
