package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/status"
)

const (
	askTimeout     = 5 * time.Second  // for an answer from the running agent
	refreshTimeout = 30 * time.Second // for one that depends on a server's answer
	maxAnswer      = 64 << 20         // bytes of an answer
)

// agentFlags locate the running agent.
type agentFlags struct {
	config *string
	socket *string
}

func addAgentFlags(c *cobra.Command) agentFlags {
	return agentFlags{
		config: configFlag(c),
		socket: pathFlag(c, "socket", "", "the running agent's socket; no configuration is read then"),
	}
}

// agentAt is where the running agent can be reached.
type agentAt struct {
	socket string // "" for none
	listen string // "" for none
	cfg    *config.Config
}

func (f agentFlags) find() (agentAt, error) {
	if *f.socket != "" {
		return agentAt{socket: *f.socket}, nil
	}
	cfg, err := loadConfig(*f.config)
	if err != nil {
		return agentAt{}, fmt.Errorf("%w\n    hint: --socket PATH asks an agent whose configuration cannot be read here", err)
	}
	return agentOf(cfg), nil
}

// agentOf returns where the agent with this configuration can be reached.
func agentOf(cfg *config.Config) agentAt {
	at := agentAt{listen: cfg.Listen, cfg: cfg}
	if cfg.Socket != nil {
		at.socket = cfg.Socket.Path
	}
	return at
}

// findSocket is find for what is served only on the socket.
func (f agentFlags) findSocket() (agentAt, error) {
	at, err := f.find()
	if err != nil {
		return agentAt{}, err
	}
	if at.socket == "" {
		problem := at.cfg.Problem("socket", "missing: the running agent is asked over it")
		if at.cfg.Source == fromEnvironment {
			problem.Hint = "set CREDAGENT_SOCKET=" + usualSocket + " and restart the agent, or name the agent's socket with --socket PATH"
			return agentAt{}, &config.Error{Problems: []config.Problem{problem}}
		}
		problem.Hint = "write  socket: { path: " + usualSocket + " }  into it and restart the agent, or name the agent's socket with --socket PATH"
		return agentAt{}, &config.Error{Problems: []config.Problem{problem}}
	}
	return at, nil
}

// usualSocket is the packages' path of the agent's socket.
const usualSocket = "/run/credagent/credagent.sock"

// statedError is an error with its exit status.
type statedError struct {
	code int
	err  error
}

func (e *statedError) Error() string { return e.err.Error() }

// Unwrap lets callers branch on what went wrong.
func (e *statedError) Unwrap() error { return e.err }

// question is a request to the running agent over its socket.
type question struct {
	doing  string // for errors: what is being done
	method string
	path   string
	body   any // sent as JSON; nil for none
}

// tokenPath returns the path of a token, or of an action on it.
func tokenPath(name, what string) string { return "/v1/tokens/" + url.PathEscape(name) + what }

// askSocket returns the body of the agent's answer. An unexpected answer is a [*statedError].
func askSocket(ctx context.Context, at agentAt, q question) ([]byte, error) {
	socket := at.socket
	body, err := json.Marshal(q.body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, q.method, "http://credagent"+q.path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if q.body == nil {
		request.Body, request.ContentLength = http.NoBody, 0
	} else {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := direct(func(ctx context.Context) (net.Conn, error) {
		return dialSocket(ctx, socket, at.trustedAt())
	}).Do(request)
	if untrusted := (*untrustedError)(nil); errors.As(err, &untrusted) {
		return nil, fmt.Errorf("%s: %w at %s: %w", q.doing, errNoAgent, socket, untrusted)
	}
	if err != nil {
		return nil, unreachable(q.doing, socket, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, unreachable(q.doing, socket, err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, refusedBy(q.doing, socket, response, answer)
	}
	return answer, nil
}

// direct returns a client for one request, never through a proxy.
func direct(dial func(context.Context) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}
}

// unreachable explains why there is no answer.
func unreachable(doing, at string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &statedError{exitRefused, fmt.Errorf("%s: connecting to %s: %w\n    hint: the socket's group and mode say who may connect", doing, at, causeOf(err))}
	}
	return fmt.Errorf("%s: %w at %s: %w", doing, errNoAgent, at, causeOf(err))
}

// refusedBy explains an unexpected answer.
func refusedBy(doing, at string, response *http.Response, body []byte) error {
	var said struct{ Error, Message string }
	if err := json.Unmarshal(body, &said); err != nil || said.Message == "" {
		return notTheAgent(doing, at, response.Status)
	}
	codes := map[int]int{
		http.StatusBadRequest:         exitUsage,
		http.StatusForbidden:          exitRefused,
		http.StatusNotFound:           exitConfig,
		http.StatusTooManyRequests:    exitNoToken,
		http.StatusServiceUnavailable: exitNoToken,
	}
	code, known := codes[response.StatusCode]
	if !known {
		code = exitBug
	}
	message := printable(said.Message)
	if code == exitRefused {
		message += "\n    hint: the token's allow in the agent's configuration says who may have it"
	}
	return &statedError{code, errors.New(message)}
}

// askStatus gets the status over the socket, else at the listen address.
func askStatus(ctx context.Context, at agentAt) (status.Status, error) {
	const doing = "asking for the status"
	if at.socket == "" && at.listen == "" {
		return status.Status{}, fmt.Errorf("%s: %w: the configuration has no socket and turns listen off", doing, errNoAgent)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var failed error
	if at.socket != "" {
		body, err := askSocket(ctx, at, question{doing: doing, method: http.MethodGet, path: "/v1/status"})
		if err == nil {
			return readStatus(body, at.socket)
		}
		failed = err
	}
	if at.listen != "" {
		body, err := askListen(ctx, doing, at)
		if err == nil {
			return readStatus(body, at.listen)
		}
		failed = errors.Join(failed, err)
	}
	return status.Status{}, failed
}

func askListen(ctx context.Context, doing string, at agentAt) ([]byte, error) {
	listen := at.listen
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+local(listen)+"/v1/status", nil)
	if err != nil {
		return nil, err
	}
	response, err := direct(func(ctx context.Context) (net.Conn, error) {
		return dialTrusted(ctx, local(listen), at.trusted())
	}).Do(request)
	if untrusted := (*untrustedError)(nil); errors.As(err, &untrusted) {
		return nil, fmt.Errorf("%s: %w at %s: %w", doing, errNoAgent, listen, untrusted)
	}
	if err != nil {
		return nil, unreachable(doing, listen, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil || response.StatusCode != http.StatusOK {
		return nil, notTheAgent(doing, listen, response.Status)
	}
	return body, nil
}

func readStatus(body []byte, at string) (status.Status, error) {
	s, err := readAnswer[status.Status](body)
	if err != nil {
		return s, notTheAgent("asking for the status", at, "an answer that is not the agent's")
	}
	return s, nil
}

// readAnswer reads JSON from the running agent, or from a program in its place, and makes it safe to show on a
// terminal.
func readAnswer[T any](body []byte) (answer T, err error) {
	err = json.Unmarshal(body, &answer)
	clean(reflect.ValueOf(&answer).Elem())
	return answer, err
}

// notTheAgent means that another program answered.
func notTheAgent(doing, at, answer string) error {
	return fmt.Errorf("%s: %w at %s: another program is listening there (%s)", doing, errNoAgent, at, printable(answer))
}

// local returns the address under which this host reaches a listen address.
func local(listen string) string {
	if host, port, err := net.SplitHostPort(listen); err == nil && host == "" {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}

// causeOf drops what the message already contains.
func causeOf(err error) error {
	var number syscall.Errno
	var inNet *net.OpError
	var asked *url.Error
	switch {
	case errors.As(err, &number):
		return number
	case errors.As(err, &inNet):
		return inNet.Err
	case errors.As(err, &asked):
		return asked.Err
	}
	return err
}
