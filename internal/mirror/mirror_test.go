package mirror_test

import (
	"bytes"
	"flag"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/c1proxy/c1proxy/internal/mirror"
)

var update = flag.Bool("update", false, "write the golden files anew")

// config is that of the fixture.
var config = mirror.Config{Module: "example.com/gen", Reads: []string{"c1.lib.shelf.v1.Shelves/Search"}}

func fixture(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/fixture.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func generate(t testing.TB, document string, lock []byte) *mirror.Output {
	t.Helper()
	out, err := mirror.Generate(config, "fixture.yaml", []byte(document), lock)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Everything odd that C1's document has becomes what the golden files have; a
// second run, with the lock of the first, changes not a byte and tells nothing.
func TestGolden(t *testing.T) {
	first := generate(t, fixture(t), nil)
	if len(first.Notices) > 0 {
		t.Errorf("notices: %q", first.Notices)
	}
	again := generate(t, fixture(t), first.Lock)
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the second run differs: %s", diff)
	}
	got := texts(first)
	if *update {
		write(t, "testdata/golden", got)
	}
	if diff := cmp.Diff(readAll(t, "testdata/golden"), got); diff != "" {
		t.Errorf("golden files (-want +got), which -update writes anew:\n%s", diff)
	}
	buf(t, got, nil, "lint")
	buf(t, got, nil, "format", "-d", "--exit-code")
}

// texts are the files and the lock, by path.
func texts(out *mirror.Output) map[string]string {
	all := map[string]string{"c1.lock": string(out.Lock)}
	for path, text := range out.Files {
		all[path] = string(text)
	}
	return all
}

func write(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for path, text := range files {
		file := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func readAll(t testing.TB, root string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		below, _ := filepath.Rel(root, name)
		files[filepath.ToSlash(below)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// buf runs a verb of buf on some protos, by the rules of this project's
// buf.yaml; old ones, if there are any, are what they are compared with.
func buf(t *testing.T, now, old map[string]string, verb ...string) {
	t.Helper()
	rules, err := os.ReadFile("../../buf.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var roots []string
	for _, files := range []map[string]string{now, old} {
		root := t.TempDir()
		roots = append(roots, root)
		write(t, filepath.Join(root, "proto"), files)
		write(t, root, map[string]string{"buf.yaml": string(rules)})
		for _, others := range []string{"google", "buf"} {
			if err := os.CopyFS(filepath.Join(root, "proto", others), os.DirFS("../../proto/"+others)); err != nil {
				t.Fatal(err)
			}
		}
	}
	args := append([]string{"tool", "-modfile=../../internal/dev/tools.mod", "buf"}, append(verb, roots[0])...)
	if old != nil {
		args = append(args, "--against", roots[1])
	}
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Errorf("buf %s: %v\n%s", verb[0], err, out)
	}
}

// A change is one edit of the fixture, and what it must do to the protos.
type change struct {
	name     string
	old, new string // of the document; new alone is appended to the schemas
	// minus and plus are the lines of protos that go and come, trimmed.
	minus, plus []string
	notice      string // part of the one notice; "" for none
}

var changes = []change{
	{name: "a field comes", old: "                id:\n                    type: string\n                labels:", new: "                aaa:\n                    type: string\n                id:\n                    type: string\n                labels:",
		plus: []string{"string aaa = 17;"}},
	{name: "a field goes", old: "                pages:\n                    format: int32\n                    type: integer\n",
		minus: []string{"int32 pages = 10;"}, plus: []string{"reserved 10;", `reserved "pages";`}},
	{name: "a field changes its type", old: "                pages:\n                    format: int32\n                    type: integer\n", new: "                pages:\n                    type: string\n",
		notice: "c1.lib.book.v1.Book.pages stays int32, as published; the document has string"},
	{name: "a field becomes optional", old: "                query:\n                    type: string\n", new: "                query:\n                    type:\n                        - string\n                        - \"null\"\n",
		notice: "stays string, as published; the document has optional string"},
	{name: "a field becomes a list", old: "                query:\n                    type: string\n", new: "                query:\n                    type: array\n                    items:\n                        type: string\n",
		notice: "stays string, as published; the document has repeated string"},
	{name: "a field leaves its oneof", old: "                  - robotName\n", new: "",
		notice: "robot_name stays string in oneof keeper, as published; the document has optional string"},
	{name: "a field of a message becomes a string, and the message goes", old: "                flags:\n                    additionalProperties:\n                        $ref: '#/components/schemas/validate.BoolRules'\n                    type: object\n", new: "                flags:\n                    type: string\n",
		notice: "stays map<string,c1.validate.v1.BoolRules>"},
	{name: "an enum grows", old: "                            - UNKNOWN\n                            - OPEN\n", new: "                            - UNKNOWN\n                            - AJAR\n                            - OPEN\n",
		plus: []string{"AJAR = 2;"}},
	{name: "an enum loses a value", old: "                        - LIGHT\n                        - DARK\n", new: "                        - DARK\n",
		minus: []string{"LIGHT = 1;"}, plus: []string{"reserved 1;", `reserved "LIGHT";`}},
	{name: "one of two that share an enum grows", old: "                secondColor:\n                    enum:\n                        - COLOR_UNSPECIFIED\n", new: "                secondColor:\n                    enum:\n                        - COLOR_UNSPECIFIED\n                        - COLOR_GREEN\n",
		plus: []string{"COLOR_GREEN = 2;"}},
	{name: "an enum becomes a string", old: "                shade:\n                    enum:\n                        - LIGHT\n                        - DARK\n                    type: string\n", new: "                shade:\n                    type: string\n",
		notice: "shade stays c1.lib.shelf.v1.Shelf.Shade, as published"},
	{name: "a message comes", old: "        c1.lib.hooks.v1.Unreached:\n", new: "        c1.lib.hooks.v1.Another:\n            type: object\n        c1.lib.hooks.v1.Unreached:\n",
		plus: []string{"message Another {}"}},
	{name: "a message goes, and its package", old: "        c1.lib.hooks.v1.Unreached:\n            type: object\n            properties:\n                id:\n                    type: string\n",
		minus: []string{"syntax = \"proto3\";", "package c1.lib.hooks.v1;", `option go_package = "example.com/gen/c1/lib/hooks/v1;hooksv1";`, "message Unreached {", "string id = 1;", "}"}},
	{name: "a parameter comes", old: "                - in: query\n                  name: page_size\n", new: "                - in: query\n                  name: after\n                  schema:\n                    type: string\n                - in: query\n                  name: page_size\n",
		plus: []string{"string after = 4;"}},
	{name: "an operation moves", old: "    /api/v1/search/shelves:\n", new: "    /api/v2/search/shelves:\n",
		minus: []string{"// POST /api/v1/search/shelves", `post: "/api/v1/search/shelves"`}, plus: []string{"// POST /api/v2/search/shelves", `post: "/api/v2/search/shelves"`}},
	{name: "an operation becomes stable", old: "            x-stability-level: draft\n", new: "",
		minus: []string{`option (google.api.method_visibility).restriction = "DRAFT";`}},
	{name: "a body is called otherwise", old: "UpdateShelfRequestInput", new: "SetShelfRequestInput"},
}

// What the document changes changes in the protos, that and nothing more, and
// buf finds nothing that would break a caller. When the change is taken back,
// everything is as it was.
func TestEvolution(t *testing.T) {
	before := generate(t, fixture(t), nil)
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(fixture(t), c.old) {
				t.Fatal("the fixture does not have what is to change")
			}
			after := generate(t, strings.ReplaceAll(fixture(t), c.old, c.new), before.Lock)
			minus, plus := compare(before, after)
			if diff := cmp.Diff([][]string{c.minus, c.plus}, [][]string{minus, plus}); diff != "" {
				t.Errorf("lines that go and come (-want +got):\n%s", diff)
			}
			if notices := strings.Join(after.Notices, "\n"); !strings.Contains(notices, c.notice) || (c.notice == "") != (notices == "") {
				t.Errorf("notices: %s", notices)
			}
			buf(t, texts(after), texts(before), "breaking")
			returned := generate(t, fixture(t), after.Lock)
			for path, text := range before.Files {
				if c.plus == nil || !strings.Contains(strings.Join(c.plus, ""), " = ") {
					if diff := cmp.Diff(string(text), string(returned.Files[path])); diff != "" {
						t.Errorf("%s is not as it was (-before +returned):\n%s", path, diff)
					}
				}
			}
			buf(t, texts(returned), texts(after), "breaking")
			if last := generate(t, strings.ReplaceAll(fixture(t), c.old, c.new), returned.Lock); !maps.EqualFunc(last.Files, after.Files, bytes.Equal) {
				t.Error("the change, made again, gives other protos than the first time")
			}
		})
	}
}

// compare returns the lines that only one of two outputs has, without comments.
func compare(before, after *mirror.Output) (minus, plus []string) {
	for _, path := range slices.Sorted(maps.Keys(texts(before))) {
		if path == "c1.lock" {
			continue
		}
		old, now := lines(before.Files[path]), lines(after.Files[path])
		for _, line := range old {
			if at := slices.Index(now, line); at >= 0 {
				now = slices.Delete(now, at, at+1)
			} else {
				minus = append(minus, line)
			}
		}
		plus = append(plus, now...)
	}
	return minus, plus
}

func lines(text []byte) []string {
	var all []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "// The mirror") && !strings.HasPrefix(line, "// field") && !strings.HasPrefix(line, "// go run") {
			all = append(all, line)
		}
	}
	return all
}
