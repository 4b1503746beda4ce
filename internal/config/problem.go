package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Path is where in the configuration, such as teams[0].allow[1].methods[0].
	// It is empty when the problem is the file's as a whole.
	Path string
	// Line and Column are where in the file, from 1. Columns count characters.
	// They are those of the value, or of what should hold it.
	Line, Column int
	// Message is what was wrong and what to do. It never holds the value of a
	// field that can hold a secret.
	Message string
}

// An Error is every problem of a configuration, in the order of the file.
type Error struct {
	// File is the name of the file, as it was given.
	File string
	// Problems are sorted by position: at least one, at most 100.
	Problems []Problem
}

// Error has a line for each problem: "file:line:column: path: message".
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		path := p.Path
		if path != "" {
			path += ": "
		}
		lines[i] = fmt.Sprintf("%s:%d:%d: %s%s", e.File, p.Line, p.Column, path, p.Message)
	}
	return strings.Join(lines, "\n")
}

// maxProblems is how many problems one report holds: as many as people read.
const maxProblems = 100

// mark is a place in the file, from 1.
type mark struct{ line, column int }

func markOf(node *yaml.Node) mark { return mark{node.Line, node.Column} }

// finding is a problem and the path that it explains: for a mistyped key that
// is the path of the key which was meant.
type finding struct {
	Problem
	blames string
}

// report collects the problems of one file. Its zero value is not usable.
type report struct {
	findings []finding
	// at has the place of every path that the file holds. Below it are the
	// places of fields that the file does not hold: their nearest parent's.
	at map[string]mark
	// decoded is how many findings decoding made.
	decoded int
}

func newReport() *report {
	return &report{at: map[string]mark{"": {1, 1}}}
}

// add notes a problem at a path, which it places in the file.
func (r *report) add(path, format string, args ...any) {
	r.addAt(r.place(path), path, path, format, args...)
}

// addAt notes a problem at a place.
func (r *report) addAt(at mark, path, blames, format string, args ...any) {
	if len(r.findings) < maxProblems {
		problem := Problem{Path: path, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)}
		r.findings = append(r.findings, finding{problem, blames})
	}
}

// stage adds the problems that one check found, less those at places that
// earlier ones blamed.
func (r *report) stage(problems []Problem) {
	var kept []Problem
	for _, p := range problems {
		if !r.blamed(p.Path) {
			kept = append(kept, p)
		}
	}
	for _, p := range kept {
		r.add(p.Path, "%s", p.Message)
	}
}

// blamed tells whether a problem at path would only follow from one that is
// known: it is there already, or decoding failed there, above or below.
func (r *report) blamed(path string) bool {
	for i, f := range r.findings {
		if f.blames == path || i < r.decoded && (within(path, f.blames) || within(f.blames, path)) {
			return true
		}
	}
	return false
}

// within tells whether path is below parent, or the same.
func within(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && (parent == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// place is where a path stands in the file, or its nearest parent that does.
func (r *report) place(path string) mark {
	for {
		if at, ok := r.at[path]; ok {
			return at
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// err is everything that was found, in the order of the file; nil if nothing.
func (r *report) err(file string) error {
	if len(r.findings) == 0 {
		return nil
	}
	problems := make([]Problem, len(r.findings))
	for i, f := range r.findings {
		problems[i] = f.Problem
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Path, b.Path))
	})
	return &Error{File: file, Problems: slices.Compact(problems)}
}
