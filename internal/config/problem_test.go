package config_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/config"
)

// Parts of the documented configuration that the cases change.
const (
	auditLine   = "audit: {dir: /var/lib/c1proxy/audit, key_file: /var/lib/c1proxy/audit.key}"
	listenLine  = `listen: {address: "127.0.0.1:8080"}`
	adminLine   = `admin: {address: "127.0.0.1:9090"}`
	keysLine    = `api_keys: [{sha256: "` + hash + `"}]`
	urlLine     = "url: https://acme.conductor.one\n"
	idLine      = "client_id: clever-fox-42195@acme.conductor.one/spc"
	secretLine  = "client_secret: {file: /run/secrets/c1-client-secret}"
	limitLine   = "team: {rate: 50, per: 1s, burst: 100}"
	methodsLine = `methods: ["c1.api.app.v1.ConnectorService/ConfirmSyncValid"]`
)

// tenantsPart is the section of tenants.
var tenantsPart = documented[strings.Index(documented, "tenants:"):strings.Index(documented, "teams:")]

// A problemCase is the documented configuration with old replaced by new once,
// and every problem that it has then, without the file's name.
type problemCase struct {
	name, old, new string
	want           []string
}

var problemCases = slices.Concat(fileProblems, syntaxProblems, keyProblems, typeProblems, valueProblems,
	addressProblems, tenantProblems, wayProblems, credentialProblems, overlapProblems, teamProblems, auditProblems, sinkProblems, tracesProblems, identityProblems, doorProblems, consoleProblems, manyProblems)

func TestProblems(t *testing.T) {
	for _, test := range problemCases {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(documented, test.old) {
				t.Fatal("the case changes nothing")
			}
			cfg, err := config.Parse("c1proxy.yaml", []byte(strings.Replace(documented, test.old, test.new, 1)))
			var problems *config.Error
			if cfg != nil || !errors.As(err, &problems) || problems.File != "c1proxy.yaml" {
				t.Fatalf("got %v, %v", cfg, err)
			}
			var want []string
			for _, line := range test.want {
				want = append(want, "c1proxy.yaml:"+line)
			}
			if diff := cmp.Diff(want, lines(err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A file may have many problems, but a report is read by people.
func TestManyProblems(t *testing.T) {
	text := documented + strings.Repeat("x: 1\n", 1000)
	_, err := config.Parse("c1proxy.yaml", []byte(text))
	if got := lines(err); len(got) != 100 || got[99] != `c1proxy.yaml:120:1: unknown key: its keys are listen, tenants, teams, audit, admin, telemetry, issuers, redis, costs, cors, console` {
		t.Errorf("%d problems, the last is %s", len(got), got[len(got)-1])
	}
}

// Insecure tenants, but no others, may have what tests and the sandbox need.
func TestAllowInsecure(t *testing.T) {
	for _, test := range []struct{ url, id string }{
		{"http://127.0.0.1:8081", "x@127.0.0.1:8081/spc"},
		{"http://127.0.0.1:8081", "x@127.0.0.1:9999/spc"},
		{"http://localhost:8081", "x@LOCALHOST/spc"},
		{`"https://[::1]:8081"`, "x@[::1]:8081/spc"},
		{"https://192.0.2.1", "x@192.0.2.1/spc"},
		{"http://c1", "x@c1/spc"},
		{"https://acme.conductor.one:8443", "x@acme.conductor.one/spc"},
		{"https://acme.conductor.one", "x@acme.conductor.one:8443/spc"},
	} {
		text := strings.Replace(documented, urlLine, "url: "+test.url+"\n    allow_insecure: true\n", 1)
		text = strings.Replace(text, idLine, "client_id: "+test.id, 1)
		if _, err := config.Parse("c1proxy.yaml", []byte(text)); err != nil {
			t.Errorf("%s with %s: %v", test.url, test.id, err)
		}
		if _, err := config.Parse("c1proxy.yaml", []byte(strings.Replace(text, "insecure: true", "insecure: false", 1))); err == nil {
			t.Errorf("%s with %s: accepted without allow_insecure", test.url, test.id)
		}
	}
}

// What is at the edge of a refusal, and right.
func TestAccepted(t *testing.T) {
	for _, test := range []struct{ old, new string }{
		{auditLine, "audit: {dir: /a/b/c, key_file: /a/b}"},
		{auditLine, "audit: {dir: /a/b, key_file: /a/b.key}"},
		{auditLine, "audit: {dir: ./a, key_file: ./b}"},
		{auditLine, "audit: {dir: /a/b, retain: {bytes: 1048576, archive_dir: /a}}"},
		{auditLine, "audit: {dir: /a/b, retain: {age: 1h}}"},
		{limitLine, "team: {rate: 1, per: 24h, burst: 365}"},
		{limitLine, "team: {rate: 1000000, per: 1ms, burst: 1000000}"},
		{"name: payments", "name: 2026-01-01"},
		{"name: payments", "name: " + strings.Repeat("a", 63)},
		{keysLine, "api_keys: []"},
		{listenLine, `listen: {address: "[::1]:0"}`},
		{listenLine, "listen: {}"},
		{listenLine, "# \U0001F600 \u05e9\n\n" + listenLine + "\r"},
		{`admin: {address: "127.0.0.1:9090"}`, `admin: {address: "127.0.0.1:0"}`},
		{auditLine, auditLine + "\ntelemetry: {}"},
		{auditLine, auditLine + "\ntelemetry: {traces: {endpoint: http://localhost:4318, sample_ratio: 0}}"},
		{auditLine, auditLine + "\ntelemetry: {traces: {endpoint: \"https://[2001:db8::1]:4318/otlp\", sample_ratio: 0.000000001}}"},
		{auditLine, auditLine + "\ntelemetry: {traces: {endpoint: http://collector/, allow_insecure: true, sample_ratio: 1.0}}"},
	} {
		if _, err := config.Parse("c1proxy.yaml", []byte(strings.Replace(documented, test.old, test.new, 1))); err != nil {
			t.Errorf("%s: %v", test.new, err)
		}
	}
}

// The key's place is refused however it is written.
func TestAuditKeyInside(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"audit: {dir: audit, key_file: " + dir + "/audit/key}",
		"audit: {dir: " + dir + "/audit, key_file: audit/key}",
		"audit: {dir: ., key_file: key}",
	} {
		_, err := config.Parse("c1proxy.yaml", []byte(strings.Replace(documented, auditLine, line, 1)))
		if err == nil || !strings.Contains(err.Error(), "lies inside audit.dir") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// Whatever key of the schema somebody mistypes, the error suggests it.
func TestSuggestions(t *testing.T) {
	eachField(t, func(path string, field protoreflect.FieldDescriptor) {
		name := string(field.Name())
		for _, typo := range []string{name + "x", "x" + name, name[1:], name[:len(name)-1], name[1:2] + name[:1] + name[2:]} {
			if field.ContainingMessage().Fields().ByName(protoreflect.Name(typo)) != nil {
				continue // another key
			}
			got := lines(parseAt(path, typo+": 1"))
			if !slices.ContainsFunc(got, func(line string) bool { return strings.HasSuffix(line, `did you mean "`+name+`"?`) }) {
				t.Errorf("%s: %s suggests %q", path, typo, got)
			}
		}
	})
}

// parseAt parses one flow mapping at the path of a message.
func parseAt(path, inside string) error {
	text := "{" + inside + "}"
	parts := strings.Split(path, ".")
	if path == "" {
		parts = nil
	}
	for _, part := range slices.Backward(parts) {
		if name, list := strings.CutSuffix(part, "[]"); list {
			text = "{" + name + ": [" + text + "]}"
		} else {
			text = "{" + name + ": " + text + "}"
		}
	}
	_, err := config.Parse("c1proxy.yaml", []byte(text))
	return err
}

// eachField visits every field of the schema with the path of its message,
// such as teams[].limits. It fails for a field of a kind that is not decoded.
func eachField(t *testing.T, visit func(path string, field protoreflect.FieldDescriptor)) {
	t.Helper()
	var walk func(path string, message protoreflect.MessageDescriptor)
	walk = func(path string, message protoreflect.MessageDescriptor) {
		for i := range message.Fields().Len() {
			field := message.Fields().Get(i)
			visit(path, field)
			below := string(field.Name())
			if field.IsList() {
				below += "[]"
			}
			switch field.Kind() {
			case protoreflect.MessageKind:
				if field.Message().FullName() != "google.protobuf.Duration" {
					walk(strings.TrimPrefix(path+"."+below, "."), field.Message())
				}
			case protoreflect.StringKind, protoreflect.BoolKind, protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.DoubleKind:
			default:
				t.Errorf("%s is a %s: decode it", field.FullName(), field.Kind())
			}
			if field.IsMap() || field.ContainingOneof() != nil && !field.HasOptionalKeyword() {
				t.Errorf("%s is of a map or a oneof: decode it", field.FullName())
			}
		}
	}
	walk("", (*configv1.Config)(nil).ProtoReflect().Descriptor())
}

// Every field, by its kind, refuses a value of each other kind in clear words.
func TestWrongTypes(t *testing.T) {
	values := map[string]string{"text": `"a text"`, "number": "7", "bool": "true", "mapping": "{a: b}", "list": "[a]", "nothing": ""}
	eachField(t, func(path string, field protoreflect.FieldDescriptor) {
		right := map[protoreflect.Kind]string{
			protoreflect.StringKind: "text", protoreflect.BoolKind: "bool", protoreflect.MessageKind: "mapping",
			protoreflect.Uint32Kind: "number", protoreflect.Uint64Kind: "number", protoreflect.DoubleKind: "number",
		}[field.Kind()]
		if field.IsList() {
			right = "list"
		}
		at := strings.TrimPrefix(strings.ReplaceAll(path, "[]", "[0]")+"."+string(field.Name()), ".")
		for kind, value := range values {
			if kind == right {
				continue
			}
			got := lines(parseAt(path, string(field.Name())+": "+value))
			if !slices.ContainsFunc(got, func(line string) bool {
				return strings.Contains(line, " "+at+": expected ") || strings.Contains(line, " "+at+": has no value")
			}) {
				t.Errorf("%s: %s: %q", at, kind, got)
			}
		}
	})
}
