package config

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/sink"
)

var update = flag.Bool("update", false, "write the golden files anew")

// lookup returns an environment with the variables given.
func lookup(variables map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	}
}

func fullEnvironment() func(string) (string, bool) {
	return lookup(map[string]string{"CREDENTIALS_DIRECTORY": "/run/credentials"})
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// fullConfig is what testdata/full.yaml says.
func fullConfig() *Config {
	return &Config{
		Source: "full.yaml",
		Log:    Log{Level: slog.LevelInfo},
		Listen: "127.0.0.1:9465",
		Socket: &Socket{Path: "/run/credagent/credagent.sock", Mode: 0o660, Group: "credagent"},
		Identity: &IdentityEndpoint{
			Listen:     "127.0.0.1:9466",
			HeaderFile: "/run/credagent/identity/header",
			TokenFor:   map[string]string{"https://graph.microsoft.com": "graph"},
		},
		Sidecar: &AuthSidecar{Listen: "127.0.0.1:9467", TokenFor: map[string]string{"Graph": "graph"}},
		Signals: []Stream{{
			Name: "corp", Issuer: "https://signals.example.com", Token: "graph", Audience: "https://receiver.example.com",
			Subjects: []Subject{
				{Client: "payments", Issuer: "https://sts.windows.net/contoso", Sub: "6731de76-14a6-49ae-97bc-6eba6914391e"},
				{Client: "payments", Opaque: "payments-app"},
			},
			Interval: 5 * time.Minute, Events: []string{EventSessionRevoked, EventTokenClaimsChange},
		}},
		State: &State{Dir: "/var/lib/credagent", KeyFile: "/run/credentials/state-key"},
		Plugins: Plugins{
			Dirs:        []string{"/usr/lib/credagent/plugins"},
			SHA256:      map[string]string{"vaultcred": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
			IdleTimeout: time.Minute, MaxProcesses: 12,
		},
		Clients: []Client{{
			Name:           "payments",
			Entra:          &Entra{Tenant: "contoso.onmicrosoft.com", Authority: "https://login.microsoftonline.com"},
			ClientID:       "6731de76-14a6-49ae-97bc-6eba6914391e",
			CAFile:         "/etc/ssl/private-ca.pem",
			Proxy:          "http://proxy:3128",
			RequestTimeout: 10 * time.Second,
			Credential: Credential{
				Provider: "certcred",
				Config:   json.RawMessage(`{"certificate_file":"/etc/credagent/payments.pem","private_key_file":"/etc/credagent/payments.key"}`),
				Path:     "clients.payments.credential",
			},
			FallbackCredential: &Credential{
				Provider: "secretcred",
				Config:   json.RawMessage(`{"secret_file":"/etc/credagent/payments.secret"}`),
				Path:     "clients.payments.fallback_credential",
			},
		}},
		Tokens: []Token{{
			Name:   "graph",
			Client: "payments",
			Scopes: []string{"https://graph.microsoft.com/.default"},
			Grant:  GrantClientCredentials, RefreshAt: 0.5, DefaultLifetime: 30 * time.Minute,
			Allow: []Principal{{User: "app"}, {Group: "web"}},
		}},
		Sinks: fullSinks(),
	}
}

func fullSinks() []Sink {
	return []Sink{
		{
			Place: "sinks[0]", Type: SinkFile, Token: "graph", Path: "/run/credagent/graph.token", Format: sink.FormatRaw, Mode: 0o640,
			Owner: "app", Group: "app", Readers: []Principal{{User: "legacy"}},
			OnChange: []Action{
				{Signal: &Signal{PIDFile: "/run/app.pid", Signal: "HUP"}},
				{Command: &Command{Run: []string{"systemctl", "reload", "app"}, Timeout: 10 * time.Second}},
			},
		},
		{
			Place: "sinks[1]", Type: SinkFile, Path: "/run/credagent/app.ini", Format: sink.FormatTemplate, Mode: 0o600,
			Template: "[auth]\nbearer = {{ (token \"graph\").AccessToken }}\n",
		},
		{
			Place: "sinks[2]", Type: SinkEnv, Path: "/run/credagent/app.env", Mode: 0o600,
			Variables: []Variable{
				{Name: "GRAPH_TOKEN", Token: "graph"},
				{Name: "GRAPH_TOKEN_EXPIRES_ON", Token: "graph", Field: "expires_on"},
			},
		},
	}
}

// plain is c without what only messages need, for comparisons.
func plain(c *Config) *Config {
	copied := *c
	copied.positions, copied.variables = nil, nil
	return &copied
}

func TestFullExample(t *testing.T) {
	got, err := Parse("full.yaml", readFile(t, "full.yaml"), fullEnvironment())
	if err != nil {
		t.Fatal(err)
	}
	if want := fullConfig(); !reflect.DeepEqual(plain(got), want) {
		t.Errorf("parsed\n%+v\nwant\n%+v", plain(got), want)
	}
}

// lines returns each problem of an error, without hints.
func lines(err error) []string {
	var problems *Error
	if !errors.As(err, &problems) {
		return nil
	}
	var lines []string
	for _, p := range problems.Problems {
		p.Hint = ""
		lines = append(lines, p.String())
	}
	return lines
}

func TestGoldenProblems(t *testing.T) {
	_, err := Parse("nasty.yaml", readFile(t, "nasty.yaml"), lookup(nil))
	if err == nil {
		t.Fatal("no problem found")
	}
	got := err.Error() + "\n"
	if *update {
		if err := os.WriteFile("testdata/nasty.golden", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(readFile(t, "nasty.golden")); got != want {
		t.Errorf("problems\n%s\nwant\n%s", got, want)
	}
	if strings.Contains(got, "hunter2") {
		t.Error("a secret is shown")
	}
}

func TestDocumentProblems(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"no bytes", "", "c.yaml: the configuration is empty"},
		{"only a comment", "# nothing\n", "c.yaml: the configuration is empty"},
		{"null", "---\n...\n", "c.yaml: the configuration is empty"},
		{"a list", "- a\n", "c.yaml:1:1: found a list, want a mapping"},
		{"a word", "hello\n", "c.yaml:1:1: found a string, want a mapping"},
		{"a second document", "a: b\n---\nc: d\n", "c.yaml:2:1: a second YAML document"},
		{"a broken second document", "a: b\n---\n[\n", "c.yaml:3:1: not valid YAML: did not find expected node content"},
		{"syntax in the first line", "a: b: c\n", "c.yaml:1:4: not valid YAML: mapping values are not allowed in this context"},
		{"a tab", "a:\n\tb: c\n", "c.yaml:2:1: not valid YAML: found character that cannot start any token"},
		{"bad UTF-8", "a: b\nc: \xff\n", "c.yaml:2:4: not a text file in UTF-8, or with a control character in it"},
		{"a control character", "a: é\x01\n", "c.yaml:1:5: not a text file in UTF-8, or with a control character in it"},
		{"an unknown anchor", "a: *b\n", "c.yaml:1:4: not valid YAML: unknown anchor 'b' referenced"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("c.yaml", []byte(c.data), nil)
			if got := strings.Join(lines(err), "\n"); got != c.want {
				t.Errorf("problems\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestTabHint(t *testing.T) {
	_, err := Parse("c.yaml", []byte("a:\n\tb: c\n"), nil)
	if err == nil || !strings.Contains(err.Error(), "\n    hint: YAML is indented with spaces") {
		t.Errorf("no hint about the tab: %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	data := []byte(minimal + minimalTail + strings.Repeat("#", maxSize))
	_, err := Parse("c.yaml", data, nil)
	if got := strings.Join(lines(err), "\n"); got != "c.yaml: larger than 16 MiB" {
		t.Errorf("problems %s", got)
	}
}

func TestTenThousandTokens(t *testing.T) {
	var doc strings.Builder
	doc.WriteString(minimal + "tokens:\n")
	const count = 10_000
	for i := range count {
		fmt.Fprintf(&doc, "  t%d: { client: app, scopes: [a, b] }\n", i)
	}
	c, err := Parse("c.yaml", []byte(doc.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Tokens) != count {
		t.Errorf("%d tokens, want %d", len(c.Tokens), count)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(path, []byte(minimal+minimalTail), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Source != path || len(c.Tokens) != 1 {
		t.Errorf("loaded %+v", c)
	}

	missing := filepath.Join(dir, "missing.yaml")
	_, err = Load(missing, nil)
	var bad *Error
	if !errors.As(err, &bad) || err.Error() != missing+": reading it: no such file or directory" {
		t.Errorf("a missing file: %v", err)
	}
	if _, err = Load(dir, nil); !errors.As(err, &bad) || err.Error() != dir+": reading it: is a directory" {
		t.Errorf("a directory: %v", err)
	}
}

func TestLocate(t *testing.T) {
	c, err := Parse("full.yaml", readFile(t, "full.yaml"), fullEnvironment())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		want Position
	}{
		{"clients.payments", Position{25, 3}},
		{"clients.payments.credential.config.private_key_file", Position{38, 27}},
		{"clients.payments.credential.config.key_id", Position{36, 7}},
		{`identity_endpoint.token_for["https://graph.microsoft.com"]`, Position{11, 47}},
		{"tokens.graph.allow[1].group", Position{54, 37}},
		{"sinks[2].variables.GRAPH_TOKEN", Position{76, 31}},
		{"sinks[0].readers[7]", Position{64, 5}},
		{"nowhere", Position{1, 1}},
	} {
		if got := c.Locate(test.path); got != test.want {
			t.Errorf("Locate(%q) = %v, want %v", test.path, got, test.want)
		}
	}
	problem := c.Problem("clients.payments.credential.config.key_id", `unknown key "key_id"`)
	if got, want := problem.String(), `full.yaml:36:7: clients.payments.credential.config.key_id: unknown key "key_id"`; got != want {
		t.Errorf("Problem: %s, want %s", got, want)
	}
}

func TestParentUndoesJoin(t *testing.T) {
	for _, key := range []string{"a", "a-b_C9", "", "a.b", "[0]", `["x"]`, "é", `quo"te`, `back\slash`, "https://x/y"} {
		for _, path := range []string{"tokens", "tokens.graph", "sinks[3]", `m["k.l"]`} {
			if got := parent(join(path, key)); got != path {
				t.Errorf("parent(join(%q, %q)) = %q", path, key, got)
			}
		}
	}
}

func TestWarnings(t *testing.T) {
	doc := strings.Replace(minimal, "clients:\n", "clients:\n  spare: { token_url: https://x.example/t, client_id: x, credential: { provider: jwtcred } }\n", 1)
	c, err := Parse("c.yaml", []byte(doc+minimalTail), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 1 || c.Warnings[0].String() != "c.yaml:2:3: clients.spare: no token uses this client" {
		t.Errorf("warnings %v", c.Warnings)
	}
}

// TestAbsoluteSource: who is in another directory finds the file too.
func TestAbsoluteSource(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		"c.yaml": filepath.Join(here, "c.yaml"), "./c.yaml": filepath.Join(here, "c.yaml"), filepath.Join(here, "d.yaml"): filepath.Join(here, "d.yaml"),
	} {
		c, err := Parse(source, []byte(minimal+minimalTail), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.AbsoluteSource(); got != want || c.Source != source {
			t.Errorf("the source %q is at %q, want %q", c.Source, got, want)
		}
	}
	if got := (&Config{Source: "environment"}).AbsoluteSource(); got != "environment" {
		t.Errorf("the environment is at %q", got)
	}
}
