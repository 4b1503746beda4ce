package sandbox

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Server is a Sandbox behind a listener of its own.
type Server struct {
	*Sandbox
	url     string
	addr    string
	certPEM []byte
	server  *http.Server
	cancel  context.CancelFunc // ends every request
	done    chan struct{}      // closed when Serve has returned

	// serving is held for reading by every request, and taken by Close.
	serving sync.RWMutex
}

// Start listens on address, such as "127.0.0.1:0", and serves HTTP/1.1 and
// HTTP/2: the latter without TLS by prior knowledge, with TLS by ALPN. The
// caller closes the Server.
func Start(address string, config Config) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	s, err := serve(listener, config)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start sandbox: %w", err), listener.Close())
	}
	return s, nil
}

// serve starts a Server on a listener, which is the caller's if it fails.
func serve(listener net.Listener, config Config) (*Server, error) {
	host, port, err := reachable(listener.Addr())
	if err != nil {
		return nil, err
	}
	if config.Host == "" {
		config.Host = host
	}
	s := &Server{addr: listener.Addr().String(), url: "http://" + net.JoinHostPort(config.Host, port), done: make(chan struct{})}
	if s.Sandbox, err = New(config); err != nil {
		return nil, err
	}
	run := func() error { return s.server.Serve(listener) }
	s.server = s.newServer()
	if config.TLS {
		certificate, certPEM, err := newCertificate(config.Host)
		if err != nil {
			return nil, err
		}
		s.url, s.certPEM = "https://"+net.JoinHostPort(config.Host, port), certPEM
		s.server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
		run = func() error { return s.server.ServeTLS(listener, "", "") }
	}
	go func() {
		defer close(s.done)
		_ = run() // it ends by Close, or because the listener broke: then calls fail, which says enough
	}()
	return s, nil
}

// newServer returns the HTTP server. Its requests know their connection, and
// end with cancel.
func (s *Server) newServer() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	return &http.Server{
		Handler: http.HandlerFunc(s.handle), Protocols: &protocols, ReadHeaderTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx }, ConnContext: withConn,
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// reachable is host and port of an address to listen on, as a client on this
// machine would put them. That of a wildcard is localhost.
func reachable(address net.Addr) (host, port string, err error) {
	host, port, err = net.SplitHostPort(address.String())
	if err != nil {
		return "", "", err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return host, port, nil
}

// URL is the tenant's URL, without a slash at the end.
func (s *Server) URL() string { return s.url }

// Addr is the address that it listens on, whatever its host is called.
func (s *Server) Addr() string { return s.addr }

// CertPEM is the certificate that a client must trust; nil without TLS.
func (s *Server) CertPEM() []byte { return s.certPEM }

// Close stops listening and drops every connection; requests that are held or
// stalled end. It returns when the last request has.
func (s *Server) Close() error {
	err := s.server.Close()
	s.cancel()
	<-s.done
	s.serving.Lock()
	defer s.serving.Unlock()
	return err
}

// handle serves a request that Close waits for.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	s.serving.RLock()
	defer s.serving.RUnlock()
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // it came when Close was done waiting
	}
	s.Sandbox.ServeHTTP(w, r)
}

// newCertificate makes a certificate for host, for localhost and the loopback
// addresses, that is its own authority.
func newCertificate(host string) (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("make certificate: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "c1proxy sandbox"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = append(template.IPAddresses, ip)
	} else {
		template.DNSNames = append(template.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// Run serves until the context ends. It is what the command line calls.
func (s *Server) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return s.Close()
	case <-s.done:
		return errors.New("run sandbox: the listener broke")
	}
}
