package transcode

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A writer writes a message as JSON: as protojson does, but for an Any that
// holds an object as it is, and with the path to what JSON cannot express.
type writer struct {
	out   []byte
	depth int
	path  path
	// standard writes every Any in its standard form; see write.
	standard bool
}

// write returns the message's JSON, without white space of its own.
//
// standard says that the reader is a caller's protobuf library, which knows no more
// types than its own: an object of an unknown type is then written as the Struct
// that it is, in the form of any other Any. C1 gets the object itself.
func write(m proto.Message, standard bool) ([]byte, error) {
	w := writer{standard: standard}
	message := m.ProtoReflect()
	err := w.value(shapeOf(message.Descriptor()), message)
	return w.out, err
}

// open writes a bracket. Depth is counted here, as the scanner does, since
// messages in Anys are not bounded by the limits of what holds them. What C1 may
// send nests one deeper in standard form, where an object of an unknown type has
// another around it.
func (w *writer) open(bracket byte) error {
	w.out = append(w.out, bracket)
	most := maxDepth
	if w.standard {
		most++
	}
	if w.depth++; w.depth > most {
		return w.path.mistake("it nests deeper than %d", maxDepth)
	}
	return nil
}

func (w *writer) close(bracket byte) {
	w.out = append(w.out, bracket)
	w.depth--
}

// value writes a message of the shape.
func (w *writer) value(s shape, m protoreflect.Message) error {
	switch s {
	case typed:
		return w.any(m)
	case leaf, tree:
		return w.special(m)
	}
	if err := w.open('{'); err != nil {
		return err
	}
	err := w.fields(m)
	w.close('}')
	return err
}

// fields writes the members of the object that has just been opened.
func (w *writer) fields(m protoreflect.Message) error {
	here := len(w.path)
	for _, f := range planOf(m.Descriptor()).fields {
		if !m.Has(f.descriptor) {
			continue
		}
		w.path = append(w.path, step{field: f.descriptor})
		if err := w.key(f.name); err != nil {
			return err
		}
		if err := w.field(f, m.Get(f.descriptor)); err != nil {
			return err
		}
		w.path = w.path[:here]
	}
	return nil
}

// comma separates what follows from what has been written, unless that is the
// bracket that opens.
func (w *writer) comma() {
	if last := w.out[len(w.out)-1]; last != '{' && last != '[' {
		w.out = append(w.out, ',')
	}
}

func (w *writer) key(name string) error {
	w.comma()
	err := w.text(name)
	w.out = append(w.out, ':')
	return err
}

func (w *writer) field(f *field, value protoreflect.Value) error {
	switch {
	case f.list:
		return w.list(f, value.List())
	case f.entry != nil:
		return w.entries(f.entry, value.Map())
	}
	return w.single(f, value)
}

func (w *writer) list(f *field, list protoreflect.List) error {
	if err := w.open('['); err != nil {
		return err
	}
	w.path = append(w.path, step{})
	for i := range list.Len() {
		w.path[len(w.path)-1].index = i
		w.comma()
		if err := w.single(f, list.Get(i)); err != nil {
			return err
		}
	}
	w.path = w.path[:len(w.path)-1]
	w.close(']')
	return nil
}

// entries writes a map, sorted by key, so that equal messages read the same.
func (w *writer) entries(f *field, entries protoreflect.Map) error {
	if err := w.open('{'); err != nil {
		return err
	}
	for _, key := range sortedKeys(entries) {
		name := key.String()
		w.path = append(w.path, step{key: []byte(name)})
		if err := w.key(name); err != nil {
			return err
		}
		if err := w.single(f, entries.Get(key)); err != nil {
			return err
		}
		w.path = w.path[:len(w.path)-1]
	}
	w.close('}')
	return nil
}

// single writes one value.
func (w *writer) single(f *field, value protoreflect.Value) error {
	if f.shape != scalar {
		return w.value(f.shape, value.Message())
	}
	switch f.kind {
	case protoreflect.StringKind:
		return w.text(value.String())
	case protoreflect.BoolKind:
		w.out = strconv.AppendBool(w.out, value.Bool())
	case protoreflect.EnumKind:
		w.enum(f.descriptor.Enum(), value.Enum())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		w.out = strconv.AppendInt(w.out, value.Int(), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		w.out = strconv.AppendUint(w.out, value.Uint(), 10)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		w.out = append(strconv.AppendInt(append(w.out, '"'), value.Int(), 10), '"')
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		w.out = append(strconv.AppendUint(append(w.out, '"'), value.Uint(), 10), '"')
	case protoreflect.BytesKind:
		w.out = append(base64.StdEncoding.AppendEncode(append(w.out, '"'), value.Bytes()), '"')
	case protoreflect.FloatKind:
		return w.appended(wrapperspb.Float(float32(value.Float())), "")
	default:
		return w.appended(wrapperspb.Double(value.Float()), "")
	}
	return nil
}

// enum writes a value's name, or its number where it has none. A NullValue
// that is not null, which nobody should send, is written as a number too:
// protojson would write null, and read nothing back.
func (w *writer) enum(enum protoreflect.EnumDescriptor, number protoreflect.EnumNumber) {
	switch value := enum.Values().ByNumber(number); {
	case isNull(enum) && number == 0:
		w.out = append(w.out, "null"...)
	case value == nil:
		w.out = strconv.AppendInt(w.out, int64(number), 10)
	default:
		w.out = append(append(append(w.out, '"'), value.Name()...), '"')
	}
}

// text writes a string.
func (w *writer) text(text string) error {
	ascii := true
	for i := range len(text) {
		if c := text[i]; !plainByte[c] {
			if c < utf8.RuneSelf {
				return w.appended(wrapperspb.String(text), "text: it is not valid UTF-8")
			}
			ascii = false
		}
	}
	if !ascii && !utf8.ValidString(text) {
		return w.path.mistake("it is not text: it is not valid UTF-8")
	}
	w.out = append(append(append(w.out, '"'), text...), '"')
	return nil
}

// unwritable says, in words, what JSON cannot express of a message with rules
// of its own.
var unwritable = map[protoreflect.Name]string{
	"Timestamp":   "a time from year 1 to 9999, with 0 to 999999999 nanoseconds",
	"Duration":    "a duration of at most 10000 years, with seconds and nanoseconds of one sign",
	"FieldMask":   "a field mask that JSON can express: paths are names in snake_case, without wildcards",
	"StringValue": "text: it is not valid UTF-8",
	"Struct":      "what JSON can express: it holds a number that is none, or a value that is not set",
	"Value":       "what JSON can express: it is a number that is none, or not set, or holds such a value",
	"ListValue":   "what JSON can express: it holds a number that is none, or a value that is not set",
}

// special lets protojson write a message that stands in JSON by rules of its
// own.
func (w *writer) special(m protoreflect.Message) error {
	return w.appended(m.Interface(), unwritable[m.Descriptor().Name()])
}

// appended lets protojson write. want says what the message is not if that
// fails.
func (w *writer) appended(m proto.Message, want string) error {
	out, err := protojson.MarshalOptions{}.MarshalAppend(w.out, m)
	if err != nil {
		return w.path.mistake("it is not %s", want)
	}
	w.out = out
	return nil
}

// any writes an Any: the reverse of a reader's any.
func (w *writer) any(m protoreflect.Message) error {
	url, value := partsOf(m)
	if url == "" {
		if len(value) > 0 {
			return w.path.mistake("the Any has a value, but no type URL")
		}
		return w.value(object, (*emptypb.Empty)(nil).ProtoReflect())
	}
	found, ok := find(url)
	if !ok {
		return w.path.mistake("the Any is of a type that is not known here, so it cannot be written as JSON: " +
			"send it as a google.protobuf.Struct that holds its JSON, @type included")
	}
	held, ok := unpack(found, value)
	if !ok {
		return w.path.mistake("the Any does not hold a %s", found.Descriptor().FullName())
	}
	s := shapeOf(found.Descriptor())
	if !w.standard && untold(url, held) {
		return w.value(s, held)
	}
	if err := w.open('{'); err != nil {
		return err
	}
	if err := w.key(anyType); err != nil {
		return err
	}
	if err := w.text(url); err != nil {
		return err
	}
	if s != object {
		w.out = append(w.out, `,"value":`...)
		if err := w.value(s, held); err != nil {
			return err
		}
	} else if err := w.fields(held); err != nil {
		return err
	}
	w.close('}')
	return nil
}
