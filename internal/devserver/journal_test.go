package devserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/internal/devserver"
)

func TestRequestLogHoldsNoSecret(t *testing.T) {
	server := start(t, devserver.Options{})
	pair := newKeyPair(t, devserver.KeyEC, time.Hour)
	client := appClient()
	client.Certificates = pairCerts(pair)
	server.SetClient(client)
	jwt := signJWT(t, pair.key, members{"alg": "ES256"}, goodClaims(server.TokenURL(), "1"))
	basic := newRequest(t, server.TokenURL(), form("client_secret", ""))
	basic.SetBasicAuth(appID, url.QueryEscape(appSecret))
	mustDo(t, http.DefaultClient, basic)
	mustPost(t, server.TokenURL(), assertionForm(jwt))
	mustPost(t, server.TokenURL(), form("client_id", "nobody"))
	token := mustPost(t, server.TokenURL(), form()).text("access_token")

	data, err := json.Marshal(server.Requests())
	if err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{appSecret, "canary", signaturePart(jwt), token, basic.Header.Get("Authorization")} {
		if strings.Contains(string(data), hidden) {
			t.Errorf("the log shows %q: %s", hidden, data)
		}
	}
}

func TestRequestLogTellsTheRest(t *testing.T) {
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}})
	values := form("audience", "api", "claims", `{"access_token":{}}`)
	values["resource"] = []string{"https://a", "https://b"}
	request := newRequest(t, server.TokenURL(), values)
	request.Header.Set("User-Agent", "credagent/test")
	request.Header.Set("X-Other", "x")
	mustDo(t, http.DefaultClient, request)
	got := lastRequest(t, server)
	if got.Client != appID || got.Path != "/token" || got.Scope != "read" || got.Fault != "" || got.At.IsZero() {
		t.Errorf("log = %+v", got)
	}
	if !slices.Equal(got.Form["resource"], values["resource"]) || got.Form.Get("audience") != "api" || got.Form.Get("claims") != values.Get("claims") {
		t.Errorf("form = %v", got.Form)
	}
	if got.Header.Get("User-Agent") != "credagent/test" || got.Header.Get("X-Other") != "" {
		t.Errorf("header = %v", got.Header)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := inMemory(t, devserver.Options{Clients: []devserver.Client{appClient()}})
		ended := make(chan error, 1)
		go func() { ended <- server.Wait(t.Context(), 2) }()
		mustDo(t, client, newRequest(t, server.TokenURL(), form()))
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("Wait(2) ended after one request: %v", err)
		default:
		}
		mustDo(t, client, newRequest(t, server.TokenURL(), form()))
		if err := <-ended; err != nil {
			t.Error(err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := server.Wait(ctx, 3); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "3 token requests, 2 seen") {
			t.Errorf("Wait(3): %v", err)
		}
		go func() { ended <- server.Wait(t.Context(), 3) }()
		synctest.Wait()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Wait of a closed server: %v", err)
		}
	})
}

func TestSubscribe(t *testing.T) {
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}})
	events, cancel := server.Subscribe()
	others, _ := server.Subscribe()
	mustPost(t, server.TokenURL(), form())
	mustPost(t, server.TokenURL(), form("client_secret", "wrong"))
	if first, second := <-events, <-events; first.Outcome != "issued" || second.Outcome != "invalid_client" {
		t.Errorf("events = %+v, %+v", first, second)
	}
	cancel()
	cancel()
	if _, open := <-events; open {
		t.Error("the channel is open after cancel")
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	seen := 0
	for range others {
		seen++
	}
	if seen != 2 {
		t.Errorf("the other subscriber saw %d events", seen)
	}
	late, _ := server.Subscribe()
	if _, open := <-late; open {
		t.Error("a closed server's subscription is open")
	}
}

func TestSubscriberWhoDoesNotReadHoldsNothingUp(t *testing.T) {
	server := start(t, devserver.Options{})
	_, cancel := server.Subscribe()
	defer cancel()
	const many = 300
	for range many {
		server.Handler().ServeHTTP(discardWriter{http.Header{}}, newRequest(t, server.TokenURL(), form()))
	}
	if err := server.Wait(t.Context(), many); err != nil {
		t.Error(err)
	}
}

func TestRequestLogIsBounded(t *testing.T) {
	server := start(t, devserver.Options{})
	const many = 20_001
	for range many {
		server.Handler().ServeHTTP(discardWriter{http.Header{}}, newRequest(t, server.TokenURL(), url.Values{}))
	}
	if kept := len(server.Requests()); kept < 10_000 || kept >= many {
		t.Errorf("kept %d requests of %d", kept, many)
	}
	if err := server.Wait(t.Context(), many); err != nil {
		t.Error(err)
	}
}

func TestRetryAfterViolations(t *testing.T) {
	tests := []struct {
		name  string
		fault string
		wait  time.Duration
		early time.Duration
	}{
		{"at once", "throttle=7*1", 0, 7 * time.Second},
		{"just too early", "throttle=7*1", 7*time.Second - 1, 1},
		{"in time", "throttle=7*1", 7 * time.Second, 0},
		{"outage with Retry-After", "outage=503,60*1", 59 * time.Second, time.Second},
		{"date, too early", "throttle_date=7s*1", 6 * time.Second, time.Second},
		{"date, in time", "throttle_date=7s*1", 7 * time.Second, 0},
		{"longer than can be counted", "throttle=99999999999999999999*1", time.Hour, 1_000_000_000*time.Second - time.Hour},
		{"none", "throttle=none*1", 0, 0},
		{"unreadable", "throttle=soon*1", 0, 0},
		{"negative", "throttle=-7*1", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := inMemory(t, devserver.Options{Clients: []devserver.Client{appClient()}})
				mustInject(t, server, tt.fault)
				mustDo(t, client, newRequest(t, server.TokenURL(), form()))
				pass(tt.wait)
				mustDo(t, client, newRequest(t, server.TokenURL(), form()))
				violations := 0
				if tt.early > 0 {
					violations = 1
				}
				if got := server.RetryAfterViolations(); got != violations {
					t.Errorf("%d violations, want %d", got, violations)
				}
				if got := lastRequest(t, server).Early; got != tt.early {
					t.Errorf("early by %s, want %s", got, tt.early)
				}
			})
		})
	}
}

// Only an error asks for a wait.
func TestRetryAfterOfARedirectDoesNotBind(t *testing.T) {
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}})
	if err := server.Inject(devserver.Fault{Kind: devserver.Redirect, RetryAfter: "60", Count: 1}); err != nil {
		t.Fatal(err)
	}
	if got := mustDo(t, noRedirects(), newRequest(t, server.TokenURL(), form())); got.header.Get("Retry-After") != "60" {
		t.Errorf("header = %v", got.header)
	}
	mustPost(t, server.TokenURL(), form())
	if got := server.RetryAfterViolations(); got != 0 {
		t.Errorf("%d violations", got)
	}
}

// An HTTP date has whole seconds: in the middle of one it must be rounded up.
func TestRetryAfterDateIsNeverTooNear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := inMemory(t, devserver.Options{Clients: []devserver.Client{appClient()}})
		mustInject(t, server, "throttle_date=7s*1")
		pass(300 * time.Millisecond)
		got := mustDo(t, client, newRequest(t, server.TokenURL(), form()))
		date, err := http.ParseTime(got.header.Get("Retry-After"))
		if left := time.Until(date); err != nil || left != 7700*time.Millisecond {
			t.Errorf("Retry-After = %q, %s away, %v", got.header.Get("Retry-After"), left, err)
		}
	})
}

func TestRetryAfterHoldsOneGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := appClient()
		other.ID = "other"
		server, client := inMemory(t, devserver.Options{Clients: []devserver.Client{appClient(), other}})
		ask := func(path, id string) { mustDo(t, client, newRequest(t, server.URL()+path, form("client_id", id))) }
		mustInject(t, server, "throttle=60*1")
		mustInject(t, server, "throttle=5*1")
		ask("/token", appID)
		ask("/token", "other")
		ask("/tenant/token", appID)
		if got := server.RetryAfterViolations(); got != 0 {
			t.Errorf("%d violations by another client or at another endpoint", got)
		}
		pass(5 * time.Second)
		ask("/token", "other")
		ask("/token", appID)
		if got := server.RetryAfterViolations(); got != 1 {
			t.Errorf("%d violations, want the one of %q", got, appID)
		}
	})
}

// A shorter wait asked for later does not make a longer one void.
func TestLongestRetryAfterHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := inMemory(t, devserver.Options{Clients: []devserver.Client{appClient()}})
		mustInject(t, server, "throttle=60*1")
		mustInject(t, server, "throttle=1*1")
		for range 2 {
			mustDo(t, client, newRequest(t, server.TokenURL(), form()))
		}
		pass(30 * time.Second)
		mustDo(t, client, newRequest(t, server.TokenURL(), form()))
		if got := lastRequest(t, server).Early; got != 30*time.Second {
			t.Errorf("early by %s, want 30s", got)
		}
	})
}

// The answer to a first request cannot bind a second one that was under way already.
func TestRequestsUnderWayAreInnocent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := inMemory(t, devserver.Options{Clients: []devserver.Client{appClient()}})
		mustInject(t, server, "throttle=60*1")
		request := newRequest(t, server.TokenURL(), nil)
		body := &gatedReader{open: make(chan struct{}), text: strings.NewReader(form().Encode())}
		request.Body = body
		answer, ended := httptest.NewRecorder(), make(chan struct{})
		go func() {
			defer close(ended)
			server.Handler().ServeHTTP(answer, request)
		}()
		synctest.Wait()
		if got := mustDo(t, client, newRequest(t, server.TokenURL(), form())); got.status != 429 {
			t.Errorf("the request that overtakes got %d", got.status)
		}
		close(body.open)
		<-ended
		if answer.Code != 200 {
			t.Errorf("the request under way got %d", answer.Code)
		}
		if got := server.RetryAfterViolations(); got != 0 {
			t.Errorf("%d violations", got)
		}
	})
}

// gatedReader is a request body that holds its bytes back.
type gatedReader struct {
	open chan struct{}
	text *strings.Reader
}

func (r *gatedReader) Read(p []byte) (int, error) {
	<-r.open
	return r.text.Read(p)
}

func (r *gatedReader) Close() error { return nil }
