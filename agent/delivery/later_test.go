package delivery

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

// patient is a sink whose keeper asks for waits.
type patient struct {
	errs   []error
	tried  []time.Time
	closed bool
}

func (*patient) Path() string                    { return "shop/graph" }
func (*patient) Tokens() []string                { return []string{"graph"} }
func (*patient) Mend(sink.Lookup) (bool, error)  { return true, nil }
func (*patient) Holds(sink.Lookup) (bool, error) { return true, nil }
func (*patient) Untouched() bool                 { return true }
func (p *patient) Close()                        { p.closed = true }
func (p *patient) Write(sink.Lookup) (sink.Outcome, error) {
	p.tried = append(p.tried, time.Now())
	if len(p.errs) == 0 {
		return sink.Written, nil
	}
	err := p.errs[0]
	p.errs = p.errs[1:]
	return sink.Unchanged, err
}

// A sink's own wait is kept, and that it still holds is neither logged nor counted as a failure.
func TestLaterError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := &patient{errs: []error{
			&sink.LaterError{Err: errors.New("asked to wait"), Wait: 30 * time.Second},
			&sink.LaterError{Err: errors.New("still waiting"), Wait: 10 * time.Second, Untried: true},
			errors.New("broken"),
		}}
		begin := time.Now()
		w := NewWriter(p, Options{
			Newest: func(string) (token.Token, time.Time) {
				return token.Token{AccessToken: secret.New("x"), Expiry: begin.Add(time.Hour)}, begin
			},
			Roll:    func() float64 { return 0.5 },
			Changed: func() {}, Metrics: metrics.New(prometheus.NewRegistry(), "test"), Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		w.Start()
		<-time.After(2 * time.Minute)
		if !w.UpToDate() || len(p.tried) != 4 {
			t.Fatalf("it was tried %d times:\n%s", len(p.tried), &log)
		}
		if first, second := p.tried[1].Sub(p.tried[0]), p.tried[2].Sub(p.tried[1]); first != 45*time.Second || second != 15*time.Second {
			t.Errorf("it was tried after %s and %s", first, second)
		}
		if n := strings.Count(log.String(), "writing sink failed"); n != 2 || strings.Contains(log.String(), "still waiting") || !strings.Contains(log.String(), "attempt=2") {
			t.Errorf("%d failures are logged:\n%s", n, &log)
		}
		w.Stop(t.Context())
		if !p.closed {
			t.Error("it is not closed")
		}
	})
}
