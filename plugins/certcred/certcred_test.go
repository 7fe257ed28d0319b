package certcred

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"

	"github.com/credagent/credagent/plugins/internal/credtest"
	"github.com/credagent/credagent/plugins/providerpb"
)

// tokenServer is a TLS server that remembers how the last request was authenticated.
type tokenServer struct {
	*httptest.Server
	form url.Values
	peer []*x509.Certificate
}

func serveTLS(t *testing.T, clientAuth tls.ClientAuthType, version uint16) *tokenServer {
	t.Helper()
	s := &tokenServer{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		s.form, s.peer = r.PostForm, r.TLS.PeerCertificates
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":"invalid_client","got":%q}`, r.PostForm.Get("client_assertion"))
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{ClientAuth: clientAuth, ClientCAs: credtest.RootPool(), MinVersion: version, MaxVersion: version}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *tokenServer) request(t *testing.T, config map[string]any) *providerpb.ExchangeRequest {
	t.Helper()
	return &providerpb.ExchangeRequest{
		TokenEndpoint: s.URL + "/token", ClientId: "app", TimeoutMilliseconds: 10_000,
		TrustRoots: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
		Config:     credtest.Config(t, config),
	}
}

func TestTLSClientAuthentication(t *testing.T) {
	self := credtest.Key("P-256")
	selfSigned := files(t, certPEM(credtest.Issue("self", self, nil, self)), keyPEM(t, self, "PRIVATE KEY"))
	for version, name := range map[uint16]string{tls.VersionTLS12: "TLS 1.2", tls.VersionTLS13: "TLS 1.3"} {
		t.Run(name, func(t *testing.T) {
			plain, strict := serveTLS(t, tls.NoClientCert, version), serveTLS(t, tls.RequireAndVerifyClientCert, version)
			in := strict.request(t, with(pairFiles(t, "RSA"), "auth_method", "tls_client_auth"))
			in.TokenEndpoint, in.MtlsTokenEndpoint = plain.URL, strict.URL+"/mtls"
			in.TrustRoots = append(in.TrustRoots, plain.request(t, nil).GetTrustRoots()...)
			reply, err := credtest.Serve(t, Provider{}).Exchange(t.Context(), in)
			if err != nil || reply.GetAnswer().GetStatus() != http.StatusBadRequest {
				t.Fatal(reply, err)
			}
			if len(strict.peer) != 2 || !strict.peer[0].Equal(credtest.Shared().Leaves["RSA"].Chain[0]) || plain.form != nil {
				t.Errorf("%d certificates; the other server got %v", len(strict.peer), plain.form)
			}
			if strict.form.Encode() != "client_id=app" {
				t.Errorf("form %v", strict.form)
			}

			// The server's list of issuers does not name the self-signed certificate.
			lax := serveTLS(t, tls.RequireAnyClientCert, version)
			in = lax.request(t, with(selfSigned, "auth_method", "self_signed_tls_client_auth"))
			if reply, err := credtest.Serve(t, Provider{}).Exchange(t.Context(), in); err != nil || reply.GetAnswer() == nil || len(lax.peer) != 1 {
				t.Errorf("%v, %v", reply, err)
			}
		})
	}
}

// A rotated pair is used at once, on a connection of its own; half a rotation sends nothing.
func TestRotation(t *testing.T) {
	s := serveTLS(t, tls.RequireAnyClientCert, tls.VersionTLS13)
	config := with(pairFiles(t, "P-256"), "auth_method", "tls_client_auth")
	client := credtest.Serve(t, Provider{})
	ask := func() *providerpb.ExchangeReply {
		reply, err := client.Exchange(t.Context(), s.request(t, config))
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	write := func(key string, data []byte) {
		if err := os.WriteFile(config[key].(string), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	next := credtest.Shared().Leaves["P-384"]
	first := ask()
	write("certificate_file", certPEM(next.Chain...))
	s.peer = nil
	if half := ask(); half.GetFailure().GetKind() != providerpb.Failure_KIND_CREDENTIAL || s.peer != nil {
		t.Errorf("half a rotation gave %v", half)
	}
	write("private_key_file", keyPEM(t, next.Key, "PRIVATE KEY"))
	second := ask()
	if first.GetAnswer() == nil || second.GetAnswer() == nil || !s.peer[0].Equal(next.Chain[0]) || first.GetCredential().GetIdentity() == second.GetCredential().GetIdentity() {
		t.Errorf("first %v, second %v", first, second)
	}
}

// The server repeats the assertion; the agent does not get it.
func TestAssertionStaysInTheProcess(t *testing.T) {
	s := serveTLS(t, tls.NoClientCert, tls.VersionTLS13)
	reply, err := credtest.Serve(t, Provider{}).Exchange(t.Context(), s.request(t, pairFiles(t, "P-256")))
	if err != nil {
		t.Fatal(err)
	}
	if body := string(reply.GetAnswer().GetBody()); body != `{"error":"invalid_client","got":"[redacted]"}` {
		t.Errorf("body %s", body)
	}
	credtest.CheckHidden(t, reply.String(), []byte(s.form.Get("client_assertion")))
}
