package plugins

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/credagent/credagent/internal/handshake"
	"github.com/credagent/credagent/plugins/providerpb"
)

// Serve runs a provider until the agent that started it ends the process or dies. It is all that a provider's main
// function does; call it directly from main, not from another goroutine. Standard output belongs to the protocol;
// what the provider prints to standard error appears in the agent's log at level debug. The agent calls it for many
// clients at a time, which mostly wait for the server, so the process uses one processor at a time, which saves a
// quarter of its processor time. A provider with more to compute can set [runtime.GOMAXPROCS] when it is opened.
func Serve(p Provider) {
	runtime.GOMAXPROCS(1)
	cookie := handshake.Config()
	if os.Getenv(cookie.MagicCookieKey) != cookie.MagicCookieValue {
		fmt.Fprintln(os.Stderr, "this is a credagent credential provider; the agent starts it by itself from one of the directories in plugins.dirs")
		os.Exit(64)
	}
	if err := harden(); err != nil {
		fmt.Fprintf(os.Stderr, "hardening the process: %v\n", err)
	}
	lifeline := os.NewFile(handshake.LifelineFD, "lifeline")
	pipe := bufio.NewReaderSize(lifeline, handshake.PipeBuffer)
	side, err := handshake.Receive(pipe)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		removeSocket()
		os.Exit(70)
	}
	served := &server{provider: p}
	if side.Bound {
		served.exchanger.binding = newBinding()
	}
	go exitWithAgent(pipe, served.exchanger.binding)
	endByOneself()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  cookie,
		VersionedPlugins: map[int]plugin.PluginSet{handshake.ProtocolVersion: {handshake.PluginName: &service{server: served}}},
		GRPCServer:       newServer,
		TLSProvider:      func() (*tls.Config, error) { return side.TLSConfig() },
		Logger:           hclog.NewNullLogger(),
	})
}

// window is the flow-control window of a provider's connection, in bytes. A fixed window saves both sides from
// measuring the connection at every message.
const window = 1 << 20

// streamWorkers answer one call after another, so that not every call has a goroutine whose stack has to
// grow anew to what a signature takes. Where all are busy, a call has a goroutine of its own.
const streamWorkers = 2

func newServer(options []grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(options, grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window), grpc.NumStreamWorkers(streamWorkers))...)
}

// exitWithAgent ends the process when the agent's end of the pipe closes, which the kernel does
// even after kill -9. It also removes the socket's directory and ends what the provider has started.
func exitWithAgent(pipe *bufio.Reader, tells *binding) {
	if tells != nil {
		tells.follow(pipe)
	}
	_, _ = io.Copy(io.Discard, pipe)
	removeSocket()
	endGroup()
	os.Exit(0)
}

// removeSocket removes the directory that the agent created for this process's socket.
func removeSocket() {
	if dir := os.Getenv(plugin.EnvUnixSocketDir); dir != "" {
		_ = os.RemoveAll(dir)
	}
}

// service connects a provider to go-plugin.
type service struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

// GRPCServer implements [plugin.GRPCPlugin].
func (s *service) GRPCServer(_ *plugin.GRPCBroker, registrar *grpc.Server) error {
	providerpb.RegisterProviderServer(registrar, s.server)
	return nil
}

// GRPCClient implements [plugin.GRPCPlugin]; a provider is never the client.
func (s *service) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a provider has no client side")
}
