package plugins_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/credagent/credagent/plugins"
)

// headerCredential is a secret that a server wants in a header of its own. It is also the
// configuration's form.
type headerCredential struct {
	Header     string `json:"header"`
	SecretFile string `json:"secret_file"`
}

// headerProvider is what the main function of credagent-provider-header would serve:
//
//	func main() { plugins.Serve(headerProvider{}) }
type headerProvider struct{}

func (headerProvider) Open(config json.RawMessage) (plugins.Source, error) {
	c := headerCredential{Header: "X-Client-Secret"}
	err := plugins.DecodeConfig(config, &c)
	if c.SecretFile == "" {
		err = errors.Join(err, &plugins.ConfigError{Key: "secret_file", Message: "is needed"})
	}
	return c, errors.Join(err, plugins.AbsolutePath("secret_file", c.SecretFile))
}

func (c headerCredential) Files() []string { return []string{c.SecretFile} }

func (c headerCredential) Load(context.Context) (plugins.Credential, error) {
	secret, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("reading secret_file: %w", err)
	}
	return plugins.Credential{Authenticate: func(r *plugins.Request) error {
		r.Header.Set(c.Header, strings.TrimSpace(string(secret)))
		return nil
	}}, nil
}

// This is what [plugins.Serve] does with a provider when the agent asks it for a token, up to the
// request that it then sends.
func Example() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("open sesame\n"), 0o600); err != nil {
		panic(err)
	}

	_, err = headerProvider{}.Open(json.RawMessage(`{"secret_fiel": "/etc/secret"}`))
	fmt.Println(err)

	source, err := headerProvider{}.Open(fmt.Appendf(nil, `{"secret_file": %q}`, file))
	if err != nil {
		panic(err)
	}
	credential, err := source.Load(context.Background())
	if err != nil {
		panic(err)
	}
	request := &plugins.Request{
		TokenEndpoint: "https://login.example.com/token",
		ClientID:      "app",
		Form:          url.Values{"grant_type": {"client_credentials"}, "client_id": {"app"}},
		Header:        http.Header{},
	}
	if err := credential.Authenticate(request); err != nil {
		panic(err)
	}
	fmt.Println(request.Header)
	// Output:
	// secret_fiel: unknown key; known are header, secret_file
	// secret_file: is needed
	// map[X-Client-Secret:[open sesame]]
}
