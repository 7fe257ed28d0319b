//go:build unix

package provider

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/credagent/credagent/internal/handshake"
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/providerpb"
)

const (
	canary = "canary-9c1b"
	// The providers of this test binary, which the agent starts again as its own child.
	behaving = "behaving" // does what its configuration says
	lying    = "lying"    // replies what its configuration says
)

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "provider" && os.Args[2] == lying:
		side, err := handshake.Receive(os.NewFile(handshake.LifelineFD, "lifeline"))
		if err != nil {
			os.Exit(70)
		}
		serveLies(func() (*tls.Config, error) { return side.TLSConfig() })
	case len(os.Args) == 3 && os.Args[1] == "provider", strings.HasPrefix(os.Args[0], prefix):
		plugins.Serve(puppet{})
	case len(os.Args) == 3 && os.Args[1] == "agent":
		beAgent(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "plugin":
		serveLies(nil)
	default:
		os.Exit(m.Run())
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
	if p.Once != "" {
		file, err := os.OpenFile(p.Once, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return credential, nil
		}
		_ = file.Close()
	}
	return credential, p.misbehave(ctx)
}

func (p puppet) misbehave(ctx context.Context) error {
	switch p.Do {
	case "exit":
		os.Exit(3)
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
		if err := exec.Command("/bin/sleep", "300").Start(); err != nil {
			return err
		}
		os.Exit(3)
	case "flood":
		line := strings.Repeat("x", 2000) + "\n"
		for range 2000 {
			_, _ = io.WriteString(os.Stdout, line)
			_, _ = io.WriteString(os.Stderr, line)
		}
	case "report the environment":
		return os.WriteFile(p.Report, []byte(strings.Join(os.Environ(), "\n")), 0o600)
	}
	return nil
}

// beAgent is an agent that has just started a provider when it writes its process's number.
func beAgent(sockets string) {
	started := make(chan string, 1)
	host := New(Options{
		Builtin: []string{behaving}, IdleTimeout: time.Hour, sockets: sockets,
		Log: slog.New(pidHandler{slog.DiscardHandler, started}),
	})
	if _, _, err := host.Process(Spec{Provider: behaving}).Check(context.Background(), false); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-started)
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
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

// liar answers with nonsense: what its configuration names, once.
type liar struct {
	providerpb.UnimplementedProviderServer
	told int
}

func (l *liar) Check(_ context.Context, in *providerpb.CheckRequest) (*providerpb.CheckReply, error) {
	switch lie := string(in.GetConfig()); lie {
	case `"problems"`:
		return &providerpb.CheckReply{Problems: make([]*providerpb.Problem, maxProblems+1)}, nil
	case `"ugly"`:
		ugly := "a\nb\x1b[31m" + strings.Repeat("c", 2*maxText)
		return &providerpb.CheckReply{
			Problems: []*providerpb.Problem{{Key: ugly, Message: ugly}},
			Failure:  &providerpb.Failure{Kind: providerpb.Failure_KIND_CREDENTIAL, Message: ugly},
			Version:  ugly,
		}, nil
	default:
		return &providerpb.CheckReply{Credential: lies()[strings.Trim(lie, `"`)].GetCredential()}, nil
	}
}

func (l *liar) Exchange(_ context.Context, in *providerpb.ExchangeRequest) (*providerpb.ExchangeReply, error) {
	if l.told++; l.told > 1 {
		return answering(&providerpb.Answer{Status: 200}), nil
	}
	if reply, ok := lies()[strings.Trim(string(in.GetConfig()), `"`)]; ok {
		return reply, nil
	}
	return nil, errors.New("no such lie")
}

func answering(answer *providerpb.Answer) *providerpb.ExchangeReply {
	return &providerpb.ExchangeReply{Result: &providerpb.ExchangeReply_Answer{Answer: answer}}
}

func withHeader(name, value string) *providerpb.ExchangeReply {
	return answering(&providerpb.Answer{Status: 200, Headers: []*providerpb.Parameter{{Name: name, Value: value}}})
}

func withCredential(credential *providerpb.Credential) *providerpb.ExchangeReply {
	reply := answering(&providerpb.Answer{Status: 200})
	reply.Credential = credential
	return reply
}

// lies are replies that make no sense, by name.
func lies() map[string]*providerpb.ExchangeReply {
	return map[string]*providerpb.ExchangeReply{
		"status 99999":       answering(&providerpb.Answer{Status: 99999}),
		"status 0":           answering(&providerpb.Answer{}),
		"status negative":    answering(&providerpb.Answer{Status: -200}),
		"large body":         answering(&providerpb.Answer{Status: 200, Body: make([]byte, maxBody+1)}),
		"huge body":          answering(&providerpb.Answer{Status: 200, Body: make([]byte, 3*maxBody)}),
		"many headers":       answering(&providerpb.Answer{Status: 200, Headers: make([]*providerpb.Parameter, maxHeaders+1)}),
		"header with break":  withHeader("Retry-After", "1\r\nX: y"),
		"name with break":    withHeader("Retry\n-After", "1"),
		"header of no name":  withHeader("", "1"),
		"long header":        withHeader("Date", strings.Repeat("x", maxPath+1)),
		"relative file":      withCredential(&providerpb.Credential{Files: []string{"etc/key"}}),
		"file with break":    withCredential(&providerpb.Credential{Files: []string{"/etc/a\nb"}}),
		"many files":         withCredential(&providerpb.Credential{Files: make([]string, maxFiles+1)}),
		"far not after":      withCredential(&providerpb.Credential{NotAfterSeconds: 1 << 60}),
		"negative not after": withCredential(&providerpb.Credential{NotAfterSeconds: -1}),
		"neither":            {},
	}
}

// serveLies is [plugins.Serve] for a liar, with go-plugin's own TLS where none is given.
func serveLies(provideTLS func() (*tls.Config, error)) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  handshake.Config(),
		VersionedPlugins: map[int]plugin.PluginSet{handshake.ProtocolVersion: {handshake.PluginName: liarPlugin{}}},
		GRPCServer:       func(options []grpc.ServerOption) *grpc.Server { return grpc.NewServer(options...) },
		TLSProvider:      provideTLS,
		Logger:           hclog.NewNullLogger(),
	})
}

type liarPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (liarPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	providerpb.RegisterProviderServer(s, &liar{})
	return nil
}

func (liarPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a liar has no client side")
}
