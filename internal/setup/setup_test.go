package setup

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/secret"
)

var root = Caller{Root: true, Name: "root"}

// full are answers that are enough for a server.
func full(s Server) Answers {
	a := Answers{Server: s.Name, ClientID: "6731de76-14a6-49ae-97bc-6eba6914391e", Scope: s.scope, Tenant: s.tenant}
	switch {
	case s.tenant != "":
		a.Tenant = "acme.example.com"
	default:
		a.Issuer = "https://login.example.com"
	}
	if s.Name == "keycloak" {
		a.Issuer += "/realms/shop"
	}
	if s.audience != "" {
		a.Audience = "https://api.example.com"
	}
	return a
}

// every calls with each server and credential that init sets up.
func every(t *testing.T, test func(t *testing.T, a Answers)) {
	for _, s := range Servers() {
		for _, credential := range s.credentials {
			t.Run(s.Name+"/"+credential, func(t *testing.T) {
				a := full(s)
				a.Credential = credential
				test(t, a)
			})
		}
	}
}

func TestEveryServerHasAPlan(t *testing.T) {
	every(t, func(t *testing.T, a Answers) {
		p, err := Make(a, root)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := p.Steps()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(steps) {
			if strings.TrimSpace(line) == "" || strings.Contains(line, "<no value>") {
				t.Errorf("the steps have a line %q:\n%s", line, steps)
			}
		}
		if !strings.Contains(steps, a.ClientID) {
			t.Errorf("the steps do not name the client:\n%s", steps)
		}
		if commands := p.next(root, true); len(commands) != 3 || commands[0] != "systemctl enable --now credagent" {
			t.Errorf("next comes %q", commands)
		}
	})
}

// manifest is what the tests look at of an object.
type manifest struct {
	Kind string            `yaml:"kind"`
	Data map[string]string `yaml:"data"`
	Spec struct {
		Template struct {
			Spec struct {
				InitContainers []container `yaml:"initContainers"`
				Containers     []container `yaml:"containers"`
			}
		}
	}
}

type container struct {
	Mounts []struct {
		Name string
		Path string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

// mounts are the places of the tokens' volume, of the agent and of the application.
func (m manifest) mounts() []string {
	var paths []string
	for _, c := range append(m.Spec.Template.Spec.InitContainers, m.Spec.Template.Spec.Containers...) {
		for _, mount := range c.Mounts {
			if mount.Name == "tokens" {
				paths = append(paths, mount.Path)
			}
		}
	}
	return paths
}

func TestManifestsParse(t *testing.T) {
	every(t, func(t *testing.T, a Answers) {
		a.Kubernetes = true
		checkManifests(t, a, "/run/credagent", "/run/credagent/tokens/app.token")
	})
	for name, c := range map[string]struct{ file, mount, want string }{
		"the usual one":         {"/run/credagent/app.token", "/run/credagent", "/run/credagent/tokens/app.token"},
		"the usual one in full": {"/run/credagent/tokens/app.token", "/run/credagent", "/run/credagent/tokens/app.token"},
		"beside what is there":  {"/etc/app/x.token", "/etc/app", "/etc/app/tokens/x.token"},
		"in the image":          {"/opt/app/bin/x.token", "/opt/app/bin", "/opt/app/bin/tokens/x.token"},
		"three down":            {"/var/lib/app/x.token", "/var/lib/app", "/var/lib/app/tokens/x.token"},
		"not clean":             {"/run//app/../x/tokens/x.token", "/run/x", "/run/x/tokens/x.token"},
		"a comma":               {"/run/a, b: c/x.token", "/run/a, b: c", "/run/a, b: c/tokens/x.token"},
		"braces":                {"/run/{a} [b]/x.token", "/run/{a} [b]", "/run/{a} [b]/tokens/x.token"},
		"a colon and a comment": {"/run/a: #b/x.token", "/run/a: #b", "/run/a: #b/tokens/x.token"},
		"quotes and backslash":  {`/run/a"b'c\d/x.token`, `/run/a"b'c\d`, `/run/a"b'c\d/tokens/x.token`},
		"a dollar sign":         {"/run/${A} $b/x.token", "/run/${A} $b", "/run/${A} $b/tokens/x.token"},
	} {
		t.Run(name, func(t *testing.T) {
			checkManifests(t, Answers{Server: "generic", Issuer: `https://login.example.com/a"b`, Credential: Assertion, ClientID: "a", File: c.file, Kubernetes: true}, c.mount, c.want)
		})
	}
}

// checkManifests holds the manifests to where the volume and the token's file in it are to be.
func checkManifests(t *testing.T, a Answers, mount, file string) {
	t.Helper()
	p, err := Make(a, root)
	if err != nil {
		t.Fatal(err)
	}
	text, err := p.Manifests()
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for decoder := yaml.NewDecoder(strings.NewReader(text)); ; {
		var object manifest
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		kinds = append(kinds, object.Kind)
		if object.Kind != "ConfigMap" {
			if got := object.mounts(); !slices.Equal(got, []string{mount, mount}) {
				t.Errorf("the volume is mounted at %q, want %q in both containers", got, mount)
			}
			continue
		}
		parsed, err := config.Parse("credagent.yaml", []byte(object.Data["credagent.yaml"]), nothing)
		if err != nil {
			t.Errorf("the configuration in the ConfigMap: %v", err)
		} else if parsed.Sinks[0].Path != file {
			t.Errorf("the token is in %q, want %q", parsed.Sinks[0].Path, file)
		}
	}
	if strings.Join(kinds, " ") != "ConfigMap Deployment" {
		t.Errorf("the manifests are of %v", kinds)
	}
}

// TestVolumeHidesNothing refuses files whose volume would be mounted over what others have there.
func TestVolumeHidesNothing(t *testing.T) {
	for _, file := range []string{
		"/token", "/", "/tokens/x.token", "/etc/x.token", "/etc/tokens/x.token", "/run/x.token", "/var/x.token", "/home/x.token", "/tmp/x.token",
		"/var/lib/x.token", "/var/run/x.token", "/home/app/x.token", "/usr/bin/x.token", "/run/../etc/x.token",
		"/etc/credagent/x.token", "/run/secrets/x.token", "/run/secrets/credagent/a/x.token", "/etc/ssl/certs/x.token",
	} {
		a := Answers{Server: "generic", Issuer: "https://login.example.com", ClientID: "a", File: file, Kubernetes: true}
		_, err := Make(a, root)
		if err == nil || !strings.Contains(err.Error(), `--file "`+file+`" would`) || !strings.HasSuffix(err.Error(), "such as --file /run/credagent/tokens/app.token") {
			t.Errorf("%s: %v", file, err)
		}
		a.Kubernetes = false
		if _, err := Make(a, root); err != nil && strings.Contains(err.Error(), "volume") {
			t.Errorf("%s on a host: %v", file, err)
		}
	}
}

func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		name, server, tenant, issuer, want string
	}{
		{"entra", "entra", "contoso.onmicrosoft.com", "", "entra: { tenant: contoso.onmicrosoft.com }"},
		{"another authority", "entra", "contoso.onmicrosoft.com", "https://login.microsoftonline.us/", "entra: { tenant: contoso.onmicrosoft.com, authority: https://login.microsoftonline.us }"},
		{"okta's default", "okta", "acme.okta.com", "", "issuer: https://acme.okta.com/oauth2/default"},
		{"okta's other", "okta", "", "https://acme.okta.com/oauth2/aus1", "issuer: https://acme.okta.com/oauth2/aus1"},
		{"auth0's slash", "auth0", "acme.eu.auth0.com", "", "issuer: https://acme.eu.auth0.com/"},
		{"auth0's slash where it was forgotten", "auth0", "", "https://login.example.com", "issuer: https://login.example.com/"},
		{"cognito's domain", "cognito", "", "https://acme.auth.eu-west-1.amazoncognito.com/", "token_url: https://acme.auth.eu-west-1.amazoncognito.com/oauth2/token"},
		{"cognito's endpoint", "cognito", "", "https://acme.auth.eu-west-1.amazoncognito.com/oauth2/token", "token_url: https://acme.auth.eu-west-1.amazoncognito.com/oauth2/token"},
		{"salesforce", "salesforce", "acme.my.salesforce.com", "", "token_url: https://acme.my.salesforce.com/services/oauth2/token"},
		{"ping", "ping", "5c2f9d52", "", "issuer: https://auth.pingone.com/5c2f9d52/as"},
		{"adfs", "adfs", "adfs.example.com", "", "token_url: https://adfs.example.com/adfs/oauth2/token"},
		{"an issuer", "generic", "", "https://login.example.com/realm", "issuer: https://login.example.com/realm"},
		{"a token endpoint", "generic", "", "https://login.example.com/token", "token_url: https://login.example.com/token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Find(c.server)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.origin(Answers{Tenant: c.tenant, Issuer: c.issuer})
			if err != nil || got.yaml() != c.want {
				t.Errorf("it is %q, %v; want %q", got.yaml(), err, c.want)
			}
		})
	}
}

// TestAnswersStayWhatTheyAre: whatever is answered, the configuration says just that.
func TestAnswersStayWhatTheyAre(t *testing.T) {
	for _, text := range []string{"0123", "1e3", "true", "No", "a: b", "a #b", `a"b\c`, "$HOME", "${HOME}", "-", "{a}", "*a", "'", "a:", "~", "0x1f"} {
		p, err := Make(Answers{Server: "generic", Issuer: "https://login.example.com", ClientID: text, Audience: text}, root)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		parsed, err := config.Parse("credagent.yaml", []byte(p.config), nothing)
		if err != nil || parsed.Clients[0].ClientID != text || parsed.Tokens[0].Audience != text {
			t.Errorf("%q is read as another: %v\n%s", text, err, p.config)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add("payments", "api.read", "/run/credagent/app.token")
	f.Add("a: b", "x y", "/a/B c.t")
	f.Add("${X}", "$", "/-")
	f.Fuzz(func(t *testing.T, id, scope, file string) {
		p, err := Make(Answers{Server: "generic", Issuer: "https://login.example.com", ClientID: id, Scope: scope, File: file}, root)
		if err != nil {
			return
		}
		parsed, err := config.Parse("credagent.yaml", []byte(p.config), nothing)
		if err != nil || parsed.Clients[0].ClientID != id || strings.Join(parsed.Tokens[0].Scopes, " ") != strings.Join(strings.Fields(scope), " ") {
			t.Errorf("read as another: %v\n%s", err, p.config)
		}
	})
}

func TestTokensAreNamedByTheirFile(t *testing.T) {
	for file, want := range map[string]string{
		"/run/credagent/graph.token": "graph", "/run/a/My App.v2.tok": "my-app-v2", "/run/a/.token": "app", "/run/a/__": "app",
	} {
		p := Plan{answers: Answers{File: file}}
		if got := p.token(); got != want {
			t.Errorf("%s names a token %q, want %q", file, got, want)
		}
	}
}

// TestInterruptedMakingLeavesNothing ends the making at each of its steps.
func TestInterruptedMakingLeavesNothing(t *testing.T) {
	for step := range 4 {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		steps := 0
		out := writer(func(text string) {
			if strings.HasPrefix(text, "made") {
				if steps++; steps > step {
					cancel()
				}
			}
		})
		p, err := Make(Answers{Server: "generic", Issuer: "https://login.example.com", ClientID: "a", Scope: "b", Dir: dir + "/etc", File: dir + "/run/app.token"}, root)
		if err != nil {
			t.Fatal(err)
		}
		maker := Maker{Out: out, UID: -1, GID: -1, Secret: func(context.Context) (secret.Value, error) { return secret.New("canary"), nil }}
		err = maker.Make(ctx, p)
		left, globErr := filepath.Glob(dir + "/*")
		switch {
		case globErr != nil:
			t.Fatal(globErr)
		case step < 3 && (!errors.Is(err, context.Canceled) || len(left) != 0):
			t.Errorf("after step %d: %v, and %v is left", step, err, left)
		case step == 3 && err != nil: // it was whole
			t.Error(err)
		}
		cancel()
	}
}

type writer func(string)

func (w writer) Write(data []byte) (int, error) {
	w(string(data))
	return len(data), nil
}

// TestNothingIsOverwritten puts another's file where one is about to be made, at the last moment.
func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	theirs := dir + "/etc/generic.secret"
	p, err := Make(Answers{Server: "generic", Issuer: "https://login.example.com", ClientID: "a", Scope: "b", Dir: dir + "/etc", File: dir + "/run/app.token"}, root)
	if err != nil {
		t.Fatal(err)
	}
	maker := Maker{Out: io.Discard, UID: -1, GID: -1, Secret: func(context.Context) (secret.Value, error) {
		return secret.New("canary"), errors.Join(os.Mkdir(dir+"/etc", 0o755), os.WriteFile(theirs, []byte("theirs"), 0o600))
	}}
	if err := maker.Make(t.Context(), p); err == nil || !strings.Contains(err.Error(), "it is there already; run init again") {
		t.Errorf("the error is %v", err)
	}
	if text, err := os.ReadFile(theirs); err != nil || string(text) != "theirs" {
		t.Errorf("their file is %q, %v", text, err)
	}
	if left, _ := filepath.Glob(dir + "/*/.*"); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

// TestDirectoryOfAnother has a token's directory that is there and not the service's.
func TestDirectoryOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("having another user's directory needs root")
	}
	for _, c := range []struct {
		name     string
		uid, gid int
		mode     os.FileMode
		wrong    bool
	}{
		{"root's", 0, 0, 0o755, true},
		{"its own", 4711, 0, 0o755, false},
		{"its own, not to be written to", 4711, 0, 0o555, true},
		{"its group's, with a sticky bit", 0, 4712, 0o775 | os.ModeSticky, false},
		{"its group's, not to be written to", 0, 4712, 0o755, true},
		{"everybody's", 0, 0, 0o777, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := errors.Join(os.Mkdir(dir+"/run", 0o755), os.Chown(dir+"/run", c.uid, c.gid), os.Chmod(dir+"/run", c.mode)); err != nil {
				t.Fatal(err)
			}
			p, err := Make(Answers{Server: "generic", Issuer: "https://login.example.com", ClientID: "a", Scope: "b", Credential: Assertion, Dir: dir + "/etc", File: dir + "/run/app.token"}, root)
			if err != nil {
				t.Fatal(err)
			}
			err = Maker{Out: io.Discard, UID: 4711, GID: 4712}.Make(t.Context(), p)
			if _, missing := os.Stat(dir + "/etc"); (err != nil) != c.wrong || (missing != nil) != c.wrong {
				t.Errorf("the error is %v, and the configuration's directory is missing: %v", err, missing)
			}
		})
	}
}

// FuzzPublicKey reads certificates that need not be ours.
func FuzzPublicKey(f *testing.F) {
	certificate, _, err := newCertificate("a")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(certificate)
	f.Add([]byte("no PEM"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := publicKey(text, "kid")
		if err == nil && !strings.Contains(key, `"kty":"RSA"`) {
			t.Errorf("it is %q", key)
		}
	})
}

func TestAnswersThatCannotBe(t *testing.T) {
	const guid = "6731de76-14a6-49ae-97bc-6eba6914391e"
	for name, tc := range map[string]struct {
		a    Answers
		want string // "" for nothing wrong
	}{
		"a tenant's id":            {Answers{Server: "entra", Tenant: guid, ClientID: guid}, ""},
		"a tenant's domain":        {Answers{Server: "entra", Tenant: "contoso.onmicrosoft.com", ClientID: strings.ToUpper(guid)}, ""},
		"a tenant's display name":  {Answers{Server: "entra", Tenant: "Contoso Ltd", ClientID: guid}, "--tenant"},
		"common":                   {Answers{Server: "entra", Tenant: "common", ClientID: guid}, "--tenant"},
		"a tenant's URL":           {Answers{Server: "entra", Tenant: "https://contoso.com", ClientID: guid}, "--tenant"},
		"an app's display name":    {Answers{Server: "entra", Tenant: guid, ClientID: "orders"}, "--client-id"},
		"half a client id":         {Answers{Server: "entra", Tenant: guid, ClientID: guid[:20]}, "--client-id"},
		"a test server's client":   {Answers{Server: "entra", Tenant: guid, ClientID: "demo", Issuer: "http://127.0.0.1:8080"}, ""},
		"a realm":                  {Answers{Server: "keycloak", Issuer: "https://sso.example.com/auth/realms/shop/", ClientID: "a"}, ""},
		"no realm":                 {Answers{Server: "keycloak", Issuer: "https://sso.example.com", ClientID: "a"}, "/realms/"},
		"the realm is missing":     {Answers{Server: "keycloak", Issuer: "https://sso.example.com/realms/", ClientID: "a"}, "/realms/"},
		"a realm's token endpoint": {Answers{Server: "keycloak", Issuer: "https://sso.example.com/realms/a/protocol/openid-connect/token", ClientID: "a"}, "/realms/"},
		"scopes with commas":       {Answers{Server: "generic", Issuer: "https://sso.example.com", ClientID: "a", Scope: "a,b"}, "--scope"},
		"scopes with semicolons":   {Answers{Server: "generic", Issuer: "https://sso.example.com", ClientID: "a", Scope: "a; b"}, "--scope"},
		"scopes with spaces":       {Answers{Server: "generic", Issuer: "https://sso.example.com", ClientID: "a", Scope: "a b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Make(tc.a, root)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n")):
				t.Errorf("%v, want one line with %s", err, tc.want)
			}
		})
	}
}

func TestQuestionsFitATerminal(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("word ", 40) + "end",
		"one\n  " + strings.Repeat("indented ", 20) + "end",
		strings.Repeat("x", 100) + " " + strings.Repeat("y", 100),
		"", "short", strings.Repeat("z", 80),
	} {
		wrapped := wrap(text)
		if got, want := strings.Fields(wrapped), strings.Fields(text); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("wrap(%q) loses words: %q", text, wrapped)
		}
		for line := range strings.Lines(wrapped) {
			if line = strings.TrimSuffix(line, "\n"); len(line) > columns && strings.Contains(strings.TrimLeft(line, " "), " ") {
				t.Errorf("wrap(%q) leaves the line %q", text, line)
			}
		}
	}
}
