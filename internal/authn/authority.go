package authn

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Authorities vouch for client certificates: those in a PEM file, which is read
// again when it changes. It is safe for concurrent use.
type Authorities struct {
	file   string
	logger *slog.Logger

	mu       sync.Mutex
	pool     *x509.CertPool             // guarded by mu
	known    map[[sha256.Size]byte]bool // guarded by mu; those in pool
	data     []byte                     // guarded by mu; what the file held
	modified time.Time                  // guarded by mu; of the file, when it was last looked at
	checked  time.Time                  // guarded by mu
}

// OpenAuthorities reads the file, which must be good at start.
func OpenAuthorities(file string, logger *slog.Logger) (*Authorities, error) {
	a := &Authorities{file: file, logger: logger}
	return a, a.load()
}

// Accept has a server ask for client certificates. A caller need not have one;
// one that is shown must be good, or the handshake fails. Sessions are not
// resumed: a resumed one would bring a certificate that nobody has verified anew.
func (a *Authorities) Accept(cfg *tls.Config) {
	cfg.ClientAuth = tls.VerifyClientCertIfGiven
	cfg.SessionTicketsDisabled = true
	cfg.NextProtos = []string{"h2", "http/1.1"} // net/http would set them, but not in a clone
	base := cfg.Clone()
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		current := base.Clone()
		current.ClientCAs, _ = a.current()
		return current, nil
	}
}

// vouch tells whether one of the chains, of which the handshake found that each
// is one, is good now: none of it expired, and its end still among those who
// vouch.
func (a *Authorities) vouch(chains [][]*x509.Certificate, now time.Time) bool {
	_, known := a.current()
	for _, chain := range chains {
		good := known[sha256.Sum256(chain[len(chain)-1].Raw)]
		for _, c := range chain {
			good = good && !now.Before(c.NotBefore) && !now.After(c.NotAfter)
		}
		if good {
			return true
		}
	}
	return false
}

// current looks at the file at most once a second. A file that does not read is
// logged, and those who were in it stay.
func (a *Authorities) current() (*x509.CertPool, map[[sha256.Size]byte]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.checked) > time.Second {
		if err := a.load(); err != nil {
			a.logger.Error("the authorities for client certificates could not be read again; the old ones stay", "error", err)
		}
	}
	return a.pool, a.known
}

// load reads the file if it has changed. Called with mu held, or before the
// Authorities are shared.
func (a *Authorities) load() error {
	a.checked = time.Now()
	info, err := os.Stat(a.file)
	if err != nil {
		return fmt.Errorf("read client authorities: %w", err)
	}
	if a.pool != nil && info.ModTime().Equal(a.modified) && info.Size() == int64(len(a.data)) {
		return nil
	}
	data, err := os.ReadFile(a.file)
	if err != nil {
		return fmt.Errorf("read client authorities: %w", err)
	}
	if a.pool == nil || !bytes.Equal(data, a.data) {
		pool, known, err := authoritiesIn(data)
		if err != nil {
			return fmt.Errorf("read client authorities %s: %w", a.file, err)
		}
		a.pool, a.known = pool, known
	}
	a.data, a.modified = data, info.ModTime()
	return nil
}

// authoritiesIn are the certificates in a PEM text: at least one, and nothing
// that is none.
func authoritiesIn(data []byte) (*x509.CertPool, map[[sha256.Size]byte]bool, error) {
	pool, known := x509.NewCertPool(), make(map[[sha256.Size]byte]bool)
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, nil, errors.New("it holds something else than certificates")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, errors.New("it holds a certificate that does not read")
		}
		pool.AddCert(c)
		known[sha256.Sum256(c.Raw)] = true
	}
	if len(known) == 0 {
		return nil, nil, errors.New("it holds no certificate")
	}
	return pool, known, nil
}
