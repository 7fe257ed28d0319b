package demo

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/loopback"
)

// guestbook is a running server and what it says.
type guestbook struct {
	announcement

	dir string
	log *bufio.Scanner
	end func() error
}

// open runs a server in a directory of its own.
func open(t *testing.T, o ServeOptions) *guestbook {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	ctx, stop := context.WithCancel(t.Context())
	out, outWriter := io.Pipe()
	log, logWriter := io.Pipe()
	o.Out, o.Log = outWriter, slog.New(slog.NewTextHandler(logWriter, nil))
	done := make(chan error, 1)
	go func() {
		err := Serve(ctx, o)
		_ = outWriter.CloseWithError(err)
		_ = logWriter.Close()
		done <- err
	}()
	g := &guestbook{dir: dir, log: bufio.NewScanner(log), end: func() error { stop(); return <-done }}
	if err := json.NewDecoder(out).Decode(&g.announcement); err != nil {
		t.Fatal(err)
	}
	return g
}

// ask makes a token request as the announcement says, and returns its status.
func (g *guestbook) ask(t *testing.T, client *http.Client) int {
	t.Helper()
	status, _ := g.answer(t, client, url.Values{})
	return status
}

// answer makes a token request with further parameters.
func (g *guestbook) answer(t *testing.T, client *http.Client, form url.Values) (status int, accessToken string) {
	t.Helper()
	secret, err := os.ReadFile(g.SecretFile)
	if err != nil {
		t.Fatal(err)
	}
	form.Set("grant_type", "client_credentials")
	form.Set("scope", g.Scope)
	form.Set("client_id", g.ClientID)
	form.Set("client_secret", string(secret))
	response, err := client.PostForm(g.TokenURL, form)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	_ = json.NewDecoder(response.Body).Decode(&token) // a fault's answer may be no JSON
	return response.StatusCode, token.AccessToken
}

func TestServe(t *testing.T) {
	throttle := devserver.Fault{Kind: devserver.Throttle, RetryAfter: "7", Count: 1}
	tests := map[string]struct {
		options ServeOptions
		status  int
		log     string
	}{
		"plain": {ServeOptions{Listen: "127.0.0.1:0", TTL: time.Minute}, 200, "status=200 outcome=issued"},
		"tls":   {ServeOptions{Listen: "127.0.0.1:0", TTL: time.Minute, TLS: true}, 200, "status=200 outcome=issued"},
		"fault": {ServeOptions{Listen: "127.0.0.1:0", TTL: time.Minute, Faults: []devserver.Fault{throttle}}, 429,
			"status=429 outcome=throttle fault=throttle=7 retry_after=7"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := open(t, test.options)
			g.checkFiles(t)
			if got := g.ask(t, g.trusting(t)); got != test.status {
				t.Errorf("status %d, want %d", got, test.status)
			}
			if !g.log.Scan() || !strings.Contains(strings.ReplaceAll(g.log.Text(), `"`, ""), test.log) || !strings.Contains(g.log.Text(), "client=demo auth_method=") {
				t.Errorf("log line %q, want %q in it", g.log.Text(), test.log)
			}
			if err := g.end(); err != nil {
				t.Errorf("Serve: %v", err)
			}
			if left, err := os.ReadDir(g.dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// Over TLS the certificate alone authenticates too, as the configuration says.
func TestServeKnowsTheCertificate(t *testing.T) {
	g := open(t, ServeOptions{Listen: "127.0.0.1:0", TTL: time.Minute, TLS: true})
	config, err := os.ReadFile(g.Config)
	if err != nil || !strings.Contains(string(config), "auth_method: self_signed_tls_client_auth") {
		t.Errorf("the configuration does not tell: %s, %v", config, err)
	}
	pair, err := tls.LoadX509KeyPair(g.CertificateFile, g.PrivateKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	client := g.trusting(t)
	client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{pair}
	response, err := client.PostForm(g.TokenURL, url.Values{"grant_type": {"client_credentials"}, "scope": {g.Scope}, "client_id": {g.ClientID}})
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK || !g.log.Scan() || !strings.Contains(g.log.Text(), "auth_method=self_signed_tls_client_auth") {
		t.Errorf("status %d, log line %q", response.StatusCode, g.log.Text())
	}
	if err := g.end(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// trusting is an HTTP client that trusts the server, and nobody else.
func (g *guestbook) trusting(t *testing.T) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	if g.CAFile != "" {
		ca, err := os.ReadFile(g.CAFile)
		if err != nil || !pool.AppendCertsFromPEM(ca) {
			t.Fatalf("no certificate in %s: %v", g.CAFile, err)
		}
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
}

// checkFiles checks that the files are for their owner alone, and that the configuration can be read.
func (g *guestbook) checkFiles(t *testing.T) {
	t.Helper()
	for _, path := range []string{g.SecretFile, g.CertificateFile, g.PrivateKeyFile, g.Config} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", path, info.Mode())
		}
	}
	if info, err := os.Stat(filepath.Dir(g.Config)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, want 0700 (%v)", info.Mode(), err)
	}
	cfg, err := config.Load(g.Config, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	c := cfg.Clients[0]
	if c.TokenURL != g.TokenURL || c.ClientID != g.ClientID || c.CAFile != g.CAFile {
		t.Errorf("the configuration's client is %+v, the announcement %+v", c, g.announcement)
	}
	if !cfg.Tokens[0].CAE {
		t.Error("the configuration's token is without cae: true")
	}
}

func TestServeTakesFaultsWhileItRuns(t *testing.T) {
	g := open(t, ServeOptions{Listen: "127.0.0.1:0"})
	response, err := http.Post(g.Control+"/faults?fault=outage*1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for _, want := range []int{503, 200} {
		if got := g.ask(t, http.DefaultClient); got != want {
			t.Errorf("status %d, want %d", got, want)
		}
		g.log.Scan()
	}
	if err := g.end(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestServeRevokes(t *testing.T) {
	g := open(t, ServeOptions{Listen: "127.0.0.1:0"})
	response, err := http.Post(g.Control+"/revoke", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var revoked struct{ Claims json.RawMessage }
	if err := json.NewDecoder(response.Body).Decode(&revoked); err != nil {
		t.Fatal(err)
	}
	for claims, want := range map[string]int{"": http.StatusUnauthorized, string(revoked.Claims): http.StatusOK} {
		_, token := g.answer(t, http.DefaultClient, url.Values{"claims": {claims}})
		if !g.log.Scan() || strings.Contains(g.log.Text(), "claims=") != (claims != "") {
			t.Errorf("log line %q of a request with claims %s", g.log.Text(), claims)
		}
		if got := g.visit(t, token); got != want {
			t.Errorf("a token requested with claims %s gets %d, want %d", claims, got, want)
		}
	}
	if err := g.end(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// visit shows the resource a token, and returns the answer's status.
func (g *guestbook) visit(t *testing.T, token string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.Resource, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

func TestServeSaysWhatItCannotDo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	quiet := slog.New(slog.DiscardHandler)
	tests := map[string]struct {
		options ServeOptions
		want    string
	}{
		"no such address":     {ServeOptions{Listen: "127.0.0.1:99999", Log: quiet, Out: io.Discard}, `starting the authorization server on "127.0.0.1:99999"`},
		"too short a life":    {ServeOptions{TTL: time.Millisecond, Log: quiet, Out: io.Discard}, "shorter than a second"},
		"nobody reads it":     {ServeOptions{Listen: "127.0.0.1:0", Log: quiet, Out: gone{}}, "writing the server's address: gone"},
		"no directory at all": {ServeOptions{}, "making a temporary directory in"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.options.Log == nil {
				t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "absent"))
			}
			if err := Serve(t.Context(), test.options); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Serve: %v, want %q in it", err, test.want)
			}
		})
	}
}

type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestServeWarnsBeyondLoopback(t *testing.T) {
	tests := map[string]bool{
		"127.0.0.1:0": true, "localhost:80": true, "[::1]:0": true,
		"0.0.0.0:80": false, ":80": false, "192.0.2.1:80": false, "nonsense": false,
	}
	for listen, want := range tests {
		t.Run(listen, func(t *testing.T) {
			if got := loopback.IsHostPort(listen); got != want {
				t.Errorf("IsHostPort: %v, want %v", got, want)
			}
		})
	}
}

func TestAttributesTellOfAnEarlyRequest(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	log.LogAttrs(t.Context(), slog.LevelInfo, "x", attributes(devserver.Request{Early: 1500 * time.Millisecond, Outcome: "issued"})...)
	if !strings.Contains(out.String(), "early=1.5s") || strings.Contains(out.String(), "fault=") {
		t.Errorf("%s, want early=1.5s and no fault", out.String())
	}
}

// A fault without a count goes on, so what comes after it never does: that is said at the start.
func TestFaultsThatNeverComeAreNamed(t *testing.T) {
	g := open(t, ServeOptions{Listen: "127.0.0.1:0", TTL: time.Minute, Faults: []devserver.Fault{{Kind: devserver.OK}, {Kind: devserver.Throttle, RetryAfter: "600"}}})
	if !g.log.Scan() || !strings.Contains(g.log.Text(), "never ends") || !strings.Contains(g.log.Text(), "throttle=600") {
		t.Errorf("it says %q", g.log.Text())
	}
	if err := g.end(); err != nil {
		t.Error(err)
	}
}
