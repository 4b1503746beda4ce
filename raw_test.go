package c1proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A wireAnswer is what came back for a request that was written by hand.
type wireAnswer struct {
	// status is 0 if there was none: the stream or the connection was ended.
	status int
	header http.Header
	body   string
}

// A wireRequest is written by hand, so that it can be what no client sends.
type wireRequest struct {
	verb, target string
	header       [][2]string
	body         string
}

// rawHTTP1 sends a request over HTTP/1.1.
func (g *gateway) rawHTTP1(r wireRequest) wireAnswer {
	g.t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", r.verb, r.target)
	for _, pair := range r.header {
		fmt.Fprintf(&text, "%s: %s\r\n", pair[0], pair[1])
	}
	if r.body != "" {
		fmt.Fprintf(&text, "Content-Length: %d\r\n", len(r.body))
	}
	return g.rawText(r.verb, text.String()+"\r\n"+r.body)
}

// rawText sends bytes, and reads the first answer.
func (g *gateway) rawText(verb, text string) wireAnswer {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	if _, err := conn.Write([]byte(text)); err != nil {
		g.t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: verb})
	if err != nil {
		return wireAnswer{}
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		g.t.Fatalf("%.100q: %v", text, err)
	}
	return wireAnswer{response.StatusCode, response.Header, body.String()}
}

func (g *gateway) dial() net.Conn {
	g.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		g.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		g.t.Fatal(err)
	}
	return conn
}

// rawHTTP2 sends a request in single frames. A pseudo-header in r.header comes
// in place of that of the same name.
func (g *gateway) rawHTTP2(r wireRequest) wireAnswer {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fields := [][2]string{{":method", r.verb}, {":scheme", "http"}, {":authority", "x"}, {":path", r.target}}
	for _, pair := range r.header {
		fields = append(fields, [2]string{strings.ToLower(pair[0]), pair[1]})
	}
	if r.body != "" {
		fields = append(fields, [2]string{"content-length", strconv.Itoa(len(r.body))})
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, pair := range fields {
		if err := encoder.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]}); err != nil {
			g.t.Fatal(err)
		}
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		g.t.Fatal(err)
	}
	if err := framer.WriteSettings(); err != nil {
		g.t.Fatal(err)
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: r.body == ""}); err != nil {
		g.t.Fatal(err)
	}
	if r.body != "" {
		if err := framer.WriteData(1, true, []byte(r.body)); err != nil {
			g.t.Fatal(err)
		}
	}
	return readHTTP2(framer)
}

// readHTTP2 reads the answer of stream 1.
func readHTTP2(framer *http2.Framer) wireAnswer {
	answer := wireAnswer{header: make(http.Header)}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return wireAnswer{}
		}
		ended := false
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, field := range f.Fields {
				if field.Name == ":status" {
					answer.status, _ = strconv.Atoi(field.Value)
				}
				answer.header.Add(field.Name, field.Value)
			}
			ended = f.StreamEnded()
		case *http2.DataFrame:
			answer.body += string(f.Data())
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			if f.ErrCode == http2.ErrCodeNo && answer.status != 0 {
				return answer
			}
			return wireAnswer{}
		case *http2.GoAwayFrame:
			return wireAnswer{}
		}
		if ended {
			return answer
		}
	}
}
