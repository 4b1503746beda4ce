// Package redact decides what of a request stands in its audit records: which
// fields are kept in clear, which as a keyed hash, and which not at all.
//
// Without a rule the path values are kept, which name what a call is about,
// and nothing else. A field whose name says that it holds a secret can be
// neither kept nor hashed.
package redact

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/c1proxy/c1proxy/internal/audit"
)

// An Action is what becomes of a field's value in the records.
type Action int

// The actions. Where several rules name a field, the last one decides.
const (
	Drop Action = iota // it does not stand there
	Keep               // it stands there in clear
	Hash               // it stands there as [Keys.Hash]
)

// A Rule names fields, by their names in the mirror's protos, with dots where
// they lie within messages: "app_id", "user_ref.id". Of a list, also on the way
// to a field, all values are meant.
type Rule struct{ Keep, Hash, Drop []string }

// All calls yield for every name of the rule, with the key under which it stands
// there, its place and its action.
func (r *Rule) All(yield func(key, name string, i int, action Action)) {
	for action, list := range [...]struct {
		key   string
		names []string
	}{Drop: {"drop", r.Drop}, Keep: {"keep", r.Keep}, Hash: {"hash", r.Hash}} {
		for i, name := range list.names {
			yield(list.key, name, i, Action(action))
		}
	}
}

// Resolve finds the field of a message that a rule means by a name. The error
// says why the action cannot be taken on it; missing tells that there is no
// field of the name at all, which another message may have.
func Resolve(message protoreflect.MessageDescriptor, name string, action Action) (chain []protoreflect.FieldDescriptor, missing bool, err error) {
	for part := range strings.SplitSeq(name, ".") {
		var field protoreflect.FieldDescriptor
		if message != nil {
			field = message.Fields().ByName(protoreflect.Name(part))
		}
		if field == nil {
			return nil, true, fmt.Errorf("there is no field %q", name)
		}
		if field.IsMap() {
			return nil, false, fmt.Errorf("%q is a map: only single values and lists can be recorded", name)
		}
		chain = append(chain, field)
		message = field.Message()
	}
	last := chain[len(chain)-1]
	switch {
	case action == Drop:
	case message != nil && !textual(message):
		return nil, false, fmt.Errorf("%q is a message: name one of its fields, such as %q", name, name+"."+string(firstOf(message)))
	case secret(string(last.Name())):
		return nil, false, fmt.Errorf("%q may hold a secret: secrets are never recorded, not even as hashes", name)
	case len(name) > audit.MaxName:
		return nil, false, fmt.Errorf("%q has more than %d bytes: it cannot be the name of a value in a record", name, audit.MaxName)
	}
	return chain, false, nil
}

// secrets are the ends of the names of fields that hold secrets; pages are what
// only looks like them.
var (
	secrets = regexp.MustCompile(`(^|_)(secret|password|passkey|passphrase|plaintext|token|credential|jwk|pem|(api|access|private|secret|client|gateway|signing|hmac)_?key)s?$`)
	pages   = regexp.MustCompile(`(^|_)page_token$`)
)

func secret(name string) bool { return secrets.MatchString(name) && !pages.MatchString(name) }

// textual tells whether a message is one that is written as a single value.
func textual(message protoreflect.MessageDescriptor) bool {
	name := message.FullName()
	return name == "google.protobuf.Timestamp" || name == "google.protobuf.Duration" ||
		name.Parent() == "google.protobuf" && strings.HasSuffix(string(name), "Value") && name != "google.protobuf.Value" && name != "google.protobuf.ListValue"
}

// firstOf is the name of a message's first field, for an example.
func firstOf(message protoreflect.MessageDescriptor) protoreflect.Name {
	if message.Fields().Len() == 0 {
		return "id"
	}
	return message.Fields().Get(0).Name()
}

// A Plan is what the rules say of one method's requests. It is immutable and
// safe for concurrent use. The nil plan keeps the path values and nothing else.
type Plan struct {
	keys *Keys
	path map[string]Action
	// fields are those beside the path, in the order in which rules first name
	// them.
	fields []field
}

type field struct {
	name   string
	chain  []protoreflect.FieldDescriptor
	action Action
}

// NewPlan makes the plan of a method whose path values have the given names.
// Names that its request has no field for are passed over; others are as
// [Resolve] wants them. keys may be nil if nothing is hashed. It returns nil if
// no rule says anything of the method's fields.
func NewPlan(message protoreflect.MessageDescriptor, path []string, rules []Rule, keys *Keys) (*Plan, error) {
	p := &Plan{keys: keys, path: make(map[string]Action)}
	var problem error
	for i := range rules {
		rules[i].All(func(_, name string, _ int, action Action) {
			chain, missing, err := Resolve(message, name, action)
			switch {
			case missing:
			case err != nil:
				problem = cmp.Or(problem, err)
			case slices.Contains(path, name):
				p.path[name] = action
			default:
				p.set(field{name, chain, action})
			}
		})
	}
	p.fields = slices.DeleteFunc(p.fields, func(f field) bool { return f.action == Drop })
	if len(p.path) == 0 && len(p.fields) == 0 {
		p = nil
	}
	return p, problem
}

// set adds a field, or replaces what an earlier rule said of it.
func (p *Plan) set(f field) {
	if i := slices.IndexFunc(p.fields, func(other field) bool { return other.name == f.name }); i >= 0 {
		p.fields[i] = f
		return
	}
	p.fields = append(p.fields, f)
}

// Path returns what the records hold of a path value; ok is false if nothing.
func (p *Plan) Path(name, value string) (text string, ok bool) {
	if p == nil {
		return value, true
	}
	action, named := p.path[name]
	switch {
	case !named || action == Keep:
		return value, true
	case action == Hash:
		return p.keys.Hash(value), true
	}
	return "", false
}

// Request returns what the records hold of a request beside its path values.
// clean is called on each value that is kept in clear. What the request does
// not set is left out.
func (p *Plan) Request(request protoreflect.Message, clean func(string) string) audit.Fields {
	if p == nil {
		return nil
	}
	var fields audit.Fields
	for _, f := range p.fields {
		text := clean
		if f.action == Hash {
			text = p.keys.Hash
		}
		if value, ok := read(request, f.chain, text); ok {
			fields = append(fields, audit.Field{Name: f.name, Value: value})
		}
	}
	return fields
}
