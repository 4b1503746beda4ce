package proxy_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/proxy"
)

// Every key that a reload cannot change is refused with its own path, and every
// other is not. A new key is fixed until it is listed here and there.
func TestFixed(t *testing.T) {
	changeable := []string{"tenants", "teams", "issuers", "costs", "cors", "console", "listen.trusted_proxies", "listen.failed_auth", "audit.fields", "audit.hash_keys_file", "admin.keys"}
	full := new(configv1.Config)
	fill(full.ProtoReflect())
	seen := 0
	eachKey("", full.ProtoReflect(), func(path string, change func()) {
		before := proto.Clone(full).(*configv1.Config)
		change()
		seen++
		var want string
		if !isBelow(path, changeable) {
			want = path
		}
		var got []string
		for _, p := range proxy.Fixed(before)(full) {
			got = append(got, p.Path)
			if !strings.Contains(p.Message, "restart c1proxy") {
				t.Errorf("%s: %s", path, p.Message)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: refused %q, want %q", path, got, want)
		}
	})
	if seen < 30 {
		t.Errorf("%d keys", seen)
	}
	if got := proxy.Fixed(full)(proto.Clone(full).(*configv1.Config)); got != nil {
		t.Errorf("without a change: %v", got)
	}
	without := proto.Clone(full).(*configv1.Config)
	without.Listen.Tls = nil
	if got := proxy.Fixed(full)(without); len(got) != 1 || got[0].Path != "listen.tls" {
		t.Errorf("without TLS: %v", got)
	}
}

func isBelow(path string, of []string) bool {
	for _, key := range of {
		if path == key || strings.HasPrefix(path, key+".") {
			return true
		}
	}
	return false
}

// fill sets each section, and leaves lists empty.
func fill(message protoreflect.Message) {
	fields := message.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.Message() != nil && !f.IsList() {
			fill(message.Mutable(f).Message())
		}
	}
}

// eachKey calls f with each key outside of lists and what changes its value.
func eachKey(section string, message protoreflect.Message, f func(path string, change func())) {
	fields := message.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		path := section + string(field.Name())
		switch {
		case field.IsList() && field.Message() != nil:
			f(path, func() { message.Mutable(field).List().AppendMutable() })
		case field.IsList():
			f(path, func() { message.Mutable(field).List().Append(protoreflect.ValueOfString("more")) })
		case field.Message() != nil && strings.HasPrefix(string(field.Message().FullName()), "google.protobuf."):
			f(path, func() {
				message.Mutable(field).Message().Set(field.Message().Fields().ByName("seconds"), protoreflect.ValueOfInt64(77))
			})
		case field.Message() != nil:
			eachKey(path+".", message.Mutable(field).Message(), f)
		default:
			f(path, func() { message.Set(field, another(field)) })
		}
	}
}

// another is a value that no field has yet.
func another(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(77)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(77)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(77)
	}
	return protoreflect.ValueOfString("another")
}
