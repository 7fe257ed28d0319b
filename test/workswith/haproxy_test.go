package workswith_test

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestHAProxy has HAProxy put the token into the requests that it passes on, and hands it each new one by its
// runtime socket.
func TestHAProxy(t *testing.T) {
	needs(t, "haproxy socat", "haproxy", "socat")
	s := newStage(t, "haproxy", life)
	s.names = []string{
		"api.example.com:443", s.api.Listener.Addr().String(),
		"str(api.example.com)", "str(example.com)", "verifyhost api.example.com", "verifyhost example.com",
		"127.0.0.1:8080", "unix@" + s.path("proxy.sock"),
	}
	s.must(os.Mkdir(s.path("haproxy"), 0o755))
	s.start("haproxy.map")
	s.serves(exec.Command("haproxy", "-db", "-f", s.adapted("haproxy.cfg")))
	client := s.throughProxy()
	s.presents(func() {
		response, err := client.Get("http://proxy")
		if err != nil {
			return // it does not listen yet
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("through HAProxy the api answers with %s", response.Status)
		}
	})
	if workers := strings.Count(s.runs(environment(), "sh", "-c", "echo show info | socat - UNIX-CONNECT:"+s.path("haproxy/admin.sock")), "Process_num: 1"); workers != 1 {
		t.Error("HAProxy was started again, which the documents say is not needed")
	}
}
