package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/internal/setup"
)

// maxSecret is far longer than any server's secret.
const maxSecret = 64 << 10

func newInit() *cobra.Command {
	c := &cobra.Command{
		Use:   "init [SERVER]",
		Short: "Set up a first token, from nothing",
		Long: `init creates a key and a certificate, or a file for a secret, and a configuration for one token, and
prints the steps to take at the server. On a terminal it asks for what the flags do not say. It never
overwrites a file; if it is run again, it changes nothing. A secret is asked for, or read from standard
input.

SERVER is one of ` + strings.Join(setup.Names(), ", ") + ".",
		Example: `  credagent init entra --tenant contoso.onmicrosoft.com --client-id 6731de76-14a6-49ae-97bc-6eba6914391e --reader app
  credagent init keycloak --issuer https://sso.example.com/realms/shop --client-id orders --credential secret < secret
  credagent init generic --issuer https://login.example.com --client-id orders --kubernetes`,
		Args: func(c *cobra.Command, args []string) error {
			if err := cobra.MaximumNArgs(1)(c, args); err != nil {
				return &usageError{c.CommandPath(), errors.New("give one server: the rest goes into flags")}
			}
			return nil
		},
	}
	a := initFlags(c)
	c.ValidArgsFunction = func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return words(setup.Names()...)(c, args, begun)
	}
	completeFlag(c, "credential", words(setup.Certificate, setup.Secret, setup.Assertion))
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			a.Server = args[0]
		}
		return runInit(c, *a)
	}
	return c
}

func initFlags(c *cobra.Command) *setup.Answers {
	a, f := &setup.Answers{}, c.Flags()
	f.StringVar(&a.ClientID, "client-id", "", "the client's identifier at the server")
	f.StringVar(&a.Tenant, "tenant", "", "the tenant: Entra's id or domain, a domain of Okta, Auth0, Salesforce or AD FS, an environment of PingOne")
	f.StringVar(&a.Issuer, "issuer", "", "the issuer's `URL`; for cognito the pool's domain, for generic the token endpoint too, for entra another authority")
	f.StringVar(&a.Credential, "credential", "", "certificate, secret or assertion (default: the best that the server takes)")
	f.StringVar(&a.Scope, "scope", "", "the scopes, separated by spaces")
	f.StringVar(&a.Audience, "audience", "", "the audience, if the server needs it: auth0, adfs")
	f.StringVar(&a.CAFile, "ca-file", "", "PEM `file` with an extra trust root for the server")
	f.StringVar(&a.File, "file", "", "the `file` that the token is written to (default /run/credagent/app.token)")
	f.StringVar(&a.Reader, "reader", "", "the `user` that the application runs as, who may read the token")
	f.StringVar(&a.User, "user", "", "the `user` that the agent runs as (default credagent, or the caller who is not root)")
	f.StringVar(&a.Dir, "dir", "", "the `directory` of the configuration and the credential (default /etc/credagent)")
	f.BoolVar(&a.Kubernetes, "kubernetes", false, "print manifests instead")
	f.BoolVar(&a.Print, "print", false, "print what would be created, and create nothing")
	return a
}

func runInit(c *cobra.Command, a setup.Answers) error {
	caller, err := setup.WhoCalls()
	if err != nil {
		return err
	}
	in, out := c.InOrStdin(), c.OutOrStdout()
	if isTerminal(in) && setup.Lacks(a) {
		if err := setup.CheckUser(a, caller); err != nil {
			return &usageError{c.CommandPath(), err}
		}
		if a, err = (setup.Console{In: in, Out: c.ErrOrStderr()}).Ask(c.Context(), a, caller); err != nil {
			return ended(c, err)
		}
	}
	plan, err := setup.Make(a, caller)
	if err != nil {
		return ended(c, err)
	}
	if a.Print || a.Kubernetes {
		return cmp.Or(printPlan(out, plan, a.Kubernetes), printSteps(c.ErrOrStderr(), plan))
	}
	maker, err := plan.Maker(caller, out)
	if err != nil {
		return &usageError{c.CommandPath(), err}
	}
	maker.Secret = func(ctx context.Context) (secret.Value, error) {
		if plan.WantsKeyFile() && isTerminal(in) {
			return secret.Value{}, errors.New("the account's key file is needed on standard input: add < key.json to the command")
		}
		return readSecret(ctx, in, c.ErrOrStderr())
	}
	if err := maker.Make(c.Context(), plan); err != nil {
		return stated(err)
	}
	if err := maker.Validate(c.Context(), plan); err != nil {
		return &statedError{exitConfig, err}
	}
	return plan.WriteInstructions(out, caller)
}

// ended turns a mistake in the answers into a usage error.
func ended(c *cobra.Command, err error) error {
	if errors.Is(err, setup.ErrEnded) {
		return &statedError{exitUsage, err}
	}
	return &usageError{c.CommandPath(), err}
}

// stated gives an obstacle the status of a bad configuration.
func stated(err error) error {
	if errors.Is(err, setup.ErrEnded) || errors.Is(err, context.Canceled) {
		return &statedError{exitUsage, setup.ErrEnded}
	}
	return &statedError{exitConfig, err}
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func printPlan(out io.Writer, plan setup.Plan, kubernetes bool) error {
	if !kubernetes {
		return plan.Show(out)
	}
	text, err := plan.Manifests()
	if err == nil {
		_, err = io.WriteString(out, text)
	}
	return err
}

// printSteps prints the steps to take at the server, separate from output for a file.
func printSteps(out io.Writer, plan setup.Plan) error {
	steps, err := plan.Steps()
	if err == nil {
		_, err = fmt.Fprintf(out, "\n%s", steps)
	}
	return err
}

// readSecret prompts without echo, or reads all of standard input.
func readSecret(ctx context.Context, in io.Reader, out io.Writer) (secret.Value, error) {
	if isTerminal(in) {
		return askSecret(ctx, in.(*os.File), out)
	}
	data, err := readInput(ctx, in, maxSecret+1)
	switch {
	case errors.Is(err, errInterrupted):
		return secret.Value{}, setup.ErrEnded
	case err != nil:
		return secret.Value{}, fmt.Errorf("reading the secret from standard input: %w", err)
	case len(data) > maxSecret:
		return secret.Value{}, fmt.Errorf("reading the secret from standard input: it is longer than %d bytes", maxSecret)
	}
	return secret.New(string(bytes.TrimSpace(data))), nil
}

func askSecret(ctx context.Context, terminal *os.File, out io.Writer) (secret.Value, error) {
	fd := int(terminal.Fd())
	before, err := term.GetState(fd)
	if err == nil {
		err = hideInput(fd)
	}
	if err != nil {
		return secret.Value{}, fmt.Errorf("reading the secret: %w", err)
	}
	defer fmt.Fprintln(out)
	defer func() { _ = term.Restore(fd, before) }()
	fmt.Fprint(out, "\nThe secret; it is not shown: ")
	data, err := interruptibly(ctx, func() ([]byte, error) { return readHidden(terminal) })
	if err != nil {
		return secret.Value{}, setup.ErrEnded
	}
	return secret.New(string(bytes.TrimSpace(data))), nil
}
