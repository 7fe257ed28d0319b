package agent

import (
	"bytes"
	"fmt"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/exchange"
)

// SharedClients returns a problem for each client that is, to its server, the same as one before it, but
// has another credential. It works, but they wait for each other: what the server refuses one, or asks
// one to wait, holds the other up. No issuer is asked for its token endpoint.
func SharedClients(cfg *config.Config) []config.Problem {
	var problems []config.Problem
	type gate struct{ clientID, server string }
	first := map[gate]*config.Client{}
	for i := range cfg.Clients {
		c := &cfg.Clients[i]
		passes := gate{c.ClientID, exchange.ServerOf(*c)}
		before, shared := first[passes]
		if !shared {
			first[passes] = c
			continue
		}
		if sameCredential(&before.Credential, &c.Credential) && sameCredential(before.FallbackCredential, c.FallbackCredential) {
			continue
		}
		problem := cfg.Problem(c.Credential.Path, fmt.Sprintf(
			"client %q has the client_id and the server of client %q, but another credential: while one is refused, the tokens of both wait", c.Name, before.Name))
		problem.Hint = "configure one client and name it in the tokens of both; for a change of secrets there is fallback_credential"
		problems = append(problems, problem)
	}
	return problems
}

func sameCredential(a, b *config.Credential) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Provider == b.Provider && bytes.Equal(a.Config, b.Config)
}
