package demo

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/loopback"
)

// The client of a server that runs alone, and the scope in its configuration.
const (
	guest      = "demo"
	guestScope = "demo.read"
)

// The keys of the log.
const (
	keyClient     = "client"
	keyAuthMethod = "auth_method"
	keyPath       = "path"
	keyStatus     = "status"
	keyOutcome    = "outcome"
	keyFault      = "fault"
	keyNever      = "never"
	keyRetryAfter = "retry_after"
	keyEarly      = "early"
	keyClaims     = "claims"
	keyListen     = "listen"
)

// ServeOptions describes what server to run.
type ServeOptions struct {
	Listen string // host:port
	TTL    time.Duration
	TLS    bool
	Faults []devserver.Fault
	Manner string       // the known server to imitate; "" is none
	Out    io.Writer    // gets one line of JSON
	Log    *slog.Logger // gets one line a request
}

// announcement is that line of JSON: the server, and a client whose credentials are in files.
type announcement struct {
	URL             string `json:"url"`
	TokenURL        string `json:"token_url"`
	Issuer          string `json:"issuer"`
	Control         string `json:"control"`
	Resource        string `json:"resource"` // accepts the server's tokens
	ClientID        string `json:"client_id"`
	SecretFile      string `json:"secret_file"`
	CertificateFile string `json:"certificate_file"`
	PrivateKeyFile  string `json:"private_key_file"`
	CAFile          string `json:"ca_file,omitempty"`
	GoogleKeyFile   string `json:"google_key_file,omitempty"` // of service account demo@project.iam.gserviceaccount.com
	Scope           string `json:"scope"`
	Config          string `json:"config"`
}

// Serve runs the server alone until ctx ends, which is no error. Then it removes the client's files.
func Serve(ctx context.Context, o ServeOptions) error {
	w, err := newWorld("credagent-devserver-")
	if err != nil {
		return err
	}
	defer w.remove()
	server, err := devserver.New(devserver.Options{Listen: o.Listen, TTL: o.TTL, TLS: o.TLS, Faults: o.Faults, Control: true, Manner: o.Manner})
	if err != nil {
		return err
	}
	requests, unsubscribe := server.Subscribe()
	defer unsubscribe()
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Close()
	manner, err := devserver.ParseManner(o.Manner)
	if err != nil {
		return err
	}
	a, err := w.invite(server, manner)
	if err != nil {
		return err
	}
	if !loopback.IsHostPort(o.Listen) {
		o.Log.Warn("listening beyond this machine, where the clients' tokens and the faults are for anybody", keyListen, o.Listen)
	}
	if err := json.NewEncoder(o.Out).Encode(a); err != nil {
		return fmt.Errorf("writing the server's address: %w", err)
	}
	if endless, never := devserver.Unmet(o.Faults); len(never) > 0 {
		o.Log.Warn("a fault without a count never ends, so those after it never come", keyFault, endless.String(), keyNever, never)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-requests:
			o.Log.LogAttrs(ctx, slog.LevelInfo, "token request", attributes(r)...)
		}
	}
}

// attributes returns the details of a request that people want to know, without those that do not apply.
func attributes(r devserver.Request) []slog.Attr {
	attrs := []slog.Attr{slog.String(keyClient, r.Client), slog.String(keyAuthMethod, r.AuthMethod),
		slog.String(keyPath, r.Path), slog.Int(keyStatus, r.Status), slog.String(keyOutcome, r.Outcome)}
	if r.Fault != "" {
		attrs = append(attrs, slog.String(keyFault, r.Fault))
	}
	if claims := r.Form.Get("claims"); claims != "" {
		attrs = append(attrs, slog.String(keyClaims, claims))
	}
	if r.RetryAfter != "" {
		attrs = append(attrs, slog.String(keyRetryAfter, r.RetryAfter))
	}
	if r.Early > 0 {
		attrs = append(attrs, slog.Duration(keyEarly, r.Early.Round(time.Millisecond)))
	}
	return attrs
}

// invite registers a client and writes its credentials and a configuration for it.
func (w *world) invite(server *devserver.Server, manner devserver.Manner) (announcement, error) {
	a := announcement{
		URL: server.URL(), TokenURL: server.TokenURL(), Issuer: server.Issuer(), Control: server.URL() + "/control",
		Resource: server.URL() + "/resource",
		ClientID: guest, Scope: guestScope,
		SecretFile: w.path("client.secret"), CertificateFile: w.path("client.pem"), PrivateKeyFile: w.path("client.key"),
		Config: w.path("credagent.yaml"),
	}
	certificate, key, parsed, err := devserver.NewCertificate(guest, devserver.KeyRSA, certificateLife)
	if err != nil {
		return a, err
	}
	server.SetClient(devserver.Client{ID: guest, Secret: w.secret, Certificates: []*x509.Certificate{parsed}})
	files := map[string][]byte{
		a.SecretFile: []byte(w.secret.Reveal()), a.CertificateFile: certificate, a.PrivateKeyFile: key,
	}
	if ca := server.CAPEM(); ca != nil {
		a.CAFile = w.path("ca.pem")
		files[a.CAFile] = ca
	}
	if manner.Name == "google" {
		account, file, err := devserver.NewServiceAccount(guest+"@project.iam.gserviceaccount.com", a.TokenURL)
		if err != nil {
			return a, err
		}
		server.SetClient(account)
		a.GoogleKeyFile = w.path("google.json")
		files[a.GoogleKeyFile] = file
	}
	files[a.Config] = []byte(a.configuration(w.path("demo.token"), manner))
	for path, data := range files {
		if err := replaceFile(path, data); err != nil {
			return a, err
		}
	}
	return a, nil
}

func (a announcement) configuration(sink string, manner devserver.Manner) string {
	signed, asked := "", ""
	if manner.Name != "" {
		signed = ", signing_alg: RS256" // every server takes it
	}
	if manner.Audience {
		asked = ", audience: " + quoted(a.Resource)
	}
	if manner.Resource {
		asked = ", resources: [" + quoted(a.Resource) + "]"
	}
	ca, mutual := "", ""
	if a.CAFile != "" {
		ca = "\n    ca_file: " + quoted(a.CAFile)
		mutual = "\n    # or, in certcred's config: auth_method: self_signed_tls_client_auth"
	}
	return fmt.Sprintf(`# A client of the server at %[1]s. These files go away when it stops.
clients:
  %[2]s:
    token_url: %[3]s%[4]s
    client_id: %[2]s
    credential: { provider: certcred, config: { certificate_file: %[5]s, private_key_file: %[6]s%[11]s } }
    # or: credential: { provider: secretcred, config: { secret_file: %[7]s } }%[10]s
tokens:
  %[2]s: { client: %[2]s, scopes: [%[8]s], cae: true%[12]s }
sinks:
  - { type: file, token: %[2]s, path: %[9]s }
`, a.URL, a.ClientID, a.TokenURL, ca, quoted(a.CertificateFile), quoted(a.PrivateKeyFile), quoted(a.SecretFile), a.Scope, quoted(sink), mutual, signed, asked)
}
