package sandbox

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// The faults of this file damage how an answer travels.

// StalledBody sends the headers and half of the true answer, and the rest
// when release is closed.
func StalledBody(release <-chan struct{}) Fault {
	return Fault{name: "stalled body", act: true, send: func(x *exchange, a answer) {
		half := len(a.body) / 2
		x.write(a, a.body[:half])
		x.flush()
		select {
		case <-release:
			_, _ = x.w.Write(a.body[half:])
		case <-x.r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}}
}

// Drip sends the true answer one byte at a time, with a pause after each.
func Drip(pause time.Duration) Fault {
	return Fault{name: "drip", act: true, send: func(x *exchange, a answer) {
		x.write(a, nil)
		for i := range a.body {
			x.flush()
			if _, err := x.w.Write(a.body[i : i+1]); err != nil || !sleep(x.r.Context(), pause) {
				panic(http.ErrAbortHandler)
			}
		}
	}}
}

// Truncated sends half of the true answer as if it were the whole: good HTTP,
// bad JSON.
func Truncated() Fault {
	return damaging("truncated", func(_ *exchange, a *answer) { a.body = a.body[:len(a.body)/2] })
}

// CutBody declares the true length, sends half of it, and hangs up.
func CutBody() Fault {
	return Fault{name: "cut body", act: true, send: func(x *exchange, a answer) {
		x.write(a, a.body[:len(a.body)/2])
		x.flush()
		panic(http.ErrAbortHandler)
	}}
}

// ShortLength declares half of the true length. On HTTP/1 the whole answer
// follows all the same, and stands where the next answer should; on HTTP/2
// the rest is left out, and it is as Truncated.
func ShortLength() Fault {
	return Fault{name: "short Content-Length", act: true, send: func(x *exchange, a answer) {
		conn, buffer, err := http.NewResponseController(x.w).Hijack()
		if err != nil {
			a.body = a.body[:len(a.body)/2]
			x.write(a, a.body)
			return
		}
		defer conn.Close()
		x.update(func(q *Request) { q.Status = a.status })
		a.header.Set("Content-Length", strconv.Itoa(len(a.body)/2))
		fmt.Fprintf(buffer, "HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
		_ = a.header.Write(buffer)
		fmt.Fprintf(buffer, "\r\n%s", a.body)
		_ = buffer.Flush()
	}}
}

// Reset reads the request and resets: the connection on HTTP/1 (RST), the
// stream on HTTP/2 (RST_STREAM).
func Reset() Fault {
	return Fault{name: "reset", mute: true, send: func(x *exchange, _ answer) { x.reset() }}
}

// ResetUnread resets as Reset does, before any of the body is read.
func ResetUnread() Fault {
	return Fault{name: "reset, unread", unread: true, mute: true, send: func(x *exchange, _ answer) { x.reset() }}
}

// Disconnect reads the request and closes the connection, in good order but
// without an answer. On HTTP/2 this ends every other stream of it too.
func Disconnect() Fault {
	return Fault{name: "disconnect", mute: true, send: func(x *exchange, _ answer) {
		if conn := connOf(x.r.Context()); conn != nil {
			_ = conn.Close()
		}
		panic(http.ErrAbortHandler)
	}}
}

// reset ends the request by force. Without a Server there is no connection to
// reset, and net/http closes it.
func (x *exchange) reset() {
	if conn := connOf(x.r.Context()); conn != nil && x.r.ProtoMajor == 1 {
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// connKey is the context key of a request's net.Conn.
type connKey struct{}

// withConn makes a connection known to the requests that come over it.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// connOf is the TCP connection that a request came over; nil if there is none.
func connOf(ctx context.Context) *net.TCPConn {
	conn, _ := ctx.Value(connKey{}).(net.Conn)
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}

// block is what the bodies of Huge and GzipBomb are full of: white space, so
// that they are JSON for all their size.
var block = sync.OnceValue(func() []byte { return bytes.Repeat([]byte{' '}, 1<<20) })

// Huge answers 200 with {} and a number of MiB of white space within.
func Huge(mebibytes int) Fault {
	f := replacing(fmt.Sprintf("huge, %d MiB", mebibytes), http.StatusOK, http.Header{"Content-Type": {"application/json"}}, nil)
	f.send = func(x *exchange, a answer) {
		x.start(a, "")
		_, err := x.w.Write([]byte("{"))
		for i := 0; i < mebibytes && err == nil; i++ {
			_, err = x.w.Write(block())
		}
		if err == nil {
			_, _ = x.w.Write([]byte("}"))
		}
	}
	return f
}

// GzipBomb answers as Huge does, compressed to a thousandth.
func GzipBomb(mebibytes int) Fault {
	header := http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}
	return replacing(fmt.Sprintf("gzip bomb, %d MiB", mebibytes), http.StatusOK, header, bomb(mebibytes))
}

// bomb makes a gzip file (RFC 1952) without compressing all of its content: a
// block that was deflated and flushed ends on a byte and refers to nothing
// before it, and so may be repeated.
func bomb(mebibytes int) []byte {
	file := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}
	sum := crc32.Update(0, crc32.IEEETable, []byte("{"))
	file = append(file, deflated([]byte("{"), false)...)
	one := deflated(block(), false)
	for range mebibytes {
		file = append(file, one...)
		sum = crc32.Update(sum, crc32.IEEETable, block())
	}
	file = append(file, deflated([]byte("}"), true)...)
	sum = crc32.Update(sum, crc32.IEEETable, []byte("}"))
	file = binary.LittleEndian.AppendUint32(file, sum)
	return binary.LittleEndian.AppendUint32(file, uint32(mebibytes<<20+2))
}

// deflated is content as blocks of DEFLATE; last ends the stream.
func deflated(content []byte, last bool) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		return nil // never: the level is a valid one
	}
	_, _ = w.Write(content)
	if last {
		_ = w.Close()
	} else {
		_ = w.Flush()
	}
	return out.Bytes()
}
