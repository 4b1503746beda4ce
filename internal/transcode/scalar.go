package transcode

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// scalar reads a scalar or an enum. What is written in the usual way is read
// here; what is not (1e3 for an integer, base64, "NaN") is left to protojson,
// so that both agree. The result is invalid for an unknown enum value that
// was dropped.
func (r *reader) scalar(f *field) (protoreflect.Value, error) {
	c := r.peek()
	switch f.kind {
	case protoreflect.StringKind:
		if c != '"' {
			return protoreflect.Value{}, r.mismatch("a string")
		}
		text, err := r.text()
		return protoreflect.ValueOfString(string(text)), err
	case protoreflect.BoolKind:
		switch c {
		case 't':
			return protoreflect.ValueOfBool(true), r.literal("true")
		case 'f':
			return protoreflect.ValueOfBool(false), r.literal("false")
		}
		return protoreflect.Value{}, r.mismatch("true or false")
	case protoreflect.EnumKind:
		return r.enum(f.descriptor.Enum(), c)
	case protoreflect.BytesKind:
		return r.wrapped(new(wrapperspb.BytesValue), "base64 in a string")
	case protoreflect.FloatKind:
		return r.wrapped(new(wrapperspb.FloatValue), "a number of 32 bits")
	case protoreflect.DoubleKind:
		return r.wrapped(new(wrapperspb.DoubleValue), "a number of 64 bits")
	}
	return r.integer(f.kind)
}

// integer reads an integer, which may stand in a string.
func (r *reader) integer(kind protoreflect.Kind) (protoreflect.Value, error) {
	start := r.next
	text, err := r.digitsOf()
	if err != nil {
		return protoreflect.Value{}, err
	}
	n, ok := small(text)
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		if ok && fits32(n) {
			return protoreflect.ValueOfInt32(int32(n)), nil
		}
		r.next = start
		return r.wrapped(new(wrapperspb.Int32Value), "an integer of 32 bits")
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		if ok && n >= 0 && n <= 1<<32-1 {
			return protoreflect.ValueOfUint32(uint32(n)), nil
		}
		r.next = start
		return r.wrapped(new(wrapperspb.UInt32Value), "an unsigned integer of 32 bits")
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		if ok && n >= 0 {
			return protoreflect.ValueOfUint64(uint64(n)), nil
		}
		r.next = start
		return r.wrapped(new(wrapperspb.UInt64Value), "an unsigned integer of 64 bits")
	}
	if ok {
		return protoreflect.ValueOfInt64(n), nil
	}
	r.next = start
	return r.wrapped(new(wrapperspb.Int64Value), "an integer of 64 bits")
}

// digitsOf reads a number or a string; anything else it leaves, and returns
// nothing.
func (r *reader) digitsOf() ([]byte, error) {
	switch c := r.peek(); {
	case c == '"':
		return r.text()
	case c == '-' || c-'0' <= 9:
		return r.number()
	}
	return nil, nil
}

// wrapped lets protojson read the value, as that of a wrapper type.
func (r *reader) wrapped(wrapper proto.Message, want string) (protoreflect.Value, error) {
	raw, err := r.raw()
	if err != nil {
		return protoreflect.Value{}, err
	}
	if err := protojson.Unmarshal(raw, wrapper); err != nil {
		return protoreflect.Value{}, r.path.mistake("it is not %s", want)
	}
	message := wrapper.ProtoReflect()
	return message.Get(message.Descriptor().Fields().ByNumber(1)), nil
}

// enum reads an enum's value, which is a name or a number.
func (r *reader) enum(enum protoreflect.EnumDescriptor, c byte) (protoreflect.Value, error) {
	switch {
	case c == 'n' && isNull(enum):
		return protoreflect.ValueOfEnum(0), r.literal("null")
	case c != '"':
		value, err := r.wrapped(new(wrapperspb.Int32Value), "the name of an enum value or its number")
		if err != nil {
			return value, err
		}
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(value.Int())), nil
	}
	text, err := r.text()
	if err != nil {
		return protoreflect.Value{}, err
	}
	if value := enum.Values().ByName(protoreflect.Name(text)); value != nil {
		return protoreflect.ValueOfEnum(value.Number()), nil
	}
	if r.manner == forwarded && !protoreflect.Name(text).IsValid() {
		// Some readers of JSON take "3" for the value of that number.
		return protoreflect.Value{}, r.path.mistake("it is no name that an enum value could have")
	}
	return protoreflect.Value{}, r.stray(UnknownEnum, "unknown enum value: "+string(enum.Name())+" has none of this name")
}

// mapKey reads a map's key as protojson does.
func mapKey(field protoreflect.FieldDescriptor, text string) (key protoreflect.MapKey, ok bool) {
	var value protoreflect.Value
	var err error
	switch field.Kind() {
	case protoreflect.StringKind:
		value = protoreflect.ValueOfString(text)
	case protoreflect.BoolKind:
		value = protoreflect.ValueOfBool(text == "true")
		if text != "true" && text != "false" {
			return key, false
		}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		var n int64
		n, err = strconv.ParseInt(text, 10, 32)
		value = protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		var n int64
		n, err = strconv.ParseInt(text, 10, 64)
		value = protoreflect.ValueOfInt64(n)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		var n uint64
		n, err = strconv.ParseUint(text, 10, 32)
		value = protoreflect.ValueOfUint32(uint32(n))
	default:
		var n uint64
		n, err = strconv.ParseUint(text, 10, 64)
		value = protoreflect.ValueOfUint64(n)
	}
	return value.MapKey(), err == nil
}

// wants says, in words, what the JSON of a message with rules of its own is.
var wants = map[protoreflect.Name]string{
	"Timestamp":   "a time such as 2006-01-02T15:04:05Z, from year 1 to 9999",
	"Duration":    "a duration in seconds such as 1.5s, of at most 10000 years",
	"FieldMask":   "a field mask: names in lowerCamelCase, separated by commas, without wildcards",
	"BoolValue":   "true or false",
	"Int32Value":  "an integer of 32 bits",
	"Int64Value":  "an integer of 64 bits",
	"UInt32Value": "an unsigned integer of 32 bits",
	"UInt64Value": "an unsigned integer of 64 bits",
	"FloatValue":  "a number of 32 bits",
	"DoubleValue": "a number of 64 bits",
	"StringValue": "a string",
	"BytesValue":  "base64 in a string",
	"Struct":      "an object, or holds a number that is too large",
	"Value":       "a value: it holds a number that is too large",
	"ListValue":   "an array, or holds a number that is too large",
}

// special lets protojson read a message that stands in JSON by rules of its
// own. What has no end, and what comes twice, the scanner has found before.
func (r *reader) special(m protoreflect.Message) error {
	raw, err := r.raw()
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal(raw, m.Interface()); err != nil {
		return r.path.mistake("it is not %s", wants[m.Descriptor().Name()])
	}
	return nil
}
