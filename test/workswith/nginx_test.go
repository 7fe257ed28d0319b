package workswith_test

import (
	"context"
	"net"
	"net/http"
	"os/exec"
	"testing"
	"time"
)

// TestNginx has nginx put the token into the requests that it passes on.
func TestNginx(t *testing.T) {
	needs(t, "nginx", "nginx")
	s := newStage(t, "nginx", life)
	s.start("nginx-api.conf")
	s.serves(exec.Command("nginx", "-p", s.dir, "-c", s.adapted("nginx.conf"), "-e", "stderr", "-g", "daemon off;"))
	client := s.throughProxy()
	s.presents(func() {
		response, err := client.Get("http://proxy")
		if err != nil {
			return // it does not listen yet
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("through nginx the api answers with %s", response.Status)
		}
	})
}

// throughProxy is a client of the proxy that listens on the stage.
func (s *stage) throughProxy() *http.Client {
	var dialer net.Dialer
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, // an old worker keeps its connections, and the old token
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", s.path("proxy.sock"))
		},
	}}
}
