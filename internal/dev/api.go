package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/route"
)

// listAPI writes the list of all methods that a file of descriptors has. It is
// the file that this very run of gen has made: what is embedded is older.
func listAPI(descriptors, file string) error {
	data, err := os.ReadFile(descriptors)
	if err != nil {
		return fmt.Errorf("list methods: %w", err)
	}
	files, err := catalog.Parse(data)
	if err != nil {
		return fmt.Errorf("list methods: %w", err)
	}
	text, err := apiText(files, "c1.")
	if err != nil {
		return fmt.Errorf("list methods: %w", err)
	}
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644))
}

// count counts methods.
type count struct {
	Services, Methods, Reads, Writes       int
	Draft, Alpha, Beta, Stable, Deprecated int
	last                                   protoreflect.Descriptor // the service that was counted last
}

// add counts a method. Those of a service must come one after the other.
func (c *count) add(r *route.Route) {
	if service := r.Descriptor.Parent(); service != c.last {
		c.Services++
		c.last = service
	}
	c.Methods++
	if r.ReadOnly {
		c.Reads++
	} else {
		c.Writes++
	}
	switch r.Stability {
	case route.Draft:
		c.Draft++
	case route.Alpha:
		c.Alpha++
	case route.Beta:
		c.Beta++
	case route.Stable:
		c.Stable++
	}
	if deprecated(r.Descriptor) {
		c.Deprecated++
	}
}

// packed is a package of methods.
type packed struct {
	count
	Name string
	Rows []row
}

// Anchor is the place of the package's heading, as GitHub and GitLab name it.
func (p *packed) Anchor() string { return strings.ReplaceAll(p.Name, ".", "") }

// row is what is said of a method.
type row struct{ Method, Verb, Path, Class, Stability, Deprecated string }

// apiText lists the methods of the packages under prefix, sorted by package,
// service and name.
func apiText(files *protoregistry.Files, prefix string) (string, error) {
	routes, err := route.Load(files, messageTypes{dynamicpb.NewTypes(files)}, prefix)
	if err != nil {
		return "", err
	}
	var page struct {
		count
		Packages []*packed
	}
	slices.SortStableFunc(routes, func(a, b *route.Route) int {
		return cmp.Compare(a.Descriptor.ParentFile().Package(), b.Descriptor.ParentFile().Package())
	})
	for _, r := range routes {
		name := string(r.Descriptor.ParentFile().Package())
		if n := len(page.Packages); n == 0 || page.Packages[n-1].Name != name {
			page.Packages = append(page.Packages, &packed{Name: name})
		}
		in := page.Packages[len(page.Packages)-1]
		in.Rows = append(in.Rows, rowOf(r))
		in.add(r)
		page.add(r)
	}
	var text strings.Builder
	err = apiTemplate.Execute(&text, page)
	return text.String(), err
}

func rowOf(r *route.Route) row {
	said := row{
		Method:    string(r.Descriptor.Parent().Name()) + "/" + string(r.Descriptor.Name()),
		Verb:      r.Verb,
		Class:     "write",
		Stability: string(r.Stability),
	}
	for _, s := range r.Segments {
		if s.Field != nil {
			said.Path += "/{" + string(s.Field.Name()) + "}"
		} else {
			said.Path += "/" + s.Literal
		}
	}
	if r.ReadOnly {
		said.Class = "read"
	}
	if deprecated(r.Descriptor) {
		said.Deprecated = "deprecated"
	}
	return said
}

// deprecated tells whether a method, its service or its file is.
func deprecated(method protoreflect.MethodDescriptor) bool {
	of, _ := method.Options().(*descriptorpb.MethodOptions)
	service, _ := method.Parent().Options().(*descriptorpb.ServiceOptions)
	file, _ := method.ParentFile().Options().(*descriptorpb.FileOptions)
	return of.GetDeprecated() || service.GetDeprecated() || file.GetDeprecated()
}

// messageTypes are dynamic ones, and then those that are linked in.
type messageTypes struct{ *dynamicpb.Types }

func (t messageTypes) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	if found, err := t.Types.FindMessageByName(name); err == nil {
		return found, nil
	}
	return protoregistry.GlobalTypes.FindMessageByName(name)
}

// apiTemplate is the page.
var apiTemplate = template.Must(template.New("api").Parse(`<!-- Generated from proto/c1 by go run ./internal/dev gen. Do not edit. -->

# C1's methods

c1proxy serves {{.Methods}} methods of {{.Services}} services in {{len .Packages}} packages, each over Connect, gRPC and gRPC-Web at
` + "`/package.Service/Method`" + `, and on C1's own path. {{.Reads}} are reads and {{.Writes}} are writes; {{.Stable}} are stable, {{.Beta}} beta,
{{.Alpha}} alpha and {{.Draft}} draft; {{.Deprecated}} {{if eq .Deprecated 1}}is{{else}}are{{end}} deprecated.

- **method**: its service and name. A rule of a team, ` + "`teams[].allow[].methods`" + `, has the package in front, with a dot:
  ` + "`c1.api.app.v1.ConnectorService/ConfirmSyncValid`" + `. A service's methods together are
  ` + "`c1.api.app.v1.ConnectorService/*`" + `, a package's ` + "`c1.api.app.v1.*/*`" + `, and all of C1's ` + "`c1.**/*`" + `.
- **verb**, **path**: how C1 knows it. A word in braces is a field of the request. The other fields stand in the query
  of a GET, and in the JSON body of any other verb.
- **class**: a ` + "`read`" + ` has no side effects: Connect's GET calls it too, and a rule with ` + "`class: read`" + ` allows no others.
  All else is a ` + "`write`" + `.
- **stability**: C1 may still change or remove what is not ` + "`stable`" + `. A ` + "`draft`" + ` is allowed only by a rule with
  ` + "`include_draft: true`" + `.
- **deprecated**: C1 asks not to use it any more.

| package | services | methods | reads | writes |
|---|--:|--:|--:|--:|
{{range .Packages}}| [{{.Name}}](#{{.Anchor}}) | {{.Services}} | {{.Methods}} | {{.Reads}} | {{.Writes}} |
{{end}}{{range .Packages}}
## {{.Name}}

| method | verb | path | class | stability | deprecated |
|---|---|---|---|---|---|
{{range .Rows}}| {{.Method}} | {{.Verb}} | ` + "`{{.Path}}`" + ` | {{.Class}} | {{.Stability}} | {{.Deprecated}} |
{{end}}{{end}}`))
