package mirror

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	// enumValue is the form of a value of an enum, in protos and in JSON.
	enumValue = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	// operationID is package.Service.Method.
	operationID = regexp.MustCompile(`^([a-z][a-z0-9_]*\.)+[A-Z][A-Za-z0-9]*\.[A-Z][A-Za-z0-9]*$`)
	// parameterName is the form of a field's name in protos.
	parameterName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	pathVariable  = regexp.MustCompile(`\{([^{}]*)\}`)
)

func (d *document) readPaths(node *yaml.Node) error {
	list, err := d.entries(node, "paths")
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, e := range list {
		if !strings.HasPrefix(e.key, "/") {
			return d.failure(e.at, "the path %q does not begin with a slash", e.key)
		}
		verbs, err := d.entries(e.value, "path "+e.key)
		if err != nil {
			return err
		}
		for _, v := range verbs {
			o, err := d.readOperation(e.key, v)
			if err != nil {
				return err
			}
			if seen[o.id] {
				return d.failure(v.at, "the operation %s is there twice", o.id)
			}
			seen[o.id] = true
			d.operations = append(d.operations, o)
		}
	}
	return nil
}

// verbs are those that google.api.http knows by name.
var verbs = []string{"get", "put", "post", "delete", "patch"}

// stabilities are the levels that the document tells, from the least stable. The
// last is what every operation is that tells none.
var stabilities = []string{"draft", "alpha", "beta", "stable"}

func (d *document) readOperation(path string, e entry) (*operation, error) {
	if !slices.Contains(verbs, e.key) {
		return nil, d.failure(e.at, "path %s has the verb %q, which is not understood", path, e.key)
	}
	o := &operation{verb: e.key, path: path, at: e.at}
	keys, err := d.only(e.value, e.key+" "+path, "operationId", "description", "summary", "tags", "parameters",
		"requestBody", "responses", "deprecated", "x-stability-level")
	if err != nil {
		return nil, err
	}
	if id := keys["operationId"]; id == nil || !operationID.MatchString(id.Value) {
		return nil, d.failure(e.at, "%s %s has no operationId package.Service.Method", e.key, path)
	}
	o.id = keys["operationId"].Value
	o.deprecated = isTrue(keys["deprecated"])
	if level := keys["x-stability-level"]; level != nil {
		if !slices.Contains(stabilities, level.Value) {
			return nil, d.failure(level, "%s has the stability %q, which is not understood", o.id, level.Value)
		}
		if level.Value != "stable" {
			o.stability = level.Value
		}
	}
	if err := d.readParameters(o, keys["parameters"]); err != nil {
		return nil, err
	}
	return o, d.readBodies(o, keys["requestBody"], keys["responses"])
}

func (d *document) readParameters(o *operation, node *yaml.Node) error {
	if node != nil {
		for _, item := range node.Content {
			if err := d.readParameter(o, item); err != nil {
				return err
			}
		}
	}
	var bound []string
	for _, match := range pathVariable.FindAllStringSubmatch(o.path, -1) {
		bound = append(bound, match[1])
	}
	var declared []string
	for _, p := range o.inPath {
		declared = append(declared, p.name)
	}
	if !slices.Equal(bound, declared) {
		return d.failure(o.at, "%s has the path parameters %v where its path has %v", o.id, declared, bound)
	}
	return nil
}

func (d *document) readParameter(o *operation, node *yaml.Node) error {
	keys, err := d.only(node, "parameter of "+o.id, "in", "name", "required", "schema", "description", "deprecated")
	if err != nil {
		return err
	}
	for _, key := range []string{"in", "name", "schema"} {
		if keys[key] == nil {
			return d.failure(node, "a parameter of %s has no %s", o.id, key)
		}
	}
	p := property{name: keys["name"].Value, at: node, deprecated: isTrue(keys["deprecated"])}
	if !parameterName.MatchString(p.name) {
		return d.failure(node, "%s has the parameter %q, which cannot name a field", o.id, p.name)
	}
	if p.shape, err = d.readShape(keys["schema"], o.id+" "+p.name); err != nil {
		return err
	}
	scalar := p.shape
	if scalar.list != nil {
		scalar = *scalar.list
	}
	if scalar.nullable || scalar.enum == nil && (scalar.kind == "" || strings.Contains(scalar.kind, ".")) {
		return d.failure(node, "%s has the parameter %s, which is no scalar", o.id, p.name)
	}
	switch in := keys["in"].Value; in {
	case "path":
		if kind := p.shape.kind; kind != "string" && kind != "int32" && kind != "int64" && kind != "uint32" && kind != "uint64" {
			return d.failure(node, "%s has the path parameter %s, which is no string or integer", o.id, p.name)
		}
		o.inPath = append(o.inPath, p)
	case "query":
		o.inQuery = append(o.inQuery, p)
	default:
		return d.failure(node, "%s has a parameter in %q, which is not understood", o.id, in)
	}
	return nil
}

// readBodies reads the schemas of what an operation takes and answers.
func (d *document) readBodies(o *operation, request, responses *yaml.Node) (err error) {
	if request != nil {
		if o.body, err = d.readContent(request, o.id+" requestBody"); err != nil {
			return err
		}
	}
	switch {
	case o.verb == "get" && o.body != "":
		return d.failure(request, "%s is a GET with a body: not understood", o.id)
	case o.verb != "get" && o.body == "":
		return d.failure(o.at, "%s has no body and is no GET: not understood", o.id)
	case o.body != "" && len(o.inQuery) > 0:
		return d.failure(o.at, "%s has both a body and a query: not understood", o.id)
	case responses == nil:
		return d.failure(o.at, "%s has no responses", o.id)
	}
	answers, err := d.only(responses, o.id+" responses", "200")
	if err != nil {
		return err
	}
	if answers["200"] == nil {
		return d.failure(responses, "%s has no response 200", o.id)
	}
	o.answer, err = d.readContent(answers["200"], o.id+" response")
	return err
}

// readContent returns the name of the schema that a body refers to.
func (d *document) readContent(node *yaml.Node, what string) (string, error) {
	for _, key := range []string{"content", "application/json", "schema"} {
		keys, err := d.only(node, what, key, "description", "required")
		if err != nil {
			return "", err
		}
		if keys[key] == nil {
			return "", d.failure(node, "%s has no %s", what, key)
		}
		node = keys[key]
	}
	s, err := d.readShape(node, what)
	if err != nil {
		return "", err
	}
	if s.ref == "" || d.byName[s.ref] == nil {
		return "", d.failure(node, "%s is no schema that the document has", what)
	}
	return s.ref, nil
}
