package mirror

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// A builder makes the model of a document.
type builder struct {
	doc      *document
	memory   *lock
	names    map[string]string   // the messages of the schemas
	messages map[string]*message // by name
	services map[string]*service // by name
	notices  []string
}

func (b *builder) notice(format string, args ...any) {
	b.notices = append(b.notices, fmt.Sprintf(format, args...))
}

// imported are schemas that others publish protos of.
var imported = map[string]bool{"google.rpc.Status": true}

// renamed are packages that others publish under the same name: a program that
// links both would not start.
var renamed = map[string]string{"validate": "c1.validate.v1"}

// build makes messages of the schemas, requests of the operations, and services.
func (b *builder) build(reads []string) error {
	if err := b.name(); err != nil {
		return err
	}
	extra := make(map[string][]property) // the parameters of each request
	for _, o := range b.doc.operations {
		name := b.requestOf(o)
		if _, ok := extra[name]; ok {
			return b.doc.failure(o.at, "%s shares its request %s with another operation: not understood", o.id, name)
		}
		extra[name] = append(slices.Clone(o.inPath), o.inQuery...)
		if o.body == "" {
			if err := b.addMessage(name, &schema{name: name, at: o.at}, extra[name]); err != nil {
				return err
			}
		}
	}
	for _, s := range b.doc.schemas {
		if imported[s.name] || b.merges(s) {
			continue
		}
		if err := b.addMessage(b.names[s.name], s, extra[b.names[s.name]]); err != nil {
			return err
		}
	}
	for _, s := range b.doc.schemas {
		if b.merges(s) {
			if err := b.checkMerge(s); err != nil {
				return err
			}
		}
	}
	b.addParents()
	b.revive()
	return b.addServices(reads)
}

// name gives each schema the name of its message. The body of an operation with
// parameters, which become fields of it too, loses its suffix Input; a request
// that was published keeps its name whatever the schema is called.
func (b *builder) name() error {
	b.names = make(map[string]string)
	for _, s := range b.doc.schemas {
		b.names[s.name] = s.name
		if to := renamed[packageOf(s.name)]; to != "" {
			b.names[s.name] = to + strings.TrimPrefix(s.name, packageOf(s.name))
		}
	}
	used := make(map[string]string)
	for _, o := range b.doc.operations {
		if o.body == "" {
			continue
		}
		if other := used[o.body]; other != "" {
			return b.doc.failure(o.at, "%s has the body of %s: not understood", o.id, other)
		}
		used[o.body] = o.id
		if locked := b.memory.methods[procedureOf(o)]; locked != nil {
			b.names[o.body] = locked.input
		} else if len(o.inPath)+len(o.inQuery) > 0 {
			b.names[o.body] = strings.TrimSuffix(b.names[o.body], "Input")
		}
	}
	return nil
}

// requestOf is the name of an operation's request.
func (b *builder) requestOf(o *operation) string {
	switch locked := b.memory.methods[procedureOf(o)]; {
	case o.body != "":
		return b.names[o.body]
	case locked != nil:
		return locked.input
	}
	return parentOf(o.id) + baseOf(o.id) + "Request"
}

// procedureOf is package.Service/Method.
func procedureOf(o *operation) string { return parentOf(o.id) + "/" + baseOf(o.id) }

// merges tells of a body whether another schema has its message, of which it
// is the part that a caller sends.
func (b *builder) merges(s *schema) bool {
	return b.names[s.name] != s.name && b.doc.byName[b.names[s.name]] != nil
}

// checkMerge finds what a merged body has that its message has not.
func (b *builder) checkMerge(s *schema) error {
	whole := b.doc.byName[b.names[s.name]]
	for _, p := range s.properties {
		same := slices.ContainsFunc(whole.properties, func(q property) bool {
			return q.name == p.name && reflect.DeepEqual(q.shape, p.shape) && whole.oneofs[p.name] == s.oneofs[p.name]
		})
		if !same {
			return b.doc.failure(p.at, "%s.%s is not that of %s, which it should be a part of", s.name, p.name, whole.name)
		}
	}
	return nil
}

// addMessage makes a message of a schema and of the parameters of the operation
// whose request it is.
func (b *builder) addMessage(name string, s *schema, parameters []property) error {
	if b.messages[name] != nil {
		return b.doc.failure(s.at, "%s is the name of two messages", name)
	}
	m := &message{name: name, deprecated: s.deprecated, memory: b.memory.message(name)}
	m.memory.seen = true
	b.messages[name] = m
	properties := slices.Clone(parameters)
	for _, p := range s.properties {
		bound := slices.ContainsFunc(parameters, func(q property) bool { return q.name == snake(p.name) })
		if bound && !slices.ContainsFunc(parameters, func(q property) bool { return q.name == snake(p.name) && q.shape.kind == p.shape.kind }) {
			return b.doc.failure(p.at, "%s.%s is in the path too, with another type", s.name, p.name)
		}
		if !bound {
			properties = append(properties, p)
		}
	}
	enums, err := b.addEnums(m, properties)
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, p := range properties {
		f, err := b.fieldOf(p, enums[p.name], s.oneofs[p.name])
		if err != nil {
			return err
		}
		if seen[f.name] {
			return b.doc.failure(p.at, "%s has the field %s twice", name, f.name)
		}
		seen[f.name] = true
		b.keep(m, f)
	}
	m.order()
	return nil
}

// keep gives a field its number, and the form in which it was published.
func (b *builder) keep(m *message, f *field) {
	locked := m.memory.fields[f.name]
	if locked == nil {
		locked = m.memory.add(f)
	}
	if locked.form != f.form {
		b.notice("%s.%s stays %s, as published; the document has %s", m.name, f.name, locked.form, f.form)
	}
	if locked.json != f.json {
		b.notice("%s.%s stays %q in JSON, as published; the document has %q", m.name, f.name, locked.json, f.json)
	}
	locked.seen = true
	f.form, f.json, f.number = locked.form, locked.json, locked.number
	m.fields = append(m.fields, f)
}

func (m *message) order() {
	slices.SortFunc(m.fields, func(a, b *field) int { return a.number - b.number })
}

// fieldOf makes a field of a property.
func (b *builder) fieldOf(p property, enum, oneof string) (*field, error) {
	f := &field{name: snake(p.name), deprecated: p.deprecated, form: form{oneof: oneof}}
	if made := camel(f.name); made != p.name && !strings.Contains(p.name, "_") {
		f.json = p.name
	}
	if !parameterName.MatchString(f.name) {
		return nil, b.doc.failure(p.at, "the property %q cannot name a field", p.name)
	}
	s := p.shape
	switch {
	case s.list != nil && oneof != "" || s.entries != nil && oneof != "":
		return nil, b.doc.failure(p.at, "%s is a list or map in a oneof, which protos do not have", p.name)
	case s.list != nil:
		f.label, s = "repeated", *s.list
	case s.entries != nil:
		kind, err := b.kindOf(p, *s.entries, enum)
		f.kind = "map<string," + kind + ">"
		return f, err
	}
	var err error
	if f.kind, err = b.kindOf(p, s, enum); err != nil {
		return nil, err
	}
	scalar := !strings.Contains(f.kind, ".") || enum != ""
	switch {
	case f.kind == "string" && s.nullable && oneof == "" && strings.HasSuffix(p.name, "Mask"):
		f.kind = "google.protobuf.FieldMask" // one string in JSON, and told by its name alone
	case scalar && s.nullable && oneof == "" && f.label == "":
		f.label = "optional"
	case scalar && !s.nullable && oneof != "":
		return nil, b.doc.failure(p.at, "%s is in a oneof and cannot be null: not understood", p.name)
	}
	return f, nil
}

// kindOf is the kind of a value that is no list and no map.
func (b *builder) kindOf(p property, s shape, enum string) (string, error) {
	switch {
	case s.enum != nil:
		return enum, nil
	case s.kind != "":
		return s.kind, nil
	case imported[s.ref]:
		return s.ref, nil
	case s.ref != "" && b.names[s.ref] != "":
		return b.names[s.ref], nil
	case s.ref != "":
		return "", b.doc.failure(p.at, "%s refers to %s, which the document does not have", p.name, s.ref)
	}
	return "", b.doc.failure(p.at, "%s has a shape that is not understood", p.name)
}

// addParents makes the messages that only hold others.
func (b *builder) addParents() {
	for _, name := range slices.Sorted(maps.Keys(b.messages)) {
		for parent := parentOf(name); parent != packageOf(name); parent = parentOf(parent) {
			if b.messages[parent] == nil {
				b.messages[parent] = &message{name: parent, memory: b.memory.message(parent)}
				b.messages[parent].memory.seen = true
			}
		}
	}
}

func (b *builder) addServices(reads []string) error {
	b.services = make(map[string]*service)
	unused := make(map[string]bool)
	for _, name := range reads {
		unused[name] = true
	}
	for _, o := range b.doc.operations {
		procedure := procedureOf(o)
		r := &method{name: baseOf(o.id), verb: o.verb, path: o.path, input: b.requestOf(o), output: b.names[o.answer],
			reads: o.verb == "get" || unused[procedure], stability: o.stability, deprecated: o.deprecated}
		locked := b.memory.methods[procedure]
		if locked == nil {
			locked = &lockedMethod{input: r.input, output: r.output}
			b.memory.methods[procedure] = locked
			if !r.reads && looksLikeRead(r.name) {
				b.notice("%s is new and classed as a write: review it, and name it in reads.txt if it has no side effects", procedure)
			}
		}
		if locked.input != r.input || locked.output != r.output {
			return b.doc.failure(o.at, "%s takes %s and answers %s, but was published with %s and %s: callers cannot follow that", procedure, r.input, r.output, locked.input, locked.output)
		}
		locked.seen = true
		delete(unused, procedure)
		name := parentOf(o.id)
		if b.services[name] == nil {
			b.services[name] = &service{name: name}
		}
		b.services[name].methods = append(b.services[name].methods, r)
	}
	for _, name := range slices.Sorted(maps.Keys(unused)) {
		b.notice("%s is named in reads.txt and not in the document: remove it there", name)
	}
	for _, s := range b.services {
		slices.SortFunc(s.methods, func(a, b *method) int { return strings.Compare(a.name, b.name) })
	}
	return nil
}
