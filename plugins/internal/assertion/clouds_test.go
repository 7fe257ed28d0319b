package assertion

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestGCP(t *testing.T) {
	kind := servedKinds()["gcp"]
	p := newPlatform(t, kind.good(token(time.Hour)))
	if _, err := opened(t, kind.host(t, p), kind.config).JWT(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := p.asked[0]
	if r.URL.Path != "/computeMetadata/v1/instance/service-accounts/default/identity" || r.URL.RawQuery != "audience=https%3A%2F%2Flogin.example.com&format=full" || r.Header.Get("Metadata-Flavor") != "Google" {
		t.Errorf("it was asked %s, %v", r.URL, r.Header)
	}
	p.handle = answering(200, token(time.Hour))
	fails(t, opened(t, kind.host(t, p), kind.config), "not Google's metadata server")
	for host, want := range map[string]string{"192.0.2.1": "leads away from this machine", "canary\x00": "holds no URL"} {
		fails(t, opened(t, variables(map[string]string{gcpHost: host}), kind.config), want)
	}
}

// Which form of managed identity there is shows in the environment, as Azure's own libraries have it.
func TestFormsOfAzure(t *testing.T) {
	for name, tc := range map[string]struct{ path, query, header string }{
		"azure, a machine":   {"/metadata/identity/oauth2/token", "api-version=2018-02-01&client_id=0a0b&resource=api%3A%2F%2FAzureADTokenExchange", "Metadata: true"},
		"azure, App Service": {"/msi/token", "api-version=2019-08-01&resource=api%3A%2F%2FAzureADTokenExchange", "X-Identity-Header: canary-header"},
		"azure, Arc":         {"/metadata/identity/oauth2/token", "api-version=2020-06-01&resource=api%3A%2F%2FAzureADTokenExchange", "Metadata: true"},
	} {
		t.Run(name, func(t *testing.T) {
			kind := servedKinds()[name]
			p := newPlatform(t, kind.good(token(time.Hour)))
			if _, err := opened(t, kind.host(t, p), kind.config).JWT(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := p.asked[0]
			header, value, _ := strings.Cut(tc.header, ": ")
			if r.Method != http.MethodGet || r.URL.Path != tc.path || r.URL.RawQuery != tc.query || r.Header.Get(header) != value {
				t.Errorf("it was asked %s %s, %v", r.Method, r.URL, r.Header)
			}
		})
	}
	fabric := variables(map[string]string{azureEndpoint: "https://127.0.0.1:1", azureHeader: "x", azureThumbprint: "x"})
	fails(t, opened(t, fabric, `{"source":{"azure":{}}}`), "this is Service Fabric")
	away := variables(map[string]string{azureEndpoint: "http://192.0.2.1/msi", azureHeader: "x"})
	fails(t, opened(t, away, `{"source":{"azure":{}}}`), "leads away from this machine")
}

func TestAzureAnswers(t *testing.T) {
	const config = `{"source":{"azure":{"resource":"https://vault.azure.net"}}}`
	good := token(time.Hour)
	for name, tc := range map[string]struct{ answer, want string }{
		"another resource":   {`{"access_token":"` + good + `","resource":"https://graph.microsoft.com"}`, "for another resource"},
		"expired":            {`{"access_token":"` + good + `","expires_on":1000000000}`, "expired at 2001-09-09T01:46:40Z"},
		"expired, in a text": {`{"access_token":"` + good + `","expires_on":"1000000000"}`, "expired at 2001-09-09T01:46:40Z"},
		"a date in a text":   {`{"access_token":"` + good + `","expires_on":"10/30/2026 5:00:00 AM +00:00"}`, ""},
		"no more than it":    {`{"access_token":"` + good + `"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlatform(t, answering(200, tc.answer))
			h := variables(nil)
			h.metadata = p.URL
			source := opened(t, h, config)
			if tc.want != "" {
				fails(t, source, tc.want, good)
			} else if _, err := source.JWT(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// arc is a host with Azure Arc's agent, which challenges whoever asks.
func arc(t *testing.T, challenge func(tokens string) string) (host, *platform) {
	t.Helper()
	tokens := t.TempDir()
	p := newPlatform(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Basic canary-arc-key" {
			w.Header().Set("Www-Authenticate", challenge(tokens))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		azureToken(token(time.Hour))(w, r)
	})
	for name, content := range map[string]string{"good.key": "canary-arc-key", "long.key": strings.Repeat("canary-x", maxArcKey), "other.txt": "canary-arc-key", "wrong.key": "canary-wrong-key"} {
		if err := os.WriteFile(filepath.Join(tokens, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := variables(nil)
	h.arcAgent, h.arcTokens, h.arcEndpoint = tokens, tokens, p.URL+"/metadata/identity/oauth2/token" // the agent is there
	return h, p
}

func TestArc(t *testing.T) {
	h, p := arc(t, func(tokens string) string { return "Basic realm=" + tokens + "/good.key" })
	jwt, err := opened(t, h, `{"source":{"azure":{}}}`).JWT(t.Context())
	if err != nil || jwt.Subject != "workload" || len(p.asked) != 2 || p.asked[0].Header.Get("Authorization") != "" {
		t.Errorf("%+v, %v, asked %d times", jwt, err, len(p.asked))
	}
	fails(t, opened(t, h, `{"source":{"azure":{"client_id":"0a0b"}}}`), "leave client_id out")
}

// A challenge makes the agent read a file: it is one of Arc's own, or none.
func TestArcChallenges(t *testing.T) {
	for name, tc := range map[string]struct {
		realm, want string
		asked       int
	}{
		"elsewhere":      {"/etc/shadow.key", "names no file of its own", 1},
		"out of the way": {"TOKENS/../good.key", "names no file of its own", 1},
		"no key":         {"TOKENS/other.txt", "names no file of its own", 1},
		"below":          {"TOKENS/a/good.key", "names no file of its own", 1},
		"missing":        {"TOKENS/none.key", "no such file", 1},
		"too long":       {"TOKENS/long.key", "larger than 4096 bytes", 1},
		"wrong":          {"TOKENS/wrong.key", "HTTP 401", 2},
		"another scheme": {"", "names no file of its own", 1},
	} {
		t.Run(name, func(t *testing.T) {
			h, p := arc(t, func(tokens string) string {
				if tc.realm == "" {
					return "Bearer"
				}
				return "Basic realm=" + strings.ReplaceAll(tc.realm, "TOKENS", tokens)
			})
			fails(t, opened(t, h, `{"source":{"azure":{}}}`), tc.want)
			if len(p.asked) != tc.asked {
				t.Errorf("it was asked %d times", len(p.asked))
			}
		})
	}
}
