package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestImportsPointDown(t *testing.T) {
	packs, err := list(t.Context(), module+"/...")
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range badImports(packs) {
		t.Error(finding)
	}
}

func TestBadImports(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"internal/proxy", "internal/audit", ""},
		{"internal/proxy", "internal/fault", ""},
		{"internal/proxy", "gen/c1/api/app/v1", ""},
		{"internal/audit", "internal/durable", ""},
		{"internal/dev/conformance", "internal/proxy", ""},
		{"gen/c1/api/app/v1/appv1connect", "gen/c1/api/app/v1", ""},
		{"internal/fault", "internal/audit", "it stands higher"},
		{"internal/audit", "cmd/proxy", "it stands higher"},
		{"internal/proxy", "internal/dev", "it stands higher"},
		{"internal/audit", "internal/policy", "siblings"},
		{"internal/sandbox", "internal/forward", "siblings"},
		{"internal/sandbox", "internal/route", "oracle"},
		{"internal/sandbox", "internal/transcode", "oracle"},
		{"internal/audit", "gen/c1/api/app/v1", "generated code is for"},
		{"internal/sandbox", "gen/c1/api/app/v1", "generated code is for"},
		{"internal/route", "internal/dev/conformance/conformancev1", "generated code is for"},
		{"gen/c1/api/app/v1", "internal/fault", "generated code only"},
		{"internal/proxy", "internal/util", "it stands in no tier"},
		{"internal/util", "internal/fault", "place it"},
		{"internal/fault", ".", "it stands higher"},
	} {
		found := badImports([]pack{{ImportPath: module + "/" + c.from, Imports: []string{"fmt", strings.TrimSuffix(module+"/"+c.to, "/.")}}})
		text := strings.Join(found, "\n")
		if !strings.Contains(text, c.want) || (text == "") != (c.want == "") {
			t.Errorf("%s imports %s: findings %q, want %q", c.from, c.to, found, c.want)
		}
	}
}

// TestSyncsAreFound checks the lines that the fixture marks, and no others.
func TestSyncsAreFound(t *testing.T) {
	packs, err := list(t.Context(), "-export", "-deps", "./testdata/sync")
	if err != nil {
		t.Fatal(err)
	}
	found, err := badSyncs(packs)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, finding := range found {
		parts := strings.Split(finding, ":")
		lines = append(lines, filepath.Base(parts[0])+":"+parts[1])
	}

	file, err := os.Open("testdata/sync/sync.go")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var want []string
	text := bufio.NewScanner(file)
	for n := 1; text.Scan(); n++ {
		if strings.HasSuffix(text.Text(), "// want") {
			want = append(want, fmt.Sprintf("sync.go:%d", n))
		}
	}
	if !slices.Equal(lines, want) || len(want) == 0 {
		t.Errorf("found %q\nwant  %q", found, want)
	}
}
