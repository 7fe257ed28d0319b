package api_test

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/credagent/credagent/agent/api"
)

// TestMetricsAreWhole: whatever the scraper would rather have, it gets both parts in one text.
func TestMetricsAreWhole(t *testing.T) {
	registry := prometheus.NewRegistry()
	one := prometheus.NewGauge(prometheus.GaugeOpts{Name: "one", Help: "First."})
	registry.MustRegister(one)
	handler := api.Metrics(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), func(w io.Writer) error {
		_, err := io.WriteString(w, "two 2\n")
		return err
	})
	const want = "# HELP one First.\n# TYPE one gauge\none 0\ntwo 2\n"
	for name, header := range map[string]http.Header{
		"nothing":    {},
		"gzip":       {"Accept-Encoding": {"gzip"}},
		"zstd":       {"Accept-Encoding": {"zstd"}},
		"protobuf":   {"Accept": {"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"}},
		"Prometheus": {"Accept": {"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"}, "Accept-Encoding": {"gzip"}},
	} {
		t.Run(name, func(t *testing.T) {
			request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			request.Header = header
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, request)
			var body io.Reader = w.Body
			if w.Header().Get("Content-Encoding") == "gzip" {
				var err error
				if body, err = gzip.NewReader(body); err != nil {
					t.Fatal(err)
				}
			}
			got, err := io.ReadAll(body)
			if err != nil || string(got) != want || w.Code != http.StatusOK {
				t.Errorf("status %d, %v: %q", w.Code, err, got)
			}
			if kind := w.Header().Get("Content-Type"); kind != "text/plain; version=0.0.4; charset=utf-8; escaping=underscores" {
				t.Errorf("Content-Type is %q", kind)
			}
		})
	}
}

// TestBrokenMetricsAreAnError: half of them must not look like all.
func TestBrokenMetricsAreAnError(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(broken{})
	handler := api.Metrics(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), func(io.Writer) error {
		t.Error("the rest is written")
		return nil
	})
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("status %d", w.Code)
	}
}

// broken is a metric that cannot be collected.
type broken struct{}

func (broken) Describe(out chan<- *prometheus.Desc) {
	out <- prometheus.NewDesc("broken", "Nothing.", nil, nil)
}

func (b broken) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.NewInvalidMetric(prometheus.NewDesc("broken", "Nothing.", nil, nil), errors.New("broken"))
}
