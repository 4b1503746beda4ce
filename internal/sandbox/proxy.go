package sandbox

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A Proxy is an HTTP proxy that makes connections for others (CONNECT, RFC 9110,
// section 9.3.6) and nothing else, such as stands between a company and C1.
type Proxy struct {
	url      string
	expected string // Proxy-Authorization; empty: anybody
	server   *http.Server
	tunnels  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	seen  []*http.Request
	held  chan struct{} // closed when it may go on; nil: it is not held
	to    string        // where every connection leads; empty: where it is meant to
	conns map[net.Conn]bool
	done  bool
}

// StartProxy listens on address. It serves whoever shows the user and the
// password; without a user, anybody. The caller closes the Proxy.
func StartProxy(address, user, password string) (*Proxy, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &Proxy{url: "http://" + listener.Addr().String(), conns: make(map[net.Conn]bool)}
	if user != "" {
		p.expected = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	p.server = &http.Server{Handler: http.HandlerFunc(p.serve), ReadHeaderTimeout: time.Minute}
	go p.server.Serve(listener) // it ends by Close, or because the listener broke: then calls fail, which says enough
	return p, nil
}

// URL is where it listens, without a slash at the end and without a user.
func (p *Proxy) URL() string { return p.url }

// Requests returns what it was asked, in order. Their bodies are gone.
func (p *Proxy) Requests() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// Hold makes it take requests and answer none, until Close.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = make(chan struct{})
}

// LeadTo makes every connection lead to an address, whatever host was asked for:
// so a sandbox can have a name that no resolver knows.
func (p *Proxy) LeadTo(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = address
}

// Close stops listening and ends every connection that it has made.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.done = true
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	err := p.server.Close()
	p.tunnels.Wait()
	return err
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen = append(p.seen, r)
	held, to := p.held, cmp.Or(p.to, r.Host)
	p.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case p.expected != "" && r.Header.Get("Proxy-Authorization") != p.expected:
		w.Header().Set("Proxy-Authenticate", `Basic realm="sandbox"`)
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
	case r.Method != http.MethodConnect:
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
	default:
		p.connect(w, to)
	}
}

// connect makes a connection to a host and hands both ends over to each other.
func (p *Proxy) connect(w http.ResponseWriter, host string) {
	far, err := net.Dial("tcp", host)
	if err != nil {
		http.Error(w, "nobody there", http.StatusBadGateway)
		return
	}
	near, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = far.Close()
		return
	}
	if !p.keep(near, far) {
		return
	}
	fmt.Fprint(near, "HTTP/1.1 200 Connection established\r\n\r\n")
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			defer p.tunnels.Done()
			_, _ = io.Copy(pair[0], pair[1]) // however it ends, both ends are closed
			p.drop(near, far)
		}()
	}
}

// keep notes two ends for Close, which waits for a goroutine of each; false if
// it has been closed already.
func (p *Proxy) keep(near, far net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		_, _ = near.Close(), far.Close()
		return false
	}
	p.conns[near], p.conns[far] = true, true
	p.tunnels.Add(2)
	return true
}

// drop closes connections.
func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
		delete(p.conns, conn)
	}
}
