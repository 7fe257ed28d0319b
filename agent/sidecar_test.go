package agent

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
)

// sidecarFixture is an agent whose auth sidecar hands out token a as API "A" and b as "B".
func sidecarFixture(answer func(context.Context, provider.Request) (provider.Reply, error)) *fixture {
	f := newFixture(answer, "a", "b")
	cfg := *f.agent.parts.config()
	cfg.Sidecar = &config.AuthSidecar{TokenFor: map[string]string{"A": "a", "B": "b"}}
	f.make(&cfg, answer)
	return f
}

func TestTokenNameForAPI(t *testing.T) {
	f := sidecarFixture(grantByScope)
	for api, want := range map[string]string{"A": "a", "B": "b", "a": "", "": "", "C": ""} {
		got, err := f.agent.TokenNameForAPI(api)
		if got != want || (want == "") != errors.Is(err, ErrUnknownAPI) {
			t.Errorf("API %q: %q, %v, want %q", api, got, err, want)
		}
	}
	if _, err := newFixture(grantByScope, "a").agent.TokenNameForAPI("A"); !errors.Is(err, ErrUnknownAPI) {
		t.Errorf("without an auth sidecar: %v", err)
	}
}

func TestTokenAs(t *testing.T) {
	tests := map[string]struct {
		name string
		want APIRequest
		err  error
	}{
		"whatever it is":       {"a", APIRequest{}, nil},
		"its client":           {"a", APIRequest{ClientID: "ID"}, nil},
		"another client":       {"a", APIRequest{ClientID: "id2"}, ErrOtherClient},
		"its scope":            {"a", APIRequest{Scopes: []string{"scope-a"}}, nil},
		"its scope, twice":     {"a", APIRequest{Scopes: []string{"scope-a", "scope-a"}}, nil},
		"another's scope":      {"a", APIRequest{Scopes: []string{"scope-b"}}, ErrOtherScope},
		"its and another's":    {"a", APIRequest{Scopes: []string{"scope-a", "scope-b"}}, ErrOtherScope},
		"another tenant":       {"a", APIRequest{Tenant: "contoso"}, ErrOtherTenant},
		"an unknown token":     {"c", APIRequest{}, ErrUnknownToken},
		"all of it":            {"b", APIRequest{ClientID: "id", Scopes: []string{"scope-b"}}, nil},
		"a scope that is none": {"b", APIRequest{Scopes: []string{""}}, ErrOtherScope},
	}
	synctest.Test(t, func(t *testing.T) {
		f := sidecarFixture(grantByScope)
		defer f.run(t.Context())()
		pass(time.Minute)
		for name, tc := range tests {
			got, err := f.agent.TokenAs(tc.name, tc.want)
			if !errors.Is(err, tc.err) || err == nil && got.Name != tc.name {
				t.Errorf("%s: got %q, %v, want %v", name, got.Name, err, tc.err)
			}
		}
	})
}

// TestTokenAsSaysFirstWhatWaitingDoesNotMend: as it is with resources.
func TestTokenAsSaysFirstWhatWaitingDoesNotMend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := sidecarFixture(func(context.Context, provider.Request) (provider.Reply, error) {
			return refusal(http.StatusTooManyRequests, "busy", "30"), nil
		})
		defer f.run(t.Context())()
		pass(time.Second)
		var notYet *NotYetError
		if _, err := f.agent.TokenAs("a", APIRequest{}); !errors.As(err, &notYet) || notYet.RetryIn < 29*time.Second {
			t.Errorf("while there is no token: %v", err)
		}
		if _, err := f.agent.TokenAs("a", APIRequest{Scopes: []string{"other"}}); !errors.Is(err, ErrOtherScope) {
			t.Errorf("another scope: %v", err)
		}
	})
}

func TestIsOfTenant(t *testing.T) {
	const id = "00000000-0000-0000-0000-00000000000a"
	entra := &config.Client{Entra: &config.Entra{Tenant: id, Authority: "https://login.example.com"}}
	for name, tc := range map[string]struct {
		client *config.Client
		tenant string
		want   bool
	}{
		"by its id":                   {entra, id, true},
		"by its id in capitals":       {entra, strings.ToUpper(id), true},
		"by a domain":                 {entra, "contoso.example.com", false},
		"by an issuer":                {&config.Client{Issuer: "https://login.example.com/" + id + "/v2.0"}, id, true},
		"by a token endpoint":         {&config.Client{TokenURL: "https://login.example.com/" + id + "/oauth2/v2.0/token"}, id, true},
		"by a part of a part":         {&config.Client{TokenURL: "https://login.example.com/" + id + "b/token"}, id, false},
		"by the host":                 {&config.Client{TokenURL: "https://" + id + "/token"}, id, false},
		"by what is beside the paths": {&config.Client{TokenURL: "https://login.example.com/token?tenant=" + id}, id, false},
	} {
		if got := isOfTenant(tc.client, tc.tenant); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}

func TestReloadChangesWhatServesAnAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := sidecarFixture(grantByScope)
		defer f.run(t.Context())()
		pass(time.Minute)
		cfg := *f.agent.parts.config()
		cfg.Sidecar = &config.AuthSidecar{TokenFor: map[string]string{"A": "b"}}
		if err := f.agent.Reload(t.Context(), &cfg); err != nil {
			t.Fatal(err)
		}
		if name, err := f.agent.TokenNameForAPI("A"); err != nil || name != "b" {
			t.Errorf("after the reload: %q, %v", name, err)
		}
		if _, err := f.agent.TokenNameForAPI("B"); !errors.Is(err, ErrUnknownAPI) {
			t.Errorf("what is not served any more: %v", err)
		}
	})
}
