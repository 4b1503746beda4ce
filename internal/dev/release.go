package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

type releaseVerb struct {
	Out      string   `default:"dist" help:"The folder to write to. (${default})"`
	Platform []string `placeholder:"OS/ARCH" help:"What to build for, such as linux/arm64; by default this machine."`
	Warm     bool     `help:"Let both builds share this machine's build cache: a minute faster, and only the linking is then done twice."`
}

// Run builds each binary of the last commit twice, in two clones at different
// paths and with two build caches, and writes it if both are the same: the
// binary, its bill of materials and SHA256SUMS. What is not committed is in no
// release.
func (v *releaseVerb) Run(ctx context.Context) error {
	if len(v.Platform) == 0 {
		v.Platform = []string{runtime.GOOS + "/" + runtime.GOARCH}
	}
	if err := quiet(ctx, "go", "mod", "verify"); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	commit, err := output(ctx, "git", "rev-parse", "HEAD")
	if err != nil {
		return fmt.Errorf("release: a release is of a commit: %w", err)
	}
	if changes, err := output(ctx, "git", "status", "--porcelain"); err == nil && len(changes) > 0 {
		fmt.Printf("note: the work tree has changes that are not in commit %.12s, and so in no release\n", commit)
	}
	tmp, err := os.MkdirTemp("", "c1proxy-release-")
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	defer os.RemoveAll(tmp)
	// Of different lengths, so that a path that gets into a binary moves what
	// stands behind it.
	twice := []*build{{dir: filepath.Join(tmp, "a")}, {dir: filepath.Join(tmp, "somewhere", "else")}}
	if !v.Warm {
		twice[1].cache = filepath.Join(tmp, "cache")
	}
	for _, b := range twice {
		if err := b.clone(ctx, strings.TrimSpace(string(commit))); err != nil {
			return fmt.Errorf("release: %w", err)
		}
	}
	var sums []string
	for _, platform := range v.Platform {
		written, err := v.platform(ctx, twice, platform)
		if err != nil {
			return fmt.Errorf("release %s: %w", platform, err)
		}
		sums = append(sums, written...)
	}
	if err := os.WriteFile(filepath.Join(v.Out, "SHA256SUMS"), []byte(strings.Join(sums, "")), 0o644); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	fmt.Print(strings.Join(sums, ""))
	return nil
}

// platform writes the binary for one platform and its bill of materials, and
// returns their lines of SHA256SUMS.
func (v *releaseVerb) platform(ctx context.Context, twice []*build, platform string) ([]string, error) {
	goos, goarch, ok := strings.Cut(platform, "/")
	if !ok {
		return nil, errors.New("it must be OS/ARCH, such as linux/arm64")
	}
	var built [][]byte
	for _, b := range twice {
		binary, err := b.binary(ctx, goos, goarch)
		if err != nil {
			return nil, err
		}
		built = append(built, binary)
	}
	if one, other := sha256.Sum256(built[0]), sha256.Sum256(built[1]); one != other {
		return nil, fmt.Errorf("two builds of one commit differ: %x and %x: something of the time or the place got into them", one, other)
	}
	name := filepath.Join(v.Out, fmt.Sprintf("proxy-%s-%s", goos, goarch))
	if err := os.MkdirAll(v.Out, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(name, built[0], 0o755); err != nil {
		return nil, err
	}
	bill, err := billOf(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(name+".cdx.json", bill, 0o644); err != nil {
		return nil, err
	}
	caches := "two build caches"
	if v.Warm {
		caches = "one build cache"
	}
	info, err := buildinfo.ReadFile(name)
	if err != nil {
		return nil, err
	}
	fmt.Printf("%s: %s, %s, %d modules; the same in two folders, with %s\n", name, info.Main.Version, info.GoVersion, len(info.Deps), caches)
	return []string{sumLine(name, built[0]), sumLine(name+".cdx.json", bill)}, nil
}

// sumLine is a line that `sha256sum --check` reads in the file's own folder.
func sumLine(name string, data []byte) string {
	return fmt.Sprintf("%x  %s\n", sha256.Sum256(data), filepath.Base(name))
}

// A build is one place to build at.
type build struct {
	dir   string // of the clone
	cache string // of the go command; "" for this machine's
}

// clone checks the commit out.
func (b *build) clone(ctx context.Context, commit string) error {
	if err := quiet(ctx, "git", "clone", "--quiet", "--no-checkout", ".", b.dir); err != nil {
		return err
	}
	return quiet(ctx, "git", "-C", b.dir, "checkout", "--quiet", "--detach", commit)
}

// releaseFlags make a binary that depends on nothing but the commit and the
// version of Go: without the paths of the machine, and with the commit.
var releaseFlags = []string{"-trimpath", "-buildvcs=true", "-ldflags=-s -w"}

// binary builds the proxy. Neither C code nor what the environment says of
// flags and architecture levels is in it.
func (b *build) binary(ctx context.Context, goos, goarch string) ([]byte, error) {
	name := b.dir + ".bin"
	cmd := command(ctx, slices.Concat([]string{"go", "build"}, releaseFlags, []string{"-o", name, "./cmd/proxy"})...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOAMD64=", "GOARM64=")
	if b.cache != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+b.cache)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	return os.ReadFile(name)
}

// billOf is the bill of materials of a binary, in CycloneDX, made from what
// the binary itself says (`go version -m`) and held against that.
func billOf(ctx context.Context, binary string) ([]byte, error) {
	raw, err := output(ctx, tool("cyclonedx-gomod", "bin", "-json", "-std", "-noserial", "-notimestamp", binary)...)
	if err != nil {
		return nil, fmt.Errorf("make bill of materials: %w", err)
	}
	var bill map[string]any
	if err := json.Unmarshal(raw, &bill); err != nil {
		return nil, fmt.Errorf("make bill of materials: %w", err)
	}
	// The hashes of the tool itself: it is built where it is used.
	if metadata, ok := bill["metadata"].(map[string]any); ok {
		delete(metadata, "tools")
	}
	if raw, err = json.MarshalIndent(bill, "", "  "); err != nil {
		return nil, err
	}
	return append(raw, '\n'), checkBill(raw, binary)
}

// checkBill holds a bill of materials against the binary: the same modules in
// the same versions, none missing and none more, none replaced, and the
// binary's own hash.
func checkBill(raw []byte, binary string) error {
	data, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return err
	}
	want := []string{"std " + info.GoVersion}
	for _, module := range info.Deps {
		if module.Replace != nil {
			return fmt.Errorf("check bill of materials: %s is replaced: what is shipped is not what its version says", module.Path)
		}
		want = append(want, module.Path+" "+module.Version)
	}
	var bill struct {
		Metadata struct {
			Component  struct{ Name, Version string }
			Properties []struct{ Name, Value string }
		}
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(raw, &bill); err != nil {
		return fmt.Errorf("check bill of materials: %w", err)
	}
	var got []string
	for _, component := range bill.Components {
		got = append(got, component.Name+" "+component.Version)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		return fmt.Errorf("check bill of materials: it lists\n%s\nand the binary holds\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	version, _ := strings.CutPrefix(info.Main.Version, "(devel)") // no version, and the tool leaves it out
	if main := bill.Metadata.Component; main.Name != info.Main.Path || main.Version != version {
		return fmt.Errorf("check bill of materials: it is of %s %s, the binary of %s %s", main.Name, main.Version, info.Main.Path, version)
	}
	sum := sha256.Sum256(data)
	for _, property := range bill.Metadata.Properties {
		if property.Name == "cdx:gomod:binary:hash:SHA-256" && property.Value == hex.EncodeToString(sum[:]) {
			return nil
		}
	}
	return errors.New("check bill of materials: the hash in it is not the binary's")
}
