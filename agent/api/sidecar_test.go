package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/token"
)

const (
	agentUser   = 900
	invitedUser = 1001
)

// apis is a source with the API Graph, whose token is there, and others that fail in their ways.
type apis struct {
	dead  bool
	asked []agent.APIRequest
}

func (s *apis) Alive() bool { return !s.dead }

func (s *apis) TokenNameForAPI(api string) (string, error) {
	if name, ok := map[string]string{"Graph": "graph", "a/b c": "graph", "Later": "later", "Broken": "broken", "Removed": "removed"}[api]; ok {
		return name, nil
	}
	return "", fmt.Errorf("API %q: %w", api, agent.ErrUnknownAPI)
}

func (s *apis) Allows(_ string, user int, groups []int) bool {
	return user == invitedUser && groups == nil
}

func (s *apis) TokenAs(name string, want agent.APIRequest) (token.Token, error) {
	s.asked = append(s.asked, want)
	switch {
	case name == "later":
		return token.Token{}, &agent.NotYetError{Token: "later", RetryIn: 17 * time.Second}
	case name == "broken":
		return token.Token{}, errors.New("a lookup that fails with " + tokenCanary)
	case name == "removed":
		return token.Token{}, agent.ErrUnknownToken
	case want.ClientID != "" && want.ClientID != "app":
		return token.Token{}, agent.ErrOtherClient
	case want.Tenant != "" && want.Tenant != "contoso":
		return token.Token{}, agent.ErrOtherTenant
	case len(want.Scopes) > 0 && want.Scopes[0] != "graph":
		return token.Token{}, agent.ErrOtherScope
	}
	return token.Token{Name: name, AccessToken: secret.New(tokenCanary), TokenType: "Bearer", Expiry: time.Now().Add(time.Hour)}, nil
}

// askSidecar sends a request as a user does; a negative one is one that is not known.
func askSidecar(source SidecarSource, user int, r *http.Request) *httptest.ResponseRecorder {
	s := Sidecar(source, agentUser, slog.New(slog.DiscardHandler)).(*sidecar)
	s.caller = func(*http.Request) (int, error) {
		if user < 0 {
			return 0, errors.New("nobody knows")
		}
		return user, nil
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func sidecarRequest(pathAndQuery string) *http.Request {
	return httptest.NewRequest(http.MethodGet, "http://127.0.0.1:9467"+pathAndQuery, nil)
}

func TestSidecarHandsOutTokens(t *testing.T) {
	for name, tc := range map[string]struct {
		path string
		user int
		want agent.APIRequest
	}{
		"the agent's user":     {SidecarPath + "Graph", agentUser, agent.APIRequest{}},
		"a user in allow":      {SidecarPath + "Graph", invitedUser, agent.APIRequest{}},
		"an API in any words":  {SidecarPath + url.PathEscape("a/b c"), agentUser, agent.APIRequest{}},
		"its scope":            {SidecarPath + "Graph?optionsOverride.Scopes=graph&optionsOverride.Scopes=mail", agentUser, agent.APIRequest{Scopes: []string{"graph", "mail"}}},
		"its client":           {SidecarPath + "Graph?AgentIdentity=app", agentUser, agent.APIRequest{ClientID: "app"}},
		"in other letters":     {SidecarPath + "Graph?agentidentity=app&OptionsOverride.AcquireTokenOptions.tenant=contoso", agentUser, agent.APIRequest{ClientID: "app", Tenant: "contoso"}},
		"what changes nothing": {SidecarPath + "Graph?optionsOverride.RequestAppToken=true&optionsOverride.AcquireTokenOptions.ForceRefresh=true&optionsOverride.BaseUrl=x&optionsOverride.ExtraHeaderParameters.X=y&other=z", agentUser, agent.APIRequest{}},
	} {
		t.Run(name, func(t *testing.T) {
			source := &apis{}
			response := askSidecar(source, tc.user, sidecarRequest(tc.path))
			var body map[string]any
			if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
				t.Fatal(err)
			}
			if response.Code != http.StatusOK || len(body) != 1 || body["authorizationHeader"] != "Bearer "+tokenCanary {
				t.Errorf("status %d, %v", response.Code, body)
			}
			if response.Header().Get("Cache-Control") != "no-store" || response.Header().Get("Content-Type") != "application/json" {
				t.Errorf("header %v", response.Header())
			}
			if len(source.asked) != 1 || fmt.Sprint(source.asked[0]) != fmt.Sprint(tc.want) {
				t.Errorf("it is asked for %v, want %v", source.asked, tc.want)
			}
		})
	}
}

// badAsk is a request that the auth sidecar refuses.
type badAsk struct {
	path   string
	user   int
	change func(*http.Request)
	status int
	title  string
}

func badAsks() map[string]badAsk {
	with := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	nothing := func(*http.Request) {}
	long := strings.Repeat("x", longestQuery+1)
	return map[string]badAsk{
		"an unknown API":         {SidecarPath + "Vault", agentUser, nothing, 404, "auth_sidecar.token_for"},
		"an API of an old token": {SidecarPath + "Removed", agentUser, nothing, 404, "auth_sidecar.token_for"},
		"no API":                 {SidecarPath, agentUser, nothing, 404, "auth_sidecar.token_for"},
		"another path":           {"/AuthorizationHeader/Graph", agentUser, nothing, 404, "there is only " + SidecarPath},
		"another method":         {SidecarPath + "Graph", agentUser, func(r *http.Request) { r.Method = http.MethodPost }, 405, "GET"},
		"a stranger":             {SidecarPath + "Graph", 1002, nothing, 403, "allow in credagent's configuration"},
		"root":                   {SidecarPath + "Graph", 0, nothing, 403, "allow in credagent's configuration"},
		"nobody knows whom":      {SidecarPath + "Graph", -1, nothing, 403, "cannot be determined"},
		"a name that was bound":  {SidecarPath + "Graph", agentUser, func(r *http.Request) { r.Host = "evil.example.com" }, 403, "loopback"},
		"what was forwarded":     {SidecarPath + "Graph", agentUser, with("X-Forwarded-For", "192.0.2.1"), 403, "forwarded"},
		"a page":                 {SidecarPath + "Graph", agentUser, with("Origin", "https://evil.example.com"), 403, "web pages"},
		"an image of a page":     {SidecarPath + "Graph", agentUser, with("Sec-Fetch-Site", "cross-site"), 403, "web pages"},
		"another client":         {SidecarPath + "Graph?AgentIdentity=stranger-1", agentUser, nothing, 400, "AgentIdentity"},
		"two clients":            {SidecarPath + "Graph?AgentIdentity=app&AgentIdentity=stranger-1", agentUser, nothing, 400, "more than once"},
		"two in other letters":   {SidecarPath + "Graph?AgentIdentity=app&agentidentity=stranger-1", agentUser, nothing, 400, "more than once"},
		"a user's token":         {SidecarPath + "Graph?AgentUsername=ann", agentUser, nothing, 400, "never a user's"},
		"a user's, by id":        {SidecarPath + "Graph?agentuserid=1", agentUser, nothing, 400, "never a user's"},
		"another scope":          {SidecarPath + "Graph?optionsOverride.Scopes=mail", agentUser, nothing, 400, "scope"},
		"another tenant":         {SidecarPath + "Graph?optionsOverride.AcquireTokenOptions.Tenant=stranger-1", agentUser, nothing, 400, "tenant"},
		"a bound token":          {SidecarPath + "Graph?optionsOverride.AcquireTokenOptions.PopPublicKey=x", agentUser, nothing, 400, "credagent's configuration"},
		"a query that is none":   {SidecarPath + "Graph?a=%zz", agentUser, nothing, 400, "cannot be read"},
		"a query without an end": {SidecarPath + "Graph?a=" + long, agentUser, nothing, 400, "longer than"},
		"no token yet":           {SidecarPath + "Later", agentUser, nothing, 503, "no token for the API yet"},
		"a bug":                  {SidecarPath + "Broken", agentUser, nothing, 500, "cannot be looked up"},
		"health of another name": {sidecarHealthPath, agentUser, func(r *http.Request) { r.Host = "evil.example.com" }, 403, "loopback"},
	}
}

func TestSidecarRefuses(t *testing.T) {
	for name, tc := range badAsks() {
		t.Run(name, func(t *testing.T) {
			r := sidecarRequest(tc.path)
			tc.change(r)
			response := askSidecar(&apis{}, tc.user, r)
			text, err := io.ReadAll(response.Body)
			var body struct {
				Status                       int
				Title, Detail, CorrelationID string
			}
			if err != nil || json.Unmarshal(text, &body) != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if response.Code != tc.status || body.Status != tc.status || !strings.Contains(body.Title, tc.title) || body.CorrelationID == "" {
				t.Errorf("%d, %+v, want %d with %q", response.Code, body, tc.status, tc.title)
			}
			if got := response.Header().Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("content type %q", got)
			}
			if strings.Contains(string(text), tokenCanary) || strings.Contains(body.Title, "stranger-1") {
				t.Errorf("it shows too much: %s", text)
			}
			wantHeader := map[string]string{"Retry-After": "", "Allow": "", "Connection": ""}
			switch tc.status {
			case 503:
				wantHeader["Retry-After"] = "17"
			case 405:
				wantHeader["Allow"] = "GET"
			}
			if tc.user != agentUser {
				wantHeader["Connection"] = "close"
			}
			for _, key := range slices.Sorted(maps.Keys(wantHeader)) {
				if got := response.Header().Get(key); got != wantHeader[key] {
					t.Errorf("%s: %q, want %q", key, got, wantHeader[key])
				}
			}
		})
	}
}

func TestSidecarHealth(t *testing.T) {
	for dead, want := range map[bool]int{false: http.StatusOK, true: http.StatusServiceUnavailable} {
		if response := askSidecar(&apis{dead: dead}, -1, sidecarRequest(sidecarHealthPath)); response.Code != want {
			t.Errorf("dead %t: status %d, want %d", dead, response.Code, want)
		}
	}
}

func TestSidecarWithoutAConnection(t *testing.T) {
	w := httptest.NewRecorder()
	Sidecar(&apis{}, os.Geteuid(), slog.New(slog.DiscardHandler)).ServeHTTP(w, sidecarRequest(SidecarPath+"Graph"))
	if w.Code != http.StatusForbidden {
		t.Errorf("status %d", w.Code)
	}
}

func FuzzSidecarQuery(f *testing.F) {
	f.Add("AgentIdentity=app&optionsOverride.Scopes=a&optionsOverride.AcquireTokenOptions.Tenant=b")
	f.Add("optionsOverride.AcquireTokenOptions.ForceRefresh=true")
	f.Add("agentidentity=&AgentIdentity=x")
	f.Fuzz(func(t *testing.T, raw string) {
		want, refused := parseSidecarQuery(raw)
		if refused != nil {
			if refused.status != http.StatusBadRequest || refused.message == "" {
				t.Errorf("%+v", refused)
			}
			return
		}
		values, err := url.ParseQuery(raw)
		if err != nil {
			t.Fatalf("a query that cannot be read is taken: %v", err)
		}
		for name, all := range values {
			if strings.EqualFold(name, "AgentIdentity") && strings.Join(all, "") != want.ClientID {
				t.Errorf("identity %q is taken for %q", all, want.ClientID)
			}
			if strings.EqualFold(name, "AgentUsername") || strings.EqualFold(name, "AgentUserId") {
				t.Error("a user is overlooked")
			}
		}
	})
}

// TestSidecarKnowsItsCallers asks over a real connection, again and again.
func TestSidecarKnowsItsCallers(t *testing.T) {
	listener, err := ListenUsers("127.0.0.1:0")
	if err != nil {
		t.Skipf("that needs Linux: %v", err)
	}
	at := listener.Addr().(*net.TCPAddr)
	for owner, want := range map[int]int{os.Geteuid(): http.StatusOK, os.Geteuid() + 1: http.StatusForbidden} {
		listener, err := ListenUsers(at.IP.String() + ":0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- Serve(ctx, listener, Sidecar(&apis{}, owner, slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
		}()
		for range 3 {
			response, err := http.Get("http://" + listener.Addr().String() + SidecarPath + "Graph")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			if response.Body.Close(); response.StatusCode != want {
				t.Errorf("owner %d: status %d, want %d", owner, response.StatusCode, want)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
}
