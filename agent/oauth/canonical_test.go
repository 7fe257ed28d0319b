package oauth_test

import (
	"testing"

	"github.com/credagent/credagent/agent/oauth"
)

func TestCanonicalEndpointIsOneForOneServer(t *testing.T) {
	for want, spellings := range map[string][]string{
		"https://login.example.com/token": {
			"https://login.example.com/token", "HTTPS://login.example.com/token", "https://LOGIN.Example.com/token",
			"https://login.example.com:443/token", "https://login.example.com./token", "https://login.example.com/token#part",
			"https://login.example.com/%74oken", "https://login.example.com:/token", " https://login.example.com/token",
			"https://login.example.com/token?",
		},
		"http://127.0.0.1/token":      {"http://127.0.0.1:80/token", "HTTP://127.0.0.1/token"},
		"http://127.0.0.1:8080/token": {"http://127.0.0.1:8080/token"},
		"https://[2001:db8::1]/token": {"https://[2001:DB8::1]:443/token"},
		"https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token": {
			"https://login.microsoftonline.com/Contoso.OnMicrosoft.com/oauth2/v2.0/token",
			"https://Login.MicrosoftOnline.com:443/CONTOSO.onmicrosoft.com/OAuth2/V2.0/Token",
		},
		"https://example.com/": {"https://example.com", "https://example.com/"},
	} {
		for _, spelling := range spellings {
			if got := oauth.CanonicalEndpoint(spelling); got != want {
				t.Errorf("CanonicalEndpoint(%q) = %q, want %q", spelling, got, want)
			}
		}
	}
}

func TestCanonicalEndpointTellsServersApart(t *testing.T) {
	seen := map[string]string{}
	for _, endpoint := range []string{
		"https://a.example.com/token", "https://b.example.com/token", "http://a.example.com/token",
		"https://a.example.com:8443/token", "https://a.example.com/Token", "https://a.example.com/token/",
		"https://a.example.com/token?policy=a", "https://a.example.com/token?policy=b",
		"https://a.example.com/realms/Shop/protocol/openid-connect/token", "https://a.example.com/realms/shop/protocol/openid-connect/token",
		"https://a.example.com/t%2Foken", "not a URL",
	} {
		got := oauth.CanonicalEndpoint(endpoint)
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q are both %q", endpoint, other, got)
		}
		seen[got] = endpoint
	}
}

func FuzzCanonicalEndpoint(f *testing.F) {
	f.Add("https://LOGIN.example.com:443/%74oken?x=1#y")
	f.Add("https://[::1%25eth0]:443/a")
	f.Add("HTTP://h./Tenant/OAUTH2/token")
	f.Fuzz(func(t *testing.T, endpoint string) {
		once := oauth.CanonicalEndpoint(endpoint)
		if twice := oauth.CanonicalEndpoint(once); twice != once {
			t.Errorf("%q became %q and then %q", endpoint, once, twice)
		}
	})
}
