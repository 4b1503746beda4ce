package sandbox

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/catalog"
)

// An object is a message that is read and written by the names of its fields:
// the generated types are not linked into the program. A name that its message
// does not have is a mistake of the program's, and panics.
type object struct{ protoreflect.Message }

// newObject makes an empty message of the mirror's.
func newObject(name protoreflect.FullName) (object, error) {
	found, err := catalog.Types{}.FindMessageByName(name)
	if err != nil {
		return object{}, fmt.Errorf("make %s: %w", name, err)
	}
	return object{found.New()}, nil
}

// objectOf makes an object of a message, which may be of another type with the
// same name, and shares nothing with it.
func objectOf(message proto.Message) (object, error) {
	o, err := newObject(message.ProtoReflect().Descriptor().FullName())
	if err != nil {
		return object{}, err
	}
	text, err := proto.Marshal(message)
	if err == nil {
		err = proto.Unmarshal(text, o.Interface())
	}
	if err != nil {
		return object{}, fmt.Errorf("read %s: %w", o.Descriptor().FullName(), err)
	}
	return o, nil
}

// field finds a field by its proto name.
func (o object) field(name protoreflect.Name) protoreflect.FieldDescriptor {
	field := o.Descriptor().Fields().ByName(name)
	if field == nil {
		panic(fmt.Sprintf("sandbox: %s has no field %s", o.Descriptor().FullName(), name))
	}
	return field
}

func (o object) text(name protoreflect.Name) string { return o.Get(o.field(name)).String() }
func (o object) bool(name protoreflect.Name) bool   { return o.Get(o.field(name)).Bool() }
func (o object) has(name protoreflect.Name) bool    { return o.Has(o.field(name)) }

// texts are the elements of a list of strings.
func (o object) texts(name protoreflect.Name) []string {
	list := o.Get(o.field(name)).List()
	texts := make([]string, list.Len())
	for i := range texts {
		texts[i] = list.Get(i).String()
	}
	return texts
}

// within is the message of a field, which is empty and read-only if it is not set.
func (o object) within(name protoreflect.Name) object { return object{o.Get(o.field(name)).Message()} }

// mutable is the message of a field, which is set if it was not.
func (o object) mutable(name protoreflect.Name) object {
	return object{o.Mutable(o.field(name)).Message()}
}

// set sets a field to a text, a bool, an object, or a time; an enum goes by
// the name of its value.
func (o object) set(name protoreflect.Name, value any) {
	field := o.field(name)
	switch value := value.(type) {
	case object:
		o.Set(field, protoreflect.ValueOfMessage(value.Message))
	case time.Time:
		at := o.mutable(name)
		at.Set(at.field("seconds"), protoreflect.ValueOfInt64(value.Unix()))
		at.Set(at.field("nanos"), protoreflect.ValueOfInt32(int32(value.Nanosecond())))
	case string:
		if enum := field.Enum(); enum != nil {
			if named := enum.Values().ByName(protoreflect.Name(value)); named != nil {
				o.Set(field, protoreflect.ValueOfEnum(named.Number()))
			}
			return
		}
		o.Set(field, protoreflect.ValueOfString(value))
	default:
		o.Set(field, protoreflect.ValueOf(value))
	}
}

// add appends an object to a list.
func (o object) add(name protoreflect.Name, element object) {
	o.Mutable(o.field(name)).List().Append(protoreflect.ValueOfMessage(element.Message))
}

// clear takes a field away.
func (o object) clear(name protoreflect.Name) { o.Clear(o.field(name)) }

// clone is a copy that shares nothing with o.
func (o object) clone() object { return object{proto.Clone(o.Interface()).ProtoReflect()} }

// take sets those of o's fields that from has under the same name and of the
// same type: as far as a message goes, it is shared.
func (o object) take(from object) {
	from.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		own := o.Descriptor().Fields().ByName(field.Name())
		if own == nil || own.Kind() != field.Kind() || own.IsList() != field.IsList() || own.IsMap() != field.IsMap() {
			return true
		}
		switch {
		case field.IsMap():
			entries := o.Mutable(own).Map()
			value.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				entries.Set(key, value)
				return true
			})
		case field.IsList():
			for i := range value.List().Len() {
				o.Mutable(own).List().Append(value.List().Get(i))
			}
		case field.Enum() != nil:
			if named := field.Enum().Values().ByNumber(value.Enum()); named != nil {
				o.set(own.Name(), string(named.Name()))
			}
		default:
			o.Set(own, value)
		}
		return true
	})
}

// update sets in o the fields that the paths of a mask name, as they are in
// changed; with no mask those that changed has (AIP-134). Fixed fields, which
// are not the caller's to set, stay (AIP-203). A path that is no field's name
// is INVALID_ARGUMENT, and then nothing has changed.
func (o object) update(changed, mask object, fixed []protoreflect.Name) error {
	fields := o.Descriptor().Fields()
	var named []protoreflect.FieldDescriptor
	for _, path := range mask.texts("paths") {
		field := fields.ByName(protoreflect.Name(path))
		if field == nil {
			return refused(code.Code_INVALID_ARGUMENT, "update_mask: %q is no field of %s", path, o.Descriptor().Name())
		}
		named = append(named, field)
	}
	for i := 0; i < fields.Len() && len(mask.texts("paths")) == 0; i++ {
		if changed.Has(fields.Get(i)) {
			named = append(named, fields.Get(i))
		}
	}
	for _, field := range named {
		switch {
		case slices.Contains(fixed, field.Name()):
		case changed.Has(field):
			o.Set(field, changed.Get(field))
		default:
			o.Clear(field)
		}
	}
	return nil
}
