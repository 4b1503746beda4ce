package redact_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	appv1 "github.com/c1proxy/c1proxy/gen/c1/api/app/v1"
	"github.com/c1proxy/c1proxy/internal/catalog"
	"github.com/c1proxy/c1proxy/internal/redact"
)

// TestSecretsAreNeverRecorded goes through every request of the mirror: no
// field that may hold a secret can be kept or hashed, and it lists what was
// taken for one, to be looked at.
func TestSecretsAreNeverRecorded(t *testing.T) {
	refused := map[string]bool{}
	for name := range requests(t) {
		for _, action := range []redact.Action{redact.Keep, redact.Hash} {
			_, missing, err := redact.Resolve(name, "client_secret", action)
			if !missing && err == nil {
				t.Errorf("%s: client_secret can be recorded", name.FullName())
			}
		}
		fields := name.Fields()
		for i := range fields.Len() {
			field := string(fields.Get(i).Name())
			if _, _, err := redact.Resolve(name, field, redact.Hash); err != nil && strings.Contains(err.Error(), "secret") {
				refused[field] = true
			}
			if _, _, err := redact.Resolve(name, field, redact.Drop); err != nil && !fields.Get(i).IsMap() {
				t.Errorf("%s: %s cannot be dropped: %v", name.FullName(), field, err)
			}
		}
	}
	for _, field := range []string{"page_token", "key_id", "secret_type", "token_url"} {
		if refused[field] {
			t.Errorf("%s is taken for a secret", field)
		}
	}
	if !refused["client_secret"] {
		t.Error("no request has a client_secret: nothing was tested")
	}
	t.Log(refused)
}

// requests yields the input of every method of the mirror.
func requests(t *testing.T) map[protoreflect.MessageDescriptor]bool {
	t.Helper()
	inputs := map[protoreflect.MessageDescriptor]bool{}
	catalog.Files().RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				inputs[methods.Get(j).Input()] = true
			}
		}
		return true
	})
	return inputs
}

// Every field of every request that can be kept is read without a panic, from
// an empty message and from one whose every field is set.
func TestEveryRequest(t *testing.T) {
	for input := range requests(t) {
		var rule redact.Rule
		for i := range input.Fields().Len() {
			name := string(input.Fields().Get(i).Name())
			if _, _, err := redact.Resolve(input, name, redact.Keep); err == nil {
				rule.Keep = append(rule.Keep, name)
			}
		}
		plan, err := redact.NewPlan(input, nil, []redact.Rule{rule}, nil)
		if err != nil {
			t.Fatalf("%s: %v", input.FullName(), err)
		}
		message, err := catalog.Types{}.FindMessageByName(input.FullName())
		if err != nil {
			t.Fatal(err)
		}
		empty := message.New()
		if got := plan.Request(empty, same); len(got) != 0 {
			t.Errorf("%s: of an empty request: %v", input.FullName(), got)
		}
		for _, name := range rule.Keep {
			field := input.Fields().ByName(protoreflect.Name(name))
			switch {
			case field.IsList():
				empty.Mutable(field).List().Append(empty.Mutable(field).List().NewElement())
			case field.Message() != nil:
				empty.Mutable(field)
			case field.Kind() == protoreflect.StringKind:
				empty.Set(field, protoreflect.ValueOfString("x"))
			}
		}
		for _, f := range plan.Request(empty, same) {
			if strings.Contains(f.Value, "invalid ") {
				t.Errorf("%s: %v", input.FullName(), f)
			}
		}
	}
}

func same(s string) string { return s }

// The last rule that names a field decides, and an unset field is left out.
func TestRulesInOrder(t *testing.T) {
	keys := newKeys(t)
	request := &appv1.ConnectorServiceCreateRequest{AppId: "a", CatalogId: "c", Description: "d", UserIds: []string{"u", "v"}}
	input := request.ProtoReflect().Descriptor()
	plan, err := redact.NewPlan(input, []string{"app_id"}, []redact.Rule{
		{Keep: []string{"description", "catalog_id", "other_methods_field"}, Drop: []string{"app_id"}},
		{Keep: []string{"user_ids", "app_id"}, Hash: []string{"description"}},
		{Drop: []string{"catalog_id"}},
	}, keys)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(plan.Request(request.ProtoReflect(), strings.ToUpper))
	if want := fmt.Sprintf(`[{description %s} {user_ids ["U","V"]}]`, keys.Hash("d")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if text, ok := plan.Path("app_id", "a"); text != "a" || !ok {
		t.Errorf("path: %q, %v", text, ok)
	}
	if got := plan.Request((&appv1.ConnectorServiceCreateRequest{}).ProtoReflect(), same); got != nil {
		t.Errorf("of an empty request: %v", got)
	}
	var none *redact.Plan
	if text, ok := none.Path("app_id", "a"); text != "a" || !ok || none.Request(request.ProtoReflect(), same) != nil {
		t.Error("without rules only the path values are kept")
	}
	if plan, err := redact.NewPlan(input, nil, []redact.Rule{{Keep: []string{"elsewhere"}}}, nil); plan != nil || err != nil {
		t.Errorf("a plan without fields: %v, %v", plan, err)
	}
}

func newKeys(t *testing.T) *redact.Keys {
	t.Helper()
	keys, err := redact.LoadOrCreateKeys(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// A new key hashes otherwise; what the old one hashed is still found. No key
// is shown.
func TestKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if _, err := redact.RotateKeys(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rotate nothing: %v", err)
	}
	first, err := redact.LoadOrCreateKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := redact.LoadOrCreateKeys(path)
	if err != nil || again.Hash("ada") != first.Hash("ada") || first.Hash("ada") == first.Hash("alan") {
		t.Fatalf("loaded again: %v", err)
	}
	second, err := redact.RotateKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := redact.LoadKeys(path)
	if err != nil || loaded.Hash("ada") != second.Hash("ada") || second.Hash("ada") == first.Hash("ada") {
		t.Errorf("rotated: %v", err)
	}
	if forms := loaded.Forms("ada"); len(forms) != 2 || forms[0] != second.Hash("ada") || forms[1] != first.Hash("ada") {
		t.Errorf("forms: %v", forms)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Fields(string(data)) {
		for _, text := range []string{fmt.Sprint(loaded), fmt.Sprintf("%v %+v %#v %s", loaded, loaded, loaded, loaded)} {
			if strings.Contains(text, line) {
				t.Errorf("a key is shown: %s", text)
			}
		}
	}
}

// What is no file of keys is refused, and no error shows what stands there.
func TestBadKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	for text, want := range map[string]string{
		"":                        ":1: ",
		"c2hvcnQ=":                ":1: ",
		"hunter2-hunter2-hunter2": ":1: ",
		strings.Repeat("A", 9000): "more than",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := redact.LoadKeys(path)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%.30q: %v", text, err)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := redact.LoadKeys(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("an open file: %v", err)
	}
}
