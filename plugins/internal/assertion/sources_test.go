package assertion

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/plugins"
)

// served is a kind of source that asks over HTTP, in front of a platform of its own.
type served struct {
	config string
	secure bool
	host   func(t *testing.T, p *platform) host
	// good answers with a token, in the form that the platform has.
	good func(token string) http.HandlerFunc
	// secret goes with the question.
	secret              string
	notFound, forbidden string // what it says of these statuses
	notFoundPasses      bool   // and whether it may pass
}

func servedKinds() map[string]served {
	all := map[string]served{
		"github": {
			config: `{"source":{"github":{}},"audience":"https://login.example.com"}`,
			host: func(_ *testing.T, p *platform) host {
				return variables(map[string]string{githubURL: p.URL + "/idtoken?api-version=2.0", githubToken: "canary-request-token"})
			},
			good: func(token string) http.HandlerFunc {
				return answering(200, fmt.Sprintf(`{"count":1,"value":%q}`, token))
			},
			secret:    "canary-request-token",
			notFound:  "HTTP 404",
			forbidden: "id-token: write",
		},
		"gcp": {
			config: `{"source":{"gcp":{}},"audience":"https://login.example.com"}`,
			host: func(_ *testing.T, p *platform) host {
				return variables(map[string]string{gcpHost: strings.TrimPrefix(p.URL, "http://")})
			},
			good: func(token string) http.HandlerFunc {
				return answering(200, token+"\n", "Metadata-Flavor", "Google", "Content-Type", "text/html")
			},
			notFound:  "this is not Google Cloud",
			forbidden: "does not let this workload ask",
		},
		"kubernetes": {
			config: `{"source":{"kubernetes":{}},"audience":"https://login.example.com"}`,
			secure: true,
			host:   pod,
			good: func(token string) http.HandlerFunc {
				return answering(201, fmt.Sprintf(`{"kind":"TokenRequest","spec":{"audiences":["https://login.example.com"]},"status":{"token":%q}}`, token))
			},
			secret:    podToken(),
			notFound:  "the pod's service account is gone",
			forbidden: "a Role has to let the account payments create serviceaccounts/token of that name",
		},
	}
	maps.Copy(all, formsOfAzure())
	return all
}

func formsOfAzure() map[string]served {
	return map[string]served{
		"azure, a machine": {
			config: `{"source":{"azure":{"client_id":"0a0b"}}}`,
			host: func(_ *testing.T, p *platform) host {
				h := variables(nil)
				h.metadata = p.URL
				return h
			},
			good:           azureToken,
			notFound:       "this is not Azure, or its metadata service is being updated",
			notFoundPasses: true,
			forbidden:      "HTTP 403",
		},
		"azure, App Service": {
			config: `{"source":{"azure":{}}}`,
			host: func(_ *testing.T, p *platform) host {
				return variables(map[string]string{azureEndpoint: p.URL + "/msi/token", azureHeader: "canary-header"})
			},
			good:      azureToken,
			secret:    "canary-header",
			notFound:  "check that the managed identity is assigned",
			forbidden: "HTTP 403",
		},
		"azure, Arc": {
			config: `{"source":{"azure":{}}}`,
			host: func(_ *testing.T, p *platform) host {
				return variables(map[string]string{azureEndpoint: p.URL + "/metadata/identity/oauth2/token", azureIMDS: p.URL})
			},
			good:      azureToken, // without a challenge; see TestArc
			notFound:  "HTTP 404",
			forbidden: "HTTP 403",
		},
	}
}

func azureToken(token string) http.HandlerFunc {
	return answering(200, fmt.Sprintf(`{"access_token":%q,"expires_on":"%d","resource":%q,"token_type":"Bearer"}`, token, time.Now().Add(time.Hour).Unix(), azureResource+"/"))
}

func (kind served) platform(t *testing.T, handle http.HandlerFunc) *platform {
	t.Helper()
	if kind.secure {
		return newSecurePlatform(t, handle)
	}
	return newPlatform(t, handle)
}

// Whatever hands out tokens answers, the source ends in a token or in an error that says what happened, and it
// has asked once.
func TestAnswersOfPlatforms(t *testing.T) {
	for name, kind := range servedKinds() {
		t.Run(name, func(t *testing.T) {
			p := kind.platform(t, nil)
			source := opened(t, kind.host(t, p), kind.config)
			t.Run("a token", func(t *testing.T) { kind.handsOut(t, p, source) })
			for name, tc := range kind.faults() {
				t.Run(name, func(t *testing.T) {
					p.handle, p.asked = tc.handle, nil
					err := fails(t, source, tc.want, kind.secret)
					if !strings.HasPrefix(err.Error(), "asking source ") {
						t.Errorf("error %q does not name the source", err)
					}
					var unavailable *plugins.Unavailable
					if passes := errors.As(err, &unavailable); passes != tc.passes {
						t.Errorf("error %q: it may pass: %v", err, passes)
					} else if passes && tc.retryAfter != unavailable.Header.Get("Retry-After") {
						t.Errorf("headers %v", unavailable.Header)
					}
					if len(p.asked) != 1 {
						t.Errorf("it was asked %d times", len(p.asked))
					}
				})
			}
		})
	}
}

func (kind served) handsOut(t *testing.T, p *platform, source Source) {
	want := token(time.Hour)
	p.handle = kind.good(want)
	for range 2 { // afresh each time
		jwt, err := source.JWT(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if jwt.Value.Reveal() != want || jwt.Subject != "workload" || !jwt.NotAfter.IsZero() {
			t.Errorf("token %q of %q until %v", jwt.Value.Reveal(), jwt.Subject, jwt.NotAfter)
		}
	}
	if len(p.asked) != 2 || len(source.Files()) != 0 {
		t.Errorf("it was asked %d times, files %q", len(p.asked), source.Files())
	}
}

// fault is an answer that brings no token.
type fault struct {
	handle     http.HandlerFunc
	want       string
	passes     bool
	retryAfter string
}

func (kind served) faults() map[string]fault {
	echo := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"message":"no good: %s%s%s","error":"invalid_request"}`, r.Header.Get("Authorization"), r.Header.Get("X-Identity-Header"), r.URL.RawQuery)
	}
	return map[string]fault{
		"a page":           {answering(200, "<html>Sign in canary-page</html>", "Content-Type", "text/html; charset=utf-8"), "a web page", false, ""},
		"a page, unnamed":  {answering(200, "\n <!doctype html>canary-page"), "a web page", false, ""},
		"not found":        {answering(404, "<html>canary-page</html>"), kind.notFound, kind.notFoundPasses, ""},
		"forbidden":        {answering(403, "{}"), kind.forbidden, false, ""},
		"too many":         {answering(429, `{"error":{"code":429,"message":"slow down"}}`, "Retry-After", "17"), "HTTP 429, slow down", true, "17"},
		"down":             {answering(503, `{"error":"temporarily_unavailable","error_description":"later"}`), "HTTP 503, temporarily_unavailable: later", true, ""},
		"later":            {answering(409, "", "Retry-After", "3"), "HTTP 409", true, "3"},
		"a redirect":       {answering(302, "", "Location", "https://elsewhere.example/canary-x"), "HTTP 302; a redirect, which is not followed", false, ""},
		"an empty token":   {kind.good(""), "an empty token", false, ""},
		"no token":         {kind.good("canary-opaque"), "it is not a signed JWT", false, ""},
		"an expired token": {kind.good(token(-time.Hour)), "it expired at ", false, ""},
		"nothing":          {answering(200, ""), "", false, ""},
		"no form":          {answering(200, `["canary-list"]`), "", false, ""},
		"too much":         {answering(200, strings.Repeat("canary-x", maxAnswer/8)+"x"), "longer than 1 MiB", false, ""},
		"its own question": {echo, "HTTP 400", false, ""},
		"half":             {answering(200, "canary-", "Content-Length", "100"), "", true, ""},
		"a broken connection": {func(w http.ResponseWriter, _ *http.Request) {
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				_, _ = conn.Write([]byte("canary-noise\r\n\r\n"))
				_ = conn.Close()
			}
		}, "not HTTP", true, ""},
	}
}

// A platform that does not answer holds nobody up for longer than a source may, and one that is not there not
// even that.
func TestSilentPlatforms(t *testing.T) {
	for name, kind := range servedKinds() {
		t.Run(name, func(t *testing.T) {
			p := kind.platform(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			source := opened(t, kind.host(t, p), kind.config)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			var unavailable *plugins.Unavailable
			if _, err := source.JWT(ctx); !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "did not answer in time") {
				t.Errorf("error %v", err)
			}
			cancel()
			p.Close()
			if err := fails(t, source, "refused", kind.secret); !errors.As(err, &unavailable) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestOpenFindsEveryProblem(t *testing.T) {
	const one = "exactly one of assertion_file and source is needed"
	for name, tc := range map[string]struct{ config, want string }{
		"nothing":             {`{}`, one},
		"both":                {`{"assertion_file":"/a","source":{"github":{}}}`, one},
		"an empty file":       {`{"assertion_file":""}`, one},
		"a relative file":     {`{"assertion_file":"a"}`, "assertion_file: is not an absolute path"},
		"a file's audience":   {`{"assertion_file":"/a","audience":"x"}`, "audience: is for a source; whatever writes assertion_file decides for whom its assertions are"},
		"no source":           {`{"source":{}}`, "source: names 0 sources; exactly one is needed, of " + knownKinds()},
		"two sources":         {`{"source":{"github":{},"gitlab":{}}}`, "source: names 2 sources; exactly one is needed, of " + knownKinds()},
		"a name alone":        {`{"source":"github"}`, "source: is not an object of one source and its keys, such as { gcp: {} }"},
		"a list":              {`{"source":["github"]}`, "source: is not an object of one source and its keys, such as { gcp: {} }"},
		"an unknown source":   {`{"source":{"githob":{}}}`, "source.githob: unknown key; known are " + knownKinds()},
		"null for its keys":   {`{"source":{"github":null}}`, ""},
		"a list for keys":     {`{"source":{"github":[]}}`, "source.github: is not an object of keys and values"},
		"a key where none":    {`{"source":{"github":{"b":1,"a":1}}}`, "source.github.a: unknown key; this source has none\nsource.github.b: unknown key; this source has none"},
		"kubernetes":          {`{"source":{"kubernetes":{"x":1}}}`, "audience: is needed: whom the assertion is for, as the server wants it, often its issuer or its token endpoint\nsource.kubernetes.x: unknown key; this source has none"},
		"gcp":                 {`{"source":{"gcp":{}}}`, "audience: is needed: whom the assertion is for, as the server wants it, often its issuer or its token endpoint"},
		"azure":               {`{"source":{"azure":{"resource":"api://AzureADTokenExchangeUSGov"}}}`, ""},
		"azure, audience":     {`{"source":{"azure":{}},"audience":"x"}`, "audience: is not for source azure: its resource is the audience"},
		"azure, odd":          {`{"source":{"azure":{"resource":"","client_id":7}}}`, "source.azure.client_id: is not a string\nsource.azure.resource: is empty; it is api://AzureADTokenExchange unless the server wants another"},
		"github":              {`{"source":{"github":{}},"audience":"x"}`, ""},
		"spiffe":              {`{"source":{"spiffe":{"socket":"unix:///run/spire/agent.sock"}},"audience":"x"}`, ""},
		"spiffe, odd":         {`{"source":{"spiffe":{"socket":"tcp://127.0.0.1:1"}}}`, "audience: is needed: whom the assertion is for, as the server wants it, often its issuer or its token endpoint\nsource.spiffe.socket: is not the absolute path of a unix socket"},
		"command":             {`{"source":{"command":{"run":["print-token","x"],"timeout":"30s"}}}`, ""},
		"command, none":       {`{"source":{"command":{}}}`, "source.command.run: is needed: the program that prints the assertion, and its arguments"},
		"command, odd":        {`{"source":{"command":{"run":"x","timeout":"2m"}},"audience":"x"}`, "audience: is not for source command: give it to the program, as its run wants it\nsource.command.run: is not a list\nsource.command.run: is needed: the program that prints the assertion, and its arguments\nsource.command.timeout: is not between 0 and 1m"},
		"github, no audience": {`{"source":{"github":{}}}`, ""},
		"gitlab":              {`{"source":{"gitlab":{"token_env":"ID_TOKEN"}}}`, ""},
		"gitlab, by default":  {`{"source":{"gitlab":{}}}`, ""},
		"gitlab's unknown":    {`{"source":{"gitlab":{"tokenenv":"x"}},"audience":"x"}`, "audience: is not for source gitlab: the job's id_tokens decide it, by their key aud\nsource.gitlab.tokenenv: unknown key; known are token_env"},
		"gitlab's empty":      {`{"source":{"gitlab":{"token_env":""}}}`, "source.gitlab.token_env: is empty; it names the variable that the job's id_tokens name"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := configured(t, tc.config).Open()
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("problems of %s:\n%s\nwant:\n%s", tc.config, got, tc.want)
			}
		})
	}
}

func knownKinds() string {
	var all []string
	for name := range kinds() {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// A provider's process has the variables that its source reads, and nobody else's.
func TestVariablesOfSources(t *testing.T) {
	for name, k := range kinds() {
		var read []string
		h := thisHost()
		config := fmt.Sprintf(`{"source":{%q:{}}}`, name)
		if name == "command" {
			config = `{"source":{"command":{"run":["true"]}}}`
		}
		c := configured(t, config)
		if k.needs != "" {
			c.Audience = "x"
		}
		// Some are read only where others are there, or are not.
		for _, missing := range []string{"", azureThumbprint, azureThumbprint + azureHeader, "all"} {
			h.getenv = func(variable string) string {
				read = append(read, variable)
				if missing == "all" || strings.Contains(missing, variable) {
					return ""
				}
				return "x"
			}
			source, err := c.openOn(h)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // nothing is to be asked
			_, _ = source.Token(ctx)
		}
		slices.Sort(read)
		// What every provider has anyhow is no news to it.
		got := slices.DeleteFunc(slices.Compact(read), func(name string) bool {
			return strings.HasSuffix(strings.ToUpper(name), "_PROXY") || strings.HasPrefix(name, "SSL_CERT_")
		})
		if given := provider.Needed([]byte(config)); !slices.Equal(got, given) {
			t.Errorf("source %s reads %q, its process is given %q", name, got, given)
		}
	}
}
