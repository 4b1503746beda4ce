package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/c1proxy/c1proxy/internal/audit"
)

type auditQueryCommand struct {
	Dir string `arg:"" help:"The audit directory. It may be in use, and read-only."`

	Since           when        `placeholder:"TIME" help:"Only records from then on: 90m or 7d ago, 2026-11-23, \"2026-11-23 14:00\" (local) or 2026-11-23T14:00:00Z."`
	Until           when        `placeholder:"TIME" help:"Only records before then."`
	Team            string      `help:"Only this team's."`
	Caller          string      `help:"Only this caller's."`
	Tenant          string      `help:"Only this tenant's."`
	Method          string      `help:"Only this method: package.Service/Method, or an end of it, or a pattern such as c1.api.app.v1.Apps/*, c1.**/* or Delete*."`
	NotMethod       string      `name:"not-method" placeholder:"METHOD" help:"All but these methods: c1proxy.**/* leaves out what asks c1proxy itself."`
	Door            string      `help:"Only calls by this door, such as grpc or rest."`
	Kind            string      `enum:",intent,outcome,denied,event" default:"" help:"Only this kind: intent, outcome, denied or event."`
	Outcome         string      `enum:",ok,failed,indeterminate,not_sent" default:"" help:"Only this outcome: ok, failed, indeterminate or not_sent."`
	Code            string      `help:"Only this code, such as ok or permission_denied."`
	Error           string      `help:"Only this reason of a refusal or failure, such as METHOD_DENIED."`
	Event           string      `help:"Only this event, such as alarm."`
	RequestID       string      `name:"request-id" help:"Only this request's."`
	ClientRequestID string      `name:"client-request-id" help:"Only those of the request that its caller named so."`
	Intent          string      `placeholder:"ID" help:"Only the intent with this id, and its outcome."`
	Path            []pathValue `sep:"none" placeholder:"NAME=VALUE" help:"Only calls with this path value or recorded field, or with VALUE under any name (=VALUE if it has a \"=\"). Repeated: all of them."`

	Limit   int  `placeholder:"N" help:"Stop after this many."`
	Reverse bool `help:"The newest first."`
	NoIndex bool `name:"no-index" help:"Read every record: an index that someone has tampered with can hide some. Verify finds such an index."`
	Count   bool `xor:"form" help:"Print only how many there are."`
	Summary bool `xor:"form" help:"Print how many calls ended how, by team and method."`
	JSON    bool `name:"json" xor:"form" help:"JSON lines, on a terminal too."`
}

// filter is what the flags ask for.
func (q *auditQueryCommand) filter() audit.Filter {
	f := audit.Filter{Since: q.Since.Time, Until: q.Until.Time, Team: q.Team, Caller: q.Caller, Tenant: q.Tenant, Method: q.Method, NotMethod: q.NotMethod, Door: q.Door,
		Kind: audit.Kind(q.Kind), Outcome: audit.Outcome(q.Outcome), Code: q.Code, Error: q.Error, Event: q.Event,
		RequestID: q.RequestID, ClientRequestID: q.ClientRequestID, Intent: q.Intent}
	for _, p := range q.Path {
		f.Path = append(f.Path, audit.Field(p))
	}
	return f
}

// Validate refuses what cannot be meant; kong calls it.
func (q *auditQueryCommand) Validate() error {
	if q.Limit < 0 {
		return fmt.Errorf("--limit is %d, less than none", q.Limit)
	}
	return q.filter().Check()
}

// errLimit ends a query that has found enough.
var errLimit = errors.New("enough")

// Run prints the records that match, in their order, as they are found.
func (q *auditQueryCommand) Run(ctx context.Context, t *terminal) error {
	// A reader that has read enough, such as head, is no failure.
	signal.Ignore(syscall.SIGPIPE)
	search := &audit.Search{Dir: q.Dir, Filter: q.filter(), Reverse: q.Reverse, NoIndex: q.NoIndex}
	s := newScreen(t, search)
	list := q.list(t, s)
	began, found := time.Now(), 0
	err := search.Run(ctx, func(r audit.Record) error {
		found++
		err := list.add(&r)
		if err == nil && found == q.Limit {
			err = errLimit
		}
		return err
	})
	if err == nil || errors.Is(err, errLimit) {
		err = list.end()
	}
	if flushed := s.close(); err == nil {
		err = flushed
	}
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	stats := search.Stats()
	if from := stats.Began; from != nil && (q.Since.IsZero() || from.Time.After(q.Since.Time)) {
		fmt.Fprintf(t.err, "the log begins with record %d, of %s: what was before it has been removed\n", from.Seq, from.Time.Local().Format(time.DateTime))
	}
	if err == nil && isTerminal(t.err) {
		fmt.Fprintf(t.err, "%d records in %v; of %d segments %d were read, %d searched by their index, %d skipped\n",
			found, time.Since(began).Round(time.Millisecond), stats.Segments, stats.Segments-stats.Indexed-stats.Skipped, stats.Indexed, stats.Skipped)
	}
	return err
}

// A list takes records in their order.
type list interface {
	add(r *audit.Record) error
	// end is called once, after the last one.
	end() error
}

// list is the form of the output.
func (q *auditQueryCommand) list(t *terminal, s *screen) list {
	human := isTerminal(t.out)
	switch {
	case q.Count:
		return &count{out: s}
	case q.Summary:
		return &summary{out: s, human: human, groups: map[group]int{}}
	case q.JSON || !human:
		return &jsonLines{out: s}
	}
	return newTable(s, os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

type jsonLines struct{ out *screen }

func (j *jsonLines) add(r *audit.Record) error {
	line, err := r.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = j.out.Write(append(line, '\n'))
	return err
}

func (*jsonLines) end() error { return nil }

type count struct {
	out *screen
	n   int
}

func (c *count) add(*audit.Record) error { c.n++; return nil }

func (c *count) end() error {
	_, err := fmt.Fprintln(c.out, c.n)
	return err
}
