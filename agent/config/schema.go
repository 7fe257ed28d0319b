package config

import _ "embed"

// schemaJSON is derived from the raw types by a test.
//
//go:embed schema.json
var schemaJSON []byte

// Schema returns the JSON Schema (draft 2020-12) of the configuration file. It covers the form of every key; [Parse]
// checks names that refer to one another.
func Schema() []byte { return schemaJSON }
