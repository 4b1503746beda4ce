package c1proxy_test

import (
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/fault"
)

// The README names every key of the configuration and every reason of an
// error, with the words of the code.
func TestReadmeIsWhole(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)
	for _, reason := range fault.Reasons() {
		if row := "| `" + string(reason) + "` | " + reason.Explain() + " |"; !strings.Contains(readme, row) {
			t.Errorf("no row %s", row)
		}
	}
	seen := make(map[protoreflect.FullName]bool)
	var visit func(protoreflect.MessageDescriptor)
	visit = func(message protoreflect.MessageDescriptor) {
		if seen[message.FullName()] || !strings.HasPrefix(string(message.FullName()), "c1proxy.") {
			return
		}
		seen[message.FullName()] = true
		for i := range message.Fields().Len() {
			field := message.Fields().Get(i)
			if !strings.Contains(readme, string(field.Name())) {
				t.Errorf("no key %s of %s", field.Name(), message.Name())
			}
			if field.Message() != nil {
				visit(field.Message())
			}
		}
	}
	visit((*configv1.Config)(nil).ProtoReflect().Descriptor())
}
