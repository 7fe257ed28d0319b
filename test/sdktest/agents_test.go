//go:build unix

package sdktest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/testkit/agentprocess"
)

// sdkPatience is how long the agents SDK asks again for: after 2, 4 and 8 seconds, whatever Retry-After says.
const sdkPatience = 14 * time.Second

// TestUnmodifiedAgentsSDK has a Microsoft 365 Agents SDK ask the auth sidecar, by fifty callers at once: while
// the authorization server said "in 30 seconds", when there is a token, after a refresh, and during another
// refusal. The SDK gives up before the 30 seconds are over; the server sees one request in them.
func TestUnmodifiedAgentsSDK(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes most of a minute: not with -short")
	}
	if runtime.GOOS != "linux" {
		t.Skip("the auth sidecar needs Linux")
	}
	t.Parallel()
	sdk := prepareNode(t, "agents-hosting", "@microsoft/agents-hosting")
	a := newAgent(t, "throttle=30*1")
	endpoint := agentprocess.FreeAddress(t)
	sdk.start(t, []string{"SIDECAR_URL=http://" + endpoint})
	if _, err := sdk.ask(order{Calls: none}); err != nil { // it takes its time to load
		t.Fatal(err)
	}
	a.run(t, fmt.Sprintf("auth_sidecar: { listen: %s, token_for: { Graph: graph } }", endpoint))
	a.seen(t, 1)
	stop := a.follow()

	early, err := sdk.ask(order{Service: "Graph", Calls: callers})
	if err != nil {
		t.Fatal(err)
	}
	if len(early.Errors) != callers || !strings.Contains(early.Errors[0], "no token for the API yet") {
		t.Errorf("without a token it gets %v", early.Errors)
	}
	if took := time.Duration(early.TookMS) * time.Millisecond; took < sdkPatience {
		t.Errorf("it gave up after %v, so the documents are out of date: want %v", took, sdkPatience)
	}
	if n := len(a.server.Requests()); n != 1 {
		t.Errorf("the server saw %d requests in this time, want one", n)
	}

	a.seen(t, 2)
	round(t, a, []*workload{sdk}, order{Service: "Graph"})
	a.seen(t, 3)
	round(t, a, []*workload{sdk}, order{Service: "Graph", AgentIdentity: "app"})
	if err := a.server.Inject(fault(t, "throttle=8*1")); err != nil {
		t.Fatal(err)
	}
	a.seen(t, 4)
	round(t, a, []*workload{sdk}, order{Service: "Graph"})
	refused(t, sdk, order{Service: "Vault"}, "auth_sidecar.token_for")
	refused(t, sdk, order{Service: "Graph", AgentIdentity: "another"}, "AgentIdentity names")
	wantPlanned(t, a, stop())
}

// refused has every call of a workload fail with an error that a person understands.
func refused(t *testing.T, w *workload, o order, why string) {
	t.Helper()
	got, err := w.ask(o)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Errors) != callsPerRound || !strings.Contains(got.Errors[0], why) {
		t.Errorf("%d calls failed, with %q, want all, with %q", len(got.Errors), got.Errors, why)
	}
}
