// Package spiffe asks a SPIFFE Workload API, such as a SPIRE agent's, for the identity of the process that
// asks: a JWT-SVID or an X.509-SVID (SPIFFE Workload API, 5 and 6).
//
// It asks once, at a unix socket of this machine, and takes the first identity where a process has several. It
// keeps nothing: the API hands out what is good for the time being.
package spiffe

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/credagent/credagent/internal/printable"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins"
)

const (
	// patience is how long the API has to answer: it is on this machine, and a token request is waiting.
	patience  = 5 * time.Second
	maxAnswer = 1 << 20 // bytes
	maxWords  = 200     // bytes of a refusal that are shown
)

// EndpointVariable is the variable by which workloads find the API (SPIFFE Workload Endpoint, 4).
const EndpointVariable = "SPIFFE_ENDPOINT_SOCKET"

// Config is the configuration of whoever asks the API.
type Config struct {
	Socket string `json:"socket"` // a path, or a URL of unix; by default what the environment says
}

// Check returns what is wrong with the configuration, as a [plugins.ConfigError].
func (c Config) Check() error {
	if c.Socket == "" || filepath.IsAbs(pathOf(c.Socket)) {
		return nil
	}
	return &plugins.ConfigError{Key: "socket", Message: "is not the absolute path of a unix socket"}
}

// Path returns the path of the API's socket.
func (c Config) Path(getenv func(string) string) (string, error) {
	if c.Socket != "" {
		return pathOf(c.Socket), nil
	}
	path := pathOf(getenv(EndpointVariable))
	switch {
	case path == "":
		return "", fmt.Errorf("socket is not configured, and %s is not set", EndpointVariable)
	case !filepath.IsAbs(path):
		return "", fmt.Errorf("the variable %s names no unix socket, the only kind that credagent uses", EndpointVariable)
	}
	return path, nil
}

// pathOf is the path of a socket, which may be written as a URL.
func pathOf(address string) string {
	return strings.TrimPrefix(strings.TrimPrefix(address, "unix:"), "//")
}

// JWT returns a JWT-SVID for an audience. Its error is a [plugins.Unavailable] where waiting may be all that
// is needed.
func JWT(ctx context.Context, socket, audience string) (secret.Value, error) {
	var reply *workload.JWTSVIDResponse
	err := ask(ctx, socket, func(ctx context.Context, api workload.SpiffeWorkloadAPIClient) (err error) {
		reply, err = api.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{audience}})
		return err
	})
	if err != nil {
		return secret.Value{}, err
	}
	if len(reply.GetSvids()) == 0 {
		return secret.Value{}, errors.New("it handed out no JWT-SVID")
	}
	return secret.New(reply.GetSvids()[0].GetSvid()), nil
}

// X509 is an X.509-SVID: a key, and its certificate before those that certify it.
type X509 struct {
	ID    string // the SPIFFE ID
	Key   crypto.Signer
	Chain []*x509.Certificate
}

// FetchX509 returns an X.509-SVID. Its error is as that of [JWT].
func FetchX509(ctx context.Context, socket string) (X509, error) {
	var reply *workload.X509SVIDResponse
	err := ask(ctx, socket, func(ctx context.Context, api workload.SpiffeWorkloadAPIClient) error {
		updates, err := api.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
		if err == nil {
			reply, err = updates.Recv() // the first; the next ones come when something changes
		}
		return err
	})
	if err != nil {
		return X509{}, err
	}
	if len(reply.GetSvids()) == 0 {
		return X509{}, errors.New("it handed out no X.509-SVID")
	}
	for _, svid := range reply.GetSvids() {
		defer clear(svid.GetX509SvidKey())
	}
	return parse(reply.GetSvids()[0])
}

// parse never passes on the parsers' errors: they may quote what they read.
func parse(svid *workload.X509SVID) (X509, error) {
	chain, err := x509.ParseCertificates(svid.GetX509Svid())
	if err != nil || len(chain) == 0 {
		return X509{}, errors.New("it handed out an X.509-SVID whose certificates cannot be read")
	}
	key, err := x509.ParsePKCS8PrivateKey(svid.GetX509SvidKey())
	signer, signs := key.(crypto.Signer)
	if err != nil || !signs {
		return X509{}, errors.New("it handed out an X.509-SVID whose key cannot be read")
	}
	if end := chain[0].NotAfter; time.Now().After(end) {
		return X509{}, errors.New("it handed out an X.509-SVID that expired at " + end.UTC().Format(time.RFC3339))
	}
	return X509{ID: svid.GetSpiffeId(), Key: signer, Chain: chain}, nil
}

// ask puts one question to the API.
func ask(ctx context.Context, socket string, question func(context.Context, workload.SpiffeWorkloadAPIClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///workload",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the kernel says who is at either end
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithNoProxy(),
	)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Without it the API refuses: it shows that nobody was led here by a redirect (SPIFFE Workload Endpoint, 5).
	ctx = metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
	return explain(ctx, question(ctx, workload.NewSpiffeWorkloadAPIClient(conn)))
}

// explain says what an error of the API means. One that has no identity for this process may have one soon: what
// is registered reaches it with a delay.
func explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	said := status.Convert(err)
	words := printable.Text(said.Message(), maxWords)
	switch {
	case ctx.Err() != nil || said.Code() == codes.DeadlineExceeded:
		return &plugins.Unavailable{Message: "it did not answer in time"}
	case said.Code() == codes.PermissionDenied:
		return &plugins.Unavailable{Message: "it knows no identity of this process: " + words + "; register the workload, by what the provider's process shows: the agent's user and executable"}
	case said.Code() == codes.Unavailable, said.Code() == codes.Aborted, said.Code() == codes.Internal:
		return &plugins.Unavailable{Message: words}
	case said.Code() == codes.ResourceExhausted && strings.Contains(words, "larger than max"):
		return errors.New("its answer is longer than 1 MiB")
	case said.Code() == codes.ResourceExhausted:
		return &plugins.Unavailable{Message: words}
	case said.Code() == codes.Unimplemented:
		return errors.New("what listens there is no SPIFFE Workload API")
	}
	return errors.New(said.Code().String() + ": " + words)
}
