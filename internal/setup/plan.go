package setup

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/credagent/credagent/agent/config"
)

// Plan is what init creates, and the instructions that it prints.
type Plan struct {
	server  Server
	answers Answers

	config string // the configuration's text
	keyID  string // the id of its key; "" for none
}

// Make works out a plan, or returns everything that is wrong with the answers.
func Make(a Answers, caller Caller) (Plan, error) {
	if a.Server == "" {
		return Plan{}, fmt.Errorf("which server? give one of %s", strings.Join(Names(), ", "))
	}
	s, err := Find(a.Server)
	if err != nil {
		return Plan{}, err
	}
	a = a.complete(s, caller)
	if wrong := a.check(s); len(wrong) > 0 {
		slices.SortFunc(wrong, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
		return Plan{}, errors.Join(wrong...)
	}
	if a.Kubernetes {
		a = a.inPod()
	}
	p := Plan{server: s, answers: a}
	if s.keyID && a.Credential == Certificate {
		p.keyID = "credagent-" + p.token()
	}
	if p.config, err = p.configuration(); err != nil {
		return Plan{}, err
	}
	if _, err := config.Parse(p.ConfigFile(), []byte(p.config), nothing); err != nil {
		return Plan{}, err
	}
	return p, nil
}

func nothing(string) (string, bool) { return "", false }

// ConfigFile returns the path of the configuration.
func (p Plan) ConfigFile() string {
	if p.answers.Kubernetes {
		return filepath.Join(defaultDir, "credagent.yaml")
	}
	return filepath.Join(p.answers.Dir, "credagent.yaml")
}

func (p Plan) certificateFile() string { return filepath.Join(p.answers.Dir, p.server.Name+".pem") }
func (p Plan) keyFile() string         { return filepath.Join(p.answers.Dir, p.server.Name+".key") }
func (p Plan) assertionFile() string   { return filepath.Join(p.answers.Dir, p.server.Name+".assertion") }

// WantsKeyFile reports whether the secret is a file of several lines, which cannot be pasted.
func (p Plan) WantsKeyFile() bool { return p.server.keyFile }

// secretFile is the file with the secret, or the key file of a service account.
func (p Plan) secretFile() string {
	if p.server.keyFile {
		return filepath.Join(p.answers.Dir, p.server.Name+".json")
	}
	return filepath.Join(p.answers.Dir, p.server.Name+".secret")
}

// reads returns the files that the agent's user has to be able to read.
func (p Plan) reads() []string {
	var files []string
	switch p.answers.Credential {
	case Certificate:
		files = []string{p.certificateFile(), p.keyFile()}
	case Secret:
		files = []string{p.secretFile()}
	}
	if p.answers.CAFile != "" {
		files = append(files, p.answers.CAFile)
	}
	return files
}

var unfit = regexp.MustCompile(`[^a-z0-9_-]+`)

// token returns the token's name, which is that of its file.
func (p Plan) token() string {
	base := filepath.Base(p.answers.File)
	name := unfit.ReplaceAllString(strings.ToLower(strings.TrimSuffix(base, filepath.Ext(base))), "-")
	return cmp.Or(strings.Trim(name, "-_"), "app")
}

// directory is a directory that a plan needs.
type directory struct {
	path string
	mine bool // it belongs to the service
	mode fs.FileMode
}

func (p Plan) directories() []directory {
	return []directory{{p.answers.Dir, false, 0o755}, {filepath.Dir(p.answers.File), true, 0o755}}
}

// configuration returns the text of the configuration.
func (p Plan) configuration() (string, error) {
	a, s := p.answers, p.server
	from, err := s.origin(a)
	if err != nil {
		return "", err
	}
	var t strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&t, format+"\n", args...) }
	line("# Made by credagent init. Every key: man 5 credagent.yaml, or docs/configuration.md.")
	line("# Check it with: credagent validate -c %s", p.ConfigFile())
	if !a.Kubernetes {
		line("# The socket of credagent token, refresh and challenge, in a directory of the agent's user:")
		line("# socket: { path: /run/credagent/credagent.sock }")
		line("")
	} else {
		line("listen: \":9465\" # every address, for the kubelet and Prometheus: never a token is served here")
		line("")
	}
	line("clients:")
	line("  %s:", s.Name)
	line("    %s", from.yaml())
	line("    client_id: %s", quoted(a.ClientID))
	if a.CAFile != "" {
		line("    ca_file: %s", quoted(a.CAFile))
	}
	line("    credential:")
	for _, l := range p.credential(from) {
		line("      %s", l)
	}
	line("")
	line("tokens:")
	line("  %s:", p.token())
	line("    client: %s", s.Name)
	if s.lifetime != "" {
		line("    # %s", s.comment)
		line("    default_lifetime: %s", s.lifetime)
	}
	if s.keyFile {
		line("    grant: jwt_bearer")
	}
	for _, l := range p.asks() {
		line("    %s", l)
	}
	line("")
	line("# The file that the application reads. It is replaced atomically: open it again for each use.")
	line("sinks:")
	line("  - type: file")
	line("    token: %s", p.token())
	line("    path: %s", quoted(a.File))
	switch {
	case a.Kubernetes:
		line("    mode: \"0640\" # the application is in the pod's fsGroup")
	case a.Reader != "":
		line("    readers: [{ user: %s }]", quoted(a.Reader))
	}
	return t.String(), nil
}

func (o origin) yaml() string {
	switch {
	case o.tenant != "" && o.authority != "":
		return fmt.Sprintf("entra: { tenant: %s, authority: %s }", quoted(o.tenant), quoted(o.authority))
	case o.tenant != "":
		return fmt.Sprintf("entra: { tenant: %s }", quoted(o.tenant))
	case o.tokenURL != "":
		return "token_url: " + quoted(o.tokenURL)
	}
	return "issuer: " + quoted(o.issuer)
}

// credential returns the lines of the credential.
func (p Plan) credential(from origin) []string {
	switch {
	case p.server.keyFile:
		return []string{"provider: certcred", "config:", "  google_key_file: " + quoted(p.secretFile()) + " # signs an assertion, which is the grant"}
	case p.answers.Credential == Secret:
		return []string{"provider: secretcred", "config:", "  secret_file: " + quoted(p.secretFile())}
	case p.answers.Credential == Assertion:
		return []string{"provider: jwtcred", "config:", "  # Read afresh for every request; whoever makes it replaces it in time.", "  assertion_file: " + quoted(p.assertionFile())}
	}
	lines := []string{"provider: certcred", "config:", "  certificate_file: " + quoted(p.certificateFile()), "  private_key_file: " + quoted(p.keyFile())}
	for _, key := range p.server.signing {
		lines = append(lines, "  "+strings.Replace(key, "ISSUER", quoted(from.issuer), 1))
	}
	if p.keyID != "" {
		lines = append(lines, "  key_id: "+p.keyID+" # as it stands in the public key that is registered")
	}
	return lines
}

// asks returns the lines with the token's scopes, audience and resources.
func (p Plan) asks() []string {
	var lines []string
	if p.answers.Scope != "" {
		var scopes []string
		for _, scope := range strings.Fields(p.answers.Scope) {
			scopes = append(scopes, quoted(scope))
		}
		lines = append(lines, "scopes: ["+strings.Join(scopes, ", ")+"]")
	}
	switch {
	case p.answers.Audience == "":
	case p.server.asResource:
		lines = append(lines, "resources: ["+quoted(p.answers.Audience)+"]")
	default:
		lines = append(lines, "audience: "+quoted(p.answers.Audience))
	}
	return lines
}

var plain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./@:-]*[A-Za-z0-9_/]$`)

// quoted returns text as a YAML value, with dollar signs escaped, since they begin a variable.
func quoted(text string) string {
	text = strings.ReplaceAll(text, "$", "$$")
	if plain.MatchString(text) && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off"}, strings.ToLower(text)) {
		return text
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}
