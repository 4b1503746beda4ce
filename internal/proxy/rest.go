package proxy

import (
	"context"
	"net/http"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/rest"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

// segmentsKey is the context key of a path's values, as they came.
type segmentsKey struct{}

// withSegments notes the raw values of a path for serveREST.
func withSegments(r *http.Request, segments []string) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), segmentsKey{}, segments))
}

var jsonType = []string{"application/json"}

// serveREST is the door of C1's own paths: what goes up and what comes back is
// passed on byte for byte, and the message is only what is decided on.
func (b *binding) serveREST(w http.ResponseWriter, r *http.Request) {
	c := w.(*call)
	in, err := b.readREST(c, r)
	if err != nil {
		b.refuse(c, r, fault.Of(err))
		return
	}

	a := b.travel(r.Context(), c, in)

	if a.fault != nil {
		c.fault = a.fault
		// A failed write means that the caller has gone.
		_ = b.errors.Write(c, r, a.fault.Connect())
		return
	}
	if a.status == http.StatusNoContent {
		w.WriteHeader(a.status)
		return
	}
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // as above
}

// readREST reads path, query and body into a message. The path values are noted
// in c, as far as they were read.
func (b *binding) readREST(c *call, r *http.Request) (inbound, error) {
	message := b.route.Input.New()
	segments, _ := r.Context().Value(segmentsKey{}).([]string)
	values, err := b.route.Bind(message, segments)
	c.notePath(values)
	if err != nil {
		return inbound{}, err
	}
	in := inbound{message: message.Interface(), raw: new(raw)}
	if in.raw.query, in.raw.body, err = rest.Read(b.route, r, b.gateway.maxMessage); err != nil {
		return inbound{}, err
	}
	if err := keyInQuery(in.raw.query); err != nil {
		return inbound{}, err
	}
	if len(in.raw.body) > 0 {
		c.strays, err = transcode.Body(b.route, in.raw.body, in.message)
	} else {
		c.strays, err = transcode.Query(b.route, in.raw.query, in.message)
	}
	return in, err
}
