package mirror

import (
	"cmp"
	"slices"
	"strings"
)

// addEnums makes the enums of a message's properties, and returns their names by
// property. The document has each as a list of its own; equal lists in a message
// are one enum, named after its first property, since the values of enums that
// stand side by side must differ.
func (b *builder) addEnums(m *message, properties []property) (map[string]string, error) {
	names := make(map[string]string)
	lists := make(map[string][]property) // by enum
	add := func(p property, name string) {
		names[p.name] = name
		lists[name] = append(lists[name], p)
	}
	var fresh []property
	for _, p := range properties {
		if p.shape.values() == nil {
			continue
		}
		// What was published first, so that what is new can share it.
		if f := m.memory.fields[snake(p.name)]; f != nil && b.memory.enums[f.kind] != nil {
			add(p, f.kind)
		} else {
			fresh = append(fresh, p)
		}
	}
	for _, p := range fresh {
		name := m.name + "." + pascal(p.name)
		for other, of := range lists {
			if slices.ContainsFunc(of, func(q property) bool { return slices.Equal(q.shape.values(), p.shape.values()) }) {
				name = other
			}
		}
		add(p, name)
	}
	for name, of := range lists {
		m.enums = append(m.enums, b.newEnum(name, of))
	}
	slices.SortFunc(m.enums, func(a, b *enum) int { return cmp.Compare(a.name, b.name) })
	return names, b.checkEnums(m, properties)
}

// newEnum makes an enum of the lists of some properties.
func (b *builder) newEnum(name string, of []property) *enum {
	e := &enum{name: name, memory: b.memory.enum(name)}
	e.memory.seen = true
	for _, p := range of {
		for _, value := range p.shape.values() {
			if !slices.Contains(e.values, value) {
				e.values = append(e.values, value)
			}
		}
	}
	if len(e.memory.values) == 0 {
		e.memory.value(zeroOf(e))
	}
	for _, value := range e.values {
		e.memory.value(value).seen = true
	}
	for _, v := range e.memory.ordered() {
		if v.number == 0 {
			v.seen = true // protos need it, whether the document has it or not
		}
	}
	return e
}

// zeroOf is the value that means that none was given, made up if there is none.
func zeroOf(e *enum) string {
	for _, value := range e.values {
		if value == "UNSPECIFIED" || value == "UNKNOWN" || strings.HasSuffix(value, "_UNSPECIFIED") || strings.HasSuffix(value, "_UNKNOWN") {
			return value
		}
	}
	return screaming(baseOf(e.name)) + "_UNSPECIFIED"
}

// checkEnums finds values that two enums of a message have, and names that an
// enum shares with another type.
func (b *builder) checkEnums(m *message, properties []property) error {
	owner := make(map[string]string)
	for _, e := range m.enums {
		for _, v := range e.memory.ordered() {
			if other := owner[v.name]; other != "" {
				return b.doc.failure(properties[0].at, "%s and %s both have the value %s, which protos do not have in one message", other, e.name, v.name)
			}
			owner[v.name] = e.name
		}
		if b.doc.byName[e.name] != nil {
			return b.doc.failure(properties[0].at, "%s would be the name of an enum and of a message", e.name)
		}
	}
	return nil
}

// values are those of an enum, or of a list of one; nil for anything else.
func (s shape) values() []string {
	if s.list != nil {
		return s.list.enum
	}
	return s.enum
}

// revive brings back the types that the document no longer has, but that a field
// which stays as published needs.
func (b *builder) revive() {
	var wanted []string
	for _, m := range b.messages {
		for _, f := range m.fields {
			wanted = append(wanted, f.kind)
		}
	}
	slices.Sort(wanted)
	for len(wanted) > 0 {
		kind := wanted[0]
		wanted = wanted[1:]
		if values, ok := strings.CutPrefix(kind, "map<string,"); ok {
			kind = strings.TrimSuffix(values, ">")
		}
		if e := b.memory.enums[kind]; e != nil && !e.seen {
			b.reviveEnum(kind, e)
		}
		if m := b.memory.messages[kind]; m != nil && b.messages[kind] == nil {
			wanted = append(wanted, b.reviveMessage(kind, m)...)
		}
	}
	b.addParents()
}

func (b *builder) reviveEnum(name string, e *lockedEnum) {
	e.seen = true
	revived := &enum{name: name, memory: e}
	for _, v := range e.ordered() {
		v.seen = !v.gone
	}
	if parent := b.messages[parentOf(name)]; parent != nil {
		parent.enums = append(parent.enums, revived)
		slices.SortFunc(parent.enums, func(a, b *enum) int { return cmp.Compare(a.name, b.name) })
	}
}

// reviveMessage returns the kinds that the message needs.
func (b *builder) reviveMessage(name string, locked *lockedMessage) (kinds []string) {
	locked.seen = true
	m := &message{name: name, memory: locked}
	b.messages[name] = m
	for _, f := range locked.ordered() {
		if f.gone {
			continue
		}
		f.seen = true
		m.fields = append(m.fields, &field{name: f.name, json: f.json, form: f.form, number: f.number})
		kinds = append(kinds, f.kind)
	}
	b.notice("%s stays, since a field that was published has it; the document has it no longer", name)
	return kinds
}
