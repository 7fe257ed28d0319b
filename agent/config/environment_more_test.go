package config

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestFromEnvKnowsTheEverydayKeys(t *testing.T) {
	setEnvironment(t, ownEnvironment(map[string]string{
		"CREDAGENT_AUDIENCE": "https://api.example.com", "CREDAGENT_RESOURCES": "https://a.example.com, https://b.example.com",
		"CREDAGENT_PROXY": "http://user:word@proxy.example.com:3128", "CREDAGENT_REFRESH_AT": "75%", "CREDAGENT_SOCKET": "/run/credagent/s",
	}))
	c, err := FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	token, client := c.Tokens[0], c.Clients[0]
	if token.Audience != "https://api.example.com" || !reflect.DeepEqual(token.Resources, []string{"https://a.example.com", "https://b.example.com"}) ||
		token.RefreshAt != 0.75 || client.Proxy != "http://user:word@proxy.example.com:3128" || c.Socket == nil || c.Socket.Path != "/run/credagent/s" {
		t.Errorf("%+v %+v %+v", token, client, c.Socket)
	}
	if got := c.Expanded(); !reflect.DeepEqual(got, []string{"http://user:word@proxy.example.com:3128", "word"}) {
		t.Errorf("Expanded() = %q", got)
	}
}

func TestFromEnvNamesTheVariableThatIsWrong(t *testing.T) {
	for variable, value := range map[string]string{
		"CREDAGENT_RESOURCES":  "not a resource#",
		"CREDAGENT_PROXY":      "ftp://canary:3128",
		"CREDAGENT_REFRESH_AT": "99%",
		"CREDAGENT_SOCKET":     "canary/s",
		"CREDAGENT_AUDIENCE":   "can\x01ary",
	} {
		t.Run(variable, func(t *testing.T) {
			setEnvironment(t, ownEnvironment(map[string]string{variable: value}))
			_, err := FromEnv()
			if err == nil || !strings.Contains(err.Error(), variable) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAzureCertificatePasswordStaysInItsVariable(t *testing.T) {
	setEnvironment(t, azureEnvironment(map[string]string{
		"AZURE_FEDERATED_TOKEN_FILE": "", "AZURE_CLIENT_CERTIFICATE_PATH": "/etc/app.pfx", "AZURE_CLIENT_CERTIFICATE_PASSWORD": "canary",
	}))
	c, err := FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]string
	err = json.Unmarshal(c.Clients[0].Credential.Config, &keys)
	want := map[string]string{"certificate_file": "/etc/app.pfx", "password_env": "AZURE_CLIENT_CERTIFICATE_PASSWORD"}
	if err != nil || !reflect.DeepEqual(keys, want) {
		t.Errorf("%v, %v", keys, err)
	}
}
