package certcred

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"

	"github.com/credagent/credagent/plugins/internal/credtest"
	"github.com/credagent/credagent/testkit/workloadapi"
)

// workloadAPI hands out a key and its certificates as X.509-SVIDs.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	leaf *credtest.Leaf
}

func (a workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, updates grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	svid := &workload.X509SVID{SpiffeId: "spiffe://example.org/web"}
	for _, certificate := range a.leaf.Chain {
		svid.X509Svid = append(svid.X509Svid, certificate.Raw...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(a.leaf.Key)
	if err != nil {
		return err
	}
	svid.X509SvidKey = key
	return updates.Send(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{svid}})
}

// Each request is made with the X.509-SVID that the Workload API has then; its end is not the credential's.
func TestSVIDs(t *testing.T) {
	leaf := credtest.Shared().Leaves["P-256"]
	config := map[string]any{"source": map[string]any{"spiffe": map[string]any{"socket": workloadapi.Serve(t, workloadAPI{leaf: &leaf})}}, "auth_method": "tls_client_auth"}
	s := serveTLS(t, tls.RequireAndVerifyClientCert, tls.VersionTLS13)
	client := credtest.Serve(t, Provider{})
	for _, kind := range []string{"P-256", "RSA"} { // rotated
		leaf = credtest.Shared().Leaves[kind]
		reply, err := client.Exchange(t.Context(), s.request(t, config))
		if err != nil || reply.GetAnswer().GetStatus() != 400 || len(s.peer) == 0 || !s.peer[0].Equal(leaf.Chain[0]) {
			t.Fatalf("%s: %v, %v, presented %d certificates", kind, reply, err, len(s.peer))
		}
		if known := reply.GetCredential(); known.GetIdentity() != "spiffe://example.org/web" || known.GetNotAfterSeconds() != 0 || len(known.GetFiles()) != 0 {
			t.Errorf("credential %v", known)
		}
	}
	config["auth_method"] = "private_key_jwt"
	s = serveTLS(t, tls.NoClientCert, tls.VersionTLS13)
	reply, err := client.Exchange(t.Context(), s.request(t, config))
	if err != nil || strings.Count(s.form.Get("client_assertion"), ".") != 2 {
		t.Errorf("%v, %v", reply, err)
	}
}

func TestSourcesOfCertificates(t *testing.T) {
	const one = "exactly one of certificate_file, google_key_file and source is needed"
	const noKey = "certificate_file: is needed; or source, or google_key_file, or private_key_file for a key that is registered without a certificate"
	for name, tc := range map[string]struct {
		config string
		want   []string
	}{
		"a socket":      {`{"source":{"spiffe":{"socket":"/s"}}}`, nil},
		"no keys":       {`{"source":{"spiffe":null}}`, nil},
		"both":          {`{"certificate_file":"/c","source":{"spiffe":{}}}`, []string{one}},
		"both, Google":  {`{"google_key_file":"/g","source":{"spiffe":{}}}`, []string{one}},
		"nothing":       {`{"source":{}}`, []string{"source: is empty; known are spiffe"}},
		"a text":        {`{"source":"spiffe"}`, []string{"source: is not of the right type", noKey}},
		"another":       {`{"source":{"azure":{}}}`, []string{"source.azure: unknown key; known are spiffe"}},
		"a list":        {`{"source":{"spiffe":[]}}`, []string{"source.spiffe: is not an object of keys and values"}},
		"unknown":       {`{"source":{"spiffe":{"sock":"/s"}}}`, []string{"source.spiffe.sock: unknown key; known are socket"}},
		"no path":       {`{"source":{"spiffe":{"socket":"tcp://127.0.0.1"}}}`, []string{"source.spiffe.socket: is not the absolute path of a unix socket"}},
		"no text":       {`{"source":{"spiffe":{"socket":7}}}`, []string{"source.spiffe.socket: is not the absolute path of a unix socket"}},
		"a key as well": {`{"private_key_file":"/k","source":{"spiffe":{}}}`, []string{"source: hands out the key too, and no password; leave private_key_file, password_file and password_env out"}},
	} {
		t.Run(name, func(t *testing.T) { credtest.CheckProblems(t, Provider{}, tc.config, tc.want) })
	}
	source := credtest.Open(t, Provider{}, map[string]any{"source": map[string]any{"spiffe": map[string]any{"socket": filepath.Join(t.TempDir(), "no")}}})
	_, err := source.Load(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "asking source spiffe: ") {
		t.Errorf("error %v", err)
	}
}
