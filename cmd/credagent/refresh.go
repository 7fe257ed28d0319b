package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
)

func newRefresh() *cobra.Command {
	c := &cobra.Command{
		Use:   "refresh NAME",
		Short: "Make the running agent refresh a token now",
		Long: `refresh asks the running agent, over its socket, to request a new token now, and reports the
result. It ends credagent's own wait after a failure, but not a server's Retry-After, nor the
shortest retry, nor the ceiling of requests per minute: while one of these applies, it is refused,
with the seconds left.`,
		Example: "  credagent refresh graph",
		Args:    oneToken,

		ValidArgsFunction: oneTokenName,
	}
	agent := addAgentFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		at, err := agent.findSocket()
		if err != nil {
			return err
		}
		return refresh(c.Context(), c.OutOrStdout(), at, args[0])
	}
	return c
}

// oneToken requires exactly one argument, the name of a token.
func oneToken(c *cobra.Command, args []string) error {
	if err := checkTokenArgs(args, formatJSON, []string{formatJSON}); err != nil {
		return &usageError{c.CommandPath(), err}
	}
	return nil
}

func refresh(ctx context.Context, out io.Writer, at agentAt, name string) error {
	doing := fmt.Sprintf("refreshing token %q", name)
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	body, err := askSocket(ctx, at, question{doing: doing, method: http.MethodPost, path: tokenPath(name, "/refresh")})
	if err != nil {
		return err
	}
	got, err := readAnswer[status.Refresh](body)
	if err != nil {
		return notTheAgent(doing, at.socket, "an answer that is not the agent's")
	}
	if got.Outcome != policy.Success.String() {
		return notRefreshed(doing, got)
	}
	_, err = fmt.Fprintf(out, "token %q refreshed, it expires in %s\n", name, until(time.Now(), got.Expiry))
	return err
}

// notRefreshed describes a refresh that brought no token, with the exit status that `once` would have.
func notRefreshed(doing string, got status.Refresh) error {
	if got.Outcome == status.Pending {
		return &statedError{exitNoToken, fmt.Errorf("%s: there is no answer yet; status shows what becomes of it", doing)}
	}
	code := exitNoToken
	switch {
	case got.Refused:
		code = exitRefused
	case got.Outcome != policy.Throttled.String() && got.Outcome != policy.Transient.String():
		code = exitConfig
	}
	err := fmt.Errorf("%s: %s; the next request is in %s", doing, got.Error, until(time.Now(), got.RefreshAt))
	if got.Advice != "" {
		err = fmt.Errorf("%w\n    hint: %s", err, got.Advice)
	}
	return &statedError{code, err}
}
