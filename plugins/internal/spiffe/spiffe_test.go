package spiffe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/testkit/workloadapi"
)

const canary = "canary-7c1d"

// api is a Workload API that answers as a test wants it to.
type api struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	jwt   func(context.Context, *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error)
	svids func(context.Context) (*workload.X509SVIDResponse, error)
}

func (a api) FetchJWTSVID(ctx context.Context, in *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	return a.jwt(ctx, in)
}

func (a api) FetchX509SVID(_ *workload.X509SVIDRequest, updates grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	reply, err := a.svids(updates.Context())
	if err != nil {
		return err
	}
	if err := updates.Send(reply); err != nil {
		return err
	}
	<-updates.Context().Done() // as long as nothing changes
	return updates.Context().Err()
}

func TestJWT(t *testing.T) {
	var asked *workload.JWTSVIDRequest
	var header []string
	socket := workloadapi.Serve(t, api{jwt: func(ctx context.Context, in *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
		asked = in
		sent, _ := metadata.FromIncomingContext(ctx)
		header = sent.Get("workload.spiffe.io")
		return &workload.JWTSVIDResponse{Svids: []*workload.JWTSVID{{SpiffeId: "spiffe://example.org/web", Svid: canary}, {Svid: "another"}}}, nil
	}})
	token, err := JWT(t.Context(), socket, "https://login.example.com")
	if err != nil || token.Reveal() != canary {
		t.Errorf("%q, %v", token.Reveal(), err)
	}
	if strings.Join(asked.GetAudience(), " ") != "https://login.example.com" || strings.Join(header, " ") != "true" {
		t.Errorf("it was asked for %v, with %v", asked, header)
	}
}

func TestX509(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := svid(t, key, time.Hour)
	socket := workloadapi.Serve(t, api{svids: func(context.Context) (*workload.X509SVIDResponse, error) {
		return &workload.X509SVIDResponse{Svids: []*workload.X509SVID{good, {}}}, nil
	}})
	got, err := FetchX509(t.Context(), socket)
	if err != nil || got.ID != "spiffe://example.org/web" || len(got.Chain) != 1 || !key.PublicKey.Equal(got.Key.Public()) {
		t.Errorf("%+v, %v", got, err)
	}
}

// svid is an X.509-SVID that ends after so long.
func svid(t *testing.T, key *ecdsa.PrivateKey, left time.Duration) *workload.X509SVID {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "web"},
		URIs:      []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/web"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(left),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &workload.X509SVID{SpiffeId: "spiffe://example.org/web", X509Svid: certificate, X509SvidKey: encoded}
}

// Whatever the API answers, nothing secret of it shows, and whether waiting may help is told.
func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		want   string
		passes bool
	}{
		"no identity":   {status.Error(codes.PermissionDenied, "no identity issued"), "it knows no identity of this process: no identity issued; register the workload", true},
		"not yet":       {status.Error(codes.Unavailable, "starting\n"), "starting", true},
		"busy":          {status.Error(codes.ResourceExhausted, "slow down"), "slow down", true},
		"bad request":   {status.Error(codes.InvalidArgument, "audience must be specified"), "InvalidArgument: audience must be specified", false},
		"unknown":       {errors.New("odd"), "Unknown: odd", false},
		"unimplemented": {status.Error(codes.Unimplemented, "no"), "what listens there is no SPIFFE Workload API", false},
		"long":          {status.Error(codes.InvalidArgument, strings.Repeat("x", 1000)), "InvalidArgument: xxx", false},
	} {
		t.Run(name, func(t *testing.T) {
			socket := workloadapi.Serve(t, api{
				jwt:   func(context.Context, *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) { return nil, tc.err },
				svids: func(context.Context) (*workload.X509SVIDResponse, error) { return nil, tc.err },
			})
			_, errJWT := JWT(t.Context(), socket, "x")
			_, errX509 := FetchX509(t.Context(), socket)
			for _, err := range []error{errJWT, errX509} {
				var unavailable *plugins.Unavailable
				if err == nil || !strings.HasPrefix(err.Error(), tc.want) || errors.As(err, &unavailable) != tc.passes || len(err.Error()) > 400 {
					t.Errorf("error %v", err)
				}
			}
		})
	}
}

func TestAnswersThatAreNoSVID(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	noKey, noCertificate := svid(t, key, time.Hour), svid(t, key, time.Hour)
	noKey.X509SvidKey, noCertificate.X509Svid = []byte(canary), []byte(canary)
	for name, tc := range map[string]struct {
		svids []*workload.X509SVID
		want  string
	}{
		"none":           {nil, "no X.509-SVID"},
		"no key":         {[]*workload.X509SVID{noKey}, "whose key cannot be read"},
		"no certificate": {[]*workload.X509SVID{noCertificate}, "whose certificates cannot be read"},
		"empty":          {[]*workload.X509SVID{{}}, "whose certificates cannot be read"},
		"expired":        {[]*workload.X509SVID{svid(t, key, -time.Minute)}, "that expired at "},
		"too large":      {[]*workload.X509SVID{{Bundle: make([]byte, maxAnswer)}}, "longer than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			socket := workloadapi.Serve(t, api{svids: func(context.Context) (*workload.X509SVIDResponse, error) {
				return &workload.X509SVIDResponse{Svids: tc.svids}, nil
			}})
			_, err := FetchX509(t.Context(), socket)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), canary) {
				t.Errorf("error %v", err)
			}
		})
	}
	socket := workloadapi.Serve(t, api{jwt: func(context.Context, *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
		return &workload.JWTSVIDResponse{}, nil
	}})
	if _, err := JWT(t.Context(), socket, "x"); err == nil || !strings.Contains(err.Error(), "no JWT-SVID") {
		t.Errorf("error %v", err)
	}
}

// An API that is not there, or does not answer, is waited for by the agent and by nobody else.
func TestSilence(t *testing.T) {
	var unavailable *plugins.Unavailable
	missing := filepath.Join(t.TempDir(), "no.sock")
	if _, err := JWT(t.Context(), missing, "x"); !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v", err)
	}
	socket := workloadapi.Serve(t, api{jwt: func(ctx context.Context, _ *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := JWT(ctx, socket, "x"); !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "did not answer in time") {
		t.Errorf("error %v", err)
	}
}

// Something else may listen there: an HTTP server, or one that says nothing that anybody knows.
func TestNoWorkloadAPI(t *testing.T) {
	dir, err := os.MkdirTemp("", "spiffe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n" + canary))
			_ = conn.Close()
		}
	}()
	if _, err := JWT(t.Context(), filepath.Join(dir, "s"), "x"); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("error %v", err)
	}
}

func TestSockets(t *testing.T) {
	for configured, want := range map[string]string{"/run/api.sock": "/run/api.sock", "unix:///run/api.sock": "/run/api.sock", "unix:/run/api.sock": "/run/api.sock"} {
		c := Config{Socket: configured}
		path, err := c.Path(os.Getenv)
		if c.Check() != nil || err != nil || path != want {
			t.Errorf("%s: %q, %v", configured, path, err)
		}
		path, err = Config{}.Path(func(string) string { return configured })
		if err != nil || path != want {
			t.Errorf("%s in the environment: %q, %v", configured, path, err)
		}
	}
	for _, wrong := range []string{"run/api.sock", "tcp://127.0.0.1:80", "unix:api.sock"} {
		if (Config{Socket: wrong}).Check() == nil {
			t.Errorf("%s is a socket", wrong)
		}
		if _, err := (Config{}).Path(func(string) string { return wrong }); err == nil || strings.Contains(err.Error(), wrong) {
			t.Errorf("%s in the environment: %v", wrong, err)
		}
	}
	if _, err := (Config{}).Path(func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "is not set") {
		t.Errorf("error %v", err)
	}
}
