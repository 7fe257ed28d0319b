package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/kubeapi"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestSecretOfTheStateCannotBeRead: an API server that is away is worth another start, a missing right is not.
func TestSecretOfTheStateCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	key, err := store.NewKey(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"token": "t", "ca.crt": "c", "key": key.Reveal() + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	answered := func(status int) roundTripper {
		return func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}, nil
		}
	}
	for name, tc := range map[string]struct {
		send  roundTripper
		later bool
	}{
		"away":       {func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, true},
		"overloaded": {answered(http.StatusServiceUnavailable), true},
		"no right":   {answered(http.StatusForbidden), false},
		"no Secret":  {answered(http.StatusNotFound), false},
	} {
		api := kubeapi.New(kubeapi.Options{Dir: dir, Server: "https://api.example", Transport: func([]byte) (http.RoundTripper, error) { return tc.send, nil }})
		_, err := openSecret(api, "shop", &config.State{Secret: "state", KeyFile: filepath.Join(dir, "key")})
		var later *statedError
		if err == nil || !strings.Contains(err.Error(), `Secret "shop/state"`) {
			t.Errorf("%s: error %v", name, err)
		}
		if got := errors.As(err, &later) && later.code == exitNoToken; got != tc.later {
			t.Errorf("%s: a later start may help: %t, want %t", name, got, tc.later)
		}
	}
}
