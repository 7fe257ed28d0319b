//go:build unix

// Package pagetest shows the status page to a real browser, headless Chromium, and checks what a
// reader would see and what a browser would complain of. Where there is no Chromium, or with -short,
// it is skipped.
package pagetest

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/agentprocess"
	"github.com/credagent/credagent/testkit/nodetest"
)

const (
	canary   = "canary-page-secret-2d9f"
	patience = time.Minute
)

//go:embed browser/package.json browser/package-lock.json browser/look.mjs
var browserFiles embed.FS

func TestPageInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a browser: not with -short")
	}
	chromium := findChromium(t)
	listen := agentprocess.FreeAddress(t)
	stopAgent := startAgent(t, listen)
	b := startBrowser(t, chromium, "http://"+listen+"/")

	first := b.first(t)
	b.refreshed(t, first)
	b.saysAsTheServer(t)
	b.fits(t)
	b.isContent(t, listen)
	stopAgent()
	b.noticesTheEnd(t)
}

// findChromium returns the path of a Chromium, whatever the distribution calls it.
func findChromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no Chromium: apt-get install chromium")
	return ""
}

// startAgent runs the program with a token that is refreshed soon. It is stopped by the function
// returned, or with the test.
func startAgent(t *testing.T, listen string) (stop func()) {
	t.Helper()
	dir := t.TempDir()
	program, err := agentprocess.Credagent(dir)
	if err != nil {
		t.Fatal(err)
	}
	server, err := devserver.New(devserver.Options{
		TTL: 2 * time.Minute, RefreshIn: 5 * time.Second,
		Clients: []devserver.Client{{ID: "app", Secret: secret.New(canary)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	config := filepath.Join(dir, "credagent.yaml")
	for path, content := range map[string]string{
		filepath.Join(dir, "secret"): canary,
		config: fmt.Sprintf(`listen: %s
clients: { app: { token_url: %q, client_id: app, credential: { provider: secretcred, config: { secret_file: %s/secret } } } }
tokens: { graph: { client: app, scopes: [https://graph.microsoft.com/.default] } }
sinks: [{ type: file, token: graph, path: %[3]s/token }]
`, listen, server.TokenURL(), dir),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	agent := agentprocess.Start(t, exec.Command(program, "run", "-c", config))
	agent.AwaitReady(listen)
	return func() {
		if status := agent.Stop(); status != 0 {
			t.Errorf("the agent ends with %d", status)
		}
	}
}

// browser is a process that opens the page.
type browser struct {
	cmd     *exec.Cmd
	orders  *json.Encoder
	answers *json.Decoder
}

func startBrowser(t *testing.T, chromium, page string) *browser {
	t.Helper()
	files, err := fs.Sub(browserFiles, "browser")
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := nodetest.Project{Name: "playwright", Files: files, Script: "look.mjs"}.Command(t.Context(), chromium, page)
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the browser ends with %v\n%s", err, &stderr)
		}
	})
	return &browser{cmd, json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))}
}

// look runs a check in the browser and reads its result.
func (b *browser) look(t *testing.T, what, argument string, saw any) {
	t.Helper()
	timer := time.AfterFunc(patience, func() { _ = b.cmd.Process.Kill() })
	defer timer.Stop()
	err := b.orders.Encode(map[string]string{"look": what, "argument": argument})
	if err == nil {
		err = b.answers.Decode(saw)
	}
	if err != nil {
		t.Fatalf("looking at %s: %v", what, err)
	}
}

// first checks what a reader sees at once, and returns when the token was acquired.
func (b *browser) first(t *testing.T) (acquired string) {
	t.Helper()
	var saw struct {
		Title, Acquired string
		Tokens          []string
	}
	b.look(t, "first", "", &saw)
	if saw.Title != "credagent: ready" {
		t.Errorf("the title is %q", saw.Title)
	}
	if len(saw.Tokens) != 1 {
		t.Fatalf("the tokens are %q", saw.Tokens)
	}
	row := strings.Join(strings.Fields(saw.Tokens[0]), " ")
	if !strings.HasPrefix(row, "graph app ") || !strings.Contains(row, "valid, expires in ") {
		t.Errorf("the token's row is %q", row)
	}
	return saw.Acquired
}

// refreshed checks that a refresh shows, and that the clocks move, in the page that was opened.
func (b *browser) refreshed(t *testing.T, before string) {
	t.Helper()
	var saw struct {
		Unchanged bool
		Acquired  string
	}
	b.look(t, "later", before, &saw)
	if !saw.Unchanged {
		t.Error("the page was loaded anew")
	}
	if saw.Acquired <= before {
		t.Errorf("the token was acquired at %s, before that at %s", saw.Acquired, before)
	}
}

// saysAsTheServer checks that the script's words for times are those of the server.
func (b *browser) saysAsTheServer(t *testing.T) {
	t.Helper()
	var saw struct {
		Compared int
		Differ   []string
	}
	b.look(t, "words", "", &saw)
	if saw.Compared < 5 || len(saw.Differ) > 0 {
		t.Errorf("of %d times, these are said otherwise: %q", saw.Compared, saw.Differ)
	}
}

func (b *browser) fits(t *testing.T) {
	t.Helper()
	type shape struct {
		Background   string
		Width, Inner int
	}
	var saw struct{ Light, Dark, Phone shape }
	b.look(t, "shapes", "", &saw)
	if saw.Light.Background == saw.Dark.Background || saw.Dark.Background != saw.Phone.Background {
		t.Errorf("the backgrounds are %+v", saw)
	}
	for name, s := range map[string]shape{"wide": saw.Light, "phone": saw.Phone} {
		if s.Width > s.Inner {
			t.Errorf("on a %s screen the page is %d wide, the screen %d", name, s.Width, s.Inner)
		}
	}
}

// isContent checks that the browser reports no problem and made no other connection.
func (b *browser) isContent(t *testing.T, listen string) {
	t.Helper()
	var saw struct{ Console, Hosts, Failures, Violations []string }
	b.look(t, "seen", "", &saw)
	if len(saw.Console) > 0 || len(saw.Violations) > 0 {
		t.Errorf("the browser complains: %q, %q", saw.Console, saw.Violations)
	}
	for _, failure := range saw.Failures {
		if !strings.Contains(failure, "/v1/events") { // a stream is cut off when its page is closed
			t.Errorf("a request failed: %s", failure)
		}
	}
	if len(saw.Hosts) != 1 || saw.Hosts[0] != listen {
		t.Errorf("the page asks %q, want %s alone", saw.Hosts, listen)
	}
}

// noticesTheEnd checks that a page shows that its agent has ended.
func (b *browser) noticesTheEnd(t *testing.T) {
	t.Helper()
	var saw struct{ Line, Title string }
	b.look(t, "lost", "", &saw)
	if !strings.HasPrefix(saw.Line, "No word from the agent for ") || saw.Title != "credagent: no answer" {
		t.Errorf("it says %q, in the title %q", saw.Line, saw.Title)
	}
}
