package agent

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
)

// Refused is nil while waiting may help, and tells of a refusal when all else had its answer.
func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		answer  func(int, arrival) (provider.Reply, error)
		refused bool
	}{
		"all is there": {good, false},
		"an outage": {func(int, arrival) (provider.Reply, error) {
			return refusal(http.StatusServiceUnavailable, "", ""), nil
		}, false},
		"a refusal": {func(n int, a arrival) (provider.Reply, error) {
			if a.token == "a" {
				return refusal(http.StatusBadRequest, "invalid_scope", ""), nil
			}
			return good(n, a)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture((&server{answer: tc.answer}).exchange, "a", "b")
				if err := f.agent.Refused(); err != nil {
					t.Errorf("before anything happened: %v", err)
				}
				stop := f.run(t.Context())
				defer stop()
				pass(time.Minute)
				err := f.agent.Refused()
				var missing *TokenError
				if (err != nil) != tc.refused || tc.refused && (!errors.As(err, &missing) || missing.Token != "a") {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

func TestEnvironFollowsReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f := newFixture(s.exchange, "a", "b")
		variables := func(all ...config.Variable) *config.Config {
			return f.changed(func(cfg *config.Config) { cfg.Sinks[0].Variables = all })
		}
		remade(f, s, variables(config.Variable{Name: "TOKEN", Token: "a"}))
		if _, err := f.agent.Environ(); err == nil || !strings.Contains(err.Error(), `token "a" has not been acquired yet`) {
			t.Errorf("before there is a token: %v", err)
		}
		stop := f.run(t.Context())
		defer stop()
		pass(time.Minute)
		wantEnviron(t, f, "TOKEN="+f.sinks["a"].held("a").AccessToken.Reveal())
		if err := f.agent.Reload(t.Context(), variables(config.Variable{Name: "CLIENT", Token: "b", Field: "client_id"})); err != nil {
			t.Fatal(err)
		}
		wantEnviron(t, f, "CLIENT=id")
	})
}

func wantEnviron(t *testing.T, f *fixture, want ...string) {
	t.Helper()
	if got, err := f.agent.Environ(); err != nil || !slices.Equal(got, want) {
		t.Errorf("environment %q, %v; want %q", got, err, want)
	}
}
