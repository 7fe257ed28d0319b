//go:build unix

package config

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// overlap is an output that may be, in one way or another, a file that somebody else reads or writes.
// DIR is the configuration's directory.
type overlap struct {
	arrange func(dir string) error
	top     string
	client  string
	path    string // of the sink
	sink    string
	want    string // "" for a configuration that is fine
}

func overInputs() map[string]overlap {
	return map[string]overlap{
		"a file of its own":         {path: "DIR/token"},
		"the secret":                {path: "DIR/secret", want: "clients.app.credential.config.secret_file"},
		"the secret spelled aside":  {path: "DIR/x/../secret", want: "clients.app.credential.config.secret_file"},
		"the secret by a hard link": {arrange: func(dir string) error { return os.Link(dir+"/secret", dir+"/hard") }, path: "DIR/hard", want: "secret_file"},
		"the secret by a link":      {arrange: func(dir string) error { return os.Symlink("secret", dir+"/soft") }, path: "DIR/soft", want: "secret_file"},
		"the secret by a directory's link": {arrange: func(dir string) error { return os.Symlink(".", dir+"/here") },
			path: "DIR/here/secret", want: "secret_file"},
		"a secret that is not there yet": {arrange: func(dir string) error { return errors.Join(os.Remove(dir+"/secret"), os.Symlink(".", dir+"/here")) },
			path: "DIR/here/secret", want: "secret_file"},
		"where a secret's link dangles": {arrange: func(dir string) error {
			return errors.Join(os.Remove(dir+"/secret"), os.Symlink("later", dir+"/secret"))
		}, path: "DIR/later", want: "secret_file"},
		"the configuration":        {path: "DIR/c.yaml", want: "the configuration itself"},
		"the configuration's link": {arrange: func(dir string) error { return os.Link(dir+"/c.yaml", dir+"/d.yaml") }, path: "DIR/d.yaml", want: "the configuration itself"},
		"the state's key":          {top: "state: { dir: DIR/state, key_file: DIR/key }\n", path: "DIR/key", want: "state.key_file"},
		"a token's state":          {top: "state: { dir: DIR/state, key_file: DIR/key }\n", path: "DIR/state/api.age", want: "state.dir"},
		"what the host remembers":  {top: "state: { dir: DIR/state, key_file: DIR/key }\n", path: "DIR/state/host/sinkdirs", want: "state.dir"},
		"another's state":          {top: "state: { dir: DIR/state, key_file: DIR/key }\n", path: "DIR/state/former.age", want: "state.dir"},
		"the state by a link": {top: "state: { dir: DIR/state, key_file: DIR/key }\n", path: "DIR/here/state/x", want: "state.dir",
			arrange: func(dir string) error {
				return errors.Join(os.Mkdir(dir+"/state", 0o700), os.Symlink(".", dir+"/here"))
			}},
		"a socket in the state":    {top: "state: { dir: DIR/state, key_file: DIR/key }\nsocket: { path: DIR/state/s }\n", path: "DIR/token", want: "socket.path"},
		"beside the state":         {top: "state: { dir: DIR/state, key_file: DIR/key }\n", path: "DIR/state.d/token"},
		"a trust root":             {client: "ca_file: DIR/ca.pem", path: "DIR/ca.pem", want: "clients.app.ca_file"},
		"a fallback's certificate": {client: "fallback_credential: { provider: certcred, config: { certificate_file: DIR/c.pem } }", path: "DIR/c.pem", want: "fallback_credential.config.certificate_file"},
		"an external provider":     {top: "plugins: { dirs: [DIR] }\n", client: "fallback_credential: { provider: ours, config: {} }", path: "DIR/credagent-provider-ours", want: "fallback_credential.provider"},
		"an external one's list":   {client: "fallback_credential: { provider: ours, config: { keys: [{ at: DIR/k }] } }", path: "DIR/k", want: "fallback_credential.config.keys[0].at"},
		"a socket of a provider":   {client: "fallback_credential: { provider: ours, config: { socket: 'unix://DIR/agent.sock' } }", path: "DIR/agent.sock", want: "config.socket"},
		"its own pid file":         {path: "DIR/pid", sink: "on_change: [{ signal: { pid_file: DIR/pid, signal: HUP } }]", want: "signal.pid_file"},
		"its own command":          {path: "DIR/hook", sink: "on_change: [{ command: { run: [DIR/hook] } }]", want: "command.run"},
	}
}

func overOutputs() map[string]overlap {
	return map[string]overlap{
		"the socket": {top: "socket: { path: DIR/s }\n", arrange: func(dir string) error { return os.Symlink(".", dir+"/here") }, path: "DIR/here/s", want: "socket.path"},
		"the header file": {top: "identity_endpoint: { listen: '127.0.0.1:1', header_file: DIR/h, token_for: { x: api } }\n",
			arrange: func(dir string) error { return os.Symlink(".", dir+"/here") }, path: "DIR/here/h", want: "identity_endpoint.header_file"},
		"a header file that is the secret": {top: "identity_endpoint: { listen: '127.0.0.1:1', header_file: DIR/secret, token_for: { x: api } }\n",
			path: "DIR/token", want: "secret_file"},
		"a socket that is the secret": {top: "socket: { path: DIR/secret }\n", path: "DIR/token", want: "secret_file"},
		"another client's assertion": {top: "", client: "",
			path: "DIR/assertion", sink: "format: raw"},
		"an assertion as JSON":             {path: "DIR/assertion", sink: "format: json", want: "clients.next.credential.config.assertion_file"},
		"a client's own assertion":         {path: "DIR/own", want: "clients.self.credential.config.assertion_file", sink: "mode: '0600'", client: "", top: ""},
		"a name that only looks like it":   {path: "DIR/Secret"},
		"a directory that only looks like": {path: "DIR/secret.d"},
	}
}

func TestOutputsOverInputs(t *testing.T) {
	cases := overInputs()
	maps.Copy(cases, overOutputs())
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			text := strings.ReplaceAll(overlapping(tc.top, tc.client, tc.path, tc.sink), "DIR", dir)
			for _, file := range []string{"secret", "key", "c.yaml"} {
				content := "x"
				if file == "c.yaml" {
					content = text
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if tc.arrange != nil {
				if err := tc.arrange(dir); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Load(filepath.Join(dir, "c.yaml"), nil)
			if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), outputHint)) {
				t.Errorf("Load() = %v, want %q", err, tc.want)
			}
		})
	}
}

func overlapping(top, client, path, sink string) string {
	if client != "" {
		client = "    " + client + "\n"
	}
	if sink != "" {
		sink = ", " + sink
	}
	token := "api"
	if strings.HasSuffix(path, "/own") {
		token = "self"
	}
	return "listen: ''\n" + top + `clients:
  app:
    token_url: https://login.example/token
    client_id: app-1
    credential: { provider: secretcred, config: { secret_file: DIR/secret } }
` + client + `  next:
    token_url: https://login.example/token
    client_id: app-2
    credential: { provider: jwtcred, config: { assertion_file: DIR/assertion } }
  self:
    token_url: https://login.example/token
    client_id: app-3
    credential: { provider: jwtcred, config: { assertion_file: DIR/own } }
tokens:
  api: { client: app }
  next: { client: next }
  self: { client: self }
sinks:
  - { type: file, token: ` + token + `, path: '` + path + `'` + sink + ` }
`
}

// TestOverwritten: what a provider reads beside what its configuration names.
func TestOverwritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	text := strings.ReplaceAll(overlapping("", "", "DIR/token", ""), "DIR", dir)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(".", filepath.Join(dir, "here")); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	credential := c.Clients[0].Credential
	if got := c.Overwritten(credential, []string{dir + "/secret", dir + "/other"}); len(got) != 0 {
		t.Errorf("problems %v", got)
	}
	got := c.Overwritten(credential, []string{dir + "/secret", dir + "/here/token"})
	if len(got) != 1 || got[0].Path != "sinks[0].path" || got[0].Line == 0 {
		t.Errorf("problems %v", got)
	}
}
