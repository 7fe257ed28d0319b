//go:build unix

// Package oidctest runs a certified authorization server, the npm package oidc-provider, for integration tests that
// must not depend on credagent's own understanding of OAuth.
//
// [Start] installs the server once into the user's cache directory, runs it on loopback TLS with
// the clients of the test, and stops it when the test ends or its process dies. It needs node and
// npm, and on its first run a package registry; with -short the test is skipped instead.
package oidctest

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/testkit/nodetest"
)

// The resources (RFC 8707) that the server knows; a token without a resource is opaque.
const (
	ResourceOpaque = "https://opaque.example.com" // its tokens can be introspected
	ResourceJWT    = "https://jwt.example.com"    // its tokens are JWTs (RFC 9068), which this server does not introspect
)

const (
	startLimit   = 30 * time.Second
	stopLimit    = 5 * time.Second
	requestLimit = 10 * time.Second
	maxAnswer    = 1 << 20
)

//go:embed server/package.json server/package-lock.json server/server.mjs
var serverFiles embed.FS

// provider is the server's script with its packages.
func provider() (nodetest.Project, error) {
	files, err := fs.Sub(serverFiles, "server")
	return nodetest.Project{Name: "oidc-provider", Files: files, Script: "server.mjs"}, err
}

// Server is a running authorization server.
type Server struct {
	Issuer   string // for discovery
	TokenURL string // the token endpoint
	// MTLSTokenURL is the token endpoint where client certificates are asked for (RFC 8705, 5): with
	// [WithMTLSAlias] one of its own, otherwise the same.
	MTLSTokenURL string
	CAFile       string // PEM file of the root that signed the server's certificate

	introspectionURL string
	introspector     Client
	client           *http.Client
}

// Request is one token request that the server answered.
type Request struct {
	ClientID    string `json:"client_id"` // empty when the server does not know the client
	Status      int    `json:"status"`
	TLS         string `json:"tls"`         // TLSv1.2 or TLSv1.3
	Port        int    `json:"port"`        // that it came in by
	Certificate bool   `json:"certificate"` // the client showed one
}

// Option changes how [Start] runs the server.
type Option func(*settings)

type settings struct {
	ttl    time.Duration
	scopes []string
	roots  []*x509.Certificate
	tls    string
	alias  bool
}

// WithTTL sets the life of the tokens, in whole seconds; ten minutes otherwise.
func WithTTL(ttl time.Duration) Option { return func(s *settings) { s.ttl = ttl } }

// WithScopes replaces the scopes that the server knows, "read" and "write". As OAuth allows, the server grants the
// scopes that it knows and ignores the rest.
func WithScopes(scopes ...string) Option { return func(s *settings) { s.scopes = scopes } }

// WithClientRoots names the roots that the certificates of [TLSClientAuth] clients must come from.
func WithClientRoots(roots ...*x509.Certificate) Option {
	return func(s *settings) { s.roots = append(s.roots, roots...) }
}

// WithTLS makes the server speak one version of TLS only, such as [tls.VersionTLS12].
func WithTLS(version uint16) Option {
	return func(s *settings) { s.tls = strings.ReplaceAll(tls.VersionName(version), "TLS ", "TLSv") }
}

// WithMTLSAlias gives the server a second port, named in its metadata, and makes it ask for client certificates only
// there.
func WithMTLSAlias() Option { return func(s *settings) { s.alias = true } }

// Start runs a server that knows the clients until the test ends. It fails the test when node or
// npm is missing or the server refuses a client's registration.
func Start(t testing.TB, clients []Client, opts ...Option) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("running a real authorization server takes seconds: not with -short")
	}
	server, err := start(t, clients, opts)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// Introspect asks the server what it knows of an opaque access token (RFC 7662).
func (s *Server) Introspect(t testing.TB, accessToken string) map[string]any {
	t.Helper()
	form := url.Values{"token": {accessToken}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.introspectionURL, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(s.introspector.ID, s.introspector.Secret)
	var answer map[string]any
	if err := s.ask(req, &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// Requests lists the token requests answered so far, oldest first.
func (s *Server) Requests(t testing.TB) []Request {
	t.Helper()
	var requests []Request
	if err := s.get(t.Context(), s.Issuer+"/_test/requests", &requests); err != nil {
		t.Fatal(err)
	}
	return requests
}

func start(t testing.TB, clients []Client, opts []Option) (*Server, error) {
	set := settings{ttl: 10 * time.Minute, scopes: []string{"read", "write"}}
	for _, opt := range opts {
		opt(&set)
	}
	introspector := SecretBasic("oidctest-introspector", rand.Text())
	introspector.GrantTypes = []string{}
	w := workspace{dir: t.TempDir()}
	if err := w.write(append([]Client{introspector}, clients...), set.roots); err != nil {
		return nil, err
	}
	server := &Server{CAFile: w.path(caFile), introspector: introspector}
	cmd, err := w.command(t.Context(), set)
	if err != nil {
		return nil, err
	}
	if server.Issuer, err = launch(t, cmd); err != nil {
		return nil, err
	}
	return server, server.connect(t)
}

// connect makes the client that the methods use, and learns the endpoints by discovery.
func (s *Server) connect(t testing.TB) error {
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(s.CAFile)
	if err != nil {
		return err
	}
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport, Timeout: requestLimit}

	var metadata struct {
		TokenEndpoint         string `json:"token_endpoint"`
		IntrospectionEndpoint string `json:"introspection_endpoint"`
		Aliases               struct {
			TokenEndpoint string `json:"token_endpoint"`
		} `json:"mtls_endpoint_aliases"`
	}
	if err := s.get(t.Context(), s.Issuer+"/.well-known/openid-configuration", &metadata); err != nil {
		return err
	}
	s.TokenURL, s.introspectionURL = metadata.TokenEndpoint, metadata.IntrospectionEndpoint
	s.MTLSTokenURL = cmp.Or(metadata.Aliases.TokenEndpoint, metadata.TokenEndpoint)
	return nil
}

func (s *Server) get(ctx context.Context, target string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	return s.ask(req, answer)
}

func (s *Server) ask(req *http.Request, answer any) error {
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of %q: %w", req.URL, err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("asking %q: %s: %s", req.URL, res.Status, body)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("reading the answer of %q: %w", req.URL, err)
	}
	return nil
}

// The files of a workspace.
const (
	caFile      = "ca.pem"
	certFile    = "server.pem"
	keyFile     = "server.key"
	rootsFile   = "client-roots.pem"
	clientsFile = "clients.json"
	stderrFile  = "stderr.log"
)

// workspace is the directory that holds what one run of the server reads and writes.
type workspace struct{ dir string }

func (w workspace) path(name string) string { return filepath.Join(w.dir, name) }

func (w workspace) write(clients []Client, roots []*x509.Certificate) error {
	registrations, err := json.Marshal(clients)
	if err != nil {
		return fmt.Errorf("writing the clients' registrations: %w", err)
	}
	id, err := newIdentity()
	if err != nil {
		return fmt.Errorf("making the server's certificate: %w", err)
	}
	contents := map[string][]byte{
		caFile:      id.ca,
		certFile:    id.cert,
		keyFile:     id.key,
		rootsFile:   certificatesPEM(roots),
		clientsFile: registrations,
	}
	for name, content := range contents {
		if err := os.WriteFile(w.path(name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// command is the server's process, not yet started. It lives until its stdin closes, and so no
// longer than the process of the test, however that ends.
func (w workspace) command(ctx context.Context, set settings) (*exec.Cmd, error) {
	project, err := provider()
	if err != nil {
		return nil, err
	}
	cmd, err := project.Command(ctx,
		"--cert", w.path(certFile),
		"--key", w.path(keyFile),
		"--clients", w.path(clientsFile),
		"--ttl", strconv.Itoa(int(set.ttl/time.Second)),
		"--scopes", strings.Join(set.scopes, " "),
	)
	if err != nil {
		return nil, err
	}
	cmd.Dir = w.dir
	if set.tls != "" {
		cmd.Args = append(cmd.Args, "--tls", set.tls)
	}
	if set.alias {
		cmd.Args = append(cmd.Args, "--mtls-alias")
	}
	if len(set.roots) > 0 {
		cmd.Env = append(cmd.Env, "NODE_EXTRA_CA_CERTS="+w.path(rootsFile))
	}
	return cmd, nil
}

// launch starts the server and returns its issuer once it listens.
func launch(t testing.TB, cmd *exec.Cmd) (string, error) {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	stderr, err := os.Create(filepath.Join(cmd.Dir, stderrFile))
	if err != nil {
		return "", err
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("starting the authorization server: %w", err)
	}
	issuer, err := readIssuer(cmd, stdout)
	if err != nil {
		_ = stop(cmd, stdin) // its output is more useful than its exit status
		return "", fmt.Errorf("waiting for the authorization server to listen: %w\n%s", err, said(cmd))
	}
	t.Cleanup(func() {
		if err := stop(cmd, stdin); err != nil {
			t.Errorf("stopping the authorization server: %v", err)
		}
		if t.Failed() {
			t.Logf("the authorization server said:\n%s", said(cmd))
		}
	})
	return issuer, nil
}

func readIssuer(cmd *exec.Cmd, stdout io.Reader) (string, error) {
	timer := time.AfterFunc(startLimit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		return "", fmt.Errorf("it ended, or was killed after %s", startLimit)
	}
	if err != nil {
		return "", err
	}
	var ready struct {
		Issuer string `json:"issuer"`
	}
	if err := json.Unmarshal(line, &ready); err != nil {
		return "", fmt.Errorf("reading its line %q: %w", line, err)
	}
	return ready.Issuer, nil
}

func stop(cmd *exec.Cmd, stdin io.Closer) error {
	timer := time.AfterFunc(stopLimit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = stdin.Close()
	return cmd.Wait()
}

// said returns what the server wrote to its stderr.
func said(cmd *exec.Cmd) []byte {
	text, err := os.ReadFile(filepath.Join(cmd.Dir, stderrFile))
	if err != nil {
		return []byte(err.Error())
	}
	return text
}
