package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/c1proxy/c1proxy/internal/authn"
	"github.com/c1proxy/c1proxy/internal/config"
	"github.com/c1proxy/c1proxy/internal/dev/conformance/conformancev1"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// configuration lets the suite's caller call the suite's service, and nothing
// else. C1 is never called: nothing listens at its address.
const configuration = `
listen: {address: "127.0.0.1:0", max_message_bytes: %d, failed_auth: {rate: 0}}
tenants:
  - {name: none, url: "http://127.0.0.1:1", allow_insecure: true, credential: {access_token: {file: %q}}}
teams:
  - name: suite
    tenant: none
    callers: [{name: client, api_keys: [{sha256: %q}]}]
    allow: [{methods: ["connectrpc.conformance.v1.ConformanceService/*"]}]
audit: {dir: %q, key_file: %q}
admin: {address: "127.0.0.1:0"}
`

// auditDir is the folder of the audit in the folder that mount is given.
const auditDir = "audit"

// mount opens a c1proxy with all of its files in dir, on whose line stand the
// unary procedures of the suite's service. key is the API key that opens them.
// Messages of more than limit bytes are refused.
func mount(ctx context.Context, dir string, limit uint32) (p *proxy.Proxy, key string, err error) {
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("none"), 0o600); err != nil {
		return nil, "", err
	}
	key = authn.NewKey()
	text := fmt.Sprintf(configuration, limit, token, authn.HashKey(key).String(),
		filepath.Join(dir, auditDir), filepath.Join(dir, "audit.key"))
	// Without proxy.Check, which knows the mirror's methods only; Open checks them all.
	cfg, err := config.Parse("conformance.yaml", []byte(text))
	if err != nil {
		return nil, "", err
	}
	options := proxy.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	methods := conformancev1.File_connectrpc_conformance_v1_service_proto.Services().ByName("ConformanceService").Methods()
	for i := range methods.Len() {
		if method := methods.Get(i); !method.IsStreamingClient() && !method.IsStreamingServer() {
			options.Local = append(options.Local, proxy.Local{Method: method, Handle: answer})
		}
	}
	if len(options.Local) == 0 {
		return nil, "", errors.New("the service has no unary procedure")
	}
	p, err = proxy.Open(ctx, cfg, options)
	return p, key, err
}
