package audit

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A Filter says which records [Query] is to return. An empty field matches
// every record; the others must all match.
type Filter struct {
	// Since and Until bound the time: Since is included, Until is not.
	Since, Until         time.Time
	Caller, Team, Tenant string
	// Method matches any part of the procedure, such as "Service/Method".
	Method    string
	Kind      Kind
	Outcome   Outcome
	Code      string
	Error     string
	RequestID string
	// Intent matches the intent with this ID and its outcome.
	Intent string
	Event  string
}

// match tells whether r is wanted: whether every field that is set matches.
func (f *Filter) match(r *Record) bool {
	for _, pair := range [...][2]string{
		{f.Caller, r.Caller}, {f.Team, r.Team}, {f.Tenant, r.Tenant}, {f.Code, r.Code}, {f.Error, r.Error},
		{f.RequestID, r.RequestID}, {f.Event, r.Event}, {string(f.Kind), string(r.Kind)}, {string(f.Outcome), string(r.Outcome)},
	} {
		if pair[0] != "" && pair[0] != pair[1] {
			return false
		}
	}
	if f.Intent != "" && r.ID != f.Intent && r.Intent != f.Intent {
		return false
	}
	if !f.Since.IsZero() && r.Time.Before(f.Since) || !f.Until.IsZero() && !r.Time.Before(f.Until) {
		return false
	}
	return strings.Contains(r.Procedure, f.Method)
}

// clockSlack is how far a wall clock may have been set back while a segment
// was written, for Since to find all the same what came before that.
const clockSlack = time.Hour

// Query calls yield for each record of the log in dir that matches f, in their
// order, until yield returns an error, which it then returns. It checks the
// form of what it reads, not that it is genuine: see [Verify]. The log may be
// in use; what is not yet on disk is left out.
func Query(ctx context.Context, dir string, f Filter, yield func(Record) error) error {
	segments, err := listSegments(dir)
	if err != nil {
		return fmt.Errorf("query audit log: %w", err)
	}
	if len(segments) == 0 {
		return fmt.Errorf("query audit log: read %s: %w", dir, errNoLog)
	}
	for i, s := range segments {
		if !f.Since.IsZero() && i+1 < len(segments) && beganBefore(segments[i+1], f.Since.Add(-clockSlack)) {
			continue
		}
		if err := f.segment(ctx, s, yield); err != nil {
			return err
		}
	}
	return nil
}

// beganBefore tells whether a segment was begun before t. Then the one before
// it holds nothing newer. A segment that cannot be read says no.
func beganBefore(s segment, t time.Time) bool {
	c, err := openCursor(s)
	if err != nil {
		return false
	}
	defer c.close()
	var r Record
	_, err = c.read(&r)
	return err == nil && r.Time.Before(t)
}

// segment queries one segment, up to where the next one begins: what follows
// there is void.
func (f *Filter) segment(ctx context.Context, s segment, yield func(Record) error) error {
	c, err := openCursor(s)
	if err != nil {
		return fmt.Errorf("query audit log: %w", err)
	}
	defer c.close()
	for c.seq < s.end {
		var r Record
		_, err := c.read(&r)
		if err != nil && c.ended(err) {
			return nil
		}
		if err == nil && r.Seq == s.first {
			_, err = c.header(&r)
		}
		if err != nil {
			return fmt.Errorf("query audit log: %w", c.missing(err))
		}
		if f.match(&r) {
			if err := yield(r); err != nil {
				return err
			}
		}
		if err := cancelled(ctx, r.Seq); err != nil {
			return err
		}
	}
	return nil
}
