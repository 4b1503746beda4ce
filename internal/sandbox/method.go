package sandbox

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The procedures that have state.
const (
	ListApps   = "c1.api.app.v1.Apps/List"
	GetApp     = "c1.api.app.v1.Apps/Get"
	CreateApp  = "c1.api.app.v1.Apps/Create"
	UpdateApp  = "c1.api.app.v1.Apps/Update"
	DeleteApp  = "c1.api.app.v1.Apps/Delete"
	SearchApps = "c1.api.app.v1.AppSearch/Search"

	ListConnectors           = "c1.api.app.v1.ConnectorService/List"
	GetConnector             = "c1.api.app.v1.ConnectorService/Get"
	CreateConnector          = "c1.api.app.v1.ConnectorService/Create"
	CreateDelegatedConnector = "c1.api.app.v1.ConnectorService/CreateDelegated"
	UpdateConnector          = "c1.api.app.v1.ConnectorService/Update"
	UpdateDelegatedConnector = "c1.api.app.v1.ConnectorService/UpdateDelegated"
	UpdateConnectorSchedule  = "c1.api.app.v1.ConnectorService/UpdateConnectorSchedule"
	DeleteConnector          = "c1.api.app.v1.ConnectorService/Delete"

	ConfirmSyncValid = "c1.api.app.v1.ConnectorService/ConfirmSyncValid"
	ForceSync        = "c1.api.app.v1.ConnectorService/ForceSync"
	PauseSync        = "c1.api.app.v1.ConnectorService/PauseSync"
	ResumeSync       = "c1.api.app.v1.ConnectorService/ResumeSync"
)

// A method carries out one call: it reads q and fills p, which is empty. It
// runs under the world's lock.
type method func(q, p object) error

// methods are the procedures that the world answers itself.
func (w *world) methods() map[string]method {
	return map[string]method{
		ListApps: w.listApps, GetApp: w.getApp, CreateApp: w.createApp, UpdateApp: w.updateApp, DeleteApp: w.deleteApp, SearchApps: w.searchApps,
		ListConnectors: w.listConnectors, GetConnector: w.getConnector,
		CreateConnector: w.createConnector, CreateDelegatedConnector: w.createConnector,
		UpdateConnector: w.updateConnector("app_id", "id"), UpdateDelegatedConnector: w.updateConnector("connector_app_id", "connector_id"),
		UpdateConnectorSchedule: w.updateSchedule, DeleteConnector: w.deleteConnector,
		ConfirmSyncValid: w.confirm, ForceSync: w.force, PauseSync: w.pause, ResumeSync: w.resume,
	}
}

// answer runs a method. Neither the request nor what it returns shares
// anything with the world.
func (w *world) answer(serve method, request proto.Message, output protoreflect.FullName) (proto.Message, error) {
	q, err := objectOf(request)
	if err != nil {
		return nil, err
	}
	p, err := newObject(output)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := serve(q, p); err != nil {
		return nil, err
	}
	return p.clone().Interface(), nil
}
