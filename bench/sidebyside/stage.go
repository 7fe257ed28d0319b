package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

const (
	tenant       = "contoso.onmicrosoft.com"
	clientID     = "app"
	clientSecret = "sidebyside-secret-51c2"

	patience     = time.Minute // beyond what a program waits for by itself
	stopPatience = 10 * time.Second
	tick         = 20 * time.Millisecond
)

// stage is where one program runs: a directory of its own and an authorization server of its own,
// which speaks as Microsoft Entra ID does.
type stage struct {
	program program
	size    size
	dir     string
	server  *devserver.Server
	files   []string // a token each

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has been waited for
}

// newStage starts the server. Nothing else runs yet.
func newStage(p program, s size, tokens devserver.Options) (*stage, error) {
	tokens.TLS = true // the libraries want https
	tokens.Clients = []devserver.Client{{ID: clientID, Secret: secret.New(clientSecret)}}
	dir, err := os.MkdirTemp("", "credagent-sidebyside-")
	if err != nil {
		return nil, err
	}
	st := &stage{program: p, size: s, dir: dir, ended: make(chan struct{})}
	for i := range s.tokens {
		st.files = append(st.files, st.path(fmt.Sprintf("token-%04d", i)))
	}
	if st.server, err = devserver.New(tokens); err == nil {
		err = st.server.Start()
	}
	if err == nil {
		err = errors.Join(
			os.WriteFile(st.path("secret"), []byte(clientSecret), 0o600),
			os.WriteFile(st.path("ca.pem"), st.server.CAPEM(), 0o600),
		)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return st, nil
}

// close ends whatever still runs.
func (st *stage) close() {
	if st.cmd != nil {
		_ = st.cmd.Process.Kill()
		<-st.ended
	}
	_ = st.server.Close()
	_ = os.RemoveAll(st.dir)
}

func (st *stage) path(name string) string { return filepath.Join(st.dir, name) }

func scopeOf(file string) string { return "api://" + filepath.Base(file) + "/.default" }

// agentArgs writes a configuration for credagent and returns its command line.
func (st *stage) agentArgs() ([]string, error) {
	var config strings.Builder
	fmt.Fprintf(&config, `listen: ""
clients:
  app:
    entra: { tenant: %s, authority: %q }
    client_id: %s
    ca_file: %s
    credential: { provider: secretcred, config: { secret_file: %s } }
`, tenant, st.server.URL(), clientID, st.path("ca.pem"), st.path("secret"))
	config.WriteString("tokens:\n")
	for _, file := range st.files {
		fmt.Fprintf(&config, "  %s: { client: app, scopes: [%q] }\n", filepath.Base(file), scopeOf(file))
	}
	config.WriteString("sinks:\n")
	for _, file := range st.files {
		fmt.Fprintf(&config, "  - { type: file, token: %s, path: %s }\n", filepath.Base(file), file)
	}
	path := st.path("credagent.yaml")
	return []string{"run", "-c", path}, os.WriteFile(path, []byte(config.String()), 0o600)
}

// loopArgs returns the command line of a loop.
func (st *stage) loopArgs() ([]string, error) {
	args := []string{
		"-authority", st.server.URL(), "-tenant", tenant, "-client", clientID,
		"-secret-file", st.path("secret"), "-poll", st.size.poll.String(),
	}
	for _, file := range st.files {
		args = append(args, scopeOf(file)+"="+file)
	}
	return args, nil
}

// start starts the program.
func (st *stage) start() error {
	args, err := st.program.args(st)
	if err != nil {
		return err
	}
	log, err := os.Create(st.path("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(st.program.binary, args...)
	cmd.Env, cmd.Stderr = []string{"SSL_CERT_FILE=" + st.path("ca.pem")}, log
	if err := cmd.Start(); err != nil {
		return err
	}
	st.cmd = cmd
	go func() {
		defer close(st.ended)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	return nil
}

// stop has the program end, and returns the processor time that it took with all that it started.
func (st *stage) stop() (time.Duration, error) {
	if err := st.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	select {
	case <-st.ended:
		state := st.cmd.ProcessState
		return state.UserTime() + state.SystemTime(), nil
	case <-time.After(stopPatience):
		return 0, errors.New("it does not end")
	}
}

// full waits until every file has a token that is good.
func (st *stage) full(ctx context.Context) error {
	return st.until(ctx, "every file has a token", func() bool {
		good := 0
		for _, file := range st.files {
			if content, err := os.ReadFile(file); err == nil && st.server.Valid(string(content)) {
				good++
			}
		}
		return good == len(st.files)
	})
}

func (st *stage) until(ctx context.Context, what string, done func() bool) error {
	deadline, ticker := time.After(patience+st.size.poll+st.size.due), time.NewTicker(tick)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-st.ended:
			return errors.New("it has ended by itself")
		case <-deadline:
			return fmt.Errorf("waited in vain until %s", what)
		case <-ticker.C:
		}
	}
	return nil
}

// explain adds the end of the program's log to an error.
func (st *stage) explain(err error) error {
	if err == nil {
		return nil
	}
	log, _ := os.ReadFile(st.path("log"))
	return fmt.Errorf("%s: %w; its log ends with\n%s", st.program.name, err, log[max(0, len(log)-2000):])
}

// requests returns the token requests that the server has seen.
func (st *stage) requests() ([]devserver.Request, error) {
	const remembered = 10_000
	all := st.server.Requests()
	if len(all) > remembered {
		return nil, fmt.Errorf("there were more than %d requests, which is all that the server remembers", remembered)
	}
	return all, nil
}
