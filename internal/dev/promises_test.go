package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var (
	promise      = regexp.MustCompile(`(?m)^## (P\d+): .+$`)
	pageCommand  = regexp.MustCompile(`(?m)^    (.+)$`)
	commandWords = regexp.MustCompile(`'[^']*'|\S+`)
	testName     = regexp.MustCompile(`^(Test|Fuzz|Benchmark)\w+$`)
)

// The page has every promise, once and in order, each with a command and with
// what it last printed; and every command on it runs something.
func TestPromises(t *testing.T) {
	t.Chdir("../..")
	data, err := os.ReadFile("docs/promises.md")
	if err != nil {
		t.Fatal(err)
	}
	heads := promise.FindAllSubmatchIndex(data, -1)
	if len(heads) != 17 {
		t.Errorf("%d promises, want 17", len(heads))
	}
	named := testsByPackage(t)
	for i, head := range heads {
		name, end := string(data[head[2]:head[3]]), len(data)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		if want := fmt.Sprintf("P%d", i+1); name != want {
			t.Errorf("%s stands where %s should", name, want)
		}
		section := string(data[head[0]:end])
		if !strings.Contains(section, "\nLast seen: ") {
			t.Errorf("%s: no figure", name)
		}
		commands := pageCommand.FindAllStringSubmatch(section, -1)
		if len(commands) == 0 {
			t.Errorf("%s: no command", name)
		}
		for _, found := range commands {
			if err := checkCommand(found[1], named); err != nil {
				t.Errorf("%s: %s: %v", name, found[1], err)
			}
		}
	}
}

// Commands that have drifted are found.
func TestPromisesDrift(t *testing.T) {
	named := map[string][]string{"internal/audit": {"TestKill"}, "internal/route": {"FuzzBind"}, ".": {"TestCrash"}}
	for command, ok := range map[string]bool{
		"go test -count=1 -v -run '^TestKill$' ./internal/audit":                   true,
		"X=1 go test -timeout=2h -run '^(TestKill|TestCrash)$' . ./internal/audit": true,
		"go run ./internal/dev fuzz --time 1m internal/route":                      true,
		"go test -count=1 -v -run '^(TestKill|TestGone)$' ./internal/audit":        false,
		"go test -count=1 -v -run '^TestKill$' .":                                  false,
		"go test -count=1 -v -run '^TestKill$' . ./internal/audit":                 false, // runs nothing in one of them
		"go test -count=1 -v -run '^TestK.*$' ./internal/audit":                    false,
		"go test -count=1 ./internal/audit":                                        false,
		"go test -run '^TestKill$' ./internal/gone":                                false,
		"go run ./internal/dev fuzz internal/audit":                                false,
		"go run ./internal/dev fizz":                                               false,
		"go run ./internal/dev release --into dist":                                false,
		"make proof": false,
	} {
		if err := checkCommand(command, named); (err == nil) != ok {
			t.Errorf("%s: %v", command, err)
		}
	}
}

// testsByPackage names the test functions of each package.
func testsByPackage(t *testing.T) map[string][]string {
	t.Helper()
	named := map[string][]string{}
	for _, kind := range []string{"Test", "Fuzz"} {
		found, err := testFunctions(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			named[f.pack] = append(named[f.pack], f.name)
		}
	}
	return named
}

// checkCommand holds one command against the verbs and the tests there are.
func checkCommand(command string, named map[string][]string) error {
	words := commandWords.FindAllString(command, -1)
	for len(words) > 0 && strings.Contains(words[0], "=") {
		words = words[1:] // variables of the environment
	}
	switch line := strings.Join(words, " "); {
	case strings.HasPrefix(line, "go run ./internal/dev "):
		v := new(verbs)
		parser, err := kong.New(v, kong.Vars{"vulndb": vulnDatabase})
		if err == nil {
			_, err = parser.Parse(words[3:])
		}
		if err == nil && v.Fuzz.Target != "" && !slices.ContainsFunc(named[v.Fuzz.Target], func(name string) bool { return strings.HasPrefix(name, "Fuzz") }) {
			err = fmt.Errorf("no fuzz target there")
		}
		return err
	case strings.HasPrefix(line, "go test "):
		return checkTestCommand(words[2:], named)
	}
	return fmt.Errorf("neither a test nor a verb")
}

// checkTestCommand reads -run as a list of whole names. Each must be that of a
// test in one of the packages, and each package must have one of them.
func checkTestCommand(words []string, named map[string][]string) error {
	at := slices.Index(words, "-run")
	if at < 0 || at+1 >= len(words) {
		return fmt.Errorf("it names no test")
	}
	list := strings.TrimSuffix(strings.TrimPrefix(strings.Trim(words[at+1], "'"), "^"), "$")
	names := strings.Split(strings.TrimSuffix(strings.TrimPrefix(list, "("), ")"), "|")
	missing := slices.Clone(names)
	for _, name := range names {
		if !testName.MatchString(name) {
			return fmt.Errorf("%s is no test's whole name", name)
		}
	}
	for _, word := range words[at+2:] {
		has := named[strings.TrimPrefix(word, "./")]
		found := false
		for _, name := range names {
			if slices.Contains(has, name) {
				found = true
				missing = slices.DeleteFunc(missing, func(m string) bool { return m == name })
			}
		}
		if !found {
			return fmt.Errorf("%s has none of these tests", word)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no test %s there", strings.Join(missing, ", "))
	}
	return nil
}
