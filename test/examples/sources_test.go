package examples_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"

	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/testkit/workloadapi"
)

// platform vouches for a workload, in the forms of all platforms: it is a double of each, written from
// its vendor's documents.
type platform struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	*httptest.Server
	key    *ecdsa.PrivateKey
	handed []string // the tokens
}

const platformIssuer = "https://platform.test"

func newPlatform(t *testing.T) *platform {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{key: key}
	p.Server = httptest.NewServer(http.HandlerFunc(p.answer))
	t.Cleanup(p.Close)
	return p
}

// sign makes a token of the workload for an audience.
func (p *platform) sign(audience string) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: p.key}, nil)
	if err != nil {
		return err.Error()
	}
	now := time.Now()
	token, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: platformIssuer, Subject: "workload", Audience: jwt.Audience{audience}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(5 * time.Minute)),
	}).Serialize()
	if err != nil {
		return err.Error()
	}
	p.handed = append(p.handed, token)
	return token
}

func (p *platform) answer(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	switch {
	case r.URL.Path == "/msi/token" && r.Header.Get("X-Identity-Header") == canary:
		fmt.Fprintf(w, `{"access_token":%q,"expires_on":"%d","resource":%q}`, p.sign(query.Get("resource")), time.Now().Add(time.Hour).Unix(), query.Get("resource"))
	case r.URL.Path == "/computeMetadata/v1/instance/service-accounts/default/identity" && r.Header.Get("Metadata-Flavor") == "Google":
		w.Header().Set("Metadata-Flavor", "Google")
		fmt.Fprint(w, p.sign(query.Get("audience")))
	case r.URL.Path == "/job" && r.Header.Get("Authorization") == "Bearer "+canary:
		fmt.Fprintf(w, `{"value":%q}`, p.sign(query.Get("audience")))
	default:
		http.NotFound(w, r)
	}
}

// FetchJWTSVID is the Workload API's answer.
func (p *platform) FetchJWTSVID(_ context.Context, in *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	return &workload.JWTSVIDResponse{Svids: []*workload.JWTSVID{{Svid: p.sign(in.GetAudience()[0])}}}, nil
}

// TestNoSecret has the whole program get a token without any secret, by each platform's example.
func TestNoSecret(t *testing.T) {
	for name, tc := range map[string]struct {
		environment func(p *platform, audience string) []string
		audience    string // "" for the token endpoint
	}{
		"azure": {func(p *platform, _ string) []string {
			return []string{"IDENTITY_ENDPOINT=" + p.URL + "/msi/token", "IDENTITY_HEADER=" + canary}
		}, "api://AzureADTokenExchange"},
		"gcp": {func(p *platform, _ string) []string {
			return []string{"GCE_METADATA_HOST=" + strings.TrimPrefix(p.URL, "http://")}
		}, ""},
		"github": {func(p *platform, _ string) []string {
			return []string{"ACTIONS_ID_TOKEN_REQUEST_URL=" + p.URL + "/job?v=1", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + canary}
		}, ""},
		"gitlab":  {func(p *platform, audience string) []string { return []string{"ORDERS_ID_TOKEN=" + p.sign(audience)} }, ""},
		"command": {func(*platform, string) []string { return nil }, ""},
		"spiffe":  {func(*platform, string) []string { return nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			platform, place := newPlatform(t), newPlace(t)
			audience := tc.audience
			if audience == "" {
				audience = place.server.URL() + "/token"
			}
			issuers := []devserver.AssertionIssuer{{Issuer: platformIssuer, Subject: "workload", Audience: audience, Key: platform.key.Public()}}
			for _, id := range []string{"orders", "6731de76-14a6-49ae-97bc-6eba6914391e"} {
				place.server.SetClient(devserver.Client{ID: id, AssertionIssuers: issuers})
			}
			example := place.adapt(t, read(t, "examples/no-secret/"+name+".yaml"))
			switch name {
			case "spiffe":
				example = strings.Replace(example, "/run/spire/agent/public/api.sock", workloadapi.Serve(t, platform), 1)
			case "command":
				script := filepath.Join(t.TempDir(), "print-assertion")
				write(t, script, "#!/bin/sh\necho "+platform.sign(audience)+"\n")
				if err := os.Chmod(script, 0o700); err != nil {
					t.Fatal(err)
				}
				example = strings.Replace(example, "/usr/local/bin/print-assertion", script, 1)
			}
			config := filepath.Join(t.TempDir(), "credagent.yaml")
			write(t, config, "listen: \"\"\nlog: { level: debug }\n"+example)
			env := environment(tc.environment(platform, audience)...)
			run(t, 0, env, "validate", "--probe", "-c", config)
			_, log := run(t, 0, env, "once", "-c", config)
			place.wantToken(t, place.sink(t, "orders.token"))
			for _, secret := range append(platform.handed, canary) {
				if strings.Contains(log, secret[max(0, len(secret)-40):]) {
					t.Error("the log holds an assertion, or what it was asked for with")
				}
			}
		})
	}
}

// TestVariablesOfSources compares the table of what a provider's process gets with what it gets.
func TestVariablesOfSources(t *testing.T) {
	sources := map[string]bool{}
	for _, row := range table(t, "docs/providers.md", "source") {
		name, _, _ := strings.Cut(codes(row[0])[0], ":")
		sources[name] = true
		if len(row) != 2 || strings.Contains(row[1], " ") && !strings.HasPrefix(row[1], "`") || !strings.Contains(row[1], "`") {
			continue // another table
		}
		listed := codes(row[1])
		slices.Sort(listed)
		if given := provider.Needed(fmt.Appendf(nil, `{"source":{%q:{}}}`, name)); !slices.Equal(listed, given) {
			t.Errorf("docs/providers.md lists %q for source %s, a process gets %q", listed, name, given)
		}
	}
	if len(sources) != 7 {
		t.Errorf("docs/providers.md has the sources %v", sources)
	}
}
