package config

import (
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/sink"
)

// setEnvironment makes the variables given the only ones that this package looks at.
func setEnvironment(t *testing.T, variables map[string]string) {
	t.Helper()
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "CREDAGENT_") || strings.HasPrefix(name, "AZURE_") {
			t.Setenv(name, "") // puts it back at the end
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, value := range variables {
		t.Setenv(name, value)
	}
}

// ownEnvironment is the smallest one in credagent's own names, with changes.
func ownEnvironment(changes map[string]string) map[string]string {
	variables := map[string]string{
		"CREDAGENT_TOKEN_URL":          "https://login.example.com/token",
		"CREDAGENT_CLIENT_ID":          "app-1",
		"CREDAGENT_CLIENT_SECRET_FILE": "/etc/secret",
	}
	return merge(variables, changes)
}

func azureEnvironment(changes map[string]string) map[string]string {
	variables := map[string]string{
		"AZURE_TENANT_ID":            "contoso.onmicrosoft.com",
		"AZURE_CLIENT_ID":            "app-2",
		"AZURE_FEDERATED_TOKEN_FILE": "/var/run/token",
		"CREDAGENT_SCOPES":           "https://graph.microsoft.com/.default",
	}
	return merge(variables, changes)
}

// merge changes variables; an empty value takes one away.
func merge(variables, changes map[string]string) map[string]string {
	for name, value := range changes {
		variables[name] = value
		if value == "" {
			delete(variables, name)
		}
	}
	return variables
}

func TestFromEnvWhole(t *testing.T) {
	setEnvironment(t, ownEnvironment(map[string]string{
		"CREDAGENT_CA_FILE":        "/ca.pem",
		"CREDAGENT_SCOPES":         "a b,c,  d",
		"CREDAGENT_FILE":           "/run/token",
		"CREDAGENT_FILE_FORMAT":    "json",
		"CREDAGENT_FILE_MODE":      "0640",
		"CREDAGENT_ENV_FILE":       "/run/token.env",
		"CREDAGENT_STATE_DIR":      "/var/lib/credagent",
		"CREDAGENT_STATE_KEY_FILE": "/etc/key",
		"CREDAGENT_LOG_LEVEL":      "debug",
		"CREDAGENT_LOG_FORMAT":     "json",
		"CREDAGENT_CONFIG":         "/elsewhere",
		"CREDAGENT_PROVIDER_X":     "internal",
	}))
	got, err := FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Source:  "environment",
		Log:     Log{Level: slog.LevelDebug, JSON: true},
		Listen:  "127.0.0.1:9465",
		State:   &State{Dir: "/var/lib/credagent", KeyFile: "/etc/key"},
		Plugins: Plugins{Dirs: []string{"/usr/lib/credagent/plugins"}, IdleTimeout: time.Minute, MaxProcesses: 16},
		Clients: []Client{{
			Name: "default", TokenURL: "https://login.example.com/token", ClientID: "app-1", CAFile: "/ca.pem",
			RequestTimeout: 10 * time.Second,
			Credential: Credential{
				Provider: "secretcred", Config: []byte(`{"secret_file":"/etc/secret"}`), Path: "clients.default.credential",
			},
		}},
		Tokens: []Token{{Name: "default", Client: "default", Grant: GrantClientCredentials, Scopes: []string{"a", "b", "c", "d"}, RefreshAt: 0.5, DefaultLifetime: 5 * time.Minute}},
		Sinks: []Sink{
			{Place: "sinks[0]", Type: SinkFile, Path: "/run/token", Token: "default", Format: sink.FormatJSON, Mode: 0o640},
			{Place: "sinks[1]", Type: SinkEnv, Path: "/run/token.env", Mode: 0o600, Variables: []Variable{{Name: "ACCESS_TOKEN", Token: "default"}}},
		},
	}
	if !reflect.DeepEqual(plain(got), want) {
		t.Errorf("got\n%+v\nwant\n%+v", plain(got), want)
	}
}

func TestFromEnvCredential(t *testing.T) {
	for _, c := range []struct {
		name             string
		variables        map[string]string
		provider, config string
	}{
		{"secret file", ownEnvironment(nil), "secretcred", `{"secret_file":"/etc/secret"}`},
		{"certificate", ownEnvironment(map[string]string{"CREDAGENT_CLIENT_SECRET_FILE": "", "CREDAGENT_CLIENT_CERTIFICATE_FILE": "/c"}), "certcred", `{"certificate_file":"/c"}`},
		{"certificate and key", ownEnvironment(map[string]string{"CREDAGENT_CLIENT_SECRET_FILE": "", "CREDAGENT_CLIENT_CERTIFICATE_FILE": "/c", "CREDAGENT_CLIENT_PRIVATE_KEY_FILE": "/k"}), "certcred", `{"certificate_file":"/c","private_key_file":"/k"}`},
		{"assertion", ownEnvironment(map[string]string{"CREDAGENT_CLIENT_SECRET_FILE": "", "CREDAGENT_ASSERTION_FILE": "/a"}), "jwtcred", `{"assertion_file":"/a"}`},
		{"own over Azure's", ownEnvironment(map[string]string{"AZURE_CLIENT_SECRET": "hunter2"}), "secretcred", `{"secret_file":"/etc/secret"}`},
		{"Azure federated", azureEnvironment(nil), "jwtcred", `{"assertion_file":"/var/run/token"}`},
		{"Azure secret", azureEnvironment(map[string]string{"AZURE_CLIENT_SECRET": "hunter2"}), "secretcred", `{"secret_env":"AZURE_CLIENT_SECRET"}`},
		{"Azure certificate", azureEnvironment(map[string]string{"AZURE_CLIENT_CERTIFICATE_PATH": "/c.pem"}), "certcred", `{"certificate_file":"/c.pem"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			setEnvironment(t, c.variables)
			config, err := FromEnv()
			if err != nil {
				t.Fatal(err)
			}
			if got := config.Clients[0].Credential; got.Provider != c.provider || string(got.Config) != c.config {
				t.Errorf("credential %s %s, want %s %s", got.Provider, got.Config, c.provider, c.config)
			}
		})
	}
}

func TestFromEnvOrigin(t *testing.T) {
	entra := func(authority string) Client {
		return Client{Entra: &Entra{Tenant: "contoso.onmicrosoft.com", Authority: authority}, ClientID: "app-2"}
	}
	for _, c := range []struct {
		name      string
		variables map[string]string
		want      Client
	}{
		{"Azure's", azureEnvironment(nil), entra("https://login.microsoftonline.com")},
		{"Azure's cloud", azureEnvironment(map[string]string{"AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us/"}), entra("https://login.microsoftonline.us")},
		{"Azure's cloud as a host", azureEnvironment(map[string]string{"AZURE_AUTHORITY_HOST": "login.microsoftonline.us"}), entra("https://login.microsoftonline.us")},
		{"own tenant over Azure's", azureEnvironment(map[string]string{"AZURE_TENANT_ID": "other", "CREDAGENT_ENTRA_TENANT": "contoso.onmicrosoft.com"}), entra("https://login.microsoftonline.com")},
		{"own URL over Azure's", azureEnvironment(map[string]string{"CREDAGENT_TOKEN_URL": "https://x.example"}), Client{TokenURL: "https://x.example", ClientID: "app-2"}},
		{"own issuer over Azure's", azureEnvironment(map[string]string{"CREDAGENT_ISSUER": "https://x.example", "CREDAGENT_CLIENT_ID": "app-1"}), Client{Issuer: "https://x.example", ClientID: "app-1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			setEnvironment(t, c.variables)
			config, err := FromEnv()
			if err != nil {
				t.Fatal(err)
			}
			client := config.Clients[0]
			got := Client{Entra: client.Entra, Issuer: client.Issuer, TokenURL: client.TokenURL, ClientID: client.ClientID}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("client %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestFromEnvProblems(t *testing.T) {
	for _, c := range []struct {
		name      string
		variables map[string]string
		want      string
	}{
		{"nothing", nil, "CREDAGENT_CLIENT_SECRET_FILE: not set\nCREDAGENT_TOKEN_URL: not set\nCREDAGENT_CLIENT_ID: not set"},
		{"two origins", ownEnvironment(map[string]string{"CREDAGENT_ISSUER": "https://hunter2.example"}), "want exactly one of CREDAGENT_TOKEN_URL, CREDAGENT_ISSUER and CREDAGENT_ENTRA_TENANT"},
		{"two credentials", ownEnvironment(map[string]string{"CREDAGENT_ASSERTION_FILE": "/hunter2"}), "want exactly one of CREDAGENT_CLIENT_SECRET_FILE, CREDAGENT_CLIENT_CERTIFICATE_FILE and CREDAGENT_ASSERTION_FILE"},
		{"no URL", ownEnvironment(map[string]string{"CREDAGENT_TOKEN_URL": "hunter2"}), "CREDAGENT_TOKEN_URL: not an absolute URL"},
		{"key alone", ownEnvironment(map[string]string{"CREDAGENT_CLIENT_PRIVATE_KEY_FILE": "/hunter2"}), "CREDAGENT_CLIENT_PRIVATE_KEY_FILE: has no effect without CREDAGENT_CLIENT_CERTIFICATE_FILE"},
		{"format alone", ownEnvironment(map[string]string{"CREDAGENT_FILE_FORMAT": "hunter2"}), "CREDAGENT_FILE_FORMAT: has no effect without CREDAGENT_FILE"},
		{"mode alone", ownEnvironment(map[string]string{"CREDAGENT_FILE_MODE": "hunter2"}), "CREDAGENT_FILE_MODE: has no effect without CREDAGENT_FILE"},
		{"variable alone", ownEnvironment(map[string]string{"CREDAGENT_ENV_VARIABLE": "hunter2"}), "CREDAGENT_ENV_VARIABLE: has no effect without CREDAGENT_ENV_FILE"},
		{"state key alone", ownEnvironment(map[string]string{"CREDAGENT_STATE_KEY_FILE": "/hunter2"}), "CREDAGENT_STATE_KEY_FILE: has no effect without CREDAGENT_STATE_DIR"},
		{"state without a key", ownEnvironment(map[string]string{"CREDAGENT_STATE_DIR": "/hunter2"}), "CREDAGENT_STATE_KEY_FILE: not set"},
		{"relative file", ownEnvironment(map[string]string{"CREDAGENT_FILE": "hunter2"}), `CREDAGENT_FILE: "${CREDAGENT_FILE}" is not an absolute path`},
		{"unknown format", ownEnvironment(map[string]string{"CREDAGENT_FILE": "/f", "CREDAGENT_FILE_FORMAT": "hunter2"}), `CREDAGENT_FILE_FORMAT: unknown value "${CREDAGENT_FILE_FORMAT}", want one of envoy_sds, exec_credential, header, json, raw, template`},
		{"template", ownEnvironment(map[string]string{"CREDAGENT_FILE": "/f", "CREDAGENT_FILE_FORMAT": "template"}), "CREDAGENT_FILE_FORMAT: a template needs a configuration file"},
		{"bad mode", ownEnvironment(map[string]string{"CREDAGENT_FILE": "/f", "CREDAGENT_FILE_MODE": "hunter2"}), `CREDAGENT_FILE_MODE: "${CREDAGENT_FILE_MODE}" is not a file mode`},
		{"bad variable", ownEnvironment(map[string]string{"CREDAGENT_ENV_FILE": "/f", "CREDAGENT_ENV_VARIABLE": "hunter-2"}), "CREDAGENT_ENV_VARIABLE: not the name of a variable that a shell can set"},
		{"one file twice", ownEnvironment(map[string]string{"CREDAGENT_FILE": "/f", "CREDAGENT_ENV_FILE": "//f"}), "CREDAGENT_ENV_FILE: the same file as CREDAGENT_FILE"},
		{"bad scope", ownEnvironment(map[string]string{"CREDAGENT_SCOPES": `hunter2"`}), `CREDAGENT_SCOPES: "${CREDAGENT_SCOPES}" is not a scope`},
		{"not UTF-8", ownEnvironment(map[string]string{"CREDAGENT_CLIENT_ID": "hunter2\xff"}), "CREDAGENT_CLIENT_ID: not valid UTF-8 text"},
		{"Azure without a scope", azureEnvironment(map[string]string{"CREDAGENT_SCOPES": ""}), "CREDAGENT_SCOPES: Entra ID wants exactly one scope, found 0"},
		{"unknown variable", ownEnvironment(map[string]string{"CREDAGENT_SCOPE": "hunter2"}), "CREDAGENT_SCOPE: unknown variable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			setEnvironment(t, c.variables)
			_, err := FromEnv()
			hasProblem(t, err, c.want)
			if strings.Contains(err.Error(), "hunter") {
				t.Errorf("a value is shown: %v", err)
			}
		})
	}
}

func TestFromEnvTexts(t *testing.T) {
	setEnvironment(t, ownEnvironment(map[string]string{"CREDAGENT_SCOPE": "x", "CREDAGENT_STATE_KEY_FILE": "/k"}))
	_, err := FromEnv()
	want := `environment: CREDAGENT_SCOPE: unknown variable
    hint: did you mean "CREDAGENT_SCOPES"?
environment: CREDAGENT_STATE_KEY_FILE: has no effect without CREDAGENT_STATE_DIR`
	if err == nil || err.Error() != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
}

func TestFromEnvLocatesVariables(t *testing.T) {
	setEnvironment(t, azureEnvironment(map[string]string{"AZURE_CLIENT_SECRET": "hunter2"}))
	c, err := FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	got := c.Problem(c.Clients[0].Credential.Path+".config.secret_env", "empty").String()
	if want := "environment: AZURE_CLIENT_SECRET: empty"; got != want {
		t.Errorf("problem %q, want %q", got, want)
	}
}

func TestEmptySecretIsNone(t *testing.T) {
	setEnvironment(t, azureEnvironment(nil))
	t.Setenv("AZURE_CLIENT_SECRET", "")
	c, err := FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Clients[0].Credential.Provider; got != "jwtcred" {
		t.Errorf("provider %s, want the federated token's", got)
	}
}

func TestFromEnvListen(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"off", "", ""},
		{"elsewhere", "127.0.0.1:1", "127.0.0.1:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			setEnvironment(t, ownEnvironment(nil))
			t.Setenv("CREDAGENT_LISTEN", c.value)
			config, err := FromEnv()
			if err != nil {
				t.Fatal(err)
			}
			if config.Listen != c.want {
				t.Errorf("listen %q, want %q", config.Listen, c.want)
			}
		})
	}
}

func TestUnprefixedNamesMeanNothing(t *testing.T) {
	setEnvironment(t, ownEnvironment(nil))
	for _, name := range []string{"FILE", "SCOPES", "LISTEN", "CA_FILE"} {
		t.Setenv(name, "/tmp/x")
	}
	c, err := FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Sinks) != 0 || len(c.Tokens[0].Scopes) != 0 || c.Listen != defaultListen || c.Clients[0].CAFile != "" {
		t.Errorf("read from names without the prefix: %+v", c)
	}
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name      string
		flag      string
		variables map[string]string
		exists    bool
		path      string
		fromEnv   bool
	}{
		{"flag over everything", "/flag", ownEnvironment(map[string]string{"CREDAGENT_CONFIG": "/named"}), true, "/flag", false},
		{"variable over the rest", "", ownEnvironment(map[string]string{"CREDAGENT_CONFIG": "/named"}), true, "/named", false},
		{"environment without a file", "", ownEnvironment(nil), false, "", true},
		{"Azure's environment", "", azureEnvironment(nil), false, "", true},
		{"file over the environment", "", ownEnvironment(nil), true, DefaultPath, false},
		{"nothing", "", nil, false, DefaultPath, false},
		{"scopes alone", "", map[string]string{"CREDAGENT_SCOPES": "a"}, false, DefaultPath, false},
		{"empty values", "", map[string]string{"CREDAGENT_CONFIG": "", "CREDAGENT_CLIENT_ID": ""}, false, DefaultPath, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, fromEnv := find(c.flag, lookup(c.variables), func(string) bool { return c.exists })
			if path != c.path || fromEnv != c.fromEnv {
				t.Errorf("find() = %q, %v, want %q, %v", path, fromEnv, c.path, c.fromEnv)
			}
		})
	}
}

func TestFindAsksTheDisk(t *testing.T) {
	_, err := os.Stat(DefaultPath)
	path, fromEnv := Find("", lookup(ownEnvironment(nil)))
	if fromEnv != (err != nil) || fromEnv == (path == DefaultPath) {
		t.Errorf("Find() = %q, %v, with the file's state %v", path, fromEnv, err)
	}
}
