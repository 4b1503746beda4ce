// Package transcode turns a caller's bytes into a message, a message into
// C1's HTTP request, and C1's JSON back into a message and a caller's bytes.
// Nothing is lost on the way without being refused or counted.
//
// What a caller sends is read strictly in JSON, where an unknown field is a
// mistake, and by protobuf's own rule in binary, where it may be a newer
// client's: it is dropped, and the drop is counted. What C1 answers is read
// leniently: C1 adds fields, enum values and types at any time, and none of
// that may fail a call. What is forwarded as it came is read as C1 may read
// it, and refused where two readers could differ.
//
// JSON is protobuf's own mapping, as protojson has it, with one addition: a
// google.protobuf.Any may stand for any JSON object. One whose @type nobody
// knows, or that has none, becomes an Any that holds it as a Struct, under
// ObjectURL, and goes to C1 as that object again. A caller sees that Struct, in
// binary and in JSON, where a protobuf library would stumble over the object,
// and can send back what it got, or the object. A binary client that has an object of its own to send may pack a Struct
// with a string @type under any type URL. @type in a Struct field is the
// user's own data and means nothing.
//
// Numbers in a Struct are doubles: an integer above 2^53 loses its last
// digits there, also in an object that an Any holds. A body that is forwarded
// as it came keeps them, since only c1proxy's own copy has lost them.
//
// The path of a field, in errors and counts, has proto names:
// list[3].connector.created_at. No error quotes a value. Extensions, which C1
// does not use, are fields that are not known.
package transcode

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
)

const (
	// maxDepth bounds how deeply objects and arrays may nest in JSON, read or
	// written.
	maxDepth = 100
	// maxMessages bounds how deeply messages may nest in binary, those in an Any
	// included. It is larger since where JSON has one bracket a Struct or an Any
	// has two messages: what was read from JSON can be read from binary.
	maxMessages = 3 * maxDepth
)

// A Codec is how a caller's messages are written.
type Codec string

// The codecs, by the names that Connect and gRPC use in content types.
const (
	JSON   Codec = "json"
	Binary Codec = "proto"
)

// Decode reads a caller's request. What the message has no place for is an
// error in JSON; in a binary request, also in the messages that an Any holds,
// it is dropped and counted. The error is a *fault.Fault, BadRequest, that
// names the field, in words about the caller's own data. data is not kept.
func Decode(codec Codec, data []byte, input protoreflect.MessageType) (proto.Message, Strays, error) {
	message := input.New().Interface()
	prefix := fmt.Sprintf("the request does not read as %s: ", input.Descriptor().FullName())
	if codec == JSON {
		if len(data) == 0 {
			return nil, Strays{}, refuse(prefix, errEmpty)
		}
		r := reader{scanner: scanner{data: data, bounded: true, left: maxValues}, manner: strict}
		if err := r.read(message); err != nil {
			return nil, Strays{}, refuse(prefix, err)
		}
		return message, r.strays, nil
	}
	s := settler{left: maxValues}
	if s.left = weigh(data, input.Descriptor(), s.left, 0); s.left < 0 {
		return nil, Strays{}, refuse(prefix, &mistake{why: errCrowded})
	}
	if err := parse(data, message); err != nil {
		return nil, Strays{}, refuse(prefix, err)
	}
	if err := s.message(message.ProtoReflect()); err != nil {
		return nil, Strays{}, refuse(prefix, err)
	}
	return message, s.strays, nil
}

// parse reads a message from binary. A panic is a mistake like any other: of a
// message without generated code, protobuf-go v1.36.12 panics at a map entry
// with two keys, the second of which has another wire type.
func parse(data []byte, m proto.Message) (err error) {
	defer func() {
		if recover() != nil {
			err = errMapKey
		}
	}()
	return proto.UnmarshalOptions{RecursionLimit: maxMessages}.Unmarshal(data, m)
}

var errMapKey = &mistake{why: "a map's entry cannot be parsed"}

var errEmpty = &mistake{why: "the body is empty: send at least {}"}

// refuse is the fault of a caller's mistake.
func refuse(prefix string, err error) error {
	f := fault.New(connect.CodeInvalidArgument, fault.BadRequest, "%s%s", prefix, words(err))
	var m *mistake
	if !errors.As(err, &m) {
		return f.Because(err)
	}
	if m.where != "" {
		f.With("field", m.where)
	}
	return f
}

// Encode writes a response for a caller. The result is the caller's to keep.
func Encode(codec Codec, message proto.Message) ([]byte, error) {
	var data []byte
	var err error
	if codec == JSON {
		data, err = write(message, true)
	} else {
		data, err = proto.Marshal(message)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", message.ProtoReflect().Descriptor().FullName(), err)
	}
	return data, nil
}

// Answer reads C1's JSON answer. What the message has no place for is dropped
// and counted. An error says, in words of our own, why the answer is none, and
// names the field; it quotes nothing else of the answer.
func Answer(data []byte, output protoreflect.MessageType) (proto.Message, Strays, error) {
	message := output.New().Interface()
	if bytes.Equal(data, []byte("{}")) {
		return message, Strays{}, nil
	}
	r := reader{scanner: scanner{data: data}, manner: lenient}
	if err := r.read(message); err != nil {
		return nil, Strays{}, fmt.Errorf("read C1's answer as %s: %w", output.Descriptor().FullName(), err)
	}
	return message, r.strays, nil
}

// Body reads a caller's JSON body that will be forwarded to C1 as it is into
// the message, so that what is decided on the message holds for what C1 reads.
// Unknown fields and enum values pass, and are counted. The path's own fields
// are left as they are.
//
// The error is a *fault.Fault, BadRequest, that names the field. Refused is
// what is not one JSON object, and what C1 could read in another way: a key
// that comes twice in any object, both spellings of one field, a field that
// the path binds, a value of the wrong type, a null element, two fields of a
// oneof, text that is not UTF-8, more than 100 objects and arrays in one
// another.
func Body(r *route.Route, data []byte, message proto.Message) (Strays, error) {
	const prefix = "the body cannot be read: "
	if len(data) == 0 {
		return Strays{}, refuse(prefix, errEmpty)
	}
	in := reader{scanner: scanner{data: data, bounded: true, left: maxValues}, manner: forwarded, bound: r.Binds}
	if in.peek() != '{' {
		return Strays{}, refuse(prefix, &mistake{why: "it is not a JSON object"})
	}
	if err := in.read(message); err != nil {
		return Strays{}, refuse(prefix, err)
	}
	return in.strays, nil
}

// words returns protobuf's own words for a mistake, without its prefix, whose
// white space varies from build to build on purpose.
func words(err error) string {
	text := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
	return strings.ReplaceAll(text, "\u00a0", " ")
}
