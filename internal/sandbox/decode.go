package sandbox

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// decode makes the request's message of path, query and body. It is strict:
// what C1's document does not declare is a refusal with INVALID_ARGUMENT, but
// for what C1 itself lets pass in a body: unknown fields, values of enums and
// types of Any. They are in the record.
func decode(types *types, found match, r *http.Request, body []byte) (proto.Message, error) {
	request := types.newMessage(found.route.method.Input())
	if err := readBody(types, found.route, request, r.Header, body); err != nil {
		return nil, err
	}
	if err := readQuery(found.route, request.ProtoReflect(), r.URL.RawQuery); err != nil {
		return nil, err
	}
	message := request.ProtoReflect()
	for i, named := range found.route.fields {
		field := message.Descriptor().Fields().ByName(named.Name())
		value, err := scalar(field, found.values[i])
		if err != nil {
			return nil, refused(code.Code_INVALID_ARGUMENT, "read path: %s: %v", field.Name(), err)
		}
		message.Set(field, value)
	}
	return request, nil
}

// readBody reads JSON into request. No body at all is the same as {}, since
// the document requires none of its bodies. protojson refuses a known field
// that is given twice, also in both spellings, and text that is not UTF-8; what
// it does not know, it leaves out.
func readBody(types *types, route *route, request proto.Message, header http.Header, body []byte) error {
	if len(body) == 0 {
		return nil
	}
	if !route.body {
		return refused(code.Code_INVALID_ARGUMENT, "read body: %s takes none", route.procedure)
	}
	if media, _, err := mime.ParseMediaType(header.Get("Content-Type")); err != nil || media != "application/json" {
		return &refusal{code: code.Code_INVALID_ARGUMENT, status: http.StatusUnsupportedMediaType,
			message: "read body: Content-Type is not application/json"}
	}
	lenient := protojson.UnmarshalOptions{DiscardUnknown: true, Resolver: unheardTypes{types}}
	if err := lenient.Unmarshal(body, request); err != nil {
		return refused(code.Code_INVALID_ARGUMENT, "read body: %s", plain(err))
	}
	if err := checkKeys(route, body); err != nil {
		return refused(code.Code_INVALID_ARGUMENT, "read body: %v", err)
	}
	return nil
}

// checkKeys refuses a key of the outermost object that is there twice, known
// or not, and one that the path binds.
func checkKeys(route *route, body []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	seen := make(map[string]bool)
	for _, err := decoder.Token(); decoder.More(); {
		token, failed := decoder.Token()
		key, _ := token.(string)
		var value json.RawMessage
		if err := cmp.Or(err, failed, decoder.Decode(&value)); err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("key %q is there twice", key)
		}
		seen[key] = true
	}
	for _, field := range route.fields {
		for _, key := range []string{field.JSONName(), string(field.Name())} {
			if seen[key] {
				return fmt.Errorf("field %q is bound by the path", key)
			}
		}
	}
	return nil
}

// plain is the text of a protojson error without the marks that it adds at
// random so that nobody relies on it.
func plain(err error) string {
	return strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: ")
}

// readQuery reads the keys that the document declares: the request's scalars,
// by their proto names, as far as the path does not bind them.
func readQuery(route *route, message protoreflect.Message, raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return refused(code.Code_INVALID_ARGUMENT, "read query: %v", err)
	}
	for key, values := range query {
		field := message.Descriptor().Fields().ByName(protoreflect.Name(key))
		if route.body || field == nil || route.binds(field) || field.Message() != nil {
			return refused(code.Code_INVALID_ARGUMENT, "read query: %s does not declare %q", route.procedure, key)
		}
		if len(values) > 1 && !field.IsList() {
			return refused(code.Code_INVALID_ARGUMENT, "read query: %q is given more than once", key)
		}
		for _, text := range values {
			value, err := scalar(field, text)
			if err != nil {
				return refused(code.Code_INVALID_ARGUMENT, "read query: %s: %v", key, err)
			}
			if field.IsList() {
				message.Mutable(field).List().Append(value)
			} else {
				message.Set(field, value)
			}
		}
	}
	return nil
}

// binds says whether field is part of the path.
func (r *route) binds(field protoreflect.FieldDescriptor) bool {
	for _, bound := range r.fields {
		if bound.Name() == field.Name() {
			return true
		}
	}
	return false
}

// scalar reads a value as it stands in a path or a query. Enums go by name.
func scalar(field protoreflect.FieldDescriptor, text string) (protoreflect.Value, error) {
	switch field.Kind() {
	case protoreflect.StringKind:
		if !utf8.ValidString(text) {
			return protoreflect.Value{}, errors.New("not UTF-8")
		}
		return protoreflect.ValueOfString(text), nil
	case protoreflect.BoolKind:
		value, err := strconv.ParseBool(text)
		return protoreflect.ValueOfBool(value), err
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		value, err := strconv.ParseInt(text, 10, 32)
		return protoreflect.ValueOfInt32(int32(value)), err
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		value, err := strconv.ParseInt(text, 10, 64)
		return protoreflect.ValueOfInt64(value), err
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		value, err := strconv.ParseUint(text, 10, 32)
		return protoreflect.ValueOfUint32(uint32(value)), err
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		value, err := strconv.ParseUint(text, 10, 64)
		return protoreflect.ValueOfUint64(value), err
	case protoreflect.EnumKind:
		if value := field.Enum().Values().ByName(protoreflect.Name(text)); value != nil {
			return protoreflect.ValueOfEnum(value.Number()), nil
		}
		return protoreflect.Value{}, fmt.Errorf("%q is no value of %s", text, field.Enum().FullName())
	}
	return protoreflect.Value{}, fmt.Errorf("a %s is not read from text", field.Kind())
}
