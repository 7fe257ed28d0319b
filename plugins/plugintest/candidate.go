package plugintest

import (
	"cmp"
	"context"
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
	"time"

	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/plugins"
)

// candidate is a provider under test.
type candidate struct {
	ctx      context.Context // of the rule that is being tested
	given    Config
	ask      asker
	endpoint *endpoint
	dir      string        // contains nothing of the provider's author
	patience time.Duration // for opening a configuration and loading a credential
	config   configured
	rotated  configured

	mu      sync.Mutex
	shown   map[string]string // guarded by mu: its output so far → when
	secrets map[string]string // guarded by mu: text that it must not show → what that is
}

// configured is a configuration whose credential's files are copies.
type configured struct {
	values map[string]any
	files  []file
}

// file is a copy of one of a credential's files.
type file struct {
	key     string // the key of the configuration that names it
	path    string
	content []byte
}

func newCandidate(ctx context.Context, c Config, ask asker, dir string) (*candidate, error) {
	made := &candidate{
		ctx: ctx, given: c, ask: ask, endpoint: newEndpoint(), dir: dir, patience: time.Second,
		shown: map[string]string{}, secrets: map[string]string{},
	}
	for i, secret := range c.Secrets {
		made.secrets[secret] = fmt.Sprintf("number %d of Secrets", i+1)
	}
	var err error
	if made.config, err = made.copyFiles("config", c.Config); err == nil {
		made.rotated, err = made.copyFiles("rotated", c.Rotated)
	}
	if err != nil {
		made.endpoint.close()
		return nil, err
	}
	return made, nil
}

func (c *candidate) close() {
	c.ask.close()
	c.endpoint.close()
}

// within returns the provider itself, if it runs in this process; else nil.
func (c *candidate) within() plugins.Provider {
	if p, ok := c.ask.(*inProcess); ok {
		return p.provider
	}
	return nil
}

// copyFiles copies the files that a configuration names, and makes it name the copies.
func (c *candidate) copyFiles(name string, values map[string]any) (configured, error) {
	if values == nil {
		return configured{}, nil
	}
	credential, problems, err := c.check(values, false)
	if err != nil || len(problems) > 0 {
		shown, _ := json.Marshal(values) // it was encoded before
		return configured{}, fmt.Errorf("opening %s: %w", shown, cmp.Or(err, problemsError(problems)))
	}
	dir := filepath.Join(c.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return configured{}, err
	}
	copied := configured{values: maps.Clone(values)}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		path, ok := values[key].(string)
		if !ok || !slices.Contains(credential.Files, path) {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return configured{}, fmt.Errorf("copying %s: %w", key, err)
		}
		f := file{key: key, path: filepath.Join(dir, key), content: content}
		if err := f.restore(); err != nil {
			return configured{}, err
		}
		copied.values[key] = f.path
		copied.files = append(copied.files, f)
		c.learnFile(f)
	}
	return copied, nil
}

// learnFile treats every line of a file that is long enough as a secret.
func (c *candidate) learnFile(f file) {
	const shortest = 16
	for i, line := range strings.Split(string(f.content), "\n") {
		line = strings.TrimSpace(line)
		if len(line) >= shortest && !strings.HasPrefix(line, "-----") { // PEM
			c.learn(map[string]string{line: fmt.Sprintf("line %d of %s", i+1, f.key)})
		}
	}
}

// restore writes the original content back, atomically.
func (f file) restore() error { return f.write(f.content) }

func (f file) write(content []byte) error {
	if err := os.WriteFile(f.path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(f.path+".new", f.path)
}

// with returns the configuration with one value changed.
func (c configured) with(key string, value any) map[string]any {
	values := maps.Clone(c.values)
	values[key] = value
	return values
}

// check calls Check and keeps the texts of the answer.
func (c *candidate) check(values any, load bool) (provider.Credential, []provider.Problem, error) {
	config, err := json.Marshal(values)
	if err != nil {
		return provider.Credential{}, nil, fmt.Errorf("encoding a configuration: %w", err)
	}
	credential, problems, err := c.ask.check(c.ctx, config, load)
	c.record("identity", credential.Identity)
	for _, problem := range problems {
		c.record("problem at "+problem.Key, problem.Message)
	}
	if err != nil {
		c.record("error of a check", err.Error())
	}
	return credential, problems, err
}

// load checks that the credential loads.
func (c *candidate) load() (provider.Credential, error) {
	credential, problems, err := c.check(c.config.values, true)
	return credential, errors.Join(err, problemsError(problems))
}

// exchange makes the provider send a token request, and returns what the server received.
func (c *candidate) exchange(values map[string]any, status int) (reply provider.Reply, got []received, err error) {
	c.endpoint.begin(status)
	reply, err = c.send(values)
	return reply, c.endpoint.end(), err
}

func (c *candidate) send(values map[string]any) (provider.Reply, error) {
	config, err := json.Marshal(values)
	if err != nil {
		return provider.Reply{}, fmt.Errorf("encoding a configuration: %w", err)
	}
	reply, err := c.ask.exchange(c.ctx, config, c.endpoint.request())
	if err != nil {
		c.record("error of an exchange", err.Error())
	}
	if reply.Status >= http.StatusMultipleChoices {
		c.record("answer that repeats the request", string(reply.Body))
	}
	c.record("identity", reply.Credential.Identity)
	return reply, err
}

// authentication returns what the provider adds to a request that is answered with a token.
func (c *candidate) authentication(values map[string]any) (added, provider.Reply, error) {
	reply, got, err := c.exchange(values, http.StatusOK)
	switch {
	case err != nil:
		return added{}, reply, fmt.Errorf("making a token request: %w", err)
	case len(got) != 1 || reply.Status != http.StatusOK:
		return added{}, reply, fmt.Errorf("making a token request: %d were sent, and the answer's status is %d", len(got), reply.Status)
	}
	a, err := got[0].split(c.endpoint.request())
	c.learn(a.secrets())
	return a, reply, err
}

func (c *candidate) record(when, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown[text] = when
}

func (c *candidate) learn(secrets map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for secret, name := range secrets {
		if c.secrets[secret] == "" {
			c.secrets[secret] = name
		}
	}
}

// leaks reports the secrets that were shown so far, by name.
func (c *candidate) leaks() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown[c.ask.printed()] = "output"
	var all []error
	for _, secret := range slices.Sorted(maps.Keys(c.secrets)) {
		for _, text := range slices.Sorted(maps.Keys(c.shown)) {
			if secret != "" && strings.Contains(text, secret) {
				all = append(all, fmt.Errorf("its %s shows %s", c.shown[text], c.secrets[secret]))
			}
		}
	}
	return errors.Join(all...)
}

func problemsError(problems []provider.Problem) error {
	var all []error
	for _, p := range problems {
		all = append(all, errors.New(strings.TrimPrefix(p.Key+": "+p.Message, ": ")))
	}
	return errors.Join(all...)
}
