package config

import (
	"cmp"
	"path/filepath"

	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

// defaults are what missing keys mean, as they would be written. Each stands in
// the comment of its field too.
var defaults = map[protoreflect.FullName]string{
	"c1proxy.config.v1.Listen.address":            "127.0.0.1:8080",
	"c1proxy.config.v1.Listen.max_message_bytes":  "4194304",
	"c1proxy.config.v1.Listen.reflection":         "true",
	"c1proxy.config.v1.Listen.max_connections":    "20000",
	"c1proxy.config.v1.Listen.max_calls":          "10000",
	"c1proxy.config.v1.Listen.max_connection_age": "10m0s",
	"c1proxy.config.v1.Listen.drain_delay":        "0s",
	"c1proxy.config.v1.FailedAuth.rate":           "60",
	"c1proxy.config.v1.FailedAuth.per":            "1m0s",
	"c1proxy.config.v1.FailedAuth.burst":          "100",
	"c1proxy.config.v1.Tenant.timeout":            "30s",
	"c1proxy.config.v1.Tenant.resend_on_401":      "true",
	"c1proxy.config.v1.Tenant.max_in_flight":      "16384",
	"c1proxy.config.v1.Audit.segment_bytes":       "67108864",
	"c1proxy.config.v1.Audit.min_free_bytes":      "1073741824",
	"c1proxy.config.v1.Audit.reserve_bytes":       "67108864",
	"c1proxy.config.v1.AuditSink.format":          "json",
	"c1proxy.config.v1.Syslog.facility":           "local0",
	"c1proxy.config.v1.Webhook.body":              "ndjson",
	"c1proxy.config.v1.Webhook.batch_max_records": "500",
	"c1proxy.config.v1.Admin.address":             "127.0.0.1:9090",
	"c1proxy.config.v1.Traces.sample_ratio":       "1",
	"c1proxy.config.v1.Traces.service_name":       "c1proxy",
	"c1proxy.config.v1.Issuer.max_token_lifetime": "24h0m0s",
	"c1proxy.config.v1.Redis.database":            "0",
	"c1proxy.config.v1.Redis.prefix":              "c1proxy:",
	"c1proxy.config.v1.Redis.timeout":             "10ms",
	"c1proxy.config.v1.Redis.on_redis_failure":    "local",
}

// tags are the YAML tags that the defaults' values would have.
var tags = map[protoreflect.Kind]string{
	protoreflect.BoolKind:   "!!bool",
	protoreflect.Uint32Kind: "!!int",
	protoreflect.Uint64Kind: "!!int",
	protoreflect.DoubleKind: "!!float",
}

// setDefaults fills in what is missing from a message and all below it. A
// section that has defaults and is missing as a whole is added, unless it may be
// missing and could not be without keys that have none. Items of lists get their
// defaults, but none is added.
func setDefaults(message protoreflect.Message) {
	fields := message.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case nested(field) && field.IsList():
			list := message.Get(field).List()
			for j := range list.Len() {
				setDefaults(list.Get(j).Message())
			}
		case nested(field):
			if message.Has(field) || hasDefaults(field.Message()) && (fieldRules(field).GetRequired() || !hasRequired(field.Message())) {
				setDefaults(message.Mutable(field).Message())
			}
		case !message.Has(field) && defaults[field.FullName()] != "":
			message.Set(field, defaultValue(field))
		}
	}
	if audit, ok := message.Interface().(*configv1.Audit); ok {
		audit.KeyFile = cmp.Or(audit.GetKeyFile(), beside(audit.GetDir(), ".key"))
		audit.HashKeysFile = cmp.Or(audit.GetHashKeysFile(), beside(audit.GetDir(), ".hash-keys"))
	}
}

// hasDefaults tells whether a message is worth having when it is not written.
func hasDefaults(message protoreflect.MessageDescriptor) bool {
	fields := message.Fields()
	for i := range fields.Len() {
		if defaults[fields.Get(i).FullName()] != "" {
			return true
		}
	}
	return false
}

// hasRequired tells whether a message has a key that must be written.
func hasRequired(message protoreflect.MessageDescriptor) bool {
	fields := message.Fields()
	for i := range fields.Len() {
		if fieldRules(fields.Get(i)).GetRequired() {
			return true
		}
	}
	return false
}

// defaultValue reads the default of a field that has one, as if it were written.
func defaultValue(field protoreflect.FieldDescriptor) protoreflect.Value {
	tag := tags[field.Kind()]
	if tag == "" {
		tag = "!!str"
	}
	value, wrong := parseScalar(defaults[field.FullName()], tag, field)
	if wrong != (mismatch{}) {
		panic("config: default of " + string(field.FullName()) + " is not " + wrong.want)
	}
	return value
}

// beside is the default of a file beside a directory. It is "" for a directory
// that has no name to put an ending after.
func beside(dir, ending string) string {
	switch base := filepath.Base(dir); base {
	case ".", "..", string(filepath.Separator):
		return ""
	}
	return filepath.Clean(dir) + ending
}
