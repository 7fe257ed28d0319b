package agent

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
)

// metrics are the counters of the contract. Gauges are not kept but read from the status when
// they are asked for, so that there is one truth.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	writes   *prometheus.CounterVec
	starts   *prometheus.CounterVec
	acted    *prometheus.CounterVec

	challenges *prometheus.CounterVec
	rotations  *prometheus.CounterVec
	reloads    *prometheus.CounterVec
	lastReload prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer, version string) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "credagent_token_requests_total",
			Help: "Token requests by client, token and outcome.",
		}, []string{"client", "token", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "credagent_token_request_duration_seconds",
			Help:    "How long token requests took, by client.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"client"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "credagent_sink_writes_total",
			Help: "Writes of sinks by outcome.",
		}, []string{"sink", "outcome"}),
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "credagent_provider_starts_total",
			Help: "Starts of credential providers' processes by outcome.",
		}, []string{"provider", "outcome"}),
	}
	m.challenges = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "credagent_claims_challenges_total",
		Help: "Claims challenges handed in by token and outcome.",
	}, []string{"token", "outcome"})
	m.acted = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "credagent_on_change_total",
		Help: "Actions after a sink's content changed, by outcome.",
	}, []string{"sink", "outcome"})
	m.rotations = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "credagent_credential_reloads_total",
		Help: "Changed credentials by whether they could be loaded.",
	}, []string{"client", "outcome"})
	m.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "credagent_config_reloads_total",
		Help: "Reloads of the configuration by outcome.",
	}, []string{"outcome"})
	m.lastReload = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "credagent_config_last_reload_successful",
		Help: "Whether the last reload of the configuration, or the start, was successful.",
	})
	m.lastReload.Set(1)
	for _, outcome := range []string{"success", "failed"} {
		m.reloads.WithLabelValues(outcome)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "credagent_build_info",
		Help:        "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	})
	build.Set(1)
	registry.MustRegister(m.requests, m.duration, m.writes, m.starts, m.acted, m.challenges, m.rotations, m.reloads, m.lastReload, build)
	return m
}

func (m *metrics) requested(client, token string, class policy.Class, took time.Duration) {
	m.requests.WithLabelValues(client, token, class.String()).Inc()
	m.duration.WithLabelValues(client).Observe(took.Seconds())
}

func (m *metrics) challenged(token, outcome string) {
	m.challenges.WithLabelValues(token, outcome).Inc()
}

func (m *metrics) wrote(sink, outcome string) { m.writes.WithLabelValues(sink, outcome).Inc() }

func (m *metrics) reacted(sink string, err error) {
	m.acted.WithLabelValues(sink, outcomeOf(err == nil)).Inc()
}

func (m *metrics) started(provider string, err error) {
	m.starts.WithLabelValues(provider, outcomeOf(err == nil)).Inc()
}

// begin makes the counters of the configuration's names start at zero, so that a first failure is
// an increase that alerts can see.
func (m *metrics) begin(cfg *config.Config) {
	for _, t := range cfg.Tokens {
		for _, class := range policy.Classes() {
			m.requests.WithLabelValues(t.Client, t.Name, class.String())
		}
		if t.CAE {
			for _, outcome := range []string{challengeAccepted, challengeDuplicate, challengeInvalid} {
				m.challenges.WithLabelValues(t.Name, outcome)
			}
		}
	}
	for _, c := range cfg.Clients {
		m.rotations.WithLabelValues(c.Name, outcomeOf(true))
		m.rotations.WithLabelValues(c.Name, outcomeOf(false))
	}
	for _, s := range cfg.Sinks {
		for _, outcome := range []string{"written", "unchanged", "failed"} {
			m.writes.WithLabelValues(s.Path, outcome)
		}
		m.acted.WithLabelValues(s.Path, outcomeOf(true))
		m.acted.WithLabelValues(s.Path, outcomeOf(false))
	}
}

// forget takes away the counters of names that a reload took away.
func (m *metrics) forget(old, next *config.Config) {
	kept := make(map[string]config.Token, len(next.Tokens))
	for _, t := range next.Tokens {
		kept[t.Name] = t
	}
	for _, t := range old.Tokens {
		if kept[t.Name].Client != t.Client {
			m.requests.DeletePartialMatch(prometheus.Labels{"client": t.Client, "token": t.Name})
		}
		if !kept[t.Name].CAE {
			m.challenges.DeletePartialMatch(prometheus.Labels{"token": t.Name})
		}
	}
	paths := make(map[string]bool, len(next.Sinks))
	for _, s := range next.Sinks {
		paths[s.Path] = true
	}
	for _, s := range old.Sinks {
		if !paths[s.Path] {
			m.writes.DeletePartialMatch(prometheus.Labels{"sink": s.Path})
			m.acted.DeletePartialMatch(prometheus.Labels{"sink": s.Path})
		}
	}
}

func (m *metrics) rotated(client string, err error) {
	m.rotations.WithLabelValues(client, outcomeOf(err == nil)).Inc()
}

func outcomeOf(well bool) string {
	if well {
		return "success"
	}
	return "failed"
}

func (m *metrics) reloaded(well bool) {
	m.reloads.WithLabelValues(outcomeOf(well)).Inc()
	m.lastReload.Set(number(well))
}

// gauges reads the status for every scrape.
type gauges struct {
	status func() status.Status

	expiry, refresh, valid, failures, blocked, sinkSuccess, notAfter, inUse *prometheus.Desc
}

func newGauges(read func() status.Status) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &gauges{
		status:      read,
		expiry:      desc("credagent_token_expiry_timestamp_seconds", "When the token expires.", "token"),
		refresh:     desc("credagent_token_refresh_timestamp_seconds", "When the next request for the token is planned.", "token"),
		valid:       desc("credagent_token_valid", "Whether there is a token that has not expired.", "token"),
		failures:    desc("credagent_consecutive_failures", "Failed requests for the token since the last success.", "token"),
		blocked:     desc("credagent_gate_blocked_until_timestamp_seconds", "Until when the server asked the client to send nothing; 0 if it did not.", "client"),
		sinkSuccess: desc("credagent_sink_last_success_timestamp_seconds", "When the sink was last written or found right.", "sink"),
		notAfter:    desc("credagent_credential_not_after_timestamp_seconds", "When the credential in use expires, where that is known.", "client"),
		inUse:       desc("credagent_credential_in_use", "Which of the client's credentials is in use.", "client", "credential"),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{g.expiry, g.refresh, g.valid, g.failures, g.blocked, g.sinkSuccess, g.notAfter, g.inUse} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	s := g.status()
	for _, t := range s.Tokens {
		gauge(g.valid, number(t.Valid), t.Name)
		gauge(g.failures, float64(t.ConsecutiveFailures), t.Name)
		gauge(g.refresh, seconds(t.RefreshAt), t.Name)
		gauge(g.expiry, seconds(t.Expiry), t.Name)
	}
	for _, c := range s.Clients {
		gauge(g.blocked, seconds(c.Gate.BlockedUntil), c.Name)
		in := c.InUse()
		if in.NotAfter != nil {
			gauge(g.notAfter, seconds(in.NotAfter), c.Name)
		}
		for _, credential := range []string{primary, fallback} {
			gauge(g.inUse, number(in.Name == credential), c.Name, credential)
		}
	}
	for _, s := range s.Sinks {
		gauge(g.sinkSuccess, seconds(s.LastSuccess), s.Path)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is an instant as Prometheus wants it; 0 where there is none.
func seconds(t *time.Time) float64 {
	if t == nil {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
