package examples_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/credagent/credagent/testkit/agentprocess"
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
	address := agentprocess.FreeAddress(t)
	config := filepath.Join(t.TempDir(), "credagent.yaml")
	example := strings.Replace(read(t, "examples/entra-certificate/credagent.yaml"), "    scopes:", "    cae: true\n    scopes:", 1)
	stream := "signals: { corp: { issuer: 'http://127.0.0.1:1', token: graph, subjects: [{ client: payments, opaque: payments }] } }\n"
	write(t, config, "listen: "+address+"\n"+stream+p.adapt(t, example))
	cmd := exec.Command(program, "run", "-c", config)
	cmd.Env = environment()
	agentprocess.Start(t, cmd).AwaitReady(address)
	text, err := get(t.Context(), "http://"+address+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return labelsIn(text)
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
