//go:build unix

package examples_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/testkit/agentprocess"
)

// shortLife is that of tokens which are to be replaced during a test: after half of it.
const shortLife = 10 * time.Second

// startAgent runs an agent with an example's configuration until the test ends, and waits until it is
// ready.
func (p place) startAgent(t *testing.T, example string) {
	t.Helper()
	p.startConfigured(t, read(t, "examples/"+example+"/credagent.yaml"))
}

// startConfigured is startAgent with a configuration that is in no file.
func (p place) startConfigured(t *testing.T, text string) {
	t.Helper()
	address := agentprocess.FreeAddress(t)
	config := filepath.Join(t.TempDir(), "credagent.yaml")
	write(t, config, "listen: "+address+"\n"+p.adapt(t, text))
	cmd := exec.Command(program, "run", "-c", config)
	cmd.Env = environment()
	agentprocess.Start(t, cmd).AwaitReady(address)
}

// start runs a program until the test ends. Programs that it started itself end with it.
func start(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait() // ended by the signal
	})
	return cmd
}

// says runs a program until the test ends and returns the lines of its output.
func says(t *testing.T, name string, args ...string) <-chan string {
	t.Helper()
	cmd := exec.Command(name, args...)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, os.Stderr
	start(t, cmd)
	in.Close()
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		defer out.Close()
		scanner := bufio.NewScanner(out)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
	}()
	return lines
}

// hears waits for a line.
func hears(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, more := <-lines:
			if line == want {
				return
			}
			if !more {
				t.Fatalf("the program ends without saying %q", want)
			}
		case <-deadline:
			t.Fatalf("the program does not say %q within %s", want, patience)
		}
	}
}

// replaced waits until a file's content is another, and returns it.
func replaced(t *testing.T, file, old string) string {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(data) != old {
			return string(data)
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s is not replaced within %s", file, patience)
		}
	}
}

func need(t *testing.T, tool, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Skipf("%s is missing: apt-get install %s", tool, pkg)
	}
}

// TestCurlHeader asks an API whose first answer is 401: the script asks once more, and never shows the
// token.
func TestCurlHeader(t *testing.T) {
	need(t, "curl", "curl")
	p := newPlace(t)
	p.startAgent(t, "curl-header")
	var asked atomic.Int32
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if n := asked.Add(1); n%2 == 1 || !isBearer || !p.server.Valid(token) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintln(w, "three orders")
	}))
	defer api.Close()
	cmd := exec.CommandContext(t.Context(), root+"/examples/curl-header/orders.sh", api.URL, filepath.Join(p.sinks, "orders.header"))
	if out, _ := execute(t, 0, environment(), cmd); out != "three orders\n" {
		t.Errorf("the script says %q", out)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("the API was asked %d times, want twice", n)
	}
	stranger := filepath.Join(t.TempDir(), "header")
	write(t, stranger, "Authorization: Bearer nonsense\n")
	cmd = exec.CommandContext(t.Context(), root+"/examples/curl-header/orders.sh", api.URL, stranger)
	if _, problems := execute(t, 1, environment(), cmd); !strings.Contains(problems, "answers 401") {
		t.Errorf("with a bad token the script complains %q", problems)
	}
}

// TestMicrosoft365 has two programs ask Microsoft Graph with one token, before and after it is refreshed. The
// authorization server sees one request for each token, not one for each program.
func TestMicrosoft365(t *testing.T) {
	need(t, "curl", "curl")
	t.Parallel()
	p := newPlaceOf(t, shortLife)
	var mu sync.Mutex
	tokens := map[string]map[string]bool{} // by what was asked for
	graph := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !isBearer || !p.server.Valid(token) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if tokens[r.URL.Path] == nil {
			tokens[r.URL.Path] = map[string]bool{}
		}
		tokens[r.URL.Path][token] = true
		fmt.Fprintln(w, r.URL.RequestURI())
	}))
	defer graph.Close()
	p.startAgent(t, "microsoft-365")
	dir, sites := root+"/examples/microsoft-365/", filepath.Join(p.sinks, "sites.token")
	ask := func() {
		for script, want := range map[string]string{
			"mail.sh orders@contoso.com " + graph.URL + " " + filepath.Join(p.sinks, "mail.header"): "/v1.0/users/orders@contoso.com/mailFolders/inbox?$select=unreadItemCount\n",
			"sites.sh invoices " + graph.URL + " " + sites:                                          "/v1.0/sites?search=invoices\n",
		} {
			words := strings.Fields(script)
			if out, _ := execute(t, 0, environment(), exec.CommandContext(t.Context(), dir+words[0], words[1:]...)); out != want {
				t.Errorf("%s gets %q, want %q", words[0], out, want)
			}
		}
	}
	content := p.sink(t, "sites.token")
	ask()
	for range 2 {
		content = replaced(t, sites, content)
		ask()
	}
	mu.Lock()
	defer mu.Unlock()
	for path, seen := range tokens {
		if len(seen) < 2 {
			t.Errorf("%s was asked for with %d tokens", path, len(seen))
		}
	}
	if requests := len(p.server.Requests()); requests > 4 {
		t.Errorf("the authorization server saw %d requests for three tokens", requests)
	}
}

// TestEnvRestart runs a service that knows only the token it was started with.
func TestEnvRestart(t *testing.T) {
	t.Parallel()
	p := newPlaceOf(t, shortLife)
	p.startAgent(t, "env-restart")
	file := filepath.Join(p.sinks, "orders.env")
	service := filepath.Join(t.TempDir(), "service.sh")
	write(t, service, "echo \"$ORDERS_TOKEN\"\nexec sleep 1000\n")
	lines := says(t, root+"/examples/env-restart/restart.sh", file, "sh", service)
	content := ""
	for range 3 {
		content = replaced(t, file, content)
		hears(t, lines, variable(t, content, "ORDERS_TOKEN"))
	}
	p.wantToken(t, variable(t, content, "ORDERS_TOKEN"))
}

// TestEnvExec has credagent restart the same service itself.
func TestEnvExec(t *testing.T) {
	t.Parallel()
	p, dir := newPlaceOf(t, shortLife), t.TempDir()
	config, service := filepath.Join(dir, "credagent.yaml"), filepath.Join(dir, "service.sh")
	write(t, config, "listen: \"\"\n"+p.adapt(t, read(t, "examples/env-restart/credagent.yaml")))
	write(t, service, "echo \"$ORDERS_TOKEN\"\nexec sleep 1000\n")
	lines := says(t, program, "exec", "-c", config, "--on-refresh", "restart", "--", "sh", service)
	heard := map[string]bool{}
	for deadline := time.After(patience); len(heard) < 3; {
		select {
		case token := <-lines:
			p.wantToken(t, token)
			heard[token] = true
		case <-deadline:
			t.Fatalf("the service was started with %d tokens within %s", len(heard), patience)
		}
	}
}

// TestEnvReload sends a service the signal of the document's configuration.
func TestEnvReload(t *testing.T) {
	t.Parallel()
	p, dir := newPlaceOf(t, shortLife), t.TempDir()
	file, pidFile, service := filepath.Join(p.sinks, "orders.env"), filepath.Join(dir, "orders.pid"), filepath.Join(dir, "service.sh")
	clients, _, _ := strings.Cut(read(t, "examples/env-restart/credagent.yaml"), "tokens:")
	part := strings.NewReplacer("/run/orders.pid", pidFile, "client: payments", "client: orders").
		Replace(blocks(read(t, "examples/env-restart/README.md"), "yaml")[0])
	p.startConfigured(t, clients+part)
	write(t, service, `show() { . "$file"; echo "$ORDERS_TOKEN"; }
file=$1
trap show HUP
echo $$ >"$2"
show
while :; do
	sleep 1000 &
	wait || :
done
`)
	lines := says(t, "sh", service, file, pidFile)
	content := ""
	for range 3 {
		content = replaced(t, file, content)
		hears(t, lines, variable(t, content, "ORDERS_TOKEN"))
	}
}

// TestEnvRestartEndsWithTheService runs a service that ends by itself.
func TestEnvRestartEndsWithTheService(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "orders.env")
	write(t, file, "ORDERS_TOKEN=one\n")
	cmd := exec.CommandContext(t.Context(), root+"/examples/env-restart/restart.sh", file, "sh", "-c", `test "$ORDERS_TOKEN" = one && exit 7`)
	execute(t, 7, environment(), cmd)
}

// TestEnvRestartUnits compares the units with each other and with the sink.
func TestEnvRestartUnits(t *testing.T) {
	const file = "/run/credagent/orders.env"
	for name, want := range map[string]string{
		"credagent.yaml":         "path: " + file,
		"orders.service":         "EnvironmentFile=" + file,
		"orders-restart.path":    "PathChanged=" + file,
		"orders-restart.service": "try-restart orders.service",
	} {
		if !strings.Contains(read(t, "examples/env-restart/"+name), want+"\n") {
			t.Errorf("%s does not say %q", name, want)
		}
	}
}

func variable(t *testing.T, env, name string) string {
	t.Helper()
	for line := range strings.Lines(env) {
		if value, found := strings.CutPrefix(line, name+"="); found {
			return strings.TrimSuffix(value, "\n")
		}
	}
	t.Fatalf("the env file has no %s", name)
	return ""
}

// TestWatchers has each of the watchers see every token.
func TestWatchers(t *testing.T) {
	need(t, "inotifywait", "inotify-tools")
	t.Parallel()
	watcher := filepath.Join(t.TempDir(), "watch-file")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", root, "-o", watcher, "./examples/watch-file").CombinedOutput(); err != nil {
		t.Fatalf("building the watcher: %v\n%s", err, out)
	}
	p := newPlaceOf(t, shortLife)
	p.startAgent(t, "watch-file")
	file := filepath.Join(p.sinks, "orders.token")
	said := map[string]<-chan string{}
	for _, program := range []string{watcher, root + "/examples/watch-file/inotify.sh", root + "/examples/watch-file/poll.sh"} {
		said[program] = says(t, program, file)
	}
	token := ""
	for range 3 {
		token = replaced(t, file, token)
		for _, lines := range said {
			hears(t, lines, fmt.Sprintf("using token %x", sha256.Sum256([]byte(token))))
		}
	}
	p.wantToken(t, token)
}
