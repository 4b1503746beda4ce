package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/c1proxy/c1proxy/internal/fault"
)

const (
	// dialTimeout bounds the time to a connection, handshake included.
	dialTimeout = 10 * time.Second
	// idleTimeout closes upstream connections before most load balancers do.
	idleTimeout = 50 * time.Second
	// maxIdle bounds the idle connections kept to one tenant.
	maxIdle = 256
	// maxHeader bounds the header of an answer, in bytes.
	maxHeader = 64 << 10
	// staleAfter is how long a CAFile is used before it is looked at again.
	staleAfter = time.Second
)

// A TransportConfig is the way to one tenant's C1. The zero value goes there
// directly and trusts the system's authorities.
type TransportConfig struct {
	// CAFile is a PEM file with the authorities that may vouch for C1, and for a
	// proxy that is reached over TLS, in place of the system's; "" for these. It
	// is read again when it changes.
	CAFile string
	// Proxy is the HTTP proxy by which every connection is made (CONNECT); nil
	// for none. It holds neither user nor password, so that neither can stand in
	// an error.
	Proxy *url.URL
	// ProxyUser proves to the proxy who we are, with each connection; nil if it
	// does not ask. Its error must not hold the password.
	ProxyUser func() (*url.Userinfo, error)
	// Logger gets a line when a CAFile that has changed does not read. Required
	// with CAFile.
	Logger *slog.Logger
}

// A Transport makes the connections to one tenant's C1. It is an
// http.RoundTripper, and safe for concurrent use.
type Transport struct {
	cfg     TransportConfig
	current atomic.Pointer[http.Transport]
	checked atomic.Int64 // when CAFile was looked at, in Unix nanoseconds

	mu        sync.Mutex // guards what follows
	modified  time.Time  // of CAFile, when it was last good
	size      int64      // of CAFile, then
	complaint string     // what the log has last had a line of
}

// NewTransport returns a Transport. Its only I/O is to read CAFile, and the
// only error that it cannot be read or holds no certificate.
func NewTransport(cfg TransportConfig) (*Transport, error) {
	t := &Transport{cfg: cfg}
	if err := t.load(); err != nil {
		return nil, err
	}
	return t, nil
}

// RoundTrip is http.RoundTripper's.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	t.refresh()
	return t.current.Load().RoundTrip(request)
}

// CloseIdleConnections closes the connections that carry nothing now.
func (t *Transport) CloseIdleConnections() { t.current.Load().CloseIdleConnections() }

// refresh looks at CAFile again, if it is time. What is in it is for new
// connections; a file that does not read is logged, and the old one stays.
func (t *Transport) refresh() {
	if t.cfg.CAFile == "" {
		return
	}
	now, checked := time.Now().UnixNano(), t.checked.Load()
	if now-checked < int64(staleAfter) || !t.checked.CompareAndSwap(checked, now) {
		return
	}
	err := t.load()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil && t.complaint != err.Error() {
		t.cfg.Logger.Error("the authorities could not be read again; the old ones stay", "error", err)
		t.complaint = err.Error()
	}
}

// load makes a transport if there is none, or if CAFile has changed.
func (t *Transport) load() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var authorities *x509.CertPool
	if file := t.cfg.CAFile; file != "" {
		info, err := os.Stat(file)
		if err != nil {
			return fmt.Errorf("read ca_file: %w", err)
		}
		if info.ModTime().Equal(t.modified) && info.Size() == t.size {
			return nil
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read ca_file: %w", err)
		}
		authorities = x509.NewCertPool()
		if !authorities.AppendCertsFromPEM(data) {
			return fmt.Errorf("read ca_file: %s holds no certificate in PEM", file)
		}
		t.modified, t.size, t.complaint = info.ModTime(), info.Size(), ""
	}
	if old := t.current.Swap(t.make(authorities)); old != nil {
		old.CloseIdleConnections()
	}
	return nil
}

// make returns a transport. nil authorities are the system's.
func (t *Transport) make(authorities *x509.CertPool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	made := &http.Transport{
		Protocols:              protocols,
		TLSClientConfig:        &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12},
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		MaxResponseHeaderBytes: maxHeader,
	}
	made.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
		if answer.StatusCode != http.StatusOK {
			return &fault.ProxyRefusal{Status: answer.StatusCode} // net/http's own error has the proxy's words
		}
		return nil
	}
	if t.cfg.Proxy != nil {
		made.Proxy = http.ProxyURL(t.cfg.Proxy)
		made.GetProxyConnectHeader = t.connectHeader
	}
	return made
}

// connectHeader is the header of a CONNECT: what the proxy asks of us, and
// nothing of the call.
func (t *Transport) connectHeader(context.Context, *url.URL, string) (http.Header, error) {
	header := make(http.Header)
	if t.cfg.ProxyUser == nil {
		return header, nil
	}
	user, err := t.cfg.ProxyUser()
	if err != nil {
		return nil, err
	}
	password, _ := user.Password()
	header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	return header, nil
}
