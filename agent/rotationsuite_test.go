package agent

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/filewatch"
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/certcred"
	"github.com/credagent/credagent/sink"
)

const swaps = 200

// rotations are a directory with a certificate that is swapped again and again, and the server that
// knows only the newest two.
type rotations struct {
	t      *testing.T
	dir    string
	source plugins.Source
	watch  told
	random *rand.Rand

	mu      sync.Mutex
	known   []string // guarded by mu, as is all that follows: thumbprints, the newest last
	granted map[string]time.Time
	refused int
	proved  int
}

// pair is a certificate and its key, PEM.
type pair struct{ certificate, key []byte }

// swapWays are how those who rotate certificates replace files. Between two steps time passes, in
// which the agent may look.
var swapWays = []struct {
	name  string
	links bool // the files are links into a directory of one generation
	swap  func(r *rotations, p pair)
}{
	{"rename", false, func(r *rotations, p pair) {
		for name, data := range map[string][]byte{"tls.crt": p.certificate, "tls.key": p.key} {
			putFile(r.t, r.path(name+".new"), string(data))
			rename(r.t, r.path(name))
			r.told()
		}
	}},
	{"symlink swap", true, func(r *rotations, p pair) {
		generation := fmt.Sprintf("..%d", time.Now().UnixNano())
		for _, err := range []error{
			os.Mkdir(r.path(generation), 0o700),
			os.WriteFile(r.path(generation, "tls.crt"), p.certificate, 0o600),
			os.WriteFile(r.path(generation, "tls.key"), p.key, 0o600),
			os.Symlink(generation, r.path("..next")),
			os.Rename(r.path("..next"), r.path("..data")),
		} {
			if err != nil {
				r.t.Error(err)
			}
		}
		r.told()
	}},
	{"in place", false, func(r *rotations, p pair) {
		for name, data := range map[string][]byte{"tls.crt": p.certificate, "tls.key": p.key} {
			half := len(data) / 2
			putFile(r.t, r.path(name), string(data[:half]))
			r.told()
			putFile(r.t, r.path(name), string(data))
			r.told()
		}
	}},
	{"delete and create", false, func(r *rotations, p pair) {
		for _, name := range []string{"tls.crt", "tls.key"} {
			if err := os.Remove(r.path(name)); err != nil {
				r.t.Error(err)
			}
			r.told()
		}
		for name, data := range map[string][]byte{"tls.crt": p.certificate, "tls.key": p.key} {
			putFile(r.t, r.path(name), string(data))
			r.told()
		}
	}},
}

func (r *rotations) path(names ...string) string {
	return filepath.Join(append([]string{r.dir}, names...)...)
}

// told tells the agent of a change, unless the system would not, and lets a little time pass.
func (r *rotations) told() {
	if r.watch.changes != nil {
		r.watch.tell()
	}
	pass(time.Duration(r.random.IntN(1500)) * time.Millisecond)
}

// make makes a certificate that the server knows from now on, in the place of the last but one.
func (r *rotations) make() pair {
	certificate, key, parsed, err := devserver.NewCertificate("app", devserver.KeyEC, 24*time.Hour)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = append(r.known, thumbprint(parsed))
	r.known = r.known[max(0, len(r.known)-2):]
	return pair{certificate, key}
}

// stranger makes a certificate that the server does not know.
func (r *rotations) stranger() pair {
	p := r.make()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = r.known[:len(r.known)-1]
	return p
}

// thumbprint is a certificate's identity, as the provider gives it.
func thumbprint(c *x509.Certificate) string {
	return fmt.Sprintf("sha256:%X", sha256.Sum256(c.Raw))
}

// Exchange implements Provider as a provider's process and a server would together.
func (r *rotations) Exchange(ctx context.Context, in provider.Request) (provider.Reply, error) {
	credential, err := r.source.Load(ctx)
	if err != nil {
		return provider.Reply{}, &provider.Failure{Kind: provider.KindCredential, Message: err.Error(), Credential: provider.Credential{Files: r.source.Files()}}
	}
	request := &plugins.Request{TokenEndpoint: in.TokenEndpoint, ClientID: in.ClientID, Form: url.Values{}, Header: http.Header{}}
	if err := credential.Authenticate(request); err != nil {
		return provider.Reply{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var reply provider.Reply
	if slices.Contains(r.known, credential.Identity) {
		name := fmt.Sprintf("token-%d", len(r.granted))
		r.granted[name] = time.Now().Add(10 * time.Minute)
		reply = granted(name, 10*time.Minute)
		if credential.Identity == r.known[len(r.known)-1] {
			r.proved++
		}
	} else {
		reply = refusal(http.StatusUnauthorized, "invalid_client", "")
		r.refused++
	}
	reply.Credential = provider.Credential{Files: r.source.Files(), Identity: credential.Identity, NotAfter: credential.NotAfter}
	return reply, nil
}

// Check implements Provider.
func (r *rotations) Check(ctx context.Context, load bool) (provider.Credential, []provider.Problem, error) {
	said := provider.Credential{Files: r.source.Files()}
	if !load {
		return said, nil, nil
	}
	credential, err := r.source.Load(ctx)
	said.Identity, said.NotAfter = credential.Identity, credential.NotAfter
	return said, nil, err
}

// Close implements Provider.
func (r *rotations) Close() {}

// valid reports whether the server accepts what a reader found.
func (r *rotations) valid(token string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.granted[token])
}

func TestRotationSuite(t *testing.T) {
	for _, way := range swapWays {
		for _, tells := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, the system tells of it %v", way.name, tells), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { playRotations(t, newRotations(t, way.links, tells), way.swap) })
			})
		}
	}
}

func playRotations(t *testing.T, r *rotations, swap func(*rotations, pair)) {
	a := r.agent(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { a.Run(ctx) })
	pass(time.Second)
	reads := 0
	running.Go(func() { reads = r.read(ctx) })
	r.mu.Lock()
	r.proved = 0
	r.mu.Unlock()
	unknown := 0
	for i := range swaps {
		p := r.make()
		if i%10 == 9 { // registered too late
			p = r.stranger()
			unknown++
		}
		swap(r, p)
		pass(r.settling())
	}
	cancel()
	running.Wait()
	t.Logf("%d swaps, %d of them proved, %d requests refused; %d reads", swaps, r.proved, r.refused, reads)
	if r.refused == 0 || r.refused > unknown || r.proved < swaps-unknown || reads < 10*swaps {
		t.Errorf("%d of %d swaps were proved, %d requests refused, %d reads", r.proved, swaps, r.refused, reads)
	}
}

// settling is how long a swap may take to be proved.
func (r *rotations) settling() time.Duration {
	if r.watch.changes != nil {
		return filewatch.SettleTime + proveWithin + time.Second
	}
	return checkEvery + proveWithin + time.Second
}

func newRotations(t *testing.T, links, tells bool) *rotations {
	r := &rotations{t: t, dir: t.TempDir(), random: rand.New(rand.NewPCG(1, 2)), granted: map[string]time.Time{}}
	p := r.make()
	at := r.dir
	if links {
		at = r.path("..first")
		err := errors.Join(os.Mkdir(at, 0o700), os.Symlink("..first", r.path("..data")),
			os.Symlink("..data/tls.crt", r.path("tls.crt")), os.Symlink("..data/tls.key", r.path("tls.key")))
		if err != nil {
			t.Fatal(err)
		}
	}
	putFile(t, filepath.Join(at, "tls.crt"), string(p.certificate))
	putFile(t, filepath.Join(at, "tls.key"), string(p.key))
	settings, _ := json.Marshal(map[string]string{"certificate_file": r.path("tls.crt"), "private_key_file": r.path("tls.key")})
	source, err := certcred.Provider{}.Open(settings)
	if err != nil {
		t.Fatal(err)
	}
	r.source = source
	if tells {
		r.watch = told{make(chan fsnotify.Event)}
	}
	return r
}

// agent makes the agent, with a sink on disk.
func (r *rotations) agent(t *testing.T) *Agent {
	m := realMachine()
	m.clock = untold
	m.watch = func() (filewatch.Notifier, error) {
		if r.watch.changes == nil {
			return nil, os.ErrInvalid
		}
		return r.watch, nil
	}
	a := newAgent(Options{
		Config: &config.Config{
			Clients: []config.Client{{Name: "client", TokenURL: "https://login.example.com/token", ClientID: "id", RequestTimeout: 10 * time.Second}},
			Tokens:  []config.Token{{Name: "a", Client: "client", RefreshAt: 0.5}},
			Sinks:   []config.Sink{{Type: config.SinkFile, Format: sink.FormatRaw, Path: r.path("token"), Token: "a", Mode: 0o600}},
		},
		Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Provider: func(provider.Spec) Provider { return r },
	}, m)
	if err := a.Open(); err != nil {
		t.Fatal(err)
	}
	if err := a.Check(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return a
}

// read reads the sink all along, and returns how often.
func (r *rotations) read(ctx context.Context) (reads int) {
	for ctx.Err() == nil {
		data, err := os.ReadFile(r.path("token"))
		if err != nil || !r.valid(string(data)) {
			r.t.Errorf("a reader found %q, %v", data, err)
			return reads
		}
		reads++
		pass(200 * time.Millisecond)
	}
	return reads
}
