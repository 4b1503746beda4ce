package route

import (
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/fault"
)

// maxValue bounds a path value, in bytes.
const maxValue = 256

// A Value is one field's value that became part of a path, in clear.
type Value struct {
	// Field is the field's proto name.
	Field string
	// Text is its value, before percent-encoding.
	Text string
}

// Expand writes the request's values into the path template. The path is
// percent-encoded and has exactly the template's segments; values are what
// went into it, in the template's order, and are returned in part even with
// an error, for the record.
//
// A value is refused with a *fault.Fault, BadPathValue, that names the field
// if it is empty, longer than 256 bytes, "." or "..", or holds what could
// change the path's meaning on any hop: / \ % ? # ; a control character, or
// anything outside ASCII. C1's ids are opaque, so everything else is
// legal, and percent-encoded (RFC 3986, section 2.1) unless unreserved. Only
// where a value would make the path fit another operation of the same verb as
// well, it is refused too: see rival.go.
func (r *Route) Expand(message protoreflect.Message) (path string, values []Value, err error) {
	var b strings.Builder
	b.Grow(128)
	values = make([]Value, 0, 4)
	for _, s := range r.Segments {
		b.WriteByte('/')
		if s.Field == nil {
			b.WriteString(s.Literal)
			continue
		}
		value := Value{Field: string(s.Field.Name()), Text: message.Get(s.Field).String()}
		values = append(values, value)
		if err := value.check(); err != nil {
			return "", values, err
		}
		encode(&b, value.Text)
	}
	if err := r.contest(values); err != nil {
		return "", values, err
	}
	path = b.String()
	if err := r.assert(path, values); err != nil {
		return "", values, err
	}
	return path, values, nil
}

// check refuses a value that could change the path's meaning.
func (v Value) check() error {
	switch {
	case v.Text == "":
		return v.refuse("it is empty")
	case len(v.Text) > maxValue:
		return v.refuse(fmt.Sprintf("it is longer than %d bytes", maxValue))
	case v.Text == "." || v.Text == "..":
		return v.refuse("it is a dot segment")
	}
	for i := range len(v.Text) {
		c := v.Text[i]
		if c < 0x20 || c >= 0x7f {
			return v.refuse("it holds a control character or one outside ASCII")
		}
		if strings.IndexByte(`/\%?#;`, c) >= 0 {
			return v.refuse(fmt.Sprintf("it holds %q", c))
		}
	}
	return nil
}

func (v Value) refuse(why string) error {
	return fault.New(connect.CodeInvalidArgument, fault.BadPathValue,
		"%s becomes part of C1's path and cannot be used: %s", v.Field, why).With("field", v.Field)
}

const upperHex = "0123456789ABCDEF"

// encode percent-encodes everything but RFC 3986's unreserved characters.
func encode(b *strings.Builder, text string) {
	for i := range len(text) {
		if c := text[i]; unreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// assert holds a finished path against its template, segment by segment: the
// second lock behind check. It cannot fail unless check or encode is wrong.
func (r *Route) assert(path string, values []Value) error {
	rest, bound := path, 0
	for _, s := range r.Segments {
		var segment string
		if rest == "" || rest[0] != '/' {
			return r.escaped()
		}
		rest = rest[1:]
		if end := strings.IndexByte(rest, '/'); end >= 0 {
			segment, rest = rest[:end], rest[end:]
		} else {
			segment, rest = rest, ""
		}
		if s.Field == nil {
			if segment != s.Literal {
				return r.escaped()
			}
			continue
		}
		if !decodesTo(segment, values[bound].Text) || segment == "." || segment == ".." {
			return r.escaped()
		}
		bound++
	}
	if rest != "" {
		return r.escaped()
	}
	return nil
}

func (r *Route) escaped() error {
	return fault.New(connect.CodeInternal, fault.Internal, "the path of %s does not match its template; nothing was sent", r.Method())
}

// decodesTo says whether segment is an encoding of text and one segment only.
func decodesTo(segment, text string) bool {
	i := 0
	for _, want := range []byte(text) {
		if i >= len(segment) {
			return false
		}
		c := segment[i]
		if c == '%' {
			if i+2 >= len(segment) {
				return false
			}
			hi, lo := strings.IndexByte(upperHex, segment[i+1]), strings.IndexByte(upperHex, segment[i+2])
			if hi < 0 || lo < 0 {
				return false
			}
			c = byte(hi<<4 | lo)
			i += 2
		} else if !unreserved(c) {
			return false
		}
		if c != want {
			return false
		}
		i++
	}
	return i == len(segment)
}
