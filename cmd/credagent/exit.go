package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/process"
)

// The exit statuses, after sysexits(3).
const (
	exitOK      = 0
	exitUsage   = 64 // wrong usage
	exitBug     = 70 // a bug, or an unexpected failure
	exitNoToken = 75 // no token yet; trying later may help
	exitRefused = 77 // the server refused the credential or the client, or the agent refused the caller
	exitConfig  = 78 // bad configuration, or a host that doctor or verify-sink found a problem with

	exitNotRun   = 126 // exec: the command exists and cannot be run
	exitNotFound = 127 // exec: there is no such command
)

// usageError is a mistake on the command line.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%v\n    hint: %s --help shows how it is used", e.err, e.command)
}

// errNoAgent means that no running agent answers.
var errNoAgent = errors.New("no running agent answers")

// report prints an error, one line for each part with its hints below, and returns the exit status.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	if ended := (*commandEnded)(nil); errors.As(err, &ended) {
		return ended.status // the command has explained itself
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		if strings.HasPrefix(line, " ") {
			fmt.Fprintln(stderr, line)
			continue
		}
		fmt.Fprintln(stderr, "credagent: "+line)
	}
	for _, advice := range advices(err) {
		fmt.Fprintln(stderr, "    hint: "+advice)
	}
	if errors.Is(err, errNoAgent) && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)) {
		fmt.Fprintln(stderr, "    hint: start it with credagent run -c FILE, or systemctl start credagent; -c FILE or --socket PATH names another agent")
	}
	return exitCode(err)
}

// exitCode returns the status for an error. Of several reasons, the one that needs a person wins.
func exitCode(err error) int {
	var usage *usageError
	var bad *config.Error
	var stated *statedError
	var start *process.StartError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &bad), errors.Is(err, errUnwell):
		return exitConfig
	case errors.As(err, &start) && start.NotFound():
		return exitNotFound
	case errors.As(err, &start):
		return exitNotRun
	case errors.Is(err, errNoAgent):
		return exitNoToken
	case errors.As(err, &stated):
		return stated.code
	}
	code := exitBug
	for _, part := range leaves(err) {
		code = worse(code, codeOf(part))
	}
	return code
}

func codeOf(err error) int {
	var token *agent.TokenError
	var sink *agent.SinkError
	switch {
	case errors.As(err, &token) && token.Failure != nil && token.Failure.Class.Lasting():
		if token.Failure.RefusesClient && !token.Failure.Local {
			return exitRefused
		}
		return exitConfig
	case errors.As(err, &token), errors.As(err, &sink):
		return exitNoToken
	}
	return exitBug
}

// worse returns the more important status: a refusal, then the configuration, then "try later".
func worse(a, b int) int {
	for _, code := range []int{exitRefused, exitConfig, exitNoToken} {
		if a == code || b == code {
			return code
		}
	}
	return exitBug
}

// leaves returns the errors that were joined into one.
func leaves(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, part := range joined.Unwrap() {
			all = append(all, leaves(part)...)
		}
		return all
	}
	return []error{err}
}

// advices returns what to do about the tokens that could not be acquired, each once.
func advices(err error) []string {
	var all []string
	for _, part := range leaves(err) {
		var token *agent.TokenError
		if errors.As(part, &token) && token.Failure != nil && token.Failure.Advice != "" {
			all = appendNew(all, token.Failure.Advice)
		}
	}
	return all
}

func appendNew(all []string, s string) []string {
	for _, known := range all {
		if known == s {
			return all
		}
	}
	return append(all, s)
}
