package sandbox

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// A Resolver finds types of messages and extensions by name; errors are
// protoregistry.NotFound. *protoregistry.Types and *dynamicpb.Types are such.
type Resolver interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

// types are those of Config, then dynamic ones, then those that are linked.
type types struct {
	all []Resolver
}

// newTypes joins a resolver, which may be nil, and files.
func newTypes(given Resolver, files *protoregistry.Files) *types {
	all := []Resolver{dynamicpb.NewTypes(files), protoregistry.GlobalTypes}
	if given != nil {
		all = append([]Resolver{given}, all...)
	}
	return &types{all}
}

// newMessage is of the first type there is, or a dynamic one.
func (t *types) newMessage(descriptor protoreflect.MessageDescriptor) proto.Message {
	if found, err := t.FindMessageByName(descriptor.FullName()); err == nil {
		return found.New().Interface()
	}
	return dynamicpb.NewMessage(descriptor)
}

// first asks one after the other.
func first[T any](t *types, find func(Resolver) (T, error)) (found T, err error) {
	for _, one := range t.all {
		if found, err = find(one); err == nil {
			return found, nil
		}
	}
	return found, protoregistry.NotFound
}

// FindMessageByName finds a message.
func (t *types) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	return first(t, func(r Resolver) (protoreflect.MessageType, error) { return r.FindMessageByName(name) })
}

// FindMessageByURL finds the message of an Any: what follows the last slash.
func (t *types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return first(t, func(r Resolver) (protoreflect.MessageType, error) { return r.FindMessageByURL(url) })
}

// FindExtensionByName finds an extension; C1 has none.
func (t *types) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return first(t, func(r Resolver) (protoreflect.ExtensionType, error) { return r.FindExtensionByName(name) })
}

// FindExtensionByNumber finds an extension; C1 has none.
func (t *types) FindExtensionByNumber(message protoreflect.FullName, field protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return first(t, func(r Resolver) (protoreflect.ExtensionType, error) { return r.FindExtensionByNumber(message, field) })
}

// unheardTypes takes every @type for known, as the C1 of tomorrow may: to one
// that is not it gives a type without fields.
type unheardTypes struct{ *types }

// FindMessageByURL refuses only what is no name.
func (t unheardTypes) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if found, err := t.types.FindMessageByURL(url); err == nil {
		return found, nil
	}
	name := protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:])
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("unheard.proto"), Package: proto.String(string(name.Parent())), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String(string(name.Name()))}},
	}, nil)
	if err != nil {
		return nil, protoregistry.NotFound
	}
	return dynamicpb.NewMessageType(file.Messages().Get(0)), nil
}
