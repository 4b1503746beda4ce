package c1proxy_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/fault"
	"github.com/c1proxy/c1proxy/internal/telemetry"
	"github.com/c1proxy/c1proxy/internal/transcode"
)

func readme(t *testing.T) string { t.Helper(); return document(t, "README.md") }

func document(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The README names every key of the configuration, and docs/errors.md every
// reason of an error, with the words of the code.
func TestReadmeIsWhole(t *testing.T) {
	readme, errors := readme(t), document(t, "docs/errors.md")
	for _, reason := range fault.Reasons() {
		if row := "| `" + string(reason) + "` | " + reason.Explain() + " |"; !strings.Contains(errors, row) {
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

// The README counts what is mirrored, and names methods and services that are.
func TestReadmeNamesTheMirror(t *testing.T) {
	readme := readme(t)
	services := make(map[protoreflect.FullName]bool)
	methods := operations(t)
	for _, method := range methods {
		services[method.Parent().FullName()] = true
	}
	if counts := fmt.Sprintf("All %d methods of C1's %d services", len(methods), len(services)); !strings.Contains(readme, counts) {
		t.Errorf("%q is not there", counts)
	}
	if _, err := os.Stat("docs/api.md"); err != nil || !strings.Contains(readme, "docs/api.md") {
		t.Errorf("docs/api.md is not there, or not named: %v", err)
	}
	named := regexp.MustCompile(`\bc1(?:\.[a-z0-9_]+)+\.[A-Z]\w+(?:/[A-Z]\w+)?`).FindAllString(readme, -1)
	if len(named) < 5 {
		t.Errorf("only %v are named", named)
	}
	for _, name := range named {
		if _, err := catalog.Files().FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(name, "/", "."))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The README's commands for callers work as they stand.
func TestReadmeCommands(t *testing.T) {
	g := start(t, func(s *setup) {
		s.yaml = func(text string) string {
			return strings.ReplaceAll(text, "c1.api.app.v1.ConnectorService/*", "c1.**/*")
		}
	})
	text := strings.ReplaceAll(readme(t), "127.0.0.1:8080", strings.TrimPrefix(g.url, "http://"))
	_, text, _ = strings.Cut(text, "\n## For callers\n")
	text, _, _ = strings.Cut(text, "\n## ")
	sent := make(map[string]int)
	for _, p := range pasted(text, g.keys["sync-bot"]) {
		if p.program == "grpcurl" && p.data == "" {
			continue // of reflection: TestHealthAndReflection
		}
		if status, body := p.send(t); status != "200 OK" || !strings.Contains(body, "displayName") {
			t.Errorf("%+v: got %s: %s", p, status, body)
		}
		sent[p.program]++
	}
	if sent["grpcurl"] < 1 || sent["go"] < 1 || sent["curl"] < 4 {
		t.Errorf("sent only %v", sent)
	}
}

// docs/operate.md says how what is dropped is counted.
func TestStraysAreNamed(t *testing.T) {
	operate, metrics := document(t, "docs/operate.md"), telemetry.New()
	for _, direction := range []telemetry.Direction{telemetry.Request, telemetry.Forwarded, telemetry.Answer} {
		for _, kind := range []transcode.Kind{transcode.UnknownField, transcode.UnknownEnum, transcode.UnknownType, transcode.NullElement} {
			metrics.Procedure("p").Strayed(direction, kind.String(), 1)
			w := httptest.NewRecorder()
			metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			line := fmt.Sprintf("c1proxy_strays_total{direction=%q,kind=%q,procedure=\"p\"} 1\n", direction, kind)
			if !strings.Contains(w.Body.String(), line) {
				t.Errorf("no metric %s", line)
			}
			for _, name := range []string{"c1proxy_strays_total", string(direction), kind.String()} {
				if !strings.Contains(operate, "`"+name+"`") {
					t.Errorf("%s is not there", name)
				}
			}
		}
	}
}
