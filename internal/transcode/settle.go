package transcode

import (
	"cmp"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A settler turns a message that was read from binary into one that its JSON
// would have given: without unknown fields, which it counts, and with every
// Any in the one form that it has, so that what is decided on the message is
// decided on what C1 will read.
type settler struct {
	strays Strays
	depth  int
	// left is how many more values may come, in the Anys.
	left int
	path path
	// changed says that the message is no longer what its bytes were.
	changed bool
}

// message settles a message and the messages in it.
func (s *settler) message(m protoreflect.Message) error {
	if s.depth++; s.depth > maxMessages {
		return s.path.mistake("it nests deeper than %d", maxMessages)
	}
	defer func() { s.depth-- }()
	if m.Descriptor().FullName() == "google.protobuf.Any" {
		s.drop(m)
		return s.any(m)
	}
	s.drop(m)
	var err error
	m.Range(func(descriptor protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch here := len(s.path); {
		case descriptor.IsExtension():
			s.stray(descriptor.Number())
			m.Clear(descriptor)
		case descriptor.IsMap() && descriptor.MapValue().Message() == nil || descriptor.Message() == nil:
		default:
			s.path = append(s.path, step{field: descriptor})
			err = s.field(descriptor, value)
			s.path = s.path[:here]
		}
		return err == nil
	})
	return err
}

// field settles the messages of one field.
func (s *settler) field(descriptor protoreflect.FieldDescriptor, value protoreflect.Value) error {
	switch {
	case descriptor.IsMap():
		entries := value.Map()
		for _, key := range sortedKeys(entries) {
			if err := s.in(step{key: []byte(key.String())}, entries.Get(key).Message()); err != nil {
				return err
			}
		}
		return nil
	case descriptor.IsList():
		for i := range value.List().Len() {
			if err := s.in(step{index: i}, value.List().Get(i).Message()); err != nil {
				return err
			}
		}
		return nil
	}
	return s.message(value.Message())
}

func (s *settler) in(at step, m protoreflect.Message) error {
	s.path = append(s.path, at)
	err := s.message(m)
	s.path = s.path[:len(s.path)-1]
	return err
}

// drop removes and counts the unknown fields of one message.
func (s *settler) drop(m protoreflect.Message) {
	rest := m.GetUnknown()
	if len(rest) == 0 {
		return
	}
	for len(rest) > 0 {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			break // not reached: Unmarshal has checked the wire format
		}
		s.stray(number)
		rest = rest[n:]
	}
	m.SetUnknown(nil)
}

// stray counts a field that has no name here, by its number.
func (s *settler) stray(number protoreflect.FieldNumber) {
	s.changed = true
	at := step{key: strconv.AppendInt(nil, int64(number), 10)}
	s.strays.add(UnknownField, append(slices.Clip(s.path), at))
}

// any settles an Any. One of a type that is not known here stays as it is:
// whether that is a mistake depends on where it goes.
func (s *settler) any(m protoreflect.Message) error {
	url, value := partsOf(m)
	found, ok := find(url)
	if !ok {
		return nil
	}
	if s.left = weigh(value, found.Descriptor(), s.left, 0); s.left < 0 {
		return s.path.mistake("%s", errCrowded)
	}
	held, ok := unpack(found, value)
	if !ok {
		return s.path.mistake("the Any does not hold a %s", found.Descriptor().FullName())
	}
	if untold(url, held) {
		return s.reread(m, held)
	}
	outer := s.changed
	s.changed = false
	if err := s.message(held); err != nil {
		return err
	}
	if s.changed {
		if err := pack(m, url, held.Interface()); err != nil {
			return s.path.mistake("the Any does not hold a %s", found.Descriptor().FullName())
		}
	}
	s.changed = s.changed || outer
	return nil
}

// reread reads an Any that stands in JSON as the object that it holds in the
// way that C1 will: the object may have a known @type after all.
func (s *settler) reread(m, held protoreflect.Message) error {
	data, err := protojson.Marshal(held.Interface())
	if err != nil {
		return s.path.mistake("it is not %s", unwritable[structName.Name()])
	}
	r := reader{scanner: scanner{data: data, path: slices.Clip(s.path)}}
	fields := m.Descriptor().Fields()
	m.Clear(fields.ByNumber(typeURLNumber))
	m.Clear(fields.ByNumber(valueNumber))
	if err := r.any(m); err != nil {
		return err
	}
	s.changed = true
	s.strays.merge(&r.strays)
	return nil
}

// sortedKeys returns the keys of a map in one order.
func sortedKeys(entries protoreflect.Map) []protoreflect.MapKey {
	keys := make([]protoreflect.MapKey, 0, entries.Len())
	entries.Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, key)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return cmp.Compare(a.String(), b.String()) })
	return keys
}
