package config

import (
	"maps"
	"strings"
	"testing"
)

// What nobody sees in a URL came along when it was copied, and would go to another address.
func TestURLsHoldNothingUnseen(t *testing.T) {
	for name, url := range map[string]string{
		"a blank at its end":    "https://login.example.com/token ",
		"a blank at its start":  " https://login.example.com/token",
		"a blank within":        "https://login.example.com/to ken",
		"a zero-width space":    "https://login.example.com/\u200btoken",
		"a no-break space":      "https://login.example.com/token\u00a0",
		"a byte order mark":     "\ufeffhttps://login.example.com/token",
		"a soft hyphen":         "https://login.exam\u00adple.com/token",
		"a word joiner":         "https://login.example.com/token\u2060",
		"a mark of direction":   "https://login.example.com/token\u200e",
		"an ideographic space":  "https://login.example.com/token\u3000",
		"a line separator":      "https://login.example.com/token\u2028",
		"only in its last part": "https://login.example.com/token?a=b\u200b",
	} {
		for _, variable := range []string{"CREDAGENT_TOKEN_URL", "CREDAGENT_ISSUER", "CREDAGENT_PROXY"} {
			t.Run(variable+", "+name, func(t *testing.T) {
				more := map[string]string{variable: url}
				if variable == "CREDAGENT_ISSUER" {
					more["CREDAGENT_TOKEN_URL"] = ""
				}
				setEnvironment(t, ownEnvironment(more))
				_, err := FromEnv()
				if err == nil || !strings.Contains(err.Error(), variable) || !strings.Contains(err.Error(), "in a URL") || !strings.Contains(err.Error(), "write it anew") {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

func TestIssuerIsNotItsMetadata(t *testing.T) {
	for _, end := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/realms/x/.well-known/openid-configuration/", "/.well-known/oauth-authorization-server/realms/x"} {
		setEnvironment(t, ownEnvironment(map[string]string{"CREDAGENT_TOKEN_URL": "", "CREDAGENT_ISSUER": "https://login.example.com" + end}))
		if _, err := FromEnv(); err == nil || !strings.Contains(err.Error(), "the address of the metadata, not the issuer") || !strings.Contains(err.Error(), "leave off") {
			t.Errorf("%s: %v", end, err)
		}
	}
}

// Kubernetes tells every container of a Service of this name; nothing else that is unknown passes.
func TestServiceLinksAreNoConfiguration(t *testing.T) {
	links := map[string]string{
		"CREDAGENT_SERVICE_HOST": "10.0.0.1", "CREDAGENT_SERVICE_PORT": "9465", "CREDAGENT_SERVICE_PORT_METRICS": "9465",
		"CREDAGENT_PORT": "tcp://10.0.0.1:9465", "CREDAGENT_PORT_9465_TCP": "tcp://10.0.0.1:9465",
		"CREDAGENT_PORT_9465_TCP_PROTO": "tcp", "CREDAGENT_PORT_9465_TCP_PORT": "9465", "CREDAGENT_PORT_9465_TCP_ADDR": "10.0.0.1",
		"CREDAGENT_PORT_53_UDP": "udp://[fd00::1]:53", "CREDAGENT_PORT_53_UDP_ADDR": "fd00::1",
	}
	setEnvironment(t, ownEnvironment(links))
	if _, err := FromEnv(); err != nil {
		t.Error(err)
	}
	for name, value := range map[string]string{
		"CREDAGENT_PORT": "9465", "CREDAGENT_SERVICE_HOSTS": "10.0.0.1", "CREDAGENT_SERVICE_HOST": "login.example.com",
		"CREDAGENT_PORT_TCP": "tcp://10.0.0.1:9465", "CREDAGENT_PORT_9465_TCP_PASSWORD": "x", "CREDAGENT_SERVICE_PORT": "many",
	} {
		all := maps.Clone(links)
		all[name] = value
		setEnvironment(t, ownEnvironment(all))
		if _, err := FromEnv(); err == nil || !strings.Contains(err.Error(), name+": unknown variable") {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}
