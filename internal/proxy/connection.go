package proxy

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// freshTime is how long a connection may live without a call once the server
// stops: a call that its caller has just sent gets through.
const freshTime = time.Second

// connections are what callers have open: bounded in number and in age. Its
// methods may be called at any time, from any goroutine.
type connections struct {
	most int
	age  time.Duration

	mu      sync.Mutex
	open    int                    // guarded by mu
	refused int                    // guarded by mu
	fresh   map[net.Conn]time.Time // guarded by mu; those that have not carried a call, by when they came
	retired bool                   // guarded by mu
	quit    chan struct{}
}

func newConnections(most int, age time.Duration) *connections {
	return &connections{most: most, age: age, fresh: make(map[net.Conn]time.Time), quit: make(chan struct{})}
}

// guard makes a server tell of its connections, and its handler end them.
func (c *connections) guard(server *http.Server) {
	server.ConnState, server.ConnContext = c.changed, c.born
	inner := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.over(r.Context()) {
			w.Header()["Connection"] = closing
		}
		inner.ServeHTTP(w, r)
	})
}

// closing ends a connection without harm. On HTTP/1.1 the answer says that it
// is the last one. On HTTP/2 net/http says so in a frame of its own (GOAWAY,
// RFC 9113, section 6.8), and closes when all streams have ended.
var closing = []string{"close"}

// endKey is the context key of the time at which a connection is too old.
type endKey struct{}

// born is http.Server's ConnContext. Ages differ by up to a tenth either way,
// so that connections that came together do not come again together.
func (c *connections) born(ctx context.Context, _ net.Conn) context.Context {
	age := c.age + time.Duration((rand.Float64()-0.5)/5*float64(c.age))
	return context.WithValue(ctx, endKey{}, time.Now().Add(age))
}

// over says whether the connection of a call takes no other one.
func (c *connections) over(ctx context.Context) bool {
	select {
	case <-c.quit:
		return true
	default:
	}
	end, ok := ctx.Value(endKey{}).(time.Time)
	return ok && time.Now().After(end)
}

// changed is http.Server's ConnState. One connection too many is closed before
// anything is read of it.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.open++
		if c.open > c.most {
			c.refused++
			_ = conn.Close() // nothing was written that could be lost
			return
		}
		c.fresh[conn] = time.Now()
	case http.StateActive:
		delete(c.fresh, conn)
	case http.StateClosed, http.StateHijacked:
		delete(c.fresh, conn)
		c.open--
	}
}

// retire makes the next answer on each connection its last.
func (c *connections) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.retired {
		c.retired = true
		close(c.quit)
	}
}

// closeFresh closes, until ctx ends, the connections that came some time ago
// and carry no call. http.Server.Shutdown would wait five seconds for them.
func (c *connections) closeFresh(ctx context.Context) {
	ticker := time.NewTicker(freshTime / 10)
	defer ticker.Stop()
	for {
		for _, conn := range c.stale() {
			_ = conn.Close() // nothing was written that could be lost
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// stale are the fresh connections that closeFresh closes now.
func (c *connections) stale() (stale []net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn, came := range c.fresh {
		if time.Since(came) >= freshTime {
			stale = append(stale, conn)
		}
	}
	return stale
}

// count returns how many are open, and how many were refused so far.
func (c *connections) count() (open, refused int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.refused
}
