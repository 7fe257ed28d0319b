package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/process"
	"github.com/credagent/credagent/internal/redact"
	"github.com/credagent/credagent/sink"
)

// Command runs a program, without a shell. It gets a small environment: the agent's variables in [inherited],
// CREDAGENT_SINK with the sink's path and CREDAGENT_TOKENS with the names of its tokens; never a token, and no
// variable that could hold a secret of the agent. It runs in "/" with empty input, and its output is logged at level
// debug, up to a limit and with tokens removed. If it fails, the error contains the end of its standard error.
type Command struct {
	Words   []string // the program, looked up in PATH, and its arguments
	Timeout time.Duration
	Sink    string
	Tokens  []string
	Lookup  sink.Lookup // nil if there are no tokens
	Log     *slog.Logger
}

// CommandError describes how a command failed.
type CommandError struct {
	Err    error
	Stderr string // the last lines of its standard error, cleaned; "" for none
}

// Error implements error. It does not show the command's output.
func (e *CommandError) Error() string { return e.Err.Error() }

// Unwrap lets callers branch on the cause.
func (e *CommandError) Unwrap() error { return e.Err }

// inherited are the agent's variables that a command gets: the search path, the user, and the locale.
var inherited = [...]string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR",
}

// errTimeLimit means that a command was ended at its time limit.
var errTimeLimit = errors.New("the time limit was reached")

// String implements [Action]. Arguments are not shown.
func (c Command) String() string { return "command " + c.Words[0] }

// Run implements [Action].
func (c Command) Run(ctx context.Context) error {
	path, err := process.Find(c.Words[0])
	if err != nil {
		return err
	}
	held := c.tokens() // while it runs, they may be refreshed
	output, errs, end := c.lines(held), c.lines(held), &tail{}
	defer output.Finish()
	defer errs.Finish()
	limited, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("%w after %v", errTimeLimit, c.Timeout))
	defer cancel()
	err = process.Run(limited, process.Command{
		Path: path, Args: c.Words, Env: c.environment(), Dir: "/", Errors: io.MultiWriter(errs, end),
	}, output)
	if err != nil {
		return &CommandError{err, end.text(c.without(held))}
	}
	return nil
}

// lines logs a command's output, without the tokens from its start and the current ones.
func (c Command) lines(held []string) *process.LineLog {
	return &process.LineLog{
		Line: func(line string) { c.Log.Debug("command printed", "line", line) },
		Clean: func(line string) string {
			if !c.Log.Enabled(context.Background(), slog.LevelDebug) {
				return "" // it is not logged, and searching for tokens takes time
			}
			return c.without(held)(line)
		},
		Full: func(lines int) { c.Log.Debug("command prints too much, the rest is dropped", "lines", lines) },
	}
}

// tokens returns the tokens that the sink may contain now.
func (c Command) tokens() (all []string) {
	if c.Lookup == nil {
		return nil
	}
	for _, name := range c.Tokens {
		if t, ok := c.Lookup(name); ok {
			all = append(all, t.AccessToken.Reveal())
		}
	}
	return all
}

// without hides tokens in a command's output: those from its start and the current ones, because it may have read the
// sink at any time.
func (c Command) without(held []string) func(text string) string {
	return func(text string) string {
		hidden := redact.New(held...)
		for _, token := range c.tokens() {
			if !slices.Contains(held, token) {
				hidden.Hide(token)
			}
		}
		return hidden.Text(text)
	}
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
