// Package plugins is the kit for writing a credagent credential provider: the part that knows a
// client's secret or key and authenticates its token requests with it.
//
// A provider runs in a separate process. It implements [Provider], and its main function is a single call to [Serve];
// the executable is named credagent-provider-NAME. This package makes the token request, in the provider's process,
// so that secrets, assertions and keys stay there: the provider only adds its authentication to a [Request]. The
// process serves all clients that use the provider at the same authorization server, many at a time: a provider's
// methods are called by several goroutines at once, each with the configuration of one client. The agent gets the
// server's answer unparsed, and only the agent decides what it means, whether to try again, and when.
//
// A provider must not log, print or put into an error what it protects. Package plugintest tests this and the other
// rules.
package plugins

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Provider understands one kind of credential.
type Provider interface {
	// Open checks a configuration, a JSON object, without reading a file or using the network.
	// Its error is shown to the person who wrote the configuration; a [ConfigError] places it
	// at a key. [DecodeConfig] does most of this.
	Open(config json.RawMessage) (Source, error)
}

// Source reads one configured credential.
type Source interface {
	// Files returns the absolute paths the credential is read from. The agent watches them.
	Files() []string
	// Load reads the credential again and checks that it can be used. It is called for every request, so that a
	// rotated credential is used at once. It makes no token request. Its error names the problem and the file, and
	// contains nothing secret. It is an [Unavailable] if waiting may be enough; any other error needs a person.
	Load(ctx context.Context) (Credential, error)
}

// Unavailable is the error of a credential that is temporarily unavailable: the service that issues it does not
// answer, or asks to wait. The agent waits as it does for the server, and at least as long as Header asks for. A
// [Source] does not retry by itself.
type Unavailable struct {
	Message string      // what happened; it contains nothing secret
	Status  int         // of the HTTP answer; 0 if there was none
	Header  http.Header // of that answer; the agent gets Retry-After and similar headers
}

// Error implements error.
func (e *Unavailable) Error() string { return e.Message }

// Credential authenticates token requests.
type Credential struct {
	// NotBefore and NotAfter bound its validity; zero if unknown or unlimited. The agent warns before the end,
	// earlier for a longer validity.
	NotBefore, NotAfter time.Time
	Identity            string // a public identifier, such as a certificate's thumbprint
	Serial              string // the serial number of its certificate, in hexadecimal; "" where it has none
	// Authenticate adds the client's authentication to a request before it is sent.
	Authenticate func(*Request) error
	// SubjectToken gets the token that a request exchanges (RFC 8693, 2.1), which is of this
	// subject_token_type; nil where the credential has none. It is called before Authenticate. Its source is
	// a [SubjectTokenChecker].
	SubjectToken func(ctx context.Context, tokenType string) (string, error)
	// Sign signs an assertion as the grant of a request (RFC 7523, 2.1); nil where the credential cannot
	// sign. It is called before Authenticate. Its source is an [AssertionChecker].
	Sign func(*Request, Assertion) (string, error)
}

// Assertion is what an assertion that is signed as the grant says beside the issuer, the audience and the
// times, which are the provider's to know (RFC 7523, 3).
type Assertion struct {
	Subject string                     // whom the token is for; "" for none
	Claims  map[string]json.RawMessage // more claims; never those that this package's documents name as the provider's own
	Scopes  []string                   // the scopes of the request, for servers that want them as a claim
}

// AssertionChecker is a [Source] whose credential signs assertions as grants.
type AssertionChecker interface {
	// CheckAssertion reports why a token with this assertion cannot be had with this configuration, without
	// reading a file. A [ConfigError] places the problem at a key of the token, such as subject.
	CheckAssertion(Assertion) error
}

// SubjectTokenChecker is a [Source] whose credential has tokens to exchange.
type SubjectTokenChecker interface {
	// CheckSubjectToken reports why a token cannot be exchanged with this configuration, without reading a
	// file. A [ConfigError] places the problem at a key of the token that is wanted, such as grant.
	CheckSubjectToken(tokenType string) error
}

// Request is a token request (such as RFC 6749, 4.4.2) without the client's authentication. A provider
// adds to Form, Header or TLSCertificate and leaves the rest unchanged.
type Request struct {
	TokenEndpoint string // where it goes
	ClientID      string
	Issuer        string // the authorization server's issuer; "" where unknown
	// AuthMethodsSupported is token_endpoint_auth_methods_supported of the server's metadata
	// (RFC 8414, 2); empty where unknown.
	AuthMethodsSupported []string

	Form           url.Values       // sent as the body; client_id is set already
	Header         http.Header      // sent as headers
	TLSCertificate *tls.Certificate // the client certificate to present (RFC 8705); nil for none
}
