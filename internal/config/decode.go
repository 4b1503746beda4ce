package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

const (
	noAliases = "anchors and aliases are not read: write the value out"
	noTags    = "YAML tags are not read: write the value alone"
	noMerge   = "merge keys are not read: write the keys out"
)

// shapes are the words for messages that people often take for a plain text.
// They name what to do with a secret that stands where its reference belongs.
var shapes = map[protoreflect.FullName]string{
	"c1proxy.config.v1.Secret": "write {file: PATH} or {env: NAME}: a secret itself never stands in the configuration",
	"c1proxy.config.v1.ApiKey": `write {sha256: HASH}, as "proxy key new" prints it: a key itself never stands in the configuration`,
}

// shape says how to write a message.
func shape(message protoreflect.MessageDescriptor) string {
	if words, ok := shapes[message.FullName()]; ok {
		return words
	}
	return "its keys are " + strings.Join(keys(message), ", ")
}

// decode fills cfg from the document's root, notes the place of every path,
// and reports what cannot be decoded. What is wrong is left out of cfg, but
// list items keep their indexes.
func (r *report) decode(root *yaml.Node, cfg *configv1.Config) {
	if what := unread(root); what != "" {
		r.add("", "%s", what)
	}
	r.message("", root, cfg.ProtoReflect())
	r.decoded = len(r.findings)
}

// message decodes a mapping into a message: each key once, in any order.
func (r *report) message(path string, node *yaml.Node, message protoreflect.Message) {
	descriptor := message.Descriptor()
	if node.Kind != yaml.MappingNode {
		r.add(path, "expected a mapping, found %s: %s", kind(node), shape(descriptor))
		return
	}
	given := make(map[protoreflect.Name]mark)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		field := r.field(path, key, descriptor)
		if field == nil {
			continue
		}
		if first, twice := given[field.Name()]; twice {
			r.addAt(markOf(key), join(path, field), join(path, field), "given twice: the first stands in line %d", first.line)
			continue
		}
		given[field.Name()] = markOf(key)
		r.value(join(path, field), key, value, message, field)
	}
}

// field is the field that a key names; nil, and a problem, if there is none.
func (r *report) field(path string, key *yaml.Node, message protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	switch {
	case key.Tag == "!!merge":
		r.addAt(markOf(key), path, path, noMerge)
		return nil
	case key.Kind != yaml.ScalarNode:
		r.addAt(markOf(key), path, path+".?", "a key must be a plain word, found %s", kind(key))
		return nil
	case unread(key) != "":
		r.addAt(markOf(key), path, path, "%s", unread(key))
		return nil
	}
	if field := message.Fields().ByName(protoreflect.Name(key.Value)); field != nil {
		return field
	}
	blames, words := unknown(path, key.Value, message)
	r.addAt(markOf(key), path, blames, "%s", words)
	return nil
}

// unknown says what to do about an unknown key, and which path it explains. A
// key is shown only when it is, or almost is, a word of the schema: any other
// may be a secret that fell out of its quotes.
func unknown(path, key string, message protoreflect.MessageDescriptor) (blames, words string) {
	if field := message.Fields().ByJSONName(key); field != nil {
		return join(path, field), fmt.Sprintf("unknown key %q: it is spelled %s here", key, field.Name())
	}
	// "key:value" without the space is one word to YAML.
	word, _, joined := strings.Cut(key, ":")
	if name := nearest(word, keys(message)); name != "" {
		field := message.Fields().ByName(protoreflect.Name(name))
		if joined && word == name {
			return join(path, field), fmt.Sprintf(`unknown key: a space is missing after "%s:"`, name)
		}
		return join(path, field), fmt.Sprintf("unknown key %q: did you mean %q?", word, name)
	}
	root := (*configv1.Config)(nil).ProtoReflect().Descriptor()
	if places := homes(key, root, ""); len(places) > 0 && shapes[message.FullName()] == "" {
		return path + ".?", fmt.Sprintf("unknown key %q: it belongs in %s", key, strings.Join(places, " or "))
	}
	return path + ".?", "unknown key: " + shape(message)
}

// value decodes the value of one key into its field. A problem with the value
// stands at the value, or at the key if the value is empty or takes many lines.
func (r *report) value(path string, key, value *yaml.Node, message protoreflect.Message, field protoreflect.FieldDescriptor) {
	r.at[path] = markOf(value)
	if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
		r.at[path] = markOf(key)
	}
	switch {
	case unread(value) != "":
		r.add(path, "%s", unread(value))
	case value.Tag == "!!null":
		r.add(path, "has no value: write one, or remove the key")
	case field.IsList() && value.Kind != yaml.SequenceNode:
		words := `begin each item with "- "`
		if nested(field) {
			words += ", " + shape(field.Message())
		}
		r.add(path, "expected a list, found %s: %s", kind(value), words)
	case field.IsList():
		list := message.Mutable(field).List()
		for i, item := range value.Content {
			r.item(fmt.Sprintf("%s[%d]", path, i), item, list, field)
		}
	case nested(field):
		r.message(path, value, message.Mutable(field).Message())
	default:
		if v, ok := r.scalar(path, value, field); ok {
			message.Set(field, v)
		}
	}
}

// item decodes one item of a list, and appends an empty one if it cannot.
func (r *report) item(path string, node *yaml.Node, list protoreflect.List, field protoreflect.FieldDescriptor) {
	r.at[path] = markOf(node)
	what := unread(node)
	if node.Tag == "!!null" {
		what = `has no value: write one, or remove the "-"`
	}
	if what != "" {
		r.add(path, "%s", what)
	}
	if nested(field) {
		item := list.AppendMutable().Message()
		if what == "" {
			r.message(path, node, item)
		}
		return
	}
	item := list.NewElement()
	if what == "" {
		if v, ok := r.scalar(path, node, field); ok {
			item = v
		}
	}
	list.Append(item)
}

// scalar decodes a single value, or reports what was expected instead of it.
func (r *report) scalar(path string, node *yaml.Node, field protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	tag := node.Tag
	if node.Kind != yaml.ScalarNode {
		tag = "" // no value has none
	}
	value, wrong := parseScalar(node.Value, tag, field)
	if wrong == (mismatch{}) {
		return value, true
	}
	if node.Kind != yaml.ScalarNode {
		wrong.hint = "write a single value"
	}
	r.add(path, "expected %s, found %s: %s", wrong.want, kind(node), wrong.hint)
	return value, false
}

// mismatch says what a value should have been and how to write it. It never
// holds the value. Zero means that the value is right.
type mismatch struct{ want, hint string }

// parseScalar reads a text with its YAML tag as a value of the field. A text
// that YAML takes for a number or a bool must stand in quotes where a text is
// wanted, because other tools that rewrite the file would change it (007 to 7).
func parseScalar(text, tag string, field protoreflect.FieldDescriptor) (value protoreflect.Value, wrong mismatch) {
	switch {
	case isDuration(field):
		d, err := time.ParseDuration(text)
		if tag != "!!str" || !duration.MatchString(text) || err != nil {
			return value, mismatch{"a duration with its unit", "write for example 30s or 1m30s"}
		}
		return protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect()), wrong
	case field.Kind() == protoreflect.BoolKind:
		if tag != "!!bool" || text != "true" && text != "false" {
			return value, mismatch{"true or false", "write one of them, without quotes"}
		}
		return protoreflect.ValueOfBool(text == "true"), wrong
	case field.Kind() != protoreflect.StringKind:
		return parseNumber(text, tag, field)
	case tag != "!!str" && tag != "!!timestamp":
		return value, mismatch{"a text", "write it in quotes"}
	case text == "":
		return value, mismatch{"a text", "write one, or remove the key"}
	}
	return protoreflect.ValueOfString(text), wrong
}

// The texts that are read as a whole number, as a number and as a duration: less
// than YAML and Go allow, so that no two readers of the file can differ.
var (
	decimal  = regexp.MustCompile(`^(0|[1-9][0-9]{0,19})$`)
	fraction = regexp.MustCompile(`^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$`)
	duration = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`)
)

// parseNumber reads a number: for every kind but double a whole one of the
// field's width.
func parseNumber(text, tag string, field protoreflect.FieldDescriptor) (value protoreflect.Value, wrong mismatch) {
	if field.Kind() == protoreflect.DoubleKind {
		n, err := strconv.ParseFloat(text, 64)
		if tag != "!!int" && tag != "!!float" || !fraction.MatchString(text) || err != nil {
			return value, mismatch{"a number", "write for example 0.25, without quotes"}
		}
		return protoreflect.ValueOfFloat64(n), wrong
	}
	wide := field.Kind() == protoreflect.Uint64Kind
	bits := 32
	if wide {
		bits = 64
	}
	n, err := strconv.ParseUint(text, 10, bits)
	if tag != "!!int" || !decimal.MatchString(text) || err != nil {
		return value, mismatch{fmt.Sprintf("a whole number below 2^%d", bits), "write for example 50, without unit or quotes"}
	}
	if wide {
		return protoreflect.ValueOfUint64(n), wrong
	}
	return protoreflect.ValueOfUint32(uint32(n)), wrong
}

// unread says why a node is none of those that are read; "" if it is one.
func unread(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		return noAliases
	case node.Style&yaml.TaggedStyle != 0:
		return noTags
	}
	return ""
}

// kind names what a node is, without showing it.
func kind(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return "a mapping"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	case node.Kind == yaml.AliasNode:
		return "an alias"
	case node.Value == "" || node.Tag == "!!null":
		return "nothing"
	case node.Tag == "!!int" || node.Tag == "!!float":
		return "a number"
	case node.Tag == "!!bool":
		return "true or false"
	}
	return "a text"
}

// nested tells whether a field holds messages that are mappings in the file. A
// duration is a message too, but a single value in the file.
func nested(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && !isDuration(field)
}

// isDuration tells whether a field holds a duration, such as 1m30s.
func isDuration(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && field.Message().FullName() == "google.protobuf.Duration"
}

// join is the path of a field below path.
func join(path string, field protoreflect.FieldDescriptor) string {
	return strings.TrimPrefix(path+"."+string(field.Name()), ".")
}
