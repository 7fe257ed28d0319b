package devserver_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

func Example() {
	server, err := devserver.New(devserver.Options{
		Clients: []devserver.Client{{ID: "app", Secret: secret.New("s3cret")}},
		Faults:  []devserver.Fault{{Kind: devserver.Throttle, RetryAfter: "7", Count: 1}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := server.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = server.Close() }()
	for range 2 {
		response, err := http.PostForm(server.TokenURL(), form("client_id", "app", "client_secret", "s3cret"))
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = response.Body.Close()
	}
	for _, request := range server.Requests() {
		fmt.Println(request.Status, request.Outcome, request.Early > 0)
	}
	// Output:
	// 429 throttle false
	// 200 issued true
}

// trusting is a client that trusts nothing but the server's own CA, and keeps no connection.
func trusting(t testing.TB, server *devserver.Server) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(server.CAPEM())
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: true,
		DisableKeepAlives: true,
	}}
}

func TestTLS(t *testing.T) {
	server := start(t, devserver.Options{TLS: true, Clients: []devserver.Client{appClient()}})
	if !strings.HasPrefix(server.URL(), "https://127.0.0.1:") {
		t.Errorf("URL = %q", server.URL())
	}
	for _, host := range []string{"127.0.0.1", "localhost"} {
		target := strings.Replace(server.TokenURL(), "127.0.0.1", host, 1)
		if got := mustDo(t, trusting(t, server), newRequest(t, target, form())); got.status != 200 {
			t.Errorf("%s got %d", host, got.status)
		}
	}
	var unknown x509.UnknownAuthorityError
	if _, err := do(http.DefaultClient, newRequest(t, server.TokenURL(), form())); !errors.As(err, &unknown) {
		t.Errorf("without the CA: %v", err)
	}
}

// The server asks for a client certificate and is content without one.
func TestTLSAsksForAClientCertificate(t *testing.T) {
	server := start(t, devserver.Options{TLS: true, Clients: []devserver.Client{appClient()}})
	client, asked := trusting(t, server), false
	client.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return &tls.Certificate{}, nil
	}
	if got := mustDo(t, client, newRequest(t, server.TokenURL(), form())); got.status != 200 || !asked {
		t.Errorf("answer = %d, certificate asked for: %t", got.status, asked)
	}
}

func TestTLSInMemoryUnderAnotherName(t *testing.T) {
	server, client := inMemory(t, devserver.Options{TLS: true, URL: "https://login.example", Clients: []devserver.Client{appClient()}})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(server.CAPEM())
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots}
	if got := mustDo(t, client, newRequest(t, "https://login.example/token", form())); got.status != 200 {
		t.Errorf("answer = %d", got.status)
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name    string
		options devserver.Options
		want    string
	}{
		{"short life", devserver.Options{TTL: time.Millisecond}, "shorter than a second"},
		{"nameless client", devserver.Options{Clients: []devserver.Client{{}}}, "client 1 of 1 has no ID"},
		{"URL with a path", devserver.Options{URL: "https://host/path"}, "not a scheme and a host alone"},
		{"URL without a scheme", devserver.Options{URL: "host"}, "not a scheme and a host alone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := devserver.New(tt.options); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestStartRefuses(t *testing.T) {
	server := start(t, devserver.Options{})
	if err := server.Start(); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("starting twice: %v", err)
	}
	taken, err := devserver.New(devserver.Options{Listen: strings.TrimPrefix(server.URL(), "http://")})
	if err != nil {
		t.Fatal(err)
	}
	if err := taken.Start(); err == nil || !strings.Contains(err.Error(), "starting the authorization server on") {
		t.Errorf("starting on a taken port: %v", err)
	}
	closed, err := devserver.New(devserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(closed.Close(), closed.Close()); err != nil {
		t.Errorf("closing what never started: %v", err)
	}
	if err := closed.Start(); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("starting what is closed: %v", err)
	}
	if _, err := closed.DialContext(t.Context(), "tcp", "any:1"); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("connecting to what is closed: %v", err)
	}
}

func TestURL(t *testing.T) {
	everywhere := start(t, devserver.Options{Listen: ":0"})
	if !strings.HasPrefix(everywhere.URL(), "http://127.0.0.1:") {
		t.Errorf("listening everywhere: URL = %q", everywhere.URL())
	}
	named := start(t, devserver.Options{URL: "http://devserver:8080"})
	if named.URL() != "http://devserver:8080" || named.TokenURL() != "http://devserver:8080/token" {
		t.Errorf("URL = %q, TokenURL = %q", named.URL(), named.TokenURL())
	}
}

func TestDiscovery(t *testing.T) {
	server := start(t, devserver.Options{Tenants: []string{"contoso"}})
	tests := []struct{ path, issuer, token string }{
		{"/.well-known/openid-configuration", "", "/token"},
		{"/.well-known/oauth-authorization-server", "", "/token"},
		{"/contoso/.well-known/openid-configuration", "/contoso", "/contoso/token"},
		{"/.well-known/oauth-authorization-server/contoso", "/contoso", "/contoso/token"},
		{"/contoso/v2.0/.well-known/openid-configuration", "/contoso/v2.0", "/contoso/oauth2/v2.0/token"},
		{"/.well-known/oauth-authorization-server/contoso/v2.0", "/contoso/v2.0", "/contoso/oauth2/v2.0/token"},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			got := mustGet(t, http.DefaultClient, server.URL()+tt.path, "")
			if got.status != 200 || got.text("issuer") != server.URL()+tt.issuer || got.text("token_endpoint") != server.URL()+tt.token {
				t.Errorf("metadata = %d %s", got.status, got.body)
			}
			if got.text("introspection_endpoint") != server.URL()+"/introspect" || !strings.HasPrefix(got.header.Get("Content-Type"), "application/json") {
				t.Errorf("metadata = %s, header %v", got.body, got.header)
			}
		})
	}
	methods := mustGet(t, http.DefaultClient, server.URL()+tests[0].path, "").fields["token_endpoint_auth_methods_supported"]
	if fmt.Sprint(methods) != "[client_secret_basic client_secret_post private_key_jwt]" {
		t.Errorf("token_endpoint_auth_methods_supported = %v", methods)
	}
	for at, want := range map[string]string{tests[0].path: "", tests[4].path: server.URL() + "/contoso/oauth2/v2.0/authorize"} {
		if got := mustGet(t, http.DefaultClient, server.URL()+at, ""); got.text("authorization_endpoint") != want {
			t.Errorf("%s: authorization_endpoint = %q, want %q", at, got.text("authorization_endpoint"), want)
		}
	}
	for path, want := range map[string]int{"/fabrikam/.well-known/openid-configuration": 404, "/fabrikam/v2.0/.well-known/openid-configuration": 400} {
		if got := mustGet(t, http.DefaultClient, server.URL()+path, ""); got.status != want {
			t.Errorf("%s = %d %s, want %d", path, got.status, got.body, want)
		}
	}
}

func TestControl(t *testing.T) {
	server := start(t, devserver.Options{Control: true, Clients: []devserver.Client{appClient()}})
	control := func(method, path, body string) reply {
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return mustDo(t, http.DefaultClient, request)
	}
	const fresh = `"clients":["app"],"faults":[]`
	if got := control(http.MethodGet, "/control", ""); got.status != 200 || !strings.Contains(got.body, fresh) {
		t.Errorf("state = %d %s, want %s", got.status, got.body, fresh)
	}
	control(http.MethodPost, "/control/faults", `{"fault":"throttle=7*2","client":"app"}`)
	injected := control(http.MethodPost, "/control/faults?fault=outage*1&fault=stall", "")
	const queue = `{"faults":[{"fault":"throttle=7*2","client":"app"},{"fault":"outage=503*1"},{"fault":"stall"}]}` + "\n"
	if injected.status != 200 || injected.body != queue {
		t.Errorf("injecting = %d %s, want %s", injected.status, injected.body, queue)
	}
	mustPost(t, server.TokenURL(), form())
	mustPost(t, server.TokenURL(), form())
	for path, body := range map[string]string{"/control/faults?fault=outage&fault=otage": "", "/control/faults": "{"} {
		if got := control(http.MethodPost, path, body); got.status != 400 || got.text("error") == "" {
			t.Errorf("%s = %d %s", path, got.status, got.body)
		}
	}
	state := control(http.MethodGet, "/control", "")
	for name, want := range map[string]float64{"requests": 2, "tokens_issued": 0, "retry_after_violations": 1} {
		if state.fields[name] != want {
			t.Errorf("%s = %v, want %v", name, state.fields[name], want)
		}
	}
	if faults, _ := state.fields["faults"].([]any); len(faults) != 2 {
		t.Errorf("faults = %v, want the two that are left", faults)
	}
	const left = `{"faults":[{"fault":"outage=503*1"},{"fault":"stall"}]}` + "\n"
	if got := control(http.MethodGet, "/control/faults", ""); got.status != 200 || got.body != left {
		t.Errorf("listing: %d %s, want %s", got.status, got.body, left)
	}
	if got := control(http.MethodDelete, "/control/faults", ""); got.status != 204 {
		t.Errorf("clearing = %d", got.status)
	}
	if got := mustPost(t, server.TokenURL(), form()); got.status != 200 {
		t.Errorf("after clearing: %d", got.status)
	}
	var requests []devserver.Request
	if err := json.Unmarshal([]byte(control(http.MethodGet, "/control/requests", "").body), &requests); err != nil || len(requests) != 3 {
		t.Errorf("requests = %+v, %v", requests, err)
	}
}

func TestControlKeepsStrangersOut(t *testing.T) {
	server := start(t, devserver.Options{Control: true})
	tests := []struct {
		name   string
		change func(*http.Request)
		status int
	}{
		{"as it is", func(*http.Request) {}, 200},
		{"localhost", func(r *http.Request) { r.Host = "localhost:1" }, 200},
		{"IPv6", func(r *http.Request) { r.Host = "[::1]:1" }, 200},
		{"IPv6 without a port", func(r *http.Request) { r.Host = "[::1]" }, 200},
		{"rebound name", func(r *http.Request) { r.Host = "evil.example:80" }, 403},
		{"name that looks like it", func(r *http.Request) { r.Host = "localhost.evil.example" }, 403},
		{"other address", func(r *http.Request) { r.Host = "192.0.2.1" }, 403},
		{"web page", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request := newRequest(t, server.URL()+"/control/faults?fault=ok", nil)
			tt.change(request)
			if got := mustDo(t, http.DefaultClient, request); got.status != tt.status {
				t.Errorf("answer = %d %s, want %d", got.status, got.body, tt.status)
			}
		})
	}
}

func TestNoControlUnlessAskedFor(t *testing.T) {
	server := start(t, devserver.Options{})
	if got := mustGet(t, http.DefaultClient, server.URL()+"/control", ""); got.status != 404 {
		t.Errorf("/control = %d", got.status)
	}
}

func TestNewCertificate(t *testing.T) {
	for _, kind := range []devserver.KeyKind{devserver.KeyRSA, devserver.KeyEC, devserver.KeyEC384, devserver.KeyEd25519} {
		t.Run(string(kind), func(t *testing.T) {
			certPEM, keyPEM, cert, err := devserver.NewCertificate("demo", kind, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
				t.Error(err)
			}
			if left := time.Until(cert.NotAfter); cert.Subject.CommonName != "demo" || left > time.Hour || left < 59*time.Minute {
				t.Errorf("certificate of %q for %s", cert.Subject.CommonName, left)
			}
			if block, _ := pem.Decode(certPEM); !slices.Equal(block.Bytes, cert.Raw) {
				t.Error("the PEM is not the certificate")
			}
		})
	}
	t.Run("curve", func(t *testing.T) {
		_, _, cert, err := devserver.NewCertificate("demo", devserver.KeyEC384, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if key, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || key.Params().BitSize != 384 {
			t.Errorf("key = %T", cert.PublicKey)
		}
	})
	t.Run("expired", func(t *testing.T) {
		_, _, cert, err := devserver.NewCertificate("demo", devserver.KeyEC, -time.Hour)
		if err != nil || !cert.NotAfter.Before(time.Now()) || !cert.NotBefore.Before(cert.NotAfter) {
			t.Errorf("certificate from %v to %v, %v", cert.NotBefore, cert.NotAfter, err)
		}
	})
	t.Run("unknown kind", func(t *testing.T) {
		if _, _, _, err := devserver.NewCertificate("demo", "dsa", time.Hour); err == nil || !strings.Contains(err.Error(), `"dsa"`) {
			t.Errorf("error = %v", err)
		}
	})
}
