package proxy

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/fault"
)

const (
	// beat is how long a tail is silent at most.
	beat = 10 * time.Second
	// tailBatch is how many records are read at once, and maxTailSize about how
	// large a message is, in bytes.
	tailBatch, maxTailSize = 256, 256 << 10
	// recordOverhead is what a record takes in JSON besides its values, about.
	recordOverhead = 700
	// maxCatchingUp are the tails that read at once what is long on record.
	maxCatchingUp = 2
)

// A tailing is a tail at work. It belongs to one goroutine.
type tailing struct {
	gateway *gateway
	ctx     context.Context
	matches func(*audit.Record) bool
	send    func(*c1proxyv1.TailResponse) error
	all     bool
	most    int
	// sent is when a message was last sent.
	sent time.Time
	// reads says that the tail has a place among those that catch up.
	reads bool
}

// tail answers Tail, until its context ends.
func (g *gateway) tail(ctx context.Context, c *call, r *c1proxyv1.TailRequest, send func(*c1proxyv1.TailResponse) error) error {
	s, err := c.sees(r.GetFilter())
	if err != nil {
		return err
	}
	from := g.log.Stats().Size
	if r.From != nil {
		if from, err = g.startOf(r.GetFrom()); err != nil {
			return err
		}
	}
	leave, err := g.tails.enter(c)
	if err != nil {
		return err
	}
	defer leave()
	t := &tailing{gateway: g, ctx: ctx, send: send, all: s.all, most: min(maxTailSize, g.maxMessage/8)}
	if t.matches, err = s.filter.Matcher(); err != nil {
		return err // which filterOf has checked
	}
	defer t.rest()
	if err := t.tell(nil, from); err != nil {
		return err
	}
	err = audit.Follow(ctx, g.log.Dir(), audit.Range{From: from, Key: g.log.VerifierKey(), Wait: true, Most: tailBatch, Looked: t.looked}, t.took)
	var removed *audit.RemovedError
	switch {
	case errors.As(err, &removed):
		return goneFrom(removed.From, removed.Oldest)
	case err == nil || errors.Is(err, errGone) || fault.Of(err).Reason != fault.Internal:
		return err
	}
	return unreadable(ctx, err)
}

// startOf checks the number of the first record that is wanted.
func (g *gateway) startOf(from uint64) (uint64, error) {
	stats := g.log.Stats()
	switch {
	case from < stats.Oldest:
		return 0, goneFrom(from, stats.Oldest)
	case from > stats.Size:
		return 0, fault.New(connect.CodeOutOfRange, fault.BadRequest,
			"from: the next record of this log is %d: a number is of one log alone, see TailResponse.log; leave it out to begin with what is yet to come", stats.Size).With("field", "from")
	}
	return from, nil
}

// goneFrom is the fault of a tail whose next record retention has removed.
func goneFrom(from, oldest uint64) *fault.Fault {
	return fault.New(connect.CodeOutOfRange, fault.RecordNotFound,
		"from: retention has removed the record %d: the oldest one that is left is %d", from, oldest).With("field", "from")
}

// took is told of records, in their order.
func (t *tailing) took(records []audit.Record) error {
	t.rest()
	var batch []*c1proxyv1.Record
	size := 0
	for i := range records {
		if !t.matches(&records[i]) {
			continue
		}
		record := recordOf(&records[i])
		more := proto.Size(record) + recordOverhead
		if len(batch) > 0 && size+more > t.most {
			if err := t.tell(batch, records[i].Seq); err != nil {
				return err
			}
			batch, size = nil, 0
		}
		batch, size = append(batch, record), size+more
	}
	next := records[len(records)-1].Seq + 1
	if len(batch) > 0 || time.Since(t.sent) >= beat {
		if err := t.tell(batch, next); err != nil {
			return err
		}
	}
	if len(records) == tailBatch {
		return t.read() // there is probably more
	}
	return nil
}

// looked is told how far the tail is, each quarter of a second.
func (t *tailing) looked(next uint64) error {
	t.rest()
	if time.Since(t.sent) < beat {
		return nil
	}
	return t.tell(nil, next)
}

// tell sends a message.
func (t *tailing) tell(records []*c1proxyv1.Record, next uint64) error {
	err := t.send(&c1proxyv1.TailResponse{Records: records, Next: next, Log: t.gateway.log.Origin(), AllTeams: t.all})
	t.sent = time.Now()
	return err
}

// read waits for a place among those that catch up, so that however many do, calls
// go on. No place is held while a caller takes what is sent.
func (t *tailing) read() error {
	select {
	case t.gateway.catchingUp <- struct{}{}:
		t.reads = true
		return nil
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}

// rest gives the place back.
func (t *tailing) rest() {
	if t.reads {
		t.reads = false
		<-t.gateway.catchingUp
	}
}
