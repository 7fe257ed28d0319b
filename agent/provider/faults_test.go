//go:build unix

package provider

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/credagent/credagent/plugins/providerpb"
)

// fault is one way for a provider to fail, and what the agent says of it.
type fault struct {
	does  string
	how   misbehaviour
	says  string
	kind  Kind // KindProvider, which is transient, unless nothing has been run at all
	hangs bool // only the time limit ends it
}

const (
	saysEnded   = "its process ended before it was ready; what it printed is in the log at level debug"
	saysOther   = "it printed something else than the handshake to standard output, which belongs to the protocol"
	saysAway    = "it listens elsewhere than on a socket in its own directory"
	saysSilent  = "its process was not ready in time"
	saysBroken  = "the connection to the provider's process broke, and the process was ended"
	saysLate    = "the provider's process did not answer in time and was ended"
	saysAnswer  = "the provider's process answered with "
	saysStatus  = saysAnswer + "an HTTP status that does not exist"
	saysLarge   = saysAnswer + "an answer larger than the protocol allows"
	saysHeader  = saysAnswer + "a header that is not one"
	saysNoSense = saysAnswer + "a credential that makes no sense"
	saysWrite   = "others may write to it; run: chmod go-w "
)

// faults is the table of what may go wrong with a provider. Whatever it is, it is a failure of that
// call of that client alone: see [TestFaults].
func faults() []fault { return slices.Concat(faultsAtStart(), faultsInCalls(), faultsInReplies()) }

func faultsAtStart() []fault {
	return []fault{
		{does: "exits 0 at once", how: starting("exit 0"), says: saysEnded},
		{does: "exits 3 with some last words", how: starting("echo some last words >&2; exit 3"), says: saysEnded},
		{does: "kills itself before the handshake", how: starting("kill -9 $$"), says: saysEnded},
		{does: "dies in the middle of the handshake", how: starting("printf '1|1|un'; exit 3"), says: saysOther},
		{does: "dies right after the handshake", how: starting(`echo "1|1|unix|$PLUGIN_UNIX_SOCKET_DIR/s|grpc"; exit 3`), says: saysBroken},
		{does: "leaves a child and exits", how: starting("sleep 300 & exit 3"), says: saysEnded},
		{does: "says nothing", how: starting("exec sleep 300"), says: saysSilent, hangs: true},
		{does: "waits for a child that says nothing", how: starting("sleep 300 & wait"), says: saysSilent, hangs: true},
		{does: "floods standard error", how: starting("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done >&2"), says: saysSilent, hangs: true},
		{does: "prints garbage", how: starting("echo " + canary + "; exec sleep 300"), says: saysOther},
		{does: "prints parts of garbage", how: starting("echo '" + canary + "|a|b|c|d'; exec sleep 300"), says: saysOther},
		{does: "prints a line without end", how: starting("head -c 300000 /dev/zero; exec sleep 300"), says: saysEnded},
		{does: "has a version that is a word", how: starting("echo '1|" + canary + "|unix|x|grpc'; exec sleep 300"), says: saysOther},
		{does: "speaks a newer version of the protocol", how: starting("echo '1|7|unix|x|grpc'; exec sleep 300"), says: "it speaks version 7 of the provider protocol, this credagent only up to 1; update credagent, or build the provider with an older plugins package"},
		{does: "speaks an older version of the protocol", how: starting("echo '1|0|unix|x|grpc'; exec sleep 300"), says: "it speaks version 0 of the provider protocol, which this credagent no longer does; build the provider with a newer plugins package"},
		{does: "has another handshake", how: starting("echo '9|1|unix|x|grpc'; exec sleep 300"), says: "it was not built with the plugins package: the handshake is of another kind"},
		{does: "speaks no gRPC", how: starting(`echo "1|1|unix|$PLUGIN_UNIX_SOCKET_DIR/s|netrpc"; exec sleep 300`), says: "unsupported plugin protocol"},
		{does: "listens on TCP", how: starting("echo '1|1|tcp|127.0.0.1:1|grpc'; exec sleep 300"), says: saysAway},
		{does: "listens on another's socket", how: starting("echo '1|1|unix|/run/s|grpc'; exec sleep 300"), says: saysAway},
		{does: "listens above its place", how: starting(`echo "1|1|unix|$PLUGIN_UNIX_SOCKET_DIR/../s|grpc"; exec sleep 300`), says: saysAway},
		{does: "does not listen at all", how: starting(`echo "1|1|unix|$PLUGIN_UNIX_SOCKET_DIR/s|grpc"; exec sleep 300`), says: saysBroken},

		{does: "is no program", how: being([]byte("\x00no program")), says: "exec format error"},
		{does: "has another digest than is pinned", how: pinned(script("exit 3")), says: "but plugins.sha256 pins 0000", kind: KindConfig},
		{does: "is a file that others may write", how: open("", 0o757), says: saysWrite, kind: KindConfig},
		{does: "is in a directory that others may write", how: open("..", 0o777), says: saysWrite, kind: KindConfig},
	}
}

func faultsInCalls() []fault {
	return []fault{
		{does: "exits during an exchange", how: loading("exit"), says: saysBroken},
		{does: "exits 0 during an exchange", how: loading("exit 0"), says: saysBroken},
		{does: "aborts during an exchange", how: loading("abort"), says: saysBroken},
		{does: "panics where nobody catches it", how: loading("panic elsewhere"), says: saysBroken},
		{does: "leaves a child and exits during an exchange", how: loading("leave a child"), says: saysBroken},
		{does: "closes its socket during an exchange", how: loading("close its sockets"), says: saysBroken},
		{does: "hangs in an exchange", how: loading("hang"), says: saysLate, hangs: true},
		{does: "is stopped in an exchange", how: loading("stop"), says: saysLate, hangs: true},
		{does: "exits during a check", how: checking("exit"), says: saysBroken},
		{does: "hangs in a check", how: checking("hang"), says: saysLate, hangs: true},
	}
}

func faultsInReplies() []fault {
	return []fault{
		{does: "answers status 0", how: replying(answering(&providerpb.Answer{})), says: saysStatus},
		{does: "answers status 9999", how: replying(answering(&providerpb.Answer{Status: 9999})), says: saysStatus},
		{does: "answers a negative status", how: replying(answering(&providerpb.Answer{Status: -200})), says: saysStatus},
		{does: "answers a body over 1 MiB", how: replying(answering(&providerpb.Answer{Status: 200, Body: make([]byte, maxBody+1)})), says: saysLarge},
		{does: "answers a body over all bounds", how: replying(answering(&providerpb.Answer{Status: 200, Body: make([]byte, maxMessage)})), says: saysAnswer + "an error: grpc: received message larger than max"},
		{does: "answers some headers too many", how: replying(answering(&providerpb.Answer{Status: 200, Headers: make([]*providerpb.Parameter, maxHeaders+1)})), says: saysLarge},
		{does: "answers thousands of headers", how: replying(answering(&providerpb.Answer{Status: 200, Headers: make([]*providerpb.Parameter, 5000)})), says: saysLarge},
		{does: "answers a header with a line break", how: replying(withHeader("Retry-After", "1\r\nX: y")), says: saysHeader},
		{does: "answers a header's name with a line break", how: replying(withHeader("Retry\n-After", "1")), says: saysHeader},
		{does: "answers a header with a control character", how: replying(withHeader("Date", "a\x1b[2J")), says: saysHeader},
		{does: "answers a header without a name", how: replying(withHeader("", "1")), says: saysHeader},
		{does: "answers an endless header", how: replying(withHeader("Date", strings.Repeat("x", maxPath+1))), says: saysHeader},
		{does: "answers text that is not UTF-8", how: replying(notUTF8()), says: saysAnswer + "an error: grpc: "},
		{does: "answers bytes that are no message", how: replying([]byte{0xff, 0xff}), says: saysAnswer + "an error: grpc: "},
		{does: "answers nothing", how: replying([]byte{}), says: saysAnswer + "neither an answer nor a failure"},
		{does: "answers an error of its own", how: replying(nil), says: saysAnswer + "an error: no reply"},
		{does: "names a relative file", how: replying(withCredential(&providerpb.Credential{Files: []string{"etc/key"}})), says: saysNoSense},
		{does: "names a file with a line break", how: replying(withCredential(&providerpb.Credential{Files: []string{"/etc/a\nb"}})), says: saysNoSense},
		{does: "names too many files", how: replying(withCredential(&providerpb.Credential{Files: make([]string, maxFiles+1)})), says: saysNoSense},
		{does: "expires in the year 36 billion", how: replying(withCredential(&providerpb.Credential{NotAfterSeconds: 1 << 60})), says: saysNoSense},
		{does: "expired before 1970", how: replying(withCredential(&providerpb.Credential{NotAfterSeconds: -1})), says: saysNoSense},
		{does: "begins in the year 36 billion", how: replying(withCredential(&providerpb.Credential{NotBeforeSeconds: 1 << 60})), says: saysNoSense},
	}
}

// Whatever a provider does, the agent says what it was; the client of another server gets its answer
// meanwhile, from the process that it had; the next exchange of the same client works, and nothing
// is left behind, for which newRig looks.
func TestFaults(t *testing.T) {
	t.Parallel()
	told := map[string]bool{}
	for _, f := range faults() {
		t.Run(f.does, func(t *testing.T) {
			t.Parallel()
			f.befall(t)
		})
		told[f.does] = true
	}
	if len(told) != len(faults()) {
		t.Error("two faults have one name")
	}
}

func (f fault) befall(t *testing.T) {
	t.Helper()
	const grace = 500 * time.Millisecond
	r := newRig(t, func(o *Options) {
		o.Dirs = []string{providersDir(t)}
		if f.hangs {
			o.limits.grace, o.limits.check = grace, grace
		}
	})
	request, requests := tokenServer(t)
	elsewhere, others := tokenServer(t)
	beside := r.process(behaving, puppet{})
	mustExchange(t, beside, elsewhere)
	afflicted := f.how(t, r)

	var asking sync.WaitGroup
	var failed error
	begun := time.Now()
	asking.Go(func() { failed = afflicted.ask(t, f.hangs, request) })
	mustExchange(t, beside, elsewhere)
	asking.Wait()
	if took := time.Since(begun); f.hangs && took > grace+10*time.Second {
		t.Errorf("the call took %s", took)
	}
	if message := mustFail(t, failed, f.kind); !strings.Contains(message, f.says) {
		t.Errorf("the agent says %q", message)
	}
	if strings.Contains(f.does, "last words") && !strings.Contains(r.log.String(), "some last words") {
		t.Errorf("the log is %q", r.log)
	}
	if lines := strings.Count(r.log.String(), "\n"); lines > 110 {
		t.Errorf("%d lines are logged", lines)
	}
	if requests.Load() != 0 || others.Load() != 2 {
		t.Errorf("%d requests were sent, and %d to the server beside it", requests.Load(), others.Load())
	}

	afflicted.mend()
	mustExchange(t, afflicted.process, request)
	mustExchange(t, beside, elsewhere)
	if r.starts.Load() != 3 {
		t.Errorf("%d starts, want one of the client beside it and two of this one", r.starts.Load())
	}
}

// misbehaviour makes a client whose provider fails once.
type misbehaviour func(t *testing.T, r *rig) afflicted

// afflicted is a client whose provider fails once, or until it is mended.
type afflicted struct {
	process *Process
	started bool // the process runs before it is asked, so that all the time is for the question
	check   bool // it is asked to check its credential, not for an exchange
	mend    func()
}

func (a afflicted) ask(t *testing.T, hangs bool, request Request) error {
	if a.started {
		err := a.process.call(t.Context(), 20*time.Second, want{}, func(context.Context, providerpb.ProviderClient) error { return nil })
		if err != nil {
			return fmt.Errorf("starting it: %w", err)
		}
	}
	if a.check {
		_, _, err := a.process.Check(t.Context(), true)
		return err
	}
	if hangs {
		request.Timeout = 100 * time.Millisecond
	}
	_, err := a.process.Exchange(t.Context(), request)
	return err
}

// starting runs a script in place of the provider, the first time.
func starting(body string) misbehaviour {
	return func(t *testing.T, r *rig) afflicted {
		self, once := ownPath(t), filepath.Join(t.TempDir(), "once")
		r.provide(script(fmt.Sprintf("test -e %s && exec %s provider %s\n: >%s\n%s", once, self, behaving, once, body)))
		return afflicted{process: r.process("faulty", puppet{}), mend: func() {}}
	}
}

// being is an executable that is not what it should be, until it is.
func being(content []byte) misbehaviour {
	return func(t *testing.T, r *rig) afflicted {
		path := r.provide(content)
		return afflicted{process: r.process("faulty", puppet{}), mend: func() {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			r.provide(proper(t))
		}}
	}
}

// pinned is another executable than the one that is wanted.
func pinned(content []byte) misbehaviour {
	return func(t *testing.T, r *rig) afflicted {
		a := being(content)(t, r)
		r.finder.sha256 = map[string]string{"faulty": strings.Repeat("0", 64)}
		mend := a.mend
		a.mend = func() {
			mend()
			r.finder.sha256 = nil // a script cannot be pinned; TestPin starts what is
		}
		return a
	}
}

// open is an executable that somebody else might have changed: it, or what is above it, has the mode.
func open(above string, mode os.FileMode) misbehaviour {
	return func(t *testing.T, r *rig) afflicted {
		path := filepath.Join(r.provide(proper(t)), above)
		mustChmod(t, path, mode)
		return afflicted{process: r.process("faulty", puppet{}), mend: func() { mustChmod(t, path, 0o755) }}
	}
}

// proper is a provider that does what it should.
func proper(t *testing.T) []byte {
	return script("exec " + ownPath(t) + " provider " + behaving)
}

// loading is a provider that does something while it loads its credential, the first time.
func loading(do string) misbehaviour {
	return func(t *testing.T, r *rig) afflicted {
		once := filepath.Join(t.TempDir(), "once")
		return afflicted{process: r.process(behaving, puppet{Do: do, Once: once}), started: true, mend: func() {}}
	}
}

// checking is loading when it is asked to check its credential.
func checking(do string) misbehaviour {
	return func(t *testing.T, r *rig) afflicted {
		a := loading(do)(t, r)
		a.check = true
		return a
	}
}

// replying is a provider whose reply to an exchange is just these bytes, the first time; without
// any at all, it is an error.
func replying(reply []byte) misbehaviour {
	return func(t *testing.T, r *rig) afflicted {
		once := filepath.Join(t.TempDir(), "once")
		return afflicted{process: r.process(lying, falsehood{Exchange: reply, Once: once}), started: true, mend: func() {}}
	}
}

// wire is a message as it is sent.
func wire(message proto.Message) []byte {
	encoded, err := proto.Marshal(message)
	if err != nil {
		panic(err)
	}
	return encoded
}

func answering(answer *providerpb.Answer) []byte {
	return wire(&providerpb.ExchangeReply{Result: &providerpb.ExchangeReply_Answer{Answer: answer}})
}

func withHeader(name, value string) []byte {
	return answering(&providerpb.Answer{Status: 200, Headers: []*providerpb.Parameter{{Name: name, Value: value}}})
}

func withCredential(credential *providerpb.Credential) []byte {
	return append(answering(&providerpb.Answer{Status: 200}), wire(&providerpb.ExchangeReply{Credential: credential})...)
}

// notUTF8 is a reply whose failure has a message that protobuf does not let through on either side.
func notUTF8() []byte {
	reply := wire(&providerpb.ExchangeReply{Result: &providerpb.ExchangeReply_Failure{Failure: &providerpb.Failure{Message: "@@"}}})
	return bytes.ReplaceAll(reply, []byte("@@"), []byte("\xff\xfe"))
}
