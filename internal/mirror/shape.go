package mirror

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A shape is the form of a value, as far as protos care.
type shape struct {
	ref      string // the name of a schema; then nothing else is set but nullable
	kind     string // a scalar or a well-known type of protos, see kinds; "" otherwise
	enum     []string
	list     *shape // of the items
	entries  *shape // of a map's values
	nullable bool
	// null marks the bare type "null".
	null       bool
	deprecated bool
}

// kinds are the scalars by type and format.
var kinds = map[string]string{
	"string":           "string",
	"string base64":    "bytes",
	"string int64":     "int64",
	"string uint64":    "uint64",
	"string date-time": "google.protobuf.Timestamp",
	"string duration":  "google.protobuf.Duration",
	"boolean":          "bool",
	"integer int32":    "int32",
	"integer uint32":   "uint32",
	"number":           "double",
	"number float":     "float",
}

const refPrefix = "#/components/schemas/"

// shapeKeys are the keys that a shape may have; of these, readOnly, x-sunset and
// the texts mean nothing to a proto.
var shapeKeys = []string{"$ref", "oneOf", "type", "format", "enum", "items", "additionalProperties", "properties",
	"description", "title", "readOnly", "deprecated", "x-sunset"}

// readShape reads the form of a value; what names the value in errors.
func (d *document) readShape(node *yaml.Node, what string) (shape, error) {
	keys, err := d.only(node, what, shapeKeys...)
	if err != nil {
		return shape{}, err
	}
	s, err := d.readForm(node, keys, what)
	s.deprecated = s.deprecated || isTrue(keys["deprecated"])
	return s, err
}

func (d *document) readForm(node *yaml.Node, keys map[string]*yaml.Node, what string) (shape, error) {
	has := func(name string) bool { return keys[name] != nil }
	switch {
	case has("$ref") && has("type") || has("oneOf") && has("type"):
		return shape{}, d.failure(node, "%s has a type and more: its shape is not understood", what)
	case has("$ref"):
		name, ok := strings.CutPrefix(keys["$ref"].Value, refPrefix)
		if !ok {
			return shape{}, d.failure(node, "%s refers to %q, which is not understood", what, keys["$ref"].Value)
		}
		return shape{ref: name}, nil
	case has("oneOf"):
		return d.readNullable(keys["oneOf"], what)
	case !has("type"):
		return shape{}, d.failure(node, "%s has no type: its shape is not understood", what)
	}
	types, nullable := typesOf(keys["type"])
	s, err := d.readTyped(node, keys, types, what)
	s.nullable = nullable
	return s, err
}

// readNullable reads oneOf, which the document has only to say that a reference
// may be null.
func (d *document) readNullable(node *yaml.Node, what string) (shape, error) {
	if node.Kind != yaml.SequenceNode || len(node.Content) != 2 {
		return shape{}, d.failure(node, "%s is oneOf something other than a schema and null: its shape is not understood", what)
	}
	s, err := d.readShape(node.Content[0], what)
	if err != nil {
		return shape{}, err
	}
	other, err := d.readShape(node.Content[1], what)
	if err != nil {
		return shape{}, err
	}
	if s.ref == "" || !other.null {
		return shape{}, d.failure(node, "%s is oneOf something other than a schema and null: its shape is not understood", what)
	}
	s.nullable = true
	return s, nil
}

// typesOf returns the types of a value without null, and whether null is one.
func typesOf(node *yaml.Node) (types []string, nullable bool) {
	if node.Kind == yaml.ScalarNode {
		return []string{node.Value}, false
	}
	for _, item := range node.Content {
		if item.Value == "null" {
			nullable = true
		} else {
			types = append(types, item.Value)
		}
	}
	return types, nullable
}

// allTypes are those of a value that may be anything.
var allTypes = []string{"array", "boolean", "number", "object", "string"}

func (d *document) readTyped(node *yaml.Node, keys map[string]*yaml.Node, types []string, what string) (s shape, err error) {
	slices.Sort(types)
	format := ""
	if keys["format"] != nil {
		format = keys["format"].Value
	}
	switch {
	case slices.Equal(types, allTypes):
		return shape{kind: "google.protobuf.Value"}, nil
	case len(types) != 1:
		return s, d.failure(node, "%s has the types %v: its shape is not understood", what, types)
	case types[0] == "null":
		return shape{null: true}, nil
	case types[0] == "object":
		return d.readObject(node, keys, what)
	case types[0] == "array" && keys["items"] != nil:
		items, err := d.readShape(keys["items"], what+"[]")
		if err == nil && (items.list != nil || items.entries != nil || items.nullable || items.null) {
			err = d.failure(node, "%s is a list of what protos have no lists of", what)
		}
		return shape{list: &items, deprecated: items.deprecated}, err
	case keys["enum"] != nil && types[0] == "string" && format == "":
		return d.readEnum(keys["enum"], what)
	}
	if s.kind = kinds[strings.TrimSpace(types[0]+" "+format)]; s.kind == "" || keys["enum"] != nil {
		return s, d.failure(node, "%s is a %s of format %q: its shape is not understood", what, types[0], format)
	}
	return s, nil
}

// readObject reads an object that has no name: a map, a Struct, an Any or Empty.
func (d *document) readObject(node *yaml.Node, keys map[string]*yaml.Node, what string) (shape, error) {
	extra, properties := keys["additionalProperties"], keys["properties"]
	open := isTrue(extra)
	switch {
	case properties != nil:
		if _, err := d.only(properties, what, "@type"); err != nil || !open {
			return shape{}, d.failure(node, "%s is an object of its own: its shape is not understood", what)
		}
		return shape{kind: "google.protobuf.Any"}, nil
	case open:
		return shape{kind: "google.protobuf.Struct"}, nil
	case extra == nil:
		return shape{kind: "google.protobuf.Empty"}, nil
	}
	values, err := d.readShape(extra, what+"{}")
	if err == nil && (values.list != nil || values.entries != nil || values.nullable || values.null || values.enum != nil) {
		err = d.failure(node, "%s is a map of what protos have no maps of", what)
	}
	return shape{entries: &values}, err
}

func (d *document) readEnum(node *yaml.Node, what string) (shape, error) {
	s := shape{}
	for _, item := range node.Content {
		if !enumValue.MatchString(item.Value) || slices.Contains(s.enum, item.Value) {
			return s, d.failure(item, "%s has the value %q, which cannot name a value of an enum", what, item.Value)
		}
		s.enum = append(s.enum, item.Value)
	}
	if len(s.enum) == 0 {
		return s, d.failure(node, "%s has no values", what)
	}
	return s, nil
}
