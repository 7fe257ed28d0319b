// Package config turns the configuration file or the environment into plain, validated values.
//
// A program with a file begins with [Load], and passes the [Config] to package agent. A program without one fills in
// a [Client], a [Token] or a [Sink], which agent.SetClient and similar functions check by the same rules;
// [CompleteClient], [CompleteToken] and [CompleteSink] perform only these checks.
//
// It reads no credential and does not use the network. Every problem is reported at once, each with
// file, line and column; what it returns without an error is complete and consistent, so the
// packages after it check nothing again.
package config

import (
	"encoding/json"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/credagent/credagent/sink"
)

// Config is a whole validated configuration.
type Config struct {
	Source string // the file's path, or "environment"

	Log      Log
	Watch    bool   // reload when the file changes
	Listen   string // host:port for probes, metrics and status; "" is off
	Socket   *Socket
	Identity *IdentityEndpoint
	Sidecar  *AuthSidecar
	Signals  []Stream // sorted by name
	State    *State
	Plugins  Plugins
	Clients  []Client // sorted by name
	Tokens   []Token  // sorted by name
	Sinks    []Sink   // in the order of the file

	// Variables are only for the command of credagent exec; those of env sinks are not repeated.
	Variables []Variable

	// Warnings are not errors, but should be reviewed.
	Warnings []Problem

	positions map[string]Position
	variables map[string]string // path → variable, when the environment is the source
	expanded  []string
}

// Expanded returns the values that environment variables gave to keys that may hold a secret:
// proxies, parameters, claims and credentials. Untrusted text may quote them, so it is shown with these redacted.
// Variables for mere names, such as a tenant or a scope, are left out: a server's refusal would be useless without
// them.
func (c *Config) Expanded() []string { return slices.Clone(c.expanded) }

// Log describes how to log.
type Log struct {
	Level slog.Level
	JSON  bool
}

// Socket is the local token API's unix socket.
type Socket struct {
	Path  string
	Mode  fs.FileMode
	Group string
}

// IdentityEndpoint is the managed-identity protocol for Azure SDKs.
type IdentityEndpoint struct {
	Listen     string            // a loopback host:port
	HeaderFile string            // where the shared header value is written
	TokenFor   map[string]string // resource → token name
}

// AuthSidecar is the protocol of Microsoft's Entra auth sidecar, for its agent SDKs.
type AuthSidecar struct {
	Listen   string            // a loopback host:port
	TokenFor map[string]string // API name → token name
}

// State is the encrypted token cache.
type State struct {
	Dir     string // "" with Secret
	Secret  string // name of a Secret in the pod's own namespace; "" with Dir
	KeyFile string
}

// Plugins configures where external credential providers are and which ones may run.
type Plugins struct {
	Dirs        []string
	SHA256      map[string]string // provider name → lower-case hex digest
	IdleTimeout time.Duration
	// MaxProcesses is the maximum number of provider processes before idle ones end.
	MaxProcesses int
}

// Client is a registered client_id at one authorization server. Exactly one of Entra, Issuer
// and TokenURL is set.
type Client struct {
	Name     string
	Entra    *Entra
	Issuer   string
	TokenURL string

	ClientID          string
	CAFile            string        // extra trust roots, PEM; "" for none
	Proxy             string        // "" for the standard environment variables
	RequestTimeout    time.Duration // for one token request
	AllowInsecureHTTP bool          // allow plain http to a host that is not loopback

	Credential         Credential
	FallbackCredential *Credential
}

// Entra names a Microsoft Entra ID tenant.
type Entra struct {
	Tenant    string
	Authority string // https://host, no path
}

// Credential is the provider that authenticates a client, with the provider's own configuration.
type Credential struct {
	Provider string
	Config   json.RawMessage // a JSON object; the provider validates its keys
	Path     string          // the credential's path in the configuration, for messages
}

// Grant is the grant that a token is asked for by.
type Grant string

// The grants.
const (
	GrantClientCredentials Grant = "client_credentials" // RFC 6749, 4.4
	GrantJWTBearer         Grant = "jwt_bearer"         // RFC 7523, 2.1: an assertion that the provider signs
	GrantTokenExchange     Grant = "token_exchange"     // RFC 8693, 2.1: another token, which the provider gets
)

// Token is a named access token to keep fresh.
type Token struct {
	Name            string
	Client          string
	Grant           Grant           // "" for [GrantClientCredentials]
	Subject         string          // with GrantJWTBearer: whom the token is for; "" for nobody but the client
	AssertionClaims json.RawMessage // with GrantJWTBearer: more claims of the assertion, a JSON object; nil for none
	// SubjectTokenType and RequestedTokenType are URIs, with GrantTokenExchange. The latter is "" for what the
	// server gives by itself.
	SubjectTokenType   string
	RequestedTokenType string
	Scopes             []string
	Audience           string
	Resources          []string
	Params             map[string]string
	Claims             string // a JSON object, or ""
	CAE                bool
	DefaultLifetime    time.Duration // of a token whose server names no life
	RefreshAt          float64       // share of the life, 0 < share < 1
	Allow              []Principal
}

// Principal is a local user or group, by name or number.
type Principal = sink.Principal

// SinkType is the kind of a sink.
type SinkType string

// The sink types.
const (
	SinkFile             SinkType = "file"
	SinkEnv              SinkType = "env"
	SinkKubernetesSecret SinkType = "kubernetes_secret"
)

// Sink is a file that workloads read, or a Secret of a Kubernetes cluster.
type Sink struct {
	Type      SinkType
	Path      string      // absolute, clean; of a Secret namespace/name
	Token     string      // file sinks but for templates
	Format    sink.Format // file sinks
	Template  string      // with [sink.FormatTemplate]
	Variables []Variable  // env sinks, sorted by name
	Mode      fs.FileMode // exact
	Owner     string      // name or number; "" leaves it
	Group     string
	Readers   []Principal
	OnChange  []Action
	Secret    *Secret // nil for a file
	Place     string  // the sink's path in the configuration, for messages
}

// Secret is a Secret of a Kubernetes cluster.
type Secret struct {
	Namespace string // "" for the pod's own, outside of a pod
	Name      string
	Type      string
	Labels    map[string]string
	Values    []SecretValue // sorted by key
}

// SecretValue is one key of a Secret: a token, or a template of any number of them.
type SecretValue struct {
	Key      string
	Token    string
	Field    string // "" for the access token itself; else a field of the token's JSON form, or a format but raw and template
	Template string // instead of Token and Field
}

// Variable is one line of an env sink.
type Variable = sink.Variable

// Action is what happens after a sink's content changed. Exactly one field is set.
type Action struct {
	Signal  *Signal
	Command *Command
}

// Signal is sent to the process whose id is in a file.
type Signal struct {
	PIDFile string
	Signal  string
}

// Command is run without a shell.
type Command struct {
	Run     []string
	Timeout time.Duration
}

// Position is a place in the configuration file, counted from 1. The zero value means the
// configuration did not come from a file.
type Position struct {
	Line   int
	Column int
}
