package config

import _ "embed"

// schemaJSON is derived from the types that are read, by a test.
//
//go:embed schema.json
var schemaJSON []byte

// Schema returns the JSON Schema (draft 2020-12) of the configuration file. It knows the form of
// every key; names that refer to one another are left to [Parse].
func Schema() []byte { return schemaJSON }
