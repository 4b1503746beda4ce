package transcode

import (
	"fmt"
	"iter"
	"log/slog"
	"strings"
)

// A Kind is a kind of stray.
type Kind uint8

// The kinds. What becomes of each depends on where it was found: Strays.
const (
	// UnknownField is a field that the message does not have.
	UnknownField Kind = iota
	// UnknownEnum is the name of an enum value that the enum does not have. A
	// number that it does not have is no stray: the message keeps it.
	UnknownEnum
	// UnknownType is an object in the place of a google.protobuf.Any whose @type
	// nobody knows, or that has none.
	UnknownType
	// NullElement is a null in a list or map of something that cannot be null.
	NullElement
	kinds // their number
)

var kindNames = [kinds]string{"unknown_field", "unknown_enum_value", "unknown_any_type", "null_element"}

// String is the kind's name in labels and logs.
func (k Kind) String() string { return kindNames[k] }

// Strays counts what a body holds and its message has no place for.
//
// Of a binary request and of an answer of C1's it was dropped, except for an
// UnknownType, of which the whole object is kept. Of a body that is forwarded
// as it came (Body, Query) nothing was dropped: C1 sees it all, and only
// c1proxy's own rules do not.
type Strays struct {
	counts [kinds]int
	first  [kinds]string
}

// Count is how many strays of the kind there were.
func (s *Strays) Count(k Kind) int { return s.counts[k] }

// First is the path of the first stray of the kind, such as
// list[3].connector.new_field, printable and at most 256 bytes long; "" if
// there was none.
func (s *Strays) First(k Kind) string { return s.first[k] }

// Any says whether there was any.
func (s *Strays) Any() bool { return s.counts != [kinds]int{} }

// All yields the kinds of which there were any, with their counts.
func (s *Strays) All() iter.Seq2[Kind, int] {
	return func(yield func(Kind, int) bool) {
		for k, n := range s.counts {
			if n > 0 && !yield(Kind(k), n) {
				return
			}
		}
	}
}

// String is one line for a log: counts, kinds, and where each was first.
func (s *Strays) String() string {
	var parts []string
	for k, n := range s.All() {
		parts = append(parts, fmt.Sprintf("%d %s (first: %s)", n, k, s.first[k]))
	}
	return strings.Join(parts, ", ")
}

// LogValue is String, so that a structured log has it in one field.
func (s *Strays) LogValue() slog.Value { return slog.StringValue(s.String()) }

func (s *Strays) add(k Kind, where path) {
	if s.counts[k]++; s.counts[k] == 1 {
		s.first[k] = where.String()
	}
}

// merge adds what another count of the same body has found.
func (s *Strays) merge(other *Strays) {
	for k, n := range other.counts {
		if s.counts[k] == 0 {
			s.first[k] = other.first[k]
		}
		s.counts[k] += n
	}
}
