//go:build unix

package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/handshake"
)

func TestExchange(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.process(behaving, puppet{})
	request, requests := tokenServer(t)
	for range 3 {
		reply := mustExchange(t, p, request)
		if string(reply.Body) != "{}" || reply.Header.Get("Date") == "" || reply.BodyError != "" {
			t.Errorf("reply %+v", reply)
		}
		if c := reply.Credential; c.Identity != "a puppet" || c.NotAfter.Unix() != 2_000_000_000 || len(c.Files) != 1 || c.Files[0] != "/etc/puppet" {
			t.Errorf("credential %+v", c)
		}
	}
	if requests.Load() != 3 || r.starts.Load() != 1 {
		t.Errorf("%d requests, %d starts", requests.Load(), r.starts.Load())
	}
}

// Each way to break is a failure of that call alone: the next one works.
func TestACallOutlivesItsProvider(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		want    string
		hanging bool
	}{
		"exit":          {want: "the connection to the provider's process broke, and the process was ended"},
		"leave a child": {want: "the connection to the provider's process broke, and the process was ended"},
		"hang":          {want: "the provider's process did not answer in time and was ended", hanging: true},
		"stop":          {want: "the provider's process did not answer in time and was ended", hanging: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(o *Options) {
				if tc.hanging {
					o.limits.grace = 300 * time.Millisecond
				}
			})
			p := r.process(behaving, puppet{Do: name, Once: filepath.Join(t.TempDir(), "once")})
			request, requests := tokenServer(t)
			if tc.hanging {
				request.Timeout = 200 * time.Millisecond
			}
			begun := time.Now()
			_, err := p.Exchange(t.Context(), request)
			if message := mustFail(t, err, KindProvider); message != tc.want {
				t.Errorf("message %q", message)
			}
			if took := time.Since(begun); tc.hanging && took > 15*time.Second {
				t.Errorf("the call took %s", took)
			}
			request.Timeout = 20 * time.Second
			mustExchange(t, p, request)
			if requests.Load() != 1 || r.starts.Load() != 2 {
				t.Errorf("%d requests, %d starts", requests.Load(), r.starts.Load())
			}
		})
	}
}

// A provider's own errors, and its panics, are answers: the process goes on.
func TestAProviderMayFail(t *testing.T) {
	t.Parallel()
	for do, tc := range map[string]struct {
		kind Kind
		want string
	}{
		"fail":          {KindCredential, "the puppet's key is gone"},
		"panic":         {KindCredential, "the provider panicked; its text is withheld, as it may hold a secret"},
		"panic in Open": {KindConfig, "the provider panicked; its text is withheld, as it may hold a secret"},
	} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			p := r.process(behaving, puppet{Do: do})
			request, requests := tokenServer(t)
			for range 2 {
				_, err := p.Exchange(t.Context(), request)
				if message := mustFail(t, err, tc.kind); message != tc.want {
					t.Errorf("message %q", message)
				}
			}
			var failure *Failure
			if _, err := p.Exchange(t.Context(), request); errors.As(err, &failure) && (failure.Sent() || requests.Load() != 0) {
				t.Errorf("%d requests were sent", requests.Load())
			}
			if r.starts.Load() != 1 {
				t.Errorf("%d starts", r.starts.Load())
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	if credential := mustCheck(t, r.process(behaving, puppet{})); credential.Identity != "a puppet" {
		t.Errorf("credential %+v", credential)
	}
	failing := r.process(behaving, puppet{Do: "fail"})
	credential, _, err := failing.Check(t.Context(), true)
	if message := mustFail(t, err, KindCredential); message != "the puppet's key is gone" || credential.Files[0] != "/etc/puppet" {
		t.Errorf("message %q, credential %+v", message, credential)
	}
	if _, _, err := failing.Check(t.Context(), false); err != nil {
		t.Errorf("without loading: %v", err)
	}
	_, problems, err := r.process(behaving, map[string]any{"do": 1, "dont": 2}).Check(t.Context(), true)
	if want := "[{do is not a string} {dont unknown key; known are do, once, report, token_env}]"; err != nil || fmt.Sprint(problems) != want {
		t.Errorf("problems %v, %v", problems, err)
	}
}

func TestFloodIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.process(behaving, puppet{Do: "flood"})
	request, _ := tokenServer(t)
	mustExchange(t, p, request)
	waitUntil(t, "the log says that it drops the rest", func() bool { return strings.Contains(r.log.String(), "the rest is dropped") })
	p.Close()
	lines := strings.Split(r.log.String(), "\n")
	if len(lines) > maxLines+10 || len(r.log.String()) > 2*maxLines*maxLine {
		t.Errorf("%d lines, %d bytes", len(lines), len(r.log.String()))
	}
}

// badStart is a provider that does not start.
type badStart struct {
	script string
	want   string
	slow   bool // only the time limit ends it
}

// What starts badly is a failure, and what replaces it starts.
func TestStartFails(t *testing.T) {
	t.Parallel()
	const other = "it printed something else than the handshake to standard output, which belongs to the protocol"
	const ended = "its process ended before it was ready; what it printed is in the log at level debug"
	const elsewhere = "it listens elsewhere than on a socket in its own directory"
	const version = "it speaks another version of the protocol; build it with the plugins package of this version of credagent"
	for name, tc := range map[string]badStart{
		"crash":            {script: "echo some last words >&2; exit 3", want: ended},
		"killed":           {script: "kill -9 $$", want: ended},
		"garbage":          {script: "echo " + canary + "; exec sleep 300", want: other},
		"parts of garbage": {script: "echo '" + canary + "|a|b|c|d'; exec sleep 300", want: other},
		"version no word":  {script: "echo '1|" + canary + "|unix|x|grpc'; exec sleep 300", want: other},
		"one long line":    {script: "head -c 300000 /dev/zero; exec sleep 300", want: ended},
		"protocol 7":       {script: "echo '1|7|unix|x|grpc'; exec sleep 300", want: version},
		"core protocol 9":  {script: "echo '9|1|unix|x|grpc'; exec sleep 300", want: version},
		"no gRPC":          {script: `echo "1|1|unix|$PLUGIN_UNIX_SOCKET_DIR/s|netrpc"; exec sleep 300`, want: "unsupported plugin protocol"},
		"TCP":              {script: "echo '1|1|tcp|127.0.0.1:1|grpc'; exec sleep 300", want: elsewhere},
		"another's socket": {script: "echo '1|1|unix|/run/s|grpc'; exec sleep 300", want: elsewhere},
		"out of its place": {script: `echo "1|1|unix|$PLUGIN_UNIX_SOCKET_DIR/../s|grpc"; exec sleep 300`, want: elsewhere},
		"nobody listens":   {script: `echo "1|1|unix|$PLUGIN_UNIX_SOCKET_DIR/s|grpc"; exec sleep 300`, want: "the connection to the provider's process broke, and the process was ended"},
		"silence":          {script: "exec sleep 300", want: "its process was not ready in time", slow: true},
		"a child of it":    {script: "sleep 300 & wait", want: "its process was not ready in time", slow: true},
		"child stays":      {script: "sleep 300 & exit 3", want: "", slow: true},
		"flood on stderr":  {script: "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done >&2", want: "its process was not ready in time", slow: true},
		"no program":       {script: "", want: "exec format error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			startBadly(t, tc)
		})
	}
}

// startBadly starts what cannot work, then what can.
func startBadly(t *testing.T, c badStart) {
	t.Helper()
	dir := t.TempDir()
	content := script(c.script)
	if c.script == "" {
		content = []byte("\x00no program")
	}
	path := executable(t, dir, "x", content)
	r := newRig(t, func(o *Options) { o.Dirs = []string{dir} })
	if c.slow {
		r.options.limits.start = 300 * time.Millisecond
	}
	p := r.process("x", puppet{})
	_, _, err := p.Check(t.Context(), true)
	message := mustFail(t, err, KindProvider)
	if !strings.Contains(message, c.want) {
		t.Errorf("message %q", message)
	}
	if strings.Contains(c.script, "some last words") && !strings.Contains(r.log.String(), "some last words") {
		t.Errorf("the log is %q", r.log)
	}
	if strings.Count(r.log.String(), "\n") > maxLines+10 {
		t.Errorf("%d lines are logged", strings.Count(r.log.String(), "\n"))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	asProvider(t, dir, "x")
	r.options.limits.start = 20 * time.Second
	mustCheck(t, p)
	if r.starts.Load() != 2 {
		t.Errorf("%d starts", r.starts.Load())
	}
}

func TestRepliesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	const a = "the provider's process answered with "
	want := map[string]string{
		"status 99999": a + "an HTTP status that does not exist", "status 0": a + "an HTTP status that does not exist", "status negative": a + "an HTTP status that does not exist",
		"large body": a + "an answer larger than the protocol allows", "huge body": a + "an error: grpc: received message larger than max", "many headers": a + "an answer larger than the protocol allows",
		"header with break": a + "a header that is not one", "name with break": a + "a header that is not one", "header of no name": a + "a header that is not one", "long header": a + "a header that is not one",
		"relative file": a + "a credential that makes no sense", "file with break": a + "a credential that makes no sense", "many files": a + "a credential that makes no sense",
		"far not after": a + "a credential that makes no sense", "negative not after": a + "a credential that makes no sense",
		"neither": a + "neither an answer nor a failure", "an error": a + "an error: no such lie",
	}
	request, _ := tokenServer(t)
	for name := range lies() {
		if want[name] == "" {
			t.Errorf("nothing is said of the lie %q", name)
		}
	}
	r := newRig(t, nil)
	for name, want := range want {
		t.Run(name, func(t *testing.T) {
			p := r.process(lying, name)
			defer p.Close()
			starts := r.starts.Load()
			_, err := p.Exchange(t.Context(), request)
			if message := mustFail(t, err, KindProvider); !strings.HasPrefix(message, want) {
				t.Errorf("message %q", message)
			}
			p.spec.Config = []byte(`"status 200"`)
			if _, _, err := p.Check(t.Context(), false); err != nil {
				t.Errorf("the next call: %v", err)
			}
			if r.starts.Load() != starts+2 {
				t.Error("the liar was not replaced")
			}
		})
	}
}

func TestChecksThatMakeNoSense(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, name := range []string{"relative file", "many files", "far not after", "problems"} {
		t.Run(name, func(t *testing.T) {
			p := r.process(lying, name)
			_, _, err := p.Check(t.Context(), true)
			if message := mustFail(t, err, KindProvider); !strings.HasPrefix(message, "the provider's process answered with ") {
				t.Errorf("message %q", message)
			}
			if p.running != nil {
				t.Error("the process was not ended")
			}
		})
	}
	t.Run("ugly", func(t *testing.T) {
		_, problems, err := r.process(lying, "ugly").Check(t.Context(), true)
		message := mustFail(t, err, KindCredential)
		for _, text := range []string{message, problems[0].Key, problems[0].Message} {
			if !strings.HasPrefix(text, "a b [31mccc") || len(text) > maxText+len("…") {
				t.Errorf("%q is shown", text)
			}
		}
	})
}

func TestIdleProcessEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.IdleTimeout = 50 * time.Millisecond })
	p := r.process(behaving, puppet{})
	mustCheck(t, p)
	pid := r.startedPID()
	waitUntil(t, "the idle process ends", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	waitUntil(t, "the log says so", func() bool { return strings.Contains(r.log.String(), "provider stopped, unused") })
	mustCheck(t, p)
	if r.starts.Load() != 2 || r.startedPID() == pid {
		t.Errorf("%d starts", r.starts.Load())
	}
}

// A process in use does not count as idle, however often it is used for a short while.
func TestBusyProcessStays(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.IdleTimeout = 10 * time.Second })
	p := r.process(behaving, puppet{})
	for range 20 {
		mustCheck(t, p)
	}
	if r.starts.Load() != 1 {
		t.Errorf("%d starts", r.starts.Load())
	}
}

func TestCloseEndsTheProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.process(behaving, puppet{})
	p.Close() // nothing has started yet
	mustCheck(t, p)
	pid := r.startedPID()
	p.Close()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("after Close the process is there: %v", err)
	}
	p.Close()
	mustCheck(t, p)
}

func TestKilledFromOutside(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.process(behaving, puppet{})
	mustCheck(t, p)
	if err := syscall.Kill(r.startedPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the death is noticed", func() bool { return p.running.plugin.Exited() })
	mustCheck(t, p)
}

func TestCallsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	request, requests := tokenServer(t)
	shared, own := r.process(behaving, puppet{}), r.process(behaving, puppet{})
	var calls sync.WaitGroup
	for i := range 20 {
		p := shared
		if i%4 == 0 {
			p = own
		}
		calls.Go(func() {
			if reply, err := p.Exchange(t.Context(), request); err != nil || reply.Status != 200 {
				t.Errorf("Exchange: %+v, %v", reply, err)
			}
			if _, _, err := p.Check(t.Context(), true); err != nil {
				t.Errorf("Check: %v", err)
			}
		})
	}
	calls.Wait()
	if requests.Load() != 20 || r.starts.Load() != 2 {
		t.Errorf("%d requests, %d starts", requests.Load(), r.starts.Load())
	}
}

// Closing while calls run fails them, or lets them start a process anew; nothing is left.
func TestCloseDuringCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.process(behaving, puppet{})
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			for range 3 {
				var failure *Failure
				if _, _, err := p.Check(t.Context(), true); err != nil && (!errors.As(err, &failure) || failure.Kind != KindProvider) {
					t.Errorf("error %v", err)
				}
				p.Close()
			}
		})
	}
	calls.Wait()
}

func TestContextEndsACall(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	hanging := r.process(behaving, puppet{Do: "hang"})
	if _, _, err := hanging.Check(cancelled(), true); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	mustStart := func(ctx context.Context) { // hangs until ctx ends
		if _, _, err := hanging.Check(ctx, true); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled meanwhile: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		mustStart(ctx)
		close(done)
	}()
	waitUntil(t, "it started", func() bool { return strings.Contains(r.log.String(), "provider started") })
	waiting, stopWaiting := context.WithCancel(t.Context())
	stopWaiting()
	if _, err := hanging.Exchange(waiting, Request{Timeout: time.Second}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while it waits its turn: %v", err)
	}
	cancel()
	<-done
	mustNotStart := r.process("none", puppet{})
	_, _, err := mustNotStart.Check(t.Context(), true)
	mustFail(t, err, KindConfig)
}

// A cancelled call ends a start that is under way, and what was started.
func TestContextEndsAStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	executable(t, dir, "slow", script("echo here >&2; exec sleep 300"))
	r := newRig(t, func(o *Options) { o.Dirs = []string{dir} })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		waitUntil(t, "the process runs", func() bool { return strings.Contains(r.log.String(), "here") })
		cancel()
	}()
	if _, _, err := r.process("slow", puppet{}).Check(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// What a provider started and let escape from its group cannot hold up the agent.
func TestStartFailsThoughAChildEscapes(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("there is no setsid")
	}
	dir, pidFile := t.TempDir(), filepath.Join(t.TempDir(), "pid")
	executable(t, dir, "x", script("setsid sleep 300 & echo $! >"+pidFile+"; exit 3"))
	r := newRig(t, func(o *Options) {
		o.Dirs = []string{dir}
		o.limits.start = 500 * time.Millisecond
	})
	begun := time.Now()
	_, _, err := r.process("x", puppet{}).Check(t.Context(), true)
	mustFail(t, err, KindProvider)
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("the call took %s", took)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("ending the child that escaped: %v", err)
	}
}

// A provider that a person starts says what it is; one whose agent died meanwhile leaves nothing.
func TestServeWithoutAnAgent(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cookie := handshake.Config()
	for name, tc := range map[string]struct {
		env  []string
		code int
		want string
	}{
		"by hand":     {nil, 64, "this is a credagent credential provider; the agent starts it by itself"},
		"no lifeline": {[]string{cookie.MagicCookieKey + "=" + cookie.MagicCookieValue}, 70, "receiving the connection keys: "},
	} {
		t.Run(name, func(t *testing.T) {
			sockets := t.TempDir()
			cmd := exec.CommandContext(t.Context(), self, "provider", behaving)
			cmd.Env = append(tc.env, "PLUGIN_UNIX_SOCKET_DIR="+sockets)
			null, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			defer null.Close()
			cmd.ExtraFiles = []*os.File{null} // descriptor 3, at its end at once
			output, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != tc.code || !strings.Contains(string(output), tc.want) {
				t.Errorf("it ended with %v and says %q", err, output)
			}
			if _, err := os.Stat(sockets); (tc.code == 70) != os.IsNotExist(err) {
				t.Errorf("its socket's directory: %v", err)
			}
		})
	}
}
