package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/route"
)

// shelves has a package inside another, whose name sorts between those of its
// services, and a method of each kind.
const shelves = `
file {
  name: "c1/t.proto" package: "c1.t" syntax: "proto3" dependency: "google/api/annotations.proto" dependency: "google/api/visibility.proto"
  dependency: "google/protobuf/empty.proto"
  message_type { name: "R" field { name: "shelf_id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } }
  service { name: "Shelves"
    method { name: "Put" input_type: ".c1.t.R" output_type: ".c1.t.R" options {
      [google.api.http] { put: "/t/shelves/{shelf_id}" body: "*" } [google.api.method_visibility] { restriction: "DRAFT" } } }
    method { name: "Look" input_type: ".c1.t.R" output_type: ".google.protobuf.Empty" options {
      idempotency_level: NO_SIDE_EFFECTS [google.api.http] { get: "/t/shelves/{shelf_id}/look" } } } }
  service { name: "Attics" options { deprecated: true }
    method { name: "Search" input_type: ".c1.t.R" output_type: ".c1.t.R" options {
      idempotency_level: NO_SIDE_EFFECTS [google.api.http] { post: "/t/search" body: "*" } [google.api.method_visibility] { restriction: "BETA" } } } }
}
file {
  name: "c1/u.proto" package: "c1.t.a" syntax: "proto3" dependency: "google/api/annotations.proto" dependency: "google/api/visibility.proto"
  message_type { name: "R" }
  service { name: "Cellars"
    method { name: "Burn" input_type: ".c1.t.a.R" output_type: ".c1.t.a.R" options { deprecated: true
      [google.api.http] { delete: "/t/cellars" body: "*" } [google.api.method_visibility] { restriction: "ALPHA" } } } }
}`

// The list is that of the descriptors that it is made of, whatever the program
// itself embeds.
func TestAPIList(t *testing.T) {
	var set descriptorpb.FileDescriptorSet
	if err := prototext.Unmarshal([]byte(shelves), &set); err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	descriptors, file := filepath.Join(t.TempDir(), "c1.binpb"), filepath.Join(t.TempDir(), "docs", "api.md")
	if err := os.WriteFile(descriptors, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := listAPI(descriptors, file); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(written)
	const tables = `
| package | services | methods | reads | writes |
|---|--:|--:|--:|--:|
| [c1.t](#c1t) | 2 | 3 | 2 | 1 |
| [c1.t.a](#c1ta) | 1 | 1 | 0 | 1 |

## c1.t

| method | verb | path | class | stability | deprecated |
|---|---|---|---|---|---|
| Attics/Search | POST | ` + "`/t/search`" + ` | read | beta | deprecated |
| Shelves/Look | GET | ` + "`/t/shelves/{shelf_id}/look`" + ` | read | stable |  |
| Shelves/Put | PUT | ` + "`/t/shelves/{shelf_id}`" + ` | write | draft |  |

## c1.t.a

| method | verb | path | class | stability | deprecated |
|---|---|---|---|---|---|
| Cellars/Burn | DELETE | ` + "`/t/cellars`" + ` | write | alpha | deprecated |
`
	if !strings.HasSuffix(text, tables) {
		t.Errorf("got\n%s\nwant at its end\n%s", text, tables)
	}
	for _, part := range []string{"serves 4 methods of 3 services in 2 packages", "2 are reads and 2 are writes", "1 are stable, 1 beta,\n1 alpha and 1 draft; 2 are deprecated"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not there:\n%s", part, text)
		}
	}
}

// What cannot be read, and a method that has no path, is an error and no list.
func TestAPIListFails(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	var set descriptorpb.FileDescriptorSet
	if err := prototext.Unmarshal([]byte(shelves), &set); err != nil {
		t.Fatal(err)
	}
	set.File[0].Service[0].Method[0].Options = nil
	data, err := proto.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"good": data, "bad": []byte("\xff")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{good: "c1.t.Shelves/Put", filepath.Join(dir, "bad"): "read descriptors", filepath.Join(dir, "none"): "none"} {
		file := filepath.Join(dir, "api.md")
		if err := listAPI(name, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error that has %q", name, err, want)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s: a list was written", name)
		}
	}
}

// The committed list has the methods that the program serves, and the methods
// and patterns that its head names are good in a rule.
func TestCommittedAPIList(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("../..", apiFile))
	if err != nil {
		t.Fatal(err)
	}
	want, err := apiText(catalog.Files(), "c1.")
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != want {
		t.Fatalf("%s is not that of %s: go run ./internal/dev gen", apiFile, catalogFile)
	}
	routes, err := route.Load(catalog.Files(), messageTypes{dynamicpb.NewTypes(catalog.Files())}, "c1.")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, r := range routes {
		all.WriteString(r.Method() + "\n")
	}
	named := regexp.MustCompile("`(c1\\.[^`]*/[^`]*)`").FindAllStringSubmatch(want, -1)
	if len(named) == 0 {
		t.Fatal("the head names no method")
	}
	for _, match := range named {
		pattern := strings.NewReplacer("**", "[a-z0-9_.]+[.][A-Za-z]+", "*", "[A-Za-z]+", ".", "[.]").Replace(match[1])
		if !regexp.MustCompile("(?m)^" + pattern + "$").MatchString(all.String()) {
			t.Errorf("%s is no method's", match[1])
		}
	}
}
