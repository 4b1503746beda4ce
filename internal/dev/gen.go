package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// conformanceDir holds the server that the conformance suite tests, and the
	// generated code of the suite's service below it.
	conformanceDir = "internal/dev/conformance"

	// vendoredFile holds the descriptors of the protos that others publish and
	// that stand in proto/ too: a test compares them with what Go links in.
	vendoredFile = "internal/dev/testdata/vendored.binpb"

	// catalogFile holds the descriptors of the mirror, which the server embeds.
	catalogFile = "internal/catalog/c1.binpb"

	// apiFile lists the methods of the mirror for people.
	apiFile = "docs/api.md"
)

// generated names all that gen writes: each a file, or a folder in which
// nothing else may stand.
var generated = []string{"gen", conformanceDir + "/conformancev1", vendoredFile, catalogFile, apiFile}

// vendored names the folders of protos that others publish.
var vendored = []string{"proto/google", "proto/buf"}

type genVerb struct {
	Check bool `help:"Change nothing: fail, with the list, if the committed files differ from generated ones."`
}

// Run generates into an empty folder and compares, so that its answer does not
// depend on what git knows and unchanged files keep their times.
func (v *genVerb) Run(ctx context.Context) error {
	tmp, err := os.MkdirTemp("", "c1proxy-gen-")
	if err != nil {
		return fmt.Errorf("generate: %w", err)
	}
	defer os.RemoveAll(tmp)

	if err := generate(ctx, tmp); err != nil {
		return fmt.Errorf("generate: %w", err)
	}
	changes, err := compare(tmp, ".", generated)
	if err != nil {
		return fmt.Errorf("compare generated files: %w", err)
	}
	for _, c := range changes {
		fmt.Println(c)
	}
	if !v.Check {
		return apply(tmp, changes)
	}
	if len(changes) > 0 {
		return errors.New("check generated files: not those of the protos: go run ./internal/dev gen")
	}
	fmt.Println("generated files: as the protos say")
	return nil
}

// generate writes everything that is generated below dir, at its final path.
func generate(ctx context.Context, dir string) error {
	if err := run(ctx, tool("buf", "generate", "-o", dir)...); err != nil {
		return err
	}

	text, err := output(ctx, "go", "mod", "download", toolsMod, "-json", "connectrpc.com/conformance")
	if err != nil {
		return err
	}
	var suite struct{ Dir string }
	if err := json.Unmarshal(text, &suite); err != nil {
		return fmt.Errorf("find the conformance suite: %w", err)
	}
	protos := filepath.Join(suite.Dir, "proto")
	line := tool("buf", "generate", protos, "--template", conformanceDir+"/buf.gen.yaml", "-o", filepath.Join(dir, conformanceDir))
	for _, name := range []string{"config", "server_compat", "service"} {
		line = append(line, "--path", filepath.Join(protos, "connectrpc/conformance/v1", name+".proto"))
	}
	if err := run(ctx, line...); err != nil {
		return err
	}

	if err := describe(ctx, filepath.Join(dir, catalogFile), mirrorDir); err != nil {
		return err
	}
	if err := listAPI(filepath.Join(dir, catalogFile), filepath.Join(dir, apiFile)); err != nil {
		return err
	}
	return describe(ctx, filepath.Join(dir, vendoredFile), vendored...)
}

// describe writes the descriptors of the protos in some folders to a file, each
// after those that it imports.
func describe(ctx context.Context, file string, folders ...string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	line := tool("buf", "build", "-o", file, "--as-file-descriptor-set", "--exclude-source-info", "--exclude-imports")
	for _, folder := range folders {
		line = append(line, "--path", folder)
	}
	return run(ctx, line...)
}

// change is one generated file that is not as it should be. Its kind is
// "missing", "stale" (it should not exist) or "differs".
type change struct{ kind, path string }

func (c change) String() string { return fmt.Sprintf("%-8s %s", c.kind, c.path) }

// compare lists how the files of have differ from those of want, below the
// given paths, in the order of their names.
func compare(want, have string, paths []string) ([]change, error) {
	var changes []change
	for _, path := range paths {
		wanted, err := files(want, path)
		if err != nil {
			return nil, err
		}
		had, err := files(have, path)
		if err != nil {
			return nil, err
		}
		for name, text := range wanted {
			if old, ok := had[name]; !ok {
				changes = append(changes, change{"missing", name})
			} else if !bytes.Equal(old, text) {
				changes = append(changes, change{"differs", name})
			}
		}
		for name := range had {
			if _, ok := wanted[name]; !ok {
				changes = append(changes, change{"stale", name})
			}
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return strings.Compare(a.path, b.path) })
	return changes, nil
}

// files reads the file, or every file of the folder, at root/path, by its path
// below root. A path that does not exist holds no files.
func files(root, path string) (map[string][]byte, error) {
	found := map[string][]byte{}
	err := filepath.WalkDir(filepath.Join(root, path), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, name)
		found[filepath.ToSlash(below)] = text
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	return found, err
}

// apply makes the working tree as the generated files in dir say.
func apply(dir string, changes []change) error {
	for _, c := range changes {
		if c.kind == "stale" {
			if err := os.Remove(c.path); err != nil {
				return fmt.Errorf("delete stale file: %w", err)
			}
			// A folder that holds nothing else goes too; one that does stays.
			_ = os.Remove(filepath.Dir(c.path))
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, c.path))
		if err != nil {
			return fmt.Errorf("read generated file: %w", err)
		}
		if err := os.MkdirAll(filepath.Dir(c.path), 0o755); err != nil {
			return fmt.Errorf("write generated file: %w", err)
		}
		if err := os.WriteFile(c.path, text, 0o644); err != nil {
			return fmt.Errorf("write generated file: %w", err)
		}
	}
	return nil
}
