package main

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/credagent/credagent/testkit/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Main(m)) }

// TestLoop: every token's file holds what its own client was given.
func TestLoop(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]work{"certificate": {key: key}, "secret": {secret: "secret"}} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, secret, basic := r.BasicAuth()
				if asserted := r.FormValue("client_assertion") != ""; asserted == basic || basic && secret != "secret" {
					w.WriteHeader(http.StatusUnauthorized)
				}
				fmt.Fprintf(w, `{"access_token":"of %s"}`, r.FormValue("client_id"))
			}))
			defer server.Close()
			w.tokenURL, w.dir, w.clients, w.tokens = server.URL, t.TempDir(), 2, 5
			if err := w.run(); err != nil {
				t.Fatal(err)
			}
			for i := range w.tokens {
				got, err := os.ReadFile(filepath.Join(w.dir, fmt.Sprintf("t%d", i)))
				if want := fmt.Sprintf("of app%d", i%2); err != nil || string(got) != want {
					t.Errorf("t%d holds %q, %v, want %q", i, got, err, want)
				}
			}
		})
	}
}
