package provider

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/credagent/credagent/internal/handshake"
	"github.com/credagent/credagent/internal/printable"
	"github.com/credagent/credagent/plugins/providerpb"
)

// Limits on a provider's reply. A reply that exceeds them is invalid.
const (
	maxBody     = 1 << 20 // bytes of an answer
	maxHeaders  = 32
	maxFiles    = 32
	maxProblems = 100
	maxPath     = 4096 // bytes of a path or a header
	maxText     = 500  // bytes of a message that are shown
)

// Exchange makes one token request. Its error is a [*Failure], or the context's.
func (p *Process) Exchange(ctx context.Context, r Request) (Reply, error) {
	var reply Reply
	var failure *Failure
	err := p.call(ctx, r.Timeout+p.host.options.limits.grace, want{r.destination(), true}, func(ctx context.Context, client providerpb.ProviderClient) (err error) {
		reply, failure, err = exchange(ctx, client, p.spec.Config, r)
		return err
	})
	if err == nil && failure != nil {
		err = failure
	}
	return reply, err
}

// Check validates the configuration and, if asked, loads the credential. It makes no request. The
// problems are the configuration's; the error is a [*Failure], or the context's.
func (p *Process) Check(ctx context.Context, load bool) (Credential, []Problem, error) {
	reply, err := p.check(ctx, load)
	return reply.result(err)
}

func (p *Process) check(ctx context.Context, load bool) (reply checkReply, err error) {
	err = p.call(ctx, p.host.options.limits.check, want{loads: load}, func(ctx context.Context, client providerpb.ProviderClient) (err error) {
		reply, err = check(ctx, client, p.spec.Config, load)
		return err
	})
	return reply, err
}

// Exchange is [Process.Exchange] over the caller's connection: package plugintest calls providers that are not
// processes, and checks their replies in the same way.
func Exchange(ctx context.Context, client providerpb.ProviderClient, config json.RawMessage, r Request) (Reply, error) {
	reply, failure, err := exchange(ctx, client, config, r)
	if err == nil && failure != nil {
		err = failure
	}
	return reply, err
}

// Check is [Process.Check] over the caller's connection.
func Check(ctx context.Context, client providerpb.ProviderClient, config json.RawMessage, load bool) (Credential, []Problem, error) {
	reply, err := check(ctx, client, config, load)
	return reply.result(err)
}

// destination returns what the process is bound to before it gets the request; nil for a request without a valid
// destination, whose error the provider reports.
func (r Request) destination() *handshake.Destination {
	d := &handshake.Destination{Connection: handshake.Connection(r.TrustRoots, r.Proxy)}
	for _, at := range []string{r.TokenEndpoint, r.MTLSTokenEndpoint} {
		origin, err := handshake.Origin(at)
		switch {
		case err != nil && at == r.TokenEndpoint:
			return nil
		case err == nil && !slices.Contains(d.Origins, origin):
			d.Origins = append(d.Origins, origin)
		}
	}
	return d
}

// exchange calls once. Its error means that there is no reply, or an invalid one.
func exchange(ctx context.Context, client providerpb.ProviderClient, config json.RawMessage, r Request) (Reply, *Failure, error) {
	in := &providerpb.ExchangeRequest{
		TokenEndpoint:        r.TokenEndpoint,
		MtlsTokenEndpoint:    r.MTLSTokenEndpoint,
		Issuer:               r.Issuer,
		AuthMethodsSupported: r.AuthMethodsSupported,
		ClientId:             r.ClientID,
		Form:                 parameters(r.Form),
		Headers:              parameters(r.Header),
		TrustRoots:           r.TrustRoots,
		Proxy:                r.Proxy,
		TimeoutMilliseconds:  r.Timeout.Milliseconds(),
		Config:               config,
	}
	var out *providerpb.ExchangeReply
	var err error
	if r.Grant == nil {
		out, err = client.Exchange(ctx, in)
	} else {
		out, err = client.Grant(ctx, &providerpb.GrantRequest{Exchange: in, Grant: r.Grant.wire()})
	}
	if r.Grant != nil && status.Code(err) == codes.Unimplemented {
		return Reply{}, tooOld(), nil
	}
	if err != nil {
		return Reply{}, nil, err
	}
	return readReply(out)
}

// check calls once. Its error means that there is no reply, or an invalid one.
func check(ctx context.Context, client providerpb.ProviderClient, config json.RawMessage, load bool) (checkReply, error) {
	out, err := client.Check(ctx, &providerpb.CheckRequest{Config: config, Load: load})
	if err != nil {
		return checkReply{}, err
	}
	return readCheck(out)
}

// checkReply is the validated reply to a check.
type checkReply struct {
	credential Credential
	problems   []Problem
	failure    *Failure
	version    string
}

func (r checkReply) result(err error) (Credential, []Problem, error) {
	if err == nil && r.failure != nil {
		err = r.failure
	}
	return r.credential, r.problems, err
}

// readCheck validates a provider's reply. Its error means that the reply is invalid.
func readCheck(out *providerpb.CheckReply) (checkReply, error) {
	credential, ok := readCredential(out.GetCredential())
	if !ok {
		return checkReply{}, nonsense("a credential that makes no sense")
	}
	if len(out.GetProblems()) > maxProblems {
		return checkReply{}, nonsense("more problems than a configuration can have")
	}
	reply := checkReply{credential: credential, version: printable.Text(out.GetVersion(), maxText)}
	for _, problem := range out.GetProblems() {
		reply.problems = append(reply.problems, Problem{Key: printable.Text(problem.GetKey(), maxText), Message: printable.Text(problem.GetMessage(), maxText)})
	}
	if failure := out.GetFailure(); failure != nil {
		reply.failure = readFailure(failure, credential)
	}
	return reply, nil
}

func parameters[M ~map[string][]string](values M) []*providerpb.Parameter {
	var all []*providerpb.Parameter
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, value := range values[name] {
			all = append(all, &providerpb.Parameter{Name: name, Value: value})
		}
	}
	return all
}

// readReply validates a provider's reply. Its error means that the reply is invalid.
func readReply(out *providerpb.ExchangeReply) (Reply, *Failure, error) {
	credential, ok := readCredential(out.GetCredential())
	if !ok {
		return Reply{}, nil, nonsense("a credential that makes no sense")
	}
	if failure := out.GetFailure(); failure != nil {
		return Reply{}, readFailure(failure, credential), nil
	}
	answer := out.GetAnswer()
	switch {
	case answer == nil:
		return Reply{}, nil, nonsense("neither an answer nor a failure")
	case answer.GetStatus() < 1 || answer.GetStatus() > 999: // three digits: servers and proxies invent statuses
		return Reply{}, nil, nonsense("an HTTP status that does not exist")
	case len(answer.GetBody()) > maxBody || len(answer.GetHeaders()) > maxHeaders:
		return Reply{}, nil, nonsense("an answer larger than the protocol allows")
	}
	header, ok := readHeader(answer.GetHeaders())
	if !ok {
		return Reply{}, nil, nonsense("a header that is not one")
	}
	return Reply{
		Status:     int(answer.GetStatus()),
		Header:     header,
		Body:       answer.GetBody(),
		BodyError:  printable.Text(answer.GetBodyError(), maxText),
		TimedOut:   answer.GetTimedOut(),
		Credential: credential,
	}, nil, nil
}

func readHeader(in []*providerpb.Parameter) (http.Header, bool) {
	header := http.Header{}
	for _, parameter := range in {
		name, value := parameter.GetName(), parameter.GetValue()
		if name == "" || len(name) > maxPath || len(value) > maxPath || hasControl(name) || hasControl(value) {
			return nil, false
		}
		header.Add(name, value)
	}
	return header, true
}

func readCredential(in *providerpb.Credential) (Credential, bool) {
	if len(in.GetFiles()) > maxFiles {
		return Credential{}, false
	}
	for _, path := range in.GetFiles() {
		if !filepath.IsAbs(path) || len(path) > maxPath || hasControl(path) {
			return Credential{}, false
		}
	}
	credential := Credential{Files: in.GetFiles(), Identity: printable.Text(in.GetIdentity(), maxText), Serial: printable.Text(in.GetSerial(), maxText)}
	var begins, ends bool
	credential.NotBefore, begins = readInstant(in.GetNotBeforeSeconds())
	credential.NotAfter, ends = readInstant(in.GetNotAfterSeconds())
	return credential, begins && ends && in.GetNotAfterSeconds() >= 0
}

// readInstant reads Unix time, and refuses years that a certificate cannot have.
func readInstant(seconds int64) (time.Time, bool) {
	if seconds == 0 {
		return time.Time{}, true
	}
	t := time.Unix(seconds, 0)
	year := t.UTC().Year()
	return t, year > 0 && year <= 9999
}

func readFailure(in *providerpb.Failure, credential Credential) *Failure {
	kinds := map[providerpb.Failure_Kind]Kind{
		providerpb.Failure_KIND_CONFIG:     KindConfig,
		providerpb.Failure_KIND_CREDENTIAL: KindCredential,
		providerpb.Failure_KIND_NETWORK:    KindNetwork,
		providerpb.Failure_KIND_TIMEOUT:    KindTimeout,
		providerpb.Failure_KIND_REFUSED:    KindRefused,

		providerpb.Failure_KIND_UNAVAILABLE: KindUnavailable,
	}
	kind, known := kinds[in.GetKind()]
	if !known {
		kind = KindProvider
	}
	failure := &Failure{Kind: kind, Message: printable.Text(in.GetMessage(), maxText), Credential: credential}
	if kind != KindUnavailable {
		return failure
	}
	header, ok := readHeader(in.GetHeaders())
	if ok && len(in.GetHeaders()) <= maxHeaders && in.GetStatus() >= 0 && in.GetStatus() <= 999 {
		failure.Status, failure.Header = int(in.GetStatus()), header
	}
	return failure
}

func nonsense(what string) error {
	return &Failure{Kind: KindProvider, Message: "the provider's process answered with " + what}
}

func hasControl(text string) bool {
	for _, r := range text {
		if unicode.IsControl(r) {
			return true
		}
	}
	return false
}
