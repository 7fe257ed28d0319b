package config

import (
	"encoding/json"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth is how deep a provider's configuration may nest.
const maxDepth = 32

// object is a mapping that a provider validates, kept as JSON.
type object struct {
	values map[string]any
}

func (o *object) decode(d *decoder, n *yaml.Node, path string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.mistyped(n, path, "a mapping", "")
		return
	}
	o.values, _ = d.any(n, path, 0).(map[string]any)
}

// json returns the object as JSON; {} when it is empty.
func (o object) json() json.RawMessage {
	if len(o.values) == 0 {
		return json.RawMessage("{}")
	}
	data, err := json.Marshal(o.values)
	if err != nil {
		panic(err) // decoder.any makes only values that JSON has
	}
	return data
}

// any decodes a node into the values that encoding/json knows.
func (d *decoder) any(n *yaml.Node, path string, depth int) any {
	if !d.plain(n, path) {
		return nil
	}
	if depth > maxDepth {
		d.problem(path, "nested more than %d deep", maxDepth)
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		return d.anyMapping(n, path, depth)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			d.positions[index(path, i)] = position(item)
			list[i] = d.any(item, index(path, i), depth+1)
		}
		return list
	}
	return d.anyScalar(n, path)
}

func (d *decoder) anyMapping(n *yaml.Node, path string, depth int) any {
	values := map[string]any{}
	for _, e := range d.entries(n, path) {
		if isSecretKey(e.key.Value) {
			d.problemAt(position(e.key), path, secretHint, "a secret in key "+quote(e.key.Value))
			continue
		}
		values[e.key.Value] = d.any(e.value, e.path, depth+1)
	}
	return values
}

func (d *decoder) anyScalar(n *yaml.Node, path string) any {
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!int", "!!float", "!!bool":
		return d.anyNumber(n, path)
	}
	var t text
	t.expand(d, n.Value, path)
	d.hide(t)
	return t.value
}

func (d *decoder) anyNumber(n *yaml.Node, path string) any {
	var value any
	if err := n.Decode(&value); err != nil {
		d.hinted(path, "put it in quotes", "%s is not a number credagent can read", quote(n.Value))
		return nil
	}
	if f, ok := value.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		d.problem(path, "%s is not a number that JSON has", quote(n.Value))
		return nil
	}
	return value
}

const secretHint = "a secret never stands in this file; say where it is, with secret_file, secret_env or private_key_file"

// secretKeys can only be meant to hold a secret itself.
var secretKeys = []string{"client_secret", "passphrase", "password", "private_key", "secret"}

func isSecretKey(key string) bool {
	return slices.Contains(secretKeys, strings.ReplaceAll(strings.ToLower(key), "-", "_"))
}
