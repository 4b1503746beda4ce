// Package mirror writes the protos of C1's API from C1's OpenAPI document, which
// C1 generated from protos of its own: this turns it back.
//
// What the document does not have is the numbers of fields, so they are this
// project's; and what was published once is kept for ever. The lock beside the
// protos is the memory: numbers, types, enum values and the members of oneofs.
// What the document no longer has is reserved, and gets its number back when it
// returns. What the document says otherwise than before stays as published, and
// a notice tells.
//
// A document with anything that this package does not understand fails as a
// whole, with the place of it: nothing is left out in silence. The document's
// texts are C1's and are not copied.
package mirror

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An Output is what Generate makes of a document.
type Output struct {
	// Files are the protos by their path below the module of protos, such as
	// "c1/api/app/v1/app.proto".
	Files map[string][]byte
	// Lock is the new content of the lock.
	Lock []byte
	// Notices tell what a maintainer should look at: what was kept as published
	// though the document has it otherwise, and what the reads do not name.
	Notices []string
}

// Config says what Generate is to make.
type Config struct {
	// Module is the Go import path of the folder of generated code, such as
	// "example.com/x/gen".
	Module string
	// Reads names the methods without side effects that are no GETs, as
	// "package.Service/Method"; see [Reads].
	Reads []string
}

// Generate makes protos of an OpenAPI document, in YAML, and of the lock that an
// earlier run has written; an empty lock begins anew. file names the document in
// errors, as file:line. The same input gives the same output, byte for byte.
func Generate(cfg Config, file string, document, lock []byte) (*Output, error) {
	memory, err := parseLock(lock)
	if err != nil {
		return nil, fmt.Errorf("read lock: %w", err)
	}
	doc, err := parseDocument(file, document)
	if err != nil {
		return nil, err
	}
	b := &builder{doc: doc, memory: memory, messages: make(map[string]*message)}
	if err := b.build(cfg.Reads); err != nil {
		return nil, err
	}
	files, err := b.arrange()
	if err != nil {
		return nil, err
	}
	out := &Output{Files: make(map[string][]byte, len(files)), Lock: memory.print(), Notices: b.notices}
	for _, f := range files {
		out.Files[f.path()] = f.print(cfg.Module)
	}
	return out, nil
}

// arrange puts messages and services into files, one for each package, and
// finds their imports.
func (b *builder) arrange() ([]*file, error) {
	files := make(map[string]*file)
	of := func(pkg string) *file {
		if files[pkg] == nil {
			files[pkg] = &file{pkg: pkg, imports: make(map[string]bool)}
		}
		return files[pkg]
	}
	for _, name := range slices.Sorted(maps.Keys(b.messages)) {
		m := b.messages[name]
		f := of(packageOf(name))
		for _, field := range m.fields {
			f.use(field.kind)
		}
		if parent := b.messages[parentOf(name)]; parent != nil {
			parent.nested = append(parent.nested, m)
		} else {
			f.messages = append(f.messages, m)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.services)) {
		s := b.services[name]
		f := of(packageOf(name))
		f.services = append(f.services, s)
		f.imports["google/api/annotations.proto"] = true
		for _, r := range s.methods {
			f.use(r.input)
			f.use(r.output)
			if r.stability != "" {
				f.imports["google/api/visibility.proto"] = true
			}
		}
	}
	if cycle := findCycle(files); cycle != nil {
		return nil, fmt.Errorf("arrange packages: %s: an import cycle, which protos cannot have", strings.Join(cycle, " needs "))
	}
	return slices.Collect(maps.Values(files)), nil
}

// findCycle returns packages that need each other, the first one twice; nil if
// there are none.
func findCycle(files map[string]*file) []string {
	const open, done = 1, 2
	state := make(map[string]int)
	var path []string
	var visit func(pkg string) []string
	visit = func(pkg string) []string {
		switch state[pkg] {
		case done:
			return nil
		case open:
			return append(slices.Clone(path[slices.Index(path, pkg):]), pkg)
		}
		state[pkg] = open
		path = append(path, pkg)
		for _, next := range slices.Sorted(maps.Keys(files[pkg].needs)) {
			if cycle := visit(next); cycle != nil {
				return cycle
			}
		}
		path = path[:len(path)-1]
		state[pkg] = done
		return nil
	}
	for _, pkg := range slices.Sorted(maps.Keys(files)) {
		if cycle := visit(pkg); cycle != nil {
			return cycle
		}
	}
	return nil
}
