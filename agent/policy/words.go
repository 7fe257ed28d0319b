package policy

import "strings"

// spoken is the meaning of a server's text if its error code is missing or misleading. A sign is a part of the text
// in lower case.
type spoken struct {
	sign string
	Advice
}

// Advice returns what the server's own numbers or text reveal about the refusal beyond its code.
func (r Refusal) Advice() (Advice, bool) {
	if advice, known := Advise(r.Codes); known {
		return advice, true
	}
	words := strings.ToLower(r.Words)
	disabled := Advice{Configuration, true, "enable the client at the server"}
	for _, s := range [...]spoken{
		// Salesforce
		{"no client credentials user enabled", Advice{Configuration, true, "give the app a Run As user for the client-credentials flow (External Client App, Policies, OAuth Flows)"}},
		{"request not supported on this domain", Advice{Configuration, true, "use the organization's own My Domain in token_url, not login.salesforce.com or test.salesforce.com"}},
		{"inactive user", Advice{Credential, true, "activate the user that the app runs as"}},
		{"retry your request", Advice{Class: Transient}},
		{"login rate exceeded", Advice{Class: Transient}},
		{"temporarily unavailable", Advice{Class: Transient}},
		// Keycloak
		{"not enabled to retrieve service account", Advice{Configuration, true, "turn on the client's service account (Keycloak: Capability config, Service accounts roles)"}},
		{"client is disabled", disabled}, {"client disabled", disabled}, {"disabled client", disabled},
		// Auth0
		{"is not authorized to access", Advice{Configuration, false, "authorize the client for the API that audience names (Auth0: a client grant)"}},
		{"service not enabled within domain", Advice{Configuration, false, "check audience: the server has no such API"}},
		// Okta
		{"policy evaluation failed", Advice{Refused, false, "add a rule for this client and these scopes to the authorization server's access policy"}},
		// IBM Cloud IAM
		{"bxnim0415e", Advice{Credential, true, "check the API key: the server does not know it"}},
	} {
		if strings.Contains(words, s.sign) {
			return s.Advice, true
		}
	}
	return Advice{}, false
}
