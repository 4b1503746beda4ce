package sandbox

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A connector is one of an app's. It is guarded by the world's lock.
type connector struct {
	id      string
	view    object // c1.api.app.v1.Connector; its status is of the last sync that was not asked for here
	syncs   map[string]SyncState
	started time.Time // when the last sync was asked for here; zero if never
}

// fixedOfConnector are the fields of a connector that C1 sets.
var fixedOfConnector = []protoreflect.Name{"app_id", "id", "config_updated_at", "connector_api_version", "created_at", "deleted_at", "download_url",
	"status", "sync_disabled_at", "sync_disabled_category", "sync_disabled_reason", "updated_at"}

// addConnector adds a connector in good health. The lock must be held.
func (w *world) addConnector(to *app, id, name string) *connector {
	c := &connector{id: id, view: w.connector0.clone(), syncs: make(map[string]SyncState)}
	c.view.set("app_id", to.id)
	c.view.set("id", id)
	c.view.set("display_name", name)
	at, _ := slices.BinarySearchFunc(to.connectors, id, connectorHasID)
	to.connectors = slices.Insert(to.connectors, at, c)
	return c
}

func connectorHasID(c *connector, id string) int { return strings.Compare(c.id, id) }

// connector finds a connector, or refuses with NOT_FOUND. The lock must be held.
func (w *world) connector(appID, id string) (*connector, error) {
	a, err := w.app(appID)
	if err != nil {
		return nil, err
	}
	at, ok := slices.BinarySearchFunc(a.connectors, id, connectorHasID)
	if !ok {
		return nil, refused(code.Code_NOT_FOUND, "connector %q not found in app %q", id, appID)
	}
	return a.connectors[at], nil
}

// show fills a ConnectorView with c as a caller sees it now. The lock must be held.
func (w *world) show(c *connector, in object) {
	view := c.view.clone()
	switch status := view.mutable("status"); {
	case view.has("sync_disabled_at"):
		view.clear("status")
		view.mutable("status").set("status", "SYNC_STATUS_DISABLED")
	case !c.started.IsZero():
		w.showSync(c, status)
	}
	in.set("connector", view)
}

// showSync makes a status that of a sync that was asked for here: it runs for
// the world's syncTime, and then is done.
func (w *world) showSync(c *connector, status object) {
	status.clear("last_error")
	status.clear("completed_at")
	status.set("status", "SYNC_STATUS_RUNNING")
	status.set("started_at", c.started)
	status.set("updated_at", c.started)
	if end := c.started.Add(w.syncTime); !w.now().Before(end) {
		status.set("status", "SYNC_STATUS_DONE")
		status.set("completed_at", end)
		status.set("updated_at", end)
	}
}

func (w *world) listConnectors(q, p object) error {
	a, err := w.app(q.text("app_id"))
	if err != nil {
		return err
	}
	return page(p, q, a.id, a.connectors, func(c *connector) object {
		view := object{p.NewField(p.field("list")).List().NewElement().Message()}
		w.show(c, view)
		return view
	})
}

func (w *world) getConnector(q, p object) error {
	c, err := w.connector(q.text("app_id"), q.text("id"))
	if err != nil {
		return err
	}
	w.show(c, p.mutable("connector_view"))
	return nil
}

// createConnector adds a connector, whose first sync begins.
func (w *world) createConnector(q, p object) error {
	a, err := w.app(q.text("app_id"))
	if err != nil {
		return err
	}
	id, err := w.newID("2ZqMadeConnector0sandbox")
	if err != nil {
		return err
	}
	c := w.addConnector(a, id, "Made connector")
	c.view.take(q)
	c.view.set("created_at", w.now())
	c.view.set("updated_at", w.now())
	c.started = w.now()
	w.show(c, p.mutable("connector_view"))
	return nil
}

// updateConnector makes a method of the names under which the request has the
// ids of app and connector.
func (w *world) updateConnector(appID, id protoreflect.Name) method {
	return func(q, p object) error {
		c, err := w.connector(q.text(appID), q.text(id))
		if err != nil {
			return err
		}
		if !q.has("connector") {
			return refused(code.Code_INVALID_ARGUMENT, "connector is missing")
		}
		if err := c.view.update(q.within("connector"), q.within("update_mask"), fixedOfConnector); err != nil {
			return err
		}
		c.view.set("updated_at", w.now())
		w.show(c, p.mutable("connector_view"))
		return nil
	}
}

// updateSchedule sets when a connector syncs; without a schedule, never by
// itself.
func (w *world) updateSchedule(q, _ object) error {
	c, err := w.connector(q.text("app_id"), q.text("connector_id"))
	if err != nil {
		return err
	}
	c.view.clear("connector_sync_cron_schedule")
	if q.has("cron") {
		c.view.mutable("connector_sync_cron_schedule").take(q.within("cron"))
	}
	return nil
}

func (w *world) deleteConnector(q, _ object) error {
	c, err := w.connector(q.text("app_id"), q.text("id"))
	if err != nil {
		return err
	}
	a, err := w.app(q.text("app_id"))
	if err != nil {
		return err
	}
	a.connectors = slices.DeleteFunc(a.connectors, func(other *connector) bool { return other == c })
	return nil
}
