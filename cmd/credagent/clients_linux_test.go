package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/usage"
)

// BenchmarkClients measures an agent with many clients of one server, which are all due at once, when
// all tokens have just come: the memory of it and of its providers.
func BenchmarkClients(b *testing.B) {
	dir := b.TempDir()
	w := &scaleWorld{dir: dir, credagent: build(b, dir, ".", "./cmd/credagent")}
	w.prepare(b)
	for _, clients := range []int{10, 200} {
		b.Run(fmt.Sprintf("clients=%d/by=credagent", clients), func(b *testing.B) {
			for b.Loop() {
				w.measureClients(b, clients)
			}
		})
	}
}

func (w *scaleWorld) measureClients(b *testing.B, clients int) {
	b.Helper()
	options := devserver.Options{TTL: 24 * time.Hour}
	var text bytes.Buffer
	listen, sinks := freeAddress(b), b.TempDir()
	fmt.Fprintf(&text, "listen: %s\nclients:\n", listen)
	for i := range clients {
		options.Clients = append(options.Clients, devserver.Client{ID: fmt.Sprintf("app%d", i), Secret: secret.New(canary), Certificates: []*x509.Certificate{w.certificate}})
	}
	server, err := devserver.New(options)
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	for i := range clients {
		fmt.Fprintf(&text, "  c%d: { token_url: %q, client_id: app%d, credential: { provider: certcred, config: { certificate_file: %s } } }\n", i, server.TokenURL(), i, w.path("pair"))
	}
	fmt.Fprintf(&text, "tokens:\n")
	for i := range clients {
		fmt.Fprintf(&text, "  t%d: { client: c%d, scopes: [read] }\n", i, i)
	}
	fmt.Fprintf(&text, "sinks:\n")
	for i := range clients {
		fmt.Fprintf(&text, "  - { type: file, token: t%d, path: %s/t%d }\n", i, sinks, i)
	}
	file := w.path("clients.yaml")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	r := &scaleRun{cmd: exec.CommandContext(b.Context(), w.credagent, "run", "-c", file), listen: listen}
	if err := r.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer r.stop(b)
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	if err := server.Wait(ctx, clients); err != nil {
		b.Fatal(err)
	}
	r.untilReady(b)
	reportFamily(b, r.cmd.Process.Pid)
}

// reportFamily reports the memory of a process and of those that it has started.
func reportFamily(b *testing.B, pid int) {
	b.Helper()
	family, err := usage.Children(pid)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(family)), "providers")
	anonymous, proportional := 0, 0
	for _, one := range append(family, pid) {
		memory, err := usage.MemoryOf(one)
		if err != nil {
			b.Fatal(err)
		}
		anonymous += memory.Anonymous
		process, err := procfs.NewProc(one)
		if err != nil {
			b.Fatal(err)
		}
		maps, err := process.ProcSMapsRollup()
		if err != nil {
			b.Fatal(err)
		}
		proportional += int(maps.Pss)
	}
	b.ReportMetric(float64(anonymous), "anonymous-B")
	b.ReportMetric(float64(proportional), "proportional-B")
}
