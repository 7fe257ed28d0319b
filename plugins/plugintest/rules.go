package plugintest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/plugins"
)

const (
	tries       = 3   // for what must be fast, on a machine that may be busy
	maxIdentity = 500 // bytes that the agent shows
	atOnce      = 8
)

// rule is one rule that a provider must keep.
type rule struct {
	name   string
	within bool // it can only be tested within the process
	broken func(*candidate) error
}

// rules are ordered so that each may rely on those before it. They are never changed.
var rules = []rule{
	{name: "opens a sound configuration", broken: opens},
	{name: "refuses what is no object", broken: refusesNoObject},
	{name: "refuses unknown keys", broken: refusesUnknownKeys},
	{name: "refuses values of the wrong type", broken: refusesWrongTypes},
	{name: "refuses relative paths", broken: refusesRelativePaths},
	{name: "refuses bad configurations", broken: refusesBad},
	{name: "names its files", broken: namesFiles},
	{name: "reads no file to open", broken: opensWithoutFiles},
	{name: "loads its credential", broken: loads},
	{name: "names a missing file", broken: namesMissingFile},
	{name: "does not load an empty file", broken: refusesEmptyFile},
	{name: "names a damaged file", broken: namesDamagedFile},
	{name: "adds its authentication alone", broken: addsAuthentication},
	{name: "leaves the request as it is", within: true, broken: leavesRequest},
	{name: "sends one request", broken: sendsOne},
	{name: "uses a rotated credential", broken: usesRotated},
	{name: "serves many at once", broken: servesMany},
	{name: "waits no longer than its context", within: true, broken: heedsContext},
	{name: "shows nothing secret", broken: (*candidate).leaks},
}

// fast reports an error unless do is fast enough in one of several tries.
func (c *candidate) fast(what string, do func() error) error {
	for range tries {
		begun := time.Now()
		if err := do(); err != nil {
			return err
		}
		if time.Since(begun) < c.patience {
			return nil
		}
	}
	return fmt.Errorf("%s takes longer than %s", what, c.patience)
}

func opens(c *candidate) error {
	return c.fast("opening a configuration", func() error {
		_, problems, err := c.check(c.config.values, false)
		return errors.Join(err, problemsError(problems))
	})
}

func refusesNoObject(c *candidate) error {
	var all []error
	for _, config := range []json.RawMessage{json.RawMessage(`[]`), json.RawMessage(`"text"`), json.RawMessage(`7`)} {
		if err := c.refuses(config); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// refuses checks that a configuration is refused, with a problem at each of the keys.
func (c *candidate) refuses(values any, keys ...string) error {
	shown, err := json.Marshal(values)
	if err != nil {
		return err
	}
	_, problems, err := c.check(values, false)
	if err != nil {
		return fmt.Errorf("opening %s: %w", shown, err)
	}
	if len(problems) == 0 {
		return fmt.Errorf("%s is a sound configuration to it", shown)
	}
	for _, key := range keys {
		at := func(p provider.Problem) bool { return p.Key == key || strings.HasPrefix(p.Key, key+".") }
		if !slices.ContainsFunc(problems, at) {
			return fmt.Errorf("of %s it says %w, but nothing at %s: make it a plugins.ConfigError", shown, problemsError(problems), key)
		}
	}
	return nil
}

func refusesUnknownKeys(c *candidate) error {
	const key = "plugintest_unknown"
	return c.refuses(c.config.with(key, "x"), key)
}

// refusesWrongTypes also requires that a problem at one key does not hide one at another.
func refusesWrongTypes(c *candidate) error {
	const unknown = "plugintest_unknown"
	var all []error
	for key, value := range c.config.values {
		var wrong any = map[string]any{"plugintest": true}
		if _, isObject := value.(map[string]any); isObject {
			wrong = 7
		}
		values := c.config.with(key, wrong)
		values[unknown] = "x"
		all = append(all, c.refuses(values, key, unknown))
	}
	return errors.Join(all...)
}

func refusesRelativePaths(c *candidate) error {
	var all []error
	for _, f := range c.config.files {
		all = append(all, c.refuses(c.config.with(f.key, filepath.Join("etc", f.key)), f.key))
	}
	return errors.Join(all...)
}

func refusesBad(c *candidate) error {
	var all []error
	for _, values := range c.given.Bad {
		all = append(all, c.refuses(values))
	}
	return errors.Join(all...)
}

// namesFiles requires every file, because the agent does not notice the rotation of a file that it does not know.
func namesFiles(c *candidate) error {
	credential, _, err := c.check(c.config.values, false)
	if err != nil {
		return err
	}
	var all []error
	for key, value := range c.config.values {
		path, isText := value.(string)
		if isText && strings.HasSuffix(key, "_file") && !slices.Contains(credential.Files, path) {
			all = append(all, fmt.Errorf("%s is not among its files %q", key, credential.Files))
		}
	}
	return errors.Join(all...)
}

func opensWithoutFiles(c *candidate) error {
	values := maps.Clone(c.config.values)
	for _, f := range c.config.files {
		values[f.key] = filepath.Join(c.dir, "nowhere", f.key)
	}
	_, problems, err := c.check(values, false)
	return errors.Join(err, problemsError(problems))
}

func loads(c *candidate) error {
	first, err := c.load()
	if err != nil {
		return err
	}
	if err := c.fast("loading the credential", func() error {
		again, err := c.load()
		if err == nil && (again.Identity != first.Identity || !again.NotAfter.Equal(first.NotAfter)) {
			err = fmt.Errorf("the same credential is %q until %s and then %q until %s", first.Identity, first.NotAfter, again.Identity, again.NotAfter)
		}
		return err
	}); err != nil {
		return err
	}
	switch {
	case !first.NotAfter.IsZero() && time.Now().After(first.NotAfter):
		return fmt.Errorf("it loads although it ended at %s", first.NotAfter)
	case !first.NotAfter.IsZero() && first.NotBefore.After(first.NotAfter):
		return fmt.Errorf("it begins at %s, after its end at %s", first.NotBefore, first.NotAfter)
	case len(first.Identity) >= maxIdentity || strings.ContainsFunc(first.Identity, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("the identity %q is not a short line of text", first.Identity)
	}
	return nil
}

// spoil damages each of the credential's files in turn, and restores it.
func (c *candidate) spoil(do func(file) error, judge func(file, error) error) error {
	var all []error
	for _, f := range c.config.files {
		if err := do(f); err != nil {
			return err
		}
		_, err := c.load()
		if wrong := judge(f, err); wrong != nil {
			all = append(all, fmt.Errorf("%s: %w", f.key, wrong))
		}
		if err := f.restore(); err != nil {
			return err
		}
		if _, err := c.load(); err != nil {
			all = append(all, fmt.Errorf("%s is as it was, but the credential does not load any more: %w", f.key, err))
		}
	}
	return errors.Join(all...)
}

// named checks that an error is about the credential and names the file.
func named(f file, err error) error {
	var failure *provider.Failure
	switch {
	case err == nil:
		return errors.New("the credential loads all the same")
	case !errors.As(err, &failure) || failure.Kind != provider.KindCredential:
		return fmt.Errorf("the error is not one of the credential: %w", err)
	case !strings.Contains(err.Error(), f.path):
		return fmt.Errorf("the error does not name the file: %w", err)
	}
	return nil
}

func namesMissingFile(c *candidate) error {
	return c.spoil(func(f file) error { return os.Remove(f.path) }, named)
}

func refusesEmptyFile(c *candidate) error {
	return c.spoil(func(f file) error { return f.write(nil) }, named)
}

// namesDamagedFile allows credentials for which any bytes are valid.
func namesDamagedFile(c *candidate) error {
	const damage = "plugintest-damage-that-is-not-to-be-shown"
	c.learn(map[string]string{damage: "what a damaged file holds"})
	return c.spoil(
		func(f file) error { return f.write([]byte(damage + "\n" + damage + "\n")) },
		func(f file, err error) error {
			if err == nil {
				return nil
			}
			return named(f, err)
		})
}

func addsAuthentication(c *candidate) error {
	_, _, err := c.authentication(c.config.values)
	return err
}

// leavesRequest checks what is not visible in the request that is sent.
func leavesRequest(c *candidate) error {
	credential, err := c.loadWithin(c.ctx)
	if err != nil {
		return err
	}
	before := plugins.Request{
		TokenEndpoint: "https://login.example/token", ClientID: clientID, Issuer: "https://login.example",
		AuthMethodsSupported: []string{"client_secret_basic", "private_key_jwt"},
		Form:                 url.Values{"client_id": {clientID}, "grant_type": {"client_credentials"}}, Header: http.Header{},
	}
	for range 2 { // a credential may be used more than once
		after := before
		after.Form, after.Header = maps.Clone(before.Form), http.Header{}
		after.AuthMethodsSupported = slices.Clone(before.AuthMethodsSupported)
		if err := credential.Authenticate(&after); err != nil {
			return fmt.Errorf("authenticating a request: %w", err)
		}
		if after.TokenEndpoint != before.TokenEndpoint || after.ClientID != before.ClientID || after.Issuer != before.Issuer ||
			!slices.Equal(after.AuthMethodsSupported, before.AuthMethodsSupported) {
			return errors.New("it changes TokenEndpoint, ClientID, Issuer or AuthMethodsSupported; it may add to Form, Header and TLSCertificate alone")
		}
	}
	return nil
}

// loadWithin opens and loads without the protocol.
func (c *candidate) loadWithin(ctx context.Context) (_ plugins.Credential, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the provider panicked")
		}
	}()
	config, err := json.Marshal(c.config.values)
	if err != nil {
		return plugins.Credential{}, err
	}
	source, err := c.within().Open(config)
	if err != nil {
		return plugins.Credential{}, err
	}
	return source.Load(ctx)
}

func sendsOne(c *candidate) error {
	var all []error
	for _, status := range []int{200, 301, 302, 303, 307, 308, 400, 401, 403, 429, 500, 503, hangUp} {
		reply, got, err := c.exchange(c.config.values, status)
		switch {
		case len(got) != 1:
			all = append(all, fmt.Errorf("for an answer of status %d it sends %d requests", status, len(got)))
		case status != hangUp && err != nil:
			all = append(all, fmt.Errorf("an answer of status %d is lost: %w", status, err))
		case status != hangUp && reply.Status != status:
			all = append(all, fmt.Errorf("an answer of status %d becomes %d", status, reply.Status))
		}
	}
	return errors.Join(all...)
}

// usesRotated puts another credential into the files, and expects it in the next request.
func usesRotated(c *candidate) error {
	if c.rotated.values == nil || len(c.config.files) == 0 {
		return nil
	}
	first, one, err := c.authentication(c.config.values)
	if err != nil {
		return err
	}
	again, _, err := c.authentication(c.config.values)
	if err != nil {
		return err
	}
	for _, f := range c.config.files {
		fresh := slices.IndexFunc(c.rotated.files, func(r file) bool { return r.key == f.key })
		if fresh < 0 {
			return fmt.Errorf("there is no file %s in Rotated", f.key)
		}
		if err := f.write(c.rotated.files[fresh].content); err != nil {
			return err
		}
		defer func() { _ = f.restore() }()
	}
	second, two, err := c.authentication(c.config.values)
	switch {
	case err != nil:
		return fmt.Errorf("after a rotation: %w", err)
	case first.String() == again.String() && first.String() == second.String():
		return errors.New("after a rotation it authenticates as before: Load must read the files afresh")
	case one.Credential.Identity != "" && one.Credential.Identity == two.Credential.Identity && first.String() != again.String():
		return fmt.Errorf("after a rotation it is still %s: Load must read the files afresh", one.Credential.Identity)
	}
	return nil
}

func servesMany(c *candidate) error {
	c.endpoint.begin(http.StatusOK)
	errs := make([]error, atOnce)
	var asking sync.WaitGroup
	for i := range errs {
		asking.Go(func() {
			reply, err := c.send(c.config.values)
			if err == nil && reply.Status != http.StatusOK {
				err = fmt.Errorf("status %d", reply.Status)
			}
			_, loadErr := c.load()
			errs[i] = errors.Join(err, loadErr)
		})
	}
	asking.Wait()
	if n := len(c.endpoint.end()); n != atOnce {
		errs = append(errs, fmt.Errorf("of %d exchanges at once come %d requests", atOnce, n))
	}
	return errors.Join(errs...)
}

// heedsContext allows Load to succeed: a small file is read too fast to be interrupted.
func heedsContext(c *candidate) error {
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		_, _ = c.loadWithin(ctx)
	}()
	select {
	case <-loaded:
		return nil
	case <-time.After(c.patience):
		return errors.New("its context has ended, and Load goes on")
	}
}
