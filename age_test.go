package c1proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/c1proxy/c1proxy/gen/c1/api/app/v1/appv1connect"
	"github.com/c1proxy/c1proxy/internal/sandbox"
)

// A connection that is old enough is given up without harm: loops of calls run
// over many ages, on every protocol, and none fails; and no connection lives
// much longer than it may.
func TestConnectionAge(t *testing.T) {
	const age, ages = time.Second, 3
	var loops sync.WaitGroup
	var serial atomic.Int64
	for _, secure := range []bool{false, true} {
		g := start(t, func(s *setup) {
			s.yaml = func(text string) string {
				text = strings.Replace(text, `{address: "127.0.0.1:0"}`, `{address: "127.0.0.1:0", max_connection_age: 1s}`, 1)
				if secure {
					pair := filepath.Join(t.TempDir(), "pair.pem")
					writePair(t, pair)
					text = strings.Replace(text, "max_connection_age:", fmt.Sprintf("tls: {cert_file: %s, key_file: %s}, max_connection_age:", pair, pair), 1)
				}
				return text
			}
		})
		if secure {
			g.insecure = &tls.Config{InsecureSkipVerify: true} // the certificate is made for this test
		}
		for _, http1 := range []bool{false, true} {
			for _, p := range protocols {
				if p.door == "grpc" && http1 {
					continue
				}
				loops.Go(func() { g.ageLoop(p, http1, age, ages, &serial) })
			}
		}
	}
	loops.Wait()
}

// ageLoop calls until so many ages have passed, two calls at a time.
func (g *gateway) ageLoop(p protocol, http1 bool, age time.Duration, ages int, serial *atomic.Int64) {
	name := fmt.Sprintf("%s, HTTP/1.1 %t, %s", p.name, http1, g.url[:5])
	var calls, dials, failed atomic.Int64
	var mu sync.Mutex
	born := map[net.Conn]time.Time{}
	var oldest, slowest time.Duration
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		mu.Lock()
		defer mu.Unlock()
		if _, known := born[info.Conn]; !known {
			dials.Add(1)
			born[info.Conn] = time.Now()
		}
		oldest = max(oldest, time.Since(born[info.Conn]))
	}}
	options := append([]connect.ClientOption{connect.WithInterceptors(bearer(g.keys["sync-bot"]))}, p.options...)
	client := appv1connect.NewConnectorServiceClient(g.httpClient(http1), g.url, options...)
	begun := time.Now()
	var pair sync.WaitGroup
	for range 2 {
		pair.Go(func() {
			for time.Since(begun) < time.Duration(ages)*age {
				calls.Add(1)
				asked := time.Now()
				_, err := client.ConfirmSyncValid(httptrace.WithClientTrace(context.Background(), trace),
					g.confirmation(fmt.Sprintf("%sage-%d", sandbox.ConfirmablePrefix, serial.Add(1))))
				if err != nil && failed.Add(1) < 4 {
					g.t.Errorf("%s: call %d: %v", name, calls.Load(), err)
				}
				mu.Lock()
				slowest = max(slowest, time.Since(asked))
				mu.Unlock()
			}
		})
	}
	pair.Wait()
	// An old connection is given up with an answer, which a slow machine takes its time for.
	if oldest > age*3/2+slowest || dials.Load() < int64(ages)-1 {
		g.t.Errorf("%s: %d connections, the oldest %v; want an age of %v, with a slowest call of %v", name, dials.Load(), oldest, age, slowest)
	}
	g.t.Logf("%s: %d calls over %d connections, %d failed, none older than %v", name, calls.Load(), dials.Load(), failed.Load(), oldest.Round(time.Millisecond))
}
