package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"time"
)

// errMalformed is the error of a line that no version of this package wrote.
var errMalformed = errors.New("not a record in its canonical form")

// parse reads one line, without its newline, and checks that it is canonical:
// encoded again it is the same line. It sets *r in any case.
//
// It uses s, and leaves in it what the next call can use.
func parse(line []byte, r *Record, s *scratch) error {
	*r = Record{}
	p := parser{rest: line, names: s.names}
	p.record(r)
	if p.failed || len(p.rest) > 0 || len(line) > MaxRecord || r.check() != nil {
		return errMalformed
	}
	if s.line = appendRecord(s.line[:0], r); !bytes.Equal(s.line, line) {
		return errMalformed
	}
	return nil
}

// A scratch belongs to one goroutine that reads many lines.
type scratch struct {
	line  []byte
	names names
}

func newScratch() *scratch { return &scratch{names: names{}} }

// names are strings that were read before, so that they need not be made again.
type names map[string]string

// maxNames bounds them.
const maxNames = 4096

// of is the string of b.
func (n names) of(b []byte) string {
	if s, ok := n[string(b)]; ok {
		return s
	}
	s := string(b)
	if n != nil && len(n) < maxNames {
		n[s] = s
	}
	return s
}

// A parser consumes a line. Since parse compares in the end it may accept too
// much, but nothing of unbounded size.
type parser struct {
	rest   []byte // what is not consumed yet
	failed bool   // the line is no record
	names  names
}

// record consumes a record. The order is that of appendBody.
func (p *parser) record(r *Record) {
	p.expect(`{"seq":`)
	r.Seq = p.uint()
	p.expect(`,"id":`)
	r.ID = p.text()
	p.expect(`,"time":`)
	r.Time = p.time()
	p.expect(`,"kind":`)
	r.Kind = Kind(p.name())
	p.texts(r, textsOfCall)
	if p.has(`,"path":{`) {
		p.members(func(name, value string) { r.Path = append(r.Path, Field{name, value}) })
	}
	if p.has(`,"request":{`) {
		p.members(func(name, value string) { r.Request = append(r.Request, Field{name, value}) })
	}
	p.texts(r, textsOfRefusal)
	if p.has(`,"upstream_status":`) {
		r.UpstreamStatus = int(p.int())
	}
	if p.has(`,"attempts":[`) {
		p.list(']', func() { r.Attempts = append(r.Attempts, int(p.int())) })
	}
	p.texts(r, textsOfOutcome)
	r.ClientGone = p.has(`,"client_gone":true`)
	if p.has(`,"duration_us":`) {
		r.Duration = time.Duration(p.int()) * time.Microsecond
	}
	p.texts(r, textsOfEvent)
	if p.has(`,"detail":{`) {
		r.Detail = map[string]string{}
		p.members(func(name, value string) { r.Detail[name] = value })
	}
	if p.has(`,"truncated":[`) {
		p.list(']', func() { r.Truncated = append(r.Truncated, p.text()) })
	}
	p.expect(`}`)
}

// texts consumes those of the texts that are there.
func (p *parser) texts(r *Record, texts []text) {
	for i := range texts {
		if !p.has(texts[i].key) {
			continue
		}
		if texts[i].unique {
			*texts[i].of(r) = p.text()
		} else {
			*texts[i].of(r) = p.name()
		}
	}
}

// has consumes literal if it comes next, and tells whether it did. After a
// failure nothing comes next, so that every loop ends.
func (p *parser) has(literal string) bool {
	if p.failed || len(p.rest) < len(literal) || string(p.rest[:len(literal)]) != literal {
		return false
	}
	p.rest = p.rest[len(literal):]
	return true
}

// expect consumes literal, which must come next.
func (p *parser) expect(literal string) {
	if !p.has(literal) {
		p.failed = true
	}
}

// list calls item, which must consume one, for each of the items up to end.
// There must be one at least: what is empty is left out of a record.
func (p *parser) list(end byte, item func()) {
	for !p.failed {
		item()
		if p.has(string(end)) {
			return
		}
		p.expect(",")
	}
}

// members calls yield for each member up to the closing brace.
func (p *parser) members(yield func(name, value string)) {
	p.list('}', func() {
		name := p.name()
		p.expect(":")
		yield(name, p.text())
	})
}

// text consumes a string. Most have no escape and need no second look.
func (p *parser) text() string { return p.string(nil) }

// name is text for one that other records have too.
func (p *parser) name() string { return p.string(p.names) }

func (p *parser) string(names names) string {
	if !p.has(`"`) {
		p.failed = true
		return ""
	}
	end := bytes.IndexByte(p.rest, '"')
	if end >= 0 && bytes.IndexByte(p.rest[:end], '\\') < 0 {
		s := names.of(p.rest[:end])
		p.rest = p.rest[end+1:]
		return s
	}
	return p.escaped()
}

// escaped consumes the rest of a string with an escape in it, after its first
// quote.
func (p *parser) escaped() (s string) {
	for i := 0; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '\\':
			i++
		case '"':
			quoted := append(append([]byte{'"'}, p.rest[:i]...), '"')
			p.failed = json.Unmarshal(quoted, &s) != nil
			p.rest = p.rest[i+1:]
			return s
		}
	}
	p.failed = true
	return ""
}

// digits consumes what a whole number is made of. What is no number, or not in
// its shortest form, does not get past parse.
func (p *parser) digits() string {
	i := 0
	for i < len(p.rest) && (p.rest[i] >= '0' && p.rest[i] <= '9' || p.rest[i] == '-') {
		i++
	}
	digits := string(p.rest[:i])
	p.rest = p.rest[i:]
	return digits
}

// uint consumes a number from 0 to 1<<64 - 1.
func (p *parser) uint() uint64 {
	n, err := strconv.ParseUint(p.digits(), 10, 64)
	p.failed = p.failed || err != nil
	return n
}

// int consumes a number of 64 bits.
func (p *parser) int() int64 {
	n, err := strconv.ParseInt(p.digits(), 10, 64)
	p.failed = p.failed || err != nil
	return n
}

// time consumes a time as of RFC 3339.
func (p *parser) time() time.Time {
	t, err := time.Parse(time.RFC3339Nano, p.text())
	p.failed = p.failed || err != nil
	return t.UTC()
}
