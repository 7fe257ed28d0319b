package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
)

// orVariable makes a pattern accept a value that an environment variable will complete.
const orVariable = `|\$\{`

const (
	durationSchema = `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$` + orVariable
	modeSchema     = `^0?[0246]{3}$` + orVariable
	percentSchema  = `^[0-9]{1,2}(\.[0-9]{1,3})?%$` + orVariable
	pathSchema     = `^/` + orVariable
	urlSchema      = `^https?://[^#]+$` + orVariable
	proxySchema    = `^(https?|socks5h?)://` + orVariable
)

// TestSchemaIsDerivedFromWhatIsRead holds the embedded schema to the types that are read; with -update
// it writes it anew. The program itself need not be able to derive it.
func TestSchemaIsDerivedFromWhatIsRead(t *testing.T) {
	derived, err := derive()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.json", derived, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(derived, Schema()) {
		t.Error("schema.json is not what the types say: run go test ./agent/config -update")
	}
}

func derive() ([]byte, error) {
	s, err := schema()
	if err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the configuration's schema: %w", err)
	}
	return append(data, '\n'), nil
}

func schema() (*jsonschema.Schema, error) {
	pattern := func(p string) *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Pattern: p} }
	s, err := jsonschema.For[rawFile](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[text]():     {Type: "string"},
		reflect.TypeFor[name]():     {Types: []string{"string", "integer"}, Minimum: jsonschema.Ptr(0.0)},
		reflect.TypeFor[number]():   {Types: []string{"string", "integer"}, Minimum: jsonschema.Ptr(1.0), Pattern: `^[0-9]+$|\$\{`},
		reflect.TypeFor[duration](): pattern(durationSchema),
		reflect.TypeFor[mode]():     pattern(modeSchema),
		reflect.TypeFor[percent]():  pattern(percentSchema),
		reflect.TypeFor[object]():   {Type: "object"},
	}})
	if err != nil {
		return nil, fmt.Errorf("deriving the configuration's schema: %w", err)
	}
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "credagent configuration"
	settleEmptiness(s)
	for path, refine := range refinements() {
		refine(at(s, path))
	}
	return s, nil
}

// settleEmptiness says what may be empty: a mapping or list that may be left out may be null,
// and a required one may be neither null nor empty.
func settleEmptiness(s *jsonschema.Schema) {
	for key, p := range s.Properties {
		switch kind := typeOf(p); {
		case slices.Contains(s.Required, key):
			p.Type, p.Types = kind, nil
			requireContent(p, kind)
		case kind == "object" || kind == "array":
			p.Type, p.Types = "", []string{kind, "null"}
		}
		settleEmptiness(p)
	}
	for _, child := range []*jsonschema.Schema{s.Items, s.AdditionalProperties} {
		if child != nil {
			settleEmptiness(child)
		}
	}
}

func requireContent(p *jsonschema.Schema, kind string) {
	switch {
	case kind == "string":
		p.MinLength = jsonschema.Ptr(1)
	case kind == "array":
		p.MinItems = jsonschema.Ptr(1)
	case kind == "object" && p.Properties == nil:
		p.MinProperties = jsonschema.Ptr(1)
	}
}

// typeOf returns the one type that a schema has beside null.
func typeOf(s *jsonschema.Schema) string {
	for _, kind := range s.Types {
		if kind != "null" {
			return kind
		}
	}
	return s.Type
}

// at follows a path of keys, in which * is any key or item.
func at(s *jsonschema.Schema, path string) *jsonschema.Schema {
	for key := range strings.SplitSeq(path, ".") {
		switch {
		case key != "*":
			s = s.Properties[key]
		case s.Items != nil:
			s = s.Items
		default:
			s = s.AdditionalProperties
		}
	}
	return s
}

type refinement func(*jsonschema.Schema)

// refinements is what the Go types cannot say.
func refinements() map[string]refinement {
	paths := map[string]refinement{
		"log.level":                     enum(sortedKeys(logLevels)),
		"log.format":                    enum(sortedKeys(logFormats)),
		"plugins.dirs.*":                matching(pathSchema),
		"plugins.sha256":                named(providerPattern().String()),
		"plugins.sha256.*":              matching(digestPattern().String() + orVariable),
		"clients":                       named(namePattern().String()),
		"clients.*":                     exactlyOne("entra", "issuer", "token_url"),
		"clients.*.entra":               notTogether("cloud", "authority"),
		"clients.*.entra.cloud":         enum(sortedKeys(clouds)),
		"signals":                       named(namePattern().String()),
		"signals.*.issuer":              matching(urlSchema),
		"signals.*.subjects.*":          exactlyOne("iss_sub", "opaque"),
		"signals.*.events":              func(s *jsonschema.Schema) { s.MinItems = jsonschema.Ptr(1) },
		"signals.*.events.*":            enum(SignalEvents()),
		"tokens":                        named(namePattern().String()),
		"tokens.*.grant":                enum(sortedKeys(grants)),
		"tokens.*.assertion_claims":     withoutKeys(slices.Concat(secretKeys, sortedKeys(ownClaims))),
		"tokens.*.params":               withoutKeys(reserved),
		"state":                         exactlyOne("dir", "kubernetes_secret"),
		"tokens.*.allow.*":              exactlyOne("user", "group"),
		"sinks.*":                       sinkForms,
		"sinks.*.type":                  enum(sortedKeys(sinkTypes)),
		"sinks.*.preset":                enum(sortedKeys(presets)),
		"sinks.*.data":                  named(secretKeyPattern().String()),
		"sinks.*.labels":                named(labelPattern().String()),
		"sinks.*.format":                enum(sortedKeys(formats())),
		"sinks.*.variables":             named(`^[A-Za-z_][A-Za-z0-9_]*$`),
		"sinks.*.readers.*":             exactlyOne("user", "group"),
		"sinks.*.on_change.*":           exactlyOne("signal", "command"),
		"clients.*.issuer":              matching(`^$|` + urlSchema),
		"clients.*.token_url":           matching(`^$|` + urlSchema),
		"clients.*.entra.authority":     matching(`^$|` + urlSchema),
		"clients.*.proxy":               matching(`^$|` + proxySchema),
		"clients.*.ca_file":             matching(`^$|` + pathSchema),
		"clients.*.credential.config":   withoutKeys(secretKeys),
		"clients.*.credential.provider": matching(providerPattern().String() + orVariable),
	}
	for _, path := range []string{
		"socket.path", "identity_endpoint.header_file", "state.dir", "state.key_file",
		"sinks.*.path", "sinks.*.on_change.*.signal.pid_file",
	} {
		paths[path] = matching(pathSchema)
	}
	for _, key := range []string{"config", "provider"} {
		paths["clients.*.fallback_credential."+key] = paths["clients.*.credential."+key]
	}
	return paths
}

func matching(pattern string) refinement {
	return func(s *jsonschema.Schema) { s.Pattern = pattern }
}

// enum lists the words; another way to write one is an environment variable.
func enum(words []string) refinement {
	values := make([]any, len(words))
	for i, w := range words {
		values[i] = w
	}
	return func(s *jsonschema.Schema) {
		s.AnyOf = []*jsonschema.Schema{{Enum: values}, {Pattern: `^$` + orVariable}}
	}
}

func named(pattern string) refinement {
	return func(s *jsonschema.Schema) { s.PropertyNames = &jsonschema.Schema{Pattern: pattern} }
}

func withoutKeys(keys []string) refinement {
	words := make([]any, len(keys))
	for i, k := range keys {
		words[i] = k
	}
	return func(s *jsonschema.Schema) {
		s.PropertyNames = &jsonschema.Schema{Not: &jsonschema.Schema{Enum: words}}
	}
}

func exactlyOne(keys ...string) refinement {
	return func(s *jsonschema.Schema) {
		for _, key := range keys {
			s.OneOf = append(s.OneOf, requiring(key))
		}
	}
}

func notTogether(keys ...string) refinement {
	return func(s *jsonschema.Schema) { s.Not = requiring(keys...) }
}

// sinkForms ties a sink's keys to its type and format.
func sinkForms(s *jsonschema.Schema) {
	env, secret := having("type", "env"), having("type", string(SinkKubernetesSecret))
	ofFiles := []string{"path", "format", "template", "variables", "mode", "owner", "group", "readers"}
	ofSecrets := []string{"namespace", "name", "secret_type", "preset", "username", "url", "registry", "data", "labels"}
	template := having("format", "template")
	s.AllOf = []*jsonschema.Schema{
		{If: env, Then: allOf(requiring("variables"), lacking("token", "format", "template")), Else: lacking("variables")},
		{If: secret, Then: allOf(requiring("name"), lacking(ofFiles...), anyOf(requiring("data"), requiring("preset"))), Else: allOf(requiring("path"), lacking(ofSecrets...))},
		{If: allOf(secret, requiring("preset")), Then: requiring("token")},
		{If: allOf(secret, having("preset", presetArgoCD)), Then: requiring("url")},
		{If: allOf(secret, having("preset", presetDockerConfig)), Then: requiring("registry")},
		{If: template, Then: allOf(requiring("template"), lacking("token")), Else: lacking("template")},
		{If: allOf(having("type", "file"), &jsonschema.Schema{Not: template}), Then: requiring("token")},
	}
}

func requiring(keys ...string) *jsonschema.Schema { return &jsonschema.Schema{Required: keys} }

func lacking(keys ...string) *jsonschema.Schema {
	lacks := &jsonschema.Schema{Not: &jsonschema.Schema{}}
	for _, key := range keys {
		lacks.Not.AnyOf = append(lacks.Not.AnyOf, requiring(key))
	}
	return lacks
}

func having(key string, value any) *jsonschema.Schema {
	return &jsonschema.Schema{
		Properties: map[string]*jsonschema.Schema{key: {Const: &value}},
		Required:   []string{key},
	}
}

func anyOf(schemas ...*jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: schemas}
}

func allOf(schemas ...*jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{AllOf: schemas}
}
