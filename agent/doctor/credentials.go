package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
)

// secretKeys are the keys of the built-in providers that name a file which others must not read.
// A certificate's key without its own file is in the certificate's file.
var secretKeys = []string{"secret_file", "private_key_file", "password_file", "assertion_file"}

// credentials loads each client's credential, and checks its expiry and its files.
func (e *exam) credentials(ctx context.Context) []Finding {
	var asked []func() []Finding
	for _, c := range e.Config.Clients {
		asked = append(asked, func() []Finding {
			return about("client "+quote(c.Name), e.credential(ctx, c.Name, c.Credential)...)
		})
		if c.FallbackCredential != nil {
			asked = append(asked, func() []Finding {
				return about("client "+quote(c.Name)+", fallback_credential", e.credential(ctx, c.Name, *c.FallbackCredential)...)
			})
		}
	}
	found := make([][]Finding, len(asked))
	var asking sync.WaitGroup
	for i, ask := range asked {
		asking.Go(func() { found[i] = ask() })
	}
	asking.Wait()
	return slices.Concat(found...)
}

func (e *exam) credential(ctx context.Context, client string, c config.Credential) []Finding {
	said, problems, err := e.Check(ctx, client, c)
	var all []Finding
	for _, p := range problems {
		all = append(all, Finding{
			Level: Problem, What: strings.TrimPrefix(p.Key+": "+p.Message, ": "), Why: "the agent does not start", Fix: "correct the keys under config",
		})
	}
	if err != nil {
		message, fix, _ := strings.Cut(err.Error(), "; ")
		all = append(all, Finding{Level: Problem, What: message, Why: "no token can be requested with it", Fix: cmp.Or(fix, "correct the credential's files or its config, then: credagent validate --probe")})
	}
	all = append(all, e.ending(said)...)
	for _, file := range said.Files {
		all = append(all, credentialFile(file)...)
	}
	for _, file := range secretFiles(c) {
		all = append(all, secretFile(file)...)
	}
	return all
}

// ending checks the validity of a credential.
func (e *exam) ending(said provider.Credential) []Finding {
	const fix = "write a new one to its files: the agent notices, and proves it by one early refresh while the old one is good"
	if said.NotBefore.After(e.now) {
		return []Finding{{
			Level: Warning, What: "the credential is not good before " + stamp(said.NotBefore),
			Why: "the server refuses it until then", Fix: "wait, or look at this host's clock",
		}}
	}
	left := said.NotAfter.Sub(e.now)
	f := Finding{Level: Warning, Why: "the server refuses it from then on", Fix: fix}
	switch policy.NoticeOf(e.now, said.NotBefore, said.NotAfter) {
	case policy.NoNotice:
		return nil
	case policy.Expired:
		f.Level, f.Why = Problem, "the server refuses it"
		f.What = "the credential ended at " + stamp(said.NotAfter)
	case policy.WithinADay:
		f.Level = Problem
		f.What = fmt.Sprintf("the credential ends in %v, at %s", left.Round(time.Minute), stamp(said.NotAfter))
	default:
		f.What = fmt.Sprintf("the credential ends in %d days, at %s", int(left/(24*time.Hour)), stamp(said.NotAfter))
	}
	return []Finding{f}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// credentialFile checks who could replace a file, and whether a new one is noticed at once.
func credentialFile(file string) []Finding {
	info, err := os.Stat(file)
	if err != nil {
		return nil // the provider reported it
	}
	found := unsafeAbove(file)
	if othersWrite(info.Mode()) {
		found = append(found, Finding{
			Level: Problem, What: fmt.Sprintf("others may write to %q (mode %04o)", file, info.Mode().Perm()),
			Why: "they could put a credential of theirs in its place", Fix: "chmod go-w " + quote(file),
		})
	}
	if at := fileSystemOf(filepath.Dir(file)); at.remote {
		found = append(found, Finding{
			Level: Note, What: fmt.Sprintf("%q is on %s, which tells of no change that another machine makes", file, at.name),
			Why: "a rotated credential is noticed by looking, within half a minute",
		})
	}
	return found
}

func secretFile(file string) []Finding {
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return nil
	}
	return []Finding{{
		Level: Problem, What: fmt.Sprintf("everybody on this host may read %q (mode %04o)", file, info.Mode().Perm()),
		Why: "whoever reads it can get tokens for this client", Fix: "chmod o-rwx " + quote(file),
	}}
}

// secretFiles returns the secret files in a built-in provider's configuration.
func secretFiles(c config.Credential) []string {
	var keys map[string]json.RawMessage
	if json.Unmarshal(c.Config, &keys) != nil {
		return nil
	}
	names := secretKeys
	if _, apart := keys["private_key_file"]; !apart {
		names = append(slices.Clone(names), "certificate_file")
	}
	var files []string
	for _, name := range names {
		var file string
		if json.Unmarshal(keys[name], &file) == nil && filepath.IsAbs(file) {
			files = append(files, file)
		}
	}
	return files
}

// plugins checks the providers that no client uses yet. Problems of the others show when they are called.
func (e *exam) plugins(ctx context.Context) []Finding {
	used := map[string]bool{}
	for _, c := range e.Config.Clients {
		used[c.Credential.Provider] = true
		if c.FallbackCredential != nil {
			used[c.FallbackCredential.Provider] = true
		}
	}
	there := map[string]bool{}
	var all []Finding
	for _, p := range e.Providers(ctx) {
		there[p.Name] = true
		if p.Error != "" && !used[p.Name] {
			message, fix, _ := strings.Cut(p.Error, "; ")
			all = append(all, about("provider "+quote(p.Name), Finding{
				Level: Warning, What: message, Why: "it does not run when a client needs it", Fix: fix,
			})...)
		}
	}
	for name := range e.Config.Plugins.SHA256 {
		if !there[name] {
			all = append(all, about("plugins.sha256."+name, Finding{
				Level: Note, What: "there is no such provider", Why: "a pin of another name protects nothing", Fix: "compare it with the names that credagent plugins lists",
			})...)
		}
	}
	slices.SortFunc(all, func(a, b Finding) int { return strings.Compare(a.About[0], b.About[0]) })
	return all
}
