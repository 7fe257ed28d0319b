// Package provider is the agent's side of the credential providers: it finds, checks, starts, supervises and calls
// them, and it is the only bridge to go-plugin.
//
// A program that embeds the agent and authenticates its requests itself needs of it only the values:
// its own [Provider] takes a [Request] and returns a [Reply], or a [*Failure] where there is none.
//
// The clients that use the same provider at the same authorization server share a process; at different servers they
// never do. A crash, a hang or an invalid reply affects only the clients whose calls were under way, and each of them
// gets its own process for a while. A process starts on demand and ends after a while unused. Every reply of a
// provider is checked here as untrusted input.
package provider

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// Provider authenticates and sends one client's token requests. It never retries.
type Provider interface {
	Exchange(ctx context.Context, r Request) (Reply, error)
	// Check validates the configuration and, if load, the credential, without a request.
	Check(ctx context.Context, load bool) (Credential, []Problem, error)
	// Close ends what was started for it. It may be called again.
	Close()
}

// Spec names the provider that authenticates a client, and its configuration.
type Spec struct {
	Client   string // the client's name, for messages
	Provider string
	Config   json.RawMessage

	// What is known about the server before the first request: clients with equal values can share a process from the
	// start.
	TokenEndpoint string // "" while unknown
	Issuer        string // whose metadata will name the token endpoint; "" for none
}

// Options configure a [Host].
type Options struct {
	Dirs        []string          // where executables named credagent-provider-NAME are
	SHA256      map[string]string // provider → lower-case hex digest its executable must have
	IdleTimeout time.Duration     // how long a process may be unused
	// MaxProcesses is the maximum number of processes before idle ones end; zero for [DefaultMaxProcesses].
	MaxProcesses int
	Builtin      []string // served by this executable, started as `provider NAME`; it then is a [process.Guard] too
	Log          *slog.Logger
	Started      func(provider string, err error) // called after every start; may be nil

	limits  limits // zero for defaultLimits
	sockets string // where the directories of sockets are created; "" chooses one
}

// DefaultMaxProcesses is the default of MaxProcesses.
const DefaultMaxProcesses = 16

// Request is one token request, without the client's authentication.
type Request struct {
	TokenEndpoint        string
	MTLSTokenEndpoint    string // RFC 8705, 5; "" if there is none
	Issuer               string
	AuthMethodsSupported []string
	ClientID             string
	Form                 url.Values
	Grant                *Grant // what the provider adds to the form for the grant; nil for client_credentials
	Header               http.Header
	TrustRoots           []byte // PEM
	Proxy                string
	Timeout              time.Duration
}

// Grant is a provider's part in a token request of another grant than client_credentials: what it adds to
// the form beside the client's authentication. Exactly one field is set.
type Grant struct {
	Assertion    *Assertion    // grant_type urn:ietf:params:oauth:grant-type:jwt-bearer: the parameter assertion
	SubjectToken *SubjectToken // grant_type urn:ietf:params:oauth:grant-type:token-exchange: the parameter subject_token
}

// SubjectToken is the token that the provider exchanges (RFC 8693, 2.1). Where it comes from is in its configuration.
type SubjectToken struct {
	Type string // subject_token_type
}

// Assertion is the assertion that the provider signs as the grant (RFC 7523, 2.1).
type Assertion struct {
	Subject string          // the sub claim; "" for none
	Claims  json.RawMessage // more claims, a JSON object; nil for none
	Scopes  []string        // what the form's scope holds
}

// Reply is the server's answer, unparsed.
type Reply struct {
	Status     int
	Header     http.Header // Retry-After, Date, Content-Type and correlation ids
	Body       []byte      // at most 1 MiB
	BodyError  string      // why the body is incomplete; "" if it is complete
	TimedOut   bool        // the time limit was exceeded while the body was read
	Credential Credential
}

// Credential describes a client's credential, without anything secret.
type Credential struct {
	Files     []string  // absolute paths
	NotBefore time.Time // zero if unknown
	NotAfter  time.Time // zero if it does not expire or that is unknown
	Identity  string
	Serial    string // of its certificate, in hexadecimal; "" where there is none
}

// Kind is the reason why there is no answer.
type Kind int

// The kinds of failure.
const (
	KindProvider    Kind = iota // the provider's process did not start, crashed, hung or sent an invalid reply
	KindConfig                  // the provider's configuration is invalid; nothing was sent
	KindCredential              // the credential could not be loaded; nothing was sent
	KindNetwork                 // no answer came
	KindTimeout                 // no answer arrived in time
	KindRefused                 // the server ended the handshake because of the client's certificate
	KindUnavailable             // what hands the credential out did not, for now; nothing was sent
)

// Failure is the error of every call on a [Process].
type Failure struct {
	Kind       Kind
	Message    string
	Credential Credential // what is known about the credential anyway

	// Of what hands the credential out, with [KindUnavailable]: its answer, in which a wait may be asked for.
	Status int // 0 where there was no answer
	Header http.Header
}

// Error implements error.
func (f *Failure) Error() string { return f.Message }

// Sent reports whether the request may have reached the server.
func (f *Failure) Sent() bool {
	return f.Kind != KindConfig && f.Kind != KindCredential && f.Kind != KindUnavailable
}

// Problem is a mistake in a provider's configuration.
type Problem struct {
	Key     string // "" if it concerns the whole
	Message string
}

// Host finds providers and starts them.
type Host struct {
	options Options
	finder  finder
	pool    *pool
}

// New returns a host. It starts nothing.
func New(options Options) *Host {
	if options.limits == (limits{}) {
		options.limits = defaultLimits()
	}
	options.MaxProcesses = cmp.Or(options.MaxProcesses, DefaultMaxProcesses)
	h := &Host{options: options, finder: finder{dirs: options.Dirs, sha256: options.SHA256, builtin: options.Builtin}, pool: newPool(options)}
	h.pool.start = h.started
	return h
}

// Process returns the handle for a client's credential. It starts nothing yet.
func (h *Host) Process(spec Spec) *Process {
	return &Process{spec: spec, host: h, variables: settings(spec.Config), place: h.pool.place(spec)}
}

// settings returns the process-wide part of a configuration: the variables that the process gets, and those that its
// provider sets itself from the key "environment", for a library's settings.
func settings(config json.RawMessage) string {
	var keys struct {
		Environment json.RawMessage `json:"environment"`
	}
	_ = json.Unmarshal(config, &keys) // what is no object has none; the provider says what is wrong with it
	return strings.Join(Needed(config), " ") + " " + string(keys.Environment)
}

// started starts a process, and reports it.
func (h *Host) started(ctx context.Context, k key, spec Spec) (*running, error) {
	log := h.options.Log.With("provider", k.provider)
	if k.own != nil {
		log = log.With("client", spec.Client)
	}
	r, err := h.start(ctx, spec, log)
	if h.options.Started != nil {
		h.options.Started(spec.Provider, err)
	}
	return r, err
}

// Info describes a provider that could be started.
type Info struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Path    string `json:"path"`
	Builtin bool   `json:"builtin"`
	Pinned  bool   `json:"pinned"`
	Error   string `json:"error,omitempty"` // why it cannot be used
}

// List describes every provider found, with its version.
func (h *Host) List(ctx context.Context) []Info {
	var all []Info
	for _, name := range h.finder.names() {
		path, err := h.finder.locate(name)
		if slices.Contains(h.finder.builtin, name) {
			path, err = os.Executable()
		}
		_, pinned := h.options.SHA256[name]
		info := Info{Name: name, Path: path, Builtin: slices.Contains(h.finder.builtin, name), Pinned: pinned}
		if err == nil {
			info.Version, err = h.version(ctx, name)
		}
		if err != nil {
			info.Error = err.Error()
		}
		all = append(all, info)
	}
	return all
}

func (h *Host) version(ctx context.Context, name string) (string, error) {
	p := h.Process(Spec{Client: "-", Provider: name, Config: json.RawMessage("{}")})
	defer p.Close()
	reply, err := p.check(ctx, false)
	if err != nil {
		return "", fmt.Errorf("asking for its version: %w", err)
	}
	return reply.version, nil
}
