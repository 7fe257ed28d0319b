package agent

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
)

// changed returns a copy of the fixture's configuration with something else in it.
func (f *fixture) changed(change func(*config.Config)) *config.Config {
	cfg := *f.agent.parts.config()
	cfg.Clients = append([]config.Client(nil), cfg.Clients...)
	cfg.Tokens = append([]config.Token(nil), cfg.Tokens...)
	cfg.Sinks = append([]config.Sink(nil), cfg.Sinks...)
	change(&cfg)
	return &cfg
}

func otherCredential(cfg *config.Config) {
	cfg.Clients[0].Credential.Config = json.RawMessage(`{"secret_file":"/other"}`)
}

func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f := newFixture(s.exchange, "a", "b")
		stop := f.run(t.Context())
		defer stop()
		pass(time.Minute)
		before := f.agent.Status().Tokens[0].RefreshAt
		held := f.sinks["b"].held("b")
		cfg := f.changed(func(cfg *config.Config) { cfg.Tokens[1].Scopes = []string{"scope-other"} })
		if err := f.agent.Reload(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if f.sinks["b"].held("b").AccessToken.IsZero() {
			t.Error("the sink of the token that changed lost its content")
		}
		pass(time.Minute)
		if after := f.agent.Status().Tokens[0].RefreshAt; !after.Equal(*before) {
			t.Errorf("the schedule of the token that did not change moved from %v to %v", before, after)
		}
		got := s.requests()
		if len(got) != 3 || got[2].token != "other" {
			t.Errorf("requests after the reload: %v", got[2:])
		}
		if f.sinks["b"].held("b") == held {
			t.Error("the sink of the token that changed was not written again")
		}
	})
}

func TestReloadNeverEndsARetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, a arrival) (provider.Reply, error) {
			if n == 1 {
				return refusal(http.StatusTooManyRequests, "", "600"), nil
			}
			return good(n, a)
		}}
		f := newFixture(s.exchange, "a")
		began := time.Now()
		stop := f.run(t.Context())
		defer stop()
		pass(time.Minute)
		without := f.changed(func(cfg *config.Config) { cfg.Clients, cfg.Tokens, cfg.Sinks = nil, nil, nil })
		renamed := f.changed(func(cfg *config.Config) {
			otherCredential(cfg)
			cfg.Clients[0].Name, cfg.Tokens[0].Client = "renamed", "renamed"
		})
		for _, cfg := range []*config.Config{f.changed(otherCredential), without, renamed} {
			if err := f.agent.Reload(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			pass(time.Minute)
		}
		pass(10 * time.Minute)
		got := s.requests()
		if len(got) != 2 {
			t.Fatalf("%d requests, want 2", len(got))
		}
		if after := got[1].at.Sub(began); after < 600*time.Second {
			t.Errorf("the second request came %v after the first, inside its Retry-After", after)
		}
	})
}

func TestReloadEndsASlowProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, a arrival) (provider.Reply, error) {
			if n == 1 {
				return refusal(http.StatusUnauthorized, "invalid_client", ""), nil
			}
			return good(n, a)
		}}
		f := newFixture(s.exchange, "a")
		stop := f.run(t.Context())
		defer stop()
		pass(10 * time.Second)
		if err := f.agent.Reload(t.Context(), f.changed(otherCredential)); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if !f.agent.Status().Ready {
			t.Error("the new credential was not tried at once")
		}
	})
}

func TestReloadThatCannotWorkChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f := newFixture(s.exchange, "a")
		stop := f.run(t.Context())
		defer stop()
		pass(time.Second)
		before := f.agent.parts.list()
		bad := f.changed(func(cfg *config.Config) {
			otherCredential(cfg)
			cfg.Sinks[0].Token = "unopenable"
		})
		var problem *config.Error
		if err := f.agent.Reload(t.Context(), bad); !errors.As(err, &problem) {
			t.Fatalf("reload of what cannot work: %v", err)
		}
		if f.agent.parts.list() != before {
			t.Error("the parts changed")
		}
		pass(2 * time.Hour)
		if !f.agent.Status().Ready {
			t.Error("the agent does not go on")
		}
	})
}

func TestGateOutlivesTheClientThatIsTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, a arrival) (provider.Reply, error) {
			if a.client == "id" && n == 1 {
				return refusal(http.StatusTooManyRequests, "", "600"), nil
			}
			return good(n, a)
		}}
		f := newFixture(s.exchange, "a")
		first := f.agent.parts.config()
		defer f.run(t.Context())()
		pass(time.Second)
		other := f.changed(func(cfg *config.Config) { cfg.Clients[0].ClientID = "another" })
		for _, cfg := range []*config.Config{other, first} {
			if err := f.agent.Reload(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			pass(time.Minute)
		}
		got := s.requests()
		if len(got) != 2 || got[1].client != "another" {
			t.Fatalf("requests %v, want the first client's one and the other client's", got)
		}
		pass(9 * time.Minute)
		if got := s.requests(); len(got) != 3 || got[2].client != "id" {
			t.Errorf("requests %v after the Retry-After", got)
		}
	})
}
