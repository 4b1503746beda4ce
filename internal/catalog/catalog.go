// Package catalog holds C1's API as descriptors: every file of proto/c1, embedded
// in the program and read at its first use.
//
// The server builds its handlers from these, and its messages are dynamic ones:
// the generated types, which callers use, would be a fifth of the program.
package catalog

import (
	_ "embed"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	// The options of the methods, and what the files import.
	_ "google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/api/visibility"
	_ "google.golang.org/genproto/googleapis/rpc/status"
	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
)

// descriptors is what Parse reads, without the files of others.
//
//go:embed c1.binpb
var descriptors []byte

// load reads what is embedded. An error means that the program was built wrong,
// which every test would show.
var load = sync.OnceValue(func() *protoregistry.Files {
	files, err := Parse(descriptors)
	if err != nil {
		panic("catalog: " + err.Error())
	}
	return files
})

// Parse reads a google.protobuf.FileDescriptorSet in which each file comes after
// those that it imports, and may leave out those that are linked into the
// program.
func Parse(descriptors []byte) (*protoregistry.Files, error) {
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(descriptors, &set); err != nil {
		return nil, fmt.Errorf("read descriptors: %w", err)
	}
	files := new(protoregistry.Files)
	for _, file := range set.GetFile() {
		made, err := protodesc.NewFile(file, Resolver{files})
		if err == nil {
			err = files.RegisterFile(made)
		}
		if err != nil {
			return nil, fmt.Errorf("read descriptors of %s: %w", file.GetName(), err)
		}
	}
	return files, nil
}

// Files returns the files of the mirror. They are shared and must not be added
// to.
func Files() *protoregistry.Files { return load() }

// A Resolver finds files and descriptors in some files, and then among those
// that are linked into the program. It is a [protodesc.Resolver].
type Resolver struct{ Files *protoregistry.Files }

// FindFileByPath finds a file; the error is [protoregistry.NotFound].
func (r Resolver) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if file, err := r.Files.FindFileByPath(path); err == nil {
		return file, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

// FindDescriptorByName finds a descriptor; the error is [protoregistry.NotFound].
func (r Resolver) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if descriptor, err := r.Files.FindDescriptorByName(name); err == nil {
		return descriptor, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

// Types finds the types of messages: dynamic ones of the mirror's, and then those
// that are linked into the program. It is what protojson calls a Resolver. The
// zero Types is ready to use.
type Types struct{}

var types = sync.OnceValue(func() *dynamicpb.Types { return dynamicpb.NewTypes(load()) })

// FindMessageByName finds a message; the error is [protoregistry.NotFound].
func (Types) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	if found, err := types().FindMessageByName(name); err == nil {
		return found, nil
	}
	return protoregistry.GlobalTypes.FindMessageByName(name)
}

// FindMessageByURL finds the message of an Any; the error is
// [protoregistry.NotFound].
func (Types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if found, err := types().FindMessageByURL(url); err == nil {
		return found, nil
	}
	return protoregistry.GlobalTypes.FindMessageByURL(url)
}

// FindExtensionByName finds an extension; the mirror has none.
func (Types) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return protoregistry.GlobalTypes.FindExtensionByName(name)
}

// FindExtensionByNumber finds an extension; the mirror has none.
func (Types) FindExtensionByNumber(message protoreflect.FullName, field protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return protoregistry.GlobalTypes.FindExtensionByNumber(message, field)
}
