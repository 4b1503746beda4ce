package transcode

import (
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
)

// Query reads a raw query, which C1 will get as it is, into the message. Its
// keys are the fields that the path does not bind and that have a scalar or
// enum type, by their proto names, as C1's document has them; a method with a
// body has none. A value is accepted in one spelling only, lest C1 reads
// another number in it: 010, +5 and 1e3 are refused. The name of an enum
// value that is unknown leaves the field unset and is counted.
//
// What no URL may hold as it is (RFC 3986, section 3.4), and every client
// encodes, is refused: HTTP/2 would let it pass, and on HTTP/1 a space ends the
// request target, a # is where some readers stop.
//
// The error is a *fault.Fault, BadRequest, that names the key.
func Query(r *route.Route, raw string, message proto.Message) (Strays, error) {
	var strays Strays
	if raw == "" {
		return strays, nil
	}
	if strings.Contains(raw, ";") {
		return strays, fault.New(connect.CodeInvalidArgument, fault.BadRequest,
			"the query holds a semicolon, which some readers take for a separator: write %%3B")
	}
	if strings.ContainsFunc(raw, unencoded) {
		return strays, fault.New(connect.CodeInvalidArgument, fault.BadRequest,
			"the query holds a character that must be percent-encoded")
	}
	seen := make(map[protoreflect.FieldNumber]bool)
	m := message.ProtoReflect()
	for pair := range strings.SplitSeq(raw, "&") {
		name, text, _ := strings.Cut(pair, "=")
		key, err := unescape(name)
		if err != nil || key == "" {
			return strays, fault.New(connect.CodeInvalidArgument, fault.BadRequest,
				"the query has a key that is empty or badly encoded")
		}
		field := m.Descriptor().Fields().ByName(protoreflect.Name(key))
		if field == nil || r.HasBody || r.Binds(field) || field.Message() != nil {
			return strays, misread(path{{key: []byte(key)}}, "%s does not declare this query parameter", r.Method())
		}
		where := path{{field: field}}
		if seen[field.Number()] && !field.IsList() {
			return strays, misread(where, "it is given twice")
		}
		seen[field.Number()] = true
		value, known, err := parameterOf(field, text)
		switch {
		case err != nil:
			return strays, misread(where, "%s", err)
		case !known:
			strays.add(UnknownEnum, where)
		case field.IsList():
			m.Mutable(field).List().Append(value)
		default:
			m.Set(field, value)
		}
	}
	return strays, nil
}

// unencoded says that a character never stands for itself in a query: it is in
// the query percent-encode set of the URL standard, too (url.spec.whatwg.org).
func unencoded(c rune) bool {
	return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"#<>`, c)
}

func misread(where path, format string, args ...any) error {
	return refuse("the query cannot be read: ", where.mistake(format, args...))
}

func unescape(text string) (string, error) {
	text, err := url.QueryUnescape(text)
	if err == nil && !utf8.ValidString(text) {
		err = notUTF8
	}
	return text, err
}

// A flaw is what is wrong with a query's value.
type flaw string

func (f flaw) Error() string { return string(f) }

const (
	notUTF8   flaw = "it is not UTF-8, percent-encoded"
	badNumber flaw = "it is no number of the field's type in its plain decimal form"
	badBool   flaw = "it is not true or false"
	badEnum   flaw = "it is no name that an enum value could have"
	badBytes  flaw = "it is not base64 with its padding"
)

// parameterOf reads one value. known is false for the name of an enum value that
// the enum does not have.
func parameterOf(field protoreflect.FieldDescriptor, escaped string) (value protoreflect.Value, known bool, err error) {
	text, err := unescape(escaped)
	if err != nil {
		return value, false, notUTF8
	}
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text), true, nil
	case protoreflect.BoolKind:
		if text != "true" && text != "false" {
			return value, false, badBool
		}
		return protoreflect.ValueOfBool(text == "true"), true, nil
	case protoreflect.EnumKind:
		return parseEnum(field.Enum(), text)
	case protoreflect.BytesKind:
		encoding := base64.StdEncoding
		if strings.ContainsAny(text, "-_") {
			encoding = base64.URLEncoding
		}
		data, err := encoding.Strict().DecodeString(text)
		if err != nil || strings.ContainsAny(text, "\r\n") { // which the decoder ignores
			return value, false, badBytes
		}
		return protoreflect.ValueOfBytes(data), true, nil
	}
	value, ok := parseNumber(field.Kind(), text)
	if !ok {
		return value, false, badNumber
	}
	return value, true, nil
}

func parseEnum(enum protoreflect.EnumDescriptor, text string) (value protoreflect.Value, known bool, err error) {
	if named := enum.Values().ByName(protoreflect.Name(text)); named != nil {
		return protoreflect.ValueOfEnum(named.Number()), true, nil
	}
	if n, ok := small([]byte(text)); ok && fits32(n) {
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n)), true, nil
	}
	if !protoreflect.Name(text).IsValid() {
		return value, false, badEnum
	}
	return value, false, nil
}

// parseNumber reads a number that is written as it would be written back.
func parseNumber(kind protoreflect.Kind, text string) (value protoreflect.Value, ok bool) {
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		n, err := strconv.ParseInt(text, 10, 32)
		return protoreflect.ValueOfInt32(int32(n)), err == nil && strconv.FormatInt(n, 10) == text
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		n, err := strconv.ParseInt(text, 10, 64)
		return protoreflect.ValueOfInt64(n), err == nil && strconv.FormatInt(n, 10) == text
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		n, err := strconv.ParseUint(text, 10, 32)
		return protoreflect.ValueOfUint32(uint32(n)), err == nil && strconv.FormatUint(n, 10) == text
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		n, err := strconv.ParseUint(text, 10, 64)
		return protoreflect.ValueOfUint64(n), err == nil && strconv.FormatUint(n, 10) == text
	}
	// A JSON number: no hexadecimal, no infinity, no sign in front.
	s := scanner{data: []byte(text)}
	if _, err := s.number(); err != nil || s.next < len(text) {
		return value, false
	}
	if kind == protoreflect.FloatKind {
		f, err := strconv.ParseFloat(text, 32)
		return protoreflect.ValueOfFloat32(float32(f)), err == nil
	}
	f, err := strconv.ParseFloat(text, 64)
	return protoreflect.ValueOfFloat64(f), err == nil
}
