package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

const (
	formatJSON           = "json"
	formatGitCredential  = "git-credential"
	formatExecCredential = "exec-credential"
)

// tokenFormats are the formats in which a token can be printed, besides git's: the same as in a sink, but for
// those that only a file can have.
func tokenFormats() map[string]sink.Format {
	all := map[string]sink.Format{}
	for _, f := range sink.Formats() {
		if f != sink.FormatTemplate && f != sink.FormatEnvoySDS {
			all[strings.ReplaceAll(string(f), "_", "-")] = f
		}
	}
	return all
}

func newToken() *cobra.Command {
	formats := append(slices.Sorted(maps.Keys(tokenFormats())), formatGitCredential)
	c := &cobra.Command{
		Use:   "token NAME",
		Short: "Print a fresh token of the running agent",
		Long: `token asks the running agent, over its socket, for the current token. The token's allow in the
configuration lists who may have it; root and the agent's own user always may.

The formats are those of a sink; with git-credential it is a credential helper of git, which passes
the operation as the last argument:

  git config --global credential.https://git.example.com.helper \
    '!credagent token git --socket /run/credagent/credagent.sock --format git-credential'`,
		Example: "  curl -H \"$(credagent token graph --format header)\" https://graph.microsoft.com/v1.0/users",
	}
	agent := addAgentFlags(c)
	format := c.Flags().String("format", "raw", "how to print it: "+strings.Join(formats, ", "))
	c.ValidArgsFunction = oneTokenName
	completeFlag(c, "format", words(formats...))
	c.Args = func(c *cobra.Command, args []string) error {
		if err := checkTokenArgs(args, *format, formats); err != nil {
			return &usageError{c.CommandPath(), err}
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if *format == formatGitCredential {
			return gitCredential(c, agent, args)
		}
		got, err := askToken(c.Context(), agent, args[0])
		if err != nil {
			return err
		}
		return got.print(c.OutOrStdout(), *format)
	}
	return c
}

func checkTokenArgs(args []string, format string, formats []string) error {
	most := 1
	if format == formatGitCredential {
		most = 2 // the operation
	}
	switch {
	case !slices.Contains(formats, format):
		return config.Suggest(fmt.Errorf("invalid argument %q for --format: want one of %s", format, strings.Join(formats, ", ")), format, formats)
	case len(args) == 0:
		return fmt.Errorf("the name of a token is missing")
	case len(args) > most:
		return fmt.Errorf("unexpected argument %q", args[most])
	}
	return nil
}

// gotToken is a token as received from the agent.
type gotToken struct {
	json []byte
	token.Token
}

func askToken(ctx context.Context, agent agentFlags, name string) (gotToken, error) {
	doing := fmt.Sprintf("asking for token %q", name)
	at, err := agent.findSocket()
	if err != nil {
		return gotToken{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	body, err := askSocket(ctx, at, question{doing: doing, method: http.MethodGet, path: tokenPath(name, "")})
	if err != nil {
		return gotToken{}, err
	}
	var wire struct {
		AccessToken string    `json:"access_token"`
		Expiry      time.Time `json:"expiry"`
	}
	if err := json.Unmarshal(body, &wire); err != nil || wire.AccessToken == "" || !isShowable(body) {
		return gotToken{}, notTheAgent(doing, at.socket, "an answer that is not the agent's")
	}
	return gotToken{body, token.Token{Name: name, AccessToken: secret.New(wire.AccessToken), Expiry: wire.Expiry}}, nil
}

// isShowable reports whether an answer can be printed unchanged: JSON needs no control characters.
func isShowable(answer []byte) bool {
	return utf8.Valid(answer) && !bytes.ContainsFunc(answer, func(r rune) bool {
		return r != '\n' && r != '\t' && r != '\r' && !unicode.IsPrint(r)
	})
}

func (g gotToken) print(out io.Writer, format string) error {
	text := g.json
	if format != formatJSON {
		var err error
		if text, err = g.render(tokenFormats()[format]); err != nil {
			return err
		}
	}
	if format == formatExecCredential {
		var err error
		if text, err = inVersion(text, os.Getenv(execInfoVariable)); err != nil {
			return &statedError{exitConfig, err}
		}
	}
	_, err := out.Write(text)
	return err
}

func (g gotToken) render(as sink.Format) ([]byte, error) {
	return as.Of(g.Name).Render(func(string) (token.Token, bool) { return g.Token, true })
}
