package sandbox

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
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
func (w *world) confirm(q, _ object) error {
	c, err := w.connector(q.text("app_id"), q.text("connector_id"))
	if err != nil {
		return err
	}
	id := q.text("sync_lifecycle_id")
	state, ok := c.sync(id)
	if !ok {
		return refused(code.Code_NOT_FOUND, "sync %q not found in connector %q", id, c.id)
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
func (w *world) force(q, _ object) error {
	c, err := w.connector(q.text("app_id"), q.text("connector_id"))
	if err != nil {
		return err
	}
	if c.view.has("sync_disabled_at") {
		return refused(code.Code_FAILED_PRECONDITION, "connector %q is disabled: %s", c.id, c.view.text("sync_disabled_reason"))
	}
	c.started = w.now()
	return nil
}

// pause disables the syncs of a connector. One that is disabled stays so, and
// keeps its time and reason.
func (w *world) pause(q, _ object) error {
	c, err := w.connector(q.text("app_id"), q.text("connector_id"))
	if err != nil {
		return err
	}
	if !c.view.has("sync_disabled_at") {
		c.view.set("sync_disabled_at", w.now())
		c.view.set("sync_disabled_reason", "paused by a caller")
	}
	return nil
}

// resume is the reverse.
func (w *world) resume(q, _ object) error {
	c, err := w.connector(q.text("app_id"), q.text("connector_id"))
	if err != nil {
		return err
	}
	c.view.clear("sync_disabled_at")
	c.view.clear("sync_disabled_reason")
	return nil
}
