package route

import (
	"net/url"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Bind is the way back from a path to a request: it decodes the values of a
// path's variables and sets their fields. raw holds one segment for each
// variable, in the template's order, percent-encoded as it came. The values
// are returned in clear, and in part even with an error, for the record.
//
// A value is percent-decoded exactly once (RFC 3986, section 2.4), and what
// comes out is refused for the reasons, and with the faults, of Expand. So
// %2F, %2e%2e and %252e are refused: decoded they hold a slash, are a dot
// segment, and hold a percent sign. An integer must be written as Expand
// writes it: no plus sign, no leading zero, in the field's range.
//
// Expand of the message then gives the path in its one canonical spelling.
func (r *Route) Bind(message protoreflect.Message, raw []string) (values []Value, err error) {
	values = make([]Value, 0, len(raw))
	for _, s := range r.Segments {
		if s.Field == nil {
			continue
		}
		if len(values) == len(raw) {
			return values, r.escaped()
		}
		value := Value{Field: string(s.Field.Name()), Text: raw[len(values)]}
		err := value.decode()
		values = append(values, value)
		if err != nil {
			return values, err
		}
		if err := value.set(message, s.Field); err != nil {
			return values, err
		}
	}
	if len(values) != len(raw) {
		return values, r.escaped()
	}
	return values, r.contest(values)
}

// decode percent-decodes and checks a raw value. A value that does not decode,
// or is too long to be worth it, stays raw.
func (v *Value) decode() error {
	if len(v.Text) > 3*maxValue { // longer than maxValue however it is encoded
		return v.check()
	}
	text, err := url.PathUnescape(v.Text)
	if err != nil {
		return v.refuse("its percent-encoding is broken")
	}
	v.Text = text
	return v.check()
}

// set sets the field, which is of a kind that a path can hold.
func (v Value) set(message protoreflect.Message, field protoreflect.FieldDescriptor) error {
	value, err := parse(field.Kind(), v.Text)
	if err != nil || value.String() != v.Text {
		return v.refuse("it is no whole number in decimal digits that the field can hold")
	}
	message.Set(field, value)
	return nil
}

// parse reads a value of a bindable kind.
func parse(kind protoreflect.Kind, text string) (protoreflect.Value, error) {
	switch kind {
	case protoreflect.Int32Kind:
		n, err := strconv.ParseInt(text, 10, 32)
		return protoreflect.ValueOfInt32(int32(n)), err
	case protoreflect.Int64Kind:
		n, err := strconv.ParseInt(text, 10, 64)
		return protoreflect.ValueOfInt64(n), err
	case protoreflect.Uint32Kind:
		n, err := strconv.ParseUint(text, 10, 32)
		return protoreflect.ValueOfUint32(uint32(n)), err
	case protoreflect.Uint64Kind:
		n, err := strconv.ParseUint(text, 10, 64)
		return protoreflect.ValueOfUint64(n), err
	}
	return protoreflect.ValueOfString(text), nil
}
