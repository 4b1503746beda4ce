package mirror_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/mirror"
)

const pages = "                pages:\n                    format: int32\n                    type: integer\n"

// property returns the edit that puts another property in the place of pages.
func property(text string) (string, string) {
	return pages, "                pages:\n                    " + strings.ReplaceAll(text, "\n", "\n                    ") + "\n"
}

// Whatever is not understood fails, at its line, and says what it is.
func TestRefuses(t *testing.T) {
	type edit struct{ name, old, new, want string }
	var edits []edit
	for text, want := range map[string]string{
		"type: integer": `integer of format ""`, "type: string\nformat: email": `format "email"`, "type: integer\nformat: int16": `format "int16"`,
		"type: string\nminLength: 3": `key "minLength"`,
		"allOf: []":                  `key "allOf"`,
		"description: x":             "has no type",
		"type: [string, integer]":    "has the types",
		"$ref: '#/components/schemas/c1.lib.book.v1.Gone'":               "the document does not have",
		"$ref: 'other.yaml#/x'":                                          "refers to",
		"oneOf:\n  - type: string\n  - type: integer\n    format: int32": "oneOf something other",
		"oneOf:\n  - $ref: '#/components/schemas/c1.lib.book.v1.Book'":   "oneOf something other",
		"type: object\nproperties:\n  a:\n    type: string":              "an object of its own",
		"type: array": `array of format ""`,
		"type: array\nitems:\n  type: array\n  items:\n    type: string":                                 "no lists of",
		"type: object\nadditionalProperties:\n  type: object\n  additionalProperties:\n    type: string": "no maps of",
		"type: string\nenum: [red]":               `"red"`,
		"type: string\nenum: [RED, RED]":          `"RED"`,
		"type: string\nenum: []":                  "no values",
		"type: string\ntype: string":              `"type" twice`,
		"type: integer\nformat: int32\nenum: [A]": "not understood",
	} {
		old, now := property(text)
		edits = append(edits, edit{text, old, now, want})
	}
	const search = "            operationId: c1.lib.shelf.v1.Shelves.Search\n"
	edits = append(edits,
		edit{"version", "openapi: 3.1.0", "openapi: 3.0.3", "OpenAPI 3.1"},
		edit{"schema name", "c1.lib.hooks.v1.Unreached", "c1.lib.hooks.v1.unreached", "not named package.Message"},
		edit{"oneof in other words", "This message contains a oneof named lonely. Only a single", "This message contains a oneof named lonely. Just a single", "words that are not understood"},
		edit{"oneof of nothing", "                  - only\n", "                  - nobody\n", "nobody, which is no property"},
		edit{"operation twice", "Shelves.Search\n", "Shelves.Ensure\n", "twice"},
		edit{"operation id", "operationId: c1.lib.shelf.v1.Shelves.Search", "operationId: search", "no operationId"},
		edit{"verb", "        delete:\n", "        options:\n", `verb "options"`},
		edit{"custom key", search, search + "            callbacks: {}\n", `key "callbacks"`},
		edit{"stability", "x-stability-level: draft", "x-stability-level: odd", `stability "odd"`},
		edit{"parameter order", "    /api/v1/libraries/{library_id}/shelves/{number}:", "    /api/v1/numbers/{number}/{library_id}:", "path parameters"},
		edit{"parameter place", "- in: query\n                  name: page_size", "- in: header\n                  name: page_size", `"header"`},
		edit{"parameter name", "name: page_size", "name: pageSize", "cannot name a field"},
		edit{"shared body", "c1.lib.shelf.v1.KeptInput'", "c1.lib.shelf.v1.SearchRequest'", "has the body of"},
		edit{"merge that does not fit", "        c1.lib.shelf.v1.ShelfInput:\n            type: object\n            properties:\n", "        c1.lib.shelf.v1.ShelfInput:\n            type: object\n            properties:\n                more:\n                    type: string\n", "should be a part of"},
		edit{"values of two enums", "                        - LIGHT\n", "                        - COLOR_RED\n", "both have the value COLOR_RED"},
		edit{"cycle", "                const:\n                    type: boolean\n", "                const:\n                    $ref: '#/components/schemas/c1.lib.book.v1.Book'\n", "c1.lib.book.v1 needs c1.validate.v1 needs c1.lib.book.v1: an import cycle"},
		edit{"two names for one field", "                weight:\n                    type: number\n", "                weight:\n                    type: number\n                Weight:\n                    type: number\n", "field weight twice"},
		edit{"a get with a body", "            operationId: c1.lib.shelf.v1.Shelves.Get\n", "            operationId: c1.lib.shelf.v1.Shelves.Get\n            requestBody:\n                content:\n                    application/json:\n                        schema:\n                            $ref: '#/components/schemas/c1.lib.hooks.v1.Unreached'\n", "GET with a body"},
		edit{"another answer", "                \"200\":\n                    content:\n                        application/json:\n                            schema:\n                                $ref: '#/components/schemas/c1.lib.shelf.v1.Frame.Corner'\n", "                \"204\": {}\n", `key "204"`},
	)
	for _, e := range edits {
		document := strings.Replace(fixture(t), e.old, e.new, 1)
		if document == fixture(t) {
			t.Errorf("%s: the fixture does not have what is to change", e.name)
			continue
		}
		_, err := mirror.Generate(config, "fixture.yaml", []byte(document), nil)
		switch {
		case err == nil:
			t.Errorf("%s: it was accepted", e.name)
		case !strings.Contains(err.Error(), e.want):
			t.Errorf("%s: got %q, want %q in it", e.name, err, e.want)
		case e.name != "cycle" && !strings.Contains(err.Error(), "fixture.yaml:") && !strings.Contains(err.Error(), "line "):
			t.Errorf("%s: %q names no place", e.name, err)
		}
	}
}

// An answer that was published as one message cannot become another.
func TestRefusesAnotherAnswer(t *testing.T) {
	before := generate(t, fixture(t), nil)
	document := strings.Replace(fixture(t), "c1.lib.shelf.v1.Frame.Corner'", "c1.lib.hooks.v1.Unreached'", 1)
	_, err := mirror.Generate(config, "fixture.yaml", []byte(document), before.Lock)
	if err == nil || !strings.Contains(err.Error(), "fixture.yaml:") || !strings.Contains(err.Error(), "was published with") {
		t.Errorf("got %v", err)
	}
}

// What looks like a read and is not in the table of reads is a write, and told
// of once, when it is new.
func TestUnreviewedRead(t *testing.T) {
	out, err := mirror.Generate(mirror.Config{Module: "x", Reads: []string{"c1.lib.shelf.v1.Shelves/Gone"}}, "fixture.yaml", []byte(fixture(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	notices := strings.Join(out.Notices, "\n")
	if !strings.Contains(notices, "Shelves/Search is new and classed as a write") || !strings.Contains(notices, "Shelves/Gone is named in reads.txt and not in the document") {
		t.Errorf("notices: %s", notices)
	}
	if strings.Contains(string(out.Files["c1/lib/shelf/v1/shelf.proto"]), "post: \"/api/v1/search/shelves\"\n      body: \"*\"\n    };\n    option idempotency") {
		t.Error("it is a read")
	}
}

// A lock that was edited by hand fails at its line.
func TestBadLock(t *testing.T) {
	for _, text := range []string{"\t1 x string\n", "message\n", "message a.B\nmessage a.B\n", "message a.B\n\t0 x string\n", "message a.B\n\t1 x\n",
		"message a.B\n\t1 x string\n\t2 x string\n", "message a.B\n\tone x string\n", "message a.B\n\t1 x string what\n", "enum a.B.C\n\t-1\n", "rpc a.S/M a.B\n", "thing a\n"} {
		_, err := mirror.Generate(config, "fixture.yaml", []byte(fixture(t)), []byte("# a comment\n"+text))
		if err == nil || !strings.Contains(err.Error(), "read lock: line ") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// The committed lock and the committed protos say the same, each of the other.
func TestCommittedLock(t *testing.T) {
	want := make(map[string]bool)
	add := func(format string, args ...any) { want[fmt.Sprintf(format, args...)] = true }
	catalog.Files().RangeFiles(func(file protoreflect.FileDescriptor) bool {
		addMessages(add, file.Messages())
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				add("rpc %s/%s %s %s", service.FullName(), m.Name(), m.Input().FullName(), m.Output().FullName())
			}
		}
		return true
	})
	got := make(map[string]bool)
	owner := ""
	for line := range strings.Lines(lockText(t)) {
		rest, inner := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "\t")
		switch {
		case strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "#"):
		case inner:
			got[owner+" "+rest] = true
		default:
			owner = rest
			got[rest] = true
		}
	}
	for line := range want {
		if !got[line] {
			t.Errorf("the lock lacks %q", line)
		}
	}
	for line := range got {
		if !want[line] {
			t.Errorf("the protos lack %q", line)
		}
	}
	if len(want) < 10_000 {
		t.Errorf("only %d things were compared", len(want))
	}
}

func addMessages(add func(string, ...any), messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		m := messages.Get(i)
		if m.IsMapEntry() {
			continue
		}
		add("message %s", m.FullName())
		for j := range m.Fields().Len() {
			add("message %s %s", m.FullName(), fieldLine(m.Fields().Get(j)))
		}
		for j := range m.Enums().Len() {
			e := m.Enums().Get(j)
			add("enum %s", e.FullName())
			for k := range e.Values().Len() {
				add("enum %s %d %s", e.FullName(), e.Values().Get(k).Number(), e.Values().Get(k).Name())
			}
		}
		addMessages(add, m.Messages())
	}
}

// fieldLine is a field as the lock has it.
func fieldLine(f protoreflect.FieldDescriptor) string {
	kind := func(f protoreflect.FieldDescriptor) string {
		switch {
		case f.Message() != nil:
			return string(f.Message().FullName())
		case f.Enum() != nil:
			return string(f.Enum().FullName())
		}
		return f.Kind().String()
	}
	text := fmt.Sprintf("%d %s ", f.Number(), f.Name())
	switch {
	case f.IsMap():
		return text + "map<string," + kind(f.MapValue()) + ">"
	case f.IsList():
		text += "repeated "
	case f.HasOptionalKeyword():
		text += "optional "
	}
	text += kind(f)
	if oneof := f.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
		text += " in " + string(oneof.Name())
	}
	if f.JSONName() != defaultJSONName(string(f.Name())) {
		text += " as " + f.JSONName()
	}
	return text
}

func defaultJSONName(name string) string {
	parts := strings.Split(name, "_")
	for i, part := range parts[1:] {
		if part != "" {
			parts[i+1] = strings.ToUpper(part[:1]) + part[1:]
		}
	}
	return strings.Join(parts, "")
}

func lockText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../proto/c1.lock")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// httpOf is the verb of a method, as in google.api.http: "Get".
func httpOf(m protoreflect.MethodDescriptor) string {
	rule := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	return fmt.Sprintf("%T", rule.GetPattern())[len("*annotations.HttpRule_"):]
}

// FuzzGenerate: no document and no lock makes the generator panic, and what it
// makes of one it makes again.
func FuzzGenerate(f *testing.F) {
	first := generate(f, fixture(f), nil)
	f.Add(fixture(f), string(first.Lock))
	f.Add("openapi: 3.1.0\ncomponents: {schemas: {a.B: {type: object}}}\npaths: {}\n", "message a.B\n\t-1 x string\n")
	f.Fuzz(func(t *testing.T, document, lock string) {
		out, err := mirror.Generate(config, "f", []byte(document), []byte(lock))
		if err != nil {
			return
		}
		again, err := mirror.Generate(config, "f", []byte(document), out.Lock)
		if err != nil || !maps.EqualFunc(out.Files, again.Files, bytes.Equal) || !bytes.Equal(out.Lock, again.Lock) {
			t.Errorf("the second run differs: %v", err)
		}
	})
}

// The table of reads and the classes in the protos agree.
func TestReads(t *testing.T) {
	reads := mirror.Reads()
	if !slices.IsSorted(reads) || len(slices.Compact(slices.Clone(reads))) != len(reads) {
		t.Error("reads.txt is not sorted, or names a method twice")
	}
	found := make(map[string]bool)
	catalog.Files().RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				name := string(m.Parent().FullName()) + "/" + string(m.Name())
				isGet := httpOf(m) == "Get"
				safe := m.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
				listed := slices.Contains(reads, name)
				found[name] = listed
				if safe != (isGet || listed) || isGet && listed {
					t.Errorf("%s: GET %v, in reads.txt %v, without side effects %v", name, isGet, listed, safe)
				}
			}
		}
		return true
	})
	for _, name := range reads {
		if !found[name] {
			t.Errorf("reads.txt names %s, which there is not", name)
		}
	}
	if len(found) != 638 {
		t.Errorf("%d methods, want 638: if C1 has published others, change this number", len(found))
	}
}
