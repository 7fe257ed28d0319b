package plugintest

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"html"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/provider"
)

const (
	tokenPath = "/token"
	clientID  = "plugintest-client"
	// shortestSecret is the least length in bytes at which a value that a provider adds counts as a secret.
	shortestSecret = 8
)

// hangUp is the status that stands for no answer at all.
const hangUp = 0

// endpoint is a token endpoint that answers as instructed and remembers the requests.
type endpoint struct {
	server *httptest.Server
	roots  []byte

	mu     sync.Mutex
	status int        // guarded by mu, as is got: of the answer
	got    []received // since begin
}

// received is a request as it arrived.
type received struct {
	method, path string
	form         url.Values
	header       http.Header
	certificate  string // the SHA-256 of the client's certificate; "" without one
}

func newEndpoint() *endpoint {
	e := &endpoint{}
	e.server = httptest.NewUnstartedServer(http.HandlerFunc(e.serve))
	e.server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	e.server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections are cut on purpose
	e.server.StartTLS()
	e.roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.server.Certificate().Raw})
	return e
}

func (e *endpoint) close() { e.server.Close() }

// request returns the request that the agent would send.
func (e *endpoint) request() provider.Request {
	return provider.Request{
		TokenEndpoint: e.server.URL + tokenPath,
		Issuer:        e.server.URL,
		ClientID:      clientID,
		Form: url.Values{
			"grant_type": {"client_credentials"}, "scope": {"plugintest.read plugintest.write"},
			"resource": {"https://a.example", "https://b.example"}, "plugintest_parameter": {"as it was"},
		},
		Header:     http.Header{"User-Agent": {"credagent"}, "X-Plugintest": {"as it was"}},
		TrustRoots: e.roots,
		Timeout:    10 * time.Second,
	}
}

func (e *endpoint) begin(status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status, e.got = status, nil
}

func (e *endpoint) end() []received {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.got)
}

func (e *endpoint) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	got := received{method: r.Method, path: r.URL.RequestURI(), header: r.Header.Clone()}
	got.form, _ = url.ParseQuery(string(body))
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		sum := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
		got.certificate = hex.EncodeToString(sum[:])
	}
	e.mu.Lock()
	e.got = append(e.got, got)
	status := e.status
	e.mu.Unlock()
	switch {
	case status == hangUp:
		panic(http.ErrAbortHandler)
	case status >= 300 && status < 400:
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	case status == http.StatusOK:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"plugintest-token","token_type":"Bearer","expires_in":3600}`)
	default: // as servers do that are configured to be helpful
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(status)
		fmt.Fprintf(w, "%s\n%v\n%s", body, r.Header, html.EscapeString(fmt.Sprint(got.form)))
	}
}

// added is the authentication of a request: everything in it that the agent did not ask for.
type added struct {
	form        url.Values
	header      http.Header
	certificate string
}

// split separates the added parts from those that were asked for. Its error names what was changed.
func (r received) split(asked provider.Request) (added, error) {
	a := added{form: url.Values{}, header: http.Header{}, certificate: r.certificate}
	form, header := url.Values{"client_id": {asked.ClientID}}, asked.Header.Clone()
	for name, values := range asked.Form {
		form[name] = values
	}
	header.Set("Accept", "application/json")
	header.Set("Content-Type", "application/x-www-form-urlencoded")
	// With Basic the client_id is in the header (RFC 6749, 2.3.1).
	if !r.form.Has("client_id") && r.header.Get("Authorization") != "" {
		form.Del("client_id")
	}
	wrong := differ(form, r.form, "parameter", a.form)
	got := r.header.Clone()
	for _, name := range []string{"Content-Length", "Accept-Encoding"} {
		got.Del(name) // Go's own
	}
	wrong = append(wrong, differ(header, got, "header", a.header)...)
	if r.method != http.MethodPost || r.path != tokenPath {
		wrong = append(wrong, fmt.Sprintf("it was %s %s", r.method, r.path))
	}
	if len(a.form) == 0 && len(a.header) == 0 && a.certificate == "" {
		wrong = append(wrong, "nothing authenticates it")
	}
	if len(wrong) > 0 {
		return a, fmt.Errorf("the request that was sent is not the one that was asked for: %s", strings.Join(wrong, ", "))
	}
	return a, nil
}

// differ compares the asked with the received values, and collects the new ones.
func differ(asked, got map[string][]string, what string, fresh map[string][]string) []string {
	var wrong []string
	for name, values := range asked {
		if !slices.Equal(values, got[name]) {
			wrong = append(wrong, what+" "+name+" was changed")
		}
	}
	for name, values := range got {
		if _, known := asked[name]; !known {
			fresh[name] = values
		}
	}
	slices.Sort(wrong)
	return wrong
}

// secrets returns the added values by name.
func (a added) secrets() map[string]string {
	secrets := map[string]string{}
	keep := func(name, value string) {
		if len(value) >= shortestSecret && name != "client_assertion_type" {
			secrets[value] = "what it adds as " + name
		}
	}
	for name, values := range a.form {
		for _, value := range values {
			keep(name, value)
		}
	}
	for name, values := range a.header {
		for _, value := range values {
			keep(name, value)
			_, credentials, _ := strings.Cut(value, " ")
			keep(name, credentials)
			pair, _ := base64.StdEncoding.DecodeString(credentials)
			_, password, _ := strings.Cut(string(pair), ":")
			keep(name, password)
		}
	}
	return secrets
}

// String returns everything that was added, for comparison.
func (a added) String() string { return fmt.Sprintf("%v %v %s", a.form, a.header, a.certificate) }
