package transcode

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A manner is how a reader takes what the message has no place for.
type manner uint8

const (
	// strict refuses it: a caller's mistake.
	strict manner = iota
	// lenient drops and counts it: an answer of a C1 that is newer.
	lenient
	// forwarded counts it, in a body that C1 reads too. It refuses what C1 could
	// read otherwise than the reader does.
	forwarded
)

// A reader reads JSON into a message, in one pass. Whatever it and protojson
// (with DiscardUnknown, unless strict) both accept makes the same message.
// FuzzAnswer holds it to that.
type reader struct {
	scanner
	manner manner
	strays Strays
	// bound tells the fields that the body must not hold at its top; nil for
	// none.
	bound func(protoreflect.FieldDescriptor) bool
}

// read reads all of the data into a new message.
func (r *reader) read(m proto.Message) error {
	message := m.ProtoReflect()
	if err := r.value(shapeOf(message.Descriptor()), message); err != nil {
		return err
	}
	if err := r.end(); err != nil {
		return err
	}
	return proto.CheckInitialized(m)
}

// value reads a message of the shape.
func (r *reader) value(s shape, m protoreflect.Message) error {
	switch s {
	case typed:
		return r.any(m)
	case leaf, tree:
		return r.special(m)
	}
	return r.message(m, false)
}

// message reads the fields of a message. inAny says that the object is an
// Any's and holds an @type beside them.
func (r *reader) message(m protoreflect.Message, inAny bool) error {
	if r.peek() != '{' {
		return r.mismatch("an object")
	}
	p := planOf(m.Descriptor())
	var seen, oneofs bitset
	var others keyset
	here := len(r.path)
	return r.object(func(key []byte) error {
		f := p.named[string(key)]
		if f == nil {
			return r.unnamed(key, &others, inAny)
		}
		r.path = append(r.path, step{field: f.descriptor})
		if !seen.add(f.index) {
			return r.twice()
		}
		if here == 0 && r.bound != nil && r.bound(f.descriptor) {
			return r.path.mistake("the path holds this field, and the body must not repeat it")
		}
		if err := r.field(m, f, &oneofs); err != nil {
			return err
		}
		r.path = r.path[:here]
		return nil
	})
}

// unnamed reads what is no field of the message.
func (r *reader) unnamed(key []byte, others *keyset, inAny bool) error {
	return r.within(key, func() error {
		switch {
		case !others.add(key):
			return r.twice()
		case inAny && string(key) == "@type":
			return r.skip()
		}
		if err := r.stray(UnknownField, "unknown field: the message has none of this name"); err != nil {
			return err
		}
		return r.skip()
	})
}

// stray counts what the message has no place for, or refuses it.
func (r *reader) stray(kind Kind, why string) error {
	if r.manner == strict {
		return r.path.mistake("%s", why)
	}
	r.strays.add(kind, r.path)
	return nil
}

// mismatch is the mistake of what is next, if it is a value at all: it is of
// another JSON type than the field's.
func (r *reader) mismatch(want string) error {
	if c := r.peek(); strings.IndexByte(`{["tfn-0123456789`, c) < 0 {
		return r.unexpected()
	}
	return r.path.mistake("it is not %s", want)
}

// field reads one field's value into m. A null leaves the field unset, unless
// null is a value of its type.
func (r *reader) field(m protoreflect.Message, f *field, oneofs *bitset) error {
	if r.peek() == 'n' && !f.null {
		return r.literal("null")
	}
	switch {
	case f.list:
		return r.list(m.Mutable(f.descriptor).List(), f)
	case f.entry != nil:
		return r.entries(m.Mutable(f.descriptor).Map(), f)
	case f.oneof >= 0 && !oneofs.add(f.oneof):
		return r.path.mistake("another field of the oneof %s is set too", f.descriptor.ContainingOneof().Name())
	}
	var made protoreflect.Value
	if f.shape != scalar {
		made = m.NewField(f.descriptor)
	}
	value, err := r.single(f, made)
	if err == nil && value.IsValid() {
		m.Set(f.descriptor, value)
	}
	return err
}

// single reads one value: into made, if it is a message. The result is
// invalid for one that was dropped.
func (r *reader) single(f *field, made protoreflect.Value) (protoreflect.Value, error) {
	if f.shape == scalar {
		return r.scalar(f)
	}
	return made, r.value(f.shape, made.Message())
}

// list reads a repeated field.
func (r *reader) list(list protoreflect.List, f *field) error {
	if r.peek() != '[' {
		return r.mismatch("an array")
	}
	return r.array(func() error {
		if r.peek() == 'n' && !f.null {
			return r.missing()
		}
		var made protoreflect.Value
		if f.shape != scalar {
			made = list.NewElement()
		}
		value, err := r.single(f, made)
		if err == nil && value.IsValid() {
			list.Append(value)
		}
		return err
	})
}

// entries reads a map.
func (r *reader) entries(entries protoreflect.Map, f *field) error {
	if r.peek() != '{' {
		return r.mismatch("an object")
	}
	var keys keyset
	return r.object(func(text []byte) error {
		return r.within(text, func() error {
			key, ok := mapKey(f.descriptor.MapKey(), string(text))
			if !ok {
				return r.path.mistake("the key is no %s", f.descriptor.MapKey().Kind())
			}
			if !keys.add([]byte(key.String())) { // since 1 and 01 are one key
				return r.twice()
			}
			if r.peek() == 'n' && !f.entry.null {
				return r.missing()
			}
			var made protoreflect.Value
			if f.entry.shape != scalar {
				made = entries.NewValue()
			}
			value, err := r.single(f.entry, made)
			if err == nil && value.IsValid() {
				entries.Set(key, value)
			}
			return err
		})
	})
}

// missing reads a null where there should be an element. Nobody knows whether
// C1 would take it for an empty one, so only in its answers is it dropped.
func (r *reader) missing() error {
	if r.manner != lenient {
		return r.path.mistake("null is no value here")
	}
	r.strays.add(NullElement, r.path)
	return r.literal("null")
}
