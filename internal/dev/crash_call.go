package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

const crashService = "c1.api.app.v1.ConnectorService"

// callers of the load. Most calls are let through; the empty caller shows no
// key, the stranger one that nobody knows, and the others are refused by
// policy or by their limit.
var crashCallers = []string{"bot", "bot", "bot", "bot", "bot", "reader", "reader", "slow", "", "stranger"}

var crashDoors = []string{"connect", "grpc", "rest"}

// methods of the load: two writes, of which one is made more often, and a read.
// The path is C1's own, below an app's.
var crashMethods = []struct{ name, verb, path string }{
	{"ConfirmSyncValid", http.MethodPost, "/connectors/{connector}/confirm_sync_valid/{sync}"},
	{"ConfirmSyncValid", http.MethodPost, "/connectors/{connector}/confirm_sync_valid/{sync}"},
	{"ForceSync", http.MethodPost, "/connectors/{connector}/force_sync"},
	{"List", http.MethodGet, "/connectors"},
}

// A load makes calls of a gateway.
type load struct {
	rig    *rig
	url    string
	http1  *http.Client
	http2  *http.Client
	serial atomic.Int64
	// unavailable counts the answers that the audit was not there.
	unavailable, ok atomic.Int64
}

func (r *rig) load(g *gateway) *load {
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	return &load{rig: r, url: g.url, http1: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		http2: &http.Client{Transport: &http.Transport{Protocols: h2}}}
}

func (l *load) close() {
	l.http1.CloseIdleConnections()
	l.http2.CloseIdleConnections()
}

// each makes calls from n callers at once: each one its own, by chance, until
// done tells that it has made enough of them.
func (l *load) each(ctx context.Context, n int, seed int, done func(made int) bool) {
	var callers sync.WaitGroup
	for i := range n {
		random := l.rig.crash.random(seed<<8 | i)
		callers.Go(func() {
			for made := 0; ctx.Err() == nil && !done(made); made++ {
				l.chance(ctx, random)
			}
		})
	}
	callers.Wait()
}

// chance makes one call, whatever becomes of it.
func (l *load) chance(ctx context.Context, random *rand.Rand) {
	caller := crashCallers[random.IntN(len(crashCallers))]
	_, _ = l.call(ctx, caller, crashDoors[random.IntN(len(crashDoors))], random.IntN(len(crashMethods)), random.IntN(3))
}

// call makes a call, by its caller, door, method and the length of its reason
// (0 to 2), and notes its answer. The error says that there was none.
func (l *load) call(ctx context.Context, caller, door string, method, reason int) (status int, err error) {
	request, err := l.request(ctx, door, method)
	if err != nil {
		return 0, err
	}
	if key := l.rig.keys[caller]; key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	if reason > 0 {
		request.Header.Set("C1proxy-Reason", strings.Repeat("r", 256*reason))
	}
	known := caller != "" && caller != "stranger"
	if !known {
		l.rig.mu.Lock()
		l.rig.nameless++
		l.rig.mu.Unlock()
	}
	client := l.http1
	if door == "grpc" {
		client = l.http2
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	id := response.Header.Get("X-Request-Id")
	if id == "" {
		return 0, errors.New("an answer without a request id")
	}
	l.rig.answer(id, known)
	body, err := io.ReadAll(response.Body)
	text := string(body) + response.Header.Get("Grpc-Message") + response.Trailer.Get("Grpc-Message")
	switch {
	case strings.Contains(text, "AUDIT_UNAVAILABLE") || strings.Contains(text, "audit"):
		l.unavailable.Add(1)
	case response.StatusCode == http.StatusOK && err == nil:
		l.ok.Add(1)
	}
	return response.StatusCode, err
}

// request makes the request of a method by a door.
func (l *load) request(ctx context.Context, door string, method int) (*http.Request, error) {
	m := crashMethods[method]
	sync := fmt.Sprintf("%s%d", sandbox.ConfirmablePrefix, l.serial.Add(1))
	message := fmt.Sprintf(`{"appId":%q,"connectorId":%q,"syncLifecycleId":%q}`, sandbox.AppID, sandbox.ConnectorID, sync)
	switch m.name {
	case "ForceSync":
		message = fmt.Sprintf(`{"appId":%q,"connectorId":%q}`, sandbox.AppID, sandbox.ConnectorID)
	case "List":
		message = fmt.Sprintf(`{"appId":%q}`, sandbox.AppID)
	}
	verb, url, media, body := http.MethodPost, l.url+"/"+crashService+"/"+m.name, "application/json", []byte(message)
	switch door {
	case "rest":
		path := strings.NewReplacer("{connector}", sandbox.ConnectorID, "{sync}", sync).Replace(m.path)
		verb, url, body = m.verb, l.url+"/api/v1/apps/"+sandbox.AppID+path, nil
		if verb == http.MethodPost {
			body = []byte("{}")
		}
	case "grpc":
		framed, err := grpcFrame(m.name, body)
		if err != nil {
			return nil, err
		}
		media, body = "application/grpc", framed
	}
	request, err := http.NewRequestWithContext(ctx, verb, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", media)
	if door == "grpc" {
		request.Header.Set("Te", "trailers")
	}
	return request, nil
}

// grpcFrame is a message, given in JSON, as gRPC sends it.
func grpcFrame(method string, message []byte) ([]byte, error) {
	found, err := catalog.Files().FindDescriptorByName(protoreflect.FullName(crashService + "." + method))
	if err != nil {
		return nil, err
	}
	m := dynamicpb.NewMessage(found.(protoreflect.MethodDescriptor).Input())
	if err := protojson.Unmarshal(message, m); err != nil {
		return nil, err
	}
	data, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(data))), data...), nil
}
