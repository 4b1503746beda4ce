package audit

import (
	"cmp"
	"crypto/rand"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// A tally counts refusals without a caller, and holds what they have in common:
// each of its texts is what all of them have, or empty.
type tally struct {
	error, code, peer         string
	procedure, door, revision string
	count                     uint64
	first, last               sighting
}

// A sighting says which refusal it was, and when.
type sighting struct {
	request string
	time    time.Time
}

// tallyOf counts one refusal.
func tallyOf(r *Record) tally {
	seen := sighting{r.RequestID, r.Time}
	return tally{error: r.Error, code: r.Code, peer: network(r.Peer), procedure: r.Procedure, door: r.Door,
		revision: r.PolicyRevision, count: 1, first: seen, last: seen}
}

// network names where a peer, an address with or without port, comes from: the
// address of IPv4, the /64 of IPv6, of which each host has more addresses than
// could be counted. It is empty for what is no address.
func network(peer string) string {
	addr, err := netip.ParseAddr(peer)
	if err != nil {
		port, err := netip.ParseAddrPort(peer)
		if err != nil {
			return ""
		}
		addr = port.Addr()
	}
	if addr = addr.Unmap(); addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(64) // drops the zone
	if err != nil {
		return ""
	}
	return prefix.String()
}

// add counts what other has counted.
func (t *tally) add(other *tally) {
	for _, text := range [...]struct{ mine, others *string }{
		{&t.error, &other.error}, {&t.code, &other.code}, {&t.peer, &other.peer}, {&t.procedure, &other.procedure},
		{&t.door, &other.door}, {&t.revision, &other.revision},
	} {
		if *text.mine != *text.others {
			*text.mine = ""
		}
	}
	t.count += other.count
	if other.first.time.Before(t.first.time) {
		t.first = other.first
	}
	if !other.last.time.Before(t.last.time) {
		t.last = other.last
	}
}

// record is the one record of all that t counts.
func (t *tally) record() *Record {
	return &Record{ID: rand.Text(), Time: t.last.time, Kind: KindDenied, Outcome: OutcomeNotSent,
		Error: t.error, Code: t.code, Peer: t.peer, Procedure: t.procedure, Door: t.door, PolicyRevision: t.revision,
		Detail: map[string]string{
			"count":            strconv.FormatUint(t.count, 10),
			"first_request_id": t.first.request,
			"last_request_id":  t.last.request,
			"first_time":       t.first.time.UTC().Format(time.RFC3339Nano),
			"last_time":        t.last.time.UTC().Format(time.RFC3339Nano),
		}}
}

// A crowdKey is what the refusals of a crowd have in common. The key of those
// that have too many different ones is various.
type crowdKey struct {
	error, code, peer string
	various           bool
}

func (t *tally) key() crowdKey { return crowdKey{error: t.error, code: t.code, peer: t.peer} }

var various = crowdKey{various: true}

// A crowd is refusals that are to share a record, and those who wait for it.
type crowd struct {
	tally
	// waiting counts those who still wait. Guarded by Log.mu.
	waiting int
	// settled: the fields below will not change. Guarded by Log.mu.
	settled bool
	// done is closed when those who wait may go on. Then id and seq are the
	// record's, or err says why it is not on disk.
	done chan struct{}
	id   string
	seq  uint64
	err  error
}

// entry encodes the crowd's record.
func (c *crowd) entry() *entry {
	r := c.record()
	c.id = r.ID
	e := newEntry(r)
	e.crowd = c
	return e
}

// crowds are the crowds that have no record yet.
type crowds map[crowdKey]*crowd

// merge counts t, in a crowd of its own if may says so, and returns the crowd.
func (m crowds) merge(t *tally, may func() bool) *crowd {
	key := t.key()
	if m[key] == nil && (len(m) >= maxCrowds || !may()) {
		key = various
	}
	c := m[key]
	if c == nil {
		c = &crowd{tally: *t, done: make(chan struct{})}
		m[key] = c
		return c
	}
	c.add(t)
	return c
}

// always allows a crowd to begin.
func always() bool { return true }

// take removes all crowds, and returns them in the order of their times.
func (m crowds) take() []*crowd {
	taken := make([]*crowd, 0, len(m))
	for _, c := range m {
		taken = append(taken, c)
	}
	clear(m)
	slices.SortFunc(taken, func(a, b *crowd) int {
		return cmp.Or(a.last.time.Compare(b.last.time), cmp.Compare(a.last.request, b.last.request))
	})
	return taken
}

// count is the number of refusals in all crowds.
func (m crowds) count() (n uint64) {
	for _, c := range m {
		n += c.count
	}
	return n
}
