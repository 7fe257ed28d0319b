package examples_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

// serverPages are the pages of docs/servers, by the server's name.
func serverPages(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, name := range documents(t) {
		if strings.HasPrefix(name, "docs/servers/") {
			pages[strings.TrimSuffix(filepath.Base(name), ".md")] = read(t, name)
		}
	}
	help, _ := run(t, 0, environment(), "init", "--help")
	_, list, _ := strings.Cut(help, "SERVER is one of ")
	list, _, _ = strings.Cut(list, ".")
	for _, server := range strings.Split(list, ", ") {
		if pages[server] == "" {
			t.Errorf("init knows %s, which has no page in docs/servers", server)
		}
	}
	if len(pages) != len(strings.Split(list, ", ")) {
		t.Errorf("docs/servers has %d pages for the servers %s", len(pages), list)
	}
	return pages
}

// TestServerPagesHaveOneForm compares the headings, and the configuration with what init writes.
func TestServerPagesHaveOneForm(t *testing.T) {
	heading := regexp.MustCompile(`(?m)^## .*$`)
	for server, page := range serverPages(t) {
		want := "## At the server ## The configuration ## Check it ## Refusals"
		if got := strings.Join(heading.FindAllString(page, -1), " "); got != want {
			t.Errorf("%s has the headings %q, want %q", server, got, want)
		}
		command := strings.Fields(strings.TrimSuffix(strings.TrimSpace(blocks(page, "sh")[0]), " < secret"))
		shown, _ := run(t, 0, environment(), append(command[1:], "--print")...)
		if yaml := blocks(page, "yaml"); len(yaml) != 1 || !strings.HasSuffix(shown, "\n"+yaml[0]) {
			t.Errorf("the page of %s shows another configuration than %q writes:\n%s", server, command, shown)
		}
	}
}

// TestServerPagesGetTokens gives each page's configuration to the program, at a server of that manner.
func TestServerPagesGetTokens(t *testing.T) {
	for server, page := range serverPages(t) {
		t.Run(server, func(t *testing.T) {
			options := devserver.Options{TTL: time.Hour, Manner: server}
			if server == "generic" {
				options.Manner = ""
			}
			p := newPlaceOf(t, time.Hour)
			p.server = mannered(t, options)
			config := aimed(blocks(page, "yaml")[0], server, p)
			register(t, p, config)
			file := filepath.Join(p.credentials, "credagent.yaml")
			write(t, file, config)
			run(t, 0, environment(), "validate", "-c", file)
			run(t, 0, environment(), "once", "-c", file, "--timeout", "30s")
			text, err := os.ReadFile(filepath.Join(p.sinks, "app.token"))
			if err != nil || !p.server.Valid(string(text)) {
				t.Errorf("the file holds no token of the server: %v", err)
			}
		})
	}
}

func mannered(t *testing.T, options devserver.Options) *devserver.Server {
	t.Helper()
	server, err := devserver.New(options)
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server
}

// aimed puts the place's own names into a page's configuration: its server, its directories, and no
// reader, whom the machine need not know.
func aimed(config, server string, p place) string {
	origin := regexp.MustCompile(`(?m)((?:issuer|token_url|assertion_audience): )https://[^/\s]+`)
	config = origin.ReplaceAllString(config, "${1}"+p.server.URL())
	if server == "entra" {
		config = strings.Replace(config, "contoso.onmicrosoft.com }", "contoso.onmicrosoft.com, authority: \""+p.server.URL()+"\" }", 1)
	}
	config = strings.Replace(config, "    readers: [{ user: app }]\n", "", 1)
	return strings.NewReplacer("/etc/credagent", p.credentials, "/run/credagent", p.sinks).Replace(config)
}

// register has the server know the configuration's client, and makes the credential's files.
func register(t *testing.T, p place, config string) {
	t.Helper()
	value := func(key string) string {
		match := regexp.MustCompile(`(?m)^ *` + key + `: "?([^"#\n]*[^"# \n])`).FindStringSubmatch(config)
		if match == nil {
			return ""
		}
		return match[1]
	}
	client := devserver.Client{ID: value("client_id")}
	if file := value("google_key_file"); file != "" {
		account, key, err := devserver.NewServiceAccount(client.ID, p.server.TokenURL())
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, string(key))
		client = account
	} else if file := value("secret_file"); file != "" {
		client.Secret = secret.New(canary)
		write(t, file, canary)
	} else {
		certificate, key, parsed, err := devserver.NewCertificate(client.ID, devserver.KeyRSA, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		write(t, value("certificate_file"), string(certificate))
		write(t, value("private_key_file"), string(key))
		client.Certificates = []*x509.Certificate{parsed}
		if id := value("key_id"); id != "" {
			client.Certificates, client.PublicKeys = nil, map[string]crypto.PublicKey{id: parsed.PublicKey}
		}
	}
	p.server.SetClient(client)
}

// TestServerPagesRehearse runs each page's commands for trying it without the server.
func TestServerPagesRehearse(t *testing.T) {
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("jq is missing: apt-get install jq")
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for server, page := range serverPages(t) {
		t.Run(server, func(t *testing.T) {
			shells := blocks(page, "sh")
			cmd := exec.CommandContext(t.Context(), "sh", "-ec", "trap 'kill $!' EXIT\n"+shells[len(shells)-1])
			cmd.Dir = t.TempDir()
			execute(t, 0, environment("USER="+me.Username), cmd)
			if text, err := os.ReadFile(filepath.Join(cmd.Dir, "run", "app.token")); err != nil || len(text) == 0 {
				t.Errorf("there is no token: %v", err)
			}
		})
	}
}

// TestServerPagesKeysAreJSONWebKeys checks what init prints for servers that need the public key in this form.
func TestServerPagesKeysAreJSONWebKeys(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	out, _ := run(t, 0, environment(), "init", "okta", "--tenant", "acme.okta.com", "--client-id", "a", "--scope", "b", "--user", me.Username, "--dir", dir, "--file", filepath.Join(dir, "run", "app.token"))
	if !regexp.MustCompile(`(?m)^    \{"kty":"RSA","use":"sig","alg":"RS256","kid":"credagent-app","n":"[\w-]{512}","e":"AQAB"\}$`).MatchString(out) {
		t.Errorf("init prints no JSON Web Key:\n%s", out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "okta.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if block, rest := pem.Decode(text); block == nil || len(rest) != 0 {
		t.Error("the certificate is no PEM")
	}
}
