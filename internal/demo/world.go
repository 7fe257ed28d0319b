package demo

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

// The two clients of the demo, with a token each.
const (
	certClient   = "payments"
	certToken    = "graph"
	secretClient = "reporting"
	secretToken  = "reports"
)

// The sinks of the demo, by file name.
const (
	rawSink    = "graph.token"
	jsonSink   = "graph.json"
	headerSink = "reports.header"
	envSink    = "app.env"
)

const (
	certFile        = "payments.pem"
	secretFile      = "reporting.secret"
	certificateLife = 24 * time.Hour
)

// world is the temporary directory and the credentials in it.
type world struct {
	dir     string
	secret  secret.Value
	current *x509.Certificate
	rotated string // the SHA-256 of the certificate that replaced the first one; "" before
}

// newWorld creates a directory that only this user can enter, and a client secret.
func newWorld(prefix string) (*world, error) {
	parent, err := filepath.Abs(os.TempDir()) // the configuration needs absolute paths
	if err != nil {
		return nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	dir, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return nil, fmt.Errorf("making a temporary directory in %q: %w", parent, causeOf(err))
	}
	return &world{dir: dir, secret: secret.New(rand.Text())}, nil
}

func (w *world) remove() { _ = os.RemoveAll(w.dir) }

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// enroll creates the clients' credentials and registers them at the server.
func (w *world) enroll(server *devserver.Server) error {
	data, certificate, err := newPair()
	if err != nil {
		return err
	}
	if err := replaceFile(w.path(certFile), data); err != nil {
		return err
	}
	if err := replaceFile(w.path(secretFile), []byte(w.secret.Reveal()+"\n")); err != nil {
		return err
	}
	w.current = certificate
	server.SetClient(devserver.Client{ID: certClient, Certificates: []*x509.Certificate{certificate}})
	server.SetClient(devserver.Client{ID: secretClient, Secret: w.secret})
	return nil
}

// rotate replaces the certificate as people do: register the new one, put it in place, remove the
// old one. Certificate and key are in one file, so that no reader can see half a change.
func (w *world) rotate(server *devserver.Server) error {
	data, next, err := newPair()
	if err != nil {
		return err
	}
	server.SetClient(devserver.Client{ID: certClient, Certificates: []*x509.Certificate{w.current, next}})
	if err := replaceFile(w.path(certFile), data); err != nil {
		return err
	}
	server.SetClient(devserver.Client{ID: certClient, Certificates: []*x509.Certificate{next}})
	w.current, w.rotated = next, fingerprint(next)
	return nil
}

// newPair makes a certificate with its key in one PEM file.
func newPair() ([]byte, *x509.Certificate, error) {
	certificate, key, parsed, err := devserver.NewCertificate(certClient, devserver.KeyEC, certificateLife)
	if err != nil {
		return nil, nil, err
	}
	return append(certificate, key...), parsed, nil
}

func fingerprint(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return hex.EncodeToString(sum[:])
}

// replaceFile replaces a file with a new one that only this user can read.
func replaceFile(path string, data []byte) error {
	next := path + ".new"
	err := os.WriteFile(next, data, 0o600)
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, causeOf(err))
	}
	return nil
}

// causeOf drops the path, which the message already has.
func causeOf(err error) error {
	var inPath *fs.PathError
	if errors.As(err, &inPath) {
		return inPath.Err
	}
	var inLink *os.LinkError
	if errors.As(err, &inLink) {
		return inLink.Err
	}
	return err
}

// configuration returns what a user would write for the two clients.
func (w *world) configuration(tokenURL string) string {
	return fmt.Sprintf(`listen: ""
clients:
  %[1]s:
    token_url: %[3]s
    client_id: %[1]s
    credential: { provider: certcred, config: { certificate_file: %[4]s } }
  %[2]s:
    token_url: %[3]s
    client_id: %[2]s
    credential: { provider: secretcred, config: { secret_file: %[5]s } }
tokens:
  %[6]s: { client: %[1]s, scopes: [graph.read], refresh_at: %[8]s }
  %[7]s: { client: %[2]s, scopes: [reports.read], refresh_at: %[8]s }
sinks:
  - { type: file, token: %[6]s, path: %[9]s }
  - { type: file, token: %[6]s, path: %[10]s, format: json }
  - { type: file, token: %[7]s, path: %[11]s, format: header }
  - { type: env, path: %[12]s, variables: { GRAPH_TOKEN: %[6]s, REPORTS_TOKEN: %[7]s } }
`, certClient, secretClient, tokenURL, quoted(w.path(certFile)), quoted(w.path(secretFile)), certToken, secretToken, refreshAt,
		quoted(w.path(rawSink)), quoted(w.path(jsonSink)), quoted(w.path(headerSink)), quoted(w.path(envSink)))
}

// quoted returns any value in the configuration's syntax: YAML accepts JSON strings, and a dollar sign is doubled.
func quoted(value string) string {
	text, _ := json.Marshal(strings.ReplaceAll(value, "$", "$$")) // a string always can be
	return string(text)
}

// sinkFact is what was found in a sink at the end.
type sinkFact struct {
	name string
	err  error // nil if it holds tokens that the server accepts
}

// inspect reads every sink as its workload would.
func (w *world) inspect(valid func(string) bool) []sinkFact {
	var found []sinkFact
	for _, sink := range []struct {
		name   string
		tokens func([]byte) ([]string, error)
	}{
		{rawSink, func(data []byte) ([]string, error) { return []string{string(data)}, nil }},
		{jsonSink, tokensOfJSON},
		{headerSink, tokensOfHeader},
		{envSink, tokensOfEnv},
	} {
		found = append(found, sinkFact{sink.name, inspectFile(w.path(sink.name), sink.tokens, valid)})
	}
	return found
}

func inspectFile(path string, tokens func([]byte) ([]string, error), valid func(string) bool) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	held, err := tokens(data)
	if err != nil {
		return err
	}
	for _, token := range held {
		if !valid(token) {
			return errNotAccepted
		}
	}
	return nil
}

var (
	errNotAccepted = errors.New("the server does not accept the token in it")
	errForm        = errors.New("it has not the form that was configured")
)

func tokensOfJSON(data []byte) ([]string, error) {
	var held struct {
		AccessToken string `json:"access_token"`
	}
	if json.Unmarshal(data, &held) != nil {
		return nil, errForm
	}
	return []string{held.AccessToken}, nil
}

func tokensOfHeader(data []byte) ([]string, error) {
	value, ok := strings.CutPrefix(string(data), "Authorization: Bearer ")
	token, ends := strings.CutSuffix(value, "\n")
	if !ok || !ends {
		return nil, errForm
	}
	return []string{token}, nil
}

func tokensOfEnv(data []byte) ([]string, error) {
	values := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		values[name] = value
	}
	if len(values) != 2 {
		return nil, errForm
	}
	return []string{values["GRAPH_TOKEN"], values["REPORTS_TOKEN"]}, nil
}
