// Package metrics counts what the agent does and writes it in Prometheus's text format.
//
// It owns the counters; gauges are read from the status. One caveat: the counters of tokens and sinks
// are not in the client library's registry, but in [Metrics.Write].
package metrics

import (
	"io"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
)

// Metrics are the counters of the documented metrics. Gauges are not stored but read from the status on each scrape,
// so that there is one source. The client library keeps the counters that exist once for each client or less; the
// others, of tokens and sinks, can be many.
type Metrics struct {
	duration   *prometheus.HistogramVec
	starts     *prometheus.CounterVec
	rotations  *prometheus.CounterVec
	reloads    *prometheus.CounterVec
	lastReload prometheus.Gauge

	requests   *counts
	challenges *counts
	writes     *counts
	acted      *counts
	signals    *counts
}

func New(registry prometheus.Registerer, version string) *Metrics {
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "credagent_token_request_duration_seconds",
			Help:    "How long token requests took, by client.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"client"}),
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "credagent_provider_starts_total",
			Help: "Starts of credential providers' processes by outcome.",
		}, []string{"provider", "outcome"}),
		rotations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "credagent_credential_reloads_total",
			Help: "Changed credentials by whether they could be loaded.",
		}, []string{"client", "outcome"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "credagent_config_reloads_total",
			Help: "Reloads of the configuration by outcome.",
		}, []string{"outcome"}),
		lastReload: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "credagent_config_last_reload_successful",
			Help: "Whether the last reload of the configuration, or the start, was successful.",
		}),
		requests: newCounts("credagent_token_requests_total", "Token requests by client, token and outcome.",
			classNames(), "client", "token"),
		challenges: newCounts("credagent_claims_challenges_total", "Claims challenges handed in by token and outcome.",
			[]string{status.ChallengeAccepted, status.ChallengeDuplicate, status.ChallengeInvalid}, "token"),
		writes: newCounts("credagent_sink_writes_total", "Writes of sinks by outcome.",
			[]string{"written", "unchanged", "failed"}, "sink"),
		acted: newCounts("credagent_on_change_total", "Actions after a sink's content changed, by outcome.",
			[]string{Outcome(true), Outcome(false)}, "sink"),
		signals: newCounts("credagent_signals_received_total", "Events received by Shared Signals, by stream, event and outcome.",
			[]string{status.SignalActed, status.SignalStale, status.SignalIgnored, status.SignalDuplicate, status.SignalRefused}, "event", "stream"),
	}
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
	registry.MustRegister(m.duration, m.starts, m.rotations, m.reloads, m.lastReload, build)
	return m
}

func classNames() []string {
	var names []string
	for _, class := range policy.Classes() {
		names = append(names, class.String())
	}
	return names
}

func (m *Metrics) Requested(client, token string, class policy.Class, took time.Duration) {
	m.requests.add(key{client, token}, class.String())
	m.duration.WithLabelValues(client).Observe(took.Seconds())
}

func (m *Metrics) Challenged(token, outcome string) { m.challenges.add(key{token}, outcome) }

func (m *Metrics) Wrote(sink, outcome string) { m.writes.add(key{sink}, outcome) }

func (m *Metrics) Reacted(sink string, err error) { m.acted.add(key{sink}, Outcome(err == nil)) }

// Signalled counts an event of a stream. The names of events are few.
func (m *Metrics) Signalled(stream, event, outcome string) {
	m.signals.add(key{event, stream}, outcome)
}

func (m *Metrics) Started(provider string, err error) {
	m.starts.WithLabelValues(provider, Outcome(err == nil)).Inc()
}

// Begin starts the counters of the configuration's names at zero.
func (m *Metrics) Begin(cfg *config.Config) {
	for _, t := range cfg.Tokens {
		m.requests.begin(key{t.Client, t.Name})
		if t.CAE {
			m.challenges.begin(key{t.Name})
		}
	}
	for _, c := range cfg.Clients {
		m.rotations.WithLabelValues(c.Name, Outcome(true))
		m.rotations.WithLabelValues(c.Name, Outcome(false))
	}
	for _, s := range cfg.Sinks {
		m.writes.begin(key{s.Path})
		m.acted.begin(key{s.Path})
	}
	for _, s := range cfg.Signals {
		for _, event := range s.Events {
			m.signals.begin(key{event, s.Name})
		}
	}
}

// Forget removes the counters of names that a reload removed.
func (m *Metrics) Forget(old, next *config.Config) {
	kept := make(map[string]config.Token, len(next.Tokens))
	for _, t := range next.Tokens {
		kept[t.Name] = t
	}
	for _, t := range old.Tokens {
		if kept[t.Name].Client != t.Client {
			m.requests.forget(key{t.Client, t.Name})
		}
		if !kept[t.Name].CAE {
			m.challenges.forget(key{t.Name})
		}
	}
	m.forgetClients(old, next)
	paths := make(map[string]bool, len(next.Sinks))
	for _, s := range next.Sinks {
		paths[s.Path] = true
	}
	for _, s := range old.Sinks {
		if !paths[s.Path] {
			m.writes.forget(key{s.Path})
			m.acted.forget(key{s.Path})
		}
	}
}

// ForgetStream takes away the counters of a stream that a reload took away.
func (m *Metrics) ForgetStream(name string) {
	m.signals.forgetIf(func(k key) bool { return k[1] == name })
}

func (m *Metrics) forgetClients(old, next *config.Config) {
	kept := make(map[string]bool, len(next.Clients))
	for _, c := range next.Clients {
		kept[c.Name] = true
	}
	for _, c := range old.Clients {
		if !kept[c.Name] {
			m.duration.DeleteLabelValues(c.Name)
			m.rotations.DeletePartialMatch(prometheus.Labels{"client": c.Name})
		}
	}
}

func (m *Metrics) Rotated(client string, err error) {
	m.rotations.WithLabelValues(client, Outcome(err == nil)).Inc()
}

// Outcome returns the name of a success or a failure in metrics and status.
func Outcome(well bool) string {
	if well {
		return "success"
	}
	return "failed"
}

func (m *Metrics) Reloaded(well bool) {
	m.reloads.WithLabelValues(Outcome(well)).Inc()
	m.lastReload.Set(number(well))
}

// Write writes the metrics of tokens, clients and sinks that are not in the registry, in Prometheus's
// text format. The gauges are those of a status.
func (m *Metrics) Write(w io.Writer, s *status.Status) error {
	e := newExposition(w)
	for _, c := range []*counts{m.requests, m.challenges, m.writes, m.acted, m.signals} {
		c.write(e)
	}
	writeTokens(e, s.Tokens)
	writeClients(e, s.Clients)
	sinkSuccess := e.begin(family{"credagent_sink_last_success_timestamp_seconds", "When the sink was last written or found right.", gauge, []string{"sink"}})
	for _, k := range s.Sinks {
		sinkSuccess.add(seconds(k.LastSuccess), k.Path)
	}
	healthy := e.begin(family{"credagent_signals_stream_healthy", "Whether events of the stream would reach the agent now.", gauge, []string{"stream"}})
	for _, stream := range s.Signals {
		healthy.add(number(stream.Healthy), stream.Name)
	}
	return e.end()
}

func writeTokens(e *exposition, tokens []status.Token) {
	for _, g := range []struct {
		name, help string
		value      func(*status.Token) float64
	}{
		{"credagent_token_valid", "Whether there is a token that has not expired.", func(t *status.Token) float64 { return number(t.Valid) }},
		{"credagent_consecutive_failures", "Failed requests for the token since the last success.", func(t *status.Token) float64 { return float64(t.ConsecutiveFailures) }},
		{"credagent_token_refresh_timestamp_seconds", "When the next request for the token is planned.", func(t *status.Token) float64 { return seconds(t.RefreshAt) }},
		{"credagent_token_expiry_timestamp_seconds", "When the token expires.", func(t *status.Token) float64 { return seconds(t.Expiry) }},
	} {
		out := e.begin(family{g.name, g.help, gauge, []string{"token"}})
		for i := range tokens {
			out.add(g.value(&tokens[i]), tokens[i].Name)
		}
	}
}

func writeClients(e *exposition, clients []status.Client) {
	blocked := e.begin(family{"credagent_gate_blocked_until_timestamp_seconds", "Until when the server asked the client to send nothing; 0 if it did not.", gauge, []string{"client"}})
	for _, c := range clients {
		blocked.add(seconds(c.Gate.BlockedUntil), c.Name)
	}
	notAfter := e.begin(family{"credagent_credential_not_after_timestamp_seconds", "When the credential in use expires, where that is known.", gauge, []string{"client"}})
	for _, c := range clients {
		if in := c.InUse(); in.NotAfter != nil {
			notAfter.add(seconds(in.NotAfter), c.Name)
		}
	}
	inUse := e.begin(family{"credagent_credential_in_use", "Which of the client's credentials is in use.", gauge, []string{"client", "credential"}})
	for _, c := range clients {
		for _, credential := range []string{status.Primary, status.Fallback} {
			inUse.add(number(c.InUse().Name == credential), c.Name, credential)
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds returns an instant in Prometheus's form; 0 for none.
func seconds(t *time.Time) float64 {
	if t == nil {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
