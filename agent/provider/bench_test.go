//go:build unix

package provider

import (
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"github.com/credagent/credagent/internal/handshake"
)

// BenchmarkStart is the time from nothing to a provider's first answer, beside the start of an
// empty plugin with go-plugin's own AutoMTLS.
func BenchmarkStart(b *testing.B) {
	b.Run("by=credagent", func(b *testing.B) {
		host := New(Options{Builtin: []string{behaving}, IdleTimeout: time.Hour, Log: slog.New(slog.DiscardHandler), sockets: b.TempDir()})
		for b.Loop() {
			p := host.Process(Spec{Provider: behaving, Config: []byte("{}")})
			if _, _, err := p.Check(b.Context(), false); err != nil {
				b.Fatal(err)
			}
			p.Close()
		}
	})
	b.Run("by=AutoMTLS", func(b *testing.B) {
		for b.Loop() {
			client := plugin.NewClient(&plugin.ClientConfig{
				HandshakeConfig:  handshake.Config(),
				VersionedPlugins: offers(lying),
				AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
				Cmd:              exec.Command(os.Args[0], "plugin", "AutoMTLS"),
				AutoMTLS:         true,
				Logger:           hclog.NewNullLogger(),
			})
			protocol, err := client.Client()
			if err == nil {
				err = protocol.Ping()
			}
			if err != nil {
				b.Fatal(err)
			}
			client.Kill()
		}
	})
}
