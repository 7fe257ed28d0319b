// Package mutants shows that the suites see what they are for: it breaks the program on purpose, one
// place at a time, and expects tests to fail. It changes no file: the compiler is shown other ones.
package mutants

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var run = flag.Bool("mutants", false, "break the program and run its tests; takes minutes")

// mutant is one mistake that somebody could make.
type mutant struct {
	name     string
	file     string // from the module's root
	old, new string
}

var mutants = []mutant{
	{"jitter shortens a Retry-After", "agent/policy/gate.go", "return wait + time.Duration(float64(wait)*jitter*r)", "return wait - time.Duration(float64(wait)*jitter*r)"},
	{"a gate opens a second early", "agent/policy/policy.go", "func Passed(now, until time.Time) bool { return !now.Before(until) }", "func Passed(now, until time.Time) bool { return !now.Before(until.Add(-time.Second)) }"},
	{"a later Retry-After shortens an earlier one", "agent/policy/gate.go", "g.BlockedUntil = latest(g.BlockedUntil, now.Add(blocked(o.RetryAfter, r)))", "g.BlockedUntil = now.Add(blocked(o.RetryAfter, r))"},
	{"a gate looks at its own backoff only", "agent/policy/gate.go", "return Passed(now, g.BlockedUntil) && Overdue(now, g.RetryAt)", "return Overdue(now, g.RetryAt)"},
	{"a rotation ends a Retry-After", "agent/policy/gate.go", "return Gate{BlockedUntil: g.BlockedUntil, Recent: g.Recent}", "return Gate{Recent: g.Recent}"},
	{"a rotation makes retries immediate", "agent/policy/gate.go", "forgiven.FailedAt, forgiven.RetryAt = g.FailedAt, g.FailedAt.Add(MinRetry)", "forgiven.FailedAt = g.FailedAt"},
	{"and so it does for a token", "agent/policy/attempts.go", "forgiven.FailedAt, forgiven.RetryAt = a.FailedAt, a.FailedAt.Add(MinRetry)", "forgiven.FailedAt = a.FailedAt"},
	{"thirteen requests a minute", "agent/policy/policy.go", "MaxInWindow = 12", "MaxInWindow = 13"},
	{"the ceiling is for half a minute", "agent/policy/attempts.go", "return a.Recent[len(a.Recent)-MaxInWindow].Add(Window)", "return a.Recent[len(a.Recent)-MaxInWindow].Add(Window / 2)"},
	{"a success forgets what was sent", "agent/policy/attempts.go", "return Attempts{Class: Success, Recent: a.Recent}", "return Attempts{Class: Success}"},
	{"the pace is not kept", "agent/policy/gate.go", "&& Overdue(now, g.RetryAt) && Passed(now, g.paced())", "&& Overdue(now, g.RetryAt)"},
	{"the first retry may come too soon", "agent/policy/policy.go", "MinRetry = 5 * time.Second", "MinRetry = 3 * time.Second"},
	{"a backoff draws below its shortest", "agent/policy/policy.go", "low := max(high-high/3, shortest)", "low := high / 2"},
	{"jitter puts a refresh back", "agent/policy/policy.go", "at -= time.Duration(float64(at) * jitter * r)", "at += time.Duration(float64(at) * jitter * r)"},
	{"a date is read against this host's clock", "agent/policy/retryafter.go", "if !readable {\n\t\tfrom = received\n\t}", "if from = received; readable {\n\t}"},
	{"a Retry-After counts with 429 only", "agent/policy/class.go", "case r.Status == 429, r.RetryAfter && r.Status >= 500:", "case r.Status == 429:"},
	{"a Retry-After ends the ladder", "agent/policy/gate.go", "g.RetryAt = now.Add(o.wait(g.Failures, r))", "if !o.HasRetryAfter {\n\t\tg.RetryAt = now.Add(o.wait(g.Failures, r))\n\t}"},
	{"the end of an outage makes retries immediate", "agent/policy/attempts.go", "if soon := now.Add(MinRetry); a.RetryAt.After(soon) {", "if soon := now; a.RetryAt.After(soon) {"},
	{"a gate is not restored", "agent/gate/gate.go", "g.state = state\n", "_ = state\n"},
	{"a token's requests are not restored", "agent/keeper/state.go", "view.Attempts, view.requests = r.Attempts, r.History.Requests", "view.requests = r.History.Requests"},
	{"a gate serves whoever came first", "agent/gate/line.go", "return a.Due.Before(b.Due)", "return a.number < b.number"},
	{"a request is not noted before it is sent", "agent/gate/gate.go", "g.waitForNote(r.Sending(sending, now))", "_ = sending"},
	{"an answer is not noted", "agent/keeper/keeper.go", "tried := k.save()\n", "tried := make(chan struct{})\n\tclose(tried)\n"},
	{"a life counts from the answer", "agent/keeper/keeper.go", "expiry := a.Sent.Add(life)", "expiry := a.At.Add(life)"},
	{"a replaced client still switches to its fallback", "agent/gate/client.go", "c.rotations++\n\tc.choosing.Unlock()", "c.choosing.Unlock()"},
	{"a reload forgets gates that nobody passes now", "agent/gate/set.go", "> 0, !policy.Passed(time.Now(), g.View().OpensAt()):", "> 0:"},
	{"an older record decides about the fallback", "agent/restore.go", "return records[a].SavedAt.Compare(records[b].SavedAt)", "return records[b].SavedAt.Compare(records[a].SavedAt)"},
	{"two spellings of an endpoint are two gates", "agent/gate/set.go", "Server: oauth.CanonicalEndpoint(endpoint)}", "Server: endpoint}"},
	{"other commands' waits are not read", "agent/gate/trouble.go", "g.state = g.state.Blocked(until)", "_ = until"},
	{"other commands do not learn of a wait", "agent/gate/set.go", "s.o.Waits.Extend(key.Server, key.ClientID, until)", "error(nil)"},
	{"more requests are under way than may be", "agent/policy/gate.go", "return min(max(g.Answers, 1), MaxUnderWay)", "return MaxUnderWay"},
	{"failures under way together climb the ladder", "agent/policy/gate.go", "if !overtaken {\n\t\tg.Failures++", "if true {\n\t\tg.Failures++"},
	{"a wait of another boot counts by this one's clock", "agent/hoststate/waits.go", "id == r.Boot {", "id != \"\" {"},
	{"a token's state is used for another scope", "agent/store/record.go", "case b.Request != wanted.Request:", "case false:"},
	{"an expired token is written", "agent/delivery/writer.go", "if shows.expired(time.Now()) {", "if false {"},
	{"a failed write leaves a sink held", "agent/delivery/writer.go", "v.wrote = nil // its content is unknown now", "_ = v.wrote"},
	{"actions that change their sink run for ever", "agent/delivery/repeats.go", "case byHook:", "case byHook && false:"},
	{"a sink that failed is not tried again", "agent/delivery/writer.go", "w.work.Retry(wait)", "_ = wait"},
}

const root = "../.."

// suites are the arguments of the runs that are to see a mistake, the quickest first.
var suites = [][]string{
	{"./agent/policy"},
	{"./agent/store"},
	{"./agent/delivery", "./agent/hoststate", "./agent/oauth", "./agent/exchange", "./agent/gate", "./agent/keeper"},
	{"-run", "^TestScenarios$", "./agent", "-scenarios", "1500"},
	{"./agent", "-scenarios", "1"},
}

// TestMutantsAreOfThisProgram: each of them changes what is there.
func TestMutantsAreOfThisProgram(t *testing.T) {
	for _, m := range mutants {
		if n := strings.Count(source(t, m.file), m.old); n != 1 {
			t.Errorf("%s: %s has %q %d times, want once", m.name, m.file, m.old, n)
		}
	}
}

func TestMutantsAreCaught(t *testing.T) {
	if !*run {
		t.Skip("breaking the program takes minutes: make mutants")
	}
	for _, args := range suites { // else each mistake would look as if it was caught
		if out, failed := test(t, "", args); failed {
			t.Fatalf("without a mistake, go test %s fails:\n%s", strings.Join(args, " "), out)
		}
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			overlay := broken(t, m)
			for _, args := range suites {
				if out, failed := test(t, overlay, args); failed {
					t.Logf("caught by go test %s: %s", strings.Join(args, " "), first(out))
					return
				}
			}
			t.Error("no test fails")
		})
	}
}

// broken writes the file with the mistake in it, and what shows it to the compiler.
func broken(t *testing.T, m mutant) (overlay string) {
	dir := t.TempDir()
	path, err := filepath.Abs(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, filepath.Base(m.file))
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{path: other}})
	if err != nil {
		t.Fatal(err)
	}
	overlay = filepath.Join(dir, "overlay.json")
	for name, content := range map[string][]byte{
		other:   []byte(strings.Replace(source(t, m.file), m.old, m.new, 1)),
		overlay: replace,
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return overlay
}

// test runs tests of the program with the mistake.
func test(t *testing.T, overlay string, args []string) (out []byte, failed bool) {
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"test", "-count=1", "-timeout", "3m", "-overlay", overlay}, args...)...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")) {
		t.Fatalf("the mutant does not compile:\n%s", out)
	}
	if bytes.Contains(out, []byte("panic: test timed out")) {
		t.Fatalf("the tests took too long to see anything:\n%s", out)
	}
	return out, err != nil
}

// first is the first complaint of a test.
func first(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "_test.go:") {
			return strings.TrimSpace(line)
		}
	}
	return "no complaint, but it failed"
}

func source(t *testing.T, file string) string {
	data, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
