package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

// maxChallenge is how much of standard input is read.
const maxChallenge = 32 << 10

func newChallenge() *cobra.Command {
	c := &cobra.Command{
		Use:   "challenge NAME",
		Short: "Pass a claims challenge to the running agent",
		Long: `challenge passes the WWW-Authenticate value of a resource's 401 to the running agent, over its
socket. Without --www-authenticate it reads the value from standard input, which may be the whole
header line. An invalid challenge is refused and changes nothing.`,
		Example: "  curl -sI https://graph.microsoft.com/v1.0/me | grep -i ^www-authenticate: | credagent challenge graph",
		Args:    oneToken,

		ValidArgsFunction: oneTokenName,
	}
	agent := addAgentFlags(c)
	value := c.Flags().String("www-authenticate", "", "the `value` of the WWW-Authenticate header")
	c.RunE = func(c *cobra.Command, args []string) error {
		text := *value
		if !c.Flags().Changed("www-authenticate") {
			read, err := readInput(c.Context(), c.InOrStdin(), maxChallenge)
			if err != nil {
				return fmt.Errorf("reading the challenge: %w", err)
			}
			text = string(read)
		}
		text = headerValue(text)
		if text == "" {
			return &usageError{c.CommandPath(), errors.New("the challenge is empty")}
		}
		at, err := agent.findSocket()
		if err != nil {
			return err
		}
		return challenge(c.Context(), c.OutOrStdout(), at, args[0], text)
	}
	return c
}

// headerValue removes the name from a header line.
func headerValue(line string) string {
	const name = "WWW-Authenticate:"
	line = strings.TrimSpace(line)
	if len(line) >= len(name) && strings.EqualFold(line[:len(name)], name) {
		line = strings.TrimSpace(line[len(name):])
	}
	return line
}

func challenge(ctx context.Context, out io.Writer, at agentAt, name, value string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := askSocket(ctx, at, question{
		doing:  fmt.Sprintf("handing in a challenge for token %q", name),
		method: http.MethodPost, path: tokenPath(name, "/challenge"),
		body: map[string]string{"www_authenticate": value},
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "claims challenge for token %q handed in\n", name)
	return err
}
