package agent

import (
	"bytes"
	"context"
	"log/slog"
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
