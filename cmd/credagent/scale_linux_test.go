package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/usage"
)

var largest = flag.Int("scale", 1_000, "how many tokens the largest agent of BenchmarkScale has; 10,000 take four minutes to come")

const (
	scaleClients = 10 // over which the tokens are spread
	scalePace    = 4  // requests of a client in a second, which credagent does not exceed
)

// BenchmarkScale measures whole agents with many tokens, over ten clients and with a file for each,
// beside a loop that makes the same signatures, requests and writes: what processor time a token
// takes, with all providers; how many come in a second, the loop keeping to the same pace; and how
// much memory and how many goroutines the agent has for one.
func BenchmarkScale(b *testing.B) {
	dir := b.TempDir()
	w := &scaleWorld{dir: dir, credagent: build(b, dir, ".", "./cmd/credagent"), loop: build(b, dir, "bench", "./baseline/loop")}
	w.prepare(b)
	for _, credential := range []string{"certcred", "secretcred"} {
		for _, tokens := range []int{1, 100, 1_000, 10_000} {
			if tokens > *largest || credential == "secretcred" && tokens != 100 {
				continue
			}
			name := fmt.Sprintf("credential=%s/tokens=%d/by=", credential, tokens)
			b.Run(name+"credagent", func(b *testing.B) {
				for b.Loop() {
					w.measureAgent(b, credential, tokens)
				}
			})
			b.Run(name+"bare", func(b *testing.B) {
				for b.Loop() {
					w.measureLoop(b, credential, tokens)
				}
			})
		}
	}
}

// scaleWorld is what the programs that are compared find on their host.
type scaleWorld struct {
	dir             string
	credagent, loop string
	certificate     *x509.Certificate

	// What an agent has with a token for each client; 0 before it was measured.
	baseMemory     int
	baseGoroutines float64
}

func (w *scaleWorld) path(name string) string { return filepath.Join(w.dir, name) }

func (w *scaleWorld) prepare(b *testing.B) {
	b.Helper()
	certificate, key, parsed, err := devserver.NewCertificate("app", devserver.KeyRSA, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	w.certificate = parsed
	for name, content := range map[string][]byte{"pair": append(certificate, key...), "secret": []byte(canary)} {
		if err := os.WriteFile(w.path(name), content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

// serve starts an authorization server that knows the clients.
func (w *scaleWorld) serve(b *testing.B) *devserver.Server {
	b.Helper()
	options := devserver.Options{TTL: 24 * time.Hour}
	for i := range scaleClients {
		options.Clients = append(options.Clients, devserver.Client{
			ID: fmt.Sprintf("app%d", i), Secret: secret.New(canary), Certificates: []*x509.Certificate{w.certificate},
		})
	}
	server, err := devserver.New(options)
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Close() })
	return server
}

// configure writes the configuration of so many tokens.
func (w *scaleWorld) configure(b *testing.B, tokenURL, credential string, tokens int) (file, listen string) {
	b.Helper()
	listen = freeAddress(b)
	config := fmt.Sprintf("{ provider: certcred, config: { certificate_file: %s } }", w.path("pair"))
	if credential == "secretcred" {
		config = fmt.Sprintf("{ provider: secretcred, config: { secret_file: %s } }", w.path("secret"))
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "listen: %s\nclients:\n", listen)
	for i := range scaleClients {
		fmt.Fprintf(&text, "  c%d: { token_url: %q, client_id: app%d, credential: %s }\n", i, tokenURL, i, config)
	}
	fmt.Fprintf(&text, "tokens:\n")
	for i := range tokens {
		fmt.Fprintf(&text, "  t%d: { client: c%d, scopes: [read] }\n", i, i%scaleClients)
	}
	fmt.Fprintf(&text, "sinks:\n")
	sinks := b.TempDir()
	for i := range tokens {
		fmt.Fprintf(&text, "  - { type: file, token: t%d, path: %s/t%d }\n", i, sinks, i)
	}
	file = w.path("credagent.yaml")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	return file, listen
}

// measureAgent runs an agent until all its tokens are there, and looks at it when it has settled.
func (w *scaleWorld) measureAgent(b *testing.B, credential string, tokens int) {
	if tokens >= 1_000 && w.baseMemory == 0 {
		r := w.runAgent(b, credential, scaleClients)
		w.baseMemory, w.baseGoroutines = r.settledMemory(b), metricOf(b, r.listen, "go_goroutines")
		r.stop(b)
	}
	r := w.runAgent(b, credential, tokens)
	defer r.stop(b)
	b.ReportMetric(float64(tokens)/r.took.Seconds(), "tokens/s")
	if tokens >= 100 { // else the start of the providers is most of it
		each := float64(r.spent.Nanoseconds()) / float64(tokens-tokens/10)
		b.ReportMetric(each, "cpu-ns/token")
		b.ReportMetric(each, "paced-cpu-ns/token")
	}
	if tokens >= 1_000 {
		more := float64(tokens - scaleClients)
		b.ReportMetric(float64(r.settledMemory(b)-w.baseMemory)/more, "B/token")
		b.ReportMetric((metricOf(b, r.listen, "go_goroutines")-w.baseGoroutines)/more, "goroutines/token")
	}
}

// measureLoop runs the loop at the agent's pace, and once more as fast as it can: a process that rests
// between its requests takes more processor time for each.
func (w *scaleWorld) measureLoop(b *testing.B, credential string, tokens int) {
	paced := w.runLoop(b, credential, tokens, scalePace)
	b.ReportMetric(float64(tokens)/paced.took.Seconds(), "tokens/s")
	if tokens >= 100 {
		unpaced := w.runLoop(b, credential, tokens, 0)
		for unit, r := range map[string]*scaleRun{"cpu-ns/token": unpaced, "paced-cpu-ns/token": paced} {
			used := r.cmd.ProcessState
			b.ReportMetric(float64((used.UserTime()+used.SystemTime()).Nanoseconds())/float64(tokens), unit)
		}
	}
}

// scaleRun is a program at work.
type scaleRun struct {
	cmd    *exec.Cmd
	listen string
	took   time.Duration // from the start until all tokens were there
	spent  time.Duration // processor time of it and its children for the last nine tenths of the tokens
}

func (w *scaleWorld) runAgent(b *testing.B, credential string, tokens int) *scaleRun {
	b.Helper()
	server := w.serve(b)
	file, listen := w.configure(b, server.TokenURL(), credential, tokens)
	r := &scaleRun{cmd: exec.CommandContext(b.Context(), w.credagent, "run", "-c", file), listen: listen}
	r.run(b, server, tokens, func() { r.untilReady(b) })
	return r
}

func (w *scaleWorld) runLoop(b *testing.B, credential string, tokens, pace int) *scaleRun {
	b.Helper()
	server := w.serve(b)
	args := []string{"-token-url", server.TokenURL(), "-dir", b.TempDir(), "-clients", strconv.Itoa(scaleClients), "-tokens", strconv.Itoa(tokens), "-pace", strconv.Itoa(pace)}
	if credential == "certcred" {
		args = append(args, "-pair", w.path("pair"))
	} else {
		args = append(args, "-secret", w.path("secret"))
	}
	r := &scaleRun{cmd: exec.CommandContext(b.Context(), w.loop, args...)}
	r.run(b, server, tokens, func() {
		if err := r.cmd.Wait(); err != nil {
			b.Fatal(err)
		}
	})
	return r
}

// run starts the program and measures it while it gets its tokens.
func (r *scaleRun) run(b *testing.B, server *devserver.Server, tokens int, finished func()) {
	b.Helper()
	begun := time.Now()
	if err := r.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute+time.Duration(tokens)*time.Second/scaleClients)
	defer cancel()
	if err := server.Wait(ctx, tokens/10); err != nil {
		b.Fatal(err)
	}
	before := familyTime(b, r.cmd.Process.Pid)
	if err := server.Wait(ctx, tokens); err != nil {
		b.Fatal(err)
	}
	r.spent = familyTime(b, r.cmd.Process.Pid) - before
	finished()
	r.took = time.Since(begun)
}

func (r *scaleRun) stop(b *testing.B) {
	b.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	if err := r.cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

// untilReady waits until every file is written.
func (r *scaleRun) untilReady(b *testing.B) {
	b.Helper()
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for range every.C {
		response, err := http.Get("http://" + r.listen + "/readyz")
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return
		}
	}
}

// settledMemory is the agent's anonymous memory when it has not become less for a while.
func (r *scaleRun) settledMemory(b *testing.B) int {
	b.Helper()
	every := time.NewTicker(time.Second)
	defer every.Stop()
	least, since := usageOf(b, r.cmd.Process.Pid).Anonymous, time.Now()
	for time.Since(since) < 10*time.Second {
		<-every.C
		if now := usageOf(b, r.cmd.Process.Pid).Anonymous; now < least-least/100 {
			least, since = now, time.Now()
		}
	}
	return usageOf(b, r.cmd.Process.Pid).Anonymous
}

func usageOf(b *testing.B, pid int) usage.Usage {
	b.Helper()
	seen, err := usage.Of(pid)
	if err != nil {
		b.Fatal(err)
	}
	return seen
}

// familyTime is the processor time that a process and its children have used.
func familyTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	children, err := usage.Children(pid)
	if err != nil {
		b.Fatal(err)
	}
	total := usageOf(b, pid).CPU
	for _, child := range children {
		total += usageOf(b, child).CPU
	}
	return total
}
