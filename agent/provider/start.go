package provider

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/credagent/credagent/internal/handshake"
	"github.com/credagent/credagent/internal/printable"
	"github.com/credagent/credagent/internal/process"
	"github.com/credagent/credagent/plugins/providerpb"
)

// maxMessage limits one message from a provider, in bytes: an answer's body and its headers.
const maxMessage = 2 << 20

// running is a started process and its connection.
type running struct {
	plugin *plugin.Client
	child  *child
	client providerpb.ProviderClient
	log    *slog.Logger

	mu    sync.Mutex
	bound []handshake.Destination // guarded by mu: what the process was told of where requests go
}

// maxConnections limits how many ways to connect a process is bound to; after that it is replaced.
const maxConnections = 1024

// errFull means that a process cannot be bound to another destination.
var errFull = errors.New("bound to too many destinations")

// bind sends the process a destination, unless it has it. A process is never bound to a second server.
func (r *running) bind(to *handshake.Destination) error {
	if to == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.bound) > 0 && !slices.Equal(r.bound[0].Origins, to.Origins) {
		return errFull // also when it knows the connection: many servers are reached the same way
	}
	if slices.ContainsFunc(r.bound, func(known handshake.Destination) bool { return known.Connection == to.Connection }) {
		return nil
	}
	if len(r.bound) >= maxConnections {
		return errFull
	}
	// A process that does not read must not block its caller.
	_ = r.child.lifeline.SetWriteDeadline(time.Now().Add(endTime))
	if err := to.Send(r.child.lifeline); err != nil {
		return status.Error(codes.Unavailable, "its pipe is closed or full")
	}
	r.bound = append(r.bound, *to)
	return nil
}

// endTime is how long to wait for the end of a process.
const endTime = time.Second

// end kills first: go-plugin itself asks the process to end and would wait for one that hangs. A process that waits
// for a file system may not even die; the rest then happens when it does.
func (r *running) end() {
	_ = r.child.Kill(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.plugin.Kill()
		// go-plugin leaves it behind when the process could not even be started.
		_ = os.RemoveAll(r.child.socketDir)
	}()
	select {
	case <-ended:
	case <-time.After(endTime):
	}
}

// start starts a provider's process and connects to it.
func (h *Host) start(ctx context.Context, spec Spec, log *slog.Logger) (*running, error) {
	c, err := h.newChild(spec, log)
	if err != nil {
		return nil, err
	}
	tls, err := c.keys.Agent.TLSConfig()
	if err != nil {
		return nil, err
	}
	starting, cancel := context.WithTimeout(ctx, h.options.limits.start)
	defer cancel()
	defer context.AfterFunc(starting, func() { _ = c.Kill(ctx) })()
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  handshake.Config(),
		VersionedPlugins: map[int]plugin.PluginSet{handshake.ProtocolVersion: {handshake.PluginName: connector{}}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, socketDir string) (runner.Runner, error) {
			c.cmd.Env = append(c.cmd.Env, cmd.Env...)
			c.socketDir = socketDir
			return c, nil
		},
		SkipHostEnv:      true,
		TLSConfig:        tls,
		StartTimeout:     h.options.limits.start,
		Logger:           hclog.NewNullLogger(),
		SyncStdout:       c.stderr,
		SyncStderr:       c.stderr,
		GRPCDialOptions:  dialOptions(),
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: cmp.Or(h.options.sockets, socketParent())},
	})
	r := &running{plugin: client, child: c, log: log}
	if r.client, err = connect(client); err != nil {
		r.end()
		return nil, fmt.Errorf("starting provider %q: %s", spec.Provider, whyNotStarted(starting, err))
	}
	if starting.Err() != nil {
		r.end()
		return nil, fmt.Errorf("starting provider %q: %s", spec.Provider, whyNotStarted(starting, starting.Err()))
	}
	log.Debug("provider started", "pid", c.ID())
	return r, nil
}

// dialOptions returns the connection's options. With a fixed window, gRPC does not measure the connection at every
// message, which woke both processes up twice as often.
func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithInitialWindowSize(maxMessage),
		grpc.WithInitialConnWindowSize(maxMessage),
	}
}

// whyNotStarted explains it without the process's output, which go-plugin would quote.
func whyNotStarted(starting context.Context, err error) string {
	text := err.Error()
	switch {
	case starting.Err() != nil || strings.Contains(text, "timeout while waiting"):
		return "its process was not ready in time"
	case strings.Contains(text, "plugin exited") || strings.Contains(text, "Failed to read any lines"):
		return "its process ended before it was ready; what it printed is in the log at level debug"
	case strings.Contains(text, "incompatible"):
		return otherVersion(text)
	case strings.Contains(text, "Unrecognized remote plugin message") || strings.Contains(strings.ToLower(text), "error parsing"):
		return "it printed something else than the handshake to standard output, which belongs to the protocol"
	}
	return printable.Text(text, 300)
}

// otherVersion reports which side is older. go-plugin's text contains the provider's version.
func otherVersion(text string) string {
	var theirs int
	_, after, _ := strings.Cut(text, "incompatible API version with plugin. Plugin version: ")
	_, err := fmt.Sscanf(after, "%d", &theirs)
	switch {
	case err != nil:
		return "it was not built with the plugins package: the handshake is of another kind"
	case theirs > handshake.ProtocolVersion:
		return fmt.Sprintf("it speaks version %d of the provider protocol, this credagent only up to %d; update credagent, or build the provider with an older plugins package", theirs, handshake.ProtocolVersion)
	}
	return fmt.Sprintf("it speaks version %d of the provider protocol, which this credagent no longer does; build the provider with a newer plugins package", theirs)
}

func connect(client *plugin.Client) (providerpb.ProviderClient, error) {
	protocol, err := client.Client()
	if err != nil {
		return nil, err
	}
	service, err := protocol.Dispense(handshake.PluginName)
	if err != nil {
		return nil, err
	}
	return service.(providerpb.ProviderClient), nil
}

// newChild prepares the process: the executable, checked, and an environment of its own.
func (h *Host) newChild(spec Spec, log *slog.Logger) (*child, error) {
	path, err := h.finder.locate(spec.Provider)
	if err != nil {
		return nil, &Failure{Kind: KindConfig, Message: err.Error()}
	}
	keys, err := handshake.NewKeys()
	if err != nil {
		return nil, err
	}
	c := &child{keys: keys, stderr: output(log), over: make(chan struct{})}
	c.cmd = &exec.Cmd{Path: path, Args: []string{prefix + spec.Provider}, Dir: "/", Env: environment(spec.Config), SysProcAttr: process.Bound(), WaitDelay: time.Second}
	if slices.Contains(h.finder.builtin, spec.Provider) {
		c.cmd.Args = []string{"credagent", "provider", spec.Provider}
		return c, nil
	}
	c.guarded = len(h.finder.builtin) > 0 // else this executable is none of credagent's
	if digest, pinned := h.finder.sha256[spec.Provider]; pinned {
		if c.executable, err = sealed(path, digest); err != nil {
			return nil, &Failure{Kind: KindConfig, Message: err.Error()}
		}
		c.cmd.Path = pathOf(c.executable)
	}
	return c, nil
}

// output logs a provider's output.
func output(log *slog.Logger) *process.LineLog {
	return &process.LineLog{
		Line: func(line string) { log.Debug("provider printed", "line", line) },
		Full: func(lines int) { log.Debug("provider prints too much, the rest is dropped", "lines", lines) },
	}
}

// inherited are the variables that every provider gets: how to reach the server, whom to trust, and
// Go's settings, of which fips140 holds for the whole of credagent.
var inherited = [...]string{
	"GODEBUG",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR",
}

// platform are the variables by which a platform tells what runs on it where to ask for a token, for each
// kind of source that a configuration may name in a key "source".
var platform = map[string][]string{
	"kubernetes": {"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"},
	"azure":      {"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IMDS_ENDPOINT", "IDENTITY_SERVER_THUMBPRINT"},
	"command":    {"PATH", "HOME"},
	"gcp":        {"GCE_METADATA_HOST"},
	"spiffe":     {"SPIFFE_ENDPOINT_SOCKET"},
	"github":     {"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"},
	"gitlab":     {"GITLAB_OIDC_TOKEN"},
}

// Variables are the names of those that a provider's configuration names, in keys that end in "_env",
// however deep: they hold what is for the provider's process alone.
func Variables(config json.RawMessage) []string {
	var names []string
	eachKey(config, func(key string, value json.RawMessage) {
		var name string
		if strings.HasSuffix(key, "_env") && json.Unmarshal(value, &name) == nil && name != "" {
			names = append(names, name)
		}
	})
	return names
}

// Needed are the names of the variables that a provider gets because of its configuration: those that it names,
// and the platform's where it names a source.
func Needed(config json.RawMessage) []string {
	names := Variables(config)
	eachKey(config, func(key string, value json.RawMessage) {
		var sources map[string]json.RawMessage
		if key == "source" && json.Unmarshal(value, &sources) == nil {
			for kind := range sources {
				names = append(names, platform[kind]...)
			}
		}
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// eachKey calls visit with each key of the objects in a configuration, however deep.
func eachKey(config json.RawMessage, visit func(key string, value json.RawMessage)) {
	var list []json.RawMessage
	if json.Unmarshal(config, &list) == nil {
		for _, item := range list {
			eachKey(item, visit)
		}
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(config, &keys) == nil {
		for key, value := range keys {
			visit(key, value)
			eachKey(value, visit)
		}
	}
}

// environment is what a provider's process sees of the agent's environment: the proxy settings,
// the trust roots, and the variables that its configuration needs.
func environment(config json.RawMessage) []string {
	var env []string
	for _, name := range slices.Concat(inherited[:], Needed(config)) {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// socketParent returns where the directory of a provider's socket is created: a writable directory even if the root
// file system is not, with a short path, because a unix socket's path is at most 107 bytes.
func socketParent() string {
	for _, dir := range []string{os.Getenv("RUNTIME_DIRECTORY"), os.TempDir(), "/dev/shm", "/run"} {
		if !filepath.IsAbs(dir) || len(dir) > 60 {
			continue
		}
		probe, err := os.MkdirTemp(dir, "credagent-probe-")
		if err == nil {
			_ = os.Remove(probe)
			return dir
		}
	}
	return "" // go-plugin's own choice, and its error
}

// connector connects the generated client.
type connector struct{ plugin.NetRPCUnsupportedPlugin }

// GRPCClient implements [plugin.GRPCPlugin].
func (connector) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return providerpb.NewProviderClient(conn), nil
}

// GRPCServer implements [plugin.GRPCPlugin]; the agent never serves.
func (connector) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("the agent serves no provider")
}
