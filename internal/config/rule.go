package config

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

// patterns says in words what the patterns of the schema ask for. Every pattern
// of the schema is here.
var patterns = map[string]string{
	`^[a-z0-9][a-z0-9-]{0,62}$`:         `use lower-case letters, digits and "-", at most 63, and begin with a letter or a digit`,
	`^[a-z][a-z0-9-]{0,62}$`:            `use lower-case letters, digits and "-", at most 63, and begin with a letter`,
	`^[0-9a-fA-F]{64}$`:                 `write the 64 hex digits that "proxy key new" prints: a key itself never stands in the configuration, and one that did is to be replaced`,
	`^(/|\./|\.\./)`:                    "write the path of a file, from / or ./: a secret itself never stands in the configuration",
	`^[A-Z_][A-Z0-9_]{0,127}$`:          "write the name of an environment variable, in capitals: a secret itself never stands in the configuration",
	`^[!-*,-~]{1,255}$`:                 `use printable ASCII without blanks and "+", at most 255`,
	`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`: `use letters, digits, ".", "_" and "-", at most 63, and begin with a letter or a digit`,
	`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})$`: "write a time as in RFC 3339, for example 2030-01-31T00:00:00Z",
	`^[a-z][a-z0-9+.-]*://[A-Za-z0-9._-]+(/[A-Za-z0-9._~-]+)*(/\*)?$`:                  "write a URI such as spiffe://example.com/payments/sync-bot, or its beginning and /*",
	`^[!#-\[\]-~]{1,128}$`:          `write a scope in printable ASCII without blanks, quotes and "\", at most 128`,
	`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`: "write a DNS name in lower case, without wildcards",
}

// validator holds the compiled annotations of the schema. It is made once; an
// error means that the schema itself is wrong, which every test would show.
var validator = sync.OnceValues(func() (protovalidate.Validator, error) {
	return protovalidate.New(protovalidate.WithMessages(new(configv1.Config)), protovalidate.WithDisableLazy())
})

// checkRules holds the config against the annotations of the schema.
func (r *report) checkRules(cfg *configv1.Config) []Problem {
	v, err := validator()
	if err == nil {
		err = v.Validate(cfg)
	}
	var invalid *protovalidate.ValidationError
	if !errors.As(err, &invalid) {
		if err != nil {
			panic("config: check schema: " + err.Error()) // the schema itself is wrong
		}
		return nil
	}
	var problems []Problem
	for _, violation := range invalid.Violations {
		path := protovalidate.FieldPathString(violation.Proto.GetField())
		_, written := r.at[path]
		problems = append(problems, Problem{Path: path, Message: explainViolation(violation, written)})
	}
	return problems
}

// explainViolation says what to do about a value that breaks a rule; written
// tells whether the value stands in the file. No value is shown.
func explainViolation(violation *protovalidate.Violation, written bool) string {
	id, field := violation.Proto.GetRuleId(), violation.FieldDescriptor
	if id == "message.oneof" {
		return explainOneof(violation.Proto.GetMessage())
	}
	rules := fieldRules(field)
	switch {
	case id == "required", !written && strings.Contains(id, ".gte"):
		if text := example(rules); text != "" {
			return "is missing: write one, for example " + text
		}
		return "is missing"
	case id == "string.pattern":
		return patterns[violation.RuleValue.String()]
	case id == "string.in":
		return "must be " + alternatives(violation.RuleValue.List())
	case id == "string.max_len":
		return fmt.Sprintf("is longer than %d characters", violation.RuleValue.Uint())
	case id == "repeated.min_items":
		return "is empty: write one item, or remove what holds it"
	case id == "repeated.max_items":
		return fmt.Sprintf("has more than %d items: remove the oldest", violation.RuleValue.Uint())
	case strings.Contains(id, ".gte"), strings.Contains(id, ".lte"):
		least, most := bounds(rules)
		return fmt.Sprintf("must be from %s to %s", least, most)
	}
	return violation.Proto.GetMessage()
}

// explainOneof says what to do about a rule of alternatives. It takes the names
// out of protovalidate's "one of NAMES must be set" and "only one of NAMES can
// be set".
func explainOneof(message string) string {
	if names, found := strings.CutPrefix(message, "only one of "); found {
		return "has more than one of " + strings.TrimSuffix(names, " can be set") + ": keep one"
	}
	names := strings.TrimSuffix(strings.TrimPrefix(message, "one of "), " must be set")
	return "has none of " + names + ": write one"
}

// alternatives are the texts of a list.
func alternatives(list protoreflect.List) string {
	var texts []string
	for i := range list.Len() {
		texts = append(texts, list.Get(i).String())
	}
	return strings.Join(texts, " or ")
}

// fieldRules are the annotations of a field; empty if it has none, or if the
// field is nil, as it is in a violation by an item of a list.
func fieldRules(field protoreflect.FieldDescriptor) *validate.FieldRules {
	if field == nil {
		return new(validate.FieldRules)
	}
	return proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
}

// example is the first example of a field's annotations, as it would be
// written; "" if there is none.
func example(rules *validate.FieldRules) string {
	if items := rules.GetRepeated().GetItems(); items != nil {
		rules = items
	}
	if texts := rules.GetString().GetExample(); len(texts) > 0 {
		return texts[0]
	}
	if numbers := rules.GetUint32().GetExample(); len(numbers) > 0 {
		return fmt.Sprint(numbers[0])
	}
	if durations := rules.GetDuration().GetExample(); len(durations) > 0 {
		return plainDuration(durations[0].AsDuration())
	}
	return ""
}

// bounds are the least and the most that the annotations of a number or of a
// duration allow.
func bounds(rules *validate.FieldRules) (least, most string) {
	switch {
	case rules.GetUint32() != nil:
		return fmt.Sprint(rules.GetUint32().GetGte()), fmt.Sprint(rules.GetUint32().GetLte())
	case rules.GetUint64() != nil:
		return fmt.Sprint(rules.GetUint64().GetGte()), fmt.Sprint(rules.GetUint64().GetLte())
	case rules.GetDouble() != nil:
		return fmt.Sprint(rules.GetDouble().GetGte()), fmt.Sprint(rules.GetDouble().GetLte())
	}
	duration := rules.GetDuration()
	return plainDuration(duration.GetGte().AsDuration()), plainDuration(duration.GetLte().AsDuration())
}

// plainDuration writes a duration as people do: 5m, not 5m0s.
func plainDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
