package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/store"
)

// stateful is a configuration with a state that is as it should be.
func stateful(t *testing.T) config.Config {
	t.Helper()
	dir := openTemp(t)
	key, err := store.NewKey(time.Now())
	must(t, err)
	s := config.State{Dir: filepath.Join(dir, "state"), KeyFile: write(t, filepath.Join(dir, "key"), key.Reveal(), 0o600)}
	opened, err := store.Open(s.Dir, s.KeyFile)
	must(t, err)
	must(t, opened.Save("graph", store.Record{}))
	return config.Config{State: &s}
}

func TestState(t *testing.T) {
	for name, tc := range map[string]struct {
		arrange func(s *config.State) error
		want    []want
	}{
		"fine":         {func(*config.State) error { return nil }, nil},
		"not made yet": {func(s *config.State) error { return os.RemoveAll(s.Dir) }, nil},
		"no parent":    {func(s *config.State) error { s.Dir += "/no/x"; return nil }, []want{{Problem, "no such directory as", "does not start", "create that first"}}},
		"too open":     {func(s *config.State) error { return os.Chmod(s.Dir, 0o755) }, []want{{Problem, "its mode 0755 lets others in", "does not start", "chmod 700"}}},
		"no key":       {func(s *config.State) error { return os.Remove(s.KeyFile) }, []want{{Problem, "no such file or directory", "does not start", "umask 077; credagent keygen"}}},
		"an open key":  {func(s *config.State) error { return os.Chmod(s.KeyFile, 0o644) }, []want{{Problem, "its mode 0644 is too wide for a key", "", "chmod g-w,o-rwx"}}},
		"damage":       {func(s *config.State) error { return os.WriteFile(filepath.Join(s.Dir, "graph.age"), nil, 0o600) }, []want{{Warning, `graph.age" cannot be used: it is empty`, "requested anew", "nothing"}}},
		"both": {func(s *config.State) error { return errors.Join(os.Remove(s.KeyFile), os.Chmod(s.Dir, 0o770)) },
			[]want{{Problem, "state key", "", ""}, {Problem, "can be written to by others", "", "chmod go-w"}}},
		"open above": {func(s *config.State) error { return os.Chmod(filepath.Dir(s.Dir), 0o777) },
			[]want{{Problem, "can be written to by others", "does not start", "chmod go-w"}, {Problem, "can be written to by others", "does not start", "chmod go-w"}}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := stateful(t)
			must(t, tc.arrange(cfg.State))
			check(t, newExam(cfg).state(t.Context()), tc.want...)
		})
	}
	check(t, newExam(config.Config{}).state(t.Context()), want{Note, "kept in memory only", "requests each of them anew", "credagent keygen"})
}

// TestStateOfAnotherUser is how root sees the directory of the agent's user.
func TestStateOfAnotherUser(t *testing.T) {
	needRoot(t)
	cfg := stateful(t)
	must(t, os.Chown(cfg.State.Dir, 4001, 4001))
	e := newExam(cfg)
	e.uid, e.judged = e.agentUser()
	check(t, e.state(t.Context()))
	must(t, os.Chmod(cfg.State.Dir, 0o750))
	check(t, e.state(t.Context()), want{Problem, "others may enter state directory", "does not start", "chmod 700"})
}
