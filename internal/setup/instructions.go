package setup

import (
	"embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed steps/*.txt
var texts embed.FS

// facts are the data of a plan for the text templates.
type facts struct {
	ClientID, Tenant, Issuer, Scope, Audience   string
	Credential, Certificate, Secret, Assertion  string
	Token, File, Config, KeyID, PublicKey, User string
	Reader, Dir, Mount, Server, Exchange        string
	SecretName                                  string
	Lines                                       []string // of the configuration
	Kubernetes                                  bool
}

func (p Plan) facts() facts {
	a := p.answers
	f := facts{
		ClientID: a.ClientID, Tenant: a.Tenant, Issuer: a.Issuer, Scope: a.Scope, Audience: a.Audience,
		Credential: a.Credential, Certificate: p.certificateFile(), Secret: p.secretFile(), Assertion: p.assertionFile(),
		Token: p.token(), File: a.File, Config: p.ConfigFile(), KeyID: p.keyID, User: a.User, Reader: a.Reader,
		SecretName: filepath.Base(p.secretFile()), Dir: a.Dir, Mount: podMount(a.File), Server: p.server.Name,
		Lines: strings.Split(strings.TrimSuffix(p.config, "\n"), "\n"), Kubernetes: a.Kubernetes,
	}
	f.Exchange = a.Issuer
	if p.server.Name == "entra" {
		f.Exchange = "api://AzureADTokenExchange" // what Entra requires in a federated credential's assertion
	}
	if from, err := p.server.origin(a); err == nil && from.issuer != "" {
		f.Issuer = from.issuer
	}
	f.PublicKey = "the JSON Web Key that init prints once there is a certificate"
	if a.Kubernetes { // where the certificate is before it is in the cluster
		f.Certificate = filepath.Base(f.Certificate)
		f.PublicKey = "the public key of " + f.Certificate + " as a JSON Web Key, with the kid " + p.keyID
	}
	if p.keyID == "" || a.Kubernetes {
		return f
	}
	if text, err := os.ReadFile(p.certificateFile()); err == nil {
		if key, err := publicKey(text, p.keyID); err == nil {
			f.PublicKey = key
		}
	}
	return f
}

// Steps returns the steps to take at the server.
func (p Plan) Steps() (string, error) { return p.render(p.server.Name + ".txt") }

// Manifests returns the plan as Kubernetes manifests.
func (p Plan) Manifests() (string, error) { return p.render("kubernetes.txt") }

func (p Plan) render(name string) (string, error) {
	parsed, err := template.ParseFS(texts, "steps/"+name)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	if err := parsed.Execute(&text, p.facts()); err != nil {
		return "", err
	}
	return text.String(), nil
}

// Show prints what a plan would create, and creates nothing.
func (p Plan) Show(out io.Writer) error {
	for _, d := range p.directories() {
		fmt.Fprintf(out, "# directory %s, mode %#o, of %s\n", d.path, d.mode, p.owner(d.mine))
	}
	switch p.answers.Credential {
	case Certificate:
		fmt.Fprintf(out, "# file %s, mode 0600, of %s: a new key\n# file %s, mode 0644, of root: its certificate\n", p.keyFile(), p.owner(true), p.certificateFile())
	case Secret:
		fmt.Fprintf(out, "# file %s, mode 0600, of %s: the secret\n", p.secretFile(), p.owner(true))
	}
	_, err := fmt.Fprintf(out, "# file %s, mode 0644, of root:\n%s", p.ConfigFile(), p.config)
	return err
}

func (p Plan) owner(mine bool) string {
	if mine {
		return p.answers.User
	}
	return "root"
}

// next returns the three commands to run next. service means that systemd knows the unit.
func (p Plan) next(caller Caller, service bool) []string {
	as := func(user, command string) string {
		if !caller.Root || user == "root" {
			return command
		}
		return "runuser -u " + user + " -- " + command
	}
	reader := p.answers.User
	if p.answers.Reader != "" {
		reader = p.answers.Reader
	}
	cat := as(reader, "cat "+p.answers.File)
	if service && p.answers.Dir == defaultDir && filepath.Dir(p.answers.File) == filepath.Dir(defaultFile) {
		return []string{"systemctl enable --now credagent", "credagent status", cat}
	}
	return []string{
		as(p.answers.User, "credagent validate -c "+p.ConfigFile()+" --probe"),
		as(p.answers.User, "credagent run -c "+p.ConfigFile()) + "  # stays in the foreground: go on in another terminal",
		cat,
	}
}
