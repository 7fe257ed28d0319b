package examples_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMetricsAreDocumented compares what a running agent shows at /metrics with the document: the
// names, and the labels of each.
func TestMetricsAreDocumented(t *testing.T) {
	documented := map[string]string{}
	for _, row := range table(t, "docs/operations.md", "metric") {
		documented[codes(row[0])[0]] = strings.Join(slices.Sorted(slices.Values(codes(row[1]))), ",")
	}
	metrics := scrape(t)
	same(t, "metrics", slices.Sorted(maps.Keys(metrics)), slices.Sorted(maps.Keys(documented)))
	for name, labels := range metrics {
		if documented[name] != labels {
			t.Errorf("%s: documented are the labels %s, but it has %s", name, documented[name], labels)
		}
	}
}

// scrape runs an agent until it is ready and returns the labels of each metric of its own.
func scrape(t *testing.T) map[string]string {
	t.Helper()
	p := newPlace(t)
	address := freeAddress(t)
	config := filepath.Join(t.TempDir(), "credagent.yaml")
	example := strings.Replace(read(t, "examples/entra-certificate/credagent.yaml"), "    scopes:", "    cae: true\n    scopes:", 1)
	write(t, config, "listen: "+address+"\n"+p.adapt(t, example))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var log bytes.Buffer
	agent := exec.CommandContext(ctx, program, "run", "-c", config)
	agent.Env, agent.Stderr = environment(), &log
	agent.Cancel = func() error { return agent.Process.Signal(syscall.SIGTERM) }
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	ready := becomesReady(ctx, "http://"+address+"/readyz")
	text, err := get(ctx, "http://"+address+"/metrics")
	cancel()
	_ = agent.Wait() // ended by the signal
	if !ready || err != nil {
		t.Fatalf("the agent does not become ready, or shows no metrics: %v\n%s", err, &log)
	}
	return labelsIn(text)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func becomesReady(ctx context.Context, probe string) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if text, err := get(ctx, probe); err == nil && strings.TrimSpace(text) == "ready" {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// labelsIn returns the sorted labels of each credagent_ metric in the text format.
func labelsIn(text string) map[string]string {
	sample := regexp.MustCompile(`(?m)^(credagent_\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? \S+$`)
	label := regexp.MustCompile(`(\w+)="`)
	metrics := map[string]string{}
	for _, match := range sample.FindAllStringSubmatch(text, -1) {
		var labels []string
		for _, found := range label.FindAllStringSubmatch(match[2], -1) {
			if found[1] != "le" {
				labels = append(labels, found[1])
			}
		}
		metrics[match[1]] = strings.Join(slices.Sorted(slices.Values(labels)), ",")
	}
	return metrics
}
