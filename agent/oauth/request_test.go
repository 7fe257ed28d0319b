package oauth_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/credagent/credagent/agent/oauth"
)

func TestForm(t *testing.T) {
	all := oauth.Request{
		Scopes: []string{"a", "b"}, Audience: "api", Resources: []string{"https://one", "https://two"}, Claims: `{"x":1}`,
	}
	const allWant = "audience=api&claims=%7B%22x%22%3A1%7D&grant_type=client_credentials&resource=https%3A%2F%2Fone&resource=https%3A%2F%2Ftwo&scope=a+b"
	taken := map[string]string{
		"grant_type": "password", "scope": "admin", "audience": "other", "resource": "https://other", "claims": "{}",
		"client_id": "other", "client_secret": "s", "client_assertion": "j", "client_assertion_type": "t",
	}
	allTaken, none := all, oauth.Request{Params: taken}
	allTaken.Params = taken
	tests := []struct {
		name    string
		request oauth.Request
		want    string
	}{
		{"nothing", oauth.Request{}, "grant_type=client_credentials"},
		{"everything", all, allWant},
		{"further parameters", oauth.Request{Scopes: []string{"a"}, Params: map[string]string{"tenant": "x y", "acr": "1"}}, "acr=1&grant_type=client_credentials&scope=a&tenant=x+y"},
		{"parameters cannot replace credagent's", allTaken, allWant},
		{"nor set those that it leaves out", none, "grant_type=client_credentials"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			params := maps.Clone(test.request.Params)
			if got := test.request.Form().Encode(); got != test.want {
				t.Errorf("the form is %s, want %s", got, test.want)
			}
			if !maps.Equal(params, test.request.Params) {
				t.Error("Form changed the request")
			}
		})
	}
}

func TestFormsAreSeparate(t *testing.T) {
	request := oauth.Request{Scopes: []string{"a"}, Resources: []string{"https://one"}}
	form := request.Form()
	form.Set("client_secret", canary)
	form["resource"][0] = "https://other"
	if again := request.Form(); again.Has("client_secret") || again.Get("resource") != "https://one" {
		t.Errorf("a change of one form shows in the next: %v", again)
	}
}

func ExampleRequest_Form() {
	request := oauth.Request{Scopes: []string{"read", "write"}, Params: map[string]string{"scope": "admin"}}
	fmt.Println(request.Form().Encode())
	// Output: grant_type=client_credentials&scope=read+write
}
