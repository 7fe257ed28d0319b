package handshake

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
)

func mustKeys(t testing.TB) Keys {
	t.Helper()
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func mustConfig(t testing.TB, side Side) *tls.Config {
	t.Helper()
	config, err := side.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// sent is the provider's side after its way through the pipe.
func sent(t testing.TB, keys Keys) Side {
	t.Helper()
	var pipe bytes.Buffer
	if err := keys.Send(&pipe); err != nil {
		t.Fatal(err)
	}
	if encoded, err := json.Marshal(keys.Agent.PrivateKey); err != nil || bytes.Contains(pipe.Bytes(), encoded) {
		t.Error("the agent's private key went through the pipe")
	}
	side, err := Receive(bufio.NewReader(&pipe))
	if err != nil {
		t.Fatal(err)
	}
	return side
}

// connect joins two sides and sends one byte each way. It returns each side's error.
func connect(t *testing.T, agent, provider *tls.Config) (agentErr, providerErr error) {
	t.Helper()
	// A socket, not net.Pipe: both sides may have an alert to send at the same time.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan error)
	go func() {
		there, err := listener.Accept()
		if err == nil {
			conn := tls.Server(there, provider)
			_, err = io.CopyN(conn, conn, 1)
			_ = there.Close()
		}
		done <- err
	}()
	here, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(here, agent)
	_, agentErr = conn.Write([]byte("x"))
	if agentErr == nil {
		_, agentErr = io.ReadFull(conn, make([]byte, 1))
	}
	_ = here.Close()
	return agentErr, <-done
}

func TestOnlyTheTwoSidesConnect(t *testing.T) {
	keys, others := mustKeys(t), mustKeys(t)
	agent, provider := mustConfig(t, keys.Agent), mustConfig(t, sent(t, keys))
	changed := func(config *tls.Config, change func(*tls.Config)) *tls.Config {
		config = config.Clone()
		change(config)
		return config
	}
	for name, tc := range map[string]struct {
		agent, provider *tls.Config
		refused         bool
	}{
		"the two":                  {agent: agent, provider: provider},
		"another agent":            {agent: changed(mustConfig(t, others.Agent), func(c *tls.Config) { c.RootCAs = agent.RootCAs }), provider: provider, refused: true},
		"another provider":         {agent: agent, provider: changed(mustConfig(t, others.Provider), func(c *tls.Config) { c.ClientCAs = provider.ClientCAs }), refused: true},
		"agent without a key":      {agent: changed(agent, func(c *tls.Config) { c.Certificates = nil }), provider: provider, refused: true},
		"provider as agent":        {agent: changed(provider, func(c *tls.Config) { c.RootCAs = agent.RootCAs }), provider: provider, refused: true},
		"TLS 1.2 from the agent":   {agent: changed(agent, func(c *tls.Config) { c.MinVersion, c.MaxVersion = 0, tls.VersionTLS12 }), provider: provider, refused: true},
		"TLS 1.2 from a provider ": {agent: agent, provider: changed(provider, func(c *tls.Config) { c.MinVersion, c.MaxVersion = 0, tls.VersionTLS12 }), refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			agentErr, providerErr := connect(t, tc.agent, tc.provider)
			if tc.refused != (agentErr != nil || providerErr != nil) {
				t.Errorf("agent: %v, provider: %v", agentErr, providerErr)
			}
		})
	}
}

func TestKeysAreNewEachTime(t *testing.T) {
	first, second := mustKeys(t), mustKeys(t)
	for _, side := range []Side{first.Provider, second.Agent, second.Provider} {
		if bytes.Equal(side.PrivateKey, first.Agent.PrivateKey) || bytes.Equal(side.Certificate, first.Agent.Certificate) {
			t.Error("two sides share a key")
		}
	}
}

func TestReceiveFails(t *testing.T) {
	for name, input := range map[string]string{
		"nothing":       "",
		"cut":           `{"certificate":"YWJj`,
		"no base64":     `{"private_key":"!"}`,
		"no object":     `[1]`,
		"without end":   `{"certificate":"` + strings.Repeat("A", 128<<10) + `"}`,
		"another shape": `{"certificate":{"a":1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Receive(bufio.NewReaderSize(strings.NewReader(input), PipeBuffer)); err == nil || !strings.HasPrefix(err.Error(), "receiving the connection keys: ") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestSendFails(t *testing.T) {
	reader, writer := io.Pipe()
	_ = reader.Close()
	if err := mustKeys(t).Send(writer); err == nil || !strings.HasPrefix(err.Error(), "sending the connection keys: ") {
		t.Errorf("error %v", err)
	}
}

func TestTLSConfigRefusesWhatIsNoKey(t *testing.T) {
	sound := mustKeys(t).Agent
	for name, side := range map[string]Side{
		"nothing": {},
		"no key":  {Certificate: sound.Certificate, Peer: sound.Peer, PrivateKey: []byte("canary")},
		"no peer": {Certificate: sound.Certificate, PrivateKey: sound.PrivateKey, Peer: []byte("canary")},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := side.TLSConfig(); err == nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Whatever comes through the pipe, it ends in keys that make a configuration, or in an error.
func FuzzReceive(f *testing.F) {
	var pipe bytes.Buffer
	if err := mustKeys(f).Send(&pipe); err != nil {
		f.Fatal(err)
	}
	f.Add(pipe.Bytes())
	f.Add([]byte(`{"certificate":"AA==","private_key":"AA==","peer":"AA=="}`))
	f.Add([]byte(`{"peer":null}{`))
	f.Fuzz(func(t *testing.T, data []byte) {
		side, err := Receive(bufio.NewReaderSize(bytes.NewReader(data), PipeBuffer))
		if err != nil {
			return
		}
		again, err := Receive(bufio.NewReaderSize(bytes.NewReader(encode(t, side)), PipeBuffer))
		if err != nil || !bytes.Equal(encode(t, again), encode(t, side)) {
			t.Errorf("%q came back as %+v, %v", data, again, err)
		}
		if config, err := side.TLSConfig(); err == nil && (config.MinVersion != tls.VersionTLS13 || config.ClientAuth != tls.RequireAndVerifyClientCert) {
			t.Error("the configuration lets others in")
		}
	})
}

func encode(t *testing.T, side Side) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := (Keys{Provider: side}).Send(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
