package transcode

import (
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

// A plan is what the reader and the writer know of a message type beforehand.
type plan struct {
	// fields are in the order of their declaration.
	fields []*field
	// named are the same by both of their spellings in JSON.
	named map[string]*field
}

// A field is a field of a message, or the value of a map.
type field struct {
	descriptor protoreflect.FieldDescriptor
	name       string // in JSON
	index      int
	kind       protoreflect.Kind
	shape      shape
	list       bool
	// entry is a map's value; nil of any other field.
	entry *field
	// null says that null is one of the values.
	null bool
	// oneof is the index of the oneof that the field belongs to, or -1.
	oneof int
}

// A shape is how a value stands in JSON.
type shape uint8

const (
	// scalar is a string, a number, an enum.
	scalar shape = iota
	// object is a message without rules of its own.
	object
	// leaf is a message that stands as one string, number or bool.
	leaf
	// tree is any JSON at all: Struct, Value, ListValue.
	tree
	// typed is google.protobuf.Any.
	typed
)

// shapeOf tells a message's shape by its name, as protojson does.
func shapeOf(message protoreflect.MessageDescriptor) shape {
	if message.FullName().Parent() != "google.protobuf" {
		return object
	}
	switch message.Name() {
	case "Any":
		return typed
	case "Struct", "Value", "ListValue":
		return tree
	case "Timestamp", "Duration", "FieldMask", "BoolValue", "Int32Value", "Int64Value", "UInt32Value",
		"UInt64Value", "FloatValue", "DoubleValue", "StringValue", "BytesValue":
		return leaf
	}
	return object
}

// plans holds the plan of every message type met so far, by its descriptor.
// There are as many as there are linked descriptors.
var plans sync.Map

func planOf(message protoreflect.MessageDescriptor) *plan {
	if p, ok := plans.Load(message); ok {
		return p.(*plan)
	}
	p := newPlan(message)
	plans.Store(message, p)
	return p
}

func newPlan(message protoreflect.MessageDescriptor) *plan {
	fields := message.Fields()
	p := &plan{named: make(map[string]*field, 2*fields.Len())}
	for i := range fields.Len() {
		f := newField(fields.Get(i))
		p.fields = append(p.fields, f)
		p.named[f.descriptor.TextName()] = f
	}
	for _, f := range p.fields { // last, since protojson too looks for JSON names first
		p.named[f.name] = f
	}
	return p
}

func newField(descriptor protoreflect.FieldDescriptor) *field {
	f := &field{descriptor: descriptor, name: descriptor.JSONName(), index: descriptor.Index(),
		kind: descriptor.Kind(), list: descriptor.IsList(), oneof: -1}
	if oneof := descriptor.ContainingOneof(); oneof != nil {
		f.oneof = oneof.Index()
	}
	switch message, enum := descriptor.Message(), descriptor.Enum(); {
	case descriptor.IsMap():
		f.entry = newField(descriptor.MapValue())
	case message != nil:
		f.shape = shapeOf(message)
		f.null = message.FullName() == (*structpb.Value)(nil).ProtoReflect().Descriptor().FullName()
	case enum != nil:
		f.null = isNull(enum)
	}
	return f
}

// isNull says whether the enum is google.protobuf.NullValue.
func isNull(enum protoreflect.EnumDescriptor) bool {
	return enum.FullName() == structpb.NullValue(0).Descriptor().FullName()
}

// A bitset is a set of small numbers. Its zero value is empty.
type bitset struct {
	low  uint64
	high []uint64
}

// add says whether i is new.
func (b *bitset) add(i int) bool {
	word := &b.low
	if i >= 64 {
		for len(b.high) < i/64 {
			b.high = append(b.high, 0)
		}
		word = &b.high[i/64-1]
	}
	bit := uint64(1) << (i % 64)
	fresh := *word&bit == 0
	*word |= bit
	return fresh
}

// A keyset is a set of keys. Its zero value is empty. It is fast for few
// keys, and for many it costs no more than a map.
type keyset struct {
	few  [8][]byte
	size int
	many map[string]bool
}

// add says whether key is new. The key is not copied while there are few.
func (s *keyset) add(key []byte) bool {
	if s.many != nil {
		fresh := !s.many[string(key)]
		s.many[string(key)] = true
		return fresh
	}
	for _, other := range s.few[:s.size] {
		if string(other) == string(key) {
			return false
		}
	}
	if s.size < len(s.few) {
		s.few[s.size] = key
		s.size++
		return true
	}
	s.many = make(map[string]bool, 4*len(s.few))
	for _, other := range s.few {
		s.many[string(other)] = true
	}
	s.many[string(key)] = true
	return true
}
