package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/dev/conformance/conformancev1"
	"github.com/c1proxy/c1proxy/internal/dev/conformance/conformancev1/conformancev1connect"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// server is one running HTTP server around the line of a c1proxy; the suite
// starts several, each with its own properties.
type server struct {
	proxy    *proxy.Proxy
	audit    string // folder of the proxy's audit
	http     *http.Server
	listener net.Listener
	cert     []byte // PEM, nil without TLS
	calls    atomic.Int64
}

// start opens a server on a free loopback port. It offers every protocol and
// HTTP version that it has: the request's is the least that it must have.
// Whoever runs the suite deletes the temporary files that it leaves.
//
// No unary case asks for client certificates; a request for them is an error.
func start(ctx context.Context, request *conformancev1.ServerCompatRequest, withKey bool) (*server, error) {
	if len(request.GetClientTlsCert()) > 0 {
		return nil, errors.New("client certificates are not supported")
	}
	dir, err := os.MkdirTemp("", "c1proxy-conformance-server-")
	if err != nil {
		return nil, err
	}
	line, key, err := mount(ctx, dir, request.GetMessageReceiveLimit())
	if err != nil {
		return nil, err
	}
	s := &server{proxy: line, audit: filepath.Join(dir, auditDir)}
	s.http = &http.Server{
		Handler:           s.outer(line.Handler(), key, withKey),
		ReadHeaderTimeout: 5 * time.Second,
		Protocols:         new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetHTTP2(true)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	if request.GetUseTls() {
		creds := request.GetServerCreds()
		cert, err := tls.X509KeyPair(creds.GetCert(), creds.GetKey())
		if err != nil {
			return nil, fmt.Errorf("read server certificate: %w", err)
		}
		s.http.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		s.cert = creds.GetCert()
	}
	s.listener, err = net.Listen("tcp", "127.0.0.1:0")
	return s, err
}

// outer is the part of the client that the suite's client lacks: it adds the
// API key. It also counts the calls, requests to a registered procedure, to
// compare them with the audit's records.
func (s *server) outer(line http.Handler, key string, withKey bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/"+conformancev1connect.ConformanceServiceName+"/") {
			s.calls.Add(1)
		}
		if withKey {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		shorten(r.Header)
		line.ServeHTTP(w, r)
	})
}

// hop is the time that shorten takes away.
const hop = 100 * time.Millisecond

// shorten takes a part of the caller's timeout away, as a hop before the server
// would. The suite's client keeps to the same timeout as the server: on a busy
// machine an answer at its end arrives as half of one, and fails the case. The
// suite allows the server to see 500 ms less than was sent.
func shorten(header http.Header) {
	for name, unit := range map[string]string{"Connect-Timeout-Ms": "ms", "Grpc-Timeout": "s"} {
		// The units of gRPC that the suite uses are Go's without the s: 200m.
		left, err := time.ParseDuration(header.Get(name) + unit)
		if err == nil && left > hop {
			header.Set(name, strings.TrimSuffix(fmt.Sprintf("%dms", (left-hop).Milliseconds()), unit))
		}
	}
}

// response tells the suite where the server is.
func (s *server) response() *conformancev1.ServerCompatResponse {
	address := s.listener.Addr().(*net.TCPAddr)
	return &conformancev1.ServerCompatResponse{Host: address.IP.String(), Port: uint32(address.Port), PemCert: s.cert}
}

// patience bounds the wait for the last final record: a call outlives a caller
// whose time is over, in the suite by up to 1.5 s. pause stands between two looks.
const patience, pause = 4 * time.Second, 50 * time.Millisecond

// serve serves until ctx ends. Then it tells how many calls came, and how many
// of them have their one final record in an audit that verifies.
func (s *server) serve(ctx context.Context, report io.Writer) error {
	served := make(chan error, 1)
	go func() {
		if s.http.TLSConfig != nil {
			served <- s.http.ServeTLS(s.listener, "", "")
		} else {
			served <- s.http.Serve(s.listener)
		}
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}

	ctx = context.WithoutCancel(ctx)
	calls, records := int(s.calls.Load()), 0
	for begun := time.Now(); records != calls && time.Since(begun) < patience; time.Sleep(pause) {
		var err error
		if records, err = s.finalRecords(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(report, "conformance server: %d calls, %d final records\n", calls, records)
	return errors.Join(s.http.Close(), s.proxy.Close())
}

// finalRecords verifies the audit and counts the calls with a final record.
func (s *server) finalRecords(ctx context.Context) (int, error) {
	if _, err := audit.Verify(ctx, s.audit, s.proxy.VerifierKey()); err != nil {
		return 0, err
	}
	final := map[string]bool{}
	err := audit.Query(ctx, s.audit, audit.Filter{}, func(r audit.Record) error {
		if r.Kind != audit.KindOutcome && r.Kind != audit.KindDenied {
			return nil
		}
		if final[r.RequestID] {
			return fmt.Errorf("request %s has two final records", r.RequestID)
		}
		final[r.RequestID] = true
		return nil
	})
	return len(final), err
}
