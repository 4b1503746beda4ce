package config

import (
	_ "embed"
	"slices"
)

// schema is written by the test of JSONSchema, from the proto.
//
//go:embed schema.json
var schema []byte

// JSONSchema is the schema of the configuration for editors (JSON Schema draft
// 7): keys, types, ranges, defaults and descriptions. Parse accepts nothing
// that it refuses.
func JSONSchema() []byte { return slices.Clone(schema) }
