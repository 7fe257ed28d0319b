package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/filewatch"
	"github.com/credagent/credagent/internal/logkey"
)

// watched is what was seen of a credential before.
type watched struct {
	files string // what stat said of them; "" while there are none; owned by who looks at the files

	identity string // of which the end was logged; guarded by the set's noticing, as is notice
	notice   policy.ExpiryNotice
}

// CheckCredentials warns of the credentials that end soon, and compares the files of all with what they were
// at the last check. Watch is called with each credential's. What is returned proves those that changed, and
// may take as long as a provider does. While another check is under way, as a file system does not answer,
// there is nothing more than the warnings.
func (s *Set) CheckCredentials(watch func(files []string)) (proofs []func(context.Context)) {
	clients := s.Clients()
	s.warnOfExpiry(clients)
	if !s.looking.CompareAndSwap(false, true) {
		return nil
	}
	defer s.looking.Store(false)
	for _, c := range clients {
		for _, in := range c.credentials {
			if in.filesChanged(watch) {
				proofs = append(proofs, func(ctx context.Context) { c.Prove(ctx, in.name) })
			}
		}
	}
	return proofs
}

// CompareCredentials returns what compares the credentials of clients of which something was restored, since
// the last call, with those that an earlier process used. It may take as long as a provider does.
func (s *Set) CompareCredentials() (comparisons []func(context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.restored {
		comparisons = append(comparisons, c.compareCredential)
	}
	clear(s.restored)
	return comparisons
}

// filesChanged reports whether the files of a credential are not as they were at the last check.
func (c *credential) filesChanged(watch func(files []string)) bool {
	files := c.published.Load().known.Files
	before := c.watched.files
	if len(files) == 0 {
		c.watched.files = ""
		return false
	}
	watch(files)
	now := filewatch.Fingerprint(files)
	if before == now {
		return false
	}
	c.change(func(view *credentialView) { view.files = now })
	c.watched.files = now
	return before != ""
}

// Prove makes use of a credential that changed: the provider loads it, and if it is another one now,
// the client uses it from now on.
func (c *Client) Prove(ctx context.Context, name string) {
	in := c.named(name)
	before := in.published.Load().known.Identity
	loaded, err := in.load(ctx)
	if ctx.Err() != nil {
		return
	}
	c.metrics.Rotated(c.cfg.Name, err)
	if err != nil {
		in.found("it changed and cannot be loaded: " + err.Error())
		in.log.Warn("changed credential cannot be loaded, tokens stay as they are; the next change is tried again", logkey.Error, err)
		return
	}
	in.learn(loaded)
	in.found("")
	failing := c.Gate().View().Failures > 0
	if loaded.Identity != "" && loaded.Identity == before && !failing {
		in.log.Info("credential files changed, the credential is the same", logkey.Identity, loaded.Identity)
		return
	}
	c.use(in, loaded.Identity)
}

// use makes the client use a credential that is another one now, if it is that one's turn.
func (c *Client) use(in *credential, identity string) {
	failing := c.Gate().View().Failures > 0
	if !c.rotated(in) && !failing {
		in.log.Info("credential changed, it is not in use", logkey.Identity, identity)
		return
	}
	in.log.Info("credential changed, refreshing a token early to check it", logkey.Identity, identity)
	c.set.o.Replaced(c.cfg)
	c.ResetBackoff()
}

// compareCredential compares the client's credential with the one that an earlier process used. One
// that was replaced while nobody watched is proved as if somebody had: once, however many tokens of that
// process come one by one.
func (c *Client) compareCredential(ctx context.Context) {
	first := c.credentials[0]
	earlier := c.takeEarlier()
	if earlier == nil {
		return
	}
	loaded, err := first.load(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		c.giveBackEarlier(earlier)
		first.found("it cannot be loaded: " + err.Error())
		first.log.Warn("credential cannot be loaded", logkey.Error, err)
		return
	}
	first.learn(loaded)
	gate := c.Gate().View()
	refused := gate.Failures > 0 && gate.Lasting
	in, _ := c.inUse()
	// Files look different after many a restart of a machine or a container; that alone is worth a
	// request only where it may be what was missing.
	moved := filewatch.Fingerprint(loaded.Files) != earlier.Files && (refused || in != first)
	if loaded.Identity != earlier.Identity || moved {
		c.use(first, loaded.Identity)
	}
}

// takeEarlier returns what an earlier process used, for the one who compares it; nil where there is nothing
// to compare.
func (c *Client) takeEarlier() *store.Credential {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	earlier := c.credentials[0].earlier
	c.credentials[0].earlier = nil
	c.compared = c.compared || earlier != nil
	return earlier
}

// giveBackEarlier leaves the comparison to the next token that is restored.
func (c *Client) giveBackEarlier(earlier *store.Credential) {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	c.credentials[0].earlier, c.compared = earlier, false
}

// named returns the credential of a name: the first or the fallback.
func (c *Client) named(name string) *credential {
	if name == status.Fallback {
		return c.credentials[1]
	}
	return c.credentials[0]
}

// warnOfExpiry logs what a person has to know of each credential whose end has come nearer, once.
func (s *Set) warnOfExpiry(clients []*Client) {
	s.noticing.Lock()
	defer s.noticing.Unlock()
	now := time.Now()
	for _, c := range clients {
		for _, in := range c.credentials {
			in.warnOfExpiry(now)
		}
	}
}

func (c *credential) warnOfExpiry(now time.Time) {
	known := c.published.Load().known
	if c.watched.identity != known.Identity {
		c.watched.identity, c.watched.notice = known.Identity, policy.NoNotice
	}
	if notice := policy.NoticeOf(now, known.NotBefore, known.NotAfter); notice > c.watched.notice {
		c.watched.notice = notice
		c.warn(now, notice)
	}
}

// warn logs that the credential ends.
func (c *credential) warn(now time.Time, notice policy.ExpiryNotice) {
	known := c.published.Load().known
	attrs := []any{slog.String(logkey.Identity, known.Identity),
		slog.String(logkey.NotAfter, known.NotAfter.Round(0).UTC().Format(time.RFC3339)),
		slog.Duration(logkey.Left, known.NotAfter.Sub(now).Round(time.Minute)),
		slog.String(logkey.Advice, "register a new one at the server and put it into the credential's files")}
	switch notice {
	case policy.NoNotice:
	case policy.Expired:
		c.log.Error("credential has expired", attrs...)
	default:
		c.log.Warn("credential ends soon", attrs...)
	}
}

// load has the provider load the credential, without a request.
func (c *credential) load(ctx context.Context) (provider.Credential, error) {
	loaded, problems, err := c.provider.Check(ctx, true)
	if err == nil && len(problems) > 0 {
		err = fmt.Errorf("its configuration: %s", problems[0].Message)
	}
	return loaded, err
}

// Checks returns a function for each credential: it asks the provider whether the configuration is
// sound and, if load, whether the credential could be used.
func (c *Client) Checks(cfg *config.Config, load bool) []func(context.Context) []config.Problem {
	var checks []func(context.Context) []config.Problem
	for _, in := range c.credentials {
		checks = append(checks, func(ctx context.Context) []config.Problem {
			problems := in.check(ctx, cfg, load)
			if len(problems) > 0 {
				return problems
			}
			return in.checkGrants(ctx, c.cfg.Name, cfg, load)
		})
	}
	return checks
}

// Overwritten says which files of the client's credentials a configuration has written, as far as its
// providers named them.
func (c *Client) Overwritten(cfg *config.Config) []config.Problem {
	var problems []config.Problem
	for _, in := range c.credentials {
		if files := in.published.Load().known.Files; len(files) > 0 {
			problems = append(problems, cfg.Overwritten(in.cfg, files)...)
		}
	}
	return problems
}

func (c *credential) check(ctx context.Context, cfg *config.Config, load bool) []config.Problem {
	path := c.cfg.Path
	known, wrong, err := c.provider.Check(ctx, load)
	c.learn(known)
	problems := cfg.Overwritten(c.cfg, known.Files)
	for _, problem := range wrong {
		at := path + ".config"
		if problem.Key != "" {
			at += "." + problem.Key
		}
		found := cfg.Problem(at, problem.Message)
		found.Hint = meant(problem.Key, problem.Message)
		problems = append(problems, found)
	}
	var failure *provider.Failure
	switch {
	case errors.As(err, &failure) && failure.Kind == provider.KindConfig:
		found := cfg.Problem(path+".provider", failure.Message)
		found.Hint = meant(c.cfg.Provider, failure.Message)
		problems = append(problems, found)
	case err != nil && load:
		problems = append(problems, cfg.Problem(path, err.Error()))
	case err != nil: // it may be better when it is needed; the request will tell
		c.log.Warn("provider could not be asked", logkey.Error, err)
	}
	return problems
}

// knownAre is before the list of what there is, in what the bridge and the kit for providers say of a
// name that they do not know. From a provider's process there is nothing but the text.
const knownAre = "; known are "

// meant is a hint for a misspelt name; "" where none is near, or something else is wrong.
func meant(name, message string) string {
	_, known, found := strings.Cut(message, knownAre)
	if !found {
		return ""
	}
	own := name[strings.LastIndexByte(name, '.')+1:] // of a key within a key
	if best := config.Nearest(own, strings.Split(known, ", ")); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}
