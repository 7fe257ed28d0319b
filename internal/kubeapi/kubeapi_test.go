package kubeapi_test

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/kubeapi"
	"github.com/credagent/credagent/testkit/kubefake"
)

var get = kubeapi.Request{Method: http.MethodGet, Path: kubeapi.SecretPath("shop", "graph"), Accept: kubeapi.JSON}

// transport answers requests.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func client(t *testing.T, dir string, f transport) *kubeapi.Client {
	t.Helper()
	return kubeapi.New(kubeapi.Options{Dir: dir, Server: "https://kubernetes.test", Transport: func([]byte) (http.RoundTripper, error) { return f, nil }})
}

// The token is read afresh for each request.
func TestRotatedToken(t *testing.T) {
	dir, got := kubefake.Account(t), ""
	c := client(t, dir, func(r *http.Request) (*http.Response, error) {
		got = r.Header.Get("Authorization")
		return kubefake.Answer(200, "{}"), nil
	})
	for _, token := range []string{"first", "second"} {
		if err := os.WriteFile(filepath.Join(dir, "token"), []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Do(t.Context(), get); err != nil || got != "Bearer "+token {
			t.Errorf("sent %q: %v", got, err)
		}
	}
}

// The cluster's CA is too, and a server that it does not vouch for gets no token.
func TestRotatedCA(t *testing.T) {
	dir, requests := kubefake.Account(t), 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		_, _ = io.WriteString(w, "{}")
	}))
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	trusted := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	other, _, _, err := devserver.NewCertificate("other", devserver.KeyEC, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		roots string
		want  string
	}{
		{string(trusted), ""},
		{string(other), "is not one that the service account's ca.crt vouches for"},
		{"nothing", "there is no certificate in it"},
		{string(trusted), ""},
	} {
		if err := os.WriteFile(filepath.Join(dir, "ca.crt"), []byte(tc.roots), 0o600); err != nil {
			t.Fatal(err)
		}
		c := kubeapi.New(kubeapi.Options{Dir: dir, Server: server.URL}) // without the wait of the one before
		before := requests
		_, err := c.Do(t.Context(), get)
		c.Close()
		switch {
		case tc.want == "" && (err != nil || requests != before+1):
			t.Errorf("with the right CA: %v", err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || requests != before):
			t.Errorf("with another CA: %v", err)
		}
	}
	// One client follows the file, without being made anew.
	c := kubeapi.New(kubeapi.Options{Dir: dir, Server: server.URL})
	defer c.Close()
	if _, err := c.Do(t.Context(), get); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), other, 0o600); err != nil {
		t.Fatal(err)
	}
	var unknown *tls.CertificateVerificationError
	if _, err := c.Do(t.Context(), get); !errors.As(err, &unknown) {
		t.Errorf("after the CA was replaced: %v", err)
	}
}

func TestNoPod(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := kubeapi.New(kubeapi.Options{Dir: kubefake.Account(t)}).Do(t.Context(), get)
	if err == nil || !strings.Contains(err.Error(), "this is no pod") {
		t.Errorf("outside of a pod: %v", err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	sent := ""
	c := kubeapi.New(kubeapi.Options{Dir: kubefake.Account(t), Transport: func([]byte) (http.RoundTripper, error) {
		return transport(func(r *http.Request) (*http.Response, error) {
			sent = r.URL.String()
			return kubefake.Answer(200, "{}"), nil
		}), nil
	}})
	if _, err := c.Do(t.Context(), get); err != nil || sent != "https://[fd00::1]:443/api/v1/namespaces/shop/secrets/graph" {
		t.Errorf("sent to %q: %v", sent, err)
	}
	_, err = kubeapi.New(kubeapi.Options{Dir: t.TempDir()}).Do(t.Context(), get)
	if err == nil || !strings.Contains(err.Error(), "automountServiceAccountToken") {
		t.Errorf("without a service account: %v", err)
	}
}

// A server that fails is left alone for longer and longer, and asked once when a wait is over.
func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests, fail := 0, true
		c := client(t, kubefake.Account(t), func(*http.Request) (*http.Response, error) {
			if requests++; fail {
				return nil, errors.New("connection refused")
			}
			return kubefake.Answer(200, "{}"), nil
		})
		for range 600 { // ten minutes, asked each second
			_, err := c.Do(t.Context(), get)
			var waiting *kubeapi.WaitError
			if err == nil || errors.As(err, &waiting) && waiting.Wait <= 0 {
				t.Fatalf("it ends with %v", err)
			}
			<-time.After(time.Second)
		}
		if requests < 12 || requests > 25 {
			t.Errorf("%d requests in ten minutes", requests)
		}
		fail = false
		<-time.After(45 * time.Second)
		for range 10 {
			if _, err := c.Do(t.Context(), get); err != nil {
				t.Fatalf("after the outage: %v", err)
			}
		}
	})
}

func TestAnswersThatAreTooLarge(t *testing.T) {
	c := client(t, kubefake.Account(t), func(*http.Request) (*http.Response, error) {
		return kubefake.Answer(200, strings.Repeat("x", 5<<20)), nil
	})
	if _, err := c.Do(t.Context(), get); err == nil || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("it ends with %v", err)
	}
	c = client(t, kubefake.Account(t), func(*http.Request) (*http.Response, error) {
		return kubefake.Answer(418, strings.Repeat("x", 5<<20)+"\x1b[31m"), nil
	})
	if _, err := c.Do(t.Context(), get); err == nil || len(err.Error()) > 700 {
		t.Errorf("a refusal is shown with %d characters", len(err.Error()))
	}
}

func TestMay(t *testing.T) {
	server := kubefake.New()
	server.Denied["watch"] = true
	c := server.Client(t)
	for verb, want := range map[string]bool{"watch": false, "patch": true} {
		if got, err := c.May(t.Context(), verb, "shop", "graph"); err != nil || got != want {
			t.Errorf("%s: %v, %v", verb, got, err)
		}
	}
	server.Fault = func(*http.Request) (*http.Response, error) { return kubefake.Answer(200, `{"kind":"Pod"}`), nil }
	if _, err := c.May(t.Context(), "get", "shop", "graph"); err == nil {
		t.Error("another object is taken for an answer")
	}
}
