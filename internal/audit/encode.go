package audit

import (
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// appendRecord appends r as one JSON object: its line, without the newline.
// The encoding is canonical, one record having exactly one.
func appendRecord(b []byte, r *Record) []byte {
	return appendBody(appendSeq(b, r.Seq), r)
}

// appendSeq appends the start of a line. It is apart from the body so that a
// record can be encoded before its place in the log is known.
func appendSeq(b []byte, seq uint64) []byte {
	return strconv.AppendUint(append(b, `{"seq":`...), seq, 10)
}

// appendBody appends all of a record from the comma after its sequence number
// to the closing brace.
func appendBody(b []byte, r *Record) []byte {
	e := encoder{b: b, cut: r.Truncated}
	e.b = append(append(append(e.b, `,"id":"`...), r.ID...), `","time":"`...)
	e.b = r.Time.UTC().AppendFormat(e.b, time.RFC3339Nano)
	e.b = append(append(append(e.b, `","kind":"`...), r.Kind...), '"')
	e.texts(r, textsOfCall)
	e.fields("path", r.Path, maxPath)
	e.fields("request", r.Request, maxRequest)
	e.texts(r, textsOfRefusal)
	e.number(`,"upstream_status":`, int64(r.UpstreamStatus))
	e.attempts(r.Attempts)
	e.texts(r, textsOfOutcome)
	if r.ClientGone {
		e.b = append(e.b, `,"client_gone":true`...)
	}
	e.number(`,"duration_us":`, r.Duration.Microseconds())
	e.texts(r, textsOfEvent)
	e.detail(r.Detail)
	e.truncated()
	return append(e.b, '}')
}

// An encoder appends to b the parts of one record, and notes in cut the names
// of what it cut. It must not write to the array that cut came with.
type encoder struct {
	b   []byte
	cut []string
}

// texts appends those of the texts that are not empty.
func (e *encoder) texts(r *Record, texts []text) {
	for i := range texts {
		t := &texts[i]
		if s := *t.of(r); s != "" {
			e.b = append(e.b, t.key...)
			e.value("", t.name, s, t.limit)
		}
	}
}

// value appends s as a string of at most limit bytes between its quotes. object
// is what it is a member of, "" for the record itself.
func (e *encoder) value(object, name, s string, limit int) {
	e.b = append(e.b, '"')
	start := len(e.b)
	if len(s) <= limit {
		e.b = appendEscaped(e.b, s)
	}
	if len(s) > limit || len(e.b)-start > limit {
		e.b = appendCut(e.b[:start], s, limit)
		if object != "" {
			name = object + "." + name
		}
		e.note(name)
	}
	e.b = append(e.b, '"')
}

// note adds a name to truncated, once. The copy is made here, because cutting
// is rare.
func (e *encoder) note(name string) {
	if !slices.Contains(e.cut, name) {
		e.cut = append(slices.Clip(e.cut), name)
	}
}

// number appends a member whose value is not 0. The key comes with its comma and
// colon.
func (e *encoder) number(key string, n int64) {
	if n != 0 {
		e.b = strconv.AppendInt(append(e.b, key...), n, 10)
	}
}

// fields appends an object of the name, in its order, up to most values.
func (e *encoder) fields(name string, fields Fields, most int) {
	if len(fields) == 0 {
		return
	}
	if len(fields) > most {
		fields = fields[:most]
		e.note(name)
	}
	e.b = append(append(append(e.b, `,"`...), name...), `":`...)
	for i, f := range fields {
		e.pair(i, name, f.Name, f.Value)
	}
	e.b = append(e.b, '}')
}

// detail appends the detail in the order of its names, so that it has one
// encoding, up to maxDetail values.
func (e *encoder) detail(detail map[string]string) {
	if len(detail) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(detail))
	if len(names) > maxDetail {
		names = names[:maxDetail]
		e.note("detail")
	}
	e.b = append(e.b, `,"detail":`...)
	for i, name := range names {
		e.pair(i, "detail", name, detail[name])
	}
	e.b = append(e.b, '}')
}

// pair appends a member of the object, and what stands before it.
func (e *encoder) pair(i int, object, name, value string) {
	before := byte('{')
	if i > 0 {
		before = ','
	}
	e.b = append(append(append(e.b, before, '"'), name...), `":`...)
	e.value(object, name, value, maxText)
}

// attempts appends up to maxAttempts statuses.
func (e *encoder) attempts(attempts []int) {
	if len(attempts) == 0 {
		return
	}
	if len(attempts) > maxAttempts {
		attempts = attempts[:maxAttempts]
		e.note("attempts")
	}
	e.b = append(e.b, `,"attempts":[`...)
	for i, status := range attempts {
		if i > 0 {
			e.b = append(e.b, ',')
		}
		e.b = strconv.AppendInt(e.b, int64(status), 10)
	}
	e.b = append(e.b, ']')
}

// truncated appends the names of what was cut, by the caller or just now. It
// must come last. The names need no escape: see isName.
func (e *encoder) truncated() {
	for i, name := range e.cut {
		if i == 0 {
			e.b = append(e.b, `,"truncated":["`...)
		} else {
			e.b = append(e.b, `,"`...)
		}
		e.b = append(append(e.b, name...), '"')
	}
	if len(e.cut) > 0 {
		e.b = append(e.b, ']')
	}
}

// appendQuoted appends s as a JSON string, of any length.
func appendQuoted(b []byte, s string) []byte {
	return append(appendEscaped(append(b, '"'), s), '"')
}

const hexDigits = "0123456789abcdef"

// appendEscaped appends s as it stands between the quotes of a JSON string, as
// encoding/json does without its escapes for HTML, with one difference: a byte
// that is no UTF-8 becomes the character U+FFFD itself, not its escape, so
// that what is decoded encodes to the same bytes.
func appendEscaped(b []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = appendControl(append(b, s[start:i]...), c)
			i++
			start = i
			continue
		}
		char, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case char == utf8.RuneError && n == 1:
			b = utf8.AppendRune(append(b, s[start:i]...), utf8.RuneError)
			start = i + n
		case char == '\u2028' || char == '\u2029':
			// JavaScript takes these for the end of a line.
			b = append(append(b, s[start:i]...), `\u202`...)
			b = append(b, hexDigits[char&0xf])
			start = i + n
		}
		i += n
	}
	return append(b, s[start:]...)
}

// appendControl appends the escape of an ASCII character that needs one, the
// short form if there is one.
func appendControl(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}
