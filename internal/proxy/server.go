package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"

	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/rest"
)

// The bounds of the server. A caller meets them before any stage does.
const (
	// bodySlack is what a body may be longer than a message: gRPC's envelope.
	bodySlack = 64
	// minCompress is the smallest answer, in bytes, that is worth compressing.
	minCompress = 1 << 10
	// maxHeader bounds the request's header, in bytes.
	maxHeader = 64 << 10
	// headerTimeout bounds the time for the header, bodyTimeout that for the
	// header and the body together.
	headerTimeout, bodyTimeout = 5 * time.Second, 10 * time.Second
	// idleTimeout closes a connection without calls.
	idleTimeout = 120 * time.Second
	// streamTimeout bounds the whole of a stream.
	streamTimeout = 5 * time.Minute
	// writeSlack is the time to take an answer, beyond the longest call.
	writeSlack = 30 * time.Second
	// maxStreams bounds the concurrent calls on one HTTP/2 connection.
	maxStreams = 100
)

// newServer returns a server with every bound set, for HTTP/1.1 and HTTP/2,
// in cleartext (h2c) and, with a tls.Config, over TLS.
func newServer(handler http.Handler, tlsConfig *tls.Config, longest time.Duration, logger *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(tlsConfig == nil)
	return &http.Server{
		Handler:           handler,
		TLSConfig:         tlsConfig,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      longest + writeSlack,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// router finds the handler of a path: a procedure's, or one of C1's own. Only a
// path that is spelled as it should be matches: nothing is cleaned, decoded or
// redirected.
type router struct {
	handlers
	own    *rest.Router
	errors *connect.ErrorWriter
}

func newRouter(all handlers) (*router, error) {
	own, err := rest.New(slices.Collect(maps.Keys(all.rest)))
	return &router{handlers: all, own: own, errors: connect.NewErrorWriter()}, err
}

// ServeHTTP answers an unmatched path in the caller's protocol. It is no call,
// and is not audited.
func (t *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if handler := t.rpc[r.URL.Path]; handler != nil && r.URL.RawPath == "" && r.RequestURI != "*" {
		handler.ServeHTTP(w, r)
		return
	}
	path := rest.RawPath(r)
	match := t.own.Match(r.Method, path)
	if match.Route != nil {
		t.rest[match.Route].ServeHTTP(w, withSegments(r, match.Values))
		return
	}
	w.Header()["X-Content-Type-Options"] = noSniff
	if match.Allowed != nil || t.own.Owns(path) {
		_ = match.Refuse(w, r) // a failed write means that the caller has gone
		return
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		_ = t.errors.Write(w, r, connect.NewError(connect.CodeUnimplemented, errors.New("no such procedure")))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte(`{"code":"unimplemented","message":"no such procedure: it is written /package.Service/Method"}`))
}

// mount adds what is not mirrored: health, open and unaudited, and reflection,
// which is a call like any other.
func (g *gateway) mount(rpc map[string]http.Handler, services []string, reflection bool) *grpchealth.StaticChecker {
	checker := grpchealth.NewStaticChecker(services...)
	path, handler := grpchealth.NewHandler(checker)
	for _, method := range []string{"Check", "List", "Watch"} {
		rpc[path+method] = handler
	}
	if reflection {
		// Health is not among them: its descriptor is not linked, and clients
		// that ask for each service that is listed would fail.
		reflector := grpcreflect.NewReflector(grpcreflect.NamerFunc(func() []string { return services }),
			grpcreflect.WithDescriptorResolver(catalog.Resolver{Files: catalog.Files()}))
		for _, mount := range []func(*grpcreflect.Reflector, ...connect.HandlerOption) (string, http.Handler){
			grpcreflect.NewHandlerV1, grpcreflect.NewHandlerV1Alpha,
		} {
			path, handler := mount(reflector)
			procedure := path + "ServerReflectionInfo"
			rpc[procedure] = g.bindStream(procedure, "reflection", handler)
		}
	}
	return checker
}

// A certificate is a TLS key pair in files, read anew when they change.
type certificate struct {
	certFile, keyFile string

	mu       sync.Mutex
	loaded   *tls.Certificate // guarded by mu
	checked  time.Time        // guarded by mu
	modified [2]time.Time     // guarded by mu
	logger   *slog.Logger
}

// openCertificate reads the pair, which must be good at start.
func openCertificate(certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, logger: logger}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// get is tls.Config's GetCertificate. It looks at the files at most once a
// second; a pair that does not read is logged, and the old one stays.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) > time.Second {
		if err := c.load(); err != nil {
			c.logger.Error("the TLS certificate could not be read again; the old one stays", "error", err)
		}
	}
	return c.loaded, nil
}

// load reads the pair if a file has changed. Called with mu held, or before
// the certificate is shared.
func (c *certificate) load() error {
	c.checked = time.Now()
	var modified [2]time.Time
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("read TLS certificate: %w", err)
		}
		modified[i] = info.ModTime()
	}
	if c.loaded != nil && modified == c.modified {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read TLS certificate %s: %w", c.certFile, err)
	}
	c.loaded, c.modified = &pair, modified
	return nil
}

// serve runs a server on a listener until it is shut down.
func serve(server *http.Server, listener net.Listener) error {
	var err error
	if server.TLSConfig != nil {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", listener.Addr(), err)
}

// drain stops a server: no new calls, and those under way are waited for
// until ctx ends.
func drain(ctx context.Context, server *http.Server) error {
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close() // what is left is cut off; the error tells
		return fmt.Errorf("drain: %w", err)
	}
	return nil
}
