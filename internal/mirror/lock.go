package mirror

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The lock has a line for each thing that was published, and below messages and
// enums, after a tab, one for each field and value. What is gone has a minus:
//
//	message c1.api.app.v1.App
//		1 app_id string
//		-2 owners repeated c1.api.user.v1.User
//		3 kind c1.api.app.v1.App.Kind in which
//	enum c1.api.app.v1.App.Kind
//		0 KIND_UNSPECIFIED
//	rpc c1.api.app.v1.Apps/Get c1.api.app.v1.AppsGetRequest c1.api.app.v1.App
type lock struct {
	messages map[string]*lockedMessage
	enums    map[string]*lockedEnum
	methods  map[string]*lockedMethod
}

// presence tells of a published thing whether it was gone when the lock was
// written, and whether this run has it.
type presence struct{ gone, seen bool }

type lockedMessage struct {
	presence
	fields map[string]*lockedField
	last   int // the highest number
}

type lockedField struct {
	presence
	form
	name, json string
	number     int
}

type lockedEnum struct {
	presence
	values map[string]*lockedValue
	last   int
}

type lockedValue struct {
	presence
	name   string
	number int
}

type lockedMethod struct {
	presence
	input, output string
}

const lockHeader = `# What was published of the mirror once, and is kept for ever: the numbers and forms of fields, the values of enums, the
# types of methods. A minus marks what C1's document no longer has. The generator writes it: go run ./internal/dev mirror
`

func parseLock(text []byte) (*lock, error) {
	l := &lock{messages: make(map[string]*lockedMessage), enums: make(map[string]*lockedEnum), methods: make(map[string]*lockedMethod)}
	var of func(number int, words []string, at presence) error
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		rest, inner := strings.CutPrefix(line, "\t")
		rest, gone := strings.CutPrefix(rest, "-")
		words, at := strings.Fields(rest), presence{gone: gone}
		var err error
		switch {
		case !inner:
			of, err = l.open(words, at)
		case of == nil || len(words) < 2:
			err = fmt.Errorf("%q belongs to nothing", line)
		default:
			var number int
			if number, err = strconv.Atoi(words[0]); err == nil {
				err = of(number, words[1:], at)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return l, lines.Err()
}

// open begins a message, an enum or a method, and returns what reads the lines
// below it.
func (l *lock) open(words []string, at presence) (func(int, []string, presence) error, error) {
	switch {
	case len(words) == 2 && words[0] == "message" && l.messages[words[1]] == nil:
		m := l.message(words[1])
		m.presence = at
		return m.read, nil
	case len(words) == 2 && words[0] == "enum" && l.enums[words[1]] == nil:
		e := l.enum(words[1])
		e.presence = at
		return e.read, nil
	case len(words) == 4 && words[0] == "rpc" && l.methods[words[1]] == nil:
		l.methods[words[1]] = &lockedMethod{presence: at, input: words[2], output: words[3]}
		return nil, nil
	}
	return nil, fmt.Errorf("%q is not understood, or is there twice", strings.Join(words, " "))
}

// read reads "name [label] kind [in oneof] [as json]".
func (m *lockedMessage) read(number int, words []string, at presence) error {
	f := &lockedField{presence: at, name: words[0], number: number}
	words = words[1:]
	if len(words) > 0 && (words[0] == "optional" || words[0] == "repeated") {
		f.label, words = words[0], words[1:]
	}
	if len(words) > 0 {
		f.kind, words = words[0], words[1:]
	}
	if len(words) > 1 && words[0] == "in" {
		f.oneof, words = words[1], words[2:]
	}
	if len(words) > 1 && words[0] == "as" {
		f.json, words = words[1], words[2:]
	}
	if f.kind == "" || len(words) > 0 || number < 1 || m.fields[f.name] != nil {
		return fmt.Errorf("field %s is not understood, or is there twice", f.name)
	}
	m.fields[f.name] = f
	m.last = max(m.last, number)
	return nil
}

func (e *lockedEnum) read(number int, words []string, at presence) error {
	if len(words) != 1 || number < 0 || e.values[words[0]] != nil {
		return fmt.Errorf("value %s is not understood, or is there twice", words[0])
	}
	e.values[words[0]] = &lockedValue{presence: at, name: words[0], number: number}
	e.last = max(e.last, number)
	return nil
}

// message returns what is locked of a message, which may be new.
func (l *lock) message(name string) *lockedMessage {
	if l.messages[name] == nil {
		l.messages[name] = &lockedMessage{fields: make(map[string]*lockedField)}
	}
	return l.messages[name]
}

// enum returns what is locked of an enum, which may be new.
func (l *lock) enum(name string) *lockedEnum {
	if l.enums[name] == nil {
		l.enums[name] = &lockedEnum{values: make(map[string]*lockedValue), last: -1}
	}
	return l.enums[name]
}

// add locks a new field under the next number.
func (m *lockedMessage) add(f *field) *lockedField {
	m.last++
	locked := &lockedField{name: f.name, json: f.json, form: f.form, number: m.last}
	m.fields[f.name] = locked
	return locked
}

// value locks a value, under the next number if it is new.
func (e *lockedEnum) value(name string) *lockedValue {
	if e.values[name] == nil {
		e.last++
		e.values[name] = &lockedValue{name: name, number: e.last}
	}
	return e.values[name]
}

// ordered are the fields by their numbers, and so are the values.
func (m *lockedMessage) ordered() []*lockedField {
	return slices.SortedFunc(maps.Values(m.fields), func(a, b *lockedField) int { return cmp.Compare(a.number, b.number) })
}

func (e *lockedEnum) ordered() []*lockedValue {
	return slices.SortedFunc(maps.Values(e.values), func(a, b *lockedValue) int { return cmp.Compare(a.number, b.number) })
}

// minus marks what this run does not have.
func (p presence) minus() string {
	if p.seen {
		return ""
	}
	return "-"
}

// print returns the lock as this run leaves it.
func (l *lock) print() []byte {
	var b bytes.Buffer
	b.WriteString(lockHeader)
	for _, name := range slices.Sorted(maps.Keys(l.messages)) {
		m := l.messages[name]
		fmt.Fprintf(&b, "%smessage %s\n", m.minus(), name)
		for _, f := range m.ordered() {
			text := fmt.Sprintf("%d %s %s", f.number, f.name, strings.TrimSpace(f.label+" "+f.kind))
			if f.oneof != "" {
				text += " in " + f.oneof
			}
			if f.json != "" {
				text += " as " + f.json
			}
			fmt.Fprintf(&b, "\t%s%s\n", f.minus(), text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.enums)) {
		e := l.enums[name]
		fmt.Fprintf(&b, "%senum %s\n", e.minus(), name)
		for _, v := range e.ordered() {
			fmt.Fprintf(&b, "\t%s%d %s\n", v.minus(), v.number, v.name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.methods)) {
		m := l.methods[name]
		fmt.Fprintf(&b, "%srpc %s %s %s\n", m.minus(), name, m.input, m.output)
	}
	return b.Bytes()
}
