package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder fills the raw types from YAML nodes and reports everything that does not match.
type decoder struct {
	*report
	env func(string) (string, bool)
}

// entry is one key of a mapping with its value.
type entry struct {
	key, value *yaml.Node
	path       string
}

// value decodes n into out, which has one of the kinds used in the raw types.
func (d *decoder) value(n *yaml.Node, path string, out reflect.Value) {
	if !d.plain(n, path) {
		return
	}
	if l, ok := out.Addr().Interface().(leaf); ok {
		l.decode(d, n, path)
		return
	}
	switch out.Kind() {
	case reflect.Bool:
		d.bool(n, path, out)
	case reflect.Pointer:
		if !isNull(n) {
			out.Set(reflect.New(out.Type().Elem()))
			d.value(n, path, out.Elem())
		}
	case reflect.Struct:
		d.structure(n, path, out)
	case reflect.Map:
		d.mapping(n, path, out)
	case reflect.Slice:
		d.list(n, path, out)
	default:
		panic("config: no decoder for " + out.Type().String())
	}
}

func (d *decoder) bool(n *yaml.Node, path string, out reflect.Value) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		d.mistyped(n, path, "true or false", "")
		return
	}
	out.SetBool(strings.EqualFold(n.Value, "true"))
}

func (d *decoder) structure(n *yaml.Node, path string, out reflect.Value) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		for _, key := range keysOf(out.Type()) {
			d.silenced[join(path, key)] = true // do not report them as missing too
		}
		d.mistyped(n, path, "a mapping", mappingHint(n, path))
		return
	}
	for _, e := range d.entries(n, path) {
		field, ok := fieldByKey(out, e.key.Value)
		if !ok {
			d.unknownKey(e, path, out.Type())
			continue
		}
		d.value(e.value, e.path, field)
	}
}

// mappingHint shows how to write a mapping of which only the main value was given.
func mappingHint(n *yaml.Node, path string) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		return ""
	}
	last := path[strings.LastIndexByte(path, '.')+1:]
	form, known := map[string]string{
		"socket":            "socket: { path: %s }",
		"state":             "state: { dir: %s, key_file: /etc/credagent/state.key }",
		"identity_endpoint": "identity_endpoint: { listen: %s, header_file: /run/credagent/header, token_for: { RESOURCE: TOKEN } }",
		"auth_sidecar":      "auth_sidecar: { listen: %s, token_for: { API: TOKEN } }",
		"entra":             "entra: { tenant: %s }",
		"log":               "log: { level: %s }",
	}[last]
	if !known {
		return ""
	}
	return "write the keys out: " + fmt.Sprintf(form, clip(n.Value))
}

func (d *decoder) mapping(n *yaml.Node, path string, out reflect.Value) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.mistyped(n, path, "a mapping", "")
		return
	}
	out.Set(reflect.MakeMap(out.Type()))
	for _, e := range d.entries(n, path) {
		value := reflect.New(out.Type().Elem()).Elem()
		d.value(e.value, e.path, value)
		out.SetMapIndex(reflect.ValueOf(e.key.Value), value)
	}
}

func (d *decoder) list(n *yaml.Node, path string, out reflect.Value) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		hint := ""
		if strings.HasSuffix(path, ".run") {
			hint = "write the program and each argument as a word of its own, such as [systemctl, reload, app]"
		}
		d.mistyped(n, path, "a list", hint)
		return
	}
	out.Set(reflect.MakeSlice(out.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		at := index(path, i)
		d.positions[at] = position(item)
		d.value(item, at, out.Index(i))
	}
}

// entries returns the usable keys of a mapping, reports the others, and remembers where each
// one is.
func (d *decoder) entries(n *yaml.Node, path string) []entry {
	entries := make([]entry, 0, len(n.Content)/2)
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !d.usableKey(key, path) {
			continue
		}
		if line, again := first[key.Value]; again {
			d.problemAt(position(key), path, "", fmt.Sprintf("duplicate key %s, first given in line %d", quote(key.Value), line))
			continue
		}
		first[key.Value] = key.Line
		at := join(path, key.Value)
		d.positions[at] = position(key)
		if value.Kind == yaml.ScalarNode && !isNull(value) {
			d.positions[at] = position(value)
		}
		if value.Style&yaml.LiteralStyle != 0 {
			d.blocks[at] = value.Line + 1
		}
		entries = append(entries, entry{key, value, at})
	}
	return entries
}

func (d *decoder) usableKey(key *yaml.Node, path string) bool {
	switch {
	case key.ShortTag() == "!!merge":
		d.problemAt(position(key), path, "write the keys out", "merge keys are not supported")
	case key.Kind != yaml.ScalarNode:
		d.problemAt(position(key), path, "", "a key is "+describe(key)+", want a string")
	case key.Anchor != "" || key.Style&yaml.TaggedStyle != 0:
		d.problemAt(position(key), path, "write the key plainly", "anchors and tags are not supported")
	case isNull(key):
		d.problemAt(position(key), path, "", "a key is empty")
	default:
		return true
	}
	return false
}

// plain reports whether n is free of YAML's indirections. Refusing them all keeps a small file from expanding to a
// huge one, and every value at its position.
func (d *decoder) plain(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.hinted(path, "write the value out", "anchors and aliases are not supported")
	case n.Style&yaml.TaggedStyle != 0:
		d.hinted(path, "write the value plainly", "tags such as %s are not supported", quote(n.Tag))
	default:
		return true
	}
	return false
}

func (d *decoder) mistyped(n *yaml.Node, path, want, hint string) {
	d.hinted(path, hint, "found %s, want %s", describe(n), want)
}

func (d *decoder) unknownKey(e entry, path string, t reflect.Type) {
	key := e.key.Value
	best := nearest(key, keysOf(t))
	hint := ""
	switch {
	case isSecretKey(key):
		hint = secretHint
	case best != "":
		d.silenced[join(path, best)] = true
		hint = fmt.Sprintf("did you mean %q?", best)
	}
	d.problemAt(position(e.key), path, hint, "unknown key "+quote(key))
}

// fieldByKey returns the field of a raw struct for a key of the file.
func fieldByKey(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if keyOf(v.Type().Field(i)) == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// keysOf returns the keys that a raw struct knows, sorted.
func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = keyOf(t.Field(i))
	}
	slices.Sort(keys)
	return keys
}

func keyOf(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return key
}

func position(n *yaml.Node) Position { return Position{Line: n.Line, Column: n.Column} }

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	}
	return "a string"
}
