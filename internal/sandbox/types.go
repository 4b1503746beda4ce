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

// types are those of Config, and dynamic ones for what these lack.
type types struct {
	Resolver
	dynamic *dynamicpb.Types
}

// newTypes joins a resolver and files.
func newTypes(given Resolver, files *protoregistry.Files) *types {
	return &types{Resolver: given, dynamic: dynamicpb.NewTypes(files)}
}

// newMessage is of the type that was given, or else a dynamic one.
func (t *types) newMessage(descriptor protoreflect.MessageDescriptor) proto.Message {
	if found, err := t.Resolver.FindMessageByName(descriptor.FullName()); err == nil {
		return found.New().Interface()
	}
	return dynamicpb.NewMessage(descriptor)
}

// FindMessageByName finds what New was given, and makes what files describe.
func (t *types) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	if found, err := t.Resolver.FindMessageByName(name); err == nil {
		return found, nil
	}
	return t.dynamic.FindMessageByName(name)
}

// FindMessageByURL goes by what follows the last slash.
func (t *types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return t.FindMessageByName(protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:]))
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
