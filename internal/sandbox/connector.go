package sandbox

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
)

// The procedures that have state.
const (
	ConfirmSyncValid = "c1.api.app.v1.ConnectorService/ConfirmSyncValid"
	ForceSync        = "c1.api.app.v1.ConnectorService/ForceSync"
	GetConnector     = "c1.api.app.v1.ConnectorService/Get"
	ListConnectors   = "c1.api.app.v1.ConnectorService/List"
)

const (
	defaultPageSize = 25
	maxPageSize     = 100
)

// methods are the procedures that the world answers itself.
func (w *world) methods() map[string]method {
	return map[string]method{
		ConfirmSyncValid: typed(func(q *appv1.ConfirmSyncValidRequest) (*appv1.ConfirmSyncValidResponse, error) {
			return &appv1.ConfirmSyncValidResponse{}, w.confirm(q.GetAppId(), q.GetConnectorId(), q.GetSyncLifecycleId())
		}),
		ForceSync: typed(func(q *appv1.ForceSyncRequest) (*appv1.ForceSyncResponse, error) {
			return &appv1.ForceSyncResponse{}, w.force(q.GetAppId(), q.GetConnectorId())
		}),
		GetConnector:   typed(w.get),
		ListConnectors: typed(w.list),
	}
}

// typed makes a method of a function of generated messages. A request that is
// dynamic becomes one of them, through the wire.
func typed[Q, P proto.Message](serve func(Q) (P, error)) method {
	return func(request proto.Message) (proto.Message, error) {
		if q, ok := request.(Q); ok {
			return serve(q)
		}
		var none Q
		q, _ := none.ProtoReflect().New().Interface().(Q)
		text, err := proto.Marshal(request)
		if err == nil {
			err = proto.Unmarshal(text, q)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", request.ProtoReflect().Descriptor().FullName(), err)
		}
		return serve(q)
	}
}

// get answers with a connector as it is now; NOT_FOUND if there is none.
func (w *world) get(q *appv1.ConnectorServiceGetRequest) (*appv1.ConnectorServiceGetResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := w.connector(q.GetAppId(), q.GetId())
	if err != nil {
		return nil, err
	}
	return &appv1.ConnectorServiceGetResponse{ConnectorView: w.show(c)}, nil
}

// list answers with a page of an app's connectors, 25 unless page_size says
// otherwise. A page_token is good for the app that it was given out for.
func (w *world) list(q *appv1.ConnectorServiceListRequest) (*appv1.ConnectorServiceListResponse, error) {
	size := int(q.GetPageSize())
	if size < 0 || size > maxPageSize {
		return nil, refused(code.Code_INVALID_ARGUMENT, "page_size %d is not between 0 and %d", size, maxPageSize)
	}
	if size == 0 {
		size = defaultPageSize
	}
	offset, ok := readPageToken(q.GetAppId(), q.GetPageToken())
	if !ok {
		return nil, refused(code.Code_INVALID_ARGUMENT, "page_token is not one of this list's")
	}
	views, next, err := w.page(q.GetAppId(), offset, size)
	if err != nil {
		return nil, err
	}
	return &appv1.ConnectorServiceListResponse{List: views, NextPageToken: pageToken(q.GetAppId(), next)}, nil
}

// pageToken is opaque to clients; it is empty where no page follows.
func pageToken(appID string, offset int) string {
	if offset == 0 {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(offset) + "@" + appID))
}

// readPageToken is the reverse. It accepts only tokens of the same app.
func readPageToken(appID, token string) (offset int, ok bool) {
	if token == "" {
		return 0, true
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return 0, false
	}
	number, rest, _ := strings.Cut(string(text), "@")
	offset, err = strconv.Atoi(number)
	return offset, err == nil && offset > 0 && offset <= 1<<30 && rest == appID
}

// show is c as a caller sees it now. The world's lock must be held.
func (w *world) show(c *connector) *appv1.ConnectorView {
	view := proto.CloneOf(c.view)
	view.Status = c.status
	if !c.started.IsZero() {
		view.Status = w.running(c)
	}
	return &appv1.ConnectorView{Connector: view}
}

// running is the status of a sync that was asked for here: it runs for the
// world's syncTime, and then is done.
func (w *world) running(c *connector) *appv1.ConnectorStatus {
	status := &appv1.ConnectorStatus{
		Status:    appv1.ConnectorStatus_SYNC_STATUS_RUNNING,
		StartedAt: timestamppb.New(c.started),
		UpdatedAt: timestamppb.New(c.started),
	}
	if end := c.started.Add(w.syncTime); !w.now().Before(end) {
		status.Status = appv1.ConnectorStatus_SYNC_STATUS_DONE
		status.CompletedAt, status.UpdatedAt = timestamppb.New(end), timestamppb.New(end)
	}
	return status
}
