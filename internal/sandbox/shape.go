package sandbox

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// maxDepth is how deep an answer that is made from a descriptor nests. All
	// but those with C1's tasks, reports and schemas end before.
	maxDepth = 6
	// maxShape is the size, in bytes of JSON, at which no further message of
	// such an answer is filled: with the last one it stays below 64 KiB.
	maxShape = 40 << 10
	// maxEcho is the longest text, in bytes, that an answer repeats.
	maxEcho = 128
)

// A shape is an answer in the making, from nothing but its descriptor: every
// field set, one element in each list and map, one member of each oneof, the
// same each time. What the request has too, such as an id, is the request's.
type shape struct {
	types   *types // used for messages that nest
	request protoreflect.Message
	size    int     // of the JSON so far, in bytes; rather too much than too little
	queue   []level // what is still empty, the shallow before the deep
}

// A level is a message to be filled.
type level struct {
	message protoreflect.Message
	depth   int // how deep the messages in it may nest
	turn    int // which member of each oneof, value of each enum and type of each Any: modulo
}

// below is the level of a message in a field. Below a oneof of n members the
// turns go n times as slow, so that in time each meets each.
func (l level) below(field protoreflect.FieldDescriptor, message protoreflect.Message) level {
	turn := l.turn
	if oneof := field.ContainingOneof(); oneof != nil {
		turn /= oneof.Fields().Len()
	}
	return level{message, l.depth - 1, turn}
}

// newShape makes the answer of a method.
func newShape(types *types, descriptor protoreflect.MessageDescriptor, request proto.Message, turn int) proto.Message {
	response := types.newMessage(descriptor)
	s := &shape{types: types, request: request.ProtoReflect()}
	s.queue = append(s.queue, level{response.ProtoReflect(), maxDepth, turn})
	for ; len(s.queue) > 0 && s.size < maxShape; s.queue = s.queue[1:] {
		s.fill(s.queue[0])
	}
	return response
}

// fill sets the fields of one message. The messages in it are left for later,
// so that a deep branch never takes the room of a shallow one.
func (s *shape) fill(at level) {
	fields := at.message.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if at.chosen(field) && !endless(field) {
			s.fillField(at, field)
		}
	}
}

// chosen says whether field is the one of its oneof whose turn it is. Fields
// without one are, and optional ones, whose oneof is no real one.
func (l level) chosen(field protoreflect.FieldDescriptor) bool {
	oneof := field.ContainingOneof()
	return oneof == nil || oneof.IsSynthetic() || oneof.Fields().Get(l.turn%oneof.Fields().Len()) == field
}

// endless says whether a client that reads field would ask for more, for ever.
func endless(field protoreflect.FieldDescriptor) bool {
	return strings.HasSuffix(string(field.Name()), "page_token") || field.Name() == "has_more"
}

// fillField sets one field, to one element if it is a list or a map; a list of
// Any gets two, a message of C1's and a well-known type.
func (s *shape) fillField(at level, field protoreflect.FieldDescriptor) {
	if at.depth == 0 && nests(field) {
		return
	}
	s.size += len(field.JSONName()) + len(`"":[{}],`)
	message := at.message
	switch {
	case field.IsMap():
		entries := message.Mutable(field).Map()
		key := s.plausible(field.MapKey(), at.turn).MapKey()
		if field.MapValue().Message() == nil {
			entries.Set(key, s.plausible(field.MapValue(), at.turn))
			return
		}
		s.fillMessage(at.below(field, entries.Mutable(key).Message()), field, at.turn)
	case field.IsList() && field.Message() != nil:
		list := message.Mutable(field).List()
		s.fillMessage(at.below(field, list.AppendMutable().Message()), field, 0)
		if isAny(field) {
			s.fillMessage(at.below(field, list.AppendMutable().Message()), field, 1)
		}
	case field.IsList():
		message.Mutable(field).List().Append(s.plausible(field, at.turn))
	case field.Message() != nil:
		s.fillMessage(at.below(field, message.Mutable(field).Message()), field, at.turn)
	default:
		message.Set(field, s.plausible(field, at.turn))
	}
}

// nests says whether field holds messages whose fields are yet to be filled.
func nests(field protoreflect.FieldDescriptor) bool {
	if field.IsMap() {
		field = field.MapValue()
	}
	return field.Message() != nil && samples[field.Message().FullName()] == nil
}

// fillMessage makes a message the sample of a well-known type, or leaves it to
// be filled. An even choice makes an Any a message of the field's own package,
// unless it is as deep as can be: such as an Any in that message.
func (s *shape) fillMessage(at level, field protoreflect.FieldDescriptor, choice int) {
	name := at.message.Descriptor().FullName()
	sample := wellKnown(name, at.turn)
	if name == "google.protobuf.Any" && choice%2 == 0 && at.depth >= 0 {
		if packed := s.pack(field, at.turn); packed != nil {
			sample = packed
		}
	}
	if sample == nil {
		s.queue = append(s.queue, at)
		return
	}
	// Through the wire, since the message may be dynamic where the sample is not.
	text, err := proto.Marshal(sample)
	if err == nil {
		_ = proto.Unmarshal(text, at.message.Interface())
	}
	s.size += len(text) + len(`"2026-01-05T09:00:00Z"`)
}

// plausible is a value for a field that is no message: never the zero value,
// which proto3 leaves out, save for an enum that has no other.
func (s *shape) plausible(field protoreflect.FieldDescriptor, turn int) protoreflect.Value {
	s.size += 20 // the longest number
	if value, ok := s.echo(field); ok {
		return value
	}
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		value := values.Get(min(1+turn%max(1, values.Len()-1), values.Len()-1))
		s.size += len(value.Name())
		return protoreflect.ValueOfEnum(value.Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(42)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(42)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(1<<53 + 1) // no float64 holds it
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(1<<53 + 1)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(0.5)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(0.5)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("sandbox"))
	default:
		s.size += len(field.Name())
		return protoreflect.ValueOfString("sandbox " + strings.ReplaceAll(string(field.Name()), "_", " "))
	}
}

// echo is what the request says in its own field of the same name and type,
// if that is a text, not a long one, or a whole number.
func (s *shape) echo(field protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	asked := s.request.Descriptor().Fields().ByName(field.Name())
	if asked == nil || asked.Kind() != field.Kind() || asked.IsList() || !s.request.Has(asked) {
		return protoreflect.Value{}, false
	}
	value := s.request.Get(asked)
	switch field.Kind() {
	case protoreflect.StringKind:
		if len(value.String()) > maxEcho {
			return protoreflect.Value{}, false
		}
		s.size += 6 * len(value.String()) // if all of it is to be escaped
		return value, true
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return value, true
	}
	return protoreflect.Value{}, false
}
