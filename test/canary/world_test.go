package canary

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/agentprocess"
)

// patience bounds every wait.
const patience = 40 * time.Second

// program is the built binary. It is set before any test runs and not changed after. It is not this
// test's own: that has in it what it looks for.
var program string

func TestMain(m *testing.M) { os.Exit(agentprocess.Main(&program, m.Run)) }

// The clients, one for each way to authenticate.
const (
	byPost  = "post"
	byBasic = "basic"
	byRSA   = "rsa"
	byEC    = "ec"
	byEd    = "ed"
	byJWT   = "jwt"
)

var clients = []string{byPost, byBasic, byRSA, byEC, byEd, byJWT}

// world is a server, and credentials that it knows.
type world struct {
	t       *testing.T
	dir     string // of the credentials
	sinks   string
	scratch string // the agent's temporary files
	front   *front
	server  *devserver.Server
	issuer  *ecdsa.PrivateKey
	listen  string
	timeout time.Duration // of a request
	config  string        // the file

	rotations int

	state    string // where the agent keeps its tokens; "" for nowhere
	stateKey []Secret

	mu      sync.Mutex
	secrets map[string][]Secret // guarded by mu: of each client, old ones too
}

// newWorld makes a world whose tokens live for so long.
func newWorld(t *testing.T, ttl time.Duration, faults ...devserver.Fault) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), sinks: t.TempDir(), scratch: t.TempDir(), front: newFront(t), listen: agentprocess.FreeAddress(t), timeout: 30 * time.Second, secrets: map[string][]Secret{}}
	var err error
	if w.issuer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if w.server, err = devserver.New(devserver.Options{URL: w.front.URL, TTL: ttl, Faults: faults}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.server.Close() })
	w.front.back = w.server.Handler()
	w.rotate()
	w.config = filepath.Join(w.dir, "credagent.yaml")
	return w
}

// pair is a certificate and its key, both as files hold them.
type pair struct {
	certificate, key []byte
	parsed           *x509.Certificate
}

func newPair(kind devserver.KeyKind) pair {
	certificate, key, parsed, err := devserver.NewCertificate("client", kind, time.Hour)
	if err != nil {
		panic(err)
	}
	return pair{certificate, key, parsed}
}

// rsaPairs are made once, because RSA keys take their time.
var rsaPairs = sync.OnceValue(func() []pair { return []pair{newPair(devserver.KeyRSA), newPair(devserver.KeyRSA)} })

// rotate gives every client a new credential, at the server first.
func (w *world) rotate() {
	w.t.Helper()
	for _, name := range []string{byPost, byBasic} {
		text := "canary of " + name + " +/%&~é " + rand.Text()
		w.server.SetClient(devserver.Client{ID: name, Secret: secret.New(text)})
		w.replace(name+".secret", []byte(text+"\n"))
		w.remember(name, Text("secret of "+name, text))
	}
	for name, p := range map[string]pair{
		byRSA: rsaPairs()[w.rotations%len(rsaPairs())], byEC: newPair(devserver.KeyEC), byEd: newPair(devserver.KeyEd25519),
	} {
		w.server.SetClient(devserver.Client{ID: name, Certificates: []*x509.Certificate{p.parsed}})
		w.replace(name+".key", p.key)
		w.replace(name+".pem", p.certificate)
		key, err := Key("key of "+name, p.key)
		if err != nil {
			w.t.Fatal(err)
		}
		w.remember(name, key)
	}
	w.rotations++
	w.server.SetClient(devserver.Client{ID: byJWT, AssertionIssuers: []devserver.AssertionIssuer{{
		Issuer: "https://issuer.example", Subject: "workload", Audience: "credagent", Key: w.issuer.Public(),
	}}})
	assertion := w.assertion()
	w.replace("assertion", []byte(assertion))
	w.remember(byJWT, Text("assertion of "+byJWT, assertion[strings.LastIndex(assertion, ".")+1:]))
}

// assertion is what a cluster would sign for a workload.
func (w *world) assertion() string {
	w.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: w.issuer}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	signed, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: "https://issuer.example", Subject: "workload", Audience: jwt.Audience{"credagent"}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(time.Now()), Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}).Serialize()
	if err != nil {
		w.t.Fatal(err)
	}
	return signed
}

func (w *world) remember(client string, s Secret) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets[client] = append(w.secrets[client], s)
}

// all is everything secret but the tokens: what is in files, and what was made of it.
func (w *world) all() []Secret {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.front.secrets("header", "signature")
	for _, name := range clients {
		all = append(all, w.secrets[name]...)
	}
	return all
}

// own is all of one client.
func (w *world) own(client string) []Secret {
	w.mu.Lock()
	defer w.mu.Unlock()
	own := w.secrets[client]
	for _, s := range w.front.secrets("header", "signature") {
		if strings.HasSuffix(s.Name, " of "+client) {
			own = append(own, s)
		}
	}
	return own
}

// configuration is a configuration of all clients, with a token and a sink for each.
func (w *world) configuration() string {
	var text strings.Builder
	fmt.Fprintf(&text, "log: { level: debug }\nlisten: %s\n", w.listen)
	if w.state != "" {
		fmt.Fprintf(&text, "state: { dir: %s, key_file: %s.key }\n", w.state, w.state)
	}
	text.WriteString("clients:\n")
	for name, credential := range map[string]string{
		byPost:  "secretcred, config: { secret_file: DIR/post.secret, auth_method: client_secret_post }",
		byBasic: "secretcred, config: { secret_file: DIR/basic.secret, auth_method: client_secret_basic }",
		byRSA:   "certcred, config: { certificate_file: DIR/rsa.pem, private_key_file: DIR/rsa.key }",
		byEC:    "certcred, config: { certificate_file: DIR/ec.pem, private_key_file: DIR/ec.key }",
		byEd:    "certcred, config: { certificate_file: DIR/ed.pem, private_key_file: DIR/ed.key }",
		byJWT:   "jwtcred, config: { assertion_file: DIR/assertion }",
	} {
		credential = strings.ReplaceAll(credential, "DIR", w.dir)
		fmt.Fprintf(&text, "  %s: { issuer: %q, client_id: %s, request_timeout: %s, credential: { provider: %s } }\n", name, w.front.URL, name, w.timeout, credential)
	}
	text.WriteString("tokens:\n")
	for _, name := range clients {
		fmt.Fprintf(&text, "  %s: { client: %s, scopes: [read] }\n", name, name)
	}
	text.WriteString("sinks:\n")
	for _, name := range clients {
		fmt.Fprintf(&text, "  - { type: file, token: %s, path: %s/%s.token }\n", name, w.sinks, name)
	}
	return text.String()
}

func (w *world) write(path string, content []byte) {
	w.t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// replace writes a credential's file in one step.
func (w *world) replace(name string, content []byte) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	w.write(path+".new", content)
	if err := os.Rename(path+".new", path); err != nil {
		w.t.Fatal(err)
	}
}

// command is the program with an environment of its own.
func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + w.scratch}
	return cmd
}

// agent is a running `credagent run`.
type agent struct {
	*agentprocess.Process
	w *world
}

func (w *world) run() *agent {
	w.t.Helper()
	w.write(w.config, []byte(w.configuration()))
	return &agent{agentprocess.Start(w.t, w.command("run", "-c", w.config)), w}
}

// await waits until something is so.
func (w *world) await(what string, so func() bool) {
	w.t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("it did not come true that %s", what)
		}
	}
}

// ready reports whether every token is there.
func (w *world) ready() bool { return agentprocess.Ready(w.listen) }
