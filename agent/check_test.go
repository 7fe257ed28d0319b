package agent

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
)

// judge is a provider that takes its time to judge a configuration.
type judge struct {
	scripted
	after   time.Duration
	problem string
}

func (j *judge) Check(ctx context.Context, _ bool) (provider.Credential, []provider.Problem, error) {
	select {
	case <-time.After(j.after):
	case <-ctx.Done():
		return provider.Credential{}, nil, ctx.Err()
	}
	if j.problem == "" {
		return provider.Credential{}, nil, nil
	}
	return provider.Credential{}, []provider.Problem{{Message: j.problem}}, nil
}

// A start waits for what providers say of their configuration, but not for one that hangs.
func TestCheckSoon(t *testing.T) {
	const patience, hang = 5 * time.Second, time.Hour
	for name, tc := range map[string]struct {
		judges map[string]*judge
		took   time.Duration
		says   []string
	}{
		"sound":             {map[string]*judge{"a": {after: time.Second}, "b": {after: 2 * time.Second}}, 2 * time.Second, nil},
		"a problem":         {map[string]*judge{"a": {}, "b": {after: time.Second, problem: "no key"}}, time.Second, []string{"no key"}},
		"one hangs":         {map[string]*judge{"a": {after: hang}, "b": {}}, patience, nil},
		"beside one hangs":  {map[string]*judge{"a": {after: hang}, "b": {problem: "no key"}}, patience, []string{"no key"}},
		"a problem, late":   {map[string]*judge{"a": {after: patience + time.Second, problem: "no file"}, "b": {}}, patience, nil},
		"several, in order": {map[string]*judge{"a": {after: time.Second, problem: "no file"}, "b": {problem: "no key"}}, time.Second, []string{"no file", "no key"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				a := judged(tc.judges)
				begun := time.Now()
				waiting, stop := context.WithTimeout(ctx, patience)
				err := a.CheckSoon(ctx, waiting)
				stop()
				if took := time.Since(begun); took != tc.took {
					t.Errorf("it took %s, want %s", took, tc.took)
				}
				at := 0
				for _, says := range tc.says {
					i := strings.Index(err.Error()[at:], says)
					if i < 0 {
						t.Fatalf("the error is %v, want %q", err, tc.says)
					}
					at += i
				}
				if (err != nil) != (len(tc.says) > 0) {
					t.Errorf("the error is %v", err)
				}
				cancel()
				a.checks.Wait()
			})
		})
	}
}

// judged is an agent of the clients a and b.
func judged(judges map[string]*judge) *Agent {
	cfg := &config.Config{Source: "test"}
	for _, name := range []string{"a", "b"} {
		cfg.Clients = append(cfg.Clients, config.Client{Name: name, TokenURL: "https://login.example.com/token", ClientID: name, RequestTimeout: time.Second})
	}
	return New(Options{
		Config: cfg, Version: "test", Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Provider: func(spec provider.Spec) Provider { return judges[spec.Client] },
	})
}
