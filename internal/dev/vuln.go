package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// vulnDatabase is Go's own database of known vulnerabilities.
const vulnDatabase = "https://vuln.go.dev"

// gosec is pinned here and not in tools.mod: it brings the API clients of three
// vendors of language models, fifty modules that buf and the others would then
// be built with.
const gosec = "github.com/securego/gosec/v2/cmd/gosec@v2.30.0"

// gosecExcluded names the rules that are left out, and why. Each finding of
// them was read once.
var gosecExcluded = map[string]string{
	"G101": "it takes the names of constants for secrets: grant types, paths, reasons of errors",
	"G115": "it sees no bounds check that stands before a conversion; properties and fuzzers hold those",
	"G404": "jitter of retries, and the sandbox's samples, are not secrets",
}

type vulnVerb struct {
	DB       string   `default:"${vulndb}" help:"The database: an https or file URL. (${default})"`
	Gosec    bool     `help:"Also look for mistakes of high severity with gosec, which takes minutes to build: not part of check."`
	Packages []string `arg:"" optional:"" help:"Packages to check, all by default."`
}

// Run looks for known vulnerabilities that the code can reach. Where the
// database cannot be had it says so, and has checked nothing: that is a
// skipped, which is no failure outside CI.
func (v *vulnVerb) Run(ctx context.Context) error {
	if v.Gosec {
		if err := runGosec(ctx); err != nil {
			return err
		}
	}
	err := v.check(ctx)
	if skip := skipped(""); errors.As(err, &skip) {
		fmt.Println("skipped: vuln:", skip)
		return skippedInCI("vuln")
	}
	if err == nil {
		fmt.Println("vuln: no known vulnerability can be reached")
	}
	return err
}

// check is the check alone; it prints nothing.
func (v *vulnVerb) check(ctx context.Context) error {
	if why := unreachable(ctx, v.DB); why != nil {
		return skipped(fmt.Sprintf("nothing was checked, the database cannot be had: %v", why))
	}
	packages := v.Packages
	if len(packages) == 0 {
		packages = []string{"./..."}
	}
	return quiet(ctx, tool("govulncheck", append([]string{"-db", v.DB}, packages...)...)...)
}

// unreachable says why the database cannot be had; nil if it answers.
func unreachable(ctx context.Context, db string) error {
	if strings.HasPrefix(db, "file://") {
		_, err := os.Stat(strings.TrimPrefix(db, "file://") + "/index/modules.json")
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, db+"/index/modules.json", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("HEAD %s: %s", request.URL, response.Status)
	}
	return nil
}

// runGosec fails with any finding of high severity. Generated code and the
// developer's tools are left out: the latter write where they are told to.
func runGosec(ctx context.Context) error {
	excluded := slices.Sorted(maps.Keys(gosecExcluded))
	for _, rule := range excluded {
		fmt.Printf("gosec: without %s: %s\n", rule, gosecExcluded[rule])
	}
	line := []string{"go", "run", gosec, "-quiet", "-color=false", "-severity=high", "-exclude=" + strings.Join(excluded, ","),
		"-exclude-generated", "-exclude-dir=gen", "-exclude-dir=internal/dev", "-exclude-dir=internal/mirror"}
	if err := quiet(ctx, append(line, "./...")...); err != nil {
		return fmt.Errorf("gosec: %w", err)
	}
	fmt.Println("gosec: no finding of high severity")
	return nil
}
