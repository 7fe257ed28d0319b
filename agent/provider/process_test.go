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
	"github.com/credagent/credagent/plugins/providerpb"
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
	if len(lines) > 110 || len(r.log.String()) > 100_000 {
		t.Errorf("%d lines, %d bytes", len(lines), len(r.log.String()))
	}
}

func TestChecksThatMakeNoSense(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for name, reply := range map[string]*providerpb.CheckReply{
		"relative file": {Credential: &providerpb.Credential{Files: []string{"etc/key"}}},
		"many files":    {Credential: &providerpb.Credential{Files: make([]string, maxFiles+1)}},
		"far not after": {Credential: &providerpb.Credential{NotAfterSeconds: 1 << 60}},
		"many problems": {Problems: make([]*providerpb.Problem, maxProblems+1)},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.process(lying, falsehood{Check: wire(reply)})
			_, _, err := p.Check(t.Context(), true)
			if message := mustFail(t, err, KindProvider); !strings.HasPrefix(message, saysAnswer) {
				t.Errorf("message %q", message)
			}
			if n := r.processes(); n != 0 {
				t.Errorf("%d processes were not ended", n)
			}
		})
	}
}

// What is only for people is shown, in a form that cannot harm.
func TestUglyTextIsTamed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ugly := "a\nb\x1b[31m" + strings.Repeat("c", 2*maxText)
	reply := wire(&providerpb.CheckReply{
		Problems: []*providerpb.Problem{{Key: ugly, Message: ugly}},
		Failure:  &providerpb.Failure{Kind: providerpb.Failure_KIND_CREDENTIAL, Message: ugly},
	})
	_, problems, err := r.process(lying, falsehood{Check: reply}).Check(t.Context(), true)
	message := mustFail(t, err, KindCredential)
	for _, text := range []string{message, problems[0].Key, problems[0].Message} {
		if !strings.HasPrefix(text, "a b [31mccc") || len(text) > maxText+len("…") {
			t.Errorf("%q is shown", text)
		}
	}
}

// A provider that already speaks the next version of the protocol as well serves this agent. One
// that has left this version behind says so.
func TestVersionsOfTheProtocol(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	request, requests := tokenServer(t)
	if reply := mustExchange(t, r.process(versed, puppet{}), request); reply.Credential.Identity != "a puppet" || requests.Load() != 1 {
		t.Errorf("reply %+v, %d requests", reply, requests.Load())
	}
	_, err := r.process(ahead, puppet{}).Exchange(t.Context(), request)
	want := `starting provider "ahead": it speaks version 2 of the provider protocol, this credagent only up to 1; ` +
		"update credagent, or build the provider with an older plugins package"
	if message := mustFail(t, err, KindProvider); message != want {
		t.Errorf("message %q", message)
	}
}

// A process that runs is not touched by what happens to its file; the next one is the new file's.
func TestReplacedWhileItRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.Dirs = []string{providersDir(t)} })
	request, _ := tokenServer(t)
	path := r.provide(proper(t))
	p := r.process("faulty", puppet{})
	mustExchange(t, p, request)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.provide(script("exit 3"))
	mustExchange(t, p, request)
	if r.starts.Load() != 1 {
		t.Errorf("%d starts", r.starts.Load())
	}
	p.Close()
	_, err := p.Exchange(t.Context(), request)
	if message := mustFail(t, err, KindProvider); !strings.Contains(message, saysEnded) {
		t.Errorf("message %q", message)
	}
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

// What a provider has started ends with it.
func TestCloseEndsWhatWasStarted(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.process(behaving, puppet{Do: "keep a child"})
	mustCheck(t, p)
	group := r.startedPID()
	if err := syscall.Kill(-group, 0); err != nil {
		t.Fatal(err)
	}
	p.Close()
	waitUntil(t, "nobody is left in its group", func() bool { return errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) })
}

func TestKilledFromOutside(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.process(behaving, puppet{})
	mustCheck(t, p)
	if err := syscall.Kill(r.startedPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the death is noticed", func() bool { return r.newest().exited() })
	mustCheck(t, p)
}

func TestCallsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	request, requests := tokenServer(t)
	one, other := r.process(behaving, puppet{}), r.process(behaving, puppet{})
	var calls sync.WaitGroup
	for i := range 20 {
		p := one
		if i%4 == 0 {
			p = other
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
	if requests.Load() != 20 || r.starts.Load() != 1 {
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

// A process serves one server: for another one there is a new process, and another proxy or other
// roots for the same server are told to the one that is there.
func TestAProcessIsBoundToItsServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.process(behaving, puppet{})
	first, requests := tokenServer(t)
	second, others := tokenServer(t)
	mustExchange(t, p, first)
	other := first
	other.MTLSTokenEndpoint = first.TokenEndpoint + "/mtls"
	mustExchange(t, p, other)
	if requests.Load() != 2 || r.starts.Load() != 1 {
		t.Errorf("%d requests, %d starts", requests.Load(), r.starts.Load())
	}
	mustExchange(t, p, second)
	mustExchange(t, p, second)
	if others.Load() != 2 || r.starts.Load() != 2 {
		t.Errorf("%d requests to the second server, %d starts", others.Load(), r.starts.Load())
	}
	asked := second
	asked.Proxy = "http://127.0.0.1:1"
	_, err := p.Exchange(t.Context(), asked)
	mustFail(t, err, KindNetwork) // the proxy is not there
	if r.starts.Load() != 2 {
		t.Errorf("%d starts", r.starts.Load())
	}
	// Who has the connection's key asks without telling the pipe.
	_, failure, err := exchange(t.Context(), r.newest().running.client, p.spec.Config, first)
	if err != nil || failure == nil || failure.Kind != KindConfig || requests.Load() != 2 {
		t.Errorf("%v, %v, and %d requests", failure, err, requests.Load())
	}
}

func TestWhatAProcessIsNotToldOf(t *testing.T) {
	at := func(origin, connection string) handshake.Destination {
		return handshake.Destination{Origins: []string{origin}, Connection: connection}
	}
	full := make([]handshake.Destination, maxConnections)
	for i := range full {
		full[i] = at("https://a:443", strconv.Itoa(i))
	}
	for name, tc := range map[string]struct {
		bound []handshake.Destination
		to    handshake.Destination
		want  error
	}{
		"what it knows":                     {full[:1], at("https://a:443", "0"), nil},
		"another server":                    {full[:1], at("https://b:443", "1"), errFull},
		"another server, by the same proxy": {full[:1], at("https://b:443", "0"), errFull},
		"what it knows, and it is full":     {full, at("https://a:443", "7"), nil},
		"one too many":                      {full, at("https://a:443", "another"), errFull},
	} {
		t.Run(name, func(t *testing.T) {
			r := &running{bound: tc.bound}
			if err := r.bind(&tc.to); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}
