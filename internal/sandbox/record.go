package sandbox

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// maxKept is how much of a request's body the record keeps, in bytes.
const maxKept = 64 << 10

// A Request is what the sandbox saw and did of one request.
type Request struct {
	// Number counts from 1 in order of arrival, over both kinds of request.
	Number int
	// Time is when the headers had arrived, by the machine's clock.
	Time time.Time
	// Method, URI and Host are as they came: URI is the raw request target.
	Method, URI, Host string
	// Proto is the protocol, such as "HTTP/2.0".
	Proto string
	// RemoteAddr tells connections apart.
	RemoteAddr string
	// Header holds every header but Host.
	Header http.Header
	// ContentLength is -1 where none was declared.
	ContentLength int64
	// TransferEncoding is what net/http has taken off, such as "chunked".
	TransferEncoding []string
	// Body is at most the first 64 KiB of the body.
	Body []byte
	// BodySize is the size of the whole body that was read.
	BodySize int
	// Procedure is what was called: TokenEndpoint at the token endpoint, and
	// empty where nothing is served.
	Procedure string
	// Fault names the fault that befell the request; empty if none.
	Fault string
	// Status is the HTTP status that was sent; 0 if none was, or not yet.
	Status int
	// Accepted says that the request was taken in: read to its end, and not
	// answered 401.
	Accepted bool
	// Acted says that the request changed something. At the token endpoint,
	// that a token was issued.
	Acted bool
}

// keep notes the body of a request.
func (q *Request) keep(body []byte) {
	q.BodySize = len(body)
	q.Body = slices.Clone(body[:min(len(body), maxKept)])
}

// copy is a Request that shares nothing with q that is still written to.
func (q *Request) copy() Request {
	c := *q
	c.Header = q.Header.Clone()
	return c
}

// A record is what has been seen since it was made or reset.
type record struct {
	limit int // of each of calls and exchanges; negative: keep none

	mu        sync.Mutex    // guards what follows, and every entry
	arrived   chan struct{} // closed and made anew with each request
	number    int
	calls     []*Request // of the API, oldest first
	exchanges []*Request // at the token endpoint, oldest first
	hits      int
	accepted  int
	tokenHits int
	acts      map[string]int // by procedure
}

// newRecord returns an empty record.
func newRecord(limit int) *record {
	return &record{limit: limit, arrived: make(chan struct{}), acts: make(map[string]int)}
}

// open notes a request whose headers have arrived.
func (d *record) open(r *http.Request, procedure string) *Request {
	entry := &Request{
		Time: time.Now(), Method: r.Method, URI: r.RequestURI, Host: r.Host, Proto: r.Proto, RemoteAddr: r.RemoteAddr,
		ContentLength: r.ContentLength, TransferEncoding: r.TransferEncoding, Procedure: procedure,
	}
	if d.limit > 0 {
		entry.Header = r.Header.Clone()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.number++
	entry.Number = d.number
	if procedure == TokenEndpoint {
		d.tokenHits++
		d.exchanges = d.push(d.exchanges, entry)
	} else {
		d.hits++
		d.calls = d.push(d.calls, entry)
	}
	close(d.arrived)
	d.arrived = make(chan struct{})
	return entry
}

// push appends, and drops the older half when there are twice as many as are
// to be kept, so that the cost of dropping is spread.
func (d *record) push(list []*Request, entry *Request) []*Request {
	if d.limit < 0 {
		return nil
	}
	if len(list) >= 2*d.limit {
		list = slices.Delete(list, 0, len(list)-d.limit)
	}
	return append(list, entry)
}

// decide counts an entry, once it is known what becomes of it.
func (d *record) decide(entry *Request, accepted, acted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	entry.Accepted, entry.Acted = accepted, acted
	if accepted && entry.Procedure != TokenEndpoint {
		d.accepted++
	}
	if acted {
		d.acts[entry.Procedure]++
	}
}

// update changes an entry. change must not block.
func (d *record) update(entry *Request, change func(*Request)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(entry)
}

// read is an entry as it is now. Header and Body are shared.
func (d *record) read(entry *Request) Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *entry
}

// list copies the latest of the entries that of returns under the lock.
func (d *record) list(of func() []*Request) []Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := of()
	list = list[max(0, len(list)-max(d.limit, 0)):]
	copies := make([]Request, len(list))
	for i, entry := range list {
		copies[i] = entry.copy()
	}
	return copies
}

// Requests returns what the API saw, oldest first: every request but those to
// the token endpoint, and of these no more than Config.Remember, the latest.
// A request that is still being served is among them.
func (s *Sandbox) Requests() []Request {
	return s.record.list(func() []*Request { return s.record.calls })
}

// TokenRequests returns what the token endpoint saw, as Requests does. The
// bodies hold secrets.
func (s *Sandbox) TokenRequests() []Request {
	return s.record.list(func() []*Request { return s.record.exchanges })
}

// Hits counts the requests that the API saw.
func (s *Sandbox) Hits() int { return s.record.count(func() int { return s.record.hits }) }

// AcceptedHits counts those of them that were taken in; see Request.Accepted.
func (s *Sandbox) AcceptedHits() int { return s.record.count(func() int { return s.record.accepted }) }

// TokenHits counts the requests that the token endpoint saw.
func (s *Sandbox) TokenHits() int { return s.record.count(func() int { return s.record.tokenHits }) }

// Acts counts how often a procedure changed something, whatever was answered.
// For TokenEndpoint it counts the tokens issued.
func (s *Sandbox) Acts(procedure string) int {
	return s.record.count(func() int { return s.record.acts[procedure] })
}

// count reads a counter under the lock.
func (d *record) count(of func() int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return of()
}

// Reset forgets the record and sets the counters to 0. World, tokens and
// faults stay; see Restore, RevokeAll and Heal.
func (s *Sandbox) Reset() {
	d := s.record
	d.mu.Lock()
	defer d.mu.Unlock()
	d.number, d.hits, d.accepted, d.tokenHits = 0, 0, 0, 0
	d.calls, d.exchanges = nil, nil
	clear(d.acts)
}

// AwaitHits waits until the API has seen n requests since New or Reset. They
// may still be in service. The error is the context's.
func (s *Sandbox) AwaitHits(ctx context.Context, n int) error {
	for {
		s.record.mu.Lock()
		hits, arrived := s.record.hits, s.record.arrived
		s.record.mu.Unlock()
		if hits >= n {
			return nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
