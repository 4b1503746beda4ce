package transcode

import (
	"bytes"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A scanner walks over JSON (RFC 8259), one value after the other. It is
// strict: text is UTF-8 without lone surrogates, no key comes twice in an
// object, and nothing nests deeper than maxDepth objects and arrays.
//
// Every method that reads leaves next behind what it has read. After an error
// the scanner is of no more use.
type scanner struct {
	data  []byte
	next  int
	depth int
	// left is how many more values may come, each element and each member being
	// one. It counts only where bounded is set.
	left    int
	bounded bool
	// path is where next is.
	path path
}

// peek passes over white space and returns the byte that follows, 0 at the
// end.
func (s *scanner) peek() byte {
	for s.next < len(s.data) {
		switch c := s.data[s.next]; c {
		case ' ', '\n', '\r', '\t':
			s.next++
		default:
			return c
		}
	}
	return 0
}

// end refuses what follows the one value.
func (s *scanner) end() error {
	if s.peek(); s.next < len(s.data) {
		return s.path.mistake("unexpected token at byte %d: something follows the JSON", s.next)
	}
	return nil
}

// unexpected is the mistake of JSON that is none.
func (s *scanner) unexpected() error {
	if s.next >= len(s.data) {
		return s.path.mistake("the JSON ends too early")
	}
	return s.path.mistake("unexpected token at byte %d: the JSON is malformed", s.next)
}

// open reads a bracket.
func (s *scanner) open(bracket byte) error {
	if s.peek() != bracket {
		return s.unexpected()
	}
	s.next++
	if s.depth++; s.depth > maxDepth {
		return s.path.mistake("it nests deeper than %d", maxDepth)
	}
	return nil
}

// more reads what follows a member or an element: a comma, or the bracket
// that closes.
func (s *scanner) more(bracket byte) (bool, error) {
	switch s.peek() {
	case ',':
		s.next++
		return true, nil
	case bracket:
		s.next++
		s.depth--
		return false, nil
	}
	return false, s.unexpected()
}

// count counts a value.
func (s *scanner) count() error {
	if s.bounded {
		if s.left--; s.left < 0 {
			return s.path.mistake("%s", errCrowded)
		}
	}
	return nil
}

// object reads an object. member reads the value of each key.
func (s *scanner) object(member func(key []byte) error) error {
	if err := s.open('{'); err != nil {
		return err
	}
	if s.peek() == '}' {
		_, err := s.more('}')
		return err
	}
	for more := true; more; {
		if s.peek() != '"' {
			return s.unexpected()
		}
		key, err := s.text()
		if err != nil {
			return err
		}
		if s.peek() != ':' {
			return s.unexpected()
		}
		s.next++
		if err := s.count(); err != nil {
			return err
		}
		if err := member(key); err != nil {
			return err
		}
		if more, err = s.more('}'); err != nil {
			return err
		}
	}
	return nil
}

// array reads an array. element reads each value; the path leads to it.
func (s *scanner) array(element func() error) error {
	if err := s.open('['); err != nil {
		return err
	}
	if s.peek() == ']' {
		_, err := s.more(']')
		return err
	}
	s.path = append(s.path, step{})
	here := len(s.path) - 1
	for more := true; more; {
		err := s.count()
		if err == nil {
			err = element()
		}
		if err != nil {
			return err
		}
		if more, err = s.more(']'); err != nil {
			return err
		}
		s.path[here].index++
	}
	s.path = s.path[:here]
	return nil
}

// within lets read read the value of a key that no descriptor names.
func (s *scanner) within(key []byte, read func() error) error {
	s.path = append(s.path, step{key: key})
	err := read()
	s.path = s.path[:len(s.path)-1]
	return err
}

// twice is the mistake of a key that is there already.
func (s *scanner) twice() error {
	return s.path.mistake("duplicate field: one of them is lost wherever it is read")
}

// skip reads any value.
func (s *scanner) skip() error {
	switch s.peek() {
	case '{':
		var keys keyset
		return s.object(func(key []byte) error {
			return s.within(key, func() error {
				if !keys.add(key) {
					return s.twice()
				}
				return s.skip()
			})
		})
	case '[':
		return s.array(s.skip)
	case '"':
		_, err := s.text()
		return err
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	_, err := s.number()
	return err
}

// raw reads any value and returns its bytes.
func (s *scanner) raw() ([]byte, error) {
	s.peek()
	start := s.next
	err := s.skip()
	return s.data[start:s.next], err
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.data[s.next:], []byte(word)) {
		return s.unexpected()
	}
	s.next += len(word)
	return nil
}

// plainByte are the bytes of a string that stand for themselves and are
// ASCII.
var plainByte = func() (set [256]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		set[c] = c != '"' && c != '\\'
	}
	return set
}()

// text reads a string, which begins here, and returns what it says. The
// result shares data where nothing is escaped.
func (s *scanner) text() ([]byte, error) {
	start := s.next
	i := start + 1
	for i < len(s.data) && plainByte[s.data[i]] {
		i++
	}
	escaped := false
	for i < len(s.data) && s.data[i] != '"' {
		switch c := s.data[i]; {
		case c < ' ':
			s.next = i
			return nil, s.unexpected()
		case c == '\\':
			escaped = true
			i++
		}
		i++
	}
	if i >= len(s.data) {
		s.next = len(s.data)
		return nil, s.unexpected()
	}
	s.next = i + 1
	inner := s.data[start+1 : i]
	if !escaped {
		if !utf8.Valid(inner) {
			return nil, s.path.mistake("the string at byte %d is not valid UTF-8", start)
		}
		return inner, nil
	}
	var said wrapperspb.StringValue
	if protojson.Unmarshal(s.data[start:s.next], &said) != nil {
		return nil, s.path.mistake("the string at byte %d is not valid UTF-8, or has an escape that is none", start)
	}
	return []byte(said.Value), nil
}

// number reads a number and returns its bytes.
func (s *scanner) number() ([]byte, error) {
	s.peek()
	start := s.next
	s.accept('-')
	if !s.accept('0') && !s.digits() {
		return nil, s.unexpected()
	}
	if s.accept('.') && !s.digits() {
		return nil, s.unexpected()
	}
	if s.accept('e') || s.accept('E') {
		_ = s.accept('+') || s.accept('-')
		if !s.digits() {
			return nil, s.unexpected()
		}
	}
	return s.data[start:s.next], nil
}

// accept passes over the byte c, if it is next.
func (s *scanner) accept(c byte) bool {
	if s.next < len(s.data) && s.data[s.next] == c {
		s.next++
		return true
	}
	return false
}

// digits passes over digits, and says whether there are any.
func (s *scanner) digits() bool {
	start := s.next
	for s.next < len(s.data) && s.data[s.next]-'0' <= 9 {
		s.next++
	}
	return s.next > start
}

// small returns the integer that text writes in the one plain way, in at most
// 18 digits. Everything else, which may still be an integer, is left to
// protojson.
func small(text []byte) (int64, bool) {
	digits := text
	if len(digits) > 0 && digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > 18 || digits[0] == '0' && len(text) > 1 {
		return 0, false
	}
	n := int64(0)
	for _, c := range digits {
		if c-'0' > 9 {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	if len(digits) < len(text) {
		n = -n
	}
	return n, true
}

func fits32(n int64) bool { return n >= math.MinInt32 && n <= math.MaxInt32 }
