package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/testkit/leaktest"
)

// TestMain checks for goroutines that the tests leave.
func TestMain(m *testing.M) { os.Exit(leaktest.Main(m)) }

// server is an authorization server that counts.
func server(t *testing.T) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := requests.Add(1)
		if id, secret, ok := r.BasicAuth(); !ok || id != "orders" || secret != secretOf("") {
			http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"Bearer","expires_in":3600,"scope":%q}`, n, r.FormValue("scope"))
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

// start runs a keeper until the test ends, or the returned function is called.
func start(t *testing.T, s *state) (*keeper, func()) {
	t.Helper()
	k, err := newKeeper(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		k.agent.Run(ctx)
	}()
	stop := func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return k, stop
}

// await reads updates until one of them is wanted.
func await(t *testing.T, k *keeper, name string, wanted func(error) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for updated := range k.agent.Updates(ctx) {
		_, err := k.agent.Token(name)
		if updated == name && wanted(err) {
			return
		}
	}
	t.Fatalf("token %q did not become what it should", name)
}

func good(err error) bool { return err == nil }

func TestTenantsComeAndGo(t *testing.T) {
	url, requests := server(t)
	k, stop := start(t, newState())
	for _, name := range []string{"contoso", "fabrikam"} {
		if err := k.add(t.Context(), tenant{name, url, "orders", "read"}); err != nil {
			t.Fatal(err)
		}
		await(t, k, name, good)
	}
	var problems *config.Error
	if err := k.add(t.Context(), tenant{"adatum", "not a URL", "orders", "read"}); !errors.As(err, &problems) {
		t.Errorf("a tenant without a server: %v", err)
	}
	if err := k.remove(t.Context(), "contoso"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.agent.Token("contoso"); !errors.Is(err, agent.ErrUnknownToken) {
		t.Errorf("the token that was removed: %v", err)
	}
	if _, err := k.agent.Token("fabrikam"); err != nil {
		t.Errorf("the other one: %v", err)
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests for two tokens", n)
	}
	stop()
}

func TestRestartMakesNoRequest(t *testing.T) {
	url, requests := server(t)
	s := newState()
	for range 2 {
		k, stop := start(t, s)
		if err := k.add(t.Context(), tenant{"contoso", url, "orders", "read"}); err != nil {
			t.Fatal(err)
		}
		await(t, k, "contoso", good)
		stop()
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests, want that of the first start", n)
	}
}

func TestNoRequestWithoutANote(t *testing.T) {
	url, requests := server(t)
	s := newState()
	s.full = true
	k, _ := start(t, s)
	if err := k.add(t.Context(), tenant{"contoso", url, "orders", "read"}); err != nil {
		t.Fatal(err)
	}
	await(t, k, "contoso", func(err error) bool {
		return err != nil && strings.Contains(k.agent.Status().Tokens[0].LastError, "the database is full")
	})
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were sent without a note", n)
	}
}

func TestProgramRuns(t *testing.T) {
	url, _ := server(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, url, writer) }()
	var said strings.Builder
	buffer := make([]byte, 1024)
	for !strings.Contains(said.String(), `token "contoso" is good, for scope "read"`) {
		n, err := reader.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		said.Write(buffer[:n])
	}
	cancel()
	reader.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
