package sandbox

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A Reaction is what a Framer does with a request.
type Reaction int

// The reactions. Those that do not process are what lets an HTTP/2 client
// send a request again by itself.
const (
	// Respond answers 200 and {}.
	Respond Reaction = iota
	// RefuseStream sends RST_STREAM REFUSED_STREAM as soon as the headers
	// have come: not processed.
	RefuseStream
	// GoAwayUnprocessed sends GOAWAY NO_ERROR with a last stream id below the
	// request's, as soon as the headers have come: not processed.
	GoAwayUnprocessed
	// GoAwayProcessed reads the request, sends GOAWAY NO_ERROR that includes
	// it, and closes the connection without an answer.
	GoAwayProcessed
	// ResetCancel reads the request and sends RST_STREAM CANCEL.
	ResetCancel
	// ResetInternal reads the request and sends RST_STREAM INTERNAL_ERROR.
	ResetInternal
	// CloseConnection reads the request and closes the connection.
	CloseConnection
)

// FramerConfig says how a Framer behaves.
type FramerConfig struct {
	// TLS serves HTTP/2 over TLS; without it by prior knowledge.
	TLS bool
	// Reactions are those to the first requests, in order; to those that
	// come later it is the last of them. Empty means Respond.
	Reactions []Reaction
}

// A Framer is an HTTP/2 server that speaks in single frames, and so can do
// what net/http cannot. It answers every request to the token endpoint with a
// token, which it neither counts nor checks.
type Framer struct {
	config   FramerConfig
	url      string
	certPEM  []byte
	listener net.Listener

	wg       sync.WaitGroup // of the goroutines
	mu       sync.Mutex     // guards what follows
	conns    map[net.Conn]bool
	requests []string // "METHOD path", each time that HEADERS came
}

// StartFramer listens on address. The caller closes the Framer.
func StartFramer(address string, config FramerConfig) (*Framer, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("start framer: %w", err)
	}
	f := &Framer{config: config, listener: listener, url: "http://" + listener.Addr().String(), conns: make(map[net.Conn]bool)}
	if config.TLS {
		certificate, certPEM, err := newCertificate("localhost")
		if err != nil {
			return nil, fmt.Errorf("start framer: %w", err)
		}
		f.url, f.certPEM = "https://"+listener.Addr().String(), certPEM
		f.listener = tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS12,
			Certificates: []tls.Certificate{certificate}, NextProtos: []string{http2.NextProtoTLS}})
	}
	f.wg.Go(f.accept)
	return f, nil
}

// URL is where it listens, without a slash at the end.
func (f *Framer) URL() string { return f.url }

// CertPEM is the certificate that a client must trust; nil without TLS.
func (f *Framer) CertPEM() []byte { return f.certPEM }

// Requests returns "METHOD path" for each HEADERS frame that has come, in order.
func (f *Framer) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// Close stops listening, drops every connection and waits for the goroutines.
func (f *Framer) Close() error {
	err := f.listener.Close()
	f.mu.Lock()
	for conn := range f.conns {
		_ = conn.Close()
	}
	f.conns = nil
	f.mu.Unlock()
	f.wg.Wait()
	return err
}

// accept serves connections until the listener closes.
func (f *Framer) accept() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		open := f.conns != nil
		if open {
			f.conns[conn] = true
		}
		f.mu.Unlock()
		if !open {
			_ = conn.Close()
			return
		}
		f.wg.Go(func() { f.serve(conn) })
	}
}

// A framedConn is one connection, and belongs to the goroutine that serves it.
type framedConn struct {
	net.Conn
	*http2.Framer
	pending map[uint32]Reaction // to requests whose body is still coming
	tokens  map[uint32]bool     // the requests to the token endpoint
}

// serve reads one connection until it ends, or a frame is not what HTTP/2 allows.
func (f *Framer) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		f.mu.Lock()
		delete(f.conns, conn)
		f.mu.Unlock()
	}()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(conn, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	c := &framedConn{Conn: conn, Framer: http2.NewFramer(conn, conn), pending: make(map[uint32]Reaction), tokens: make(map[uint32]bool)}
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for err := c.WriteSettings(); err == nil; {
		var frame http2.Frame
		if frame, err = c.ReadFrame(); err == nil {
			err = f.handle(c, frame)
		}
	}
}

// handle answers one frame. An error ends the connection.
func (f *Framer) handle(c *framedConn, frame http2.Frame) error {
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			return c.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			return c.WritePing(true, frame.Data)
		}
	case *http2.MetaHeadersFrame:
		return f.request(c, frame)
	case *http2.DataFrame:
		if size := uint32(len(frame.Data())); size > 0 {
			if err := c.WriteWindowUpdate(0, size); err != nil {
				return err
			}
		}
		if frame.StreamEnded() {
			return c.react(frame.StreamID)
		}
	}
	return nil
}

// request counts a request and does what is to be done before its body.
func (f *Framer) request(c *framedConn, frame *http2.MetaHeadersFrame) error {
	id, path := frame.StreamID, frame.PseudoValue("path")
	reaction := Respond
	if path == TokenPath {
		c.tokens[id] = true
	} else {
		reaction = f.count(frame.PseudoValue("method") + " " + path)
	}
	switch reaction {
	case RefuseStream:
		return c.WriteRSTStream(id, http2.ErrCodeRefusedStream)
	case GoAwayUnprocessed:
		return c.WriteGoAway(max(id, 2)-2, http2.ErrCodeNo, nil)
	}
	c.pending[id] = reaction
	if frame.StreamEnded() {
		return c.react(id)
	}
	return nil
}

// count notes a request and returns the reaction that is its turn.
func (f *Framer) count(request string) Reaction {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, request)
	if len(f.config.Reactions) == 0 {
		return Respond
	}
	return f.config.Reactions[min(len(f.requests), len(f.config.Reactions))-1]
}

// react does what is to be done with a request that has been read.
func (c *framedConn) react(id uint32) error {
	reaction, ok := c.pending[id]
	delete(c.pending, id)
	switch {
	case !ok:
		return nil // it was refused before its body came
	case reaction == GoAwayProcessed:
		if err := c.WriteGoAway(id, http2.ErrCodeNo, nil); err != nil {
			return err
		}
		return c.closeWrite()
	case reaction == ResetCancel:
		return c.WriteRSTStream(id, http2.ErrCodeCancel)
	case reaction == ResetInternal:
		return c.WriteRSTStream(id, http2.ErrCodeInternal)
	case reaction == CloseConnection:
		return io.EOF
	}
	return c.respond(id)
}

// closeWrite ends what the client reads. What it still sends is read, so that
// no reset overtakes the frames before.
func (c *framedConn) closeWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return io.EOF
}

// respond answers 200 with {}, or with a token.
func (c *framedConn) respond(id uint32) error {
	body := "{}"
	if c.tokens[id] {
		delete(c.tokens, id)
		body = `{"access_token":"framer","token_type":"Bearer","expires_in":600}`
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/json"}} {
		if err := encoder.WriteField(field); err != nil {
			return err
		}
	}
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
		return err
	}
	return c.WriteData(id, true, []byte(body))
}
