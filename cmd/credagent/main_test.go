package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/process"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/leaktest"
)

// canary is the client secret of every script. Nothing that credagent shows may hold it.
const canary = "canary-secret-0a1b2c3d4e5f"

// patience bounds every wait for something that a script expects.
const patience = 30 * time.Second

// selfVariable makes the test binary be the program, so that tests start it without building it.
const selfVariable = "CREDAGENT_TEST_IS_PROGRAM"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == soundingArgument {
		soundSignals()
	}
	if len(os.Args) == 3 && os.Args[1] == falseAgentArgument {
		falseAgent(os.Args[2])
	}
	if len(os.Args) == 3 && os.Args[1] == askSidecarArgument {
		askSidecar(os.Args[2])
	}
	if os.Getenv(selfVariable) != "" || len(os.Args) == 3 && os.Args[1] == "provider" {
		main()
	}
	testscript.Main(leakChecked{m}, map[string]func(){"credagent": main})
}

// leakChecked looks for goroutines that the tests leave.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int { return leaktest.Main(m.M) }

// runSelf runs the program and returns its exit status.
func runSelf(t *testing.T, stdout, stderr io.Writer, args ...string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), selfVariable+"=1")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		return exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return exitOK
}

// TestScripts runs the command line as its users do: real processes, real files, a real server.
// The scripts are in testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Values[worldKey{}] = &world{}
			env.Setenv("RUNTIME_DIRECTORY", filepath.Join(env.WorkDir, ".run")) // waits are not shared with other tests
			me, err := user.Current()
			if err == nil {
				env.Setenv("ME", me.Username) // who the tests run as, for credagent init
			}
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server":    startServer,
			"fault":     injectFault,
			"requests":  checkRequests,
			"valid":     checkValid,
			"freeport":  freePort,
			"waitfile":  waitFile,
			"waithttp":  waitHTTP,
			"waitready": waitReady,
			"exits":     checkExit,
			"noleak":    checkNoLeak,
			"signal":    signalAgent,
			"rotate":    rotate,
			"register":  register,
		},
	})
}

type worldKey struct{}

// world is what a script has besides its files.
type world struct{ server *devserver.Server }

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// startServer starts an authorization server with a client "app": `server [TTL]`. It sets URL and
// TOKEN_URL and writes app.secret, app.pem and app.key, and google.json of a service account.
func startServer(ts *testscript.TestScript, _ bool, args []string) {
	ttl := time.Hour
	if len(args) > 0 {
		parsed, err := time.ParseDuration(args[0])
		ts.Check(err)
		ttl = parsed
	}
	certificate, key, parsed, err := devserver.NewCertificate("app", devserver.KeyRSA, time.Hour)
	ts.Check(err)
	for name, data := range map[string][]byte{"app.pem": certificate, "app.key": key, "app.secret": []byte(canary + "\n")} {
		ts.Check(os.WriteFile(ts.MkAbs(name), data, 0o600))
	}
	server, err := devserver.New(devserver.Options{TTL: ttl, Clients: []devserver.Client{{
		ID: "app", Secret: secret.New(canary), Certificates: []*x509.Certificate{parsed},
		Scopes: []string{"read", "write", "api://app/.default"},
	}}})
	ts.Check(err)
	ts.Check(server.Start())
	account, file, err := devserver.NewServiceAccount("orders@project.iam.gserviceaccount.com", server.TokenURL())
	ts.Check(err)
	server.SetClient(account)
	ts.Check(os.WriteFile(ts.MkAbs("google.json"), file, 0o600))
	ts.Defer(func() { _ = server.Close() })
	ts.Setenv("URL", server.URL())
	ts.Setenv("TOKEN_URL", server.TokenURL())
	worldOf(ts).server = server
}

// rotate replaces app.pem and app.key, one after the other, by files that the server knows instead
// of the old ones.
func rotate(ts *testscript.TestScript, _ bool, _ []string) {
	certificate, key, parsed, err := devserver.NewCertificate("app", devserver.KeyEC, time.Hour)
	ts.Check(err)
	worldOf(ts).server.SetClient(devserver.Client{ID: "app", Certificates: []*x509.Certificate{parsed}})
	for name, data := range map[string][]byte{"app.pem": certificate, "app.key": key} {
		ts.Check(os.WriteFile(ts.MkAbs(name+".new"), data, 0o600))
		ts.Check(os.Rename(ts.MkAbs(name+".new"), ts.MkAbs(name)))
	}
}

// register has the server know the certificate of a file, as the client named: `register CLIENT FILE`.
func register(ts *testscript.TestScript, _ bool, args []string) {
	block, _ := pem.Decode([]byte(ts.ReadFile(args[1])))
	if block == nil {
		ts.Fatalf("%s is no PEM", args[1])
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	ts.Check(err)
	worldOf(ts).server.SetClient(devserver.Client{ID: args[0], Certificates: []*x509.Certificate{certificate}})
}

// injectFault makes the server misbehave: `fault NAME[=ARG][*COUNT]`.
func injectFault(ts *testscript.TestScript, _ bool, args []string) {
	fault, err := devserver.ParseFault(args[0])
	ts.Check(err)
	ts.Check(worldOf(ts).server.Inject(fault))
}

// checkRequests waits until the server saw so many token requests, and fails if it saw more, or
// any before a Retry-After was over: `requests N`.
func checkRequests(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	server := worldOf(ts).server
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ts.Check(server.Wait(ctx, want))
	if got := len(server.Requests()); got != want {
		ts.Fatalf("the server saw %d requests, want %d", got, want)
	}
	if early := server.RetryAfterViolations(); early != 0 {
		ts.Fatalf("%d requests came before a Retry-After was over", early)
	}
}

// checkValid checks that a file holds nothing but a token that the server accepts: `valid FILE`.
func checkValid(ts *testscript.TestScript, neg bool, args []string) {
	content := ts.ReadFile(args[0])
	if worldOf(ts).server.Valid(content) == neg {
		ts.Fatalf("%s: valid token is %v, want %v", args[0], !neg == neg, !neg)
	}
}

// freePort sets a variable to a loopback address that nobody listens on: `freeport NAME`.
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], listener.Addr().String())
	ts.Check(listener.Close())
}

// waitFile waits for a file to be there: `waitfile FILE`.
func waitFile(ts *testscript.TestScript, _ bool, args []string) {
	await(ts, args[0], func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil
	})
}

// waitHTTP waits for a URL to answer with a status, and with a body that matches if that is given,
// and makes the body the standard output: `waithttp STATUS URL [REGEXP]`.
func waitHTTP(ts *testscript.TestScript, _ bool, args []string) {
	var body []byte
	pattern := regexp.MustCompile(strings.Join(args[2:], " "))
	await(ts, strings.Join(args, " "), func() bool {
		response, err := http.Get(args[1])
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, err = io.ReadAll(response.Body)
		return err == nil && strconv.Itoa(response.StatusCode) == args[0] && pattern.Match(body)
	})
	_, _ = ts.Stdout().Write(body)
}

func await(ts *testscript.TestScript, what string, there func() bool) {
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !there() {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// checkExit runs a command and checks its exit status: `exits STATUS COMMAND…`.
func checkExit(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%s exited with %d, want %s", strings.Join(args[1:], " "), code, args[0])
	}
}

// signalAgent sends a signal to the program in the background: `signal TERM`.
func signalAgent(ts *testscript.TestScript, _ bool, args []string) {
	sig, err := process.ParseSignal(args[0])
	ts.Check(err)
	ts.Check(ts.BackgroundCmds()[0].Process.Signal(sig))
}

// checkNoLeak looks for the secret, the private key and every token that a sink shows in the files
// named: `noleak FILE…`. Scripts give it all that credagent printed.
func checkNoLeak(ts *testscript.TestScript, _ bool, args []string) {
	forbidden := [][]byte{[]byte(canary), []byte("PRIVATE KEY"), []byte("client_assertion=")}
	for _, sink := range []string{"graph.token"} {
		if data, err := os.ReadFile(ts.MkAbs(sink)); err == nil {
			forbidden = append(forbidden, data)
		} else if !errors.Is(err, fs.ErrNotExist) {
			ts.Check(err)
		}
	}
	for _, name := range args {
		shown := []byte(ts.ReadFile(name))
		for _, secret := range forbidden {
			if bytes.Contains(shown, secret) {
				ts.Fatalf("%s shows a secret: %s", filepath.Base(name), fmt.Sprintf("%.8s…", secret))
			}
		}
	}
}
