// Command embed is a program that embeds the agent. It reads and writes no file, starts no other process, and keeps
// the tokens of its tenants fresh, which are added and removed while it runs.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("TOKEN_URL"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run keeps the token of one tenant fresh, and prints its updates, until ctx ends.
func run(ctx context.Context, tokenURL string, out io.Writer) error {
	k, err := newKeeper(newState())
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() { k.agent.Run(ctx) })
	defer running.Wait()
	if err := k.add(ctx, tenant{name: "contoso", tokenURL: tokenURL, clientID: "orders", scope: "read"}); err != nil {
		return err
	}
	for name := range k.agent.Updates(ctx) {
		if t, err := k.agent.Token(name); err != nil {
			fmt.Fprintln(out, err)
		} else {
			fmt.Fprintf(out, "token %q is good, for scope %q\n", name, t.Scope)
		}
	}
	return nil
}

// keeper is the agent as this program uses it.
type keeper struct {
	agent *agent.Agent
}

// newKeeper creates an agent with only this program's own parts: its credentials and its state. No request is sent
// that could not be noted in the state before.
func newKeeper(s *state) (*keeper, error) {
	a := agent.New(agent.Options{
		Log:         slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Provider:    func(spec provider.Spec) agent.Provider { return newSecrets(spec.Client) },
		Memory:      s,
		StrictNotes: true,
	})
	if err := a.Open(); err != nil {
		return nil, err
	}
	return &keeper{a}, nil
}

// tenant is the owner of one token.
type tenant struct {
	name, tokenURL, clientID, scope string
}

// add starts keeping a tenant's token fresh. It does not affect other tenants; if this one is invalid, it returns the
// error.
func (k *keeper) add(ctx context.Context, t tenant) error {
	client := config.Client{
		Name: t.name, TokenURL: t.tokenURL, ClientID: t.clientID, Credential: config.Credential{Provider: "memory"},
	}
	token := config.Token{Name: t.name, Client: t.name, Scopes: []string{t.scope}}
	for _, change := range []agent.Change{agent.SetClient(client), agent.SetToken(token), agent.AttachSink(newShelf(t.name))} {
		if err := k.agent.Apply(ctx, change); err != nil {
			return fmt.Errorf("adding tenant %q: %w", t.name, err)
		}
	}
	return nil
}

// remove stops keeping a tenant's token.
func (k *keeper) remove(ctx context.Context, name string) error {
	for _, change := range []agent.Change{agent.RemoveSink(shelfPath(name)), agent.RemoveToken(name), agent.RemoveClient(name)} {
		if err := k.agent.Apply(ctx, change); err != nil {
			return fmt.Errorf("removing tenant %q: %w", name, err)
		}
	}
	return nil
}
