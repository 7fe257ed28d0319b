package devserver_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"testing"

	"github.com/credagent/credagent/internal/devserver"
)

// claimsOf returns what a 401 of the resource asks for.
func claimsOf(t *testing.T, answer reply) string {
	t.Helper()
	value := answer.header.Get("WWW-Authenticate")
	match := regexp.MustCompile(`^Bearer .*error="insufficient_claims", claims="([A-Za-z0-9+/=]+)"$`).FindStringSubmatch(value)
	if answer.status != http.StatusUnauthorized || match == nil {
		t.Fatalf("the answer is %d with %q, want a claims challenge", answer.status, value)
	}
	claims, err := base64.StdEncoding.DecodeString(match[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(claims)
}

func TestRevoke(t *testing.T) {
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}})
	tokenWith := func(claims string) string {
		return mustPost(t, server.TokenURL(), form("claims", claims)).text("access_token")
	}
	resource := func(token string) reply { return mustGet(t, http.DefaultClient, server.URL()+"/resource", token) }
	first := tokenWith("")
	if got := resource(first); got.status != http.StatusOK {
		t.Errorf("before: %d %s", got.status, got.body)
	}
	claims := server.Revoke()
	if got := claimsOf(t, resource(first)); got != claims || !json.Valid([]byte(got)) {
		t.Errorf("the challenge asks for %s, want %s", got, claims)
	}
	if !server.Valid(first) {
		t.Error("the authorization server does not know the token any more")
	}
	for name, other := range map[string]string{
		"no claims":    "",
		"other claims": `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`,
		"an older nbf": `{"access_token":{"nbf":{"essential":true,"value":"1"}}}`,
		"a bad nbf":    `{"access_token":{"nbf":{"essential":true,"value":99999999999}}}`,
	} {
		if got := claimsOf(t, resource(tokenWith(other))); got != claims {
			t.Errorf("a token with %s: the challenge asks for %s, want %s", name, got, claims)
		}
	}
	second := tokenWith(claims)
	if got := resource(second); got.status != http.StatusOK {
		t.Errorf("with the claims: %d %s", got.status, got.body)
	}
	if got := lastRequest(t, server).Form.Get("claims"); got != claims {
		t.Errorf("the request log says %q", got)
	}
	if again := server.Revoke(); again == claims || claimsOf(t, resource(second)) != again {
		t.Errorf("revoked again it asks for %s, before for %s", again, claims)
	}
}

func TestRevokeByControl(t *testing.T) {
	server := start(t, devserver.Options{Control: true, Clients: []devserver.Client{appClient()}})
	token := mustPost(t, server.TokenURL(), form()).text("access_token")
	got := mustDo(t, http.DefaultClient, newRequest(t, server.URL()+"/control/revoke", nil))
	if got.status != http.StatusOK || got.fields["claims"] == nil {
		t.Fatalf("answer = %d %s", got.status, got.body)
	}
	rejected := mustGet(t, http.DefaultClient, server.URL()+"/resource", token)
	claimsOf(t, rejected)
	if value := rejected.header.Get("WWW-Authenticate"); value != got.text("www_authenticate") {
		t.Errorf("the challenge is %q, announced was %q", value, got.text("www_authenticate"))
	}
	if got := mustGet(t, http.DefaultClient, server.URL()+"/control/revoke", ""); got.status == http.StatusOK {
		t.Error("looking at it revokes")
	}
}
