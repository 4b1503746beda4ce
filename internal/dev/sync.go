package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// syncCalls put a file on disk. internal/durable alone may use them: what is
// claimed to be durable is then read in one place. Renaming is not among them.
var syncCalls = []string{
	"(*os.File).Sync",
	"syscall.Fsync", "syscall.Fdatasync", "syscall.Sync", "syscall.SyncFileRange",
	"golang.org/x/sys/unix.Fsync", "golang.org/x/sys/unix.Fdatasync", "golang.org/x/sys/unix.Sync",
	"golang.org/x/sys/unix.Syncfs", "golang.org/x/sys/unix.SyncFileRange", "golang.org/x/sys/unix.Msync",
}

// badSyncs names every use of syncCalls outside internal/durable. It resolves
// names by type, from `go list -export -deps`, so that a Sync of another type
// is no finding.
func badSyncs(packs []pack) ([]string, error) {
	exports := map[string]string{}
	for _, p := range packs {
		exports[p.ImportPath] = p.Export
	}
	fset := token.NewFileSet()
	from := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, errors.New("no export data")
		}
		return os.Open(exports[path])
	})
	var findings []string
	for _, p := range packs {
		below, ours := inModule(p.ImportPath)
		if !ours || isGen(below) || below == "internal/durable" {
			continue
		}
		found, err := syncsOf(fset, from, p)
		if err != nil {
			return nil, fmt.Errorf("check %s: %w", below, err)
		}
		findings = append(findings, found...)
	}
	return findings, nil
}

// syncsOf type-checks the non-test files of one package.
func syncsOf(fset *token.FileSet, from types.Importer, p pack) ([]string, error) {
	var parsed []*ast.File
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
		file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, file)
	}
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: from, FakeImportC: true}
	if _, err := conf.Check(p.ImportPath, fset, parsed, &info); err != nil {
		return nil, err
	}
	var findings []string
	for name, object := range info.Uses {
		if f, ok := object.(*types.Func); ok && slices.Contains(syncCalls, f.FullName()) {
			findings = append(findings, fmt.Sprintf("%s: %s: only internal/durable may", fset.Position(name.Pos()), f.FullName()))
		}
	}
	slices.Sort(findings)
	return findings, nil
}
