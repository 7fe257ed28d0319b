package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/process"
)

// Command runs a program, without a shell. It gets a small environment: the variables of the agent's
// that [inherited] names, CREDAGENT_SINK with the sink's path and CREDAGENT_TOKENS with the names of
// its tokens; never a token, and no variable that could hold a secret of the agent's. It runs in "/",
// reads nothing, and what it prints goes into the log at level debug, up to a bound.
type Command struct {
	Words   []string // the program, looked up in PATH, and its arguments
	Timeout time.Duration
	Sink    string
	Tokens  []string
	Log     *slog.Logger
}

// inherited are the variables of the agent's that a command gets: where programs are, who runs them,
// and how they speak.
var inherited = [...]string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR",
}

// errTimeLimit is why a command was ended.
var errTimeLimit = errors.New("the time limit was reached")

// String implements [Action]. Arguments are not shown.
func (c Command) String() string { return "command " + c.Words[0] }

// Run implements [Action].
func (c Command) Run(ctx context.Context) error {
	path, err := process.Find(c.Words[0])
	if err != nil {
		return err
	}
	output := &process.LineLog{
		Line: func(line string) { c.Log.Debug("command printed", "line", line) },
		Full: func(lines int) { c.Log.Debug("command prints too much, the rest is dropped", "lines", lines) },
	}
	defer output.Finish()
	limited, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("%w after %v", errTimeLimit, c.Timeout))
	defer cancel()
	return process.Run(limited, process.Command{Path: path, Args: c.Words, Env: c.environment(), Dir: "/"}, output)
}

func (c Command) environment() []string {
	env := []string{"CREDAGENT_SINK=" + c.Sink, "CREDAGENT_TOKENS=" + strings.Join(c.Tokens, " ")}
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
