package agent_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
)

// granting stands for a provider of the program's own, and the server that it asks.
type granting struct{}

func (granting) Exchange(context.Context, provider.Request) (provider.Reply, error) {
	body := `{"access_token":"eyJ","token_type":"Bearer","expires_in":3600}`
	return provider.Reply{Status: http.StatusOK, Header: http.Header{}, Body: []byte(body)}, nil
}

func (granting) Check(context.Context, bool) (provider.Credential, []provider.Problem, error) {
	return provider.Credential{}, nil, nil
}

func (granting) Close() {}

func Example() {
	a := agent.New(agent.Options{Provider: func(provider.Spec) agent.Provider { return granting{} }})
	if err := a.Open(); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.Run(ctx)
	}()

	client := config.Client{
		Name: "payments", ClientID: "1234", TokenURL: "https://sts.example.com/token",
		Credential: config.Credential{Provider: "mine"},
	}
	for _, change := range []agent.Change{
		agent.SetClient(client),
		agent.SetToken(config.Token{Name: "orders", Client: "payments", Scopes: []string{"orders.read"}}),
		agent.SetToken(config.Token{Name: "invoices", Client: "billing"}),
	} {
		if err := a.Apply(ctx, change); err != nil {
			fmt.Println(err)
		}
	}
	for name := range a.Updates(ctx) {
		if t, err := a.Token(name); err == nil {
			fmt.Println(t.Name, t.TokenType, t.Scope)
			break
		}
	}
	cancel()
	<-ended
	// Output:
	// tokens.invoices.client: unknown client "billing"
	// orders Bearer orders.read
}
