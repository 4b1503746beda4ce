package c1proxy_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// withKey adds a key to every request, as grpcurl's -H does.
type withKey struct {
	key  string
	next http.RoundTripper
}

func (w withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+w.key)
	return w.next.RoundTrip(r)
}

// Reflection serves every service and every method, with all that their files
// import, as grpcurl's list and describe ask for it.
func TestReflection(t *testing.T) {
	g := start(t)
	client := g.httpClient(false)
	client.Transport = withKey{g.keys["reader"], client.Transport}
	stream := grpcreflect.NewClient(client, g.url).NewStream(t.Context())
	defer stream.Close()
	services, err := stream.ListServices()
	if err != nil {
		t.Fatal(err)
	}
	methods := make(map[protoreflect.FullName]bool)
	files := make(map[string]*descriptorpb.FileDescriptorProto)
	mirrored := 0
	for _, service := range services {
		if !strings.HasPrefix(string(service), "c1.") {
			continue
		}
		mirrored++
		list, err := stream.FileContainingSymbol(service)
		if err != nil {
			t.Fatalf("%s: %v", service, err)
		}
		for _, file := range list {
			addFile(t, stream, files, file)
			for _, s := range file.GetService() {
				for _, m := range s.GetMethod() {
					methods[protoreflect.FullName(file.GetPackage()+"."+s.GetName()+"/"+m.GetName())] = true
				}
			}
		}
	}
	var set descriptorpb.FileDescriptorSet
	for _, file := range files {
		set.File = append(set.File, file)
	}
	if _, err := protodesc.NewFiles(&set); err != nil {
		t.Errorf("the files do not make a whole: %v", err)
	}
	t.Logf("%d services, %d methods, %d files", mirrored, len(methods), len(files))
	if mirrored != 133 || len(methods) != len(operations(t)) {
		t.Errorf("%d services and %d methods, want 133 and %d", mirrored, len(methods), len(operations(t)))
	}
}

// addFile adds a file, and those that it imports.
func addFile(t *testing.T, stream *grpcreflect.ClientStream, files map[string]*descriptorpb.FileDescriptorProto, file *descriptorpb.FileDescriptorProto) {
	t.Helper()
	if files[file.GetName()] != nil {
		return
	}
	files[file.GetName()] = file
	for _, path := range file.GetDependency() {
		if files[path] != nil {
			continue
		}
		list, err := stream.FileByFilename(path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, other := range list {
			addFile(t, stream, files, other)
		}
	}
}

// A stream outlives the deadlines that one message has.
func TestReflectionLives(t *testing.T) {
	t.Parallel()
	g := start(t)
	client := g.httpClient(false)
	client.Transport = withKey{g.keys["reader"], client.Transport}
	stream := grpcreflect.NewClient(client, g.url).NewStream(t.Context())
	defer stream.Close()
	for _, wait := range []time.Duration{0, 11 * time.Second} { // the body of a message has 10 s
		<-time.After(wait)
		if _, err := stream.ListServices(); err != nil {
			t.Fatalf("after %v: %v", wait, err)
		}
	}
}
