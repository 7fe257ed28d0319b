package plugins

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/credagent/credagent/plugins/providerpb"
)

// server answers the agent on behalf of a provider.
type server struct {
	providerpb.UnimplementedProviderServer
	provider  Provider
	exchanger exchanger
}

// Register adds the service of a provider to a gRPC server. [Serve] does it for a real one.
func Register(registrar grpc.ServiceRegistrar, p Provider) {
	providerpb.RegisterProviderServer(registrar, &server{provider: p})
}

// Check implements the service.
func (s *server) Check(ctx context.Context, in *providerpb.CheckRequest) (*providerpb.CheckReply, error) {
	reply := &providerpb.CheckReply{Version: version()}
	source, files, err := s.open(in.GetConfig())
	if err != nil {
		for _, problem := range problems(err) {
			reply.Problems = append(reply.Problems, &providerpb.Problem{Key: plain(problem.Key), Message: plain(problem.Message)})
		}
		return reply, nil
	}
	reply.Credential = &providerpb.Credential{Files: files}
	if !in.GetLoad() {
		return reply, nil
	}
	ctx, cancel := early(ctx)
	defer cancel()
	credential, err := load(ctx, source)
	if err != nil {
		reply.Failure = notLoaded(err)
		return reply, nil
	}
	describe(reply.Credential, credential)
	return reply, nil
}

// Exchange implements the service.
func (s *server) Exchange(ctx context.Context, in *providerpb.ExchangeRequest) (*providerpb.ExchangeReply, error) {
	return s.exchange(ctx, in, nil)
}

// exchange makes a token request; grant is what is to be added to its form, nil for nothing.
func (s *server) exchange(ctx context.Context, in *providerpb.ExchangeRequest, grant *providerpb.Grant) (*providerpb.ExchangeReply, error) {
	source, files, err := s.open(in.GetConfig())
	if err != nil {
		return failed(providerpb.Failure_KIND_CONFIG, oneLine(problems(err))), nil
	}
	ctx, cancel := early(ctx)
	defer cancel()
	about := &providerpb.Credential{Files: files}
	request := newRequest(in)
	credential, err := loadWithin(ctx, source, in)
	if err == nil {
		describe(about, credential)
		err = addGrant(ctx, credential, request, grant)
	}
	if err == nil {
		err = authenticate(credential, request)
	}
	if request.TLSCertificate != nil && in.GetMtlsTokenEndpoint() != "" {
		request.TokenEndpoint = in.GetMtlsTokenEndpoint() // RFC 8705, 5
	}
	var reply *providerpb.ExchangeReply
	if err != nil {
		reply = &providerpb.ExchangeReply{Result: &providerpb.ExchangeReply_Failure{Failure: notLoaded(err)}}
	} else {
		reply = s.exchanger.exchange(ctx, in, request)
	}
	hidden := newRedactor(newRequest(in), request)
	hideProxy(&hidden, request.TokenEndpoint, in.GetProxy())
	redactReply(hidden, reply)
	reply.Credential = about
	return reply, nil
}

// early returns a context that ends somewhat before the agent gives up, so that the agent hears of what takes
// too long: a provider that does not answer at all is ended, whoever else it serves.
func early(ctx context.Context) (context.Context, context.CancelFunc) {
	end, limited := ctx.Deadline()
	if !limited {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, end.Add(-min(answerTime, time.Until(end)/10)))
}

// answerTime is how long before the agent gives up its question is answered, in any case.
const answerTime = time.Second

// loadWithin loads a credential within the time of its request, which begins to count again when that is sent.
func loadWithin(ctx context.Context, source Source, in *providerpb.ExchangeRequest) (Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(in.GetTimeoutMilliseconds())*time.Millisecond)
	defer cancel()
	return load(ctx, source)
}

// notLoaded is the failure of a credential that could not be loaded or used.
func notLoaded(err error) *providerpb.Failure {
	failure := &providerpb.Failure{Kind: providerpb.Failure_KIND_CREDENTIAL, Message: plain(err.Error())}
	var unable *ConfigError
	if errors.As(err, &unable) {
		failure.Kind = providerpb.Failure_KIND_CONFIG
	}
	var unavailable *Unavailable
	if errors.As(err, &unavailable) {
		failure.Kind = providerpb.Failure_KIND_UNAVAILABLE
		failure.Status = int32(unavailable.Status)
		failure.Headers = shownHeaders(unavailable.Header)
	}
	return failure
}

func newRequest(in *providerpb.ExchangeRequest) *Request {
	r := &Request{
		TokenEndpoint:        in.GetTokenEndpoint(),
		ClientID:             in.GetClientId(),
		Issuer:               in.GetIssuer(),
		AuthMethodsSupported: in.GetAuthMethodsSupported(),
		Form:                 url.Values{},
		Header:               http.Header{},
	}
	r.Header.Set("Accept", "application/json")
	for _, header := range in.GetHeaders() {
		r.Header.Set(header.GetName(), header.GetValue())
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, parameter := range in.GetForm() {
		r.Form.Add(parameter.GetName(), parameter.GetValue())
	}
	r.Form.Set("client_id", r.ClientID)
	return r
}

// open, load and authenticate run a provider's code. They turn a panic into an error without the panic's text, which
// may contain anything.
func (s *server) open(config []byte) (source Source, files []string, err error) {
	defer recovered(&err)
	if source, err = s.provider.Open(config); err != nil {
		return nil, nil, err
	}
	return source, source.Files(), nil
}

func load(ctx context.Context, source Source) (credential Credential, err error) {
	defer recovered(&err)
	return source.Load(ctx)
}

func authenticate(credential Credential, r *Request) (err error) {
	defer recovered(&err)
	return credential.Authenticate(r)
}

func recovered(err *error) {
	switch why := recover().(type) {
	case nil:
	case string:
		*err = panicked(why)
	case error:
		*err = panicked(why.Error())
	default:
		*err = panicked("")
	}
}

// panicked returns the error for a panic. Go's cryptography panics if GODEBUG=fips140=only forbids an operation;
// those texts are its own and contain no secret.
func panicked(why string) error {
	algorithm, forbidden := strings.CutSuffix(why, " is not allowed in FIPS 140-only mode")
	if _, use, ok := strings.Cut(algorithm, ": use of "); ok && forbidden && strings.HasPrefix(algorithm, "crypto/") && len(use) < 60 {
		return errors.New("GODEBUG=fips140=only forbids what this credential needs: " + use)
	}
	return errors.New("the provider panicked; its text is withheld, as it may hold a secret")
}

func describe(about *providerpb.Credential, credential Credential) {
	about.Identity = plain(credential.Identity)
	about.Serial = plain(credential.Serial)
	about.NotBeforeSeconds = epoch(credential.NotBefore)
	about.NotAfterSeconds = epoch(credential.NotAfter)
}

// epoch returns an instant in the protocol's form.
func epoch(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// version returns the main module's version of the running executable.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}
