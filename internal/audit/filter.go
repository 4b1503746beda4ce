package audit

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// A Filter says which records [Query] is to return. An empty field matches
// every record; the others must all match.
type Filter struct {
	// Since and Until bound the time: Since is included, Until is not.
	Since, Until         time.Time
	Caller, Team, Tenant string
	Door                 string
	// Method matches the procedure: "package.Service/Method", or an end of it
	// that begins with a whole name, such as "Service/Method" or "Method". In it
	// a "*" stands for one whole or part of a name, and "**" for several names
	// with the dots between them: "c1.api.app.v1.Apps/*", "c1.**/*", "Delete*".
	Method string
	// NotMethod matches the records that Method would not match with it: those that
	// have no method too, as events.
	NotMethod string
	Kind      Kind
	Outcome   Outcome
	Code      string
	Error     string
	RequestID string
	// ClientRequestID is the caller's own name for the call.
	ClientRequestID string
	// Intent matches the intent with this ID and its outcome.
	Intent string
	Event  string
	// Path matches a record that has each of these among its path values and the
	// other fields of its request. An empty name stands for any.
	Path Fields
}

// Check returns an error for a filter that nothing could match, or whose method
// is none.
func (f Filter) Check() error {
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return fmt.Errorf("read filter: since %s is not before until %s", f.Since.Format(time.RFC3339), f.Until.Format(time.RFC3339))
	}
	_, err := newMatcher(f)
	return err
}

// Matcher returns what tells whether a record matches, safe for concurrent use.
// The error is of a method that is none.
func (f Filter) Matcher() (func(*Record) bool, error) {
	m, err := newMatcher(f)
	if err != nil {
		return nil, err
	}
	return m.match, nil
}

// columns are the fields with few different values: an index holds a dictionary
// of each. wanted is what a filter asks of it; empty matches all.
var columns = [...]struct {
	of     func(*Record) string
	wanted func(*Filter) string
}{
	{func(r *Record) string { return string(r.Kind) }, func(f *Filter) string { return string(f.Kind) }},
	{func(r *Record) string { return r.Caller }, func(f *Filter) string { return f.Caller }},
	{func(r *Record) string { return r.Team }, func(f *Filter) string { return f.Team }},
	{func(r *Record) string { return r.Tenant }, func(f *Filter) string { return f.Tenant }},
	{func(r *Record) string { return r.Procedure }, func(f *Filter) string { return f.Method }},
	{func(r *Record) string { return r.Door }, func(f *Filter) string { return f.Door }},
	{func(r *Record) string { return r.Error }, func(f *Filter) string { return f.Error }},
	{func(r *Record) string { return r.Code }, func(f *Filter) string { return f.Code }},
	{func(r *Record) string { return string(r.Outcome) }, func(f *Filter) string { return string(f.Outcome) }},
	{func(r *Record) string { return r.Event }, func(f *Filter) string { return f.Event }},
}

// methodColumn is the only one that is not compared as it stands.
const methodColumn = 4

// A matcher is a filter made ready. It is safe for concurrent use.
type matcher struct {
	filter Filter
	// columns holds a test for each column that is asked for; the others are nil.
	columns [len(columns)]func(string) bool
	// keys are the hashes of what a record must have.
	keys []uint32
}

// newMatcher makes a filter ready. The error is of a method that is none.
func newMatcher(f Filter) (*matcher, error) {
	m := &matcher{filter: f}
	for i, c := range columns {
		if wanted := c.wanted(&f); wanted != "" {
			m.columns[i] = func(value string) bool { return value == wanted }
		}
	}
	var err error
	if m.columns[methodColumn], err = methodTest(f.Method, f.NotMethod); err != nil {
		return nil, err
	}
	// What a record has of these it has as a key: see eachKey.
	eachKey(&Record{ID: f.Intent, RequestID: f.RequestID, ClientRequestID: f.ClientRequestID, Path: f.Path},
		func(kind keyKind, value string) { m.keys = append(m.keys, keyHash(kind, value)) })
	return m, nil
}

// methodTest tests a procedure for both of a filter's methods; nil if it has none.
func methodTest(method, not string) (func(string) bool, error) {
	var tests [2]func(string) bool
	for i, pattern := range []string{method, not} {
		if pattern == "" {
			continue
		}
		expression, err := methodPattern(pattern)
		if err != nil {
			return nil, err
		}
		tests[i] = expression.MatchString
	}
	is, isNot := tests[0], tests[1]
	switch {
	case isNot == nil:
		return is, nil
	case is == nil:
		return func(procedure string) bool { return !isNot(procedure) }, nil
	}
	return func(procedure string) bool { return is(procedure) && !isNot(procedure) }, nil
}

// methodSyntax is what a method may look like in a filter.
var methodSyntax = regexp.MustCompile(`^[A-Za-z0-9_.*/]+$`)

// methodPattern is the regular expression of a method in a filter.
func methodPattern(method string) (*regexp.Regexp, error) {
	if !methodSyntax.MatchString(method) || strings.Contains(method, "***") || strings.Count(strings.TrimPrefix(method, "/"), "/") > 1 {
		return nil, fmt.Errorf("read method %q: it is neither package.Service/Method, nor an end of it, nor a pattern such as package.Service/* or package.**/*", method)
	}
	text := regexp.QuoteMeta(method)
	text = strings.ReplaceAll(text, `\*\*`, `[^/]+`)
	text = strings.ReplaceAll(text, `\*`, `[^./]+`)
	begin := `(?:^|[./])`
	if method[0] == '/' {
		begin = `^`
		text = `/?` + text[1:]
	}
	return regexp.MustCompile(begin + text + `$`), nil
}

// selective tells whether the filter leaves anything out.
func (m *matcher) selective() bool {
	for _, test := range m.columns {
		if test != nil {
			return true
		}
	}
	return len(m.keys) > 0 || !m.filter.Since.IsZero() || !m.filter.Until.IsZero()
}

// match tells whether r is wanted: whether every field that is set matches.
func (m *matcher) match(r *Record) bool {
	f := &m.filter
	if !f.Since.IsZero() && r.Time.Before(f.Since) || !f.Until.IsZero() && !r.Time.Before(f.Until) {
		return false
	}
	for i, test := range m.columns {
		if test != nil && !test(columns[i].of(r)) {
			return false
		}
	}
	switch {
	case f.RequestID != "" && r.RequestID != f.RequestID,
		f.ClientRequestID != "" && r.ClientRequestID != f.ClientRequestID,
		f.Intent != "" && r.ID != f.Intent && r.Intent != f.Intent:
		return false
	}
	for _, wanted := range f.Path {
		if !wanted.among(r.Path) && !wanted.among(r.Request) {
			return false
		}
	}
	return true
}

// among tells whether fields have the value of f, under its name if it has one.
func (f Field) among(fields Fields) bool {
	for _, field := range fields {
		if field.Value == f.Value && (f.Name == "" || field.Name == f.Name) {
			return true
		}
	}
	return false
}
