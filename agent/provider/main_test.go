//go:build unix

package provider

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/credagent/credagent/internal/handshake"
	"github.com/credagent/credagent/internal/process"
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/providerpb"
	"github.com/credagent/credagent/testkit/leaktest"
)

const (
	canary = "canary-9c1b"
	// The providers of this test binary, which the agent starts again as its own child.
	behaving = "behaving" // does what its configuration says
	lying    = "lying"    // replies what its configuration says
	versed   = "versed"   // speaks versions 1 and 2 of the protocol
	ahead    = "ahead"    // speaks version 2 alone
)

// The main goroutine stays on the first thread, which has the kernel's order to end with the agent. Programs with cgo,
// such as tests with the race detector, can cancel it only there.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "provider" && offers(os.Args[2]) != nil:
		side, err := handshake.Receive(bufio.NewReaderSize(os.NewFile(handshake.LifelineFD, "lifeline"), handshake.PipeBuffer))
		if err != nil {
			os.Exit(70)
		}
		serve(offers(os.Args[2]), func() (*tls.Config, error) { return side.TLSConfig() })
	case len(os.Args) == 3 && os.Args[1] == "provider", strings.HasPrefix(os.Args[0], prefix):
		plugins.Serve(puppet{})
	case len(os.Args) == 2 && os.Args[1] == process.GuardArgument:
		process.BeGuard(os.Stdin)
	case len(os.Args) == 4 && os.Args[1] == "agent":
		beAgent(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == "agent of the deaf":
		host := New(Options{Dirs: []string{os.Args[2]}, Builtin: []string{behaving}, Log: slog.New(slog.DiscardHandler), sockets: os.Args[2]})
		_, _, _ = host.Process(Spec{Provider: "deaf", Config: []byte("{}")}).Check(context.Background(), true)
	case len(os.Args) == 3 && os.Args[1] == "snoop":
		beSnoop(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "plugin":
		serve(offers(lying), nil)
	default:
		os.Exit(leaktest.Main(m))
	}
}

// puppet is the behaving provider, and its configuration.
type puppet struct {
	Do       string `json:"do"`        // what to do when the credential is loaded
	Once     string `json:"once"`      // do it only while this file does not exist, and make it
	Report   string `json:"report"`    // where to write what is asked for
	TokenEnv string `json:"token_env"` // a variable that the process gets
}

func (puppet) Open(config json.RawMessage) (plugins.Source, error) {
	var p puppet
	if err := plugins.DecodeConfig(config, &p); err != nil {
		return nil, err
	}
	if p.Do == "panic in Open" {
		panic(canary)
	}
	return p, nil
}

func (puppet) Files() []string { return []string{"/etc/puppet"} }

func (p puppet) Load(ctx context.Context) (plugins.Credential, error) {
	credential := plugins.Credential{
		Identity: "a puppet", NotAfter: time.Unix(2_000_000_000, 0),
		Authenticate: func(r *plugins.Request) error {
			r.Form.Set("client_secret", canary)
			return nil
		},
	}
	if !first(p.Once) {
		return credential, nil
	}
	return credential, p.misbehave(ctx)
}

func (p puppet) misbehave(ctx context.Context) error {
	switch p.Do {
	case "exit":
		os.Exit(3)
	case "exit 0":
		os.Exit(0)
	case "abort":
		_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
		<-ctx.Done()
	case "panic elsewhere":
		go panic("nobody catches this")
		<-ctx.Done()
	case "fail":
		return errors.New("the puppet's key is gone")
	case "panic":
		panic(canary)
	case "hang":
		<-make(chan struct{})
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		<-ctx.Done()
	case "leave a child":
		if err := startChild(); err != nil {
			return err
		}
		os.Exit(3)
	case "keep a child":
		return startChild()
	case "close its sockets":
		closeSockets()
		<-make(chan struct{})
	case "flood":
		line := strings.Repeat("x", 2000) + "\n"
		for range 2000 {
			_, _ = io.WriteString(os.Stdout, line)
			_, _ = io.WriteString(os.Stderr, line)
		}
	case "report itself":
		return reportSelf(p.Report)
	}
	return nil
}

// startChild starts a process that would stay for long.
func startChild() error { return exec.Command("/bin/sleep", "300").Start() }

// closeSockets closes the process's sockets behind the back of whoever uses them.
func closeSockets() {
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, path := range links {
		if link, err := os.Readlink(path); err == nil && strings.HasPrefix(link, "socket:") {
			fd, _ := strconv.Atoi(filepath.Base(path))
			_ = syscall.Close(fd)
		}
	}
}

// agentsProviders is how many providers an agent of [beAgent] starts, and atServer how many of them
// wait for the server.
const (
	agentsProviders = 6
	atServer        = 3
)

// beAgent is an agent whose providers are idle, hang, wait for a server that does not answer, or
// have started something, when it has written the number of each one's process.
func beAgent(sockets, server string) {
	started := make(chan string)
	host := New(Options{
		Builtin: []string{behaving}, IdleTimeout: time.Hour, sockets: sockets,
		Log: slog.New(pidHandler{slog.DiscardHandler, started}),
	})
	request := Request{TokenEndpoint: server, ClientID: "app", Timeout: time.Hour}
	for i, do := range []string{"be idle", "be idle", "hang", "keep a child", "exchange", "exchange"} {
		config, err := json.Marshal(puppet{Do: do, TokenEnv: fmt.Sprint("OF_ITS_OWN_", i)}) // so they share none
		if err != nil {
			panic(err)
		}
		provider := host.Process(Spec{Provider: behaving, Config: config})
		go func() {
			if do == "be idle" {
				_, _, _ = provider.Check(context.Background(), true)
				return
			}
			_, _ = provider.Exchange(context.Background(), request)
		}()
		fmt.Println("provider", <-started)
	}
	select {} // until it is killed
}

// pidHandler sends on the numbers of the processes that are started.
type pidHandler struct {
	slog.Handler
	started chan<- string
}

func (pidHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h pidHandler) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h pidHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "pid" {
			h.started <- a.Value.String()
		}
		return true
	})
	return nil
}

// liar replies with whatever its configuration holds.
type liar struct {
	providerpb.UnimplementedProviderServer
}

// falsehood is a liar's configuration: messages as they are sent.
type falsehood struct {
	Check, Exchange []byte
	Once            string // lie only while this file does not exist, and make it
}

func (liar) Check(_ context.Context, in *providerpb.CheckRequest) (*providerpb.CheckReply, error) {
	var f falsehood
	if err := json.Unmarshal(in.GetConfig(), &f); err != nil {
		return nil, err
	}
	reply := &providerpb.CheckReply{}
	reply.ProtoReflect().SetUnknown(f.Check) // sent as they are, unlike fields
	return reply, nil
}

func (liar) Exchange(_ context.Context, in *providerpb.ExchangeRequest) (*providerpb.ExchangeReply, error) {
	var f falsehood
	if err := json.Unmarshal(in.GetConfig(), &f); err != nil {
		return nil, err
	}
	reply := &providerpb.ExchangeReply{}
	switch {
	case !first(f.Once):
		f.Exchange = answering(&providerpb.Answer{Status: 200})
	case f.Exchange == nil:
		return nil, errors.New("no reply")
	}
	reply.ProtoReflect().SetUnknown(f.Exchange)
	return reply, nil
}

// first reports whether a file could be made because it was not there, or need not be.
func first(path string) bool {
	if path == "" {
		return true
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	_ = file.Close()
	return true
}

// service registers with a provider's server.
type service struct {
	plugin.NetRPCUnsupportedPlugin
	register func(*grpc.Server)
}

func (s service) GRPCServer(_ *plugin.GRPCBroker, registrar *grpc.Server) error {
	s.register(registrar)
	return nil
}

func (service) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a provider has no client side")
}

// offers are the versions of the protocol that a provider serves which is not built with the kit;
// nil for any other.
func offers(name string) map[int]plugin.PluginSet {
	first := plugin.PluginSet{handshake.PluginName: service{register: func(s *grpc.Server) { plugins.Register(s, puppet{}) }}}
	// What version 2 will be is not known; it has a service of another name.
	second := plugin.PluginSet{handshake.PluginName: service{register: func(s *grpc.Server) {
		s.RegisterService(&grpc.ServiceDesc{ServiceName: "credagent.provider.v2.Provider", HandlerType: (*any)(nil)}, nil)
	}}}
	lies := plugin.PluginSet{handshake.PluginName: service{register: func(s *grpc.Server) { providerpb.RegisterProviderServer(s, liar{}) }}}
	return map[string]map[int]plugin.PluginSet{
		lying:  {handshake.ProtocolVersion: lies},
		versed: {1: first, 2: second},
		ahead:  {2: second},
	}[name]
}

// serve is [plugins.Serve] for what the kit does not do, with go-plugin's own TLS where none is given.
func serve(versions map[int]plugin.PluginSet, provideTLS func() (*tls.Config, error)) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  handshake.Config(),
		VersionedPlugins: versions,
		GRPCServer:       func(options []grpc.ServerOption) *grpc.Server { return grpc.NewServer(options...) },
		TLSProvider:      provideTLS,
		Logger:           hclog.NewNullLogger(),
	})
}
