package transcode

import (
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/c1proxy/c1proxy/internal/catalog"
)

// ObjectURL is the type URL of a google.protobuf.Any that holds, as a Struct,
// the very JSON object that stands in its place: one whose @type nobody
// knows, or that has none. A type URL's last part alone names the type, so
// every protobuf library unpacks it as a google.protobuf.Struct; the part
// before tells it from a Struct in its standard form, {"@type": …, "value": …}.
const ObjectURL = "c1proxy/google.protobuf.Struct"

const (
	anyType  = "@type"
	anyValue = "value"
)

var structName = (*structpb.Struct)(nil).ProtoReflect().Descriptor().FullName()

// find returns the message type of a type URL.
func find(url string) (protoreflect.MessageType, bool) {
	if url == "" {
		return nil, false
	}
	found, err := catalog.Types{}.FindMessageByURL(url)
	return found, err == nil
}

// The fields of google.protobuf.Any, by their numbers.
const (
	typeURLNumber = 1
	valueNumber   = 2
)

// partsOf returns what an Any holds. value is not copied.
func partsOf(m protoreflect.Message) (url string, value []byte) {
	fields := m.Descriptor().Fields()
	return m.Get(fields.ByNumber(typeURLNumber)).String(), m.Get(fields.ByNumber(valueNumber)).Bytes()
}

// pack sets what an Any holds.
func pack(m protoreflect.Message, url string, held proto.Message) error {
	value, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(held)
	if err != nil {
		return err
	}
	fields := m.Descriptor().Fields()
	m.Set(fields.ByNumber(typeURLNumber), protoreflect.ValueOfString(url))
	m.Set(fields.ByNumber(valueNumber), protoreflect.ValueOfBytes(value))
	return nil
}

// unpack reads what an Any of the type holds.
func unpack(found protoreflect.MessageType, value []byte) (protoreflect.Message, bool) {
	held := found.New()
	return held, parse(value, held.Interface()) == nil
}

// untold says whether a Struct in an Any stands in JSON as it is: by the type
// URL, or because it has a string @type itself, as a program builds it that
// has no such message.
func untold(url string, held protoreflect.Message) bool {
	return url == ObjectURL || held.Descriptor().FullName() == structName && hasType(held)
}

// hasType says whether a Struct has a string @type.
func hasType(m protoreflect.Message) bool {
	fields := m.Get(m.Descriptor().Fields().ByNumber(1)).Map()
	entry := fields.Get(protoreflect.ValueOfString(anyType).MapKey())
	if !entry.IsValid() {
		return false
	}
	text := entry.Message().Descriptor().Fields().ByName("string_value")
	return entry.Message().Has(text)
}

// any reads an Any.
//
//   - {} is one that is empty.
//   - An object of a known @type is of that type.
//   - ObjectURL in its standard form, as a program writes it that has read it in
//     binary, is the object in it.
//   - Any other object is kept as it is, as a Struct: ObjectURL.
//   - So is a Struct in its standard form whose value has a string @type, since
//     untold would take the value for the object.
func (r *reader) any(m protoreflect.Message) error {
	if r.peek() != '{' {
		return r.mismatch("an object")
	}
	start := r.next
	size, url, err := r.typeOf()
	if err != nil || size == 0 {
		return err
	}
	end := r.next
	if url == ObjectURL {
		if r.manner == forwarded { // C1 would take the object for a Struct
			return r.path.mistake("the @type is c1proxy's own and means nothing to C1: write the object itself")
		}
		r.next = start
		return r.standard(func() error { return r.any(m) }, true)
	}
	if found, ok := find(url); ok {
		r.next = start
		held := found.New()
		switch s := shapeOf(found.Descriptor()); {
		case s == object && found.Descriptor().FullName() != "google.protobuf.Empty":
			err = r.message(held, true)
		default:
			err = r.standard(func() error { return r.value(s, held) }, s != object)
		}
		if err != nil {
			return err
		}
		if found.Descriptor().FullName() != structName || !hasType(held) {
			return r.packed(m, url, held.Interface())
		}
	}
	return r.keep(m, r.data[start:end])
}

// keep makes m hold the object as it is.
func (r *reader) keep(m protoreflect.Message, object []byte) error {
	kept := new(structpb.Struct)
	if err := protojson.Unmarshal(object, kept); err != nil {
		return r.path.mistake("it is not %s", wants["Struct"])
	}
	r.strays.add(UnknownType, r.path)
	return r.packed(m, ObjectURL, kept)
}

func (r *reader) packed(m protoreflect.Message, url string, held proto.Message) error {
	if err := pack(m, url, held); err != nil {
		return r.path.mistake("it cannot be packed into an Any")
	}
	return nil
}

// typeOf reads an object and returns how many members it has, and its @type;
// "" if that is missing or no string.
func (r *reader) typeOf() (size int, url string, err error) {
	var keys keyset
	err = r.object(func(key []byte) error {
		size++
		return r.within(key, func() error {
			if !keys.add(key) {
				return r.twice()
			}
			if string(key) != anyType || r.peek() != '"' {
				return r.skip()
			}
			text, err := r.text()
			url = string(text)
			return err
		})
	})
	return size, url, err
}

// standard reads an Any's object whose content stands under the key value.
// The keys have been seen before, so that none comes twice.
func (r *reader) standard(read func() error, required bool) error {
	held := false
	var others keyset
	err := r.object(func(key []byte) error {
		if string(key) != anyValue {
			return r.unnamed(key, &others, true)
		}
		held = true
		return r.within(key, read)
	})
	if err == nil && required && !held {
		return r.path.mistake("an Any of this @type needs a value")
	}
	return err
}
