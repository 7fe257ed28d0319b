package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/kelseyhightower/envconfig"

	"github.com/credagent/credagent/sink"
)

const (
	// DefaultPath is the configuration file if no other is named.
	DefaultPath = "/etc/credagent/credagent.yaml"

	// pathVariable names the file if no flag does.
	pathVariable = "CREDAGENT_CONFIG"

	variablePrefix = "CREDAGENT_"

	// internalPrefix starts the variables between the agent and a provider's process.
	internalPrefix = "CREDAGENT_PROVIDER_"

	fromEnvironment = "environment"
	onlyName        = "default" // of the environment's one client and one token
)

// environment is what envconfig reads. The names are written out because with a prefix envconfig
// would also take the name without it: FILE, LISTEN. Every field is a string, so that reading
// cannot fail: envconfig's errors show values.
type environment struct {
	TokenURL    string `envconfig:"CREDAGENT_TOKEN_URL"`
	Issuer      string `envconfig:"CREDAGENT_ISSUER"`
	EntraTenant string `envconfig:"CREDAGENT_ENTRA_TENANT"`
	ClientID    string `envconfig:"CREDAGENT_CLIENT_ID"`
	CAFile      string `envconfig:"CREDAGENT_CA_FILE"`

	SecretFile      string `envconfig:"CREDAGENT_CLIENT_SECRET_FILE"`
	CertificateFile string `envconfig:"CREDAGENT_CLIENT_CERTIFICATE_FILE"`
	PrivateKeyFile  string `envconfig:"CREDAGENT_CLIENT_PRIVATE_KEY_FILE"`
	AssertionFile   string `envconfig:"CREDAGENT_ASSERTION_FILE"`

	Scopes       string  `envconfig:"CREDAGENT_SCOPES"`
	Audience     string  `envconfig:"CREDAGENT_AUDIENCE"`
	Resources    string  `envconfig:"CREDAGENT_RESOURCES"`
	RefreshAt    string  `envconfig:"CREDAGENT_REFRESH_AT"`
	Proxy        string  `envconfig:"CREDAGENT_PROXY"`
	Socket       string  `envconfig:"CREDAGENT_SOCKET"`
	File         string  `envconfig:"CREDAGENT_FILE"`
	FileFormat   string  `envconfig:"CREDAGENT_FILE_FORMAT"`
	FileMode     string  `envconfig:"CREDAGENT_FILE_MODE"`
	EnvFile      string  `envconfig:"CREDAGENT_ENV_FILE"`
	EnvVariable  string  `envconfig:"CREDAGENT_ENV_VARIABLE"`
	Listen       *string `envconfig:"CREDAGENT_LISTEN"` // empty is off
	StateDir     string  `envconfig:"CREDAGENT_STATE_DIR"`
	StateKeyFile string  `envconfig:"CREDAGENT_STATE_KEY_FILE"`
	LogLevel     string  `envconfig:"CREDAGENT_LOG_LEVEL"`
	LogFormat    string  `envconfig:"CREDAGENT_LOG_FORMAT"`

	AzureTenant      string   `envconfig:"AZURE_TENANT_ID"`
	AzureClient      string   `envconfig:"AZURE_CLIENT_ID"`
	AzureCertificate string   `envconfig:"AZURE_CLIENT_CERTIFICATE_PATH"`
	AzurePassword    presence `envconfig:"AZURE_CLIENT_CERTIFICATE_PASSWORD"`
	AzureSecret      presence `envconfig:"AZURE_CLIENT_SECRET"`
	AzureTokenFile   string   `envconfig:"AZURE_FEDERATED_TOKEN_FILE"`
	AzureAuthority   string   `envconfig:"AZURE_AUTHORITY_HOST"`
}

// presence records that a variable is set, but not its value: only the credential provider's process may read that.
type presence bool

// Decode implements envconfig's Decoder.
func (p *presence) Decode(value string) error {
	*p = value != ""
	return nil
}

// Find returns the configuration file to read, or that there is none and the environment is the
// configuration. In this order: the flag, CREDAGENT_CONFIG, the environment if it names a client
// and there is no file at [DefaultPath], and the file there.
func Find(flag string, lookup func(string) (string, bool)) (path string, fromEnv bool) {
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	return find(flag, lookup, exists)
}

func find(flag string, lookup func(string) (string, bool), exists func(string) bool) (path string, fromEnv bool) {
	if flag != "" {
		return flag, false
	}
	if named, _ := lookup(pathVariable); named != "" {
		return named, false
	}
	if EnvConfigured(lookup) && !exists(DefaultPath) {
		return "", true
	}
	return DefaultPath, false
}

// EnvConfigured reports whether the environment configures a token, so that no file is needed.
func EnvConfigured(lookup func(string) (string, bool)) bool {
	return slices.ContainsFunc([]string{
		"CREDAGENT_TOKEN_URL", "CREDAGENT_ISSUER", "CREDAGENT_ENTRA_TENANT", "CREDAGENT_CLIENT_ID",
		"AZURE_TENANT_ID", "AZURE_CLIENT_ID",
	}, func(name string) bool {
		value, _ := lookup(name)
		return value != ""
	})
}

// FromEnv reads a configuration with one client and one token, both called default, from the
// process's environment. Problems are returned as an [*Error] that names variables and shows no value.
func FromEnv() (*Config, error) {
	b := envBuilder{report: newReport(fromEnvironment)}
	return b.read()
}

// FromEnvForCommand is [FromEnv] for credagent exec: the token becomes a variable of the command, even without an env
// file.
func FromEnvForCommand() (*Config, error) {
	b := envBuilder{report: newReport(fromEnvironment), forCommand: true}
	return b.read()
}

func (b *envBuilder) read() (*Config, error) {
	b.variables = map[string]string{}
	if err := envconfig.Process("", &b.vars); err != nil {
		b.problem("", "not readable as a configuration") // envconfig's own text shows values
	}
	b.unknown(os.Environ())
	c, err := validate(b.report, b.file()).sound(b.report)
	if err != nil {
		return nil, err
	}
	if b.forCommand && b.vars.EnvFile == "" {
		c.Variables = []Variable{{Name: b.variable(), Token: onlyName}}
	}
	return c, nil
}

// envBuilder fills the raw types from the environment, and records which variable each value came from.
type envBuilder struct {
	*report
	vars       environment
	forCommand bool
}

// text uses the value of a variable at path. Messages show it as ${NAME}.
func (b *envBuilder) text(path, variable, value string) text {
	b.variables[path] = variable
	t := text{value: value, source: "${" + variable + "}", set: value != "", fromEnv: true, inserted: []string{value}}
	if !utf8.ValidString(value) {
		t.invalid = true
		b.problem(path, "not valid UTF-8 text")
	}
	return t
}

// either uses the first variable that is set at path. A message about a missing value names the first candidate.
func (b *envBuilder) either(path string, candidates ...candidate) text {
	for _, c := range candidates {
		if c.value != "" {
			return b.text(path, c.name, c.value)
		}
	}
	return b.text(path, candidates[0].name, "")
}

// candidate is a variable that may provide a value.
type candidate struct{ name, value string }

func (b *envBuilder) file() *rawFile {
	raw := &rawFile{
		Log: &rawLog{
			Level:  b.text("log.level", "CREDAGENT_LOG_LEVEL", b.vars.LogLevel),
			Format: b.text("log.format", "CREDAGENT_LOG_FORMAT", b.vars.LogFormat),
		},
		State:   b.state(),
		Socket:  b.socket(),
		Clients: map[string]rawClient{onlyName: b.client()},
		Tokens:  map[string]rawToken{onlyName: b.token()},
		Sinks:   b.sinks(),
	}
	if b.vars.Listen != nil {
		raw.Listen = b.text("listen", "CREDAGENT_LISTEN", *b.vars.Listen)
		raw.Listen.set = true
	}
	return raw
}

func (b *envBuilder) state() *rawState {
	if b.vars.StateDir == "" {
		b.alone("CREDAGENT_STATE_KEY_FILE", b.vars.StateKeyFile, "CREDAGENT_STATE_DIR")
		return nil
	}
	b.variables["state"] = "CREDAGENT_STATE_DIR"
	return &rawState{
		Dir:     b.text("state.dir", "CREDAGENT_STATE_DIR", b.vars.StateDir),
		KeyFile: b.text("state.key_file", "CREDAGENT_STATE_KEY_FILE", b.vars.StateKeyFile),
	}
}

func (b *envBuilder) socket() *rawSocket {
	if b.vars.Socket == "" {
		return nil
	}
	b.variables["socket"] = "CREDAGENT_SOCKET"
	return &rawSocket{Path: b.text("socket.path", "CREDAGENT_SOCKET", b.vars.Socket)}
}

func (b *envBuilder) client() rawClient {
	const path = "clients." + onlyName
	c := rawClient{
		TokenURL:   b.text(join(path, "token_url"), "CREDAGENT_TOKEN_URL", b.vars.TokenURL),
		Issuer:     b.text(join(path, "issuer"), "CREDAGENT_ISSUER", b.vars.Issuer),
		CAFile:     b.text(join(path, "ca_file"), "CREDAGENT_CA_FILE", b.vars.CAFile),
		Proxy:      b.text(join(path, "proxy"), "CREDAGENT_PROXY", b.vars.Proxy),
		Credential: b.credential(join(path, "credential")),
		ClientID: b.either(join(path, "client_id"),
			candidate{"CREDAGENT_CLIENT_ID", b.vars.ClientID}, candidate{"AZURE_CLIENT_ID", b.vars.AzureClient}),
	}
	c.Entra = b.entra(join(path, "entra"), !c.TokenURL.set && !c.Issuer.set)
	b.silenced[join(path, "token_url")] = true // the file's rule; here the message names variables
	own := count(b.vars.TokenURL, b.vars.Issuer, b.vars.EntraTenant)
	switch {
	case own > 1:
		b.add("", "", "want exactly one of CREDAGENT_TOKEN_URL, CREDAGENT_ISSUER and CREDAGENT_ENTRA_TENANT")
	case own == 0 && c.Entra == nil:
		b.add("CREDAGENT_TOKEN_URL", "it, CREDAGENT_ISSUER or CREDAGENT_ENTRA_TENANT says where tokens come from", "not set")
	}
	return c
}

func count(values ...string) int {
	n := 0
	for _, v := range values {
		if v != "" {
			n++
		}
	}
	return n
}

// entra returns the tenant; the Azure SDKs' variables are used only if credagent's own name no server.
func (b *envBuilder) entra(path string, fallback bool) *rawEntra {
	tenant := candidate{"CREDAGENT_ENTRA_TENANT", b.vars.EntraTenant}
	if tenant.value == "" && fallback {
		tenant = candidate{"AZURE_TENANT_ID", b.vars.AzureTenant}
	}
	if tenant.value == "" {
		return nil
	}
	e := &rawEntra{Tenant: b.text(join(path, "tenant"), tenant.name, tenant.value)}
	if host := b.vars.AzureAuthority; host != "" {
		if !strings.Contains(host, "://") {
			host = "https://" + host
		}
		e.Authority = b.text(join(path, "authority"), "AZURE_AUTHORITY_HOST", host)
	}
	return e
}

// credential returns the credential from credagent's own variables, or else the one that an Azure SDK would choose.
func (b *envBuilder) credential(path string) *rawCredential {
	v := &b.vars
	if v.CertificateFile == "" {
		b.alone("CREDAGENT_CLIENT_PRIVATE_KEY_FILE", v.PrivateKeyFile, "CREDAGENT_CLIENT_CERTIFICATE_FILE")
	}
	if count(v.SecretFile, v.CertificateFile, v.AssertionFile) > 1 {
		b.add("", "", "want exactly one of CREDAGENT_CLIENT_SECRET_FILE, CREDAGENT_CLIENT_CERTIFICATE_FILE and CREDAGENT_ASSERTION_FILE")
	}
	switch {
	case v.SecretFile != "":
		return b.provider(path, "secretcred", setting{"secret_file", "CREDAGENT_CLIENT_SECRET_FILE", v.SecretFile})
	case v.CertificateFile != "":
		return b.provider(path, "certcred", setting{"certificate_file", "CREDAGENT_CLIENT_CERTIFICATE_FILE", v.CertificateFile},
			setting{"private_key_file", "CREDAGENT_CLIENT_PRIVATE_KEY_FILE", v.PrivateKeyFile})
	case v.AssertionFile != "":
		return b.provider(path, "jwtcred", setting{"assertion_file", "CREDAGENT_ASSERTION_FILE", v.AssertionFile})
	}
	return b.azureCredential(path)
}

func (b *envBuilder) azureCredential(path string) *rawCredential {
	v := &b.vars
	switch {
	case bool(v.AzureSecret):
		return b.provider(path, "secretcred", setting{"secret_env", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_SECRET"})
	case v.AzureCertificate != "":
		settings := []setting{{"certificate_file", "AZURE_CLIENT_CERTIFICATE_PATH", v.AzureCertificate}}
		if v.AzurePassword {
			settings = append(settings, setting{"password_env", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_CLIENT_CERTIFICATE_PASSWORD"})
		}
		return b.provider(path, "certcred", settings...)
	case v.AzureTokenFile != "":
		return b.provider(path, "jwtcred", setting{"assertion_file", "AZURE_FEDERATED_TOKEN_FILE", v.AzureTokenFile})
	}
	b.silenced[path] = true
	b.add("CREDAGENT_CLIENT_SECRET_FILE", "it, CREDAGENT_CLIENT_CERTIFICATE_FILE or CREDAGENT_ASSERTION_FILE says where the credential is", "not set")
	return nil
}

// setting is a key of a provider's configuration and the variable with its value.
type setting struct{ key, variable, value string }

func (b *envBuilder) provider(path, name string, settings ...setting) *rawCredential {
	b.variables[path] = settings[0].variable
	config := map[string]any{}
	for _, s := range settings {
		if t := b.text(join(join(path, "config"), s.key), s.variable, s.value); t.ok() {
			config[s.key] = t.value
		}
	}
	return &rawCredential{Provider: literal(name), Config: object{values: config}}
}

// literal is a value implied by the environment-only form.
func literal(s string) text { return text{value: s, source: s, set: true} }

func (b *envBuilder) token() rawToken {
	const path = "tokens." + onlyName
	return rawToken{
		Client:    literal(onlyName),
		Scopes:    b.list(join(path, "scopes"), "CREDAGENT_SCOPES", b.vars.Scopes),
		Audience:  b.text(join(path, "audience"), "CREDAGENT_AUDIENCE", b.vars.Audience),
		Resources: b.list(join(path, "resources"), "CREDAGENT_RESOURCES", b.vars.Resources),
		RefreshAt: percent{b.text(join(path, "refresh_at"), "CREDAGENT_REFRESH_AT", b.vars.RefreshAt)},
	}
}

// list splits a variable at spaces and commas.
func (b *envBuilder) list(path, variable, value string) []text {
	separator := func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' }
	b.variables[path] = variable
	var all []text
	for i, part := range strings.FieldsFunc(value, separator) {
		all = append(all, b.text(index(path, i), variable, part))
	}
	return all
}

func (b *envBuilder) sinks() []rawSink {
	var sinks []rawSink
	if b.vars.File != "" {
		sinks = append(sinks, b.fileSink(index("sinks", len(sinks))))
	} else {
		b.alone("CREDAGENT_FILE_FORMAT", b.vars.FileFormat, "CREDAGENT_FILE")
		b.alone("CREDAGENT_FILE_MODE", b.vars.FileMode, "CREDAGENT_FILE")
	}
	switch {
	case b.vars.EnvFile != "":
		sinks = append(sinks, b.envSink(index("sinks", len(sinks))))
	case b.forCommand:
		b.checkVariable("variables")
	default:
		b.alone("CREDAGENT_ENV_VARIABLE", b.vars.EnvVariable, "CREDAGENT_ENV_FILE")
	}
	return sinks
}

// variable returns the name of the variable for the token.
func (b *envBuilder) variable() string {
	if b.vars.EnvVariable == "" {
		return "ACCESS_TOKEN"
	}
	return b.vars.EnvVariable
}

// checkVariable reports, at path, an invalid variable name.
func (b *envBuilder) checkVariable(path string) bool {
	b.variables[path] = "CREDAGENT_ENV_VARIABLE"
	_, err := sink.Env([]sink.Variable{{Name: b.variable(), Token: onlyName}})
	if err != nil {
		b.problem(path, "not the name of a variable that a shell can set")
	}
	return err == nil
}

func (b *envBuilder) fileSink(path string) rawSink {
	s := rawSink{
		Type:   literal(string(SinkFile)),
		Path:   b.text(join(path, "path"), "CREDAGENT_FILE", b.vars.File),
		Token:  literal(onlyName),
		Format: b.text(join(path, "format"), "CREDAGENT_FILE_FORMAT", b.vars.FileFormat),
		Mode:   mode{b.text(join(path, "mode"), "CREDAGENT_FILE_MODE", b.vars.FileMode)},
	}
	if s.Format.value == string(sink.FormatTemplate) {
		s.Format.invalid = true
		b.problem(join(path, "format"), "a template needs a configuration file")
	}
	return s
}

func (b *envBuilder) envSink(path string) rawSink {
	s := rawSink{
		Type: literal(string(SinkEnv)),
		Path: b.text(join(path, "path"), "CREDAGENT_ENV_FILE", b.vars.EnvFile),
	}
	if b.checkVariable(join(path, "variables")) {
		s.Variables = map[string]text{b.variable(): literal(onlyName)}
	}
	return s
}

// alone reports a variable that has no effect without another.
func (b *envBuilder) alone(name, value, other string) {
	if value != "" {
		b.add(name, "", "has no effect without "+other)
	}
}

// unknown reports variables with credagent's prefix that it does not know.
func (b *envBuilder) unknown(environ []string) {
	known := knownVariables()
	for _, pair := range slices.Sorted(slices.Values(environ)) {
		name, _, _ := strings.Cut(pair, "=")
		mine := strings.HasPrefix(name, variablePrefix) && !strings.HasPrefix(name, internalPrefix)
		if mine && !slices.Contains(known, name) && !serviceLink().MatchString(pair) {
			b.add(clip(name), didYouMean(name, known), "unknown variable")
		}
	}
}

// serviceLink matches the variables that Kubernetes sets in every container of a namespace for a Service named
// credagent, and nothing else: the value is a URL or an IP address.
var serviceLink = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^CREDAGENT_(SERVICE_HOST=[0-9A-Fa-f.:]+|SERVICE_PORT(_[A-Z0-9_]+)?=[0-9]+|` +
		`PORT=(tcp|udp|sctp)://\S+|PORT_[0-9]+_(TCP|UDP|SCTP)(=(tcp|udp|sctp)://\S+|_PROTO=(tcp|udp|sctp)|_PORT=[0-9]+|_ADDR=[0-9A-Fa-f.:]+))$`)
})

func knownVariables() []string {
	known := []string{pathVariable}
	t := reflect.TypeFor[environment]()
	for i := range t.NumField() {
		known = append(known, t.Field(i).Tag.Get("envconfig"))
	}
	return known
}
