package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

// withSecret is a configuration with one sink of type kubernetes_secret.
func withSecret(keys string) string {
	return minimal + minimalTail + "sinks: [{ type: kubernetes_secret, namespace: shop, name: s, " + keys + " }]\n"
}

func TestSecretRules(t *testing.T) {
	check(t, []rule{
		{"a token", "data: { token: graph }", ""},
		{"a field", "data: { on: graph.expires_on, h: graph.header, j: graph.json, e: graph.exec_credential, s: graph.envoy_sds }", ""},
		{"a template", `data: { x: 'Bearer {{ (token "graph").AccessToken }}', y: '{{ "text" }}' }`, ""},
		{"labels", `data: { token: graph }, labels: { team: web, example.com/a: "" }`, ""},
		{"actions", "data: { token: graph }, on_change: [{ command: { run: [x] } }]", ""},
		{"presets", "preset: flux, token: graph", ""},
		{"a preset's parts", "preset: argocd, token: graph, url: https://git.example/x, username: me, data: { type: '{{ \"helm\" }}' }", ""},
		{"nothing", "labels: { a: b }", "sinks[0]: want data, preset or both"},
		{"no token", `data: { x: '{{ "text" }}' }`, "sinks[0].data: no value of it uses a token"},
		{"unknown token", "data: { x: grahp }", `sinks[0].data.x: unknown token "grahp"`},
		{"unknown field", "data: { x: graph.secret }", `sinks[0].data.x: "graph.secret" asks for a field that a token does not have`},
		{"unknown token of a template", `data: { x: '{{ (token "x").Scope }}', y: graph }`, `sinks[0].data.x: unknown token "x"`},
		{"template", `data: { x: '{{ if }}', y: graph }`, `sinks[0].data.x: parsing template: line 1: missing value for if`},
		{"key", `data: { "a/b": graph }`, `sinks[0].data["a/b"]: "a/b" is not a key that a Secret can have`},
		{"name", "name: Graph, data: { token: graph }", `sinks[0].name: "Graph" is not the name of a Secret`},
		{"label", `data: { token: graph }, labels: { "a b": c }`, `sinks[0].labels["a b"]: "a b" is not the name of a label`},
		{"label's value", `data: { token: graph }, labels: { a: "b c" }`, `sinks[0].labels.a: "b c" is not the value of a label`},
		{"our label", `data: { token: graph }, labels: { credagent.io/managed: "no" }`, `sinks[0].labels["credagent.io/managed"]: labels of credagent.io are set by credagent itself`},
		{"of files", "data: { token: graph }, path: /run/x, mode: \"0600\"", "sinks[0].path: path does not belong to a Secret\nsinks[0].mode: mode does not belong to a Secret"},
		{"of presets", "data: { token: graph }, token: graph, username: x", "sinks[0].token: token does not belong to a Secret without a preset\nsinks[0].username: username does not belong to a Secret without a preset"},
		{"unknown preset", "preset: fluxx, token: graph", `sinks[0].preset: unknown value "fluxx", want one of argocd, basic_auth, dockerconfigjson, flux`},
		{"preset without a token", "preset: flux", `sinks[0]: missing key "token"`},
		{"argocd without a repository", "preset: argocd, token: graph", `sinks[0]: missing key "url"`},
		{"dockerconfigjson without a registry", "preset: dockerconfigjson, token: graph", `sinks[0]: missing key "registry"`},
		{"another preset's part", "preset: flux, token: graph, registry: x, url: y", "sinks[0].registry: registry does not belong to preset flux\nsinks[0].url: url does not belong to preset flux"},
	}, func(line string) string {
		if strings.HasPrefix(line, "name: ") {
			return strings.Replace(withSecret(line), "name: s, ", "", 1)
		}
		return withSecret(line)
	})
}

func TestSecretsOutputs(t *testing.T) {
	for name, tc := range map[string]struct{ sinks, want string }{
		"twice": {
			"[{ type: kubernetes_secret, namespace: shop, name: s, data: { a: graph } }, { type: kubernetes_secret, namespace: shop, name: s, data: { b: graph } }]",
			"sinks[1].name: the same Secret as sinks[0].name in line 9",
		},
		"the state's": {
			"[{ type: kubernetes_secret, name: s, data: { a: graph } }]\nstate: { kubernetes_secret: { name: s }, key_file: /k }",
			"sinks[0].name: the same Secret as state.kubernetes_secret.name in line 10",
		},
		"other namespaces": {"[{ type: kubernetes_secret, namespace: a, name: s, data: { a: graph } }, { type: kubernetes_secret, namespace: b, name: s, data: { b: graph } }]", ""},
		"a bad namespace":  {"[{ type: kubernetes_secret, namespace: A.b, name: s, data: { a: graph } }]", `sinks[0].namespace: "A.b" is not the name of a namespace`},
		"no name":          {"[{ type: kubernetes_secret, namespace: a, data: { a: graph } }]", `sinks[0]: missing key "name"`},
		"a file's":         {"[{ type: file, path: /run/x, token: graph, name: s, data: { a: graph } }]", "sinks[0].name: name does not belong to a file\nsinks[0].data: data does not belong to a file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("c", []byte(minimal+minimalTail+"sinks: "+tc.sinks+"\n"), lookup(nil))
			hasProblem(t, err, tc.want)
		})
	}
}

// secretOf returns the one Secret of a configuration, and what its values render.
func secretOf(t *testing.T, keys string) (*Secret, map[string]string) {
	t.Helper()
	c, err := Parse("c", []byte(withSecret(keys)), lookup(nil))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for _, v := range c.Sinks[0].Secret.Values {
		renderer, err := v.Renderer()
		if err != nil {
			t.Fatal(err)
		}
		content, err := renderer.Render(func(string) (token.Token, bool) {
			return token.Token{AccessToken: secret.New("tok"), TokenType: "Bearer", Expiry: time.Unix(1e9, 0)}, true
		})
		if err != nil {
			t.Fatal(err)
		}
		values[v.Key] = string(content)
	}
	return c.Sinks[0].Secret, values
}

// What the presets make is what their readers document.
func TestPresets(t *testing.T) {
	for name, tc := range map[string]struct {
		keys, secretType string
		want, labels     map[string]string
	}{
		"flux":       {keys: "preset: flux, token: graph", secretType: "Opaque", want: map[string]string{"bearerToken": "tok"}},
		"basic_auth": {keys: "preset: basic_auth, token: graph", secretType: "kubernetes.io/basic-auth", want: map[string]string{"username": "oauth2", "password": "tok"}},
		"argocd": {
			keys: `preset: argocd, token: graph, url: "https://git.example/a\"b", username: me, labels: { team: web }`, secretType: "Opaque",
			want:   map[string]string{"type": "git", "url": `https://git.example/a"b`, "username": "me", "password": "tok"},
			labels: map[string]string{"argocd.argoproj.io/secret-type": "repository", "team": "web"},
		},
		"argocd for charts": {
			keys: `preset: argocd, token: graph, url: "https://charts.example", data: { type: '{{ "helm" }}' }`, secretType: "Opaque",
			want:   map[string]string{"type": "helm", "url": "https://charts.example", "username": "oauth2", "password": "tok"},
			labels: map[string]string{"argocd.argoproj.io/secret-type": "repository"},
		},
		"another type":      {keys: "preset: flux, token: graph, secret_type: example.com/x", secretType: "example.com/x", want: map[string]string{"bearerToken": "tok"}},
		"the format header": {keys: "data: { a: graph.header, b: graph.expires_on }", secretType: "Opaque", want: map[string]string{"a": "Authorization: Bearer tok\n", "b": "1000000000"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, values := secretOf(t, tc.keys)
			if s.Type != tc.secretType || !reflect.DeepEqual(values, tc.want) || !reflect.DeepEqual(s.Labels, tc.labels) {
				t.Errorf("it is of type %s, with %q and the labels %v", s.Type, values, s.Labels)
			}
		})
	}
}

func TestDockerConfig(t *testing.T) {
	s, values := secretOf(t, `preset: dockerconfigjson, token: graph, registry: "r.example:5000", username: 'a"b'`)
	var read struct {
		Auths map[string]struct{ Username, Password, Auth string }
	}
	if err := json.Unmarshal([]byte(values[".dockerconfigjson"]), &read); err != nil {
		t.Fatalf("%v: %s", err, values[".dockerconfigjson"])
	}
	got := read.Auths["r.example:5000"]
	if s.Type != "kubernetes.io/dockerconfigjson" || len(values) != 1 || got.Username != `a"b` || got.Password != "tok" || got.Auth != "YSJiOnRvaw==" {
		t.Errorf("it is of type %s: %+v", s.Type, got)
	}
}

// A Secret that a program makes goes by the same rules.
func TestCompleteSecret(t *testing.T) {
	made := Sink{Type: SinkKubernetesSecret, Secret: &Secret{Namespace: "shop", Name: "s", Labels: map[string]string{"a": ""}, Values: []SecretValue{
		{Key: "a", Token: "t"}, {Key: "b", Token: "t", Field: "header"}, {Key: "c", Template: `{{ (token "t").Scope }}`},
	}}}
	got, err := CompleteSink(made)
	if err != nil || got.Path != "shop/s" || got.Secret.Type != "Opaque" || !reflect.DeepEqual(got.Secret.Values, made.Secret.Values) || got.Secret.Labels["a"] != "" {
		t.Errorf("it is %+v, %v", got.Secret, err)
	}
	again, err := CompleteSink(got)
	if err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("once more it is %+v, %v", again, err)
	}
	made.Secret.Name = "UPPER"
	if _, err := CompleteSink(made); err == nil || !strings.Contains(err.Error(), `"UPPER" is not the name of a Secret`) {
		t.Errorf("a bad name: %v", err)
	}
}

// A Secret is no file: none of the checks of files is about it.
func TestSecretIsNoFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.MkdirAll(filepath.Join(dir, "state", "shop"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(dir, "state")) // where a relative path would be inside
	c, err := Parse("c", []byte("state: { dir: "+filepath.Join(dir, "state")+", key_file: /k }\n"+withSecret("data: { token: graph }")), lookup(nil))
	if err != nil || c.Sinks[0].IsFile() || len(c.Inside([]string{dir})) > 0 {
		t.Errorf("it is taken for a file: %v", err)
	}
	other := c.Sinks[0]
	other.Path, other.Place = "shop/other", ""
	if problems := c.ApartSink(other); len(problems) > 0 {
		t.Errorf("one that is added is taken for a file: %v", problems)
	}
	if key := other.OutputKey(); key != `sinks["shop/other"].name` {
		t.Errorf("what it writes is named by %s", key)
	}
	c.State = &State{Secret: "state", KeyFile: "/k"}
	file := Sink{Type: SinkFile, Path: filepath.Join(dir, "state", "graph.age"), Token: "graph", Format: sink.FormatRaw}
	if problems := c.ApartSink(file); len(problems) > 0 {
		t.Errorf("a file is in the state's directory, though the state is in a Secret: %v", problems)
	}
	other.Path = c.State.secretPath()
	if problems := c.ApartSink(other); len(problems) != 1 || problems[0].Message != "the same Secret as state.kubernetes_secret.name" {
		t.Errorf("one that keeps the state is written over: %v", problems)
	}
}

func TestStateInASecret(t *testing.T) {
	check(t, []rule{
		{"a Secret", "kubernetes_secret: { name: credagent-state }", ""},
		{"a directory too", "dir: /s, kubernetes_secret: { name: x }", "state.kubernetes_secret: want exactly one of dir and kubernetes_secret"},
		{"no name", "kubernetes_secret: { name: \"\" }", "state.kubernetes_secret.name: empty"},
		{"a bad name", "kubernetes_secret: { name: A }", `state.kubernetes_secret.name: "A" is not the name of a Secret`},
		{"neither", "", `state: missing key "dir"`},
	}, func(line string) string {
		if line != "" {
			line += ", "
		}
		return "state: { " + line + "key_file: /k }\n" + minimal + minimalTail
	})
}
