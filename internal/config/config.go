// Package config reads the configuration of c1proxy: a YAML file becomes a
// checked configv1.Config with its defaults filled in, or a list of everything
// that is wrong with it, each with its place in the file.
//
// The file is read strictly: every key is known, spelled as in the
// documentation and given once; every value has its type; there are no aliases,
// tags or second documents. YAML nodes are decoded here rather than by a
// library, because one pass then yields types, places and suggestions at once,
// and because no message may show the value of a field that can hold a secret.
//
// Secrets are references (Secret in the schema). ReadSecret resolves one, when
// it is needed and not before: a rotated file is picked up without a restart.
//
// All functions are safe for concurrent use; none keeps state.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/c1proxy/c1proxy/gen/c1proxy/config/v1"
)

// maxSize is the largest configuration, in bytes: about 5,000 callers.
const maxSize = 1 << 20

// A Check finds problems that this package cannot know of, such as methods
// that do not exist. It must be pure, set Path and Message alone, and bear a
// config in which other problems were found: use getters, expect empty names.
// A problem at a path that has one already is dropped.
type Check func(*configv1.Config) []Problem

// Read reads a configuration file. If it names no tenant, FromEnvironment makes
// one. What is wrong in the file is an *Error; a file that cannot be read at
// all is any other error.
func Read(file string, checks ...Check) (*configv1.Config, error) {
	data, err := Load(file)
	if err != nil {
		return nil, err
	}
	return ReadData(file, data, checks...)
}

// Load returns the content of a configuration file, of which nothing is
// checked.
func Load(file string) ([]byte, error) {
	data, err := readAtMost(file, maxSize)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return data, nil
}

// ReadData is Read for what Load has returned.
func ReadData(file string, data []byte, checks ...Check) (*configv1.Config, error) {
	return parse(file, data, os.Getenv, checks)
}

// Parse is Read without the file system and without the environment: data is
// the content of the file, whose name is used in errors alone.
func Parse(file string, data []byte, checks ...Check) (*configv1.Config, error) {
	return parse(file, data, func(string) string { return "" }, checks)
}

// Revision is a short hash of a configuration: equal for equal content,
// whatever its layout and comments. Another version of c1proxy can give the
// same content another revision.
func Revision(cfg *configv1.Config) string {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(cfg)
	if err != nil {
		panic("config: marshal configuration: " + err.Error()) // only for invalid UTF-8, which no reader lets through
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// parse goes from bytes to a config in stages. What a later stage says about a
// place that an earlier one blamed is left out: it would only repeat it.
func parse(file string, data []byte, getenv func(string) string, checks []Check) (*configv1.Config, error) {
	r := newReport()
	root := r.load(data)
	if root == nil {
		return nil, r.err(file)
	}
	cfg := new(configv1.Config)
	r.decode(root, cfg)
	r.environment(cfg, getenv)
	setDefaults(cfg.ProtoReflect())
	r.stage(r.checkRules(cfg))
	r.stage(checkConfig(cfg))
	for _, check := range checks {
		r.stage(check(cfg))
	}
	if err := r.err(file); err != nil {
		return nil, err
	}
	return cfg, nil
}

// environment adds the tenant of the C1 variables to a config without tenants.
func (r *report) environment(cfg *configv1.Config, getenv func(string) string) {
	if len(cfg.GetTenants()) > 0 || r.blamed("tenants") {
		return
	}
	tenant, err := FromEnvironment(getenv)
	switch {
	case err != nil:
		r.add("tenants", "%v", err)
	case tenant == nil:
		r.add("tenants", "no tenant: write one here (name, url, credential), or set %s and %s in the environment", envClientID, envClientSecret)
	default:
		cfg.Tenants = []*configv1.Tenant{tenant}
	}
}

// readAtMost reads a file; one that is longer than most is cut after the byte
// that shows it.
func readAtMost(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most+1))
}
