// Package transcode turns a caller's bytes into a message, a message into
// C1's HTTP request, and C1's JSON back into a message and a caller's bytes.
//
// What a caller sends is read strictly in JSON, where an unknown field is a
// mistake, and by protobuf's own rule in binary, where it may be a newer
// client's: it is dropped, and the drop is counted. What C1 answers is read
// leniently: C1 adds fields at any time, and none of that may fail a call.
package transcode

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
)

// maxDepth bounds how deeply messages may nest, in JSON and in binary.
const maxDepth = 100

var (
	strictJSON  = protojson.UnmarshalOptions{RecursionLimit: maxDepth}
	lenientJSON = protojson.UnmarshalOptions{RecursionLimit: maxDepth, DiscardUnknown: true}
	binary      = proto.UnmarshalOptions{RecursionLimit: maxDepth}
)

// A Codec is how a caller's messages are written.
type Codec string

// The codecs, by the names that Connect and gRPC use in content types.
const (
	JSON   Codec = "json"
	Binary Codec = "proto"
)

// Decode reads a caller's request. unknown counts the fields of a binary
// request that the message does not have and that are dropped; in JSON such a
// field is an error. The error is a *fault.Fault, BadRequest, in words about
// the caller's own data. data is not kept.
func Decode(codec Codec, data []byte, input protoreflect.MessageType) (message proto.Message, unknown int, err error) {
	message = input.New().Interface()
	if codec == JSON {
		if len(data) == 0 {
			err = errors.New("the body is empty: send at least {}")
		} else {
			err = strictJSON.Unmarshal(data, message)
		}
	} else if err = binary.Unmarshal(data, message); err == nil {
		unknown = dropUnknown(message.ProtoReflect())
	}
	if err != nil {
		return nil, 0, fault.New(connect.CodeInvalidArgument, fault.BadRequest,
			"the request does not read as %s: %s", input.Descriptor().FullName(), words(err)).Because(err)
	}
	return message, unknown, nil
}

// Encode writes a response for a caller. The result is the caller's to keep.
func Encode(codec Codec, message proto.Message) ([]byte, error) {
	var data []byte
	var err error
	if codec == JSON {
		data, err = protojson.Marshal(message)
	} else {
		data, err = proto.Marshal(message)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", message.ProtoReflect().Descriptor().FullName(), err)
	}
	return data, nil
}

// A Target is what a message becomes on C1's side.
type Target struct {
	// Path is percent-encoded and begins with a slash.
	Path string
	// Query is encoded, without a question mark; "" for none.
	Query string
	// Body is JSON; nil for a method without one.
	Body []byte
	// Values are the path values in clear, for the record.
	Values []route.Value
}

// Request builds the HTTP request of a message. The error is a *fault.Fault
// that names the field; even then the target holds the path values as far as
// they were read.
func Request(r *route.Route, message proto.Message) (Target, error) {
	var t Target
	var err error
	if t.Path, t.Values, err = r.Expand(message.ProtoReflect()); err != nil {
		return t, err
	}
	rest := unbound(r, message)
	if r.HasBody {
		t.Body, err = body(rest)
	} else {
		t.Query, err = query(rest)
	}
	return t, err
}

// unbound returns the part of the message that the path does not hold, or nil
// if that is empty. The result shares its values with message.
func unbound(r *route.Route, message proto.Message) proto.Message {
	var rest protoreflect.Message
	source := message.ProtoReflect()
	fields := source.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !source.Has(field) || r.Binds(field) {
			continue
		}
		if rest == nil {
			rest = r.Input.New()
		}
		rest.Set(field, source.Get(field))
	}
	if rest == nil {
		return nil
	}
	return rest.Interface()
}

func body(rest proto.Message) ([]byte, error) {
	if rest == nil {
		return []byte("{}"), nil
	}
	data, err := protojson.Marshal(rest)
	if err != nil {
		return nil, fault.New(connect.CodeInvalidArgument, fault.BadRequest,
			"the request cannot be written as C1's JSON: %s", words(err)).Because(err)
	}
	return data, nil
}

// query writes singular and repeated scalar fields as name=value, by proto
// name, as C1's document has them.
func query(rest proto.Message) (string, error) {
	if rest == nil {
		return "", nil
	}
	values := make(url.Values)
	var failed error
	rest.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Message() != nil || field.IsMap() {
			failed = fault.New(connect.CodeUnimplemented, fault.BadRequest,
				"%s cannot travel in a query", field.Name()).With("field", string(field.Name()))
			return false
		}
		if !field.IsList() {
			values.Set(string(field.Name()), scalar(field, value))
			return true
		}
		for i := range value.List().Len() {
			values.Add(string(field.Name()), scalar(field, value.List().Get(i)))
		}
		return true
	})
	return values.Encode(), failed
}

// scalar writes a query value as protobuf JSON would, without quotes.
func scalar(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	if field.Kind() == protoreflect.EnumKind {
		if named := field.Enum().Values().ByNumber(value.Enum()); named != nil {
			return string(named.Name())
		}
		return fmt.Sprint(value.Enum())
	}
	return value.String()
}

// Answer reads C1's JSON answer. Unknown fields and enum values are dropped.
// An error says, in words of our own, why the answer is none.
func Answer(data []byte, output protoreflect.MessageType) (proto.Message, error) {
	message := output.New().Interface()
	if bytes.Equal(data, []byte("{}")) {
		return message, nil
	}
	if err := lenientJSON.Unmarshal(data, message); err != nil {
		return nil, fmt.Errorf("read C1's answer as %s: %w", output.Descriptor().FullName(), err)
	}
	return message, nil
}

// dropUnknown removes and counts the unknown fields of a message and of the
// messages in it.
func dropUnknown(m protoreflect.Message) int {
	count := 0
	for rest := m.GetUnknown(); len(rest) > 0; count++ {
		_, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			break // not reached: Unmarshal has checked the wire format
		}
		rest = rest[n:]
	}
	if count > 0 {
		m.SetUnknown(nil)
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					count += dropUnknown(v.Message())
					return true
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				count += dropUnknown(value.List().Get(i).Message())
			}
		default:
			count += dropUnknown(value.Message())
		}
		return true
	})
	return count
}

// words returns protobuf's own words for a mistake, without its prefix, whose
// white space varies from build to build on purpose.
func words(err error) string {
	text := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
	return strings.ReplaceAll(text, "\u00a0", " ")
}
