// Command credagent-provider-jsoncred authenticates with a client secret that is a field of a JSON
// document, as the agents of secret managers write them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/credagent/credagent/plugins"
)

type source struct {
	SecretFile string `json:"secret_file"`
	Field      string `json:"field"`
}

type provider struct{}

func (provider) Open(config json.RawMessage) (plugins.Source, error) {
	s := source{Field: "client_secret"}
	err := plugins.DecodeConfig(config, &s)
	if s.SecretFile == "" {
		err = errors.Join(err, &plugins.ConfigError{Key: "secret_file", Message: "is needed"})
	}
	return s, errors.Join(err, plugins.AbsolutePath("secret_file", s.SecretFile))
}

func (s source) Files() []string { return []string{s.SecretFile} }

func (s source) Load(context.Context) (plugins.Credential, error) {
	data, err := os.ReadFile(s.SecretFile)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("reading secret_file: %w", err)
	}
	defer clear(data)
	var fields map[string]any
	err = json.Unmarshal(data, &fields)
	secret, _ := fields[s.Field].(string)
	if err != nil || secret == "" { // without the decoder's error, which quotes what it read
		return plugins.Credential{}, fmt.Errorf("reading secret_file %q: there is no text %q in it", s.SecretFile, s.Field)
	}
	return plugins.Credential{Authenticate: func(r *plugins.Request) error {
		r.Form.Set("client_secret", secret)
		return nil
	}}, nil
}

func main() { plugins.Serve(provider{}) }
