package config_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
)

// The schema is made of the descriptors and of the comments in the proto, which
// Go's descriptors do not have. To write it again:
//
//	go test ./internal/config -run TestJSONSchema -update
var update = flag.Bool("update", false, "write schema.json again")

const protoFile = "../../proto/c1proxy/config/v1/config.proto"

// schema is what is used of JSON Schema.
type schema struct {
	Schema      string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Additional  *bool              `json:"additionalProperties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	OneOf       []*schema          `json:"oneOf,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	MinItems    *uint64            `json:"minItems,omitempty"`
	MaxItems    *uint64            `json:"maxItems,omitempty"`
	MinLength   *uint64            `json:"minLength,omitempty"`
	MaxLength   *uint64            `json:"maxLength,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Minimum     *uint64            `json:"minimum,omitempty"`
	Maximum     *uint64            `json:"maximum,omitempty"`
	Default     any                `json:"default,omitempty"`
	Examples    []any              `json:"examples,omitempty"`
}

func TestJSONSchema(t *testing.T) {
	root := messageSchema((*configv1.Config)(nil).ProtoReflect().Descriptor(), comments(t))
	root.Schema, root.Title = "http://json-schema.org/draft-07/schema#", "c1proxy configuration"
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(root); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.json", want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want.String(), string(config.JSONSchema())); diff != "" {
		t.Errorf("schema.json is stale: run this test with -update\n%s", diff)
	}
}

// Every key is in the schema, with its comment.
func TestJSONSchemaIsComplete(t *testing.T) {
	root := readSchema(t)
	eachField(t, func(path string, field protoreflect.FieldDescriptor) {
		node := root
		for part := range strings.SplitSeq(path, ".") {
			if name, list := strings.CutSuffix(part, "[]"); list {
				node = node.Properties[name].Items
			} else if part != "" {
				node = node.Properties[part]
			}
		}
		got := node.Properties[string(field.Name())]
		if got == nil || len(got.Description) < 20 || !strings.HasSuffix(got.Description, ".") {
			t.Errorf("%s.%s: %+v", path, field.Name(), got)
		}
		if node.Additional == nil || *node.Additional {
			t.Errorf("%s: unknown keys are allowed", path)
		}
	})
}

// defaultText finds the default in a comment, when it is a plain value.
var defaultText = regexp.MustCompile(`Default: (\S+)\.$`)

// A missing key means what its comment says.
func TestDefaults(t *testing.T) {
	cfg, err := config.Parse("c1proxy.yaml", []byte(documented))
	if err != nil {
		t.Fatal(err)
	}
	bare := strings.NewReplacer(listenLine+"\n", "", `admin: {address: "127.0.0.1:9090"}`+"\n", "", ", key_file: /var/lib/c1proxy/audit.key", "").Replace(documented)
	cfg2, err := config.Parse("c1proxy.yaml", []byte(bare))
	if err != nil || !proto.Equal(cfg, cfg2) {
		t.Errorf("without the keys that have defaults: %v, %v", cfg2, err)
	}
	traced, err := config.Parse("c1proxy.yaml", []byte(documented+"telemetry: {traces: {endpoint: https://otel.example.com}}\n"))
	if err != nil || cfg.GetTelemetry() != nil {
		t.Fatalf("%v, and without being written: %v", err, cfg.GetTelemetry())
	}
	sunk, err := config.Parse("c1proxy.yaml", []byte(strings.Replace(documented, "audit.key}", "audit.key, sinks: ["+
		"{name: a, syslog: {address: \"localhost:6514\", protocol: tls}}, {name: b, webhook: {url: https://collector.example.com}}]}", 1)))
	if err != nil {
		t.Fatal(err)
	}
	issued, err := config.Parse("c1proxy.yaml", []byte(documented+"issuers: [{name: login, url: https://login.example.com, audiences: [c1proxy]}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	shared, err := config.Parse("c1proxy.yaml", []byte(documented+"redis: {addresses: [\"localhost:6379\"], replicas: 3}\n"))
	if err != nil {
		t.Fatal(err)
	}
	seen, sinks := 0, sunk.GetAudit().GetSinks()
	texts := comments(t)
	messages := map[protoreflect.Name]protoreflect.Message{
		"Listen": cfg.GetListen().ProtoReflect(), "FailedAuth": cfg.GetListen().GetFailedAuth().ProtoReflect(), "Tenant": cfg.GetTenants()[0].ProtoReflect(),
		"Credential":     cfg.GetTenants()[0].GetCredential().ProtoReflect(),
		"NextCredential": (&configv1.NextCredential{}).ProtoReflect(),
		"Audit":          cfg.GetAudit().ProtoReflect(), "Admin": cfg.GetAdmin().ProtoReflect(),
		"Traces":    traced.GetTelemetry().GetTraces().ProtoReflect(),
		"AuditSink": sinks[0].ProtoReflect(), "Syslog": sinks[0].GetSyslog().ProtoReflect(), "Webhook": sinks[1].GetWebhook().ProtoReflect(),
		"Issuer": issued.GetIssuers()[0].ProtoReflect(), "Redis": shared.GetRedis().ProtoReflect(),
		"Limit": cfg.GetTeams()[0].GetLimits().GetTeam().ProtoReflect(), "MethodLimit": (&configv1.MethodLimit{}).ProtoReflect(),
		"Rule": cfg.GetTeams()[0].GetAllow()[0].ProtoReflect(),
	}
	eachField(t, func(path string, field protoreflect.FieldDescriptor) {
		parts := defaultText.FindStringSubmatch(texts[string(field.FullName())])
		if parts == nil {
			return
		}
		seen++
		message := messages[field.ContainingMessage().Name()]
		got := fmt.Sprint(message.Get(field).Interface())
		if d, ok := message.Get(field).Interface().(protoreflect.Message); ok {
			got = d.Interface().(*durationpb.Duration).AsDuration().String()
		}
		if got != parts[1] {
			t.Errorf("%s.%s: the default is %s, the comment says %s", path, field.Name(), got, parts[1])
		}
	})
	if seen != 48 {
		t.Errorf("%d defaults in comments", seen)
	}
}

// comments reads the proto: the comment of each message and field, by full name.
func comments(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(protoFile)
	if err != nil {
		t.Fatal(err)
	}
	message := regexp.MustCompile(`^message (\w+) \{`)
	field := regexp.MustCompile(`^  (?:repeated |optional )?[\w.]+ (\w+) = \d+`)
	found := make(map[string]string)
	in, text := "", []string(nil)
	for line := range strings.Lines(string(data)) {
		if comment, ok := strings.CutPrefix(strings.TrimSpace(line), "//"); ok {
			text = append(text, strings.TrimSpace(comment))
			continue
		}
		if parts := message.FindStringSubmatch(line); parts != nil {
			in = "c1proxy.config.v1." + parts[1]
			found[in] = strings.Join(text, " ")
		} else if parts := field.FindStringSubmatch(line); parts != nil {
			found[in+"."+parts[1]] = strings.Join(text, " ")
		}
		text = nil
	}
	return found
}

func messageSchema(message protoreflect.MessageDescriptor, texts map[string]string) *schema {
	node := &schema{Type: "object", Description: texts[string(message.FullName())], Additional: proto.Bool(false), Properties: map[string]*schema{}}
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		rules := rulesOf(field)
		below := valueSchema(field, rules, texts)
		if field.IsList() {
			below = &schema{Type: "array", Items: valueSchema(field, rules.GetRepeated().GetItems(), texts)}
			if r := rules.GetRepeated(); r != nil {
				below.MinItems, below.MaxItems = r.MinItems, r.MaxItems
			}
		}
		below.Description = texts[string(field.FullName())]
		if parts := defaultText.FindStringSubmatch(below.Description); parts != nil {
			below.Default = parts[1]
			if below.Type != "string" {
				json.Unmarshal([]byte(parts[1]), &below.Default)
			}
		}
		if rules.GetRequired() || strings.HasSuffix(below.Description, " Required.") {
			node.Required = append(node.Required, string(field.Name()))
		}
		node.Properties[string(field.Name())] = below
	}
	for _, oneof := range proto.GetExtension(message.Options(), validate.E_Message).(*validate.MessageRules).GetOneof() {
		for _, name := range oneof.GetFields() {
			node.OneOf = append(node.OneOf, &schema{Required: []string{name}})
		}
	}
	return node
}

func rulesOf(field protoreflect.FieldDescriptor) *validate.FieldRules {
	return proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
}

// valueSchema is the schema of a field's value, or of one item of its list.
func valueSchema(field protoreflect.FieldDescriptor, rules *validate.FieldRules, texts map[string]string) *schema {
	switch {
	case field.Kind() == protoreflect.BoolKind:
		return &schema{Type: "boolean"}
	case field.Kind() == protoreflect.Uint32Kind:
		r := rules.GetUint32()
		return &schema{Type: "integer", Minimum: proto.Uint64(uint64(r.GetGte())), Maximum: proto.Uint64(uint64(r.GetLte())), Examples: examples(r.GetExample())}
	case field.Kind() == protoreflect.Uint64Kind:
		r := rules.GetUint64()
		return &schema{Type: "integer", Minimum: proto.Uint64(r.GetGte()), Maximum: proto.Uint64(r.GetLte())}
	case field.Kind() == protoreflect.DoubleKind:
		r := rules.GetDouble()
		return &schema{Type: "number", Minimum: proto.Uint64(uint64(r.GetGte())), Maximum: proto.Uint64(uint64(r.GetLte()))}
	case field.Kind() == protoreflect.StringKind:
		r := rules.GetString()
		if r == nil {
			r = new(validate.StringRules)
		}
		return &schema{Type: "string", MinLength: proto.Uint64(1), MaxLength: r.MaxLen, Pattern: r.GetPattern(), Enum: r.GetIn(), Examples: examples(r.GetExample())}
	case field.Message().FullName() == "google.protobuf.Duration":
		node := &schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`}
		for _, d := range rules.GetDuration().GetExample() {
			node.Examples = append(node.Examples, d.AsDuration().String())
		}
		return node
	}
	return messageSchema(field.Message(), texts)
}

func examples[T any](values []T) (all []any) {
	for _, value := range values {
		all = append(all, value)
	}
	return all
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(config.JSONSchema()))
	decoder.DisallowUnknownFields()
	root := new(schema)
	if err := decoder.Decode(root); err != nil {
		t.Fatal(err)
	}
	return root
}

// refuses says at which path a schema refuses a value, as YAML or JSON decode
// it; "" if nowhere. It knows the keywords that are used, and no others.
func (s *schema) refuses(value any, path string) string {
	ok := true
	switch value := value.(type) {
	case map[string]any:
		ok = s.Type == "object" || s.Type == ""
		for key, below := range value {
			if s.Properties[key] == nil {
				return path + "." + key
			}
			if at := s.Properties[key].refuses(below, path+"."+key); at != "" {
				return at
			}
		}
		matching := 0
		for _, form := range s.OneOf {
			if value[form.Required[0]] != nil {
				matching++
			}
		}
		ok = ok && (s.OneOf == nil || matching == 1) &&
			!slices.ContainsFunc(s.Required, func(key string) bool { return value[key] == nil })
	case []any:
		ok = s.Type == "array" && (s.MinItems == nil || uint64(len(value)) >= *s.MinItems) && (s.MaxItems == nil || uint64(len(value)) <= *s.MaxItems)
		for i, item := range value {
			if at := s.Items.refuses(item, fmt.Sprintf("%s[%d]", path, i)); at != "" {
				return at
			}
		}
	case string:
		n := uint64(len([]rune(value)))
		ok = s.Type == "string" && (s.MinLength == nil || n >= *s.MinLength) && (s.MaxLength == nil || n <= *s.MaxLength) && regexp.MustCompile(s.Pattern).MatchString(value) &&
			(s.Enum == nil || slices.Contains(s.Enum, value))
	case bool:
		ok = s.Type == "boolean"
	default:
		n, err := strconv.ParseFloat(fmt.Sprint(value), 64)
		ok = err == nil && (s.Type == "number" || s.Type == "integer" && n == math.Trunc(n)) && n >= float64(*s.Minimum) && n <= float64(*s.Maximum)
	}
	if !ok {
		return path + " "
	}
	return ""
}
