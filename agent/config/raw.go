package config

// The raw types are the configuration as written: the decoder fills them by their json
// tags, the schema is derived from them, and the environment-only form builds them directly.
// A field without omitempty is required.

type rawFile struct {
	Log              *rawLog              `json:"log,omitempty" jsonschema:"How to log; always to standard error."`
	Watch            bool                 `json:"watch,omitempty" jsonschema:"Also reload when this file changes."`
	Listen           text                 `json:"listen,omitempty" jsonschema:"Address of probes, metrics and status, never of a token; empty turns it off. Default 127.0.0.1:9465."`
	Socket           *rawSocket           `json:"socket,omitempty" jsonschema:"The local token API on a unix socket; off when omitted."`
	IdentityEndpoint *rawIdentityEndpoint `json:"identity_endpoint,omitempty" jsonschema:"The managed-identity protocol for Azure SDKs; off when omitted."`
	AuthSidecar      *rawAuthSidecar      `json:"auth_sidecar,omitempty" jsonschema:"The protocol of Microsoft's Entra auth sidecar, for its agent SDKs; off when omitted."`
	Signals          map[string]rawStream `json:"signals,omitempty" jsonschema:"Streams of Shared Signals that may say that a token is no good any more, by name."`
	State            *rawState            `json:"state,omitempty" jsonschema:"The encrypted token cache; memory only when omitted."`
	Plugins          *rawPlugins          `json:"plugins,omitempty" jsonschema:"External credential providers."`
	Clients          map[string]rawClient `json:"clients" jsonschema:"Registered clients by name."`
	Tokens           map[string]rawToken  `json:"tokens" jsonschema:"Access tokens to keep fresh, by name."`
	Sinks            []rawSink            `json:"sinks,omitempty" jsonschema:"Files and Secrets that workloads read."`
}

type rawLog struct {
	Level  text `json:"level,omitempty" jsonschema:"How much to log. Default info."`
	Format text `json:"format,omitempty" jsonschema:"How to write the log. Default text."`
}

type rawSocket struct {
	Path  text `json:"path" jsonschema:"Absolute path of the socket."`
	Mode  mode `json:"mode,omitempty" jsonschema:"Mode of the socket, a quoted octal string. Default 0660."`
	Group name `json:"group,omitempty" jsonschema:"Group of the socket, by name or number."`
}

type rawIdentityEndpoint struct {
	Listen     text            `json:"listen" jsonschema:"Loopback address to listen on."`
	HeaderFile text            `json:"header_file" jsonschema:"Where the shared value of the X-IDENTITY-HEADER header is written."`
	TokenFor   map[string]text `json:"token_for" jsonschema:"The token that serves each resource."`
}

type rawAuthSidecar struct {
	Listen   text            `json:"listen" jsonschema:"Loopback address to listen on."`
	TokenFor map[string]text `json:"token_for" jsonschema:"The token that serves each API name."`
}

type rawStream struct {
	Issuer   text         `json:"issuer" jsonschema:"Issuer of the transmitter, whose /.well-known/ssf-configuration is read."`
	Token    text         `json:"token" jsonschema:"Name of the token that authorizes the stream's requests."`
	Audience text         `json:"audience,omitempty" jsonschema:"Audience that the transmitter must give the stream; whatever it gives when omitted."`
	Subjects []rawSubject `json:"subjects" jsonschema:"What the transmitter calls our clients."`
	Interval duration     `json:"interval,omitempty" jsonschema:"Time between polls, 10s to 24h; long polling when omitted."`
	Events   []text       `json:"events,omitempty" jsonschema:"Events to ask for; all that credagent acts upon when omitted."`
}

type rawSubject struct {
	Client text       `json:"client" jsonschema:"Name of the client that the subject means."`
	IssSub *rawIssSub `json:"iss_sub,omitempty" jsonschema:"The client by an issuer and what that calls it, such as its client_id or object id."`
	Opaque text       `json:"opaque,omitempty" jsonschema:"The client by an id of the transmitter's own."`
}

type rawIssSub struct {
	Issuer text `json:"iss" jsonschema:"The issuer."`
	Sub    text `json:"sub" jsonschema:"What the issuer calls the client."`
}

type rawState struct {
	Dir              text            `json:"dir,omitempty" jsonschema:"Directory of the encrypted token cache."`
	KubernetesSecret *rawStateSecret `json:"kubernetes_secret,omitempty" jsonschema:"Secret that holds the encrypted token cache, in place of a directory."`
	KeyFile          text            `json:"key_file" jsonschema:"File with the state key; credagent keygen prints a new one."`
}

type rawStateSecret struct {
	Name text `json:"name" jsonschema:"Name of the Secret, in the pod's own namespace."`
}

type rawPlugins struct {
	Dirs         []text          `json:"dirs,omitempty" jsonschema:"Directories with executables named credagent-provider-NAME. Default /usr/lib/credagent/plugins."`
	SHA256       map[string]text `json:"sha256,omitempty" jsonschema:"Pinned SHA-256 digest of a provider's executable; a mismatch never runs."`
	IdleTimeout  duration        `json:"idle_timeout,omitempty" jsonschema:"How long a provider's process lives unused. Default 1m."`
	MaxProcesses number          `json:"max_processes,omitempty" jsonschema:"How many providers' processes there may be before idle ones end, 1 to 1000. Default 16."`
}

type rawClient struct {
	Entra    *rawEntra `json:"entra,omitempty" jsonschema:"A Microsoft Entra ID tenant as the source of tokens."`
	Issuer   text      `json:"issuer,omitempty" jsonschema:"Issuer whose metadata (OpenID Connect discovery or RFC 8414) names the token endpoint."`
	TokenURL text      `json:"token_url,omitempty" jsonschema:"The token endpoint itself."`

	ClientID           text           `json:"client_id" jsonschema:"The client_id that the authorization server issued."`
	CAFile             text           `json:"ca_file,omitempty" jsonschema:"PEM file with extra trust roots."`
	Proxy              text           `json:"proxy,omitempty" jsonschema:"Proxy for token requests. Default is what the standard environment variables say."`
	RequestTimeout     duration       `json:"request_timeout,omitempty" jsonschema:"Time limit of one token request, 1s to 2m. Default 10s."`
	AllowInsecureHTTP  bool           `json:"allow_insecure_http,omitempty" jsonschema:"Send credentials over plain http to a host that is not loopback. For a closed test network only."`
	Credential         *rawCredential `json:"credential" jsonschema:"What authenticates the client's token requests."`
	FallbackCredential *rawCredential `json:"fallback_credential,omitempty" jsonschema:"Used while the server refuses the first credential."`
}

type rawEntra struct {
	Tenant    text `json:"tenant" jsonschema:"Tenant id or one of its domain names."`
	Cloud     text `json:"cloud,omitempty" jsonschema:"Which cloud the tenant is in. Default public."`
	Authority text `json:"authority,omitempty" jsonschema:"https://host of an authority that is in no known cloud, instead of cloud."`
}

type rawCredential struct {
	Provider text   `json:"provider" jsonschema:"certcred, secretcred, jwtcred or the name of an external provider."`
	Config   object `json:"config,omitempty" jsonschema:"The provider's own keys. A secret never stands here, only where it is."`
}

type rawToken struct {
	Client             text            `json:"client" jsonschema:"Name of the client that the token is issued to."`
	Grant              text            `json:"grant,omitempty" jsonschema:"The grant that the token is asked for by. Default client_credentials."`
	Subject            text            `json:"subject,omitempty" jsonschema:"With grant jwt_bearer: whom the token is for, the assertion's sub."`
	AssertionClaims    object          `json:"assertion_claims,omitempty" jsonschema:"With grant jwt_bearer: more claims of the assertion."`
	SubjectTokenType   text            `json:"subject_token_type,omitempty" jsonschema:"With grant token_exchange: the type of the token that is exchanged. Default jwt."`
	RequestedTokenType text            `json:"requested_token_type,omitempty" jsonschema:"With grant token_exchange: the type of the token to ask for."`
	Scopes             []text          `json:"scopes,omitempty" jsonschema:"Scopes to ask for; for Entra ID exactly one that ends in /.default."`
	Audience           text            `json:"audience,omitempty" jsonschema:"Value of the audience parameter, for servers that use it."`
	Resources          []text          `json:"resources,omitempty" jsonschema:"Resource indicators (RFC 8707)."`
	Params             map[string]text `json:"params,omitempty" jsonschema:"Extra form parameters; may not replace those that credagent sets."`
	Claims             text            `json:"claims,omitempty" jsonschema:"OpenID Connect claims request, a JSON object in a string."`
	CAE                bool            `json:"cae,omitempty" jsonschema:"Opt in to continuous access evaluation."`
	RefreshAt          percent         `json:"refresh_at,omitempty" jsonschema:"Share of the life at which to refresh when the server sends no refresh_in, 10% to 95%. Default 50%."`
	DefaultLifetime    duration        `json:"default_lifetime,omitempty" jsonschema:"Life of a token whose server names none, 10s to 8760h. Default 5m."`
	Allow              []rawPrincipal  `json:"allow,omitempty" jsonschema:"Who may read the token over the socket."`
}

type rawPrincipal struct {
	User  name `json:"user,omitempty" jsonschema:"A user, by name or number."`
	Group name `json:"group,omitempty" jsonschema:"A group, by name or number."`
}

type rawSink struct {
	Type      text            `json:"type" jsonschema:"What kind of sink this is."`
	Path      text            `json:"path,omitempty" jsonschema:"Absolute path of the file; not of a Secret."`
	Token     text            `json:"token,omitempty" jsonschema:"Name of the token in the file, or of a preset; not with a template."`
	Format    text            `json:"format,omitempty" jsonschema:"How a file sink shows the token. Default raw."`
	Template  text            `json:"template,omitempty" jsonschema:"Go text/template for format template."`
	Variables map[string]text `json:"variables,omitempty" jsonschema:"Variables of an env sink: NAME: token or NAME: token.field."`
	Mode      mode            `json:"mode,omitempty" jsonschema:"Exact mode of the file, a quoted octal string. Default 0600."`
	Owner     name            `json:"owner,omitempty" jsonschema:"Owner of the file, by name or number; needs the privilege."`
	Group     name            `json:"group,omitempty" jsonschema:"Group of the file, by name or number."`
	Readers   []rawPrincipal  `json:"readers,omitempty" jsonschema:"POSIX ACL entries that may also read the file."`
	OnChange  []rawAction     `json:"on_change,omitempty" jsonschema:"What to do after the content has changed."`

	Namespace  text            `json:"namespace,omitempty" jsonschema:"Namespace of a Secret. Default the pod's own."`
	Name       text            `json:"name,omitempty" jsonschema:"Name of a Secret."`
	SecretType text            `json:"secret_type,omitempty" jsonschema:"Type of a Secret. Default the preset's, else Opaque."`
	Preset     text            `json:"preset,omitempty" jsonschema:"Fills a Secret in for who reads it."`
	Username   text            `json:"username,omitempty" jsonschema:"User name beside the token, for a preset. Default oauth2."`
	URL        text            `json:"url,omitempty" jsonschema:"URL of the repository, for preset argocd."`
	Registry   text            `json:"registry,omitempty" jsonschema:"Host of the registry, for preset dockerconfigjson."`
	Data       map[string]text `json:"data,omitempty" jsonschema:"Keys of a Secret: KEY: token, KEY: token.field or KEY: a template."`
	Labels     map[string]text `json:"labels,omitempty" jsonschema:"Labels of a Secret."`
}

type rawAction struct {
	Signal  *rawSignal  `json:"signal,omitempty" jsonschema:"Send a signal to a process."`
	Command *rawCommand `json:"command,omitempty" jsonschema:"Run a command, without a shell."`
}

type rawSignal struct {
	PIDFile text `json:"pid_file" jsonschema:"File that holds the process's number."`
	Signal  text `json:"signal" jsonschema:"The signal's name, such as HUP."`
}

type rawCommand struct {
	Run     []text   `json:"run" jsonschema:"The program and its arguments."`
	Timeout duration `json:"timeout,omitempty" jsonschema:"Time limit of the command, 100ms to 10m. Default 10s."`
}
