package plugintest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/providerpb"
)

// asker calls a provider and checks its replies as the agent does.
type asker interface {
	check(ctx context.Context, config json.RawMessage, load bool) (provider.Credential, []provider.Problem, error)
	exchange(ctx context.Context, config json.RawMessage, r provider.Request) (provider.Reply, error)
	printed() string
	close()
}

// inProcess is a provider in the test's own process, behind its real protocol.
type inProcess struct {
	provider plugins.Provider
	client   providerpb.ProviderClient
	conn     *grpc.ClientConn
	server   *grpc.Server
}

func newInProcess(p plugins.Provider) (*inProcess, error) {
	if p == nil {
		return nil, errors.New("testing a provider: Config.Provider is missing")
	}
	listener := bufconn.Listen(1 << 16)
	conn, err := grpc.NewClient("passthrough:memory",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	plugins.Register(server, p)
	go func() { _ = server.Serve(listener) }()
	return &inProcess{provider: p, client: providerpb.NewProviderClient(conn), conn: conn, server: server}, nil
}

func (p *inProcess) check(ctx context.Context, config json.RawMessage, load bool) (provider.Credential, []provider.Problem, error) {
	return provider.Check(ctx, p.client, config, load)
}

func (p *inProcess) exchange(ctx context.Context, config json.RawMessage, r provider.Request) (provider.Reply, error) {
	return provider.Exchange(ctx, p.client, config, r)
}

func (p *inProcess) printed() string { return "" }

func (p *inProcess) close() {
	_ = p.conn.Close()
	p.server.Stop()
}

// executable is a provider that the agent's own code finds, starts and calls.
type executable struct {
	host *provider.Host
	name string
	log  *recorder

	mu      sync.Mutex
	config  string // guarded by mu, as is process: the running process's configuration
	process *provider.Process
}

// newExecutable copies a program to a directory that the agent trusts.
func newExecutable(dir, path string) (*executable, error) {
	const prefix = "credagent-provider-"
	name, ok := strings.CutPrefix(filepath.Base(path), prefix)
	if !ok || name == "" {
		return nil, fmt.Errorf("testing %q: a provider's program is called %sNAME", path, prefix)
	}
	dir = filepath.Join(dir, "providers")
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o700), os.Mkdir(dir, 0o700)); err != nil {
		return nil, err
	}
	if err := install(path, filepath.Join(dir, prefix+name)); err != nil {
		return nil, fmt.Errorf("testing %q: %w", path, err)
	}
	log := &recorder{}
	host := provider.New(provider.Options{
		Dirs: []string{dir}, IdleTimeout: time.Minute,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	return &executable{host: host, name: name, log: log}, nil
}

// install copies a program. While it is open nobody may fork, or the fork would hold it open and
// the kernel would call it busy.
func install(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(to, content, 0o700) //nolint:gosec // it is to be run
}

func (e *executable) check(ctx context.Context, config json.RawMessage, load bool) (provider.Credential, []provider.Problem, error) {
	return e.running(config).Check(ctx, load)
}

func (e *executable) exchange(ctx context.Context, config json.RawMessage, r provider.Request) (provider.Reply, error) {
	return e.running(config).Exchange(ctx, r)
}

// running returns the process for a configuration; the agent has one for each.
func (e *executable) running(config json.RawMessage) *provider.Process {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil || e.config != string(config) {
		if e.process != nil {
			e.process.Close()
		}
		e.config = string(config)
		e.process = e.host.Process(provider.Spec{Client: "plugintest", Provider: e.name, Config: config})
	}
	return e.process
}

func (e *executable) printed() string { return e.log.String() }

func (e *executable) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process != nil {
		e.process.Close()
	}
}

// recorder keeps a log.
type recorder struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Write implements [io.Writer].
func (r *recorder) Write(data []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(data)
}

// String returns the log so far.
func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}
