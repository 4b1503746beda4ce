package mirror

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// print returns the file's text, formatted as buf does.
func (f *file) print(module string) []byte {
	p := &printer{pkg: f.pkg}
	p.line("// The mirror of C1's package %s: names, types and paths are C1's own;", f.pkg)
	p.line("// field numbers are this project's, and stay once published. Written by")
	p.line("// go run ./internal/dev mirror: DO NOT EDIT.")
	p.line(`syntax = "proto3";`)
	p.line("")
	p.line("package %s;", f.pkg)
	p.line("")
	for _, path := range slices.Sorted(maps.Keys(f.imports)) {
		p.line("import %q;", path)
	}
	if len(f.imports) > 0 {
		p.line("")
	}
	p.line("option go_package = %q;", module+"/"+strings.ReplaceAll(f.pkg, ".", "/")+";"+goPackage(f.pkg))
	for _, s := range f.services {
		p.line("")
		p.service(s)
	}
	for _, m := range f.messages {
		p.line("")
		p.message(m)
	}
	return p.Bytes()
}

// goPackage is the name of the Go package: that of c1.api.app.v1 is appv1.
func goPackage(pkg string) string {
	parts := strings.Split(strings.ReplaceAll(pkg, "_", ""), ".")
	return strings.Join(parts[max(0, len(parts)-2):], "")
}

// A printer writes a file.
type printer struct {
	bytes.Buffer
	pkg    string
	indent int
}

func (p *printer) line(format string, args ...any) {
	if format != "" {
		p.WriteString(strings.Repeat("  ", p.indent))
	}
	fmt.Fprintf(p, format+"\n", args...)
}

func (p *printer) open(format string, args ...any) {
	p.line(format+" {", args...)
	p.indent++
}

func (p *printer) close() {
	p.indent--
	p.line("}")
}

func (p *printer) service(s *service) {
	p.open("service %s", baseOf(s.name))
	for i, r := range s.methods {
		if i > 0 {
			p.line("")
		}
		p.line("// %s %s", strings.ToUpper(r.verb), r.path)
		p.open("rpc %s(%s) returns (%s)", r.name, p.typeName(r.input, nil), p.typeName(r.output, nil))
		if r.deprecated {
			p.line("option deprecated = true;")
		}
		if r.reads {
			p.line("option idempotency_level = NO_SIDE_EFFECTS;")
		}
		if r.verb == "get" {
			p.line("option (google.api.http) = {get: %q};", r.path)
		} else {
			p.open("option (google.api.http) =")
			p.line("%s: %q", r.verb, r.path)
			p.line(`body: "*"`)
			p.indent--
			p.line("};")
		}
		if r.stability != "" {
			p.line("option (google.api.method_visibility).restriction = %q;", strings.ToUpper(r.stability))
		}
		p.close()
	}
	p.close()
}

func (p *printer) message(m *message) {
	text := m.reserved()
	if len(m.fields)+len(m.enums)+len(m.nested) == 0 && len(text) == 0 && !m.deprecated {
		p.line("message %s {}", baseOf(m.name))
		return
	}
	p.open("message %s", baseOf(m.name))
	if m.deprecated {
		p.line("option deprecated = true;")
	}
	for _, line := range text {
		p.line("%s", line)
	}
	for _, nested := range m.nested {
		p.message(nested)
	}
	for _, e := range m.enums {
		p.enum(e)
	}
	p.fields(m)
	p.close()
}

// fields writes the fields by number; those of a oneof stand together, where
// the first of them does.
func (p *printer) fields(m *message) {
	done := make(map[string]bool)
	for _, f := range m.fields {
		if f.oneof == "" {
			p.field(m, f)
			continue
		}
		if done[f.oneof] {
			continue
		}
		done[f.oneof] = true
		p.open("oneof %s", f.oneof)
		for _, member := range m.fields {
			if member.oneof == f.oneof {
				p.field(m, member)
			}
		}
		p.close()
	}
}

func (p *printer) field(m *message, f *field) {
	var kind string
	if values, ok := strings.CutPrefix(f.kind, "map<string,"); ok {
		kind = "map<string, " + p.typeName(strings.TrimSuffix(values, ">"), m) + ">"
	} else {
		kind = p.typeName(f.kind, m)
	}
	if f.label != "" {
		kind = f.label + " " + kind
	}
	var options []string
	if f.deprecated {
		options = append(options, "deprecated = true")
	}
	if f.json != "" {
		options = append(options, fmt.Sprintf("json_name = %q", f.json))
	}
	text := fmt.Sprintf("%s %s = %d", kind, f.name, f.number)
	switch len(options) {
	case 0:
		p.line("%s;", text)
	case 1:
		p.line("%s [%s];", text, options[0])
	default:
		p.line("%s [", text)
		p.indent++
		p.line("%s", options[0]+",")
		p.line("%s", options[1])
		p.indent--
		p.line("];")
	}
}

// typeName is a type as a message of the package refers to it: without the
// package, unless the message has a type of the same name in it.
func (p *printer) typeName(kind string, in *message) string {
	switch {
	case !strings.Contains(kind, "."):
		return kind
	case in != nil && parentOf(kind) == in.name:
		return baseOf(kind)
	case packageOf(kind) != p.pkg:
		return kind
	}
	short := strings.TrimPrefix(kind, p.pkg+".")
	first, _, _ := strings.Cut(short, ".")
	if in != nil && in.hides(first) {
		return "." + kind
	}
	return short
}

// hides tells whether a name means something else inside a message or the
// messages around it.
func (m *message) hides(name string) bool {
	for _, e := range m.enums {
		if baseOf(e.name) == name {
			return true
		}
	}
	for _, n := range m.nested {
		if baseOf(n.name) == name {
			return true
		}
	}
	return packageOf(m.name) != parentOf(m.name) // nested itself: no need to know what is around it
}

func (p *printer) enum(e *enum) {
	p.open("enum %s", baseOf(e.name))
	var numbers, names []string
	for _, v := range e.memory.ordered() {
		if !v.seen {
			numbers, names = append(numbers, fmt.Sprint(v.number)), append(names, fmt.Sprintf("%q", v.name))
		}
	}
	if len(numbers) > 0 {
		p.line("reserved %s;", strings.Join(numbers, ", "))
		p.line("reserved %s;", strings.Join(names, ", "))
	}
	for _, v := range e.memory.ordered() {
		if v.seen {
			p.line("%s = %d;", v.name, v.number)
		}
	}
	p.close()
}

// reserved are the lines that keep what is gone from coming back as something
// else.
func (m *message) reserved() []string {
	var numbers, names []string
	for _, f := range m.memory.ordered() {
		if !f.seen {
			numbers, names = append(numbers, fmt.Sprint(f.number)), append(names, fmt.Sprintf("%q", f.name))
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	return []string{"reserved " + strings.Join(numbers, ", ") + ";", "reserved " + strings.Join(names, ", ") + ";"}
}
