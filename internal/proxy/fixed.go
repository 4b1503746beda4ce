package proxy

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
)

// changeable are the keys that a reload changes, with all below them. Whatever
// stands here must come from the edition that a call is pinned to; every other
// key is read at start alone.
var changeable = map[string]bool{
	"tenants":                true,
	"teams":                  true,
	"issuers":                true,
	"costs":                  true,
	"cors":                   true,
	"console":                true,
	"listen.trusted_proxies": true,
	"listen.failed_auth":     true,
	"audit.fields":           true,
	"audit.hash_keys_file":   true,
	"admin.keys":             true,
}

// fixed returns the check of what cannot change while the Proxy runs: whatever
// is not changeable must be as it is in force.
func fixed(inForce *configv1.Config) config.Check {
	return func(cfg *configv1.Config) []config.Problem {
		return differing("", inForce.ProtoReflect(), cfg.ProtoReflect())
	}
}

// differing are the keys below a section that differ and may not, one by one as
// far as sections go.
func differing(section string, old, changed protoreflect.Message) (problems []config.Problem) {
	fields := old.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		path := section + string(field.Name())
		switch {
		case changeable[path]:
		case field.Message() != nil && !field.IsList() && old.Has(field) && changed.Has(field) && !scalar(field):
			problems = append(problems, differing(path+".", old.Get(field).Message(), changed.Get(field).Message())...)
		case old.Has(field) != changed.Has(field) || !old.Get(field).Equal(changed.Get(field)):
			problems = append(problems, config.Problem{Path: path,
				Message: "is not what c1proxy was started with, and cannot change while it runs: restart c1proxy, or put it back"})
		}
	}
	return problems
}

// scalar tells whether a message is written as one value, as a duration is.
func scalar(field protoreflect.FieldDescriptor) bool {
	return field.Message().FullName().Parent() == "google.protobuf"
}
