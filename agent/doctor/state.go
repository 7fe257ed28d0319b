package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/kubeapi"
)

// state checks the encrypted state: its key, its directory and its records.
func (e *exam) state(context.Context) []Finding {
	s := e.Config.State
	if s == nil {
		return []Finding{{
			Level: Note, What: "tokens are kept in memory only",
			Why: "a restart requests each of them anew, and forgets how requests went before; for how long a server asked to be left alone is kept for this host",
			Fix: "configure state; credagent keygen makes its key",
		}}
	}
	if s.Secret != "" {
		return e.stateSecret()
	}
	var all []Finding
	for _, err := range store.Check(s.Dir, s.KeyFile) {
		var setup *store.SetupError
		var damage *store.DamageError
		switch {
		case errors.As(err, &damage):
			all = append(all, about("state.dir", Finding{
				Level: Warning, What: fmt.Sprintf("%q cannot be used: %v", damage.Path, damage.Err),
				Why: "its token is requested anew at the next start, and what the server asked for is forgotten",
				Fix: "if the key was changed on purpose, nothing: the file will be replaced",
			})...)
		case errors.As(err, &setup) && setup.Setting == "dir" && e.uid != os.Geteuid():
			all = append(all, about("state.dir", append(stateOfOthers(s.Dir), unsafeAbove(s.Dir)...)...)...)
		case errors.As(err, &setup):
			message, fix, _ := strings.Cut(err.Error(), "; ")
			all = append(all, about("state."+setup.Setting, Finding{
				Level: Problem, What: message, Why: "the agent does not start", Fix: cmp.Or(strings.TrimPrefix(fix, "run: "), "correct it, then: credagent validate"),
			})...)
		default:
			all = append(all, about("state.dir", Finding{Level: Problem, What: err.Error(), Why: "the token is requested anew at the next start", Fix: "nothing, if the key was changed; else see who writes in the state directory, and remove the file"})...)
		}
	}
	return all
}

// stateSecret checks the state in a Secret: its key, the rights, and its records.
func (e *exam) stateSecret() []Finding {
	s, cluster := e.Config.State, e.Cluster
	if cluster == nil {
		cluster = kubeapi.New(kubeapi.Options{})
		defer cluster.Close()
	}
	opened, err := store.OpenSecret(cluster, kubeapi.Namespace(), s.Secret, s.KeyFile)
	if err != nil {
		return about("state", Finding{Level: Problem, What: err.Error(), Why: "the agent does not start", Fix: "correct it, then run this again in the agent's pod"})
	}
	var all []Finding
	_, damaged := opened.LoadAll()
	for _, err := range damaged {
		all = append(all, about("state", Finding{
			Level: Warning, What: err.Error(), Why: "its token is requested again at the next start", Fix: "if the key was changed on purpose, nothing: the record will be replaced",
		})...)
	}
	return all
}

// stateOfOthers checks a directory that root cannot judge by opening it: it has to belong to the agent's user.
func stateOfOthers(dir string) []Finding {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return []Finding{{
		Level: Problem, What: fmt.Sprintf("others may enter state directory %q (mode %04o)", dir, info.Mode().Perm()),
		Why: "the agent does not start", Fix: "chmod 700 " + quote(dir),
	}}
}
