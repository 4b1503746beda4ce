package transcode

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// maxPath bounds the text of a path, in bytes.
	maxPath = 256
	// maxKey bounds, in bytes, what a path shows of a key that is no field.
	maxKey = 64
)

// A path leads from a message to a value in it.
type path []step

// A step of a path is a field; or, without one, a key that no descriptor
// names; or, without either, a position in a list.
type step struct {
	field protoreflect.FieldDescriptor
	key   []byte
	index int
}

// String writes the path with the fields' proto names, as in
// list[3].labels["a b"].created_at. What is not printable is escaped.
func (p path) String() string {
	var b strings.Builder
	for _, s := range p {
		switch {
		case s.field != nil:
			dotted(&b, string(s.field.Name()))
		case s.key == nil:
			fmt.Fprintf(&b, "[%d]", s.index)
		case plain(s.key):
			dotted(&b, string(s.key))
		default:
			fmt.Fprintf(&b, "[%s]", strconv.QuoteToASCII(string(s.key[:min(len(s.key), maxKey)])))
		}
		if b.Len() > maxPath {
			return b.String()[:maxPath-len("...")] + "..."
		}
	}
	return b.String()
}

func dotted(b *strings.Builder, name string) {
	if b.Len() > 0 {
		b.WriteByte('.')
	}
	b.WriteString(name)
}

// plain says whether a key can stand in a path without quotes.
func plain(key []byte) bool {
	for _, c := range key {
		if !unquoted[c] {
			return false
		}
	}
	return len(key) > 0 && len(key) <= maxKey
}

// unquoted are the bytes of names, and of @type.
var unquoted = func() (set [256]bool) {
	for _, c := range []byte("@_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		set[c] = true
	}
	return set
}()

// A mistake is what is wrong with a body, and where. Its text is ours and
// quotes nothing of the body but the path.
type mistake struct {
	where string
	why   string
}

// Error is "path: why", or why alone of the body as a whole.
func (m *mistake) Error() string {
	if m.where == "" {
		return m.why
	}
	return m.where + ": " + m.why
}

// mistake makes one of the place that the path leads to.
func (p path) mistake(format string, args ...any) error {
	return &mistake{where: p.String(), why: fmt.Sprintf(format, args...)}
}
