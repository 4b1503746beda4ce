package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/c1proxy/c1proxy/internal/mirror"
)

const (
	// goModule is where the generated Go code is imported from.
	goModule = "github.com/c1proxy/c1proxy/gen"
	// mirrorDir holds the protos that mirrorVerb writes, and nothing else.
	mirrorDir = "proto/c1"
	// mirrorLock is what it remembers from one run to the next.
	mirrorLock = "proto/c1.lock"
)

type mirrorVerb struct {
	OpenAPI string `name:"openapi" required:"" placeholder:"FILE" help:"C1's OpenAPI document, in YAML."`
	Check   bool   `help:"Change nothing: fail, with the list, if the committed protos differ from generated ones."`
}

// Run writes the protos and the lock, deletes what is stale, and prints what a
// maintainer should look at. Nothing is written if the document is not understood.
func (v *mirrorVerb) Run(context.Context) error {
	document, err := os.ReadFile(v.OpenAPI)
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	lock, err := os.ReadFile(mirrorLock)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("mirror: %w", err)
	}
	out, err := mirror.Generate(mirror.Config{Module: goModule, Reads: mirror.Reads()}, v.OpenAPI, document, lock)
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	for _, notice := range out.Notices {
		fmt.Println("notice:", notice)
	}
	tmp, err := os.MkdirTemp("", "c1proxy-mirror-")
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	defer os.RemoveAll(tmp)
	out.Files["c1.lock"] = out.Lock
	for path, text := range out.Files {
		file := filepath.Join(tmp, "proto", path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, text, 0o644)); err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
	}
	changes, err := compare(tmp, ".", []string{mirrorDir, mirrorLock})
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	for _, c := range changes {
		fmt.Println(c)
	}
	if v.Check && len(changes) > 0 {
		return errors.New("check protos: not those of the document: go run ./internal/dev mirror --openapi " + v.OpenAPI)
	}
	if len(changes) == 0 {
		fmt.Println("protos: as the document says")
		return nil
	}
	return apply(tmp, changes)
}
