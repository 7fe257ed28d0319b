package agent

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/provider"
)

func TestTokenIsGoodOrSaysWhenToAskAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		f := newFixture(func(context.Context, provider.Request) (provider.Reply, error) {
			if down.Load() {
				return refusal(http.StatusTooManyRequests, "slow_down", "100"), nil
			}
			return granted("one", time.Minute), nil
		}, "a")
		defer f.run(t.Context())()
		pass(time.Second)
		var notYet *NotYetError
		if _, err := f.agent.Token("a"); !errors.As(err, &notYet) || notYet.RetryIn < 99*time.Second || notYet.RetryIn > 110*time.Second {
			t.Errorf("while the gate is closed: %v", err)
		}
		if _, err := f.agent.Token("b"); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("of an unknown name: %v", err)
		}
		down.Store(false)
		pass(110 * time.Second)
		if got, err := f.agent.Token("a"); err != nil || got.AccessToken.Reveal() != "one" {
			t.Errorf("token %v, %v", got, err)
		}
		down.Store(true)
		pass(2 * time.Minute)
		if _, err := f.agent.Token("a"); !errors.Is(err, ErrNoToken) {
			t.Errorf("after it expired: %v", err)
		}
	})
}
