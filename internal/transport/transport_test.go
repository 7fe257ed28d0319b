package transport_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/credagent/credagent/internal/transport"
)

func TestNew(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere/"+r.Proto, http.StatusFound)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})

	trusting, err := transport.New(roots, "")
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
	request.RequestURI = ""
	response, err := trusting.RoundTrip(request)
	if err != nil {
		t.Fatalf("with the root: %v", err)
	}
	defer response.Body.Close()
	if at := response.Header.Get("Location"); response.StatusCode != http.StatusFound || !strings.HasSuffix(at, "HTTP/1.1") {
		t.Errorf("got %d to %q, want the redirect itself over HTTP/1.1", response.StatusCode, at)
	}

	strict, err := transport.New(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if response, err := strict.RoundTrip(request); err == nil {
		response.Body.Close()
		t.Error("a server of an unknown root was trusted")
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := transport.New([]byte("nonsense"), ""); err == nil {
		t.Error("roots that are no PEM were taken")
	}
	if _, err := transport.New(nil, "http://[broken"); err == nil {
		t.Error("a proxy that is no URL was taken")
	}
}
