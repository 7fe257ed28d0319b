//go:build unix

package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/agentprocess"
)

// BenchmarkStart measures whole processes: from their start to their end, with the token on disk, with
// a server that answers at once and with one that takes 100 ms, beside the smallest x/oauth2 program
// that does the same.
func BenchmarkStart(b *testing.B) {
	for _, delay := range []time.Duration{0, 100 * time.Millisecond} {
		p := newPair(b, delay)
		b.Run(fmt.Sprintf("delay=%v/by=credagent", delay), func(b *testing.B) {
			repeat(b, p.credagent, "once", "-c", p.config)
		})
		b.Run(fmt.Sprintf("delay=%v/by=x-oauth2", delay), func(b *testing.B) {
			repeat(b, p.baseline, p.server.TokenURL(), p.secret, p.sink)
		})
	}
}

// BenchmarkSize measures the stripped programs.
func BenchmarkSize(b *testing.B) {
	p := newPair(b, 0)
	for by, path := range map[string]string{"credagent": p.credagent, "x-oauth2": p.baseline} {
		b.Run("by="+by, func(b *testing.B) {
			for b.Loop() { // for the sake of what calls it: there is nothing to repeat
			}
			info, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Size()), "B/program")
			build, err := buildinfo.ReadFile(path)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(build.Deps)), "modules/program")
		})
	}
}

// pair is credagent and the smallest program, before the same server.
type pair struct {
	credagent, baseline  string // programs
	config, secret, sink string // files
	listen               string // where the agent has its metrics
	server               *devserver.Server
}

func newPair(b *testing.B, delay time.Duration) *pair {
	b.Helper()
	dir := b.TempDir()
	p := &pair{
		credagent: build(b, dir, ".", "./cmd/credagent"),
		baseline:  build(b, dir, "bench", "./baseline"),
		config:    filepath.Join(dir, "credagent.yaml"), secret: filepath.Join(dir, "secret"), sink: filepath.Join(dir, "token"),
		listen: freeAddress(b), server: benchServer(b, delay),
	}
	text := fmt.Sprintf("listen: %s\nplugins: { idle_timeout: 1s }\n"+
		"clients: { app: { token_url: %q, client_id: app, credential: { provider: secretcred, config: { secret_file: %s } } } }\n"+
		"tokens: { t: { client: app, scopes: [read] } }\nsinks: [{ type: file, token: t, path: %s }]\n",
		p.listen, p.server.TokenURL(), p.secret, p.sink)
	for path, content := range map[string]string{p.secret: canary, p.config: text} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return p
}

// build builds a program of a module as a release does.
func build(b *testing.B, dir, module, pkg string) string {
	b.Helper()
	path := filepath.Join(dir, filepath.Base(pkg))
	if err := agentprocess.Build(module, pkg, path); err != nil {
		b.Fatal(err)
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
