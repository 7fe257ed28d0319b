package workswith_test

import (
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCurl(t *testing.T) {
	needs(t, "curl", "curl")
	s := newStage(t, "curl", life)
	s.start("api.header")
	s.presents(func() {
		s.runs(environment(), "curl", "-q", "-sS", "--fail", "--cacert", s.path("ca.pem"), "-H", "@"+s.path("api.header"), s.api.URL)
	})
}

func TestPrometheus(t *testing.T) {
	needs(t, "prometheus", "prometheus")
	s := newStage(t, "prometheus", life)
	s.start("api.token")
	config := s.adapted("prometheus.yml")
	s.write("prometheus.yml", strings.ReplaceAll(s.read("prometheus.yml"), "scrape_interval: 15s", "scrape_interval: 500ms"))
	s.serves(exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+s.path("tsdb"), "--web.listen-address=127.0.0.1:0"))
	s.presents(func() {})
}

// TestGo has the go command fetch from a module mirror that wants a token, with each of the two
// ways in which it can present one.
func TestGo(t *testing.T) {
	for name, env := range map[string]string{"netrc": "go.env", "command": "goauth.env"} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, "go", life)
			s.api.serve(serveModule)
			s.start("netrc", "goauth")
			s.adapted(env)
			settings := append(strings.Split(strings.TrimSpace(s.read(env)), "\n"), "GOENV=off", "GOSUMDB=off", "GOFLAGS=-mod=mod -modcacherw", "GOTOOLCHAIN=local",
				"SSL_CERT_FILE="+s.path("ca.pem"), "GOPATH="+s.path("gopath"), "GOCACHE="+s.path("cache"), "HOME="+s.dir)
			s.presents(func() {
				s.must(os.RemoveAll(s.path("gopath")))
				version := s.runs(environment(settings...), "go", "list", "-m", "-f", "{{.Version}}", "example.org/private@latest")
				if version != "v1.2.3\n" {
					t.Fatalf("the go command found version %q", version)
				}
			})
		})
	}
}

// serveModule is a module mirror with one module.
func serveModule(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/example.org/private/@v/list":
		_, _ = w.Write([]byte("v1.2.3\n"))
	case "/example.org/private/@v/v1.2.3.info":
		_, _ = w.Write([]byte(`{"Version":"v1.2.3","Time":"2026-01-01T00:00:00Z"}`))
	case "/example.org/private/@v/v1.2.3.mod":
		_, _ = w.Write([]byte("module example.org/private\n"))
	default:
		http.NotFound(w, r)
	}
}

// TestGit clones over HTTPS from git's own server, which is given a token as the password.
func TestGit(t *testing.T) {
	needs(t, "git", "git")
	s := newStage(t, "git", life)
	s.start("credagent.sock")
	s.until("the agent has a token", func() bool {
		return exec.Command(program, "ready", "--min-ttl", "10s", "--socket", s.path("credagent.sock")).Run() == nil
	})
	env := environment("GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+s.adapted("gitconfig"), "GIT_TERMINAL_PROMPT=0",
		"GIT_SSL_CAINFO="+s.path("ca.pem"), "HOME="+s.dir)
	s.runs(env, "git", "init", "-q", "--bare", "repository.git")
	execPath := strings.TrimSpace(s.runs(env, "git", "--exec-path"))
	s.api.serve((&cgi.Handler{
		Path: filepath.Join(execPath, "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + s.dir, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=app"},
	}).ServeHTTP)
	s.presents(func() {
		s.must(os.RemoveAll(s.path("clone")))
		s.runs(env, "git", "clone", "-q", s.api.URL+"/repository.git", "clone")
	})
}
