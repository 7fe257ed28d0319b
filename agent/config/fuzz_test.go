package config

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/sink"
)

// canary is an environment's value that no message may show.
const canary = "canary-7d1f"

func FuzzParse(f *testing.F) {
	for _, name := range []string{"full.yaml", "nasty.yaml"} {
		f.Add(readFile(f, name))
	}
	f.Add([]byte(minimal + minimalTail))
	f.Add([]byte("log: { level: '${SECRET}' }\nlisten: ${SECRET}\nclients: { ${SECRET}: 1 }\n"))
	f.Add([]byte("a: &a [*a]\n<<: *a\n? {}\n: !!x y\n---\n...\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		env := lookup(map[string]string{"SECRET": canary, "CREDENTIALS_DIRECTORY": "/run/credentials"})
		c, err := Parse("c.yaml", data, env)
		if err != nil {
			checkError(t, err, strings.Contains(string(data), canary))
			return
		}
		checkConfig(t, c)
		again, err := Parse("c.yaml", data, env)
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("parsed again: %v, or another result", err)
		}
	})
}

func checkError(t *testing.T, err error, literal bool) {
	t.Helper()
	var problems *Error
	if !errors.As(err, &problems) || len(problems.Problems) == 0 {
		t.Fatalf("%v is not a list of problems", err)
	}
	if !literal && strings.Contains(err.Error(), canary) {
		t.Errorf("a value of the environment is shown: %v", err)
	}
	for _, p := range problems.Problems {
		if p.File != "c.yaml" || p.Message == "" {
			t.Errorf("incomplete problem %+v", p)
		}
	}
	if !slices.IsSortedFunc(problems.Problems, inFileOrder) {
		t.Errorf("out of order: %v", err)
	}
}

// checkConfig holds what the packages after this one rely on.
func checkConfig(t *testing.T, c *Config) {
	t.Helper()
	clients, tokens, files := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, client := range c.Clients {
		clients[client.Name] = true
		checkClient(t, client)
	}
	for _, token := range c.Tokens {
		tokens[token.Name] = true
		if !clients[token.Client] || token.RefreshAt < 0.1 || token.RefreshAt > 0.95 {
			t.Errorf("token %+v", token)
		}
	}
	if len(tokens) == 0 {
		t.Error("no token")
	}
	for _, s := range c.Sinks {
		if files[s.Path] || !strings.HasPrefix(s.Path, "/") || s.Mode&^0o644 != 0 {
			t.Errorf("sink %+v", s)
		}
		files[s.Path] = true
		named := []string{s.Token}
		if s.Type == SinkEnv || s.Format == sink.FormatTemplate {
			named = nil
		}
		for _, v := range s.Variables {
			named = append(named, v.Token)
		}
		for _, name := range named {
			if !tokens[name] {
				t.Errorf("sink %+v names token %q", s, name)
			}
		}
	}
}

func checkClient(t *testing.T, c Client) {
	t.Helper()
	origins := 0
	for _, is := range []bool{c.Entra != nil, c.Issuer != "", c.TokenURL != ""} {
		if is {
			origins++
		}
	}
	var config map[string]any
	if err := json.Unmarshal(c.Credential.Config, &config); err != nil || config == nil {
		t.Errorf("config %s: %v", c.Credential.Config, err)
	}
	if origins != 1 || c.ClientID == "" || c.RequestTimeout < time.Second || c.RequestTimeout > 2*time.Minute {
		t.Errorf("client %+v", c)
	}
}
