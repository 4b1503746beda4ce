package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	c1proxyv1 "github.com/c1proxy/c1proxy/gen/c1proxy/v1"
	"github.com/c1proxy/c1proxy/internal/audit"
	"github.com/c1proxy/c1proxy/internal/fault"
)

// This file is about what callers and operators ask of the audit: Query and Prove.
// Tail is in tail.go.

const (
	// auditorGrant lets a caller see the records of all teams, auditScope an operator.
	auditorGrant = "auditor"
	auditScope   = "audit"

	// queryTime is how long one page is looked for, and proveTime bounds the making
	// of a proof.
	queryTime, proveTime = 2 * time.Second, 20 * time.Second
	// signTime is how long a record waits to be covered by a signed head.
	signTime = 2 * time.Second
	// maxPage bounds the records of a page, in bytes of their lines: it is held until
	// its caller has taken it.
	maxPage = 256 << 10

	defaultPage, largestPage = 100, 1000
	// maxValues bounds the values of a filter.
	maxValues = 16
)

// A sight is what of the audit a caller sees.
type sight struct {
	filter audit.Filter
	// all says that no team's records are left out.
	all bool
}

// sees says what a caller sees of what a filter wants: the records of its own team,
// or with the grant or as an operator all.
func (c *call) sees(f *c1proxyv1.RecordFilter) (s sight, err error) {
	if s.filter, err = filterOf(f); err != nil {
		return s, err
	}
	s.all = c.oversees()
	switch {
	case s.all:
		return s, nil
	case s.filter.Team != "" && s.filter.Team != c.who.Team:
		return s, fault.New(connect.CodePermissionDenied, fault.AuditDenied,
			"filter.team: you see the records of team %s alone: leave it out, or have an operator add grants: [%s] to the caller %s/%s",
			c.who.Team, auditorGrant, c.who.Team, c.who.Caller).With("field", "filter.team")
	}
	s.filter.Team = c.who.Team
	return s, nil
}

// filterOf reads a filter.
func filterOf(f *c1proxyv1.RecordFilter) (out audit.Filter, err error) {
	out = audit.Filter{Team: f.GetTeam(), Caller: f.GetCaller(), Tenant: f.GetTenant(), Method: f.GetMethod(), NotMethod: f.GetNotMethod(),
		Kind: audit.Kind(f.GetKind()), Outcome: audit.Outcome(f.GetOutcome()), Code: f.GetCode(), Error: f.GetError(),
		RequestID: f.GetRequestId(), ClientRequestID: f.GetClientRequestId(), Intent: f.GetIntent(), Event: f.GetEvent(), Door: f.GetDoor()}
	for name, text := range map[string]string{"team": out.Team, "caller": out.Caller, "tenant": out.Tenant, "method": out.Method, "not_method": out.NotMethod, "code": out.Code,
		"error": out.Error, "request_id": out.RequestID, "client_request_id": out.ClientRequestID, "intent": out.Intent, "event": out.Event, "door": out.Door} {
		if len(text) > maxName {
			return out, badQuestion("filter."+name, "is longer than %d bytes", maxName)
		}
	}
	for name, wanted := range map[string]struct {
		text string
		of   []string
	}{
		"kind": {f.GetKind(), []string{"", "intent", "outcome", "denied", "event"}}, "outcome": {f.GetOutcome(), []string{"", "ok", "failed", "indeterminate", "not_sent"}},
	} {
		if !slices.Contains(wanted.of, wanted.text) {
			return out, badQuestion("filter."+name, "is none of %v", wanted.of[1:])
		}
	}
	if out.Since, err = timeIn("since", f.GetSince()); err != nil {
		return out, err
	}
	if out.Until, err = timeIn("until", f.GetUntil()); err != nil {
		return out, err
	}
	if len(f.GetValues()) > maxValues {
		return out, badQuestion("filter.values", "has more than %d values", maxValues)
	}
	for i, value := range f.GetValues() {
		if len(value.GetName()) > maxName || len(value.GetValue()) > 4*maxName {
			return out, badQuestion(fmt.Sprintf("filter.values[%d]", i), "is longer than any that is on record")
		}
		out.Path = append(out.Path, audit.Field{Name: value.GetName(), Value: value.GetValue()})
	}
	if err := out.Check(); err != nil {
		field := "filter.not_method"
		if (audit.Filter{Method: out.Method}).Check() != nil {
			field = "filter.method"
		}
		if !out.Since.IsZero() && !out.Until.IsZero() && !out.Since.Before(out.Until) {
			field = "filter.since"
		}
		return out, badQuestion(field, "%v", err)
	}
	return out, nil
}

// timeIn is a time of a filter; zero without one.
func timeIn(name string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, badQuestion("filter."+name, "is no time")
	}
	if at := t.AsTime(); !at.IsZero() {
		return at, nil
	}
	return time.Time{}.Add(1), nil // the zero time would stand for none
}

// query answers Query.
func (g *gateway) query(ctx context.Context, c *call, r *c1proxyv1.QueryRequest) (*c1proxyv1.QueryResponse, error) {
	s, err := c.sees(r.GetFilter())
	if err != nil {
		return nil, err
	}
	size := int(r.GetPageSize())
	switch {
	case size < 0 || size > largestPage:
		return nil, badQuestion("page_size", "is not from 1 to %d, or 0 for %d", largestPage, defaultPage)
	case size == 0:
		size = defaultPage
	}
	before := g.log.Stats().Size
	if token := r.GetPageToken(); token != "" {
		at, ok := s.position(g.log.Origin(), token)
		if !ok {
			return nil, badQuestion("page_token", "is none of this log with this filter: give the next_page_token of the page before with all else as it was, or begin without one")
		}
		before = min(before, at)
	}
	leave, err := g.readers.enter(ctx, s.all)
	if err != nil {
		return nil, err
	}
	defer leave()
	found, err := g.page(ctx, s.filter, before, size).Read(ctx)
	if err != nil {
		return nil, unreadable(ctx, err)
	}
	response := &c1proxyv1.QueryResponse{Log: g.log.Origin(), AllTeams: s.all}
	for i := range found.Records {
		response.Records = append(response.Records, recordOf(&found.Records[i]))
	}
	if found.More {
		response.NextPageToken = s.token(g.log.Origin(), found.Next)
	}
	return response, nil
}

// page is a page of at most so many records before one, and of what a call can take.
func (g *gateway) page(ctx context.Context, f audit.Filter, before uint64, size int) audit.Page {
	page := audit.Page{Dir: g.log.Dir(), Filter: f, Before: before, Most: size, Bytes: min(maxPage, g.maxMessage/2), Time: queryTime}
	if deadline, ok := ctx.Deadline(); ok { // a part of the page is better than none
		page.Time = max(1, min(page.Time, time.Until(deadline)/2))
	}
	return page
}

// token names the place in a log where a page ended. It is bound to the log and to
// what is seen of it, so that another question has no use of it. Whoever makes one
// up can begin elsewhere, and sees no more by it.
func (s sight) token(log string, next uint64) string {
	question, _ := json.Marshal(s.filter) // texts and times, which have a form
	token := binary.BigEndian.AppendUint64(nil, next)
	sum := sha256.Sum256(fmt.Appendf(nil, "c1proxy audit page 1\n%q %v %s %d", log, s.all, question, next))
	return base64.RawURLEncoding.EncodeToString(append(token, sum[:16]...))
}

// position reads a token.
func (s sight) position(log, token string) (next uint64, ok bool) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(data) != 8+16 {
		return 0, false
	}
	next = binary.BigEndian.Uint64(data)
	return next, s.token(log, next) == token
}

// prove answers Prove.
func (g *gateway) prove(ctx context.Context, c *call, r *c1proxyv1.ProveRequest) (*c1proxyv1.ProveResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, proveTime)
	defer cancel()
	record, err := g.record(ctx, c, r.GetSeq())
	if err != nil {
		return nil, err
	}
	if err := g.signed(ctx, r.GetSeq()); err != nil {
		return nil, err
	}
	done, err := g.provers.enter(ctx, c.oversees())
	if err != nil {
		return nil, err
	}
	defer done()
	leave, err := g.readers.enter(ctx, c.oversees())
	if err != nil {
		return nil, err
	}
	defer leave()
	prover, err := audit.NewProver(g.log.Dir(), nil, nil)
	if err != nil {
		return nil, unreadable(ctx, err)
	}
	proof, err := prover.Record(ctx, r.GetSeq())
	if errors.Is(err, audit.ErrRemoved) {
		return nil, g.removed(r.GetSeq())
	}
	if err != nil {
		return nil, unreadable(ctx, err)
	}
	return &c1proxyv1.ProveResponse{Record: record, Proof: string(proof.Text()), VerifierKey: g.log.VerifierKey()}, nil
}

// record reads one record. One that the caller may not see is answered as one that
// is not there.
func (g *gateway) record(ctx context.Context, c *call, seq uint64) (*c1proxyv1.Record, error) {
	s, err := c.sees(nil)
	if err != nil {
		return nil, err
	}
	leave, err := g.readers.enter(ctx, s.all)
	if err != nil {
		return nil, err
	}
	defer leave()
	unseen := fault.New(connect.CodeNotFound, fault.RecordNotFound, "seq: this log has no such record, or none that you may see").With("field", "seq")
	stats := g.log.Stats()
	switch {
	case seq >= stats.Size:
		return nil, unseen
	case seq < stats.Oldest:
		return nil, g.removed(seq)
	}
	found, err := audit.Page{Dir: g.log.Dir(), Before: seq + 1, Most: 1}.Read(ctx)
	switch {
	case err != nil:
		return nil, unreadable(ctx, err)
	case len(found.Records) == 0 || found.Records[0].Seq != seq:
		return nil, g.removed(seq) // since it was looked for
	case !s.all && found.Records[0].Team != s.filter.Team:
		return nil, unseen
	}
	return recordOf(&found.Records[0]), nil
}

// removed is the fault of a record that retention has removed, whosever it was.
func (g *gateway) removed(seq uint64) *fault.Fault {
	return fault.New(connect.CodeNotFound, fault.RecordNotFound, "seq: retention has removed the record %d: the oldest one that is left is %d", seq, g.log.Stats().Oldest).With("field", "seq")
}

// signed waits until a signed head covers a record, which takes about a second.
func (g *gateway) signed(ctx context.Context, seq uint64) error {
	late := time.NewTimer(signTime)
	defer late.Stop()
	look := time.NewTicker(signTime / 40)
	defer look.Stop()
	for g.log.Stats().HeadSize <= seq {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			f := fault.New(connect.CodeUnavailable, fault.RecordNotSigned, "no signed head covers the record %d yet: try again", seq)
			f.RetryAfter = time.Second
			return f
		}
	}
	return nil
}

// unreadable is the fault of a log that cannot be read. Where and why is for our
// own log.
func unreadable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	code := connect.CodeUnavailable
	if bad := new(audit.CorruptError); errors.As(err, &bad) || errors.Is(err, audit.ErrDisagrees) {
		code = connect.CodeDataLoss
	}
	return fault.New(code, fault.AuditUnreadable, "the audit cannot be read there: an operator finds why in c1proxy's log, under this request id").Because(err)
}

// noteReading keeps for the records what is asked of the audit: not the values and
// ids that are looked for, which the records of calls may not hold in clear.
func noteReading(c *call, message proto.Message) {
	if q, ok := message.(interface {
		GetFilter() *c1proxyv1.RecordFilter
	}); ok {
		f := q.GetFilter()
		c.noteAsked("team", f.GetTeam())
		c.noteAsked("caller", f.GetCaller())
		c.noteAsked("method", f.GetMethod())
		c.noteAsked("not_method", f.GetNotMethod())
		c.noteAsked("kind", f.GetKind())
	}
	switch q := message.(type) {
	case *c1proxyv1.ProveRequest:
		c.noteAsked("seq", fmt.Sprint(q.GetSeq()))
	case *c1proxyv1.TailRequest:
		if q.From != nil {
			c.noteAsked("from", fmt.Sprint(q.GetFrom()))
		}
	}
}
