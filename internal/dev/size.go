package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// limits of a file and of a function in it, in lines. Tests have twice the
// room: a table of cases, or a story told in order, is read top to bottom.
const (
	fileLimit, functionLimit         = 400, 60
	testFileLimit, testFunctionLimit = 800, 120
)

// badSizes names the Go files below root, and the functions in them, that are
// longer than the limits. Generated files have none.
func badSizes(root string) ([]string, error) {
	var findings []string
	err := goFiles(root, func(name string) error {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		found, err := sizes(name, text)
		findings = append(findings, found...)
		return err
	})
	return findings, err
}

// sizes names what is too long in one file. A function counts from its func
// keyword to its closing brace, the functions inside it included.
func sizes(name string, text []byte) ([]string, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	if ast.IsGenerated(file) {
		return nil, nil
	}
	most, mostInFunction := fileLimit, functionLimit
	if strings.HasSuffix(name, "_test.go") {
		most, mostInFunction = testFileLimit, testFunctionLimit
	}
	var findings []string
	if n := bytes.Count(text, []byte("\n")); n > most {
		findings = append(findings, fmt.Sprintf("%s: %d lines, at most %d", name, n, most))
	}
	for _, decl := range file.Decls {
		function, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		start := fset.Position(function.Pos())
		if n := fset.Position(function.End()).Line - start.Line + 1; n > mostInFunction {
			findings = append(findings, fmt.Sprintf("%s:%d: %s has %d lines, at most %d", name, start.Line, function.Name, n, mostInFunction))
		}
	}
	return findings, nil
}

// goFiles calls visit with each Go file below root that Go itself would see.
func goFiles(root string, visit func(name string) error) error {
	return filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			ignored := base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")
			if ignored && name != root {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(base) != ".go" {
			return nil
		}
		return visit(name)
	})
}
