package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// A table writes rows as they come. A column is as wide as its widest cell so
// far, so that nothing has to be kept.
type table struct {
	out    io.Writer
	colour bool
	head   []string // until it is written
	widths []int
}

// newTable returns the table of records. colour is for terminals only.
func newTable(out io.Writer, colour bool) *table {
	return &table{out: out, colour: colour, widths: []int{23, 7, 20, 32, 4, 8, 8, 0},
		head: []string{"TIME", "KIND", "CALLER", "METHOD", "CODE", "OUTCOME", "TOOK", "PATH"}}
}

// The parts of a line that select graphic rendition (ECMA-48, 8.3.117).
const (
	dim, red, yellow, plain = "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
)

// write writes one row; first and rest are how its first cell and the others
// look, empty for as usual.
func (t *table) write(cells []string, first, rest string) error {
	if head := t.head; head != nil {
		t.head = nil
		if err := t.write(head, "", ""); err != nil {
			return err
		}
	}
	var line strings.Builder
	for i, cell := range cells {
		if i < len(t.widths)-1 {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
			cell += strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)+2)
		}
		if i == 0 && t.colour && first != "" {
			cell = first + cell + plain
		}
		if i == 1 && t.colour {
			line.WriteString(rest)
		}
		line.WriteString(cell)
	}
	text := strings.TrimRight(line.String(), " ")
	if t.colour && rest != "" {
		text += plain
	}
	_, err := io.WriteString(t.out, text+"\n")
	return err
}

func (t *table) add(r *audit.Record) error {
	look := ""
	switch {
	case r.Outcome == audit.OutcomeIndeterminate:
		look = yellow
	case r.Kind == audit.KindDenied, r.Outcome == audit.OutcomeFailed, r.Outcome == audit.OutcomeNotSent, r.Event == audit.EventAlarm, r.Event == audit.EventGap:
		look = red
	}
	return t.write(cells(r), dim, look)
}

func (*table) end() error { return nil }

// cells are a record's cells. What a caller chose is quoted, and whatever could
// steer the terminal.
func cells(r *audit.Record) []string {
	caller, method := r.Caller, r.Procedure
	if r.Team != "" {
		caller = r.Team + "/" + r.Caller
	}
	if r.Kind == audit.KindEvent {
		method = r.Event
	}
	var path []string
	for _, f := range r.Path {
		path = append(path, fmt.Sprintf("%s=%s", printable(f.Name), strconv.Quote(f.Value)))
	}
	took := ""
	if r.Duration > 0 {
		took = r.Duration.Round(10 * time.Microsecond).String()
	}
	outcome := strings.TrimSpace(string(r.Outcome) + " " + r.Error)
	return []string{r.Time.Local().Format("2006-01-02 15:04:05.000"), printable(string(r.Kind)), printable(caller),
		printable(method[strings.LastIndexByte(method, '.')+1:]), printable(r.Code), printable(outcome), took, strings.Join(path, " ")}
}

// printable is s, quoted if anything in it is more than a sign to be seen.
func printable(s string) string {
	for _, char := range s {
		if !unicode.IsPrint(char) || char == utf8.RuneError {
			return strconv.Quote(s)
		}
	}
	return s
}

// A group is calls that a summary counts together.
type group struct {
	Team    string `json:"team,omitempty"`
	Method  string `json:"method"`
	Outcome string `json:"outcome"`
}

// A summary counts calls by their final records.
type summary struct {
	out    io.Writer
	human  bool
	groups map[group]int
}

func (s *summary) add(r *audit.Record) error {
	switch r.Kind {
	case audit.KindOutcome:
		s.groups[group{r.Team, strings.TrimPrefix(r.Procedure, "/"), string(r.Outcome)}]++
	case audit.KindDenied:
		s.groups[group{r.Team, strings.TrimPrefix(r.Procedure, "/"), string(r.Kind)}]++
	}
	return nil
}

// end writes the groups, the largest first.
func (s *summary) end() error {
	type counted struct {
		group
		Calls int `json:"calls"`
	}
	var all []counted
	for g, n := range s.groups {
		all = append(all, counted{g, n})
	}
	slices.SortFunc(all, func(a, b counted) int {
		return cmp.Or(b.Calls-a.Calls, cmp.Compare(a.Team, b.Team), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Outcome, b.Outcome))
	})
	table := table{out: s.out, widths: []int{8, 12, 13, 0}, head: []string{"CALLS", "TEAM", "OUTCOME", "METHOD"}}
	encoder := json.NewEncoder(s.out)
	for _, c := range all {
		if !s.human {
			if err := encoder.Encode(c); err != nil {
				return err
			}
			continue
		}
		if err := table.write([]string{strconv.Itoa(c.Calls), printable(c.Team), printable(c.Outcome), printable(c.Method)}, "", ""); err != nil {
			return err
		}
	}
	return nil
}
