package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"connectrpc.com/connect"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/gen/c1proxy/v1/c1proxyv1connect"
	"github.com/c1proxy/c1proxy/internal/config"
)

// askTimeout bounds one question to a running c1proxy.
const askTimeout = 30 * time.Second

// keyVariable is the environment variable that holds the key of who asks.
const keyVariable = "C1PROXY_KEY"

// A remote is a running c1proxy that a command asks, and who asks. The key never
// stands on the command line, which others on the machine can read.
type remote struct {
	Address string `required:"" xor:"where" placeholder:"URL" help:"A running c1proxy: where callers call it, to ask as one of them, or its admin listener, to ask about any with a key of admin.keys."`
	KeyFile string `placeholder:"FILE" help:"With --address: the file that holds the key, or a token. Without it, the environment variable C1PROXY_KEY does."`
	CAFile  string `name:"ca-file" placeholder:"FILE" help:"With --address: the authorities that may vouch for it, in PEM, in place of the system's."`
	Team    string `placeholder:"TEAM" help:"With --address: for which team to ask, of a caller who belongs to several."`
}

// ask has a question asked. What is wrong with the question is a misconfigured
// error. No HTTP_PROXY stands between the two, and no redirect is followed.
func (r remote) ask(ctx context.Context, question func(context.Context, c1proxyv1connect.GatewayServiceClient) error) error {
	transport, err := r.transport()
	if err != nil {
		return misconfigured{err}
	}
	defer transport.CloseIdleConnections()
	key, err := r.key()
	if err != nil {
		return misconfigured{err}
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	signed := connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
			request.Header().Set("Authorization", "Bearer "+key.Reveal())
			if r.Team != "" {
				request.Header().Set("C1proxy-Team", r.Team)
			}
			return next(ctx, request)
		}
	})
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err = question(ctx, c1proxyv1connect.NewGatewayServiceClient(client, r.Address, connect.WithInterceptors(signed)))
	failed := new(connect.Error)
	if !errors.As(err, &failed) {
		return err
	}
	err = fmt.Errorf("ask %s: %s", r.Address, printable(failed.Error()))
	if failed.Code() == connect.CodeInvalidArgument {
		return misconfigured{err}
	}
	return err
}

// transport is the way to the gateway.
func (r remote) transport() (*http.Transport, error) {
	at, err := url.Parse(r.Address)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" || at.User != nil || at.RawQuery != "" || at.Path != "" && at.Path != "/" {
		return nil, errors.New("read --address: write https://HOST:PORT, or http://HOST:PORT")
	}
	way := &http.Transport{ForceAttemptHTTP2: true}
	if r.CAFile == "" {
		return way, nil
	}
	pem, err := os.ReadFile(r.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read --ca-file: %w", err)
	}
	way.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if !way.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read --ca-file: %s holds no certificate", r.CAFile)
	}
	return way, nil
}

// key reads the key.
func (r remote) key() (config.Secret, error) {
	if r.KeyFile != "" {
		return config.ReadSecret(&configv1.Secret{File: r.KeyFile})
	}
	key, err := config.ReadSecret(&configv1.Secret{Env: keyVariable})
	if err != nil {
		return key, fmt.Errorf("%w: set it to the key to ask with, or name the key's file with --key-file", err)
	}
	return key, nil
}
