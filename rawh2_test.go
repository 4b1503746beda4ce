package c1proxy_test

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A rawH2 is an HTTP/2 connection in cleartext that is driven frame by frame.
// Only what the server sends is read in the background.
type rawH2 struct {
	conn    net.Conn
	out     *bufio.Writer
	framer  *http2.Framer // writes to out
	block   bytes.Buffer
	encoder *hpack.Encoder
	next    uint32        // stream
	closed  chan struct{} // when the server has closed the connection

	mu      sync.Mutex
	goAway  *http2.ErrCode // guarded by mu
	ended   map[uint32]bool
	headers map[uint32][]hpack.HeaderField
}

// dialH2 opens a connection with settings of its own. It reads what comes,
// unless it is deaf.
func dialH2(t testing.TB, address string, deaf bool, settings ...http2.Setting) *rawH2 {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(address, "http://"), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if deaf { // nor does the kernel take much
		conn.(*net.TCPConn).SetReadBuffer(4096)
	}
	h := &rawH2{conn: conn, out: bufio.NewWriterSize(conn, 64<<10), next: 1, closed: make(chan struct{}),
		ended: map[uint32]bool{}, headers: map[uint32][]hpack.HeaderField{}}
	h.framer = http2.NewFramer(h.out, conn)
	h.framer.AllowIllegalWrites = true
	h.encoder = hpack.NewEncoder(&h.block)
	h.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	t.Cleanup(func() { conn.Close() })
	h.out.WriteString(http2.ClientPreface)
	h.framer.WriteSettings(settings...)
	if err := h.out.Flush(); err != nil {
		t.Fatal(err)
	}
	if !deaf {
		go h.read()
	}
	return h
}

// read notes what the server says.
func (h *rawH2) read() {
	defer close(h.closed)
	for {
		frame, err := h.framer.ReadFrame()
		if err != nil {
			if _, ok := err.(http2.StreamError); ok {
				continue
			}
			return
		}
		h.mu.Lock()
		switch f := frame.(type) {
		case *http2.GoAwayFrame:
			code := f.ErrCode
			h.goAway = &code
		case *http2.MetaHeadersFrame:
			h.headers[f.StreamID] = append(h.headers[f.StreamID], f.Fields...)
			h.ended[f.StreamID] = h.ended[f.StreamID] || f.StreamEnded()
		case *http2.DataFrame:
			h.ended[f.StreamID] = h.ended[f.StreamID] || f.StreamEnded()
		case *http2.RSTStreamFrame:
			h.ended[f.StreamID] = true
		}
		h.mu.Unlock()
	}
}

// answered counts the streams that have ended.
func (h *rawH2) answered() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, ended := range h.ended {
		if ended {
			n++
		}
	}
	return n
}

// field is a header or trailer field of a stream's answer.
func (h *rawH2) field(stream uint32, name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.headers[stream] {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// verdict is what became of the connection so far.
func (h *rawH2) verdict() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := ""
	if h.goAway != nil {
		text = "GOAWAY " + h.goAway.String() + ", "
	}
	select {
	case <-h.closed:
		return text + "closed"
	default:
		return text + "open"
	}
}

// gone waits until the server has closed, for at most so long.
func (h *rawH2) gone(within time.Duration) bool {
	select {
	case <-h.closed:
		return true
	case <-time.After(within):
		return false
	}
}

// fields encodes a header: pairs of names and values.
func (h *rawH2) fields(pairs ...string) []byte {
	h.block.Reset()
	for i := 0; i+1 < len(pairs); i += 2 {
		h.encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return bytes.Clone(h.block.Bytes())
}

// open begins a call, without its body, and returns its stream.
func (h *rawH2) open(path, key, media string, more ...string) uint32 {
	pairs := append([]string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "c1proxy",
		"content-type", media, "te", "trailers", "authorization", "Bearer " + key}, more...)
	stream := h.next
	h.next += 2
	h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: h.fields(pairs...), EndHeaders: true})
	return stream
}
