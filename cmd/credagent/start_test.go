package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

// BenchmarkStart measures whole processes: from their start to the token on disk, with a server
// that answers at once and with one that takes 100 ms, beside the smallest x/oauth2 program that
// does the same.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	credagent := build(b, dir, "credagent", ".")
	baseline := build(b, dir, "baseline", "../../internal/baseline")
	for _, delay := range []time.Duration{0, 100 * time.Millisecond} {
		server := benchServer(b, delay)
		secretFile, sink := filepath.Join(dir, "secret"), filepath.Join(dir, "token")
		if err := os.WriteFile(secretFile, []byte(canary), 0o600); err != nil {
			b.Fatal(err)
		}
		cfg := filepath.Join(dir, "credagent.yaml")
		text := fmt.Sprintf("clients: { app: { token_url: %q, client_id: app, credential: { provider: secretcred, config: { secret_file: %s } } } }\n"+
			"tokens: { t: { client: app, scopes: [read] } }\nsinks: [{ type: file, token: t, path: %s }]\n", server.TokenURL(), secretFile, sink)
		if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("delay=%v/x-oauth2", delay), func(b *testing.B) {
			repeat(b, baseline, server.TokenURL(), secretFile, sink)
		})
		b.Run(fmt.Sprintf("delay=%v/credagent", delay), func(b *testing.B) {
			repeat(b, credagent, "once", "-c", cfg)
		})
	}
}

func build(b *testing.B, dir, name, pkg string) string {
	b.Helper()
	path := filepath.Join(dir, name)
	cmd := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("building %s: %v\n%s", name, err, out)
	}
	return path
}

func benchServer(b *testing.B, delay time.Duration) *devserver.Server {
	b.Helper()
	server, err := devserver.New(devserver.Options{TTL: time.Hour, Clients: []devserver.Client{{ID: "app", Secret: secret.New(canary)}}})
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Close() })
	if delay > 0 {
		if err := server.Inject(devserver.Fault{Kind: devserver.Slow, Delay: delay}); err != nil {
			b.Fatal(err)
		}
	}
	return server
}

func repeat(b *testing.B, path string, args ...string) {
	for b.Loop() {
		if out, err := exec.CommandContext(b.Context(), path, args...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
}
