package sandbox_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// A harness is a running sandbox and a plain client with a good token.
type harness struct {
	*sandbox.Server
	t      *testing.T
	client *http.Client
	token  string
}

// start runs a sandbox for as long as the test does.
func start(t *testing.T, config sandbox.Config) *harness {
	t.Helper()
	server, err := sandbox.Start("127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{Server: server, t: t, token: server.Facts().StaticToken, client: newClient(t, server.CertPEM(), false)}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// newClient makes a client that follows no redirect, and over http:// speaks
// HTTP/2 only if asked to. Over https:// it takes what ALPN gives.
func newClient(t *testing.T, certPEM []byte, h2c bool) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	var protocols http.Protocols
	protocols.SetHTTP1(!h2c)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(h2c)
	transport.Protocols = &protocols
	if certPEM != nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(certPEM) {
			t.Fatal("the sandbox's certificate does not read")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// A reply is what came back. Err is that of the exchange or of the body.
type reply struct {
	status int
	header http.Header
	body   string
	err    error
}

// code is the code of the google.rpc.Status in the body; -1 if there is none.
func (r reply) code() int {
	status := struct{ Code *int }{}
	if json.Unmarshal([]byte(r.body), &status) != nil || status.Code == nil {
		return -1
	}
	return *status.Code
}

// send sends a request with the harness's token, and reads the answer.
func (h *harness) send(ctx context.Context, method, target, body string) reply {
	h.t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, h.URL()+target, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	request.GetBody = nil // so that net/http never sends twice
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if h.token != "" {
		request.Header.Set("Authorization", "Bearer "+h.token)
	}
	return h.do(request)
}

func (h *harness) do(request *http.Request) reply {
	response, err := h.client.Do(request)
	if err != nil {
		return reply{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return reply{status: response.StatusCode, header: response.Header, body: string(body), err: err}
}

func (h *harness) call(method, target, body string) reply {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	return h.send(ctx, method, target, body)
}

func (h *harness) confirm(syncID string) reply {
	h.t.Helper()
	return h.call("POST", confirmPath(sandbox.AppID, sandbox.ConnectorID, syncID), "{}")
}

func (h *harness) force() reply {
	h.t.Helper()
	return h.call("POST", connectorPath+"/force_sync", "{}")
}

const (
	appsPath      = "/api/v1/apps/" + sandbox.AppID
	connectorPath = appsPath + "/connectors/" + sandbox.ConnectorID
)

func confirmPath(app, connector, sync string) string {
	return "/api/v1/apps/" + url.PathEscape(app) + "/connectors/" + url.PathEscape(connector) + "/confirm_sync_valid/" + url.PathEscape(sync)
}

// status fails the test unless r is an answer with this status and code.
func (r reply) want(t *testing.T, status, code int) {
	t.Helper()
	if r.err != nil || r.status != status || code >= 0 && r.code() != code {
		t.Errorf("got status %d, code %d, error %v, want %d, %d; body %.300s", r.status, r.code(), r.err, status, code, r.body)
	}
}

// last is the latest request of the record.
func (h *harness) last() sandbox.Request {
	h.t.Helper()
	requests := h.Requests()
	if len(requests) == 0 {
		h.t.Fatal("the record is empty")
	}
	return requests[len(requests)-1]
}
