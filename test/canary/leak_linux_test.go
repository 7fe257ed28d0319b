package canary

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
)

// TestLeaksOfFaults runs an agent against a server that misbehaves in each way that the server of
// the tests knows, and in repeating requests. Nothing secret, and no token, may be in anything that
// the agent shows: its log at level debug, its pages, its processes' command lines and
// environments, and files that others can read.
func TestLeaksOfFaults(t *testing.T) {
	t.Parallel()
	names := []string{"repeat"}
	for _, f := range devserver.Faults() {
		names = append(names, f.Name)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, time.Hour, faultsOf(t, name)...)
			w.timeout = 2 * time.Second
			w.keepState()
			w.front.repeating(name == "repeat")
			a := w.run()
			w.await("every token has an outcome", func() bool { return allOf(a.hasOutcome) })
			shown := a.shows()
			a.Stop()
			shown["the log"] = a.Log.String()
			w.mustNotShow(shown)
		})
	}
}

func faultsOf(t *testing.T, name string) []devserver.Fault {
	t.Helper()
	if name == "repeat" {
		return nil
	}
	fault, err := devserver.ParseFault(name)
	if err != nil {
		t.Fatal(err)
	}
	return []devserver.Fault{fault}
}

// hasOutcome reports whether the log says what became of a token's first request.
func (a *agent) hasOutcome(token string) bool {
	for line := range strings.Lines(a.Log.String()) {
		if strings.Contains(line, " token="+token+" ") && (strings.Contains(line, "token acquired") || strings.Contains(line, "token request failed")) {
			return true
		}
	}
	return false
}

// mustNotShow checks that nothing secret is in what is shown, by where it is.
func (w *world) mustNotShow(shown map[string]string) {
	w.t.Helper()
	forbidden := slices.Concat(w.all(), w.front.secrets("token"), w.stateKey)
	for where, text := range shown {
		if found := Find([]byte(text), forbidden...); len(found) != 0 {
			w.t.Errorf("%s: %q", where, found)
		}
	}
}

// shows is all that an agent shows while it runs, by where it is. Its sinks are for their owner alone.
func (a *agent) shows() map[string]string {
	a.w.t.Helper()
	shown := map[string]string{}
	for _, path := range []string{"/", "/livez", "/readyz", "/metrics", "/v1/status"} {
		shown[path] = a.get(path)
	}
	for _, pid := range append(a.children(), a.PID()) {
		for _, name := range []string{"cmdline", "environ", "comm", "status"} {
			path := fmt.Sprintf("/proc/%d/%s", pid, name)
			content, err := os.ReadFile(path) // of a provider, only root may read it
			if err != nil && os.Geteuid() == 0 {
				a.w.t.Error(err)
			}
			shown[path] = string(content)
		}
	}
	for _, dir := range []string{a.w.sinks, a.w.scratch} {
		maps.Copy(shown, a.w.filesOf(dir, 0o077))
	}
	maps.Copy(shown, a.w.filesOf(a.w.state, 0o777))
	return shown
}

func (a *agent) get(path string) string {
	a.w.t.Helper()
	response, err := http.Get("http://" + a.w.listen + path)
	if err != nil {
		a.w.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		a.w.t.Fatal(err)
	}
	return string(body) + fmt.Sprint(response.Header)
}

// children are the agent's providers.
func (a *agent) children() []int {
	a.w.t.Helper()
	var pids []int
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		data, _ := os.ReadFile(path)
		_, after, _ := strings.Cut(string(data), ") ")
		if fields := strings.Fields(after); len(fields) > 1 && fields[1] == strconv.Itoa(a.PID()) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		a.w.t.Error("the agent has no providers")
	}
	return pids
}

// filesOf are the names of all files below a directory, and what is in those whose mode has one of
// the bits.
func (w *world) filesOf(dir string, bits fs.FileMode) map[string]string {
	w.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files["the name of "+path] = path
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&bits == 0 {
			return nil //nolint:nilerr // it is gone meanwhile
		}
		content, err := os.ReadFile(path)
		files[path] = string(content)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return files
}

// keepState has the agent keep its tokens over a restart, encrypted.
func (w *world) keepState() {
	w.t.Helper()
	key, err := w.command("keygen").Output()
	if err != nil {
		w.t.Fatal(err)
	}
	w.state = filepath.Join(w.t.TempDir(), "state")
	w.write(w.state+".key", key)
	_, text, _ := strings.Cut(string(key), "AGE-SECRET-KEY-")
	w.stateKey = []Secret{Text("the state's key", strings.TrimSpace(text))}
}

// mistake is something that a person has done to a configuration or a credential.
type mistake struct {
	credential string // of the one client; DIR is where credentials are
	spoil      func(w *world)
	env        []string
	status     int // of `credagent once`
	says       string
}

// TestLeaksOfMistakes has people mix up secrets, files and keys. What they are told shows none of it.
func TestLeaksOfMistakes(t *testing.T) {
	t.Parallel()
	for name, m := range mistakes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, time.Hour)
			if m.spoil != nil {
				m.spoil(w)
			}
			credential := strings.NewReplacer("DIR", w.dir, "SECRET", w.text(byPost)).Replace(m.credential)
			w.write(w.config, fmt.Appendf(nil, "log: { level: debug }\nlisten: \"\"\nclients: { post: { token_url: %q, client_id: post, credential: { %s } } }\n"+
				"tokens: { post: { client: post, scopes: [read] } }\nsinks: [{ type: file, token: post, path: %s/post.token }]\n", w.front.URL+"/token", credential, w.sinks))
			for _, args := range [][]string{
				{"validate", "-c", w.config}, {"validate", "--probe", "-c", w.config}, {"doctor", "-c", w.config}, {"once", "--timeout", "3s", "-c", w.config},
			} {
				cmd := w.command(args...)
				cmd.Env = append(cmd.Env, m.env...)
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				_ = cmd.Run() // its status is looked at below
				if args[0] == "once" && (cmd.ProcessState.ExitCode() != m.status || !strings.Contains(out.String(), m.says)) {
					t.Errorf("%v ends with %d: %s", args, cmd.ProcessState.ExitCode(), &out)
				}
				w.mustNotShow(map[string]string{strings.Join(args, " "): out.String()})
			}
		})
	}
}

func mistakes() map[string]mistake {
	const secretcred, certcred, jwtcred = "provider: secretcred, config: ", "provider: certcred, config: ", "provider: jwtcred, config: "
	const pair = "{ certificate_file: DIR/ec.pem, private_key_file: DIR/"
	return map[string]mistake{
		"the secret for its path":      {credential: secretcred + `{ secret_file: "SECRET" }`, status: 78, says: "secret_file: is not an absolute path"},
		"the secret for its variable":  {credential: secretcred + `{ secret_env: "SECRET" }`, status: 78, says: "secret_env"},
		"the secret beside its path":   {credential: secretcred + `{ secret_file: DIR/post.secret, secret: "SECRET" }`, status: 78, says: "secret"},
		"the secret for the method":    {credential: secretcred + `{ secret_file: DIR/post.secret, auth_method: "SECRET" }`, status: 78, says: "auth_method"},
		"the secret for the provider":  {credential: `provider: "SECRET", config: {}`, status: 78, says: "provider"},
		"another secret":               {credential: secretcred + "{ secret_file: DIR/basic.secret }", status: 77, says: "invalid_client"},
		"a key for the secret":         {credential: secretcred + "{ secret_file: DIR/rsa.key }", status: 78, says: "it holds PEM, a certificate or a key, and no secret"},
		"no file":                      {credential: secretcred + "{ secret_file: DIR/none }", status: 78, says: "no such file"},
		"a directory":                  {credential: secretcred + "{ secret_file: DIR }", status: 78, says: "is a directory"},
		"the secret for the assertion": {credential: jwtcred + "{ assertion_file: DIR/post.secret }", status: 78, says: "it is not a signed JWT"},
		"a key for the assertion":      {credential: jwtcred + "{ assertion_file: DIR/ec.key }", status: 78, says: "it is not a signed JWT"},
		"half an assertion":            {credential: jwtcred + "{ assertion_file: DIR/assertion }", spoil: halve("assertion"), status: 78, says: "it is not a signed JWT"},
		"another's assertion":          {credential: jwtcred + "{ assertion_file: DIR/assertion }", status: 77, says: "invalid_client"},
		"the secret for the key":       {credential: certcred + pair + "post.secret }", status: 78, says: "it holds no PEM private key"},
		"the key for the certificate":  {credential: certcred + "{ certificate_file: DIR/ec.key, private_key_file: DIR/ec.key }", status: 78, says: "it holds no PEM certificate"},
		"another key":                  {credential: certcred + pair + "rsa.key }", status: 78, says: "no certificate in it matches the private key"},
		"half a key":                   {credential: certcred + pair + "ec.key }", spoil: halve("ec.key"), status: 78, says: "private key"},
		"a key that nobody knows":      {credential: certcred + pair + "ec.key }", status: 77, says: "invalid_client"},
		"a wrong password":             {credential: certcred + "{ certificate_file: DIR/ec.pem, private_key_file: DIR/locked.key, password_file: DIR/post.secret }", spoil: locked("key-aes256-sha256.pem"), status: 78, says: "the password in password_file does not open"},
		"a wrong password of PKCS#12":  {credential: certcred + "{ certificate_file: DIR/locked.key, password_file: DIR/post.secret }", spoil: locked("bundle.p12"), status: 78, says: "the password in password_file does not open"},
	}
}

// text is the client secret that a person would have in a clipboard, without what YAML would read.
func (w *world) text(client string) string {
	content, err := os.ReadFile(filepath.Join(w.dir, client+".secret"))
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

// halve leaves half of a credential's file.
func halve(name string) func(*world) {
	return func(w *world) {
		content, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil {
			w.t.Fatal(err)
		}
		w.replace(name, content[:len(content)/2])
	}
}

// locked copies an encrypted file whose password is another.
func locked(name string) func(*world) {
	return func(w *world) {
		content, err := os.ReadFile(filepath.Join("../../plugins/certcred/testdata", name))
		if err != nil {
			w.t.Fatal(err)
		}
		w.replace("locked.key", content)
	}
}

// TestLeaksOfVariables does the same to the environment that is a configuration by itself.
func TestLeaksOfVariables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	secret := w.text(byPost)
	sound := []string{
		"CREDAGENT_TOKEN_URL=" + w.front.URL + "/token", "CREDAGENT_CLIENT_ID=post", "CREDAGENT_SCOPES=read",
		"CREDAGENT_FILE=" + w.sinks + "/token", "CREDAGENT_LISTEN=", "CREDAGENT_LOG_LEVEL=debug",
	}
	for name, env := range map[string][]string{
		"the secret for its path":  {"CREDAGENT_CLIENT_SECRET_FILE=" + secret},
		"the secret for a scope":   {"CREDAGENT_CLIENT_SECRET_FILE=" + w.dir + "/post.secret", "CREDAGENT_SCOPES=" + secret},
		"the secret for the mode":  {"CREDAGENT_CLIENT_SECRET_FILE=" + w.dir + "/post.secret", "CREDAGENT_FILE_MODE=" + secret},
		"the secret for the level": {"CREDAGENT_CLIENT_SECRET_FILE=" + w.dir + "/post.secret", "CREDAGENT_LOG_LEVEL=" + secret},
		"the secret by itself":     {"AZURE_CLIENT_SECRET=" + secret},
		"another client's secret":  {"AZURE_CLIENT_SECRET=" + secret, "CREDAGENT_CLIENT_ID=basic"},
		"an unknown variable":      {"CREDAGENT_CLIENT_SECRET=" + secret},
	} {
		cmd := w.command("once", "--timeout", "3s")
		cmd.Env = slices.Concat(cmd.Env, sound, env)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); (err == nil) != (name == "the secret by itself") {
			t.Errorf("%s: %v: %s", name, err, &out)
		}
		w.mustNotShow(map[string]string{name: out.String()})
	}
}
