package config

import (
	_ "embed"
	"slices"
)

//go:embed schema.json
var schema []byte

// JSONSchema is the schema of the configuration for editors (JSON Schema draft
// 2020-12): keys, types, ranges, defaults and descriptions. Parse accepts
// nothing that it refuses.
func JSONSchema() []byte { return slices.Clone(schema) }
