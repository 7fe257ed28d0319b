package devserver

// exchangeAudience is what Entra's tokens for another authentication are for, and its scope the only one of
// a request with fmi_path.
const (
	exchangeAudience = "api://AzureADTokenExchange"
	exchangeScope    = exchangeAudience + "/.default"
)

// agent is the agent identity that a blueprint asks a token for; "" for none.
func (q *tokenRequest) agent(scope string) string {
	if !q.at.entra || scope != exchangeScope {
		return ""
	}
	return q.form.Get("fmi_path")
}

// checkAgent checks a token of a blueprint, with which an agent identity authenticates: it is that one's alone.
func checkAgent(g grant, client Client) *refusal {
	switch {
	case g.agent == "":
		return invalidClient(700212, "no matching federated identity for the assertion's aud, which should be '%s'", exchangeAudience)
	case g.agent != client.ID:
		return invalidClient(700213, "no matching federated identity for the assertion's sub, which is of agent identity '%s'", g.agent)
	}
	return nil
}
