// Package credtest holds what the tests of the built-in providers share: calling a provider over its real protocol,
// and searching its output for secrets. Only tests import it.
package credtest

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/providerpb"
)

// Serve serves p in memory and returns a client of it.
func Serve(t *testing.T, p plugins.Provider) providerpb.ProviderClient {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	plugins.Register(server, p)
	go func() { _ = server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:memory",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
	})
	return providerpb.NewProviderClient(conn)
}

// Open opens a configuration that must be valid.
func Open(t *testing.T, p plugins.Provider, config map[string]any) plugins.Source {
	t.Helper()
	source, err := p.Open(Config(t, config))
	if err != nil {
		t.Fatalf("Open(%v): %v", config, err)
	}
	return source
}

// Load opens a configuration and loads its credential; both must succeed.
func Load(t *testing.T, p plugins.Provider, config map[string]any) plugins.Credential {
	t.Helper()
	credential, err := Open(t, p, config).Load(t.Context())
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return credential
}

// Config encodes a configuration as the agent does.
func Config(t *testing.T, config map[string]any) json.RawMessage {
	t.Helper()
	encoded, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// CheckProblems checks the problems that p finds in a configuration, in their order.
func CheckProblems(t *testing.T, p plugins.Provider, config string, want []string) {
	t.Helper()
	reply, err := Serve(t, p).Check(t.Context(), &providerpb.CheckRequest{Config: []byte(config)})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, problem := range reply.GetProblems() {
		got = append(got, strings.TrimPrefix(problem.GetKey()+": "+problem.GetMessage(), ": "))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("problems of %s:\n%s\nwant:\n%s", config, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// CheckFails checks that a credential does not load, that the error contains want, and that it shows nothing of the
// secrets.
func CheckFails(t *testing.T, source plugins.Source, want string, secrets ...[]byte) {
	t.Helper()
	_, err := source.Load(t.Context())
	if err == nil {
		t.Fatal("the credential loaded")
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error %q does not say %q", err, want)
	}
	for _, secret := range secrets {
		CheckHidden(t, err.Error(), secret)
	}
	var configError *plugins.ConfigError
	if errors.As(err, &configError) {
		t.Errorf("error %q is about the configuration", err)
	}
}

// CheckHidden checks that text contains no eight consecutive bytes of a secret.
func CheckHidden(t *testing.T, text string, secret []byte) {
	t.Helper()
	const telling = 8
	for i := 0; i+telling <= len(secret); i++ {
		if strings.Contains(text, string(secret[i:i+telling])) {
			t.Fatalf("%q shows part of a secret", text)
		}
	}
}

// File writes content to a file of its own and returns its path.
func File(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
