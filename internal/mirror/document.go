package mirror

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A document is what is read of the OpenAPI document.
type document struct {
	file       string
	schemas    []*schema // in the document's order
	byName     map[string]*schema
	operations []*operation // in the document's order
}

// A schema is one of the document's objects.
type schema struct {
	name       string
	at         *yaml.Node
	properties []property
	oneofs     map[string]string // of its members, by property
	deprecated bool
}

// A property is a named value of a schema, or a parameter of an operation.
type property struct {
	name       string
	at         *yaml.Node
	shape      shape
	deprecated bool
}

// An operation is one verb of one path.
type operation struct {
	id, verb, path string
	at             *yaml.Node
	inPath         []property // in the path's order
	inQuery        []property
	body           string // the name of a schema; "" for none
	answer         string // the name of a schema
	stability      string // as the document has it; "" for none
	deprecated     bool
}

// failure is an error at a place of the document.
func (d *document) failure(at *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", d.file, at.Line, fmt.Sprintf(format, args...))
}

// An entry is one key of a YAML mapping with its value.
type entry struct {
	key       string
	at, value *yaml.Node
}

// entries returns the entries of a mapping, whose keys must differ.
func (d *document) entries(node *yaml.Node, what string) ([]entry, error) {
	if node.Kind != yaml.MappingNode {
		return nil, d.failure(node, "%s is no mapping", what)
	}
	seen := make(map[string]bool)
	var list []entry
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		if seen[key.Value] {
			return nil, d.failure(key, "%s has %q twice", what, key.Value)
		}
		seen[key.Value] = true
		list = append(list, entry{key.Value, key, node.Content[i+1]})
	}
	return list, nil
}

// only is entries for a mapping of which every key must be known, whether it is
// used or not. Keys that begin with x-speakeasy- are for another generator.
func (d *document) only(node *yaml.Node, what string, known ...string) (map[string]*yaml.Node, error) {
	list, err := d.entries(node, what)
	if err != nil {
		return nil, err
	}
	found := make(map[string]*yaml.Node)
	for _, e := range list {
		if !slices.Contains(known, e.key) && !strings.HasPrefix(e.key, "x-speakeasy-") {
			return nil, d.failure(e.at, "%s has the key %q, which is not understood: teach internal/mirror what it means", what, e.key)
		}
		found[e.key] = e.value
	}
	return found, nil
}

// parseDocument reads all that protos are made of.
func parseDocument(file string, text []byte) (*document, error) {
	d := &document{file: file, byName: make(map[string]*schema)}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(root.Content) != 1 {
		return nil, errors.New("read " + file + ": it is empty")
	}
	top, err := d.only(root.Content[0], "the document", "openapi", "info", "components", "paths", "servers", "security", "tags")
	if err != nil {
		return nil, err
	}
	if top["openapi"] == nil || !strings.HasPrefix(top["openapi"].Value, "3.1.") {
		return nil, d.failure(root.Content[0], "it is no document of OpenAPI 3.1")
	}
	if top["components"] == nil || top["paths"] == nil {
		return nil, d.failure(root.Content[0], "it has no components or no paths")
	}
	components, err := d.only(top["components"], "components", "schemas", "securitySchemes")
	if err != nil {
		return nil, err
	}
	if components["schemas"] == nil {
		return nil, d.failure(top["components"], "components has no schemas")
	}
	if err := d.readSchemas(components["schemas"]); err != nil {
		return nil, err
	}
	return d, d.readPaths(top["paths"])
}

func (d *document) readSchemas(node *yaml.Node) error {
	list, err := d.entries(node, "schemas")
	if err != nil {
		return err
	}
	for _, e := range list {
		s, err := d.readSchema(e)
		if err != nil {
			return err
		}
		d.schemas = append(d.schemas, s)
		d.byName[s.name] = s
	}
	return nil
}

// schemaName is a package, in lower case, and one or more names.
var schemaName = regexp.MustCompile(`^([a-z][a-z0-9_]*\.)+[A-Z][A-Za-z0-9]*(\.[A-Z][A-Za-z0-9]*)*$`)

func (d *document) readSchema(e entry) (*schema, error) {
	s := &schema{name: e.key, at: e.at}
	if !schemaName.MatchString(s.name) {
		return nil, d.failure(e.at, "the schema %q is not named package.Message", s.name)
	}
	keys, err := d.only(e.value, "schema "+s.name, "type", "title", "description", "properties", "required", "deprecated")
	if err != nil {
		return nil, err
	}
	if keys["type"] == nil || keys["type"].Value != "object" {
		return nil, d.failure(e.at, "schema %s is no object", s.name)
	}
	s.deprecated = isTrue(keys["deprecated"])
	if keys["properties"] != nil {
		if s.properties, err = d.readProperties(keys["properties"], s.name); err != nil {
			return nil, err
		}
	}
	return s, d.readOneofs(s, keys["description"])
}

func (d *document) readProperties(node *yaml.Node, of string) ([]property, error) {
	list, err := d.entries(node, "properties of "+of)
	if err != nil {
		return nil, err
	}
	properties := make([]property, 0, len(list))
	for _, e := range list {
		p := property{name: e.key, at: e.at}
		if p.shape, err = d.readShape(e.value, of+"."+e.key); err != nil {
			return nil, err
		}
		p.deprecated = p.shape.deprecated
		properties = append(properties, p)
	}
	return properties, nil
}

// A oneof stands in the description alone, in a sentence that C1's generator
// writes, and a list of its members.
var (
	oneofSentence = "contains a oneof named"
	oneofText     = regexp.MustCompile(`This message contains a oneof named (\w+)\. Only a single field of the following list may be set at a time:\n((?:[ ]*- \w+(?:\n|$))+)`)
	oneofMember   = regexp.MustCompile(`- (\w+)`)
)

func (d *document) readOneofs(s *schema, description *yaml.Node) error {
	if description == nil {
		return nil
	}
	found := oneofText.FindAllStringSubmatch(description.Value, -1)
	if len(found) != strings.Count(description.Value, oneofSentence) {
		return d.failure(description, "schema %s tells of a oneof in words that are not understood", s.name)
	}
	s.oneofs = make(map[string]string)
	for _, oneof := range found {
		for _, member := range oneofMember.FindAllStringSubmatch(oneof[2], -1) {
			if !slices.ContainsFunc(s.properties, func(p property) bool { return p.name == member[1] }) {
				return d.failure(description, "schema %s has a oneof %s with the member %s, which is no property", s.name, oneof[1], member[1])
			}
			s.oneofs[member[1]] = oneof[1]
		}
	}
	return nil
}

// isTrue tells whether a node is there and true.
func isTrue(node *yaml.Node) bool { return node != nil && node.Value == "true" }
