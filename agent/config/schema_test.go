package config

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v3"
)

// resolved returns the schema as a user of its text would have it.
func resolved(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	var s jsonschema.Schema
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func fromYAML(t *testing.T, text string) any {
	t.Helper()
	var instance any
	if err := yaml.Unmarshal([]byte(text), &instance); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(instance)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &instance); err != nil {
		t.Fatal(err)
	}
	return instance
}

func TestSchemaAcceptsWhatParseDoes(t *testing.T) {
	schema := resolved(t)
	for name, doc := range map[string]string{
		"full example":     string(readFile(t, "full.yaml")),
		"minimal":          minimal + minimalTail,
		"null sections":    "log:\nsocket:\nsinks:\n" + minimal + minimalTail,
		"variables":        "log: { level: '${CREDENTIALS_DIRECTORY}' }\n",
		"numeric accounts": minimal + minimalTail + "sinks: [{ type: file, path: /x, token: graph, owner: 0, readers: [{ user: 7 }] }]\n",
	} {
		t.Run(name, func(t *testing.T) {
			if name == "variables" {
				doc += minimal + minimalTail
			} else if _, err := Parse("c", []byte(doc), fullEnvironment()); err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(fromYAML(t, doc)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSchemaRefusesWhatParseDoes(t *testing.T) {
	schema := resolved(t)
	full := string(readFile(t, "full.yaml"))
	for _, c := range []struct{ name, old, new string }{
		{"unknown key", "watch:", "wach:"},
		{"unknown key deep down", "signal: HUP", "sig: HUP"},
		{"unknown log level", "level: info", "level: trace"},
		{"bare mode", `"0640"`, "0640"},
		{"executable mode", `"0640"`, `"0755"`},
		{"bare duration", "request_timeout: 10s", "request_timeout: 10"},
		{"bare percentage", "refresh_at: 50%", "refresh_at: 0.5"},
		{"no client_id", "client_id: ", "ca_file2: "},
		{"empty client_id", "client_id: 6731de76-14a6-49ae-97bc-6eba6914391e", "client_id: ''"},
		{"two origins", "client_id: ", "issuer: https://x.example\n    client_id: "},
		{"unknown cloud", "cloud: public", "cloud: moon"},
		{"cloud and authority", "cloud: public", "cloud: public, authority: https://x.example"},
		{"provider's name", "provider: certcred", "provider: CertCred"},
		{"secret in a config", "certificate_file: ", "password: "},
		{"secret in a client", "ca_file: ", "client_secret: "},
		{"reserved parameter", "params: {}", "params: { scope: x }"},
		{"user and group", "{ user: app }", "{ user: app, group: web }"},
		{"unknown sink type", "type: env", "type: stdout"},
		{"env sink with a token", "type: env", "type: env\n    token: graph"},
		{"file sink without a token", "token: graph\n    path", "path"},
		{"template with a token", "format: template", "format: template\n    token: graph"},
		{"relative sink", "path: /run/credagent/app.env", "path: app.env"},
		{"odd variable", "GRAPH_TOKEN:", "GRAPH-TOKEN:"},
		{"odd token name", "tokens:\n  graph:", "tokens:\n  gra ph:"},
		{"state without a key", "key_file: ", "# "},
		{"short digest", "9f86d08188", ""},
		{"scopes as text", "scopes: [https://graph.microsoft.com/.default]", "scopes: https://graph.microsoft.com/.default"},
		{"bool as text", "watch: false", `watch: "false"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := strings.Replace(full, c.old, c.new, 1)
			if doc == full {
				t.Fatal("nothing was changed")
			}
			if _, err := Parse("c", []byte(doc), fullEnvironment()); err == nil {
				t.Error("Parse accepts it")
			}
			if err := schema.Validate(fromYAML(t, doc)); err == nil {
				t.Error("the schema accepts it")
			}
		})
	}
}

func TestSchemaIsPlain(t *testing.T) {
	for _, want := range []string{`"$schema": "https://json-schema.org/draft/2020-12/schema"`, `"allow_insecure_http"`, `"additionalProperties": false`} {
		if !strings.Contains(string(Schema()), want) {
			t.Errorf("the schema lacks %s", want)
		}
	}
}

// TestSchemaHasTheDecodersKeys walks the raw types and the schema side by side.
func TestSchemaHasTheDecodersKeys(t *testing.T) {
	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	sameKeys(t, "", reflect.TypeFor[rawFile](), s)
}

func sameKeys(t *testing.T, path string, raw reflect.Type, s *jsonschema.Schema) {
	t.Helper()
	if reflect.PointerTo(raw).Implements(reflect.TypeFor[leaf]()) {
		return
	}
	switch raw.Kind() {
	case reflect.Pointer:
		sameKeys(t, path, raw.Elem(), s)
	case reflect.Map:
		sameKeys(t, path+".*", raw.Elem(), s.AdditionalProperties)
	case reflect.Slice:
		sameKeys(t, path+"[]", raw.Elem(), s.Items)
	case reflect.Struct:
		if got, want := sortedKeys(s.Properties), keysOf(raw); !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %v, the decoder %v", path, got, want)
		}
		for i := range raw.NumField() {
			key := keyOf(raw.Field(i))
			p := s.Properties[key]
			if p == nil || p.Description == "" {
				t.Errorf("%s.%s: no description", path, key)
				continue
			}
			sameKeys(t, path+"."+key, raw.Field(i).Type, p)
		}
	}
}
