package plugintest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/testkit/leaktest"
)

const (
	canary = "canary-secret-77f0a1"
	short  = 30 * time.Millisecond // the patience with what is slow on purpose
)

func TestMain(m *testing.M) {
	if name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "credagent-provider-"); ok {
		plugins.Serve(&flawed{flaw: strings.ReplaceAll(name, "-", " ")})
		return
	}
	os.Exit(leaktest.Main(m))
}

// flawed is a provider with one flaw, or with none.
type flawed struct {
	flaw   string
	opened atomic.Int32
	mu     sync.Mutex
	cache  []byte // guarded by mu
}

// options is its configuration.
type options struct {
	*flawed    `json:"-"`
	SecretFile string            `json:"secret_file"`
	NoteFile   string            `json:"note_file"`
	Header     string            `json:"header"`
	Labels     map[string]string `json:"labels"`
}

func (f *flawed) has(flaw string) bool { return f.flaw == flaw }

func (f *flawed) Open(config json.RawMessage) (plugins.Source, error) {
	o := options{flawed: f, Header: "X-Secret"}
	if f.has("takes a list") && bytes.HasPrefix(config, []byte("[")) {
		config = json.RawMessage(`{"secret_file":"/secret","note_file":"/note"}`)
	}
	if f.has("opens slowly") && f.opened.Add(1) <= 10 { // long enough to be found
		<-time.After(short + short/10)
	}
	decode := plugins.DecodeConfig
	if f.has("takes unknown keys") {
		decode = func(config json.RawMessage, into any) error { return json.Unmarshal(config, into) }
	}
	err := decode(config, &o)
	switch {
	case err != nil && f.has("says no key"):
		return nil, errors.New("something is wrong")
	case err != nil && f.has("stops at the first problem"):
		return nil, err.(interface{ Unwrap() []error }).Unwrap()[0]
	}
	if o.SecretFile == "" {
		err = errors.Join(err, &plugins.ConfigError{Key: "secret_file", Message: "is needed"})
	}
	if !f.has("takes relative paths") {
		err = errors.Join(err, plugins.AbsolutePath("secret_file", o.SecretFile), plugins.AbsolutePath("note_file", o.NoteFile))
	}
	if o.Header == "" && !f.has("takes what is bad") {
		err = errors.Join(err, &plugins.ConfigError{Key: "header", Message: "is empty"})
	}
	if f.has("looks at its files to open") {
		_, missing := os.Stat(o.SecretFile)
		err = errors.Join(err, missing)
	}
	return &o, err
}

func (o *options) Files() []string {
	if o.has("forgets a file") {
		return []string{o.SecretFile}
	}
	return []string{o.SecretFile, o.NoteFile}
}

func (o *options) Load(ctx context.Context) (plugins.Credential, error) {
	secret, err := o.read(o.SecretFile)
	if err == nil {
		_, err = o.read(o.NoteFile)
	}
	if err != nil {
		return plugins.Credential{}, err
	}
	credential := plugins.Credential{
		Identity: "a secret of " + fmt.Sprint(len(secret)) + " bytes",
		Authenticate: func(r *plugins.Request) error {
			return o.authenticate(r, strings.TrimSpace(string(secret)))
		},
	}
	return o.misloaded(ctx, credential, string(secret))
}

func (o *options) read(path string) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.has("reads once") && o.cache != nil {
		return o.cache, nil
	}
	data, err := os.ReadFile(path)
	switch {
	case err != nil && o.has("names no file"):
		return nil, errors.New("a file is missing")
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", path, err)
	case len(data) == 0 && !o.has("loads an empty file"):
		return nil, fmt.Errorf("reading %s: it is empty", path)
	case bytes.Contains(data, []byte("\n")) && o.has("is puzzled"):
		return nil, errors.New("it is of several lines")
	case bytes.Contains(data, []byte("\n")) && o.has("quotes what it read"):
		return nil, fmt.Errorf("reading %s: %q is no secret", path, data)
	}
	o.cache = data
	return data, nil
}

// misloaded is a credential with the flaws that show when it is loaded.
func (o *options) misloaded(ctx context.Context, c plugins.Credential, secret string) (plugins.Credential, error) {
	switch o.flaw {
	case "is slow":
		<-time.After(short + short/10)
	case "is deaf":
		if ctx.Err() != nil {
			<-time.After(2 * short)
		}
	case "panics":
		panic(secret)
	case "exits":
		os.Exit(3)
	case "has ended":
		c.NotAfter = time.Now().Add(-time.Hour)
	case "ends before it begins":
		c.NotBefore, c.NotAfter = time.Now().Add(2*time.Hour), time.Now().Add(time.Hour)
	case "has another name each time":
		c.Identity = rand.Text()
	case "has a long name":
		c.Identity = strings.Repeat("x", 1000)
	case "shows its secret as its name":
		c.Identity = secret
	case "prints its secret":
		fmt.Fprintln(os.Stderr, secret)
	case "keeps its name":
		c.Identity = "the same"
	case "is for one at a time":
		if !o.mu.TryLock() {
			return c, errors.New("it is busy")
		}
		defer o.mu.Unlock()
		<-time.After(short)
	}
	return c, nil
}

func (o *options) authenticate(r *plugins.Request, secret string) error {
	if !o.has("adds nothing") {
		r.Header.Set(o.Header, secret)
	}
	switch o.flaw {
	case "changes the scope":
		r.Form.Set("scope", "everything")
	case "drops the grant type":
		r.Form.Del("grant_type")
	case "drops the client":
		r.Form.Del("client_id")
	case "changes a header":
		r.Header.Set("User-Agent", "flawed")
	case "goes elsewhere":
		r.TokenEndpoint += "?elsewhere"
	case "asks for itself":
		insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}} //nolint:gosec // a test's own server
		if response, err := insecure.PostForm(r.TokenEndpoint, r.Form); err == nil {
			_ = response.Body.Close()
		}
	case "keeps its name":
		r.Header.Set("X-Nonce", rand.Text())
	case "refuses":
		return errors.New("no")
	}
	return nil
}

// tested is what an author would write for it.
func tested(t *testing.T, flaw string) Config {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	note := write("note", "something else")
	return Config{
		Provider: &flawed{flaw: flaw},
		Config:   map[string]any{"secret_file": write("secret", canary), "note_file": note, "labels": map[string]any{"a": "b"}},
		Rotated:  map[string]any{"secret_file": write("next", "next-"+canary), "note_file": note, "labels": map[string]any{}},
		Bad:      []map[string]any{{}, {"secret_file": "/secret", "header": ""}},
		Secrets:  []string{canary},
	}
}

func newTested(t *testing.T, flaw string) *candidate {
	t.Helper()
	given := tested(t, flaw)
	ask, err := newInProcess(given.Provider)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCandidate(t.Context(), given, ask, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// flaws says by which rule each flaw is found.
func flaws() map[string]string {
	return map[string]string{
		"opens slowly":                 "opens a sound configuration: opening a configuration takes longer than 30ms",
		"takes a list":                 "refuses what is no object: [] is a sound configuration to it",
		"takes unknown keys":           "refuses unknown keys: ",
		"says no key":                  "refuses values of the wrong type: ",
		"stops at the first problem":   "refuses values of the wrong type: ",
		"takes relative paths":         "refuses relative paths: ",
		"takes what is bad":            "refuses bad configurations: ",
		"looks at its files to open":   "reads no file to open: ",
		"forgets a file":               "names its files: note_file is not among its files",
		"reads once":                   "names a missing file: note_file: the credential loads all the same",
		"names no file":                "names a missing file: note_file: the error does not name the file",
		"loads an empty file":          "does not load an empty file: note_file: the credential loads all the same",
		"is puzzled":                   "names a damaged file: note_file: the error does not name the file",
		"quotes what it read":          "shows nothing secret: its error of a check shows what a damaged file holds",
		"is slow":                      "loads its credential: loading the credential takes longer than 30ms",
		"is deaf":                      "waits no longer than its context: ",
		"panics":                       "loads its credential: the provider panicked",
		"has ended":                    "loads its credential: it loads although it ended",
		"ends before it begins":        "loads its credential: it begins at ",
		"has another name each time":   "loads its credential: the same credential is ",
		"has a long name":              "loads its credential: the identity ",
		"shows its secret as its name": "shows nothing secret: its identity shows ",
		"keeps its name":               "uses a rotated credential: after a rotation it is still the same",
		"is for one at a time":         "serves many at once: it is busy",
		"adds nothing":                 "adds its authentication alone: the request that was sent is not the one that was asked for: nothing authenticates it",
		"changes the scope":            "adds its authentication alone: the request that was sent is not the one that was asked for: parameter scope was changed",
		"drops the grant type":         "parameter grant_type was changed",
		"drops the client":             "parameter client_id was changed",
		"changes a header":             "header User-Agent was changed",
		"goes elsewhere":               "leaves the request as it is: it changes TokenEndpoint, ",
		"asks for itself":              "sends one request: for an answer of status 200 it sends 2 requests",
		"refuses":                      "adds its authentication alone: making a token request: no",
	}
}

func TestFlawsAreFound(t *testing.T) {
	t.Parallel()
	for flaw, want := range flaws() {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			c := newTested(t, flaw)
			if strings.Contains(flaw, "slow") || strings.Contains(flaw, "deaf") {
				c.patience = short
			}
			err := c.test()
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("found is: %v\nwant: %s", err, want)
			}
			if err != nil && strings.Contains(err.Error(), canary) && !strings.Contains(flaw, "name") && !strings.Contains(flaw, "quotes") {
				t.Errorf("the report shows the secret: %v", err)
			}
		})
	}
}

// Every rule has a flaw that breaks it,.
func TestEveryRuleFindsSomething(t *testing.T) {
	t.Parallel()
	all := strings.Join(slices.Collect(maps.Values(flaws())), "\n")
	for _, r := range rules {
		if !strings.Contains(all, r.name+": ") {
			t.Errorf("no flaw is found by the rule that a provider %s", r.name)
		}
	}
}

func TestASoundProviderPasses(t *testing.T) {
	Run(t, tested(t, ""))
	if err := Test(t.Context(), tested(t, "")); err != nil {
		t.Error(err)
	}
}

// program is this test's own, under the name by which it is the provider with the flaw.
func program(t *testing.T, flaw string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "credagent-provider-"+strings.ReplaceAll(flaw, " ", "-"))
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestASoundProgramPasses(t *testing.T) { RunExecutable(t, program(t, "none"), tested(t, "")) }

func TestFlawsOfAProgramAreFound(t *testing.T) {
	t.Parallel()
	for flaw, want := range map[string]string{
		"prints its secret": "its output shows number 1 of Secrets",
		"reads once":        "uses a rotated credential: ",
		"exits":             "loads its credential: the connection to the provider's process broke",
	} {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			ask, err := newExecutable(t.TempDir(), program(t, flaw))
			if err != nil {
				t.Fatal(err)
			}
			c, err := newCandidate(t.Context(), tested(t, ""), ask, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			if err := c.test(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("found is: %v\nwant: %s", err, want)
			}
		})
	}
}

func TestWhatCannotBeTested(t *testing.T) {
	t.Parallel()
	if err := Test(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "Config.Provider is missing") {
		t.Errorf("no provider: %v", err)
	}
	c := tested(t, "")
	c.Config["header"] = ""
	if err := Test(t.Context(), c); err == nil || !strings.Contains(err.Error(), "header: is empty") {
		t.Errorf("a bad configuration: %v", err)
	}
	for path, want := range map[string]string{
		"/bin/sh":                    "a provider's program is called credagent-provider-NAME",
		"/none/credagent-provider-x": "no such file or directory",
	} {
		if _, err := newExecutable(t.TempDir(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
