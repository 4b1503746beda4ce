package transcode

import (
	"net/url"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/route"
)

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
	data, err := write(rest, false)
	if err != nil {
		return nil, refuse("the request cannot be written as C1's JSON: ", err)
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
	m := rest.ProtoReflect()
	for _, f := range planOf(m.Descriptor()).fields {
		name := string(f.descriptor.Name())
		switch {
		case !m.Has(f.descriptor):
		case f.shape != scalar || f.entry != nil:
			return "", fault.New(connect.CodeUnimplemented, fault.BadRequest,
				"%s cannot travel in a query", name).With("field", name)
		case f.list:
			list := m.Get(f.descriptor).List()
			for i := range list.Len() {
				values.Add(name, parameter(f, list.Get(i)))
			}
		default:
			values.Set(name, parameter(f, m.Get(f.descriptor)))
		}
	}
	return values.Encode(), nil
}

// parameter writes a query value as protobuf JSON would, without quotes.
func parameter(f *field, value protoreflect.Value) string {
	if f.kind == protoreflect.StringKind {
		return value.String()
	}
	var w writer
	_ = w.single(f, value) // only text can fail
	return strings.Trim(string(w.out), `"`)
}
