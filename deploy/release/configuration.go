package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// schema is the part of a JSON Schema that describes keys.
type schema struct {
	Description          string
	Properties           properties
	Items                *schema
	AdditionalProperties json.RawMessage // a schema, or false
}

// properties keeps the order in which a schema names them.
type properties []property

type property struct {
	name string
	schema
}

// UnmarshalJSON implements [json.Unmarshaler].
func (p *properties) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if _, err := decoder.Token(); err != nil { // the opening brace
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		next := property{name: fmt.Sprint(name)}
		if err := decoder.Decode(&next.schema); err != nil {
			return err
		}
		*p = append(*p, next)
	}
	return nil
}

// configurationPage is credagent.yaml(5): every key of the configuration's JSON Schema.
func configurationPage(version, text string) (string, error) {
	var top schema
	if err := json.Unmarshal([]byte(text), &top); err != nil {
		return "", fmt.Errorf("reading the configuration's schema: %w", err)
	}
	var p page
	p.title("credagent.yaml", "5", version)
	p.section("NAME")
	p.text("credagent.yaml - the configuration of credagent")
	p.section("DESCRIPTION")
	p.prose("YAML, with ${NAME} for an environment variable and $$ for a dollar sign. A key that is not\n" +
		"listed here is an error; credagent validate reports every mistake at once. NAME stands for a\n" +
		"name of your own, [] for an entry of a list.")
	p.section("KEYS")
	for _, key := range top.keys("") {
		p.item(key[0], key[1])
	}
	p.section("FILES")
	p.item("/etc/credagent/credagent.yaml", "Read where neither -c nor CREDAGENT_CONFIG names another.")
	p.section("SEE ALSO")
	p.text("credagent(1), credagent-validate(1), credagent-schema(1)")
	return p.String(), nil
}

// keys are the paths of all keys below a path, each with its description.
func (s schema) keys(path string) [][2]string {
	var all [][2]string
	for _, next := range s.Properties {
		at := strings.TrimPrefix(path+"."+next.name, ".")
		all = append(all, [2]string{at, next.Description})
		all = append(all, next.keys(at)...)
	}
	if s.Items != nil {
		all = append(all, s.Items.keys(path+"[]")...)
	}
	var named schema
	if json.Unmarshal(s.AdditionalProperties, &named) == nil {
		all = append(all, named.keys(path+".NAME")...)
	}
	return all
}
