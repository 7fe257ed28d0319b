package agent

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/provider"
)

func TestEndOfACredentialIsToldOnceForEachNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		var out bytes.Buffer
		ends := time.Now().Add(40 * day)
		answer := func(context.Context, provider.Request) (provider.Reply, error) {
			reply := granted("token", 30*day)
			reply.Credential = provider.Credential{Identity: "it", NotBefore: ends.Add(-365 * day), NotAfter: ends}
			return reply, nil
		}
		f := newFixture(answer, "a")
		f.log = slog.New(slog.NewTextHandler(&out, nil))
		f.make(f.agent.parts.config(), answer)
		stop := f.run(t.Context())
		pass(42 * day)
		stop()
		if soon, over := strings.Count(out.String(), "credential ends soon"), strings.Count(out.String(), "credential has expired"); soon != 3 || over != 1 {
			t.Errorf("%d warnings and %d errors, want 3 and 1:\n%s", soon, over, out.String())
		}
		if !strings.Contains(out.String(), "left=168h0m0s") {
			t.Errorf("the week's warning does not say what is left:\n%s", out.String())
		}
	})
}

// slowWaits takes its time to keep a wait, as a disk does.
type slowWaits struct {
	sharedWaits
	takes time.Duration
}

func (w *slowWaits) Extend(endpoint, clientID string, until time.Time) error {
	pass(w.takes)
	return w.sharedWaits.Extend(endpoint, clientID, until)
}

// An answer that comes as the agent ends is the last chance to tell others of its Retry-After, and a disk
// that hangs must not keep the agent from ending.
func TestWaitAskedForAtTheEndIsKept(t *testing.T) {
	tests := map[string]struct {
		takes time.Duration // to keep a wait
		kept  bool
	}{
		"a disk":            {100 * time.Millisecond, true},
		"a disk that hangs": {time.Hour, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := func(ctx context.Context, _ provider.Request) (provider.Reply, error) {
					<-ctx.Done() // the answer is there as the agent ends
					return refusal(http.StatusTooManyRequests, "slow_down", "7200"), nil
				}
				f := newFixture(answer, "a")
				waits := &slowWaits{sharedWaits: sharedWaits{until: map[string]time.Time{}}, takes: tc.takes}
				f.waits = waits
				f.make(f.agent.parts.config(), answer)
				stop := f.run(t.Context())
				pass(time.Second)
				began := time.Now()
				stop()
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("the end took %v", took)
				}
				until, _ := waits.Until("https://login.example.com/token", "id")
				if kept := until.After(time.Now()); kept != tc.kept {
					t.Errorf("other commands on the host know of a wait until %v, want that they do: %v", until, tc.kept)
				}
				pass(tc.takes) // the hanging write ends
			})
		})
	}
}
