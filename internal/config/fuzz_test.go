package config_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"buf.build/go/protoyaml"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
)

// Whatever the file holds, there is a config or an error with places in the
// file. A config that is accepted reads the same when it is written again; the
// schema accepts it too; and another reader of YAML and protobuf, protoyaml,
// understands the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(documented))
	f.Add([]byte(everything))
	for _, test := range problemCases {
		if len(test.new) < 1000 {
			f.Add([]byte(strings.Replace(documented, test.old, test.new, 1)))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := config.Parse("c1proxy.yaml", data)
		if err != nil {
			checkError(t, string(data), cfg, err)
			return
		}
		checkSame(t, cfg, flow(cfg.ProtoReflect()))

		other := new(configv1.Config)
		if err := protoyaml.Unmarshal(data, other); err != nil {
			t.Fatalf("protoyaml refuses it: %v", err)
		}
		checkSame(t, cfg, flow(other.ProtoReflect()))

		var value any
		if err := yaml.Unmarshal(data, &value); err != nil {
			t.Fatal(err)
		}
		if at := readSchema(t).refuses(value, ""); at != "" {
			t.Fatalf("the JSON Schema refuses %s", at)
		}
	})
}

// checkError holds an error against what Error promises.
func checkError(t *testing.T, text string, cfg *configv1.Config, err error) {
	t.Helper()
	var problems *config.Error
	if cfg != nil || !errors.As(err, &problems) || len(problems.Problems) == 0 {
		t.Fatalf("got %v, %v", cfg, err)
	}
	inFile := strings.Split(text, "\n")
	for i, p := range problems.Problems {
		if p.Line < 1 || p.Line > len(inFile) || p.Column < 1 || p.Column > utf8.RuneCountInString(inFile[p.Line-1])+1 {
			t.Errorf("%d:%d lies outside the file: %s", p.Line, p.Column, p.Message)
		}
		if p.Message == "" || strings.ContainsAny(p.Path+p.Message, "\r\n") {
			t.Errorf("%q is no line for people", p.Message)
		}
		if before := problems.Problems[max(i-1, 0)]; before.Line > p.Line || before.Line == p.Line && before.Column > p.Column {
			t.Errorf("%d:%d comes after %d:%d", p.Line, p.Column, before.Line, before.Column)
		}
	}
}

// checkSame parses a text, which must give the same config.
func checkSame(t *testing.T, want *configv1.Config, text string) {
	t.Helper()
	got, err := config.Parse("c1proxy.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Fatal(diff)
	}
	if config.Revision(got) != config.Revision(want) {
		t.Fatal("the revision differs")
	}
}

// flow writes a message as a YAML mapping in one line.
func flow(message protoreflect.Message) string {
	var parts []string
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		text := ""
		if field.IsList() {
			var items []string
			for i := range value.List().Len() {
				items = append(items, scalar(value.List().Get(i)))
			}
			text = "[" + strings.Join(items, ", ") + "]"
		} else {
			text = scalar(value)
		}
		parts = append(parts, string(field.Name())+": "+text)
		return true
	})
	return "{" + strings.Join(parts, ", ") + "}"
}

func scalar(value protoreflect.Value) string {
	switch value := value.Interface().(type) {
	case protoreflect.Message:
		if d, ok := value.Interface().(*durationpb.Duration); ok {
			return d.AsDuration().String()
		}
		return flow(value)
	case string:
		return fmt.Sprintf("%q", value)
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64)
	default:
		return fmt.Sprint(value)
	}
}

// Wherever a secret is pasted, in whatever way, no error shows it. A client
// id's host is no secret: it is shown when it is not the tenant's.
func TestCanary(t *testing.T) {
	forms := []string{
		"%s", " %s", " %s ", "\n%s\n", "'%s", "\"%s\": ", ": %s", ", %s, ", ": {%s}, ", ": [%s], ",
		"{%s}", "[%s]", "*%s", "&%s ", "!%s ", "\\%s", "\t%s", "# %s\n\t",
	}
	const secret = "Sh0rtCanary"
	word := func(c byte) bool { return c == '_' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
	for _, text := range []string{documented, everything} {
		for i := 1; i < len(text); i++ {
			if word(text[i-1]) == word(text[i]) && i%19 != 0 {
				continue // between words, and now and then inside one
			}
			for _, form := range forms {
				_, err := config.Parse("c1proxy.yaml", []byte(text[:i]+fmt.Sprintf(form, secret)+text[i:]))
				for _, line := range lines(err) {
					if strings.Contains(line, secret) && !strings.Contains(line, "client_id: belongs to ") {
						t.Fatalf("pasted as %q before %.20q: %s", form, text[i:], line)
					}
				}
			}
		}
	}
}
