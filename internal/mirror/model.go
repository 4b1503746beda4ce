package mirror

import "strings"

// The model is what a proto says, before it is text.

// A message is one message with its fields and the types in it.
type message struct {
	name       string // with its package
	fields     []*field
	enums      []*enum
	nested     []*message
	deprecated bool
	memory     *lockedMessage
}

// A field is one field of a message.
type field struct {
	name string
	// json is the name in JSON where protos would make another one; else "".
	json string
	form
	deprecated bool
	number     int
}

// A form is what must never change in a published field.
type form struct {
	label string // "optional", "repeated" or ""
	kind  string // a scalar, the full name of a type, or map<string,KIND>
	oneof string // "" for none
}

func (f form) String() string {
	text := strings.TrimSpace(f.label + " " + f.kind)
	if f.oneof != "" {
		text += " in oneof " + f.oneof
	}
	return text
}

// An enum stands in the message whose fields have it.
type enum struct {
	name   string // with its package and message
	values []string
	memory *lockedEnum
}

// A service is one service with its methods, in the order of their names.
type service struct {
	name    string
	methods []*method
}

// A method is one operation.
type method struct {
	name, verb, path string
	input, output    string
	reads            bool
	stability        string
	deprecated       bool
}

// A file holds a package.
type file struct {
	pkg      string
	imports  map[string]bool
	needs    map[string]bool // other packages of the mirror
	messages []*message
	services []*service
}

// use notes that the file needs a type.
func (f *file) use(kind string) {
	if values, ok := strings.CutPrefix(kind, "map<string,"); ok {
		kind = strings.TrimSuffix(values, ">")
	}
	switch pkg := packageOf(kind); {
	case !strings.Contains(kind, ".") || pkg == f.pkg:
	case pkg == "google.protobuf":
		f.imports["google/protobuf/"+wellKnownFile(kind)+".proto"] = true
	case pkg == "google.rpc":
		f.imports["google/rpc/status.proto"] = true
	default:
		f.imports[pathOf(pkg)] = true
		if f.needs == nil {
			f.needs = make(map[string]bool)
		}
		f.needs[pkg] = true
	}
}

// wellKnownFile is the file of a well-known type, without its folder.
func wellKnownFile(kind string) string {
	switch name := strings.TrimPrefix(kind, "google.protobuf."); name {
	case "FieldMask":
		return "field_mask"
	case "Value", "Struct":
		return "struct"
	default:
		return strings.ToLower(name)
	}
}

func (f *file) path() string { return pathOf(f.pkg) }

// pathOf is the file of a package: c1.api.app.v1 is c1/api/app/v1/app.proto.
func pathOf(pkg string) string {
	parts := strings.Split(pkg, ".")
	name := parts[len(parts)-1]
	if len(parts) > 1 {
		name = parts[len(parts)-2]
	}
	return strings.Join(parts, "/") + "/" + name + ".proto"
}

// packageOf is the package of a type: what comes before the first capital.
func packageOf(name string) string {
	var pkg []string
	for part := range strings.SplitSeq(name, ".") {
		if part != "" && 'A' <= part[0] && part[0] <= 'Z' {
			break
		}
		pkg = append(pkg, part)
	}
	return strings.Join(pkg, ".")
}

// parentOf is the name without its last part.
func parentOf(name string) string { return name[:max(0, strings.LastIndexByte(name, '.'))] }

// baseOf is the last part of a name.
func baseOf(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// snake is the name of a field: an underscore before each capital. appId is app_id.
func snake(camel string) string {
	var b strings.Builder
	for i, r := range camel {
		if 'A' <= r && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// camel is the name in JSON that protos make of a field's name.
func camel(snake string) string {
	var b strings.Builder
	upper := false
	for _, r := range snake {
		switch {
		case r == '_':
			upper = true
			continue
		case upper && 'a' <= r && r <= 'z':
			r -= 'a' - 'A'
		}
		b.WriteRune(r)
		upper = false
	}
	return b.String()
}

// pascal is the name of a type: recordType is RecordType, page_size PageSize.
func pascal(name string) string {
	name = camel(name)
	return strings.ToUpper(name[:1]) + name[1:]
}

// screaming is the prefix of an enum's values: RecordType is RECORD_TYPE.
func screaming(name string) string { return strings.ToUpper(snake(name)) }
