package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/google/go-cmp/cmp"
	_ "google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/api/visibility"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	_ "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"
)

// TestVendoredProtos holds the protos of others that stand in proto/ equal,
// options included, to those that the Go modules of the same names link in:
// our code is generated from the former and runs with the latter.
func TestVendoredProtos(t *testing.T) {
	text, err := os.ReadFile("testdata/vendored.binpb")
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, ours := range set.GetFile() {
		names = append(names, ours.GetName())
		linked, err := protoregistry.GlobalFiles.FindFileByPath(ours.GetName())
		if err != nil {
			t.Errorf("find %s: %v", ours.GetName(), err)
			continue
		}
		if diff := cmp.Diff(protodesc.ToFileDescriptorProto(linked), ours, protocmp.Transform()); diff != "" {
			t.Errorf("%s: - linked, + ours\n%s", ours.GetName(), diff)
		}
	}
	slices.Sort(names)
	want := []string{"buf/validate/validate.proto", "google/api/annotations.proto", "google/api/http.proto",
		"google/api/visibility.proto", "google/rpc/error_details.proto", "google/rpc/status.proto"}
	if !slices.Equal(names, want) {
		t.Errorf("vendored protos are %q, want %q", names, want)
	}
}

func TestGeneratedFilesAreCompared(t *testing.T) {
	write := func(root string, files map[string]string) {
		for name, text := range files {
			file := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	want, have := t.TempDir(), t.TempDir()
	write(want, map[string]string{"gen/same": "1", "gen/new/file": "2", "gen/other": "3", "one": "4"})
	write(have, map[string]string{"gen/same": "1", "gen/other": "2", "gen/old/file": "5", "mine": "6"})

	changes, err := compare(want, have, []string{"gen", "one"})
	if err != nil {
		t.Fatal(err)
	}
	expected := []change{{"missing", "gen/new/file"}, {"stale", "gen/old/file"}, {"differs", "gen/other"}, {"missing", "one"}}
	if !slices.Equal(changes, expected) {
		t.Fatalf("changes %v\nwant    %v", changes, expected)
	}

	t.Chdir(have)
	if err := apply(want, changes); err != nil {
		t.Fatal(err)
	}
	if changes, err := compare(want, have, []string{"gen", "one"}); err != nil || len(changes) > 0 {
		t.Errorf("after writing: changes %v, error %v", changes, err)
	}
	if _, err := os.Stat("gen/old"); !os.IsNotExist(err) {
		t.Errorf("the folder of the stale file: %v, want none", err)
	}
	if _, err := os.Stat("mine"); err != nil {
		t.Errorf("a file that is not generated: %v", err)
	}
}
