package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const module = "github.com/c1proxy/c1proxy"

// tiers places every package: it may import packages of lower tiers only, never
// one of its own tier. Tests may import any package.
var tiers = [][]string{
	// Tools, no part of the product. The suite's server is the production chain.
	{"internal/dev", "internal/dev/conformance"},
	{"internal/mirror"},
	{"cmd/proxy"},
	{"internal/proxy"},
	{"internal/siem", "internal/redact"},
	{"internal/authn", "internal/policy", "internal/ratelimit", "internal/audit", "internal/forward", "internal/rest", "internal/sandbox"},
	{"internal/transcode", "internal/credential", "internal/gate", "internal/telemetry"},
	{"internal/route", "internal/durable", "internal/config", "internal/principal"},
	{"internal/fault", "internal/catalog", "internal/redistest", "web/console"},
}

// genImporters may import generated code: where messages are registered, and
// where the configuration is passed on. Everything else sees descriptors.
var genImporters = []string{"cmd/proxy", "internal/proxy", "internal/config", "internal/dev/conformance"}

// forbidden imports that the tiers would allow.
var forbidden = map[string][]string{
	// The oracle that these are tested against must not share their mistakes.
	"internal/sandbox": {"internal/route", "internal/transcode"},
}

// pack is what `go list -json` says of a package. Imports are those of its
// non-test files, Export is the file of its export data.
type pack struct {
	ImportPath string
	Dir        string
	Export     string
	GoFiles    []string
	CgoFiles   []string
	Imports    []string

	TestGoFiles  []string
	XTestGoFiles []string
}

// list runs `go list -json` with the given further arguments.
func list(ctx context.Context, args ...string) ([]pack, error) {
	out, err := output(ctx, append([]string{"go", "list", "-json=ImportPath,Dir,Export,GoFiles,CgoFiles,Imports,TestGoFiles,XTestGoFiles"}, args...)...)
	if err != nil {
		return nil, err
	}
	var packs []pack
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pack
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packs, nil
		} else if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		packs = append(packs, p)
	}
}

// badImports names every import that breaks the tiers, and every package that
// stands in no tier: a new one must be placed.
func badImports(packs []pack) []string {
	var findings []string
	for _, p := range packs {
		from, ours := inModule(p.ImportPath)
		if !ours {
			continue
		}
		if !placed(from) {
			findings = append(findings, from+": stands in no tier: place it in internal/dev/imports.go")
			continue
		}
		for _, path := range p.Imports {
			to, ours := inModule(path)
			if !ours {
				continue
			}
			if why := refuse(from, to); why != "" {
				findings = append(findings, fmt.Sprintf("%s imports %s: %s", from, to, why))
			}
		}
	}
	return findings
}

// refuse says why from must not import to; "" means that it may.
func refuse(from, to string) string {
	switch {
	case isGen(to):
		if isGen(from) || slices.Contains(genImporters, from) {
			return ""
		}
		return "generated code is for genImporters and tests"
	case isGen(from):
		return "generated code imports generated code only"
	case slices.Contains(forbidden[from], to):
		return "the oracle must not share what it tests"
	case !placed(to):
		return "it stands in no tier"
	case tier(to) == tier(from):
		return "siblings never import each other"
	case tier(to) < tier(from):
		return "it stands higher"
	}
	return ""
}

// inModule is the path below the module's root, "." for the root itself.
func inModule(path string) (below string, ours bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

// isGen tells whether all of a package is generated.
func isGen(path string) bool {
	return strings.HasPrefix(path, "gen/") || strings.HasPrefix(path, conformanceDir+"/conformancev1")
}

// placed tells whether a package has its place. The root holds tests only, and
// so stands above all.
func placed(path string) bool { return isGen(path) || path == "." || tier(path) >= 0 }

// tier counts from the top; -1 means none.
func tier(path string) int {
	return slices.IndexFunc(tiers, func(row []string) bool { return slices.Contains(row, path) })
}
