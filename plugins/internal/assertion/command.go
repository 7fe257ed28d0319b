package assertion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/process"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins"
)

// command is the configuration of the source of that name.
type command struct {
	Run     []string         `json:"run"`
	Timeout plugins.Duration `json:"timeout"`
}

const (
	commandTimeout    = 5 * time.Second
	maxCommandTimeout = time.Minute
)

// commandVariables are what a command has of the environment: what programs need to find others, and their own
// settings, and how to reach the network.
var commandVariables = []string{
	"PATH", "HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
}

// openCommand is a program that prints an assertion.
func openCommand(h host, settings json.RawMessage, _ string) (getter, error) {
	c := command{Timeout: plugins.Duration(commandTimeout)}
	err := plugins.DecodeConfig(settings, &c)
	if len(c.Run) == 0 || c.Run[0] == "" {
		err = errors.Join(err, &plugins.ConfigError{Key: "run", Message: "is needed: the program that prints the assertion, and its arguments"})
	}
	if timeout := time.Duration(c.Timeout); timeout <= 0 || timeout > maxCommandTimeout {
		err = errors.Join(err, &plugins.ConfigError{Key: "timeout", Message: "is not between 0 and 1m"})
	}
	return func(ctx context.Context) (secret.Value, error) { return c.output(ctx, h.getenv) }, err
}

// output runs the program. What it prints to standard error is dropped, as it may hold anything.
func (c command) output(ctx context.Context, getenv func(string) string) (secret.Value, error) {
	path, err := process.Find(c.Run[0])
	if err != nil {
		return secret.Value{}, err
	}
	var env []string
	for _, name := range commandVariables {
		if value := getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.Timeout))
	defer cancel()
	printed := &bounded{full: func() { stop(errTooLong) }}
	defer printed.clear()
	err = process.RunBound(ctx, process.Command{Path: path, Args: c.Run, Env: env, Dir: "/", Errors: io.Discard}, printed)
	switch {
	case errors.Is(context.Cause(ctx), errTooLong):
		return secret.Value{}, errTooLong
	case ctx.Err() != nil:
		return secret.Value{}, &plugins.Unavailable{Message: fmt.Sprintf("%q did not end in time: it may take %s, and no longer than request_timeout", c.Run[0], time.Duration(c.Timeout))}
	case err != nil:
		return secret.Value{}, &plugins.Unavailable{Message: fmt.Sprintf("running %q: %v; run it by hand as the agent's user to see what it prints", c.Run[0], err)}
	}
	if strings.HasPrefix(strings.TrimSpace(string(printed.data)), "<") {
		return secret.Value{}, fmt.Errorf("%q printed a web page and no token", c.Run[0])
	}
	return clean(printed.data), nil
}

var errTooLong = errors.New("the command prints more than 1 MiB, so it is no assertion")

// bounded keeps what is written to it, up to a bound.
type bounded struct {
	data []byte
	full func() // called when there is more
}

// Write implements [io.Writer].
func (b *bounded) Write(data []byte) (int, error) {
	if len(b.data)+len(data) > maxAnswer {
		b.full()
		return 0, errTooLong
	}
	grown := append(b.data, data...)
	if cap(grown) != cap(b.data) {
		clear(b.data) // the copy that growing leaves behind
	}
	b.data = grown
	return len(data), nil
}

func (b *bounded) clear() { clear(b.data) }
