package config

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// A leaf decodes itself from one node.
type leaf interface {
	decode(d *decoder, n *yaml.Node, path string)
}

// text is a string of the configuration, with what messages need in order not to show values from the environment.
type text struct {
	value   string // expanded
	source  string // as written
	set     bool   // the key is present
	invalid bool   // a problem has been reported; value is meaningless
	fromEnv bool   // value holds the value of an environment variable

	inserted []string // the values of environment variables in it
}

// ok reports whether there is a value to check.
func (t text) ok() bool { return t.set && !t.invalid }

// String shows the text as written, quoted. Messages use it, so that no value of the
// environment reaches them.
func (t text) String() string { return quote(t.source) }

func (t *text) decode(d *decoder, n *yaml.Node, path string) {
	t.set, t.invalid = true, true
	switch tag := n.ShortTag(); {
	case n.Kind != yaml.ScalarNode:
		d.mistyped(n, path, "a string", "")
	case tag == "!!null":
		d.mistyped(n, path, "a string", `give it a value, or delete the line; "" is an empty string`)
	case tag == "!!int" && isNumber(n.Value) && isAddress(path):
		d.mistyped(n, path, "a string", "an address such as "+addressFrom(n.Value)+", in quotes: "+quote(addressFrom(n.Value)))
	case tag == "!!int", tag == "!!float", tag == "!!bool":
		d.mistyped(n, path, "a string", "put it in quotes: "+quote(n.Value))
	default:
		t.expand(d, n.Value, path)
	}
}

func (t *text) expand(d *decoder, source, path string) {
	var inserted []string
	value, expanded, err := expand(source, func(name string) (string, bool) {
		value, ok := d.env(name)
		inserted = append(inserted, value)
		return value, ok
	})
	if err != nil {
		d.problem(path, "%v", err)
		return
	}
	*t = text{value: value, source: source, set: true, fromEnv: expanded, inserted: inserted}
}

// name is a text that may also be written as a plain number: a user, a group.
type name struct{ text }

func (t *name) decode(d *decoder, n *yaml.Node, path string) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int" && isNumber(n.Value) {
		t.text = text{value: n.Value, source: n.Value, set: true}
		return
	}
	t.text.decode(d, n, path)
}

// number is a plain number, or a text that holds one.
type number struct{ text }

func (t *number) decode(d *decoder, n *yaml.Node, path string) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int" && isNumber(n.Value) {
		t.text = text{value: n.Value, source: n.Value, set: true}
		return
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		t.set, t.invalid = true, true
		d.mistyped(n, path, "a whole number", "")
		return
	}
	t.text.decode(d, n, path)
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// duration is a text such as 90s.
type duration struct{ text }

func (t *duration) decode(d *decoder, n *yaml.Node, path string) {
	if isPlainNumber(n) {
		t.set, t.invalid = true, true
		d.hinted(path, "give its unit: a duration such as 90s", "%s is a bare number, want a duration", clip(n.Value))
		return
	}
	t.text.decode(d, n, path)
}

// mode is a text such as "0640".
type mode struct{ text }

func (t *mode) decode(d *decoder, n *yaml.Node, path string) {
	if isPlainNumber(n) {
		t.set, t.invalid = true, true
		hint := "put it in quotes: " + quote(n.Value)
		if rule := modeRuleOf(path); rule.wrong(n.Value) != "" {
			hint = rule.hint()
		}
		d.hinted(path, hint, "%s is a bare number, want a file mode in quotes", clip(n.Value))
		return
	}
	t.text.decode(d, n, path)
}

// percent is a text such as 50%.
type percent struct{ text }

func (t *percent) decode(d *decoder, n *yaml.Node, path string) {
	if isPlainNumber(n) {
		t.set, t.invalid = true, true
		d.hinted(path, "write a share such as 50%", "%s is a bare number, want a percentage", clip(n.Value))
		return
	}
	t.text.decode(d, n, path)
}

func isPlainNumber(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!int" || n.ShortTag() == "!!float")
}
